//! Texts as registries hold them, read without the product's own help.
//!
//! Must never be lenient: what a test cannot read is a failure of it. Source: RFC 3986 §2.1.

/// A name whose bytes are percent-encoded where need be.
pub(crate) fn decoded(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        match byte {
            b'%' => bytes.push((digit().expect("a digit") * 16 + digit().expect("a digit")) as u8),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("names are UTF-8")
}
