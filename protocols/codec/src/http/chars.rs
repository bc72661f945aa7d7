//! Classes of bytes, as one table: which byte may stand where. Source: RFC 9110 §5.6, RFC 3986 §2.

/// A token: names of methods and headers.
pub const TOKEN: u8 = 1;
/// A header's value: visible, space, tab, and bytes above ASCII.
pub const VALUE: u8 = 2;
/// A request's target.
pub const TARGET: u8 = 4;
/// A host's name.
pub const HOST: u8 = 8;
/// Never needs an escape in a path.
pub const UNRESERVED: u8 = 16;

/// Bytes of the longest method: as many in every version, so that each can be said in the others.
pub const METHOD_MAX: usize = 32;

const CLASSES: [u8; 256] = classes();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // evaluated by the compiler, which would refuse to go outside
const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut at = 0usize;
    while at < 256 {
        let byte = at as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        let mut class = 0;
        if alphanumeric
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
            class |= VALUE;
        }
        // Letters beyond what RFC 3986 names are what browsers send in queries; those below end or escape something.
        if byte > 0x20 && byte < 0x7f && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'#') {
            class |= TARGET;
        }
        if alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= HOST | UNRESERVED;
        }
        table[at] = class;
        at += 1;
    }
    table
}

/// Whether a byte is of a class.
#[inline]
pub fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|classes| classes & class != 0)
}

/// How many bytes at the start are of a class.
#[inline]
pub fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|byte| !is(*byte, class)).unwrap_or(bytes.len())
}

/// Whether all bytes are of a class.
#[inline]
pub fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| is(*byte, class))
}

/// The value of a hexadecimal digit.
pub fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Without the spaces and tabs around it.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A number of at most 19 digits, and nothing else.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 {
        return None;
    }
    let number = bytes.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    i64::try_from(number).is_ok().then_some(number)
}
