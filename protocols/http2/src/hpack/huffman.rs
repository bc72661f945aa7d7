//! Strings in the Huffman code. It must never take a padding that the RFC forbids, and never write more than the code
//! can stand for: eight bytes for five.
//!
//! Source: RFC 7541 §5.2 and Appendix B. That code is canonical (shorter codes first, then smaller symbols), so that the
//! lengths alone say all of it, and the tables below are made from them by the compiler.

use super::Broken;

/// How many bits each byte takes, and at last the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The symbol that never stands in a string.
const END: u16 = 256;

/// The longest code.
const LONGEST: usize = 30;

/// Bits that one look at [`FAST`] decides.
const LOOK: u32 = 12;

/// By the next [`LOOK`] bits: one symbol or two, and what they take. 0 where the code is longer.
static FAST: [u32; 1 << LOOK] = fast();

/// By symbol: the code in the upper bits, its length in the lowest byte.
static CODES: [u64; 256] = codes();

/// Symbols in the order of their codes.
static SORTED: [u16; 257] = sorted();

/// By length: the first code of the next length, from the top of 32 bits, and where in [`SORTED`] those codes end.
static ENDS: [(u32, u16); LONGEST + 1] = ends();

/// The most bytes that `len` bytes of code stand for.
#[inline]
pub(super) const fn most(len: usize) -> usize {
    len.saturating_mul(8) / 5
}

/// Appends what `code` stands for.
#[inline]
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let from = out.len();
    // Two bytes are written even where one counts.
    out.resize(from.saturating_add(most(code.len())).saturating_add(2), 0);
    let into = out.get_mut(from..).unwrap_or_default();
    let mut len = 0_usize;
    let read = walk(code, |two, count| {
        if let Some(place) = into.get_mut(len..len.saturating_add(2)) {
            place.copy_from_slice(&two);
        }
        len = len.saturating_add(count);
    });
    out.truncate(from.saturating_add(len));
    read
}

/// How many bytes `code` stands for.
pub(super) fn measure(code: &[u8]) -> Result<usize, Broken> {
    let mut len = 0_usize;
    walk(code, |_, count| len = len.saturating_add(count)).map(|()| len)
}

/// Gives what `code` stands for to `take`, one or two bytes at a time.
#[inline]
fn walk(mut code: &[u8], mut take: impl FnMut([u8; 2], usize)) -> Result<(), Broken> {
    // The next bits from the top, and how many of them there are.
    let (mut bits, mut have) = (0_u64, 0_u32);
    while let Some(eight) = code.first_chunk::<8>() {
        bits |= u64::from_be_bytes(*eight) >> have;
        let whole = 63_u32.saturating_sub(have) >> 3;
        code = code.get(whole as usize..).unwrap_or_default();
        have = have.saturating_add(whole << 3);
        // 56 bits at least.
        while have >= LOOK {
            let found = look(bits);
            if found == 0 {
                break;
            }
            take([found as u8, (found >> 8) as u8], (found >> 24) as usize);
            let used = found >> 16 & 0xf;
            bits <<= used;
            have = have.saturating_sub(used);
        }
        // A long code, of which the end may not be here yet.
        if have >= LONGEST as u32 {
            let (symbol, used) = long(bits);
            if symbol == END {
                return Err(Broken("the end of a string inside it"));
            }
            take([symbol as u8, 0], 1);
            bits <<= used;
            have = have.saturating_sub(used);
        }
    }
    walk_end(code, bits, have, take)
}

/// [`walk`] where fewer than eight bytes follow.
fn walk_end(
    code: &[u8],
    mut bits: u64,
    mut have: u32,
    mut take: impl FnMut([u8; 2], usize),
) -> Result<(), Broken> {
    let mut rest = code.iter();
    loop {
        while have <= 56
            && let Some(byte) = rest.next()
        {
            have = have.saturating_add(8);
            bits |= u64::from(*byte) << 64_u32.saturating_sub(have);
        }
        if have == 0 {
            return Ok(());
        }
        // What is not there reads as ones, as the padding does; no symbol can be made of that alone.
        let padded = bits | u64::MAX.checked_shr(have).unwrap_or(0);
        let found = look(padded);
        let (two, count, used) = if found == 0 {
            let (symbol, used) = long(padded);
            if symbol == END && used <= have {
                return Err(Broken("the end of a string inside it"));
            }
            ([symbol as u8, 0], 1, used)
        } else {
            ([found as u8, (found >> 8) as u8], (found >> 24) as usize, found >> 16 & 0xf)
        };
        // Where only the second of two is made of what is not there, what is there of it is no padding either.
        if used > have {
            return padding(padded, have);
        }
        take(two, count);
        bits <<= used;
        have = have.saturating_sub(used);
    }
}

