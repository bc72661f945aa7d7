//! Integers that begin inside a byte. They must never be read beyond 31 bits, nor from more than six bytes.
//!
//! Source: RFC 7541 §5.1, which leaves the limit to the implementation.

use super::Broken;

/// Bytes that may follow the first.
const MORE_MAX: u32 = 5;

/// The integer in the bits `mask` of `first`, and in as many bytes of `rest` as it needs.
#[inline]
pub(super) fn read(first: u8, mask: u8, rest: &mut &[u8]) -> Result<usize, Broken> {
    let low = first & mask;
    if low < mask { Ok(usize::from(low)) } else { read_on(mask, rest) }
}

fn read_on(mask: u8, rest: &mut &[u8]) -> Result<usize, Broken> {
    let mut value = u64::from(mask);
    for at in 0..MORE_MAX {
        let Some((byte, later)) = rest.split_first() else {
            return Err(Broken("a block ends inside an integer"));
        };
        *rest = later;
        // Five times seven bits: nothing is lost in 64.
        value = value.saturating_add(u64::from(byte & 0x7f) << at.saturating_mul(7));
        if byte & 0x80 == 0 {
            if value > i32::MAX as u64 {
                break;
            }
            return Ok(value as usize);
        }
    }
    Err(Broken("an integer beyond 31 bits"))
}

/// Appends `value` in the bits `mask` of a first byte, whose other bits are `first`, and in further bytes as needed.
#[inline]
pub(super) fn write(value: usize, first: u8, mask: u8, out: &mut Vec<u8>) {
    if value < usize::from(mask) {
        out.push(first | value as u8);
    } else {
        write_on(value.saturating_sub(usize::from(mask)), first | mask, out);
    }
}

fn write_on(mut value: usize, first: u8, out: &mut Vec<u8>) {
    out.push(first);
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn written(value: usize, first: u8, mask: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write(value, first, mask, &mut out);
        out
    }

    fn back(bytes: &[u8], mask: u8) -> Result<(usize, usize), Broken> {
        let (first, mut rest) = bytes.split_first().unwrap();
        let value = read(*first, mask, &mut rest)?;
        Ok((value, rest.len()))
    }

    /// RFC 7541 C.1.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(written(10, 0, 0x1f), [0x0a]);
        assert_eq!(written(1337, 0xe0, 0x1f), [0xff, 0x9a, 0x0a]);
        assert_eq!(written(42, 0, 0xff), [0x2a]);
        assert_eq!(back(&[0xea], 0x1f), Ok((10, 0)));
        assert_eq!(back(&[0xff, 0x9a, 0x0a], 0x1f), Ok((1337, 0)));
        assert_eq!(back(&[0x2a, 7], 0xff), Ok((42, 1)));
    }

    #[test]
    fn any_integer_comes_back_from_any_prefix() {
        let edges = [0, 1, 14, 15, 16, 62, 63, 64, 126, 127, 128, 254, 255, 256, 16_383, 16_384, 1 << 20];
        for mask in [0x0f, 0x1f, 0x3f, 0x7f] {
            for value in edges.into_iter().chain([i32::MAX as usize]) {
                assert_eq!(back(&written(value, 0x80 & !mask, mask), mask), Ok((value, 0)));
            }
        }
    }

    #[test]
    fn no_integer_is_read_beyond_its_bound() {
        // Zeros at the end are waste, not an error, up to the bound.
        assert_eq!(back(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 0x7f), Ok((127, 0)));
        assert!(back(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 0x7f).is_err());
        assert!(back(&[0x7f, 0x81, 0xff, 0xff, 0xff, 0x07], 0x7f).is_err());
        assert!(back(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 0x7f).is_err());
        assert!(back(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0x7f).is_err());
        assert!(back(&[0x7f], 0x7f).is_err());
        assert!(back(&[0x7f, 0x80], 0x7f).is_err());
    }
}
