//! Strings of the two Hessian grammars, as far as the demo's echo call needs them.
//!
//! Bolt carries the draft grammar, Dubbo the final one; a string of 32 units and more is written differently in each.
//! Whatever is not one unchunked string is `None`: never a panic, never a guess.

/// Which of the two grammars.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Hessian 2.0 as Dubbo writes it.
    Final,
    /// The draft before it, as SOFARPC writes it.
    Draft,
}

/// The string as it stands on the wire. Lengths count UTF-16 units, and a sixteen-bit count is the longest there is.
pub(super) fn string(grammar: Grammar, text: &str) -> Vec<u8> {
    let [high, low] = (text.encode_utf16().count() as u16).to_be_bytes();
    let mut out = match high {
        0 if low < 32 => vec![low],
        0..4 if grammar == Grammar::Final => vec![0x30 + high, low],
        _ => vec![b'S', high, low],
    };
    out.extend_from_slice(text.as_bytes());
    out
}

/// Splits one string off: its text, its whole encoding, and what follows.
pub(super) fn split(grammar: Grammar, bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (start, units) = match *bytes.first()? {
        n @ 0..0x20 => (1, usize::from(n)),
        n @ 0x30..0x34 if grammar == Grammar::Final => {
            (2, usize::from(u16::from_be_bytes([n - 0x30, *bytes.get(1)?])))
        }
        b'S' => (3, usize::from(u16::from_be_bytes([*bytes.get(1)?, *bytes.get(2)?]))),
        _ => return None,
    };
    let mut end = start;
    for _ in 0..units {
        end += match *bytes.get(end)? {
            0..0x80 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => return None,
        };
    }
    Some((bytes.get(start..end)?, bytes.get(..end)?, bytes.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_back_whole_and_never_short() {
        for grammar in [Grammar::Final, Grammar::Draft] {
            for text in
                ["", "hello", "é你好", &"x".repeat(31), &"x".repeat(32), &"é".repeat(300), &"x".repeat(2000)]
            {
                let whole = string(grammar, text);
                let bytes = [&whole[..], b"!"].concat();
                assert_eq!(split(grammar, &bytes), Some((text.as_bytes(), &whole[..], &b"!"[..])));
                assert_eq!(split(grammar, &whole[..whole.len() - 1]), None);
            }
        }
        assert_eq!(string(Grammar::Final, &"x".repeat(256))[..2], [0x31, 0]);
        assert_eq!(string(Grammar::Draft, &"x".repeat(256))[..3], [b'S', 1, 0]);
    }
}