/// The judgement on the last bits, which are no symbol.
fn padding(padded: u64, have: u32) -> Result<(), Broken> {
    if have > 7 {
        return Err(Broken("a padding of more than seven bits"));
    }
    if padded != u64::MAX {
        return Err(Broken("a padding that is not the end of a string"));
    }
    Ok(())
}

#[inline]
fn look(bits: u64) -> u32 {
    FAST.get((bits >> (64 - LOOK)) as usize).copied().unwrap_or(0)
}

/// The symbol whose code is longer than [`LOOK`], and its length.
#[inline(never)]
fn long(bits: u64) -> (u16, u32) {
    let top = (bits >> 32) as u32;
    let mut len = LOOK.saturating_add(1);
    for (end, sorted) in ENDS.iter().skip(len as usize) {
        // The last length ends where 32 bits do.
        if top < *end || len == LONGEST as u32 {
            let behind = (end.wrapping_sub(top).wrapping_sub(1)) >> 32_u32.saturating_sub(len);
            let place = usize::from(*sorted).saturating_sub(1).saturating_sub(behind as usize);
            return (SORTED.get(place).copied().unwrap_or(END), len);
        }
        len = len.saturating_add(1);
    }
    (END, LONGEST as u32)
}

/// How many bytes `text` takes in the code.
#[inline]
pub(super) fn coded_len(text: &[u8]) -> usize {
    let bits = text.iter().fold(0_usize, |bits, byte| {
        bits.saturating_add(usize::from(LENGTHS_OF_BYTES.get(usize::from(*byte)).copied().unwrap_or(0)))
    });
    bits.div_ceil(8)
}

static LENGTHS_OF_BYTES: [u8; 256] = lengths_of_bytes();

