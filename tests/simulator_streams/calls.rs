//! Calls: what a caller wants to say, and all that is known of what became of it.
//!
//! Most are right in one of the many ways a request can be; some are wrong in one way. Must never be wrong in two ways:
//! then nobody could say which answer is right.

use std::time::Duration;

use outrigger_core::Tick;

use crate::{
    rng::Rng,
    shape::{ROUTES, Shape},
};

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Its head breaks the grammar.
    Header,
    HeadSize,
    Method,
    /// Its body is not what its head says (HTTP/2), or cannot be read (HTTP/1).
    Body,
    /// More than its window allows (HTTP/2).
    Window,
}

impl Flaw {
    const ALL: [Self; 5] = [Self::Header, Self::HeadSize, Self::Method, Self::Body, Self::Window];

    /// The status of its answer, where its caller is answered.
    pub(crate) fn status(self, h1: bool) -> Option<u16> {
        match self {
            Self::HeadSize => Some(431),
            Self::Method => Some(405),
            Self::Header | Self::Body if h1 => Some(400),
            _ => None,
        }
    }

    pub(crate) fn is_in_head(self) -> bool {
        matches!(self, Self::Header | Self::HeadSize | Self::Method)
    }
}

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Refused(u16),
    /// Its stream was ended, or its answer ended as an error: the caller sees that it is incomplete.
    Cut,
    /// Its connection ended, and the caller sees that an answer is missing.
    Lost,
    /// The engine's goodbye says that it was not processed.
    Unprocessed,
    /// Its caller took it back.
    Left,
}

/// How the end of an answer's or a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By a length in the head.
    Length,
    /// As it comes.
    End,
}

/// A request, as its endpoint-to-be saw it, once for each connection that took its head.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) conn: u32,
    pub(crate) address: String,
    /// When the engine gave it to its connection, at the earliest and at the latest.
    pub(crate) given: [Tick; 2],
    /// Its endpoint was spoken to in HTTP/1.
    pub(crate) h1: bool,
    /// Bytes of the body that came, and whether that was all.
    pub(crate) seen: usize,
    pub(crate) whole: bool,
    /// What was answered.
    pub(crate) reply: Option<Reply>,
    /// Interim answers.
    pub(crate) interims: Vec<u16>,
    /// The engine was given a whole head of an answer, when, and whether it may have left the attempt before.
    pub(crate) heard: bool,
    pub(crate) heard_at: Tick,
    pub(crate) doubtful: bool,
    /// The engine took it back.
    pub(crate) dropped: bool,
    /// Its connection ended, or its answer is none that can be trusted, or it was given up.
    pub(crate) failed: bool,
    /// The engine knows that it was not processed.
    pub(crate) unprocessed: bool,
}

/// An endpoint's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Bytes of the body that were or will be sent.
    pub(crate) len: usize,
    pub(crate) told: Told,
    pub(crate) trailer: bool,
    /// Its head tells one byte more.
    pub(crate) lies: bool,
    /// What will be sent is a whole answer.
    pub(crate) complete: bool,
    /// Bytes of the body that were sent (HTTP/2), and where in what its endpoint says it ends.
    pub(crate) said: usize,
    pub(crate) end: Option<usize>,
}

