//! A link of one of two protocols. What one of them says passes here unseen.

use outrigger_codec::{
    Code, Head, Link, Message, Policy, ReplyKind, Step, Tag,
    streams::{LinkSettings, StreamId},
};

/// A link of one of two protocols.
#[derive(Debug)]
pub(super) enum Wire<A, B> {
    /// The engine's own.
    Own(A),
    /// The one it translates.
    Other(B),
}

impl<A, B> Wire<A, B> {
    /// A small number of its kind.
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Own(_) => 0,
            Self::Other(_) => 1,
        }
    }
}

/// Asks whichever it is.
macro_rules! either {
    ($self:ident, $link:ident => $ask:expr) => {
        match $self {
            Self::Own($link) => $ask,
            Self::Other($link) => $ask,
        }
    };
}

impl<A: Link, B: Link> Link for Wire<A, B> {
    fn greet(&mut self, out: &mut Vec<u8>) {
        either!(self, link => link.greet(out));
    }

    fn receive(&mut self, bytes: &[u8], policy: &Policy, message: &mut Message, out: &mut Vec<u8>) -> Step {
        either!(self, link => link.receive(bytes, policy, message, out))
    }

    fn ended(&mut self) -> Option<Tag> {
        either!(self, link => link.ended())
    }

    fn room(&self) -> usize {
        either!(self, link => link.room())
    }

    fn is_spent(&self) -> bool {
        either!(self, link => link.is_spent())
    }

    fn streams(&self) -> usize {
        either!(self, link => link.streams())
    }

    fn open(&mut self, tag: Tag) -> StreamId {
        either!(self, link => link.open(tag))
    }

    fn adopt(&mut self, stream: StreamId, tag: Tag) {
        either!(self, link => link.adopt(stream, tag));
    }

    fn disown(&mut self, stream: StreamId) {
        either!(self, link => link.disown(stream));
    }

    fn request(&mut self, stream: StreamId, head: Head<'_>, end: bool, authority: &str, out: &mut Vec<u8>) {
        either!(self, link => link.request(stream, head, end, authority, out));
    }

    fn answer(&mut self, stream: StreamId, head: Head<'_>, kind: ReplyKind, end: bool, out: &mut Vec<u8>) {
        either!(self, link => link.answer(stream, head, kind, end, out));
    }

    fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize {
        either!(self, link => link.data(stream, bytes, end, out))
    }

    fn fits(&self, stream: StreamId, len: usize) -> bool {
        either!(self, link => link.fits(stream, len))
    }

    fn is_full(&self) -> bool {
        either!(self, link => link.is_full())
    }

    fn trailers(&mut self, stream: StreamId, head: Head<'_>, out: &mut Vec<u8>) {
        either!(self, link => link.trailers(stream, head, out));
    }

    fn reset(&mut self, stream: StreamId, code: Code, out: &mut Vec<u8>) {
        either!(self, link => link.reset(stream, code, out));
    }

    fn release(&mut self, stream: StreamId, len: usize, freely: bool, out: &mut Vec<u8>) {
        either!(self, link => link.release(stream, len, freely, out));
    }

    fn retire(&mut self, last: bool, out: &mut Vec<u8>) {
        either!(self, link => link.retire(last, out));
    }

    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        either!(self, link => link.ask(out))
    }

    fn unprocessed(&mut self, into: &mut Vec<Tag>) {
        either!(self, link => link.unprocessed(into));
    }

    fn farewell(&mut self, code: Code, rest: &[u8], out: &mut Vec<u8>) {
        either!(self, link => link.farewell(code, rest, out));
    }

    fn is_severed(&self) -> bool {
        either!(self, link => link.is_severed())
    }

    fn is_midway(&self, rest: &[u8]) -> bool {
        either!(self, link => link.is_midway(rest))
    }

    fn has_windows(&self) -> bool {
        either!(self, link => link.has_windows())
    }

    fn version(&self) -> &'static str {
        either!(self, link => link.version())
    }

    fn second(&mut self) {
        either!(self, link => link.second());
    }

    fn held(&self) -> usize {
        either!(self, link => link.held())
    }

    fn renew(&mut self, settings: &LinkSettings) {
        either!(self, link => link.renew(settings));
    }
}
