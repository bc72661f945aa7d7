//! The callers' leg: connections are read, requests are decided and sent on.
//!
//! Also what both legs share of reading: bytes become events, and each event is handed to whom it concerns. Must never hold a
//! connection's other streams for one of them.

use std::fmt::Write as _;

use outrigger_codec::{
    Code, Event, Fault, Link, Refusal, Slot, StreamCodec, Tag, exchange::Forwarded, http::hop,
    streams::StreamId,
};
use outrigger_core::{Plan, Refused, Tick, decide};

use super::{
    super::{arena::Key, words},
    AHEAD_MAX, Arrival, Call, Connection, Context, Down, Effect, Leg, Message, Stage, Streams, connection_of,
    way::Way,
    wire::Wire,
};

/// Calls a caller may take back before they could be sent, lately.
const HASTY_MAX: u32 = 20;

impl<A: StreamCodec, B: StreamCodec> Streams<A, B> {
    pub(super) fn accept(&mut self, arrival: Arrival, now: Tick) -> Key {
        self.counters.down_opened += 1;
        let settings = self.settings();
        let link =
            if arrival.foreign { Wire::Other(B::serve(&settings)) } else { Wire::Own(A::serve(&settings)) };
        let mut connection = Connection::new(link, now);
        connection.link.greet(connection.outlet.buffer(&mut self.buffers));
        connection.outlet.rest(&mut self.buffers);
        self.downs.insert(Down { connection, arrival, hasty: 0, ended: false, asked: None })
    }

