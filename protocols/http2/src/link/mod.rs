//! One HTTP/2 connection, either side of it: streams, windows, compression, settings.
//!
//! Source: RFC 9113. [`receive`] takes frames in, [`send`] puts them out; what both know stands here. It must never hold
//! more of a peer than its bounds say: a partial head, the compression tables, a fixed number of ended streams.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use outrigger_codec::{
    Code, Head, Link, Message, Policy, ReplyKind, Step, Tag,
    streams::{LinkSettings, StreamId},
};

use crate::{
    budget::Budget,
    frame::{PAYLOAD_MAX, kind},
    gate::List,
    hpack::{Decoder, Encoder},
};

mod receive;
mod send;

/// Windows and frames before anybody said otherwise (RFC 9113 §6.5.2, §6.9.2).
const WINDOW_DEFAULT: u32 = 65_535;
/// The largest window.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// What a whole connection may send ahead. Given back at once: a stream that nobody takes from must not stop the others,
/// and what all of them hold is bounded by their own windows.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The largest window of one stream that keeps up.
const STREAM_WINDOW_MAX: u32 = 1 << 20;
/// What all streams of a connection may have beyond their first windows.
const GROWTH_MAX: u32 = 4 << 20;
/// Streams that are opened before the peer said how many it takes.
const STREAMS_ASSUMED: u32 = 100;
/// The last number of a stream that is opened; the rest is left for what is under way.
const STREAM_LAST: u32 = 0x7fff_ff00;
/// Streams that we ended a moment ago and of which frames may still come.
const ENDED_MAX: usize = 1024;
/// Runs of numbers that a peer passed over.
const SKIPPED_MAX: usize = 8;
/// Questions of ours, told from others' answers.
const QUESTION: [u8; 8] = *b"outrigge";

/// How far one direction of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A head is to come.
    Head,
    /// Bytes or trailers are to come.
    Body,
    /// Nothing is to come.
    Done,
}

/// A stream that has not ended.
#[derive(Debug)]
struct Stream {
    tag: Tag,
    /// The engine knows it.
    adopted: bool,
    receiving: Way,
    sending: Way,
    /// What we may send; below 0 after the peer made its windows smaller.
    send_window: i64,
    /// What the peer may send.
    receive_window: i64,
    /// Its whole window now.
    window: u32,
    /// Bytes taken, and not yet said to the peer.
    unsaid: u32,
    /// Bytes taken freely since the window last grew.
    kept_up: u32,
    /// Bytes of the body still to come, where they were told.
    length: Option<u64>,
    /// Its answer has no body.
    bodiless: bool,
}

/// A head of which more is to come.
#[derive(Debug)]
struct Block {
    stream: StreamId,
    end: bool,
    bytes: Vec<u8>,
    frames: u32,
    /// The stream depends on itself.
    circular: bool,
}

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Link {
    server: bool,
    settings: LinkSettings,
    /// Bytes of the preface that came.
    prefaced: usize,
    /// The peer's first SETTINGS came.
    settled: bool,
    /// Nothing is read any more.
    broken: bool,
    decoder: Decoder,
    encoder: Encoder,
    /// Where a block is written before its length is known.
    block_out: Vec<u8>,
    block: Option<Box<Block>>,
    streams: HashMap<StreamId, Stream, RandomState>,
    /// Ended by us while the peer may not know it yet; the newest last.
    ended: VecDeque<StreamId>,
    /// How many of them ended before the last second began.
    ended_before: usize,
    /// First and last of numbers that were never a stream's, and cannot be any more.
    skipped: VecDeque<(StreamId, StreamId)>,
    /// The last stream that the peer opened (server) or that we opened (client).
    last: StreamId,
    /// What we may send on all streams.
    send_window: i64,
    /// What the peer may send on all streams.
    receive_window: i64,
    /// Bytes received and not yet given back.
    unsaid: u32,
    /// What streams have beyond their first windows.
    grown: u32,
    /// The peer's wishes.
    peer_window: u32,
    peer_frame_max: usize,
    peer_streams: u32,
    /// The peer takes no streams any more, and none above this.
    peer_last: Option<StreamId>,
    /// We said that we take none any more; `Some(last)`: for good.
    retired: bool,
    retired_at: Option<StreamId>,
    budget: Budget,
}

