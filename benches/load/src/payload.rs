//! Payload text that is different for every call and cheap to verify.
//!
//! A call's payload is its sequence number in 16 hex digits followed by filler that starts at a place depending on
//! that number. An answer that belongs to another call, or lost or gained a byte, does not compare equal.
//! ASCII only: the strings of both Hessian grammars count characters, and so bytes and characters agree.

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const TURN: usize = 61;
/// Digits of the call's number, with which its payload begins.
pub const NUMBER: usize = 16;

/// Filler long enough for any payload length it was made for.
pub struct Payload {
    filler: Vec<u8>,
    len: usize,
}

impl Payload {
    /// Payloads of `len` bytes; at least 16, because the number must fit.
    pub fn new(len: usize) -> Self {
        let len = len.max(NUMBER);
        let filler = (0..len + TURN).map(|i| b' ' + (i * 7 % 94) as u8).collect();
        Self { filler, len }
    }

    /// Bytes in each payload.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true; here because `len` is.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What every payload of call `seq` begins with.
    pub fn number(seq: u64) -> [u8; NUMBER] {
        let mut head = [0; NUMBER];
        for (i, digit) in head.iter_mut().enumerate() {
            *digit = DIGITS[(seq >> (60 - 4 * i)) as usize & 15];
        }
        head
    }

    /// The number that these bytes begin with.
    pub fn number_of(bytes: &[u8]) -> Option<u64> {
        let digits = bytes.get(..NUMBER)?;
        let value = |digit: &u8| DIGITS.iter().position(|known| known == digit);
        digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | value(digit)? as u64))
    }

    fn parts(&self, seq: u64) -> ([u8; NUMBER], &[u8]) {
        let head = Self::number(seq);
        let from = (seq % TURN as u64) as usize;
        (head, &self.filler[from..from + self.len - NUMBER])
    }

    /// Writes the payload of call `seq` over `place`, which is `len` bytes.
    pub fn write(&self, seq: u64, place: &mut [u8]) {
        let (head, rest) = self.parts(seq);
        place[..NUMBER].copy_from_slice(&head);
        place[NUMBER..].copy_from_slice(rest);
    }

    /// Whether `bytes` are exactly the payload of call `seq`.
    pub fn matches(&self, seq: u64, bytes: &[u8]) -> bool {
        let (head, rest) = self.parts(seq);
        bytes.len() == self.len && bytes[..NUMBER] == head && &bytes[NUMBER..] == rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_own_payload_and_a_changed_byte_is_seen() {
        let payload = Payload::new(256);
        let mut bytes = vec![0; 256];
        payload.write(77, &mut bytes);
        assert!(bytes.is_ascii() && payload.matches(77, &bytes));
        assert!(!payload.matches(78, &bytes) && !payload.matches(77 + TURN as u64, &bytes));
        assert!(!payload.matches(77, &bytes[..255]));
        for at in [0, 15, 16, 255] {
            bytes[at] ^= 1;
            assert!(!payload.matches(77, &bytes));
            bytes[at] ^= 1;
        }
    }
}
