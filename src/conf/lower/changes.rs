//! What the conf means for heads on their way: headers set, added and removed, another path or authority.
//!
//! A name that means something to a connection, or to the framing of a message, is refused here, and so is a value that could
//! end its line: what arrives in an engine is written as it is.

use std::sync::Arc;

use outrigger_codec::{
    Change, Changes,
    change::{Line, NewPath},
};

use super::{
    super::{changes as written, file, report::quote, yaml::At},
    Carries, Lowering,
    http::is_token,
};

/// The longest value: what every protocol can carry in one piece.
const VALUE_MAX: usize = 1_000;

/// Names that belong to a connection or to framing.
const NOT_THESE: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "grpc-timeout",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-outrigger-error",
];

impl Lowering<'_> {
    /// What a route changes; `None`: nothing.
    pub(super) fn changes(
        &mut self,
        at: At<'_>,
        route: &file::Route,
        carries: Carries,
    ) -> Option<Arc<Changes>> {
        let keys = [("request", route.request.is_some()), ("response", route.response.is_some())];
        for (key, _) in keys.iter().filter(|(_, used)| *used && carries == Carries::Bytes) {
            self.problems.push(at.key(key).problem("a relayed connection has no headers"));
        }
        if route.rewrite.is_some() && carries != Carries::Http {
            self.only_http(at, "rewrite");
        }
        let mut changes = Changes::default();
        if let Some(headers) = &route.request {
            changes.request = self.headers(at.key("request"), headers);
        }
        if let Some(headers) = &route.response {
            changes.answer = self.headers(at.key("response"), headers);
        }
        if let Some(rewrite) = &route.rewrite {
            self.rewrite(at.key("rewrite"), rewrite, &mut changes.request);
        }
        (changes != Changes::default()).then(|| Arc::new(changes))
    }

    fn headers(&mut self, at: At<'_>, headers: &written::Headers) -> Change {
        if headers.set.is_empty() && headers.add.is_empty() && headers.remove.is_empty() {
            let problem = at.problem("nothing is changed");
            self.problems.push(problem.with_help("as in { set: { x-from: shop }, remove: [x-debug] }"));
        }
        let mut lines = |key, written: &std::collections::BTreeMap<String, String>| {
            let each = written.iter().map(|(name, value)| {
                self.header(at.key(key).key(name), name, value);
                Line::new(name, value)
            });
            each.collect::<Vec<_>>()
        };
        let (set, add) = (lines("set", &headers.set), lines("add", &headers.add));
        for (i, name) in headers.remove.iter().enumerate() {
            self.header_name(at.key("remove").index(i), name);
        }
        let remove = headers.remove.iter().map(|name| name.as_bytes().into()).collect();
        Change { remove, set, add, ..Change::default() }
    }

    /// A header that is written as it is.
    pub(super) fn header(&mut self, at: At<'_>, name: &str, value: &str) {
        self.header_name(at, name);
        self.header_value(at, value);
    }

    pub(super) fn header_name(&mut self, at: At<'_>, name: &str) {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            self.problems.push(at.problem(format!("{} cannot be the name of a header", quote(name))));
        } else if lower == "host" {
            let problem = at.problem("a host is not changed as a header");
            self.problems.push(problem.with_help("write `rewrite: { authority: … }`"));
        } else if NOT_THESE.contains(&lower.as_str()) {
            let problem = at.problem(format!("{} belongs to connections, not to messages", quote(name)));
            self.problems.push(problem.with_help("it is written as each connection needs it"));
        }
    }

    fn header_value(&mut self, at: At<'_>, value: &str) {
        let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value;
        if !plain || value.len() > VALUE_MAX {
            let problem = at.problem("this cannot be the value of a header");
            self.problems
                .push(problem.with_help("up to 1000 printable ASCII characters, no blanks at either end"));
        }
    }

    fn rewrite(&mut self, at: At<'_>, rewrite: &written::Rewrite, change: &mut Change) {
        if rewrite.is_none() {
            let problem = at.problem("nothing is changed");
            self.problems
                .push(problem.with_help("as in { strip_prefix: /api } or { authority: example.com }"));
        }
        (change.path, change.authority) = self.place(at, rewrite);
    }

    /// Another path and authority.
    pub(super) fn place(
        &mut self,
        at: At<'_>,
        place: &written::Rewrite,
    ) -> (Option<NewPath>, Option<Box<[u8]>>) {
        let written::Rewrite { path, strip_prefix, add_prefix, authority } = place;
        let prefixes = strip_prefix.is_some() || add_prefix.is_some();
        if path.is_some() && prefixes {
            self.problems.push(at.key("path").problem("a path is either another or has another beginning"));
        }
        for (key, text) in [("path", path), ("strip_prefix", strip_prefix), ("add_prefix", add_prefix)] {
            let is_path = |text: &str| {
                text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#')
            };
            if text.as_deref().is_some_and(|text| !is_path(text)) {
                let problem = at.key(key).problem("expected a path that begins with `/`, as it is sent");
                self.problems.push(problem.with_help("without a query; as in /api"));
            }
        }
        if let Some(authority) = authority {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
            if authority.is_empty() || !authority.bytes().all(is_plain) {
                let problem = at.key("authority").problem("expected `host` or `host:port`");
                self.problems.push(problem.with_help("as in example.com or 10.0.0.7:8080"));
            }
        }
        let bytes = |text: &Option<String>| text.as_deref().unwrap_or_default().as_bytes().into();
        let new = match path {
            Some(_) => Some(NewPath::Whole(bytes(path))),
            None => prefixes.then(|| NewPath::Prefix { from: bytes(strip_prefix), to: bytes(add_prefix) }),
        };
        (new, authority.as_ref().map(|_| bytes(authority)))
    }
}
