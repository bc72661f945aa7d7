//! A path with variables: `/users/{id}/orders/{rest*}`.
//!
//! Segments are compared one by one, from the left, and never go back: the time is linear in the path, whatever the
//! caller sends, and nothing is allocated. A variable is a whole segment, because `{a}-{b}` can be read in two ways.

use std::fmt;

/// A path with variables, ready to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    /// What stands between the slashes, without a last `{x*}`.
    segments: Box<[Segment]>,
    /// Whether it ends in `{x*}`: the rest of the path, which may be empty, but not the slash before it.
    rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// These bytes, which may be none.
    Literal(Box<[u8]>),
    /// Anything but nothing.
    Any,
}

/// Why a text is no template, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl Template {
    /// Compiles a template.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let Some(path) = source.strip_prefix('/') else {
            return Err(TemplateError("a template begins with `/`".to_owned()));
        };
        let (mut segments, mut names, mut rest) = (Vec::new(), Vec::new(), false);
        for text in path.split('/') {
            if rest {
                return Err(TemplateError(
                    "what takes the rest of the path must be the last segment".to_owned(),
                ));
            }
            match variable(text)? {
                None => segments.push(Segment::Literal(text.as_bytes().into())),
                Some(Variable { name, .. }) if names.contains(&name) => {
                    return Err(TemplateError(format!("`{{{name}}}` is there twice")));
                }
                Some(Variable { name, takes_rest }) => {
                    names.push(name);
                    if takes_rest {
                        rest = true;
                    } else {
                        segments.push(Segment::Any);
                    }
                }
            }
        }
        Ok(Self { source: source.into(), segments: segments.into(), rest })
    }

    /// Whether a path, without its query, has this form.
    pub fn matches(&self, path: &[u8]) -> bool {
        // What follows the last slash seen; `None` when the path is at its end.
        let mut left = path.strip_prefix(b"/");
        for segment in &self.segments {
            let Some(text) = left else { return false };
            let mut parts = text.splitn(2, |byte| *byte == b'/');
            let part = parts.next().unwrap_or_default();
            let same = match segment {
                Segment::Literal(want) => part == &**want,
                Segment::Any => !part.is_empty(),
            };
            if !same {
                return false;
            }
            left = parts.next();
        }
        left.is_some() == self.rest
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

struct Variable<'a> {
    name: &'a str,
    takes_rest: bool,
}

/// The variable that a segment is, or `None` when it is a literal.
fn variable(segment: &str) -> Result<Option<Variable<'_>>, TemplateError> {
    let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        if segment.contains(['{', '}']) {
            let why = format!("a variable is a whole segment, as in `/{{id}}/`; `{segment}` is not");
            return Err(TemplateError(why));
        }
        return Ok(None);
    };
    let (name, takes_rest) = inner.strip_suffix('*').map_or((inner, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let why = format!("a variable's name is made of letters, digits and `_`; `{segment}` has none");
        return Err(TemplateError(why));
    }
    Ok(Some(Variable { name, takes_rest }))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, yes: &[&str], no: &[&str]) {
        let compiled = Template::new(template).unwrap();
        for path in yes {
            assert!(compiled.matches(path.as_bytes()), "{template} is {path}");
        }
        for path in no {
            assert!(!compiled.matches(path.as_bytes()), "{template} is not {path}");
        }
    }

    #[test]
    fn a_variable_is_one_segment_and_never_an_empty_one() {
        check("/users/{id}", &["/users/7", "/users/%2F"], &["/users", "/users/", "/users/7/", "/users/7/x"]);
        check("/users/{id}/orders", &["/users/7/orders"], &["/users//orders", "/users/7/order", "/users/7"]);
        check("/{a}/{b}", &["/x/y"], &["/x", "/x/", "//y", "x/y", "/x/y/z"]);
    }

    #[test]
    fn the_rest_may_be_empty_but_its_slash_is_there() {
        check(
            "/users/{id}/{rest*}",
            &["/users/7/", "/users/7/a", "/users/7/a/b/"],
            &["/users/7", "/users//a"],
        );
        check("/{rest*}", &["/", "/a", "//"], &["", "*", "a"]);
    }

    #[test]
    fn without_variables_it_is_the_path_itself() {
        check("/", &["/"], &["", "//", "/a", "*"]);
        check("/a/b", &["/a/b"], &["/a", "/a/b/", "/a/bc", "/A/b"]);
        check("/a/", &["/a/"], &["/a", "/a/b"]);
    }

    #[test]
    fn what_is_no_template_is_told_in_words() {
        let refused = |template: &str| Template::new(template).unwrap_err().to_string();
        assert_eq!(refused("users/{id}"), "a template begins with `/`");
        assert_eq!(refused(""), "a template begins with `/`");
        assert_eq!(refused("/{a*}/b"), "what takes the rest of the path must be the last segment");
        assert_eq!(refused("/{a*}/"), "what takes the rest of the path must be the last segment");
        assert_eq!(refused("/{a}/x/{a}"), "`{a}` is there twice");
        for whole in ["/v{a}", "/{a}.json", "/{a", "/a}", "/x{a*}"] {
            assert!(refused(whole).starts_with("a variable is a whole segment"), "{whole}");
        }
        for name in ["/{}", "/{*}", "/{a-b}", "/{a}{b}", "/{{a}}", "/{é}"] {
            assert!(refused(name).starts_with("a variable's name is made of"), "{name}");
        }
    }
}