impl Attempt {
    /// What its endpoint was spoken to in.
    pub(crate) fn spoken(&self) -> &'static str {
        if self.h1 { "HTTP/1" } else { "HTTP/2" }
    }

    /// Whether the engine may have left it by then because it took longer than that.
    pub(crate) fn is_slow(&self, limit: Option<Duration>, by: Tick) -> bool {
        limit.is_some_and(|limit| by >= self.given[0].after(limit))
    }
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: usize,
    pub(crate) caller: u32,
    pub(crate) h1: bool,
    /// `None`: one without a route.
    pub(crate) route: Option<usize>,
    pub(crate) method: &'static str,
    pub(crate) grpc: bool,
    /// Its caller's own time.
    pub(crate) time: Option<Duration>,
    /// HTTP/1.0.
    pub(crate) old: bool,
    /// Its caller wants another answer on the connection (HTTP/1).
    pub(crate) keep: bool,
    /// `None`: it has no body.
    pub(crate) told: Option<Told>,
    pub(crate) len: usize,
    pub(crate) trailer: bool,
    pub(crate) expects: bool,
    pub(crate) flaw: Flaw,
    /// Its stream (HTTP/2), how much of its body was said, and whether all was.
    pub(crate) stream: u32,
    pub(crate) said: usize,
    pub(crate) ended: bool,
    /// Where in what its caller says it begins, its head ends, it ends, and it is taken back.
    pub(crate) start: usize,
    pub(crate) head_end: usize,
    pub(crate) end: Option<usize>,
    pub(crate) back: Option<usize>,
    /// Where parts of its body end in that (HTTP/2).
    pub(crate) pieces: Vec<usize>,
    /// When its first byte, its head and its last byte were read.
    pub(crate) began: Option<Tick>,
    pub(crate) headed: Option<Tick>,
    pub(crate) whole: Option<Tick>,
    /// When bytes of it last came to the engine or its caller, and when before that; and when they last came to the engine.
    pub(crate) moved: [Tick; 2],
    pub(crate) came: Tick,
    /// The longest in which nothing of it came.
    pub(crate) longest: Duration,
    pub(crate) attempts: Vec<Attempt>,
    /// Those of which the engine was given a head of an answer, in that order; and whose answer its caller got.
    pub(crate) answers: Vec<usize>,
    pub(crate) got: Option<usize>,
    pub(crate) outcome: Option<Outcome>,
}

impl Call {
    pub(crate) fn draw(id: usize, caller: u32, h1: bool, shape: &Shape, rng: &mut Rng) -> Self {
        let mut flaw = if rng.chance(shape.flaw_percent) { rng.pick(&Flaw::ALL) } else { Flaw::None };
        if h1 && flaw == Flaw::Window {
            flaw = Flaw::Body;
        }
        let route = (!rng.chance(4)).then(|| rng.below(ROUTES));
        let right = flaw == Flaw::None;
        let grpc = right && !h1 && rng.chance(40);
        let old = right && h1 && rng.chance(10);
        let mut method = rng.pick(&["GET", "POST", "POST", "POST", "PUT", "HEAD", "DELETE"]);
        let len = if rng.chance(40) { rng.below(shape.body_max) } else { rng.below(300) };
        let mut told = match (method, rng.below(4)) {
            ("GET" | "HEAD", _) | (_, 0) => None,
            (_, 1 | 2) => Some(Told::Length),
            _ if old => Some(Told::Length),
            _ => Some(Told::End),
        };
        if grpc {
            (method, told) = ("POST", Some(Told::End));
        }
        match flaw {
            Flaw::None => {}
            Flaw::Body => (method, told) = ("POST", Some(if h1 { Told::End } else { Told::Length })),
            Flaw::Window => (method, told) = ("POST", Some(Told::End)),
            _ => told = None,
        }
        if flaw == Flaw::Method {
            method = "TRACE";
        }
        let time = (grpc && !shape.calm && rng.chance(20)).then(|| rng.pick(&[5, 80, 700, 5_000]));
        Self {
            id,
            caller,
            h1,
            route,
            method,
            grpc,
            time: time.map(Duration::from_millis),
            old,
            keep: !h1 || !rng.chance(if old { 50 } else { 8 }),
            told,
            len: if told.is_some() { len } else { 0 },
            trailer: right && told == Some(Told::End) && !grpc && rng.chance(30),
            expects: right && !old && told.is_some() && len > 0 && rng.chance(15),
            flaw,
            stream: 0,
            said: 0,
            ended: false,
            start: 0,
            head_end: 0,
            end: None,
            back: None,
            pieces: Vec::new(),
            began: None,
            headed: None,
            whole: None,
            moved: [Tick::ZERO; 2],
            came: Tick::ZERO,
            longest: Duration::ZERO,
            attempts: Vec::new(),
            answers: Vec::new(),
            got: None,
            outcome: None,
        }
    }

    /// Its target, which says what it is.
    pub(crate) fn target(&self) -> String {
        match self.route {
            Some(route) => format!("/r{route}/{}", self.id),
            None => format!("/none/{}", self.id),
        }
    }

