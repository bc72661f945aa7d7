//! The escapes of `java.net.URLEncoder`, which Dubbo and SOFARPC write whole URLs with into the names of nodes.
//!
//! Not those of RFC 3986: a space is `+`, and `~` is escaped. Must never read bytes that are no UTF-8 as text.

use std::fmt::Write as _;

/// The text as a single name: everything is escaped but letters and digits of ASCII and `.-*_`; a space is `+`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            // Writing to a string cannot fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// The text that was escaped; `None`: an escape is cut off or is not two hex digits, or the bytes are no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_java() {
        for (plain, escaped) in [
            (
                "dubbo://10.0.0.1:20880/a.B$C?x=1&y=a b",
                "dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%24C%3Fx%3D1%26y%3Da+b",
            ),
            ("-_.*~+%", "-_.*%7E%2B%25"),
            ("\u{e9}\u{4f60}", "%C3%A9%E4%BD%A0"),
            ("", ""),
        ] {
            assert_eq!(encode(plain), escaped);
            assert_eq!(decode(escaped).as_deref(), Some(plain));
        }
    }

    #[test]
    fn a_broken_escape_is_no_text() {
        for bad in ["%", "%4", "%zz", "%+1", "a%2", "%C3", "%FF%FE"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("%c3%a9").as_deref(), Some("\u{e9}"), "small digits are digits too");
    }
}
