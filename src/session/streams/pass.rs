//! Bytes on their way from one leg to the other, as far as windows and outlets allow; and what waits.
//!
//! A window is given back when the other side's outlet took the bytes, and that takes no more than [`HIGH`]: so what one
//! call makes us hold is bounded by its own window. Must never let one stream's bytes overtake each other.

use outrigger_codec::{Code, Link, Outcome, StreamCodec};
use outrigger_core::Failure;

use super::{
    super::{arena::Key, words},
    Call, Context, Effect, HIGH, LOW, Leg, Message, QUANTUM, REPLAY_MAX, Stage, Streams, connection_of,
    way::Way,
};

impl Call {
    /// Whether it is on this leg, and not on another since it was listed there.
    fn is_on(&self, leg: Leg) -> bool {
        match leg {
            Leg::Down(key) => self.down == key,
            Leg::Up(key) => self.up == Some(key),
        }
    }

    /// The direction that ends at a leg.
    fn way_to(&mut self, leg: Leg) -> &mut Way {
        match leg {
            Leg::Down(_) => &mut self.answer,
            Leg::Up(_) => &mut self.request,
        }
    }
}

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    /// Bytes of a body came from `leg`.
    pub(super) fn body(&mut self, context: &mut Context<'_>, leg: Leg, key: Key, bytes: &[u8], end: bool) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.moved_at = context.now;
        match leg {
            Leg::Down(_) => {
                call.body = call.body.saturating_add(bytes.len() as u64);
                if call.body > self.bounds.limits.body_max {
                    return self.body_too_large(context, key);
                }
                if call.whole && call.stage != Stage::Answering {
                    let fits = call.replay.len() + bytes.len() <= REPLAY_MAX;
                    call.whole = fits && self.buffers.keep(&mut call.replay, bytes);
                    if !call.whole {
                        self.buffers.let_go(std::mem::take(&mut call.replay));
                    }
                }
                if end {
                    call.completes(context.now);
                    self.next_deadline = self.next_deadline.min(call.due());
                }
                self.forward(context, key, call_up(&self.calls, key), bytes);
            }
            Leg::Up(_) => {
                if end {
                    self.ends_without_trailers(key);
                }
                let down = self.calls.get(key).map(|call| Leg::Down(call.down));
                self.forward(context, key, down, bytes);
            }
        }
    }

    /// An answer ended; whatever it had to say stood in its head.
    pub(super) fn ends_without_trailers(&mut self, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.answer.end = true;
        if let Some(dialect) = call.dialect {
            self.answer.clear();
            call.outcome = dialect.outcome(self.answer.head(), true, call.outcome);
        }
    }

    /// Sends bytes to a leg, or keeps them until there is room. `None`: there is none yet.
    fn forward(&mut self, context: &mut Context<'_>, key: Key, to: Option<Leg>, bytes: &[u8]) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(to) = to else {
            call.request.push(bytes, &mut self.buffers);
            // Which of its endpoint's connections it waits for does not matter there.
            return self.hold_back(key, Leg::Up(key));
        };
        let stream = match to {
            Leg::Down(_) => call.down_stream,
            Leg::Up(_) => call.up_stream,
        };
        let way = call.way_to(to);
        if !way.is_empty() {
            way.push(bytes, &mut self.buffers);
            return self.hold_back(key, to);
        }
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, to) else { return };
        if connection.outlet.len() >= HIGH {
            way.push(bytes, &mut self.buffers);
            self.wait(key, to);
            return self.hold_back(key, to);
        }
        let end = way.end;
        if bytes.is_empty() && !end {
            return;
        }
        let (link, out) = connection.says(context.now, &mut self.buffers);
        let sent = link.data(stream, bytes, end, out);
        way.passed = end && sent == bytes.len();
        if sent < bytes.len() {
            way.push(bytes.get(sent..).unwrap_or_default(), &mut self.buffers);
            if connection.link.is_full() {
                self.wait(key, to);
            }
        }
        self.flush(to);
        self.give_back(key, to, sent);
        self.hold_back(key, to);
        self.passed(context, key, to);
    }

    /// Bytes on their way to a leg were taken: where they came from, as many may come.
    fn give_back(&mut self, key: Key, to: Leg, len: usize) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let freely = call.way_to(to).is_empty();
        if len == 0 || call.way_to(to).end {
            return;
        }
        let (from, stream) = match to {
            Leg::Up(_) => (Leg::Down(call.down), call.down_stream),
            Leg::Down(_) => match call.up {
                Some(up) => (Leg::Up(up), call.up_stream),
                None => return,
            },
        };
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, from) else { return };
        let out = connection.outlet.buffer(&mut self.buffers);
        connection.link.release(stream, len, freely, out);
        connection.outlet.rest(&mut self.buffers);
        self.flush(from);
    }

    /// Where the sender has no window it is not read while its bytes wait, and read again when they went on.
    fn hold_back(&mut self, key: Key, to: Leg) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let waits = call.way_to(to).len();
        let from = match to {
            Leg::Up(_) => Leg::Down(call.down),
            Leg::Down(_) => match call.up {
                Some(up) => Leg::Up(up),
                None => return,
            },
        };
        let Some(connection) = connection_of(&mut self.downs, &mut self.ups, from) else { return };
        if connection.link.has_windows() {
            return;
        }
        if waits >= HIGH {
            connection.paused = true;
        } else if connection.paused && waits < LOW {
            self.effects.push(Effect::Resume(from));
        }
    }

    /// Puts a call in the list of those that wait for a connection.
    fn wait(&mut self, key: Key, to: Leg) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let way = call.way_to(to);
        if !way.listed
            && let Some(connection) = connection_of(&mut self.downs, &mut self.ups, to)
        {
            way.listed = true;
            connection.waiting.push_back(key);
        }
    }

    /// There is room on a leg: those that wait for it get their turn, one after the other.
    pub(super) fn pump_all(&mut self, context: &mut Context<'_>, leg: Leg) {
        let Some(connection) = self.connection(leg) else { return };
        for _ in 0..connection.waiting.len() {
            let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg) else { return };
            if connection.outlet.len() >= HIGH {
                return;
            }
            let Some(key) = connection.waiting.pop_front() else { return };
            if let Some(call) = self.calls.get_mut(key).filter(|call| call.is_on(leg)) {
                call.way_to(leg).listed = false;
                self.pump(context, leg, key);
            }
        }
    }

    /// Every stream of a leg has more room: also those whose own windows were in their way get their turn.
    pub(super) fn pump_each(&mut self, context: &mut Context<'_>, leg: Leg) {
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, |call| call.is_on(leg));
        for key in keys.drain(..) {
            self.pump(context, leg, key);
        }
        self.keys = keys;
    }

    /// Sends on what waits of a call's direction to a leg.
    pub(super) fn pump(&mut self, context: &mut Context<'_>, to: Leg, key: Key) {
        loop {
            let Some(call) = self.calls.get_mut(key) else { return };
            let stream = match to {
                Leg::Down(_) => call.down_stream,
                Leg::Up(_) => call.up_stream,
            };
            let way = call.way_to(to);
            if way.passed || (way.is_empty() && !way.end) {
                return;
            }
            let Some(connection) = connection_of(&mut self.downs, &mut self.ups, to) else { return };
            if connection.outlet.len() >= HIGH {
                return self.wait(key, to);
            }
            let part = way.waiting().get(..QUANTUM).unwrap_or(way.waiting());
            let (len, last) = (part.len(), part.len() == way.len());
            let end = last && way.end && way.trailers.is_none();
            let (link, out) = connection.says(context.now, &mut self.buffers);
            let sent = if len > 0 || end { link.data(stream, part, end, out) } else { 0 };
            let paid = way.went(sent, &mut self.buffers);
            let blocked = sent < len;
            let mut said = None;
            if last && !blocked {
                said = way.trailers.take();
                if let Some(trailers) = &said {
                    link.trailers(stream, trailers.head(), out);
                }
                way.passed = way.end;
            }
            if sent > 0 {
                call.moved_at = context.now;
            }
            let full = connection.link.is_full();
            if let Some(said) = said {
                self.give_spare(said);
            }
            self.flush(to);
            self.give_back(key, to, paid);
            self.hold_back(key, to);
            if blocked {
                if full {
                    self.wait(key, to);
                }
                return;
            }
            if last {
                return self.passed(context, key, to);
            }
        }
    }

    /// The end of a direction may have gone on.
    pub(super) fn passed(&mut self, context: &mut Context<'_>, key: Key, to: Leg) {
        if matches!(to, Leg::Down(_)) && self.calls.get(key).is_some_and(|call| call.answer.passed) {
            self.done(context, key);
        }
    }

    /// The end of a message that has trailers, which are in the message that was read.
    pub(super) fn trailers(&mut self, context: &mut Context<'_>, leg: Leg, key: Key) {
        let spare = self.take_spare();
        let Some(call) = self.calls.get_mut(key) else { return };
        call.moved_at = context.now;
        let trailers = std::mem::replace(&mut self.message, spare);
        let to = match leg {
            Leg::Down(_) => {
                call.completes(context.now);
                call.request.trailers = Some(trailers);
                // They cannot be sent twice.
                call.whole = false;
                self.next_deadline = self.next_deadline.min(call.due());
                call.up.map(Leg::Up)
            }
            Leg::Up(_) => {
                if let Some(dialect) = call.dialect {
                    call.outcome = dialect.outcome(trailers.head(), true, call.outcome);
                }
                call.answer.end = true;
                call.answer.trailers = Some(trailers);
                Some(Leg::Down(call.down))
            }
        };
        if let Some(to) = to {
            self.pump(context, to, key);
        }
    }

    /// An answer went on to its end: the call is over.
    fn done(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(call) = self.calls.get(key) else { return };
        let (outcome, down, stream) = (call.outcome, call.down, call.down_stream);
        let whole = call.request.end && !call.cut_short;
        self.end_call(context, key, outrigger_core::End::Answered(outcome), Code::CANCEL);
        if !whole && let Some(it) = self.downs.get_mut(down) {
            // What is still to come of the request is of no use (RFC 9113 §8.1).
            let (link, out) = it.connection.says(context.now, &mut self.buffers);
            link.reset(stream, Code::NO_ERROR, out);
            self.flush(Leg::Down(down));
        }
        self.call_less(down);
    }

    fn body_too_large(&mut self, context: &mut Context<'_>, key: Key) {
        self.counters.too_large += 1;
        let Some(call) = self.calls.get(key) else { return };
        let text = words::fault(outrigger_codec::Fault::BodyTooLarge);
        if call.stage == Stage::Answering {
            self.cut(context, key, outrigger_codec::Refusal::TooLarge, Code::CANCEL, &text);
        } else {
            self.refuse_call_with(context, key, outrigger_codec::Refusal::TooLarge, &text);
        }
    }
}

