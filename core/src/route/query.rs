//! One parameter of a query: `a=1&b=two+words`, compared as it was meant, not as it was spelled.
//!
//! Names and values are compared with `%41` as `A` and `+` as a blank, as the forms of browsers write them. Copied is only
//! a value that is spelled so. An escape that is none stands for itself: a query is not refused for it, and what a
//! server makes of it is its own matter.

use std::{borrow::Cow, slice};

/// The value of the first parameter called `name`, or `None`. A parameter without `=` has an empty value.
pub(super) fn value<'a>(query: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let (theirs, value) = (halves.next()?, halves.next().unwrap_or_default());
        if !Meant(theirs.iter()).eq(name.iter().copied()) {
            return None;
        }
        let spelled = value.iter().any(|byte| matches!(byte, b'%' | b'+'));
        Some(if spelled { Cow::Owned(Meant(value.iter()).collect()) } else { Cow::Borrowed(value) })
    })
}

/// The bytes that are meant by the bytes of a query.
struct Meant<'a>(slice::Iter<'a, u8>);

impl Iterator for Meant<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match *self.0.next()? {
            b'+' => Some(b' '),
            b'%' => {
                let &[high, low, ..] = self.0.as_slice() else { return Some(b'%') };
                let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Some(b'%') };
                self.0.nth(1);
                Some(high << 4 | low)
            }
            byte => Some(byte),
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str, name: &str) -> Option<String> {
        value(query.as_bytes(), name.as_bytes()).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn the_first_of_a_name_counts() {
        assert_eq!(found("a=1&b=2&a=3", "a").as_deref(), Some("1"));
        assert_eq!(found("a=1&b=2&a=3", "b").as_deref(), Some("2"));
        assert_eq!(found("a=1&b=2", "c"), None);
        assert_eq!(found("aa=1&xa=2", "a"), None);
        assert_eq!(found("", "a"), None);
    }

    #[test]
    fn a_value_ends_at_the_ampersand_and_may_hold_equals_signs() {
        assert_eq!(found("a=b=c&d", "a").as_deref(), Some("b=c"));
        assert_eq!(found("a=b=c&d", "d").as_deref(), Some(""));
        assert_eq!(found("&&d=&", "d").as_deref(), Some(""));
        assert_eq!(found("a=1;b=2", "a").as_deref(), Some("1;b=2"));
    }

    #[test]
    fn names_and_values_are_compared_as_they_are_meant() {
        assert_eq!(found("%61b=x%26y%3D", "ab").as_deref(), Some("x&y="));
        assert_eq!(found("two+words=a+b%2Bc", "two words").as_deref(), Some("a b+c"));
        assert_eq!(found("z=%C3%a9", "z").as_deref(), Some("é"));
        assert_eq!(found("a=%&b=%4&c=%4g&d=%%41", "a").as_deref(), Some("%"));
        assert_eq!(found("a=%&b=%4&c=%4g&d=%%41", "b").as_deref(), Some("%4"));
        assert_eq!(found("a=%&b=%4&c=%4g&d=%%41", "c").as_deref(), Some("%4g"));
        assert_eq!(found("a=%&b=%4&c=%4g&d=%%41", "d").as_deref(), Some("%A"));
        assert_eq!(found("%zz=1", "%zz").as_deref(), Some("1"));
    }

    #[test]
    fn only_what_is_spelled_otherwise_is_copied() {
        assert!(matches!(value(b"%61=plain", b"a"), Some(Cow::Borrowed(b"plain"))));
        assert!(matches!(value(b"a=x+y", b"a"), Some(Cow::Owned(_))));
    }
}