impl Http2Link {
    /// A connection; `server`: its peer is a caller.
    pub fn new(server: bool, settings: &LinkSettings) -> Self {
        Self {
            server,
            settings: *settings,
            prefaced: 0,
            settled: false,
            broken: false,
            decoder: Decoder::new(4096),
            encoder: Encoder::new(),
            block_out: Vec::new(),
            block: None,
            streams: HashMap::with_hasher(RandomState::default()),
            ended: VecDeque::new(),
            ended_before: 0,
            skipped: VecDeque::new(),
            last: 0,
            send_window: i64::from(WINDOW_DEFAULT),
            receive_window: i64::from(CONNECTION_WINDOW),
            unsaid: 0,
            grown: 0,
            peer_window: WINDOW_DEFAULT,
            peer_frame_max: PAYLOAD_MAX,
            peer_streams: STREAMS_ASSUMED,
            peer_last: None,
            retired: false,
            retired_at: None,
            budget: Budget::default(),
        }
    }

    fn stream(&self, tag: Tag, receiving: Way) -> Stream {
        Stream {
            tag,
            adopted: !self.server,
            receiving,
            sending: Way::Head,
            send_window: i64::from(self.peer_window),
            receive_window: i64::from(self.settings.window),
            window: self.settings.window,
            unsaid: 0,
            kept_up: 0,
            length: None,
            bodiless: false,
        }
    }

    /// Whether a number was never a stream's.
    fn is_idle(&self, stream: StreamId) -> bool {
        let theirs = stream % 2 == 1;
        // No server opens streams here.
        !theirs || (stream > self.last && !self.is_too_late(stream))
    }

    /// Whether a number is that of a stream that was opened behind our goodbye: nothing of it is taken (RFC 9113 §6.8).
    fn is_too_late(&self, stream: StreamId) -> bool {
        stream % 2 == 1 && self.retired_at.is_some_and(|last| self.server && stream > last)
    }

    /// Notes which numbers are passed over when a stream of this one is opened.
    fn skip_to(&mut self, stream: StreamId) {
        let next = if self.last == 0 { 1 } else { self.last.saturating_add(2) };
        if stream > next {
            if self.skipped.len() >= SKIPPED_MAX {
                self.skipped.pop_front();
            }
            self.skipped.push_back((next, stream.saturating_sub(2)));
        }
    }

    /// Whether a number was passed over.
    fn was_skipped(&self, stream: StreamId) -> bool {
        self.skipped.iter().any(|(first, last)| (*first..=*last).contains(&stream))
    }

    /// Forgets a stream.
    fn forget(&mut self, stream: StreamId) -> Option<Stream> {
        let gone = self.streams.remove(&stream)?;
        self.grown = self.grown.saturating_sub(gone.window.saturating_sub(self.settings.window));
        Some(gone)
    }

    /// Forgets a stream of which frames may still come.
    fn end_early(&mut self, stream: StreamId) -> Option<Stream> {
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
            self.ended_before = self.ended_before.saturating_sub(1);
        }
        self.ended.push_back(stream);
        self.forget(stream)
    }

    /// Whose lines a head on this stream is made of.
    fn list(&self, stream: StreamId) -> List {
        match self.streams.get(&stream) {
            Some(known) if known.receiving == Way::Body => List::Trailers,
            _ if self.server => List::Request,
            _ => List::Answer,
        }
    }
}