/// Where a call's request goes.
fn call_up(calls: &super::Arena<Call>, key: Key) -> Option<Leg> {
    calls.get(key).and_then(|call| call.up).map(Leg::Up)
}

/// What an answer says of the call before its end is known.
pub(super) fn begins(call: &mut Call, answer: &Message, ends: bool) {
    call.outcome = match call.dialect {
        Some(dialect) => dialect.outcome(answer.head(), ends, Outcome::Ok),
        None => by_status(answer),
    };
}

/// What an answer's head says of how the call ended, with the status in its protocol's own numbers.
pub(super) fn tells(call: &Call, answer: &Message, ends: bool) -> Failure {
    let head = answer.head();
    let status = head.slot(outrigger_codec::Slot::Target).and_then(|text| text.get(..3));
    let own = head.field(b"grpc-status").filter(|_| ends && call.dialect.is_some()).or(status);
    let status = own.and_then(outrigger_codec::http::chars::decimal).unwrap_or(0);
    let outcome = match call.dialect {
        Some(dialect) => dialect.outcome(head, ends, Outcome::Ok),
        None => by_status(answer),
    };
    Failure::Answered(outcome, u32::try_from(status).unwrap_or(u32::MAX))
}

fn by_status(answer: &Message) -> Outcome {
    let status = answer.head().slot(outrigger_codec::Slot::Target).unwrap_or_default();
    match status.get(..3) {
        Some(b"429" | b"503") => Outcome::Busy,
        Some(b"504") => Outcome::TimedOut,
        Some([b'5', ..]) => Outcome::Error,
        // The service's own answer to its caller's mistake.
        Some([b'4', ..]) => Outcome::Exception,
        _ => Outcome::Ok,
    }
}
