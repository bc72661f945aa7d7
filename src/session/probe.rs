//! One question to an endpoint, whether it is well, over a connection of its own.
//!
//! *Frames* have a keep-alive question; [`Beat`] asks it and judges the answer. Over *streams* and exchanges an endpoint is
//! called; [`Ask`] makes the call over a [`Link`] and lets the question judge the whole answer. Sans-io as the engines are.
//! It must never hold more of an answer than [`BODY_MAX`], nor take for an answer what was not asked for.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use outrigger_codec::{
    Code, Event, FrameCodec, FrameKind, Link, Message, Outcome, Policy, ReplyKind, Scan, Slot, Tag,
    streams::StreamId,
};

/// Whether an endpoint is well; otherwise why not, in words for people.
pub type Verdict = Result<(), String>;

/// Bytes of an answer's body that are kept; of what is longer the beginning must do.
pub const BODY_MAX: usize = 16 << 10;
/// The longest frame of an answer.
const FRAME_MAX: usize = 64 << 10;

/// A connection on which one question is asked.
pub trait Talk: Send {
    /// Appends the question.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// Takes what it understands out of the bytes that came; what they say in the end.
    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Verdict>;

    /// Nothing more comes.
    fn ended(&mut self) -> Verdict;

    /// Appends a goodbye, where there is one.
    fn leave(&mut self, out: &mut Vec<u8>);
}

/// What is asked, and which answer is a good one.
pub struct Question {
    /// The head of the request.
    pub head: Message,
    /// Its body.
    pub body: Vec<u8>,
    /// Judges the answer.
    pub judge: fn(&Self, &Answer) -> Verdict,
    /// The statuses of a good answer.
    pub statuses: Vec<u16>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Question").field("body", &self.body).finish_non_exhaustive()
    }
}

/// What was answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// The head.
    pub head: Message,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Message,
}

impl Answer {
    /// The status; `None`: there is none that is a number.
    pub fn status(&self) -> Option<u16> {
        let text = self.head.head().slot(Slot::Target)?.get(..3)?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

const CUT_OFF: &str = "the connection ended before the answer";

// === frames =========================================================================================================

/// The heartbeat of a protocol of frames.
#[derive(Debug)]
pub struct Beat<C>(PhantomData<fn() -> C>);

/// The question's id; there is no other question on its connection.
const ID: u64 = 1;

impl<C: FrameCodec> Beat<C> {
    /// A question that was not asked yet.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<C: FrameCodec> Default for Beat<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: FrameCodec> Talk for Beat<C> {
    fn begin(&mut self, out: &mut Vec<u8>) {
        C::heartbeat(0, ID, out);
    }

    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Verdict> {
        while !read.is_empty() {
            let framed = match C::scan(read, FRAME_MAX) {
                Scan::Partial { .. } => return None,
                Scan::TooLarge(_) => return Some(Err("a frame too large for a heartbeat's answer".into())),
                Scan::Broken(why) => return Some(Err(format!("no frame of {}: {}", C::NAME, why.0))),
                Scan::Frame(framed) => framed,
            };
            let frame = read.split_to(framed.len.min(read.len()));
            match framed.kind {
                FrameKind::HeartbeatAck if framed.id == ID => {
                    let status = C::reply_status(&frame);
                    let well = C::outcome(&frame) == Outcome::Ok;
                    return Some(if well {
                        Ok(())
                    } else {
                        Err(format!("its heartbeat says status {status}"))
                    });
                }
                FrameKind::Retire => return Some(Err("it says that it takes no new calls".into())),
                FrameKind::Heartbeat => C::heartbeat_ack(&frame, out),
                // Nobody was called here: whatever else it says is no answer.
                _ => {}
            }
        }
        None
    }

    fn ended(&mut self) -> Verdict {
        Err(CUT_OFF.into())
    }

    fn leave(&mut self, _: &mut Vec<u8>) {}
}

// === calls ==========================================================================================================

/// A call over a link.
#[derive(Debug)]
pub struct Ask<L> {
    link: L,
    question: Question,
    stream: StreamId,
    sent: usize,
    answer: Answer,
    message: Message,
    policy: Policy,
}

const TAG: Tag = Tag(1);

impl<L: Link> Ask<L> {
    /// A question that was not asked yet, on a fresh connection.
    pub fn new(link: L, question: Question) -> Self {
        Self {
            link,
            question,
            stream: 0,
            sent: 0,
            answer: Answer::default(),
            message: Message::default(),
            policy: Policy::default(),
        }
    }

    fn send(&mut self, out: &mut Vec<u8>) {
        let rest = self.question.body.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent += self.link.data(self.stream, rest, true, out);
        }
    }

    fn judge(&self) -> Verdict {
        (self.question.judge)(&self.question, &self.answer)
    }

    /// What an event says in the end.
    fn note(&mut self, event: Event, bytes: &[u8], out: &mut Vec<u8>) -> Option<Verdict> {
        match event {
            Event::Answer { kind: ReplyKind::Interim, .. } => None,
            Event::Answer { end, .. } => {
                self.answer.head.copy(&self.message);
                end.then(|| self.judge())
            }
            Event::Data { at, len, end, .. } => {
                let bytes = bytes.get(at..at.saturating_add(len)).unwrap_or_default();
                let room = BODY_MAX.saturating_sub(self.answer.body.len());
                self.answer.body.extend_from_slice(bytes.get(..room.min(len)).unwrap_or_default());
                self.link.release(self.stream, len, true, out);
                (end || len > room).then(|| self.judge())
            }
            Event::Trailers { .. } => {
                self.answer.trailers.copy(&self.message);
                Some(self.judge())
            }
            Event::Reset { code, .. } => Some(Err(format!("the call was ended with code {}", code.0))),
            Event::Broken { why } => Some(Err(format!("no answer: {why}"))),
            Event::Retired => {
                let mut unprocessed = Vec::new();
                self.link.unprocessed(&mut unprocessed);
                unprocessed.contains(&TAG).then(|| Err("it says that it takes no new calls".into()))
            }
            Event::Room { .. } | Event::Widened => {
                self.send(out);
                None
            }
            _ => None,
        }
    }
}

impl<L: Link + Send> Talk for Ask<L> {
    fn begin(&mut self, out: &mut Vec<u8>) {
        self.link.greet(out);
        self.stream = self.link.open(TAG);
        let end = self.question.body.is_empty();
        self.link.request(self.stream, self.question.head.head(), end, "", out);
        self.send(out);
    }

    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Verdict> {
        while !read.is_empty() {
            let step = self.link.receive(read, &self.policy, &mut self.message, out);
            if matches!(step.event, Event::Partial { .. } | Event::Wait) {
                return None;
            }
            let verdict = self.note(step.event, read, out);
            read.advance(step.used.min(read.len()));
            if verdict.is_some() {
                return verdict;
            }
        }
        None
    }

    fn ended(&mut self) -> Verdict {
        // A body may end with its connection.
        if self.link.ended() == Some(TAG) { self.judge() } else { Err(CUT_OFF.into()) }
    }

    fn leave(&mut self, out: &mut Vec<u8>) {
        self.link.farewell(Code::NO_ERROR, &[], out);
    }
}
