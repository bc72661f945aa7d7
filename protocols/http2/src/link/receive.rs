//! What is taken in: one frame at a time, each judged by the state of its stream and of the connection.
//!
//! Source: RFC 9113 §4.2, §5.1, §5.4, §6. What breaks the rules ends its stream or the connection, as the section says that
//! names the rule; whatever a peer does is paid from its budget.

use outrigger_codec::{
    Code, Event, Fault, Message, Policy, ReplyKind, Slot, Step, exchange::Limits, streams::StreamId,
};

use super::{Block, CONNECTION_WINDOW, Http2Link, QUESTION, WINDOW_MAX, Way, send};
use crate::{
    frame::{self, HEADER, Header, PAYLOAD_MAX, PREFACE, code, flag, kind, number_at, setting},
    gate::{self, Barred, Said, classify},
    hpack::{Decoded, ListLimits},
};

/// CONTINUATION frames of one head.
const CONTINUATIONS_MAX: u32 = 16;
/// Bodies of so few bytes, without an end, are noise: no message of any protocol is that short.
const TINY: usize = 5;
/// Pseudo-headers that come with the headers.
const PSEUDO_MAX: usize = 5;

/// What becomes of a frame.
type Verdict = Result<Event, Wrong>;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// The connection ends.
    Connection(Code, &'static str),
    /// Its stream ends.
    Stream(Code),
}

const fn broken(code: Code, why: &'static str) -> Verdict {
    Err(Wrong::Connection(code, why))
}

