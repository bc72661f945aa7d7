//! The table of protocols, and what a call and its answer are in the words that all of them share.
//!
//! Must never hide what came: whatever has no meaning here is `Other`, with its text.

use crate::endpoint::Inner;
use crate::frames::Frames;
use crate::http1::Http1;
use crate::http2::Http2;
use crate::support::raw::Wire;
use std::fmt::Display;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

/// A protocol as its callers and its endpoints speak it.
pub(crate) trait Speaks: Sync {
    /// Its name here.
    fn name(&self) -> &'static str;

    /// Its name in the conf.
    fn conf(&self) -> &'static str {
        self.name()
    }

    /// The status of its own that tells of an endpoint's error, as `statuses` has it.
    fn error(&self) -> u32;

    /// Whether answers are given on whole, so that a torn one never reached its caller.
    fn is_framed(&self) -> bool {
        false
    }

    /// Whether calls have paths and cookies that endpoints can be picked by.
    fn is_http(&self) -> bool {
        !self.is_framed()
    }

    /// A caller over a new connection to the sidecar.
    fn caller(&self, stream: TcpStream) -> Box<dyn Caller>;

    /// One connection of an endpoint, until it ends.
    fn serve(&self, stream: TcpStream, endpoint: &Arc<Inner>);
}

/// A caller's connection.
pub(crate) trait Caller: Send + Sync {
    /// Makes a call and waits for what becomes of it.
    fn ask(&mut self, ask: &Ask) -> Got;

    /// Sends a call that has no answer; only where the protocol has those.
    fn tell(&mut self, _ask: &Ask) {
        panic!("this protocol has no one-way calls");
    }

    /// Whether the connection can carry no other call.
    fn is_over(&self) -> bool;
}

/// A call to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Says which call it is; endpoints give it back.
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Of HTTP, when it is not the usual one.
    pub(crate) path: Option<String>,
    /// Bytes of its body, besides the key.
    pub(crate) size: usize,
}

impl Ask {
    pub(crate) fn new(key: impl Display) -> Self {
        Self { key: format!("{key}"), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.push((name.to_owned(), format!("{value}")));
        self
    }

    pub(crate) fn path(mut self, path: impl Display) -> Self {
        self.path = Some(format!("{path}"));
        self
    }

    pub(crate) fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Ok,
    /// The endpoint said that it is too busy.
    Busy,
    /// The endpoint told of an error of its own.
    Error,
    /// The service threw, found nothing, declined.
    Exception,
    /// The sidecar: the endpoint could not be reached, or was lost.
    Unreachable,
    /// The sidecar: it took too long.
    TimedOut,
    /// No whole answer came.
    Torn,
    Other(String),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) meaning: Meaning,
    /// The endpoint that answered.
    pub(crate) by: Option<usize>,
    /// Its text, for the message of a failed test.
    pub(crate) said: String,
}

impl Got {
    /// Reads who answered out of a text; it must be the answer to this call.
    #[track_caller]
    pub(crate) fn new(meaning: Meaning, text: &str, ask: &Ask) -> Self {
        let signed = text.split_once("by=").map(|(_, rest)| rest);
        let by = signed.and_then(|rest| rest.split_once(" key=")).map(|(by, rest)| {
            let key = rest.split(['\u{1}', '|']).next().unwrap_or_default();
            assert_eq!(key, ask.key, "an answer to another call");
            by.parse().expect("a number")
        });
        if by.is_none()
            && matches!(meaning, Meaning::Ok | Meaning::Busy | Meaning::Error | Meaning::Exception)
        {
            return Self { meaning: Meaning::Other(format!("{meaning:?} by nobody")), by, said: text.into() };
        }
        Self { meaning, by, said: text.into() }
    }

    pub(crate) fn torn() -> Self {
        Self { meaning: Meaning::Torn, by: None, said: String::new() }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.meaning == Meaning::Ok
    }
}

/// Every protocol there is; Bolt with and without a checksum, which a call sent again needs anew.
pub(crate) const PROTOCOLS: [&dyn Speaks; 7] = [
    &Frames { wire: Wire::V1, name: "bolt" },
    &Frames { wire: Wire::Crc, name: "bolt2" },
    &Frames { wire: Wire::Dubbo, name: "dubbo" },
    &Http1,
    &Http2 { name: "http2" },
    &Http2 { name: "grpc" },
    &Http2 { name: "triple" },
];

/// Holds something against each protocol of a kind, side by side.
pub(crate) fn each(kind: impl Fn(&dyn Speaks) -> bool, check: impl Fn(&'static dyn Speaks) + Sync) {
    let only = std::env::var("POLICY_OVER").ok();
    let wanted = |one: &&&dyn Speaks| kind(**one) && only.as_ref().is_none_or(|only| only == one.name());
    let check = &check;
    let failed: Vec<&str> = thread::scope(|scope| {
        let start = |one: &&'static dyn Speaks| {
            let one = *one;
            let named = thread::Builder::new().name(one.name().to_owned());
            (one.name(), named.spawn_scoped(scope, move || check(one)).expect("a thread"))
        };
        let running: Vec<_> = PROTOCOLS.iter().filter(wanted).map(start).collect();
        running.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "it does not hold over {failed:?}");
}

/// Holds something against every protocol, side by side.
pub(crate) fn every(check: impl Fn(&'static dyn Speaks) + Sync) {
    each(|_| true, check);
}
