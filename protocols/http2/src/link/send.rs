//! What is put out: heads, bodies, windows, goodbyes.
//!
//! Source: RFC 9113 §5.2, §6. Must never send beyond a window, nor on a stream that has ended.

use outrigger_codec::{Code, Head, ReplyKind, Slot, streams::StreamId};

use super::{CONNECTION_WINDOW, GROWTH_MAX, Http2Link, QUESTION, STREAM_WINDOW_MAX, WINDOW_DEFAULT, Way};
use crate::{
    frame::{self, PREFACE, flag, kind, setting},
    hpack::{Encoder, Indexing},
};

impl Http2Link {
    pub(super) fn say_hello(&mut self, out: &mut Vec<u8>) {
        let window = self.settings.window;
        let list_max = self.settings.limits.head_max as u32;
        let server = [
            (setting::MAX_CONCURRENT_STREAMS, self.settings.streams_max),
            (setting::INITIAL_WINDOW_SIZE, window),
            (setting::MAX_HEADER_LIST_SIZE, list_max),
        ];
        let client = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, window),
            (setting::MAX_HEADER_LIST_SIZE, list_max),
        ];
        if !self.server {
            out.extend_from_slice(PREFACE);
        }
        let settings = if self.server { server } else { client };
        frame::header(settings.len().saturating_mul(6), kind::SETTINGS, 0, 0, out);
        for (number, value) in settings {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        frame::number(kind::WINDOW_UPDATE, 0, CONNECTION_WINDOW.saturating_sub(WINDOW_DEFAULT), out);
    }

    pub(super) fn send_request(
        &mut self,
        id: StreamId,
        head: Head<'_>,
        end: bool,
        authority: &str,
        out: &mut Vec<u8>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let method = head.slot(Slot::Verb).or(head.slot(Slot::Method)).unwrap_or_default();
        stream.bodiless = method == b"HEAD";
        stream.sending = if end { Way::Done } else { Way::Body };
        let (encoder, block) = (&mut self.encoder, &mut self.block_out);
        block.clear();
        encoder.begin(block);
        encoder.field(b":method", method, Indexing::Auto, block);
        let authority = head.slot(Slot::Authority).unwrap_or(authority.as_bytes());
        if method != b"CONNECT" {
            let scheme = head.slot(Slot::Scheme).unwrap_or(b"http");
            encoder.field(b":scheme", scheme, Indexing::Auto, block);
            let target = head.slot(Slot::Target).unwrap_or(b"/");
            encoder.field(b":path", target, Indexing::Auto, block);
        }
        encoder.field(b":authority", authority, Indexing::Auto, block);
        fields(encoder, head, block);
        self.send_block(id, end, out);
    }

    pub(super) fn send_answer(
        &mut self,
        id: StreamId,
        head: Head<'_>,
        what: ReplyKind,
        end: bool,
        out: &mut Vec<u8>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if what != ReplyKind::Interim {
            stream.sending = if end { Way::Done } else { Way::Body };
        }
        let status = head.slot(Slot::Target).and_then(|text| text.get(..3)).unwrap_or(b"500");
        let (encoder, block) = (&mut self.encoder, &mut self.block_out);
        block.clear();
        encoder.begin(block);
        encoder.field(b":status", status, Indexing::Auto, block);
        fields(encoder, head, block);
        self.send_block(id, end, out);
        if end {
            self.sent_all(id, out);
        }
    }

    pub(super) fn send_trailers(&mut self, id: StreamId, head: Head<'_>, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.sending = Way::Done;
        let (encoder, block) = (&mut self.encoder, &mut self.block_out);
        block.clear();
        encoder.begin(block);
        fields(encoder, head, block);
        self.send_block(id, true, out);
        self.sent_all(id, out);
    }

    /// Puts the block that was written into frames.
    fn send_block(&mut self, id: StreamId, end: bool, out: &mut Vec<u8>) {
        self.budget.sent();
        let end = if end { flag::END_STREAM } else { 0 };
        let mut rest = self.block_out.as_slice();
        let mut first = true;
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.peer_frame_max));
            let last = if later.is_empty() { flag::END_HEADERS } else { 0 };
            let (what, flags) = if first { (kind::HEADERS, end | last) } else { (kind::CONTINUATION, last) };
            frame::header(now.len(), what, flags, id, out);
            out.extend_from_slice(now);
            rest = later;
            first = false;
            if rest.is_empty() {
                break;
            }
        }
        if self.block_out.capacity() > 4 << 10 {
            self.block_out = Vec::new();
        }
    }

    pub(super) fn send_data(&mut self, id: StreamId, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return bytes.len() };
        if stream.sending == Way::Done {
            return bytes.len();
        }
        let may = stream.send_window.min(self.send_window);
        let len = usize::try_from(may).unwrap_or(0).min(bytes.len());
        let all = len == bytes.len();
        let (mut rest, _) = bytes.split_at(len);
        stream.send_window = stream.send_window.saturating_sub(len as i64);
        self.send_window = self.send_window.saturating_sub(len as i64);
        let end = end && all;
        if end {
            stream.sending = Way::Done;
        }
        while !rest.is_empty() || end {
            let (now, later) = rest.split_at(rest.len().min(self.peer_frame_max));
            let flags = if end && later.is_empty() { flag::END_STREAM } else { 0 };
            frame::header(now.len(), kind::DATA, flags, id, out);
            out.extend_from_slice(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        if len > 0 || end {
            self.budget.sent();
        }
        if end {
            self.sent_all(id, out);
        }
        len
    }

    /// We have said all on a stream.
    fn sent_all(&mut self, id: StreamId, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get(&id) else { return };
        if self.server {
            self.budget.answered();
        }
        if stream.receiving == Way::Done {
            self.forget(id);
        } else if self.server && !stream.adopted {
            // Answered by ourselves, whatever else it would have said (RFC 9113 §8.1).
            self.send_reset(id, Code::NO_ERROR, out);
        }
    }

    pub(super) fn send_reset(&mut self, id: StreamId, code: Code, out: &mut Vec<u8>) {
        self.end_early(id);
        frame::number(kind::RST_STREAM, id, code.0, out);
    }

    /// Bytes of a stream were taken.
    pub(super) fn give_back(&mut self, id: StreamId, len: usize, freely: bool, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.receiving == Way::Done {
            return;
        }
        let len = len as u32;
        stream.unsaid = stream.unsaid.saturating_add(len);
        stream.kept_up = if freely { stream.kept_up.saturating_add(len) } else { 0 };
        let more = stream.window.min(STREAM_WINDOW_MAX.saturating_sub(stream.window));
        if stream.kept_up >= stream.window && more > 0 && self.grown.saturating_add(more) <= GROWTH_MAX {
            stream.window = stream.window.saturating_add(more);
            stream.unsaid = stream.unsaid.saturating_add(more);
            stream.kept_up = 0;
            self.grown = self.grown.saturating_add(more);
        }
        if stream.unsaid >= stream.window / 2 {
            stream.receive_window = stream.receive_window.saturating_add(i64::from(stream.unsaid));
            frame::number(kind::WINDOW_UPDATE, id, stream.unsaid, out);
            stream.unsaid = 0;
        }
    }

    pub(super) fn say_goodbye(&mut self, last: bool, out: &mut Vec<u8>) {
        if self.broken || self.retired_at.is_some() || (self.retired && !last) {
            return;
        }
        self.retired = true;
        if last || !self.server {
            let last = if self.server { self.last } else { 0 };
            self.retired_at = Some(last);
            frame::goaway(last, Code::NO_ERROR.0, out);
        } else {
            // A wish first: what is under way already is still taken (RFC 9113 §6.8).
            frame::goaway(0x7fff_ffff, Code::NO_ERROR.0, out);
            ping(QUESTION, false, out);
        }
    }

    /// Ends the connection for a reason.
    pub(super) fn break_off(&mut self, code: Code, out: &mut Vec<u8>) {
        self.broken = true;
        let last = if self.server { self.last } else { 0 };
        frame::goaway(last, code.0, out);
    }
}

/// Appends a question for a sign of life, or the answer to one.
pub(super) fn ping(data: [u8; 8], answer: bool, out: &mut Vec<u8>) {
    frame::header(8, kind::PING, if answer { flag::ACK } else { 0 }, 0, out);
    out.extend_from_slice(&data);
}

/// The headers that are no pseudo-headers.
fn fields(encoder: &mut Encoder, head: Head<'_>, block: &mut Vec<u8>) {
    let mut sensitive = head.index.sensitive.iter().copied().peekable();
    for (field, at) in head.index.fields.iter().zip(0u32..) {
        let name = field.name.of(head.bytes).unwrap_or_default();
        let value = field.value.of(head.bytes).unwrap_or_default();
        let secret = sensitive.next_if_eq(&at).is_some();
        encoder.field(name, value, if secret { Indexing::Never } else { Indexing::Auto }, block);
    }
}