    /// The call that a target is of.
    pub(crate) fn named_by(target: &str) -> usize {
        let id = target.rsplit('/').next().and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("an endpoint is sent what no caller said: {target:?}"))
    }

    /// Whether the engine may think that it came whole: where its length is told, nobody waits to be told of its end as well.
    pub(crate) fn may_be_whole(&self) -> bool {
        self.whole.is_some() || (!self.h1 && self.told == Some(Told::Length))
    }

    /// Bytes of it move.
    pub(crate) fn moves(&mut self, now: Tick) {
        if now > self.moved[0] {
            self.moved = [now, self.moved[0]];
        }
    }

    /// Bytes of it come to the engine.
    pub(crate) fn comes(&mut self, now: Tick) {
        self.moves(now);
        if self.came != Tick::ZERO {
            self.longest = self.longest.max(now.since(self.came));
        }
        self.came = now;
    }

    /// Whether it goes to one endpoint only, whatever that says: it is too long to be kept, or has trailers.
    pub(crate) fn is_sent_once(&self) -> bool {
        self.trailer || self.len > 64 << 10
    }

    /// Whether its answer was whole for its caller by its length, before its endpoint had ended it.
    pub(crate) fn told_early(&self) -> bool {
        self.carrier().is_some_and(|attempt| {
            // Or before the engine had read that.
            let unended = |reply: &Reply| reply.end.is_none() || !reply.complete || attempt.failed;
            attempt.reply.as_ref().is_some_and(|reply| reply.told == Told::Length && unended(reply))
        })
    }

    /// The attempt whose answer is the call's, where there is no doubt.
    pub(crate) fn prevails(&self) -> Option<usize> {
        let first = self.answers.first().copied();
        self.got.or(first.filter(|at| !self.attempts[*at].doubtful))
    }

    /// That, otherwise the last.
    pub(crate) fn carrier(&self) -> Option<&Attempt> {
        self.prevails().map_or(self.attempts.last(), |at| self.attempts.get(at))
    }

    /// Whether an attempt answered it that was made beside another, which did not fail.
    pub(crate) fn won_beside(&self) -> bool {
        let others = |at: usize| self.attempts.iter().enumerate().filter(move |(other, _)| *other != at);
        let first = |at: usize, attempt: &Attempt| attempt.given[1] < self.attempts[at].given[0];
        self.got.is_some_and(|at| others(at).any(|(_, it)| !it.failed && !it.doubtful && first(at, it)))
    }

    /// The engine is given a whole head of an answer of this attempt.
    pub(crate) fn hears(&mut self, at: usize, per_try: Option<Duration>, now: Tick) {
        let attempt = &mut self.attempts[at];
        let left = attempt.dropped && per_try.is_some();
        if !attempt.heard && !left {
            (attempt.heard, attempt.heard_at) = (true, now);
            attempt.doubtful = attempt.is_slow(per_try, now);
            self.answers.push(at);
        }
    }

    /// Whether anything went wrong at its endpoint: the one whose answer it has, otherwise at all that may still answer.
    pub(crate) fn failed(&self) -> bool {
        match self.prevails() {
            Some(at) => self.attempts[at].failed,
            None => {
                let left = |attempt: &Attempt| attempt.failed || attempt.dropped || attempt.doubtful;
                self.attempts.iter().any(|attempt| attempt.failed) && self.attempts.iter().all(left)
            }
        }
    }

    /// Whether bytes at this place of what its caller says were read already.
    pub(crate) fn taken_back(&self, sent: usize) -> bool {
        self.back.is_some_and(|at| at <= sent)
    }

    /// The headers of its request that are no pseudo-headers, and its trailers.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("x-id", self.id.to_string())];
        if self.told == Some(Told::Length) {
            let other = if self.flaw == Flaw::Body { self.len + 1 } else { self.len };
            fields.push(("content-length", other.to_string()));
        }
        if self.grpc {
            fields.push(("content-type", "application/grpc".to_owned()));
            fields.push(("te", "trailers".to_owned()));
        }
        if let Some(time) = self.time {
            fields.push(("grpc-timeout", format!("{}m", time.as_millis())));
        }
        if self.expects {
            fields.push(("expect", "100-continue".to_owned()));
        }
        fields
    }

    /// What stands in the trailers of its messages.
    pub(crate) fn trailers(&self, of_answer: bool) -> Vec<(&'static str, String)> {
        let mut trailers = vec![("x-end", self.id.to_string())];
        if self.grpc && of_answer {
            trailers.push(("grpc-status", "0".to_owned()));
        }
        trailers
    }
}