impl Http2Link {
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.broken {
            return Step { used: bytes.len(), event: Event::Nothing };
        }
        if self.server && self.prefaced < PREFACE.len() {
            return self.preface(bytes, out);
        }
        let Some(header) = Header::read(bytes) else {
            return Step { used: 0, event: Event::Partial { total: HEADER } };
        };
        if let Err(Wrong::Connection(code, why)) = self.may_come(header) {
            return self.breaks(bytes, code, why, out);
        }
        let total = HEADER.saturating_add(header.len);
        let Some(payload) = bytes.get(HEADER..total) else {
            return Step { used: 0, event: Event::Partial { total } };
        };
        match self.frame(header, payload, policy, message, out) {
            Ok(event) => Step { used: total, event },
            Err(Wrong::Connection(code, why)) => self.breaks(bytes, code, why, out),
            Err(Wrong::Stream(code)) => self.stream_error(header.stream, code, total, bytes, out),
        }
    }

    fn breaks(&mut self, bytes: &[u8], code: Code, why: &'static str, out: &mut Vec<u8>) -> Step {
        self.break_off(code, out);
        Step { used: bytes.len(), event: Event::Broken { why } }
    }

    fn preface(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Step {
        let due = PREFACE.get(self.prefaced..).unwrap_or_default();
        let len = due.len().min(bytes.len());
        if bytes.get(..len) != due.get(..len) {
            return self.breaks(bytes, Code::PROTOCOL, "the connection preface", out);
        }
        self.prefaced = self.prefaced.saturating_add(len);
        Step { used: len, event: Event::Nothing }
    }

    /// Whether a frame may come now, by its header alone.
    fn may_come(&self, header: Header) -> Verdict {
        if header.len > PAYLOAD_MAX {
            return broken(code::FRAME_SIZE, "a frame longer than was allowed");
        }
        match &self.block {
            Some(block) if header.kind != kind::CONTINUATION || header.stream != block.stream => {
                return broken(Code::PROTOCOL, "a frame in the middle of a head");
            }
            None if header.kind == kind::CONTINUATION => {
                return broken(Code::PROTOCOL, "CONTINUATION without a beginning");
            }
            _ => {}
        }
        if !self.settled && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return broken(Code::PROTOCOL, "the first frame is not SETTINGS");
        }
        Ok(Event::Nothing)
    }

    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Verdict {
        match header.kind {
            kind::DATA => self.body(header, payload, out),
            kind::HEADERS => self.headers(header, payload, policy, message, out),
            kind::CONTINUATION => self.continuation(header, payload, policy, message, out),
            kind::PRIORITY => self.priority(header, payload),
            kind::RST_STREAM => self.rst_stream(header, payload),
            kind::SETTINGS => self.settings_frame(header, payload, out),
            kind::PUSH_PROMISE => broken(Code::PROTOCOL, "PUSH_PROMISE"),
            kind::PING => self.ping(header, payload, out),
            kind::GOAWAY => self.goaway(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            _ => self.noise(),
        }
    }

    fn noise(&mut self) -> Verdict {
        if self.budget.noise() {
            Ok(Event::Nothing)
        } else {
            broken(Code::CALM, "a flood of frames that move nothing")
        }
    }

    /// The stream of a frame broke the rules: it ends.
    fn stream_error(
        &mut self,
        id: StreamId,
        code: Code,
        used: usize,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        if !self.budget.fault() {
            return self.breaks(bytes, Code::CALM, "too many streams that broke the protocol", out);
        }
        if self.is_too_late(id) {
            // Nothing of it was taken, and it may never have been opened.
            return Step { used, event: Event::Nothing };
        }
        let gone = self.end_early(id);
        frame::number(kind::RST_STREAM, id, code.0, out);
        let event = match gone {
            Some(gone) if gone.adopted => Event::Reset { tag: gone.tag, code, ours: true },
            _ => Event::Nothing,
        };
        Step { used, event }
    }

    fn body(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Verdict {
        let id = header.stream;
        if id == 0 || self.is_idle(id) {
            return broken(Code::PROTOCOL, "DATA on a stream that is none");
        }
        let whole = payload.len();
        self.receive_window = self.receive_window.saturating_sub(whole as i64);
        if self.receive_window < 0 {
            return broken(code::FLOW_CONTROL, "the connection's window was overdrawn");
        }
        self.unsaid = self.unsaid.saturating_add(whole as u32);
        if self.unsaid >= CONNECTION_WINDOW / 2 {
            self.receive_window = self.receive_window.saturating_add(i64::from(self.unsaid));
            frame::number(kind::WINDOW_UPDATE, 0, self.unsaid, out);
            self.unsaid = 0;
        }
        let Some((at, len)) = frame::unpadded(header, payload) else {
            return broken(Code::PROTOCOL, "more padding than payload");
        };
        let end = header.has(flag::END_STREAM);
        let Some(stream) = self.streams.get_mut(&id) else { return self.after_the_end(id, false) };
        match stream.receiving {
            Way::Head => return Err(Wrong::Stream(Code::PROTOCOL)),
            Way::Done => return Err(Wrong::Stream(code::STREAM_CLOSED)),
            Way::Body => {}
        }
        stream.receive_window = stream.receive_window.saturating_sub(whole as i64);
        if stream.receive_window < 0 {
            return Err(Wrong::Stream(code::FLOW_CONTROL));
        }
        if let Some(left) = stream.length {
            let left = left.checked_sub(len as u64).filter(|left| !end || *left == 0);
            let Some(left) = left else { return Err(Wrong::Stream(Code::PROTOCOL)) };
            stream.length = Some(left);
        }
        if !self.server && stream.bodiless && len > 0 {
            return Err(Wrong::Stream(Code::PROTOCOL));
        }
        let (tag, adopted, sent) = (stream.tag, stream.adopted, stream.sending == Way::Done);
        if end {
            stream.receiving = Way::Done;
            self.budget.useful();
            if sent {
                self.forget(id);
            }
        } else {
            let padding = whole.saturating_sub(len);
            // Padding tells nothing of whether its stream keeps up.
            self.give_back(id, if adopted { padding } else { whole }, true, out);
            // An endpoint's connection carries many callers' calls: it does not end because one answer comes in small pieces.
            let tiny = len == 0 || (self.server && len < TINY);
            if tiny && !self.budget.noise() {
                return broken(Code::CALM, "a flood of DATA with next to nothing in it");
            }
        }
        if !adopted {
            return Ok(Event::Nothing);
        }
        Ok(Event::Data { tag, at: HEADER.saturating_add(at), len, end })
    }

    /// A frame of a stream that is not open, and is not idle. `head`: it began another message.
    fn after_the_end(&mut self, id: StreamId, head: bool) -> Verdict {
        if self.was_skipped(id) {
            return broken(Code::PROTOCOL, "a stream's number that was passed over");
        }
        if !self.server || self.ended.contains(&id) || self.is_too_late(id) {
            return self.noise();
        }
        if head {
            return broken(code::STREAM_CLOSED, "a head on a stream that has ended");
        }
        Err(Wrong::Stream(code::STREAM_CLOSED))
    }

    fn headers(
        &mut self,
        header: Header,
        payload: &[u8],
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let id = header.stream;
        if id.is_multiple_of(2) || (!self.server && self.is_idle(id)) {
            return broken(Code::PROTOCOL, "HEADERS on a stream that is none");
        }
        let Some((at, len)) = frame::unpadded(header, payload) else {
            return broken(Code::PROTOCOL, "more padding than payload");
        };
        let mut fragment = payload.get(at..at.saturating_add(len)).unwrap_or_default();
        let mut circular = false;
        if header.has(flag::PRIORITY) {
            let Some((priority, rest)) = fragment.split_at_checked(5) else {
                return broken(code::FRAME_SIZE, "a priority cut short");
            };
            circular = number_at(priority, 0).is_some_and(|on| on & 0x7fff_ffff == id);
            fragment = rest;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.head((id, end, circular), fragment, policy, message, out);
        }
        let block = Block { stream: id, end, bytes: fragment.to_vec(), frames: 0, circular };
        self.block = Some(Box::new(block));
        Ok(Event::Nothing)
    }

    fn continuation(
        &mut self,
        header: Header,
        payload: &[u8],
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let Some(block) = &mut self.block else { return Ok(Event::Nothing) };
        block.frames = block.frames.saturating_add(1);
        let most = self.settings.limits.head_max.max(PAYLOAD_MAX);
        if block.frames > CONTINUATIONS_MAX || block.bytes.len().saturating_add(payload.len()) > most {
            return broken(Code::CALM, "a head that does not end");
        }
        block.bytes.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(Event::Nothing);
        }
        let Some(block) = self.block.take() else { return Ok(Event::Nothing) };
        self.head((block.stream, block.end, block.circular), &block.bytes, policy, message, out)
    }

    /// A whole head or trailers. They are decompressed whatever becomes of them: the table must stay true.
    fn head(
        &mut self,
        (id, end, circular): (StreamId, bool, bool),
        fragment: &[u8],
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let list = self.list(id);
        message.clear();
        let mut said = Said::new(list, policy);
        let Limits { head_max, headers_max, .. } = self.settings.limits;
        // What HTTP/2 adds to each line is no byte of a head.
        let lines = headers_max.saturating_add(PSEUDO_MAX);
        let limits = ListLimits { bytes: head_max.saturating_add(lines.saturating_mul(32)), lines };
        let (fields, sensitive) = (&mut message.index.fields, &mut message.index.sensitive);
        let decoded = self.decoder.decode(fragment, limits, classify, &mut message.bytes, |line| {
            said.line(line, fields, sensitive);
        });
        let Ok(decoded) = decoded else {
            return broken(code::COMPRESSION, "a head that cannot be decompressed");
        };
        // Lines that are few leave their part of the limit to nobody.
        let whole = decoded == Decoded::Whole && message.bytes.len() <= head_max;
        if self.server {
            self.head_of_caller((id, end, circular, whole), &said, policy, message, out)
        } else {
            self.head_of_endpoint((id, end, whole), &said, message)
        }
    }

    fn head_of_caller(
        &mut self,
        (id, end, circular, whole): (StreamId, bool, bool, bool),
        said: &Said,
        policy: &Policy,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Verdict {
        if !self.is_idle(id) {
            return self.second_head(id, end, whole, said);
        }
        self.skip_to(id);
        self.last = id;
        if circular {
            return Err(Wrong::Stream(Code::PROTOCOL));
        }
        if self.streams.len() >= self.settings.streams_max as usize {
            frame::number(kind::RST_STREAM, id, Code::REFUSED.0, out);
            return if self.budget.reset() {
                Ok(Event::Nothing)
            } else {
                broken(Code::CALM, "too many streams at once")
            };
        }
        let known = if whole {
            gate::request(said, end, policy, &self.settings.limits, message)
        } else {
            // Whether its answer may have a body is known nevertheless.
            message.index.set(Slot::Method, said.method());
            Err(Barred::Fault(Fault::HeadTooLarge))
        };
        let mut stream =
            self.stream(outrigger_codec::Tag::default(), if end { Way::Done } else { Way::Body });
        let event = match known {
            Ok(known) if end && known.length.is_some_and(|length| length > 0) => {
                return Err(Wrong::Stream(Code::PROTOCOL));
            }
            Ok(known) => {
                stream.length = known.length;
                self.budget.useful();
                Event::Request { stream: id, end, bodiless: known.bodiless }
            }
            Err(Barred::Malformed(_)) => return Err(Wrong::Stream(Code::PROTOCOL)),
            Err(Barred::Fault(fault)) => Event::Fault { stream: id, fault },
        };
        self.streams.insert(id, stream);
        Ok(event)
    }

    /// A head on a stream that has had one: trailers.
    fn second_head(&mut self, id: StreamId, end: bool, whole: bool, said: &Said) -> Verdict {
        let Some(stream) = self.streams.get_mut(&id) else { return self.after_the_end(id, true) };
        if stream.receiving == Way::Done {
            return Err(Wrong::Stream(code::STREAM_CLOSED));
        }
        if !end || !whole || stream.length.is_some_and(|left| left > 0) || gate::trailers(said).is_err() {
            return Err(Wrong::Stream(Code::PROTOCOL));
        }
        stream.receiving = Way::Done;
        let (tag, adopted) = (stream.tag, stream.adopted);
        if stream.sending == Way::Done {
            self.forget(id);
        }
        self.budget.useful();
        Ok(if adopted { Event::Trailers { tag } } else { Event::Nothing })
    }

    fn head_of_endpoint(
        &mut self,
        (id, end, whole): (StreamId, bool, bool),
        said: &Said,
        message: &mut Message,
    ) -> Verdict {
        let Some(stream) = self.streams.get_mut(&id) else { return self.after_the_end(id, true) };
        if stream.receiving != Way::Head {
            return self.second_head(id, end, whole, said);
        }
        let malformed = Err(Wrong::Stream(Code::PROTOCOL));
        if !whole {
            return malformed;
        }
        let Ok((what, known)) = gate::answer(said, message) else { return malformed };
        let tag = stream.tag;
        if what == ReplyKind::Interim {
            return if end { malformed } else { Ok(Event::Answer { tag, kind: what, end }) };
        }
        stream.bodiless |= known.bodiless;
        stream.length = known.length.filter(|_| !stream.bodiless);
        if end && stream.length.is_some_and(|length| length > 0) {
            return malformed;
        }
        stream.receiving = if end { Way::Done } else { Way::Body };
        if end && stream.sending == Way::Done {
            self.forget(id);
        }
        self.budget.useful();
        Ok(Event::Answer { tag, kind: what, end })
    }

    fn priority(&mut self, header: Header, payload: &[u8]) -> Verdict {
        if header.stream == 0 {
            return broken(Code::PROTOCOL, "PRIORITY of no stream");
        }
        // A stream that nobody opened cannot be ended (RFC 9113 §6.4).
        let idle = self.is_idle(header.stream);
        let Some(on) = number_at(payload, 0).filter(|_| payload.len() == 5) else {
            let wrong = Err(Wrong::Stream(code::FRAME_SIZE));
            return if idle { broken(code::FRAME_SIZE, "PRIORITY of a wrong length") } else { wrong };
        };
        if on & 0x7fff_ffff == header.stream {
            let wrong = Err(Wrong::Stream(Code::PROTOCOL));
            return if idle { broken(Code::PROTOCOL, "a stream that depends on itself") } else { wrong };
        }
        self.noise()
    }

    fn rst_stream(&mut self, header: Header, payload: &[u8]) -> Verdict {
        let id = header.stream;
        if id == 0 || self.is_idle(id) {
            return broken(Code::PROTOCOL, "RST_STREAM of a stream that is none");
        }
        let Some(number) = number_at(payload, 0).filter(|_| payload.len() == 4) else {
            return broken(code::FRAME_SIZE, "RST_STREAM of a wrong length");
        };
        let Some(gone) = self.forget(id) else { return self.noise() };
        if self.server && gone.sending != Way::Done && !self.budget.reset() {
            // Told to the engine by way of the end of everything.
            return broken(Code::CALM, "too many requests taken back");
        }
        let reset = Event::Reset { tag: gone.tag, code: Code(number), ours: false };
        Ok(if gone.adopted { reset } else { Event::Nothing })
    }

    fn settings_frame(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Verdict {
        if header.stream != 0 {
            return broken(Code::PROTOCOL, "SETTINGS of a stream");
        }
        if header.has(flag::ACK) {
            let empty = payload.is_empty();
            return if empty { self.noise() } else { broken(code::FRAME_SIZE, "SETTINGS of a wrong length") };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return broken(code::FRAME_SIZE, "SETTINGS of a wrong length");
        }
        let before = self.peer_window;
        for [n0, n1, v0, v1, v2, v3] in settings {
            self.setting(u16::from_be_bytes([*n0, *n1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))?;
        }
        self.settled = true;
        frame::header(0, kind::SETTINGS, flag::ACK, 0, out);
        self.noise()?;
        Ok(if self.peer_window > before { Event::Widened } else { Event::Room { tag: None } })
    }

    fn setting(&mut self, number: u16, value: u32) -> Verdict {
        match number {
            setting::HEADER_TABLE_SIZE => self.encoder.set_table_max(value as usize),
            setting::ENABLE_PUSH if value > 1 => return broken(Code::PROTOCOL, "ENABLE_PUSH"),
            setting::MAX_CONCURRENT_STREAMS => self.peer_streams = value,
            setting::INITIAL_WINDOW_SIZE => return self.windows(value),
            setting::MAX_FRAME_SIZE => {
                if !(PAYLOAD_MAX..=0x00ff_ffff).contains(&(value as usize)) {
                    return broken(Code::PROTOCOL, "MAX_FRAME_SIZE");
                }
                // Longer frames would keep others waiting longer; nobody must send them.
                self.peer_frame_max = PAYLOAD_MAX;
            }
            _ => {}
        }
        Ok(Event::Nothing)
    }

    /// The peer gives its streams other windows.
    fn windows(&mut self, window: u32) -> Verdict {
        if window > WINDOW_MAX {
            return broken(code::FLOW_CONTROL, "INITIAL_WINDOW_SIZE");
        }
        let by = i64::from(window).saturating_sub(i64::from(self.peer_window));
        self.peer_window = window;
        for stream in self.streams.values_mut() {
            stream.send_window = stream.send_window.saturating_add(by);
            if stream.send_window > i64::from(WINDOW_MAX) {
                return broken(code::FLOW_CONTROL, "a window beyond all bounds");
            }
        }
        Ok(Event::Nothing)
    }

    fn ping(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Verdict {
        if header.stream != 0 {
            return broken(Code::PROTOCOL, "PING of a stream");
        }
        let Some(data) = payload.first_chunk::<8>().filter(|_| payload.len() == 8) else {
            return broken(code::FRAME_SIZE, "PING of a wrong length");
        };
        if !header.has(flag::ACK) {
            send::ping(*data, true, out);
            return self.noise();
        }
        self.noise()?;
        Ok(if *data == QUESTION { Event::Alive } else { Event::Nothing })
    }

    fn goaway(&mut self, header: Header, payload: &[u8]) -> Verdict {
        if header.stream != 0 {
            return broken(Code::PROTOCOL, "GOAWAY of a stream");
        }
        let Some(last) = number_at(payload, 0).filter(|_| payload.len() >= 8) else {
            return broken(code::FRAME_SIZE, "GOAWAY of a wrong length");
        };
        self.noise()?;
        let last = last & 0x7fff_ffff;
        // It may only become less (RFC 9113 §6.8).
        self.peer_last = Some(self.peer_last.map_or(last, |before| before.min(last)));
        Ok(Event::Retired)
    }

    fn window_update(&mut self, header: Header, payload: &[u8]) -> Verdict {
        let id = header.stream;
        let Some(more) = number_at(payload, 0).filter(|_| payload.len() == 4) else {
            return broken(code::FRAME_SIZE, "WINDOW_UPDATE of a wrong length");
        };
        let more = i64::from(more & WINDOW_MAX);
        self.noise()?;
        if id == 0 {
            if more == 0 {
                return broken(Code::PROTOCOL, "WINDOW_UPDATE by nothing");
            }
            self.send_window = self.send_window.saturating_add(more);
            if self.send_window > i64::from(WINDOW_MAX) {
                return broken(code::FLOW_CONTROL, "a window beyond all bounds");
            }
            return Ok(Event::Room { tag: None });
        }
        if self.is_idle(id) {
            return broken(Code::PROTOCOL, "WINDOW_UPDATE of a stream that is none");
        }
        if more == 0 {
            return Err(Wrong::Stream(Code::PROTOCOL));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Event::Nothing) };
        stream.send_window = stream.send_window.saturating_add(more);
        if stream.send_window > i64::from(WINDOW_MAX) {
            return Err(Wrong::Stream(code::FLOW_CONTROL));
        }
        let tag = stream.adopted.then_some(stream.tag);
        Ok(tag.map_or(Event::Nothing, |tag| Event::Room { tag: Some(tag) }))
    }
}