/// Appends `text` in the code.
#[inline]
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0_u64, 0_u32);
    for byte in text {
        let code = CODES.get(usize::from(*byte)).copied().unwrap_or(0);
        let len = code as u32 & 0xff;
        bits = bits << len | code >> 8;
        have = have.saturating_add(len);
        if have >= 32 {
            have = have.saturating_sub(32);
            out.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    if have > 0 {
        let fill = 32_u32.saturating_sub(have);
        let last = ((bits << fill) as u32 | u32::MAX.checked_shr(have).unwrap_or(0)).to_be_bytes();
        out.extend_from_slice(last.get(..have.div_ceil(8) as usize).unwrap_or_default());
    }
}

// === the tables, made by the compiler, which would refuse to go outside =============================================

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn sorted() -> [u16; 257] {
    let mut sorted = [0; 257];
    let (mut len, mut at) = (1, 0);
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    assert!(at == 257);
    sorted
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn codes() -> [u64; 256] {
    let (sorted, mut codes) = (sorted(), [0; 256]);
    let (mut code, mut len, mut at) = (0_u64, 0, 0);
    while at < sorted.len() {
        let symbol = sorted[at] as usize;
        code <<= LENGTHS[symbol] - len;
        len = LENGTHS[symbol];
        if symbol < 256 {
            codes[symbol] = code << 8 | len as u64;
        }
        code += 1;
        at += 1;
    }
    // The code is complete: the last one is all ones.
    assert!(code == 1 << LONGEST);
    codes
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn ends() -> [(u32, u16); LONGEST + 1] {
    let mut ends = [(0, 0); LONGEST + 1];
    let (mut end, mut at, mut len) = (0_u64, 0_u16, 1);
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                end += 1 << (32 - len);
                at += 1;
            }
            symbol += 1;
        }
        // Only the last end does not fit, and wraps to 0.
        ends[len] = (end as u32, at);
        len += 1;
    }
    assert!(end == 1 << 32);
    ends
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn fast() -> [u32; 1 << LOOK] {
    // First the single symbols, then the pairs that fit.
    let (codes, mut single) = (codes(), [0_u32; 1 << LOOK]);
    let mut symbol = 0;
    while symbol < 256 {
        let (code, len) = ((codes[symbol] >> 8) as usize, codes[symbol] as u32 & 0xff);
        if len <= LOOK {
            let mut at = code << (LOOK - len);
            while at < (code + 1) << (LOOK - len) {
                single[at] = symbol as u32 | len << 8;
                at += 1;
            }
        }
        symbol += 1;
    }
    let (mut fast, mut at) = ([0; 1 << LOOK], 0);
    while at < fast.len() {
        let (first, len) = (single[at] & 0xff, single[at] >> 8);
        if len > 0 {
            let next = single[at << len & ((1 << LOOK) - 1)];
            let (second, both) = (next & 0xff, len + (next >> 8));
            fast[at] = if next != 0 && both <= LOOK {
                first | second << 8 | both << 16 | 2 << 24
            } else {
                first | len << 16 | 1 << 24
            };
        }
        at += 1;
    }
    fast
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn lengths_of_bytes() -> [u8; 256] {
    let (mut lengths, mut at) = ([0; 256], 0);
    while at < lengths.len() {
        lengths[at] = LENGTHS[at];
        at += 1;
    }
    lengths
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn coded(text: &[u8]) -> Vec<u8> {
        let mut out = vec![7];
        encode(text, &mut out);
        assert_eq!(out.remove(0), 7);
        assert_eq!(out.len(), coded_len(text));
        out
    }

    fn decoded(code: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = vec![7];
        let read = decode(code, &mut out);
        assert_eq!(out.remove(0), 7);
        assert_eq!(measure(code), read.map(|()| out.len()));
        read.map(|()| out)
    }

    /// RFC 7541 C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        for (text, code) in [
            (
                "www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
            ("", &[]),
        ] {
            assert_eq!(coded(text.as_bytes()), code);
            assert_eq!(decoded(code).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn every_byte_comes_back_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for (before, behind) in [(0, 0), (0, 1), (1, 0), (3, 2), (7, 7), (8, 9), (30, 31)] {
                for other in [b'0', b'X', 0xff] {
                    let text = [vec![other; before], vec![byte], vec![other; behind]].concat();
                    assert_eq!(decoded(&coded(&text)).unwrap(), text);
                }
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decoded(&coded(&all)).unwrap(), all);
    }

    #[test]
    fn only_the_codes_of_the_appendix_are_made() {
        // The first and the last of their lengths, as Appendix B prints them.
        for (byte, code, len) in [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b':', 0x5c, 7),
            (b'&', 0xf8, 8),
            (b'X', 0xfc, 8),
            (b'?', 0x3fc, 10),
            (b'|', 0x7fc, 11),
            (b'>', 0xffb, 12),
            (b'~', 0x1ffd, 13),
            (b'{', 0x7ffe, 15),
            (b'\\', 0x7fff0, 19),
            (0xff, 0x3ff_ffee, 26),
            (0, 0x1ff8, 13),
            (b'\n', 0x3fff_fffc, 30),
            (22, 0x3fff_fffe, 30),
        ] {
            assert_eq!(CODES.get(usize::from(byte)), Some(&(code << 8 | len)), "{byte}");
        }
    }

    #[test]
    fn what_is_no_padding_is_refused() {
        // "0" is 00000; three ones must follow.
        assert_eq!(decoded(&[0x07]).unwrap(), b"0");
        for code in [
            &[0x06][..],
            &[0x00],
            &[0x03],
            // Eight ones and more.
            &[0xff],
            &[0x07, 0xff],
            &[0xff; 2],
            &[0xff; 3],
            // The end of a string: thirty ones, alone, with a padding, and among others.
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
            &[0x07, 0xff, 0xff, 0xff, 0xff, 0x07],
            &[0xff; 8],
            &[0xff; 40],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // The beginning of a long code.
            &[0xff, 0xfe],
        ] {
            assert!(decoded(code).is_err(), "{code:x?}");
        }
    }

    #[test]
    fn nothing_is_longer_than_the_bound() {
        for len in 0..70 {
            let code = [vec![0; len], vec![0x1f]].concat();
            if let Ok(text) = decoded(&code) {
                assert!(text.len() <= most(code.len()));
            }
        }
        assert_eq!(most(5), 8);
        assert_eq!(decoded(&[0; 5]).unwrap(), b"00000000");
    }
}