impl Link for Http2Link {
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.say_hello(out);
    }

    fn receive(&mut self, bytes: &[u8], policy: &Policy, message: &mut Message, out: &mut Vec<u8>) -> Step {
        self.take(bytes, policy, message, out)
    }

    fn ended(&mut self) -> Option<Tag> {
        None
    }

    fn room(&self) -> usize {
        if self.is_spent() {
            return 0;
        }
        (self.peer_streams as usize).saturating_sub(self.streams.len())
    }

    fn is_spent(&self) -> bool {
        self.broken || self.peer_last.is_some() || (!self.server && self.last >= STREAM_LAST)
    }

    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn open(&mut self, tag: Tag) -> StreamId {
        self.last = if self.last == 0 { 1 } else { self.last.saturating_add(2) };
        let stream = self.stream(tag, Way::Head);
        self.streams.insert(self.last, stream);
        self.last
    }

    fn adopt(&mut self, stream: StreamId, tag: Tag) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.tag = tag;
            stream.adopted = true;
        }
    }

    fn disown(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.adopted = false;
        }
    }

    fn request(&mut self, stream: StreamId, head: Head<'_>, end: bool, authority: &str, out: &mut Vec<u8>) {
        self.send_request(stream, head, end, authority, out);
    }

    fn answer(&mut self, stream: StreamId, head: Head<'_>, kind: ReplyKind, end: bool, out: &mut Vec<u8>) {
        self.send_answer(stream, head, kind, end, out);
    }

    fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize {
        self.send_data(stream, bytes, end, out)
    }

    fn fits(&self, stream: StreamId, len: usize) -> bool {
        let window = self.streams.get(&stream).map_or(0, |stream| stream.send_window);
        window.min(self.send_window) >= len as i64
    }

    fn is_full(&self) -> bool {
        self.send_window <= 0
    }

    fn trailers(&mut self, stream: StreamId, head: Head<'_>, out: &mut Vec<u8>) {
        self.send_trailers(stream, head, out);
    }

    fn reset(&mut self, stream: StreamId, code: Code, out: &mut Vec<u8>) {
        if self.streams.contains_key(&stream) {
            self.send_reset(stream, code, out);
        }
    }

    fn release(&mut self, stream: StreamId, len: usize, freely: bool, out: &mut Vec<u8>) {
        self.give_back(stream, len, freely, out);
    }

    fn retire(&mut self, last: bool, out: &mut Vec<u8>) {
        self.say_goodbye(last, out);
    }

    fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        send::ping(QUESTION, false, out);
        true
    }

    fn unprocessed(&mut self, into: &mut Vec<Tag>) {
        let Some(last) = self.peer_last else { return };
        let above: Vec<StreamId> = self.streams.keys().copied().filter(|stream| *stream > last).collect();
        for stream in above {
            into.extend(self.forget(stream).map(|gone| gone.tag));
        }
    }

    fn farewell(&mut self, code: Code, _: &[u8], out: &mut Vec<u8>) {
        if !self.broken {
            self.break_off(code, out);
        }
    }

    fn is_severed(&self) -> bool {
        false
    }

    fn is_midway(&self, rest: &[u8]) -> bool {
        let head = matches!(rest.get(3), Some(&(kind::HEADERS | kind::CONTINUATION)));
        head || self.block.is_some() || !self.settled
    }

    fn has_windows(&self) -> bool {
        true
    }

    fn version(&self) -> &'static str {
        "2"
    }

    fn second(&mut self) {
        self.budget.second();
        self.ended.drain(..self.ended_before.min(self.ended.len()));
        self.ended_before = self.ended.len();
        if self.ended.is_empty() {
            self.ended = VecDeque::new();
        }
    }

    fn held(&self) -> usize {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.capacity());
        self.block_out.capacity().saturating_add(block)
    }

    fn renew(&mut self, settings: &LinkSettings) {
        // Windows that were announced stay: to change them would need the peer's consent.
        self.settings.limits = settings.limits;
    }
}
