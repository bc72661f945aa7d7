//! The string forms of the two Hessian grammars, as far as ASCII bench traffic needs them.
//!
//! Hessian 2.0 (Dubbo): `00..1f` one length byte, `30..33` ten bits, `53` sixteen bits.
//! The older draft (SOFARPC): `00..1f` and `53` only. The grammars are told apart by [`Grammar`]; everything that is
//! not one unchunked ASCII string is `None`: the bench never sends such a thing, so meeting one is a fault to report.

/// Which of the two Hessian grammars.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// Hessian 2.0, as Dubbo writes it.
    Final,
    /// The draft before it, as SOFARPC writes it.
    Draft,
}

/// The string as it stands on the wire: length marker and text.
pub fn encode(grammar: Grammar, text: &[u8]) -> Vec<u8> {
    let [.., high, low] = text.len().to_be_bytes();
    let mut out = match text.len() {
        0..32 => vec![low],
        32..1024 if grammar == Grammar::Final => vec![0x30 + high, low],
        _ => vec![0x53, high, low],
    };
    out.extend_from_slice(text);
    out
}

/// Splits one string off `bytes`: its text, its whole encoding, and what follows.
pub fn split(grammar: Grammar, bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (start, len) = match *bytes.first()? {
        n @ 0..0x20 => (1, usize::from(n)),
        n @ 0x30..0x34 if grammar == Grammar::Final => {
            (2, usize::from(n - 0x30) << 8 | usize::from(*bytes.get(1)?))
        }
        0x53 => (3, usize::from(*bytes.get(1)?) << 8 | usize::from(*bytes.get(2)?)),
        _ => return None,
    };
    let text = bytes.get(start..start + len)?;
    text.is_ascii().then(|| (text, &bytes[..start + len], &bytes[start + len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_back_whole() {
        for grammar in [Grammar::Final, Grammar::Draft] {
            for len in [0, 1, 31, 32, 256, 1023, 1024, 40_000] {
                let text = vec![b'x'; len];
                let mut bytes = encode(grammar, &text);
                let whole = bytes.clone();
                bytes.push(b'!');
                assert_eq!(split(grammar, &bytes), Some((&text[..], &whole[..], &b"!"[..])));
                assert_eq!(split(grammar, &whole[..whole.len() - 1]), None);
            }
        }
        assert_eq!(encode(Grammar::Final, &[b'x'; 256])[..2], [0x31, 0]);
        assert_eq!(encode(Grammar::Draft, &[b'x'; 256])[..3], [0x53, 1, 0]);
    }
}
