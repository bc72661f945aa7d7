//! One test of one value of a head: exact, prefix, regex, one of several, a path with variables, or merely there.
//!
//! Regular expressions must match the whole value (an unanchored `admin` that lets `not-admin-at-all` through has
//! opened many doors); the `regex` crate runs in time linear in the value, whatever the caller sends.

use regex::bytes::{Regex, RegexBuilder};

mod template;

pub use template::{Template, TemplateError};

/// A test of one value.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Equal, byte for byte.
    Exact(Box<[u8]>),
    /// Begins with.
    Prefix(Box<[u8]>),
    /// The whole value matches.
    Regex(Regex),
    /// Equal to one of these.
    Any(Box<[Box<[u8]>]>),
    /// A path of this form.
    Template(Template),
    /// There (`true`) or not there (`false`), whatever it is.
    Present(bool),
}

impl Pattern {
    /// The pattern for values equal to `value`.
    pub fn exact(value: &str) -> Self {
        Self::Exact(value.as_bytes().into())
    }

    /// Compiles a regular expression over whole values. Fails on a syntax error or when it compiles to more than 1 MiB.
    pub fn regex(source: &str) -> Result<Self, regex::Error> {
        let anchored = format!("^(?:{source})$");
        // The source alone must be valid too: `a)(b` is an error although its anchored form would compile.
        RegexBuilder::new(source).size_limit(1 << 20).build()?;
        RegexBuilder::new(&anchored).size_limit(1 << 20).build().map(Self::Regex)
    }

    /// Compiles a path with variables, as in `/users/{id}/{rest*}`.
    pub fn template(source: &str) -> Result<Self, TemplateError> {
        Template::new(source).map(Self::Template)
    }

    /// Whether `value` (absent: `None`) passes.
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => *wanted == value.is_some(),
            (_, None) => false,
            (Self::Exact(want), Some(value)) => **want == *value,
            (Self::Prefix(want), Some(value)) => value.starts_with(want),
            (Self::Regex(want), Some(value)) => want.is_match(value),
            (Self::Any(wants), Some(value)) => wants.iter().any(|want| **want == *value),
            (Self::Template(want), Some(value)) => want.matches(value),
        }
    }

    /// The values an exact index can be built on, or `None` when only a test can tell.
    pub(crate) fn exact_values(&self) -> Option<&[Box<[u8]>]> {
        match self {
            Self::Exact(value) => Some(std::slice::from_ref(value)),
            Self::Any(values) => Some(values),
            _ => None,
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy;
        match self {
            Self::Exact(value) => write!(f, "{}", text(value)),
            Self::Prefix(value) => write!(f, "{}…", text(value)),
            Self::Regex(regex) => write!(f, "/{regex}/"),
            Self::Any(values) => {
                write!(f, "[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{}", if at > 0 { ", " } else { "" }, text(value))?;
                }
                write!(f, "]")
            }
            Self::Template(template) => write!(f, "{template}"),
            Self::Present(true) => write!(f, "present"),
            Self::Present(false) => write!(f, "absent"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_whole_values_only() {
        let pattern = Pattern::regex("get|list.*").unwrap();
        assert!(pattern.matches(Some(b"get")));
        assert!(pattern.matches(Some(b"listAll")));
        assert!(!pattern.matches(Some(b"forget")));
        assert!(!pattern.matches(Some(b"gets")));
        assert!(Pattern::regex("a)(b").is_err());
    }

    #[test]
    fn absence_matches_only_where_absence_is_asked_for() {
        assert!(Pattern::Present(false).matches(None));
        assert!(!Pattern::Present(false).matches(Some(b"")));
        assert!(Pattern::Present(true).matches(Some(b"")));
        assert!(!Pattern::Prefix((*b"").into()).matches(None));
    }
}