    /// A peer sent bytes; whether more are wanted.
    pub(super) fn read(&mut self, context: &mut Context<'_>, leg: Leg, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        if let Some(connection) = self.connection(leg) {
            connection.last_in = context.now;
        }
        // What was not complete is completed, and no more than that is copied.
        while let Some(connection) = self.connection(leg)
            && !connection.carry.is_empty()
            && !rest.is_empty()
        {
            let lacks = connection.need.saturating_sub(connection.carry.len()).max(1).min(rest.len());
            let (now, later) = rest.split_at(lacks);
            connection.carry.extend_from_slice(now);
            rest = later;
            if connection.carry.len() >= connection.need || rest.is_empty() {
                self.go_on(context, leg);
            }
        }
        if !rest.is_empty() {
            let used = self.take(context, leg, rest);
            let left = rest.get(used..).unwrap_or_default();
            if let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg)
                && !left.is_empty()
            {
                if connection.carry.capacity() == 0 {
                    connection.carry = self.buffers.take();
                }
                connection.carry.extend_from_slice(left);
                connection.carry_since = context.now;
            }
        }
        self.reads(leg)
    }

    /// Goes on with what a peer sent already.
    pub(super) fn go_on(&mut self, context: &mut Context<'_>, leg: Leg) {
        let Some(connection) = self.connection(leg) else { return };
        if connection.carry.is_empty() {
            return;
        }
        let mut carry = std::mem::take(&mut connection.carry);
        let used = self.take(context, leg, &carry);
        match self.connection(leg) {
            Some(connection) if used < carry.len() => {
                if used > 0 {
                    connection.carry_since = context.now;
                }
                carry.drain(..used);
                connection.carry = carry;
            }
            _ => self.buffers.give(carry),
        }
    }

    /// Whether a connection is read; if not it is noted as paused.
    fn reads(&mut self, leg: Leg) -> bool {
        let high = self.bounds.outbox_high;
        let ended = matches!(leg, Leg::Down(key) if self.downs.get(key).is_none_or(|down| down.ended));
        let Some(connection) = self.connection(leg) else { return false };
        // Who does not take what we say is not listened to; nor is who runs ahead where there is no other way to slow him.
        let ahead = !connection.link.has_windows() && connection.carry.len() > AHEAD_MAX;
        // An endpoint is read whatever waits for it: its answers are what makes room.
        connection.paused |= (connection.outlet.len() > high && matches!(leg, Leg::Down(_))) || ahead;
        // An endpoint that is told goodbye may end before it has taken that.
        let closing = connection.closing && matches!(leg, Leg::Down(_));
        !connection.paused && !closing && !ended
    }

    pub(super) fn resumed(&mut self, context: &mut Context<'_>, leg: Leg) -> bool {
        let Some(connection) = self.connection(leg) else { return false };
        connection.paused = false;
        // While it was not read, or waited for its turn, it could not go on.
        (connection.last_in, connection.carry_since) = (context.now, context.now);
        self.go_on(context, leg);
        if let Leg::Down(key) = leg {
            if self.drop_half(context, key) {
                self.forget_down(key);
                self.effects.push(Effect::Close(leg));
                return false;
            }
            self.close_if_done(key, true);
        }
        self.reads(leg)
    }

    /// Handles what can be handled of `bytes`; how many are done with.
    fn take(&mut self, context: &mut Context<'_>, leg: Leg, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (connection, policy) = match leg {
                Leg::Down(key) => match self.downs.get_mut(key) {
                    Some(down) => (&mut down.connection, &down.arrival.manners.policy),
                    None => return bytes.len(),
                },
                Leg::Up(key) => match self.ups.get_mut(key) {
                    Some(up) => (&mut up.connection, &self.lenient),
                    None => return bytes.len(),
                },
            };
            if connection.closing {
                return bytes.len();
            }
            if connection.paused {
                connection.need = usize::MAX;
                break;
            }
            connection.said_at = connection.outlet.end();
            let (link, out) = connection.says(context.now, &mut self.buffers);
            let step = link.receive(rest, policy, &mut self.message, out);
            at += step.used;
            match step.event {
                Event::Partial { total } => {
                    connection.need = total;
                    break;
                }
                Event::Wait => {
                    connection.need = usize::MAX;
                    break;
                }
                event => {
                    self.no_more_behind(leg, at < bytes.len());
                    self.handle(context, leg, event, rest);
                }
            }
        }
        if let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg) {
            connection.outlet.rest(&mut self.buffers);
        }
        self.flush(leg);
        at
    }

    /// Where one answer follows another, an endpoint that said something behind the last answers nobody else any more:
    /// it would be taken for the answer to whatever is sent next.
    fn no_more_behind(&mut self, leg: Leg, more: bool) {
        if more
            && matches!(leg, Leg::Up(_))
            && let Some(connection) = connection_of(&mut self.downs, &mut self.ups, leg)
            && !connection.link.has_windows()
            && connection.link.streams() == 0
        {
            connection.link.farewell(Code::PROTOCOL, &[], connection.outlet.buffer(&mut self.buffers));
        }
    }

    fn handle(&mut self, context: &mut Context<'_>, leg: Leg, event: Event, bytes: &[u8]) {
        match (event, leg) {
            (Event::Request { stream, end, bodiless }, Leg::Down(key)) => {
                self.request(context, key, stream, end, bodiless);
            }
            (Event::Fault { stream, fault }, Leg::Down(key)) => self.fault(context, key, stream, fault),
            (Event::Answer { tag, kind, end }, Leg::Up(key)) => {
                self.answered(context, key, of_tag(tag), kind, end);
            }
            (Event::Data { tag, at, len, end }, _) => {
                let body = bytes.get(at..at.saturating_add(len)).unwrap_or_default();
                self.body(context, leg, of_tag(tag), body, end);
            }
            (Event::Trailers { tag }, _) => self.trailers(context, leg, of_tag(tag)),
            (Event::Reset { tag, code, ours }, Leg::Down(_)) => {
                self.taken_back(context, of_tag(tag), code, ours);
            }
            (Event::Reset { tag, code, ours }, Leg::Up(_)) => {
                self.given_up(context, of_tag(tag), code, ours);
            }
            (Event::Room { tag: Some(tag) }, _) => self.pump(context, leg, of_tag(tag)),
            (Event::Room { tag: None } | Event::Widened, _) => {
                if event == Event::Widened {
                    self.pump_each(context, leg);
                } else {
                    self.pump_all(context, leg);
                }
                if let Leg::Up(key) = leg {
                    self.list_up(key);
                    self.serve_line_of(context, key);
                }
            }
            (Event::Retired, Leg::Up(key)) => self.retired(context, key),
            (Event::Alive, Leg::Up(key)) => {
                if let Some(up) = self.ups.get_mut(key) {
                    up.asked = None;
                }
            }
            (Event::Alive, Leg::Down(key)) => self.knows_of_goodbye(context.now, key),
            (Event::Broken { why }, Leg::Down(key)) => self.broken_down(context, key, why),
            (Event::Broken { why }, Leg::Up(key)) => self.broken_up(context, key, why),
            // A caller that takes no new streams of ours was never offered any; the others cannot happen on this leg.
            _ => {}
        }
    }

    /// One whole head: decide, and find it a place on a connection.
    fn request(&mut self, context: &mut Context<'_>, key: Key, stream: StreamId, end: bool, bodiless: bool) {
        let Some(down) = self.downs.get(key) else { return };
        let (listener, source, manners) = (down.arrival.listener, down.arrival.peer, &down.arrival.manners);
        let head = self.message.head();
        let claims = manners.dialects.of.iter().find(|(dialect, named)| dialect.claims(head, *named));
        let dialect = claims.map(|(dialect, _)| *dialect);
        if dialect.is_none() && manners.dialects.only {
            return self.fault(context, key, stream, Fault::ContentType);
        }
        if let Some(dialect) = dialect {
            let Message { bytes, index } = &mut self.message;
            dialect.read(bytes, index);
        }
        let own = hop::timeout(self.message.head(), &manners.policy).filter(|_| dialect.is_none());
        self.message.index.timeout_ms = self.message.index.timeout_ms.or(own);
        self.message.index.source = source;
        match decide(context.snapshot, listener, context.local, self.message.head(), context.now, context.now)
        {
            Ok(plan) => self.start(context, (key, stream), (end, bodiless), dialect, plan),
            Err(Refused { response: Some(response), .. }) => {
                self.respond(context.now, (key, stream), dialect, &response, bodiless);
                self.call_less(key);
            }
            Err(refused) => {
                // A listener that a reload took away leaves its callers without routes until they have left.
                let name =
                    context.snapshot.listener(listener).map_or("(removed)", |listener| &*listener.name);
                let text = words::refused(refused.why, self.message.head(), name);
                self.refuse(
                    context.now,
                    (key, stream),
                    dialect,
                    (refused.why, refused.wait),
                    &text,
                    bodiless,
                );
                self.call_less(key);
            }
        }
    }

    fn start(
        &mut self,
        context: &mut Context<'_>,
        (down_key, stream): (Key, StreamId),
        (end, bodiless): (bool, bool),
        dialect: Option<&'static dyn outrigger_codec::Dialect>,
        plan: Plan,
    ) {
        let endpoint = plan.endpoint;
        let kept = self.take_spare();
        let Some(down) = self.downs.get_mut(down_key) else { return };
        // What the sidecar says itself comes behind, as over HTTP/1.
        if let Some(changes) = &plan.changes {
            changes.request.apply(&mut self.message);
        }
        let policy = &down.arrival.manners.policy;
        if policy.forwarded != Forwarded::Off || policy.request_id || policy.via.is_some() {
            let (ids, next) = (&self.ids, &mut self.next_id);
            let version = down.connection.link.version();
            hop::decorate(&mut self.message, policy, down.arrival.peer, version, || fresh_id(ids, next));
        }
        let key = self.calls.insert(Call {
            plan,
            dialect,
            stage: Stage::Line,
            down: down_key,
            down_stream: stream,
            up: None,
            up_stream: 0,
            request: Way::new(end),
            answer: Way::default(),
            kept: std::mem::replace(&mut self.message, kept),
            replay: Vec::new(),
            whole: true,
            body: 0,
            sent_at: 0,
            told_at: context.now,
            moved_at: context.now,
            outcome: outrigger_codec::Outcome::Ok,
            bodiless,
            cut_short: false,
            interims: 0,
            tries: 1,
            again: 0,
            try_until: Tick::NEVER,
            hedge_at: Tick::NEVER,
            twin: None,
        });
        down.connection.calls += 1;
        down.connection.link.adopt(stream, Tag(key.bits()));
        if let Some(call) = self.calls.get(key) {
            self.next_deadline = self.next_deadline.min(call.deadline());
        }
        self.dispatch(context, key, endpoint);
    }

    /// A request that cannot be carried.
    fn fault(&mut self, context: &mut Context<'_>, key: Key, stream: StreamId, fault: Fault) {
        let Some(down) = self.downs.get(key) else { return };
        context.local.refuse_unrouted(down.arrival.listener, fault.refusal());
        let head = self.message.head();
        let claims =
            down.arrival.manners.dialects.of.iter().find(|(dialect, named)| dialect.claims(head, *named));
        let dialect = claims.map(|(dialect, _)| *dialect);
        let bodiless = head.slot(Slot::Method) == Some(b"HEAD");
        match fault.refusal() {
            Refusal::TooLarge => self.counters.too_large += 1,
            _ => self.counters.malformed += 1,
        }
        self.tell(context.now, "refused a request that cannot be carried", fault.why());
        self.refuse_fault(context.now, (key, stream), dialect, fault, bodiless);
        self.call_less(key);
    }

    /// A caller took a call back, or broke the protocol on it.
    fn taken_back(&mut self, context: &mut Context<'_>, key: Key, code: Code, ours: bool) {
        let Some(call) = self.calls.get(key) else { return };
        let (down_key, sent_at) = (call.down, call.sent_at);
        let up = call.up.and_then(|up| self.ups.get(up));
        let unsent = up.is_some_and(|up| up.connected && up.connection.outlet.taken() <= sent_at);
        self.counters.cancelled += 1;
        self.end_call(context, key, outrigger_core::End::Abandoned, if ours { Code::CANCEL } else { code });
        let Some(down) = self.downs.get_mut(down_key) else { return };
        down.hasty += u32::from(unsent);
        if down.hasty > HASTY_MAX {
            let (link, out) = down.connection.says(context.now, &mut self.buffers);
            link.farewell(Code::CALM, &[], out);
            self.broken_down(context, down_key, "requests taken back before they could be sent");
        } else {
            self.call_less(down_key);
        }
    }

    /// A caller's connection cannot go on.
    pub(super) fn broken_down(&mut self, context: &mut Context<'_>, key: Key, why: &'static str) {
        self.counters.down_broken += 1;
        self.tell(context.now, "ended a caller's connection", why);
        self.abandon_all(context, key);
        self.finish_down(key);
    }

    /// A caller sends no more. `false`: nothing of it is left to be done.
    pub(super) fn end_of_down(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        // Where windows are to be given, nobody goes on without a voice: it is gone.
        if down.connection.link.has_windows() {
            return false;
        }
        down.ended = true;
        if self.drop_half(context, key) {
            return false;
        }
        let Some(down) = self.downs.get(key) else { return false };
        down.connection.calls > 0 || !down.connection.outlet.is_empty() || down.connection.paused
    }

    /// Of a caller that sends no more, half a request is none. Whether there was one.
    fn drop_half(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let ended = |down: &Down<A, B>| down.ended && !down.connection.paused;
        if !self.downs.get(key).is_some_and(ended) {
            return false;
        }
        let half = |call: &Call| call.down == key && !call.request.end;
        let Some(call) = self.calls.iter().find(|(_, call)| half(call)).map(|(call, _)| call) else {
            return false;
        };
        self.end_call(context, call, outrigger_core::End::Abandoned, Code::CANCEL);
        true
    }

    /// A call of this caller has ended, or became none.
    pub(super) fn call_less(&mut self, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let connection = &mut down.connection;
        if connection.link.is_severed() {
            self.forget_down(key);
            self.effects.push(Effect::Reset(Leg::Down(key)));
            return;
        }
        if connection.calls == 0 && (self.ending || connection.link.is_spent()) {
            return self.finish_down(key);
        }
        if connection.calls == 0
            && connection.leaving
            && !connection.link.has_windows()
            && connection.outlet.is_empty()
            && connection.carry.is_empty()
        {
            return self.finish_down(key);
        }
        if !connection.link.has_windows() && !connection.closing {
            // What it sent behind comes next.
            self.effects.push(Effect::Resume(Leg::Down(key)));
        }
        if connection.link.has_windows() {
            self.leave_if_done(key);
        }
        self.close_if_done(key, false);
    }

    /// Closes a caller that sends no more, or was told to leave, when nothing of it is left to be done.
    /// `looked`: what is left of its bytes was looked at just now.
    pub(super) fn close_if_done(&mut self, key: Key, looked: bool) {
        let Some(down) = self.downs.get(key) else { return };
        let connection = &down.connection;
        if down.ended && !connection.paused && connection.calls == 0 && connection.outlet.is_empty() {
            if !connection.carry.is_empty() && !looked {
                // There may be requests in what came before the end.
                return self.effects.push(Effect::Resume(Leg::Down(key)));
            }
            self.forget_down(key);
            self.effects.push(Effect::Close(Leg::Down(key)));
        }
    }

    /// Reads nothing more from a caller and closes it when its answers are written.
    pub(super) fn finish_down(&mut self, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        down.connection.closing = true;
        if down.connection.outlet.is_empty() {
            self.forget_down(key);
            self.effects.push(Effect::Finish(key));
        } else {
            self.flush(Leg::Down(key));
        }
    }

    /// Its calls were ended before.
    pub(super) fn forget_down(&mut self, key: Key) {
        let Some(mut down) = self.downs.remove(key) else { return };
        self.buffers.give(std::mem::take(&mut down.connection.carry));
        down.connection.outlet.clear(&mut self.buffers);
    }

    pub(super) fn lost_down(&mut self, context: &mut Context<'_>, key: Key) {
        self.abandon_all(context, key);
        self.forget_down(key);
    }

    fn abandon_all(&mut self, context: &mut Context<'_>, key: Key) {
        if self.downs.get(key).is_none_or(|down| down.connection.calls == 0) {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        self.calls.keys_where(&mut keys, |call| call.down == key);
        for call in keys.drain(..) {
            self.counters.cancelled += 1;
            self.end_call(context, call, outrigger_core::End::Abandoned, Code::CANCEL);
        }
        self.keys = keys;
    }
}

/// The call that a link means.
fn of_tag(tag: Tag) -> Key {
    Key::of_bits(tag.0)
}

/// An id that no other request has.
fn fresh_id(ids: &foldhash::quality::RandomState, next: &mut u64) -> String {
    use std::hash::BuildHasher;
    *next += 1;
    let mut id = String::with_capacity(32);
    let _ = write!(id, "{:016x}{:016x}", ids.hash_one(*next), ids.hash_one((*next, 1u8)));
    id
}
