//! What the conf means for HTTP: bounds of heads and bodies, manners of listeners, tests of authorities and paths.
//!
//! A test that no request can pass is a mistake, and is told as one: what arrives here went through a gate that lets
//! neither a query into a path nor a blank into an authority. Nothing here may know a wire format; the words are the
//! conf's.

use std::{borrow::Cow, fmt::Write, time::Duration};

use outrigger_codec::exchange::{Forwarded, Limits, Policy, Underscores};
use outrigger_core::Pattern;

use super::{
    super::{
        file::{self, OtherTest, Test},
        report::{Problem, quote},
        units,
        yaml::At,
    },
    Carries, Lowering,
};
use crate::session::Manners;

impl Lowering<'_> {
    /// Bounds of heads and bodies.
    pub(super) fn limits(&mut self, at: At<'_>, limits: &file::Limits) -> Limits {
        let head_max = self.size(at.key("head_max"), limits.head_max.bytes(), 1 << 10, 1 << 20);
        if !(1..=1_000).contains(&limits.headers_max) {
            self.problems.push(at.key("headers_max").problem("expected 1 to 1000 headers"));
        }
        // Nobody who bounds heads alone asked for targets longer than they.
        let mut uri_max = (limits.uri_max.bytes() as usize).min(head_max);
        let at_uri = at.key("uri_max");
        if at.has("uri_max") && limits.uri_max.bytes() > (head_max as u64).max(64) {
            let problem = at_uri.problem(format!("expected 64 to {head_max} bytes: a target lies in a head"));
            self.problems.push(problem.with_help("raise `head_max` as well"));
        } else if at.has("uri_max") {
            uri_max = self.size(at_uri, limits.uri_max.bytes(), 64, head_max as u64);
        }
        let body_max = limits.body_max.map_or(u64::MAX, units::Size::bytes);
        if body_max == 0 {
            let problem = at.key("body_max").problem("expected at least 1 byte");
            self.problems.push(problem.with_help("leave it out for no bound"));
        }
        Limits { head_max, headers_max: limits.headers_max as usize, uri_max, body_max }
    }

    /// How a listener treats its callers.
    pub(super) fn manners(&mut self, at: At<'_>, listener: &file::Listener, carries: Carries) -> Manners {
        if carries == Carries::Bytes && listener.keepalive_timeout.is_some() {
            let message =
                "a listener that speaks only `tcp` does not know a silent connection from a done one";
            self.problems.push(at.key("keepalive_timeout").problem(message).with_help("leave it out"));
        }
        if carries != Carries::Http {
            let keys = [
                ("head_timeout", listener.head_timeout.is_some()),
                ("idle_timeout", listener.idle_timeout.is_some()),
                ("http", listener.http.is_some()),
            ];
            keys.iter().filter(|(_, used)| *used).for_each(|(key, _)| self.only_http(at, key));
        }
        let defaults = Manners::default();
        Manners {
            keepalive_timeout: self.time(at.key("keepalive_timeout"), listener.keepalive_timeout),
            head_timeout: self
                .time(at.key("head_timeout"), listener.head_timeout)
                .unwrap_or(defaults.head_timeout),
            idle_timeout: self
                .time(at.key("idle_timeout"), listener.idle_timeout)
                .unwrap_or(defaults.idle_timeout),
            policy: match &listener.http {
                Some(http) => self.policy(at.key("http"), http),
                None => defaults.policy,
            },
            ..defaults
        }
    }

    /// What a match, and each inside it, asks of HTTP where none is spoken.
    pub(super) fn no_http(&mut self, at: At<'_>, matches: &file::Match) {
        let used = by_http(matches).into_iter().filter(|(_, used)| *used);
        used.for_each(|(key, _)| self.only_http(at, key));
        for (key, inside) in [("all", &matches.all), ("any", &matches.any)] {
            inside.iter().enumerate().for_each(|(i, inside)| self.no_http(at.key(key).index(i), inside));
        }
        if let Some(inside) = &matches.not {
            self.no_http(at.key("not"), inside);
        }
    }

    /// A key that only HTTP has a use for.
    pub(super) fn only_http(&mut self, at: At<'_>, key: &str) {
        let message = format!("`{key}` is of HTTP, which this listener does not speak");
        let problem = Problem::new(at.key(key).key_span(), message);
        self.problems.push(problem.with_help(
            "leave it out, or let the listener's `protocol` be or list `http1`, `http2`, `grpc` or `triple`",
        ));
    }

    fn time(&mut self, at: At<'_>, written: Option<units::Duration>) -> Option<Duration> {
        let time = written.map(units::Duration::get);
        if time.is_some_and(|time| time.is_zero()) {
            self.problems.push(at.problem("expected a time above 0s"));
        }
        time
    }

    fn policy(&mut self, at: At<'_>, http: &file::Http) -> Policy {
        let mut upgrades: Vec<Box<str>> = Vec::new();
        for (i, written) in http.upgrades.iter().enumerate() {
            let at = at.key("upgrades").index(i);
            let name = written.to_ascii_lowercase();
            if name == "h2c" {
                let problem = at
                    .problem("an upgrade to `h2c` is never let through: what follows it could not be routed");
                self.problems.push(problem.with_help("leave it out; such requests are served as HTTP/1.1"));
            } else if !is_token(&name) {
                let message = format!("expected the name of a protocol, found {}", quote(written));
                self.problems.push(at.problem(message).with_help("as in `websocket`, without a version"));
            } else if upgrades.iter().any(|known| **known == *name) {
                self.problems.push(at.problem(format!("{} is listed twice", quote(&name))));
            } else {
                upgrades.push(name.into());
            }
        }
        if let Some(name) = &http.timeout_header {
            self.header_name(at.key("timeout_header"), name);
        }
        if let Some(via) = &http.via
            && !is_token(via)
        {
            let message = format!("expected a name without blanks and separators, found {}", quote(via));
            self.problems.push(at.key("via").problem(message).with_help("as in `via: outrigger`"));
        }
        Policy {
            underscores: match http.underscores {
                file::Underscores::Drop => Underscores::Drop,
                file::Underscores::Reject => Underscores::Reject,
                file::Underscores::Allow => Underscores::Allow,
            },
            upgrades,
            trace: http.trace,
            connect: http.connect,
            via: http.via.as_deref().map(Into::into),
            forwarded: match http.forwarded {
                file::Forwarded::Off => Forwarded::Off,
                file::Forwarded::Append => Forwarded::Append,
                file::Forwarded::Replace => Forwarded::Replace,
            },
            request_id: http.request_id,
            timeout: http.timeout_header.as_deref().map(|name| name.to_ascii_lowercase().as_bytes().into()),
        }
    }

    /// A test of an authority, which arrives in lower case.
    pub(super) fn authority(&mut self, at: At<'_>, test: &Test) -> Option<Pattern> {
        let test = match test {
            Test::Exact(text) => {
                self.whole_authority(at, text);
                Test::Exact(text.to_ascii_lowercase())
            }
            Test::Other(OtherTest::Any(texts)) => {
                for (i, text) in texts.iter().enumerate() {
                    self.whole_authority(at.key("any").index(i), text);
                }
                Test::Other(OtherTest::Any(texts.iter().map(|text| text.to_ascii_lowercase()).collect()))
            }
            Test::Other(OtherTest::Prefix(text)) => Test::Other(OtherTest::Prefix(text.to_ascii_lowercase())),
            // A class such as `\S` has another meaning in lower case.
            Test::Other(OtherTest::Regex(source)) => Test::Other(OtherTest::Regex(format!("(?i){source}"))),
            Test::Other(other) => Test::Other(other.clone()),
        };
        self.pattern(at, &test)
    }

    /// One authority, in full.
    pub(super) fn whole_authority(&mut self, at: At<'_>, text: &str) {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
        if text.is_empty() || !text.bytes().all(known) {
            let help = if text.contains('/') {
                "write the host alone; what follows it is matched by `path`"
            } else if text.contains('*') {
                r"for all hosts below one write { regex: '.*\.example\.com' }"
            } else {
                "as in example.com, example.com:8080 or [::1]:8080"
            };
            let problem = at.problem(format!("expected `host` or `host:port`, found {}", quote(text)));
            self.problems.push(problem.with_help(help));
        }
    }

    /// A test of a path, which arrives without its query and without needless escapes.
    pub(super) fn path(&mut self, at: At<'_>, test: &Test) -> Option<Pattern> {
        let test = match test {
            Test::Exact(text) => {
                self.path_text(at, text, true);
                Test::Exact(plain(text).into_owned())
            }
            Test::Other(OtherTest::Any(texts)) => {
                for (i, text) in texts.iter().enumerate() {
                    self.path_text(at.key("any").index(i), text, true);
                }
                Test::Other(OtherTest::Any(texts.iter().map(|text| plain(text).into_owned()).collect()))
            }
            Test::Other(OtherTest::Prefix(text)) => {
                self.path_text(at.key("prefix"), text, false);
                Test::Other(OtherTest::Prefix(plain(text).into_owned()))
            }
            Test::Other(OtherTest::Template(source)) => {
                let at = at.key("template");
                if !self.path_text(at, source, false) {
                    return None;
                }
                return match Pattern::template(&plain(source)) {
                    Ok(pattern) => Some(pattern),
                    Err(error) => {
                        let problem = at.problem(format!("not a template: {error}"));
                        self.problems.push(problem.with_help("as in /users/{id} or /files/{rest*}"));
                        None
                    }
                };
            }
            Test::Other(other) => Test::Other(other.clone()),
        };
        self.pattern(at, &test)
    }

    /// Whether a text can be, or begin, a path.
    fn path_text(&mut self, at: At<'_>, text: &str, whole: bool) -> bool {
        let (message, help) = if let Some((path, _)) = text.split_once('?') {
            let help = format!("write `path: {path}` and `query: {{ name: value }}`");
            ("a path is without its query".to_owned(), help)
        } else if let Some(found) = text.chars().find(|c| !is_sent(*c)) {
            let message = format!("a path on its way has no {}", quote(&found.to_string()));
            (message, format!("write it as it is sent: {}", escaped(text)))
        } else if !(text.starts_with('/') || whole && text == "*") {
            let or = if whole { ", or is `*`" } else { "" };
            (format!("a path begins with `/`{or}"), format!("write /{text}"))
        } else {
            return true;
        };
        self.problems.push(at.problem(message).with_help(help));
        false
    }
}

/// The keys of a match that only HTTP has a use for, and whether they are there; not of those inside it.
pub(super) fn by_http(matches: &file::Match) -> [(&'static str, bool); 3] {
    [
        ("authority", matches.authority.is_some()),
        ("path", matches.path.is_some()),
        ("query", !matches.query.is_empty()),
    ]
}

/// What a match asks for of authority and path, in short.
pub(super) fn place(matches: &file::Match) -> Option<String> {
    let authority = match &matches.authority {
        Some(Test::Exact(text)) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    let path = match &matches.path {
        Some(Test::Exact(text) | Test::Other(OtherTest::Template(text))) => text.clone(),
        Some(Test::Other(OtherTest::Prefix(text))) => format!("{text}*"),
        _ => String::new(),
    };
    Some(format!("{authority}{path}")).filter(|place| !place.is_empty())
}

/// A path in which no character is escaped that need not be: letters, digits and `-._~` stand for themselves.
pub fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let (mut out, mut rest) = (String::with_capacity(path.len()), path);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.into()
}

/// Whether a character may stand in a path on the wire.
pub(super) fn is_sent(c: char) -> bool {
    c.is_ascii_graphic() && !"#\"<>\\".contains(c)
}

pub(super) fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if is_sent(char::from(byte)) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
