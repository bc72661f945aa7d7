//! Answers that a route gives itself: a fixed response, or a redirect to somewhere else (HTTP).
//!
//! Made once from the conf and written by the engines in place of a call. Source: RFC 9110 §10.2.2, §15.4; what a dialect says
//! of a status is gRPC's own table (http-grpc-status-mapping.md of grpc/grpc). Must never let a caller's path choose the host
//! that it is sent to.

use crate::{
    Head, Message, Outcome, Slot,
    change::{Line, NewPath},
    http::answer,
};

/// An answer of a route's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status, 200 to 599.
    pub status: u16,
    /// Its headers; none that belongs to framing.
    pub headers: Vec<Line>,
    /// Its body; empty where its status has none.
    pub body: Box<[u8]>,
    /// Where its caller is sent; `None`: nowhere.
    pub redirect: Option<Redirect>,
}

/// Where a caller is sent: what is not said stays as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// The host, with its port where that is not the scheme's.
    pub authority: Option<Box<[u8]>>,
    /// The path.
    pub path: Option<NewPath>,
    /// The query goes.
    pub drops_query: bool,
}

impl Response {
    /// How a call ended that was answered so.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            429 | 503 => Outcome::Busy,
            408 | 504 => Outcome::TimedOut,
            500.. => Outcome::Error,
            400.. => Outcome::Exception,
            _ => Outcome::Ok,
        }
    }

    /// Whether a message of this status has a body, and says how long it is.
    pub fn has_body(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// Writes the head of the answer to `asked` into an empty `answer`; its body follows. `false`: it cannot be told where
    /// the caller should go, because it names no host, or asks for no path.
    pub fn write(&self, asked: Head<'_>, answer: &mut Message) -> bool {
        answer.set(Slot::Target, self.status.to_string().as_bytes());
        if let Some(redirect) = &self.redirect {
            let Some(location) = redirect.location(asked) else { return false };
            answer.add(b"location", &location);
        }
        self.lines(answer);
        if self.has_body() {
            answer::number(answer, b"content-length", self.body.len() as u64);
        }
        true
    }

    /// Writes its headers alone.
    pub fn lines(&self, answer: &mut Message) {
        self.headers.iter().for_each(|line| answer.add(&line.lower, &line.value));
    }
}

impl Redirect {
    /// The place where a request is sent. A relative one where only the path changes, so that whatever host and scheme the
    /// caller used in front of us stay.
    fn location(&self, asked: Head<'_>) -> Option<Vec<u8>> {
        let target = asked.slot(Slot::Target).filter(|target| target.first() == Some(&b'/'))?;
        let path_len = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at_checked(path_len)?;
        let new = self.path.as_ref().and_then(|new| new.of(path));
        let path = new.as_deref().unwrap_or(path);
        let mut location = match (&self.scheme, &self.authority) {
            (None, None) => Vec::new(),
            (None, Some(authority)) => [b"//", &**authority].concat(),
            // Another scheme has another port.
            (Some(scheme), None) => [scheme.as_bytes(), b"://", asked.slot(Slot::Host)?].concat(),
            (Some(scheme), Some(authority)) => [scheme.as_bytes(), b"://", authority].concat(),
        };
        // Two slashes at the start of a reference, or what browsers take for them, would name a host.
        let from = path.iter().position(|byte| !b"/\\".contains(byte)).unwrap_or(path.len());
        location.push(b'/');
        location.extend_from_slice(path.get(from..).unwrap_or_default());
        if !self.drops_query {
            location.extend_from_slice(query);
        }
        Some(location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, authority: &str) -> Message {
        let mut asked = Message::default();
        asked.set(Slot::Target, target.as_bytes());
        if !authority.is_empty() {
            asked.set(Slot::Authority, authority.as_bytes());
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            asked.set(Slot::Host, host.as_bytes());
        }
        asked
    }

    #[test]
    fn a_caller_is_sent_where_the_conf_says_and_nowhere_else() {
        let prefix =
            |from: &str, to: &str| NewPath::Prefix { from: from.as_bytes().into(), to: to.as_bytes().into() };
        let there = |scheme: &str, authority: &str, path: Option<NewPath>| Redirect {
            scheme: (!scheme.is_empty()).then(|| scheme.into()),
            authority: (!authority.is_empty()).then(|| authority.as_bytes().into()),
            path,
            drops_query: false,
        };
        let (whole, strip) = (NewPath::Whole((*b"/new").into()), prefix("/old", ""));
        for (redirect, target, wanted) in [
            (there("", "", Some(whole.clone())), "/old/x?a=b", Some("/new?a=b")),
            (there("", "", Some(strip.clone())), "/old/x?a=b", Some("/x?a=b")),
            (there("", "", Some(strip.clone())), "/old", Some("/")),
            (there("https", "", None), "/x?a", Some("https://here/x?a")),
            (there("https", "there:1", Some(whole.clone())), "/x", Some("https://there:1/new")),
            (there("", "there", None), "/x", Some("//there/x")),
            // Nobody is sent to a host by a path.
            (there("", "", Some(strip.clone())), "/old//evil.com/x", Some("/evil.com/x")),
            (there("", "", Some(strip.clone())), "/old/\\evil.com", Some("/evil.com")),
            (there("", "", Some(prefix("/none", ""))), "//evil.com", Some("/evil.com")),
            (there("", "there", None), "//evil.com", Some("//there/evil.com")),
            (there("https", "", None), "*", None),
            (there("https", "", None), "evil.com:443", None),
        ] {
            let (asked, mut answer) = (asked(target, "here:80"), Message::default());
            let response =
                Response { status: 302, headers: Vec::new(), body: Box::default(), redirect: Some(redirect) };
            let told = response.write(asked.head(), &mut answer).then(|| answer.head().field(b"location"));
            assert_eq!(told.flatten(), wanted.map(str::as_bytes), "{target}");
        }
        let drops = Redirect { drops_query: true, ..there("https", "", None) };
        assert_eq!(drops.location(asked("/x?a", "here").head()), Some(b"https://here/x".to_vec()));
        assert_eq!(drops.location(asked("/x", "").head()), None, "no host is known");
    }

    #[test]
    fn a_status_without_a_body_says_no_length() {
        for (status, length) in [(200, Some(&b"2"[..])), (204, None), (304, None)] {
            let response = Response {
                status,
                headers: vec![Line::new("X-Own", "1")],
                body: if length.is_some() { (*b"ok").into() } else { Box::default() },
                redirect: None,
            };
            let mut answer = Message::default();
            assert!(response.write(asked("*", "").head(), &mut answer));
            assert_eq!(answer.head().field(b"content-length"), length, "{status}");
            assert_eq!(answer.head().field(b"x-own"), Some(&b"1"[..]));
        }
    }
}
