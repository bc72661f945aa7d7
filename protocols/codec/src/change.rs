//! What a route changes of the heads that pass: headers set, added and removed, another path or authority.
//!
//! Made once from the conf, applied by the engines to heads that own their bytes, and by the codecs of whole messages to the
//! message itself. Must never touch framing: names that mean something to a connection are refused where they are written.

use crate::{Message, Slot, Span};

/// A header to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its name, as it is written where capitals count.
    pub name: Box<[u8]>,
    /// The same in lower case.
    pub lower: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

impl Line {
    /// A header.
    pub fn new(name: &str, value: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        Self { name: name.as_bytes().into(), lower: lower.as_bytes().into(), value: value.as_bytes().into() }
    }
}

/// What is changed of one head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Headers that go.
    pub remove: Vec<Box<[u8]>>,
    /// Headers that take the place of those of the same name.
    pub set: Vec<Line>,
    /// Headers that come beside those of the same name.
    pub add: Vec<Line>,
    /// Another path (HTTP).
    pub path: Option<NewPath>,
    /// Another authority (HTTP).
    pub authority: Option<Box<[u8]>>,
}

/// Another path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPath {
    /// This one.
    Whole(Box<[u8]>),
    /// What the path begins with goes, something else comes in its place; a path that begins otherwise stays.
    Prefix {
        /// What it begins with; may be empty.
        from: Box<[u8]>,
        /// What comes in its place; may be empty.
        to: Box<[u8]>,
    },
}

/// What a route changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of requests.
    pub request: Change,
    /// Of answers.
    pub answer: Change,
}

impl Change {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.remove.is_empty()
            && self.set.is_empty()
            && self.add.is_empty()
            && self.path.is_none()
            && self.authority.is_none()
    }

    /// Whether a header of this name goes. `caseless`: whatever its capitals.
    pub fn drops(&self, name: &[u8], caseless: bool) -> bool {
        let same = |ours: &[u8]| ours == name || (caseless && ours.eq_ignore_ascii_case(name));
        self.remove.iter().any(|ours| same(ours)) || self.set.iter().any(|line| same(&line.name))
    }

    /// The headers that come.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.set.iter().chain(&self.add)
    }

    /// Changes a head of HTTP.
    pub fn apply(&self, message: &mut Message) {
        if !(self.remove.is_empty() && self.set.is_empty()) {
            message.retain(|name, _| !self.drops(name, true));
        }
        self.lines().for_each(|line| message.add(&line.lower, &line.value));
        if let Some(path) = &self.path {
            path.apply(message);
        }
        if let Some(authority) = self.authority_of(message) {
            message.set(Slot::Authority, authority);
        }
    }

    /// The authority that a head gets; none where its target is one itself (CONNECT): the two must be the same.
    pub fn authority_of(&self, message: &Message) -> Option<&[u8]> {
        let target = message.head().slot(Slot::Target);
        let names_itself = target.is_some_and(|target| !target.starts_with(b"/") && target != b"*");
        self.authority.as_deref().filter(|_| !names_itself)
    }
}

impl NewPath {
    /// What `path` becomes; `None`: it stays as it is.
    pub fn of(&self, path: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::Whole(whole) => whole.to_vec(),
            Self::Prefix { from, to } => {
                let rest = path.strip_prefix(&**from)?;
                // One slash where the two meet.
                let to = if rest.first() == Some(&b'/') { to.strip_suffix(b"/").unwrap_or(to) } else { to };
                let slash = to.last() != Some(&b'/') && rest.first() != Some(&b'/');
                let between: &[u8] = if slash && (to.is_empty() || !rest.is_empty()) { b"/" } else { b"" };
                [to, between, rest].concat()
            }
        })
    }

    fn apply(&self, message: &mut Message) {
        let target = message.head().slot(Slot::Target).unwrap_or_default();
        // `*`, and what a tunnel is asked for, are no paths.
        if target.first() != Some(&b'/') {
            return;
        }
        let path_len = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at_checked(path_len).unwrap_or((target, &[]));
        let Some(mut new) = self.of(path) else { return };
        let path_len = new.len();
        new.extend_from_slice(query);
        let span = message.put(&new);
        message.index.set(Slot::Target, span);
        message.index.set(Slot::Path, Span::new(span.at as usize, path_len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(new: &NewPath, target: &str) -> String {
        let mut message = Message::default();
        message.set(Slot::Target, target.as_bytes());
        new.apply(&mut message);
        String::from_utf8_lossy(message.head().slot(Slot::Target).unwrap_or_default()).into_owned()
    }

    #[test]
    fn a_path_is_changed_and_its_query_stays() {
        let whole = NewPath::Whole((*b"/new").into());
        assert_eq!(path(&whole, "/old?a=/x"), "/new?a=/x");
        assert_eq!(path(&whole, "*"), "*");
        let prefix =
            |from: &str, to: &str| NewPath::Prefix { from: from.as_bytes().into(), to: to.as_bytes().into() };
        for (from, to, target, wanted) in [
            ("/api", "/v2", "/api/x?y", "/v2/x?y"),
            ("/api", "", "/api/x", "/x"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api?y", "/?y"),
            ("/api/", "/v2/", "/api/x", "/v2/x"),
            ("/api", "/v2/", "/api/x", "/v2/x"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api/", "/v2", "/api/x", "/v2/x"),
            ("/api", "/v2", "/other", "/other"),
            ("", "/v2", "/x", "/v2/x"),
        ] {
            assert_eq!(path(&prefix(from, to), target), wanted, "{from} {to} {target}");
        }
    }

    #[test]
    fn headers_go_change_and_come() {
        let change = Change {
            remove: vec![(*b"X-Gone").into()],
            set: vec![Line::new("X-Set", "new")],
            add: vec![Line::new("x-more", "2")],
            authority: Some((*b"other").into()),
            ..Change::default()
        };
        let mut message = Message::default();
        for (name, value) in [("x-gone", "1"), ("x-set", "a"), ("x-set", "b"), ("x-more", "1")] {
            message.add(name.as_bytes(), value.as_bytes());
        }
        change.apply(&mut message);
        let head = message.head();
        let text = |span: Span| String::from_utf8_lossy(span.of(head.bytes).unwrap_or_default()).into_owned();
        let fields: Vec<String> = head
            .index
            .fields
            .iter()
            .map(|field| format!("{}: {}", text(field.name), text(field.value)))
            .collect();
        assert_eq!(fields, ["x-more: 1", "x-set: new", "x-more: 2"]);
        assert_eq!(head.slot(Slot::Authority), Some(&b"other"[..]));
        let mut tunnel = Message::default();
        tunnel.set(Slot::Target, b"a:443");
        change.apply(&mut tunnel);
        assert_eq!(tunnel.head().slot(Slot::Authority), None, "what is asked for is an authority itself");
        assert!(!change.is_none() && Change::default().is_none());
        assert!(!change.drops(b"x-gone", false) && change.drops(b"X-Gone", false));
    }
}
