//! The callers' leg: a request is read, decided and passed on, in one go.
//!
//! What cannot be read is answered and the connection closed: behind it no byte can be trusted. Must never hand on a byte
//! of a request whose head was refused.

use std::fmt::Write as _;

use outrigger_codec::{
    Asked, Body, ExchangeCodec, Fault, Find, Framing, Head, Message, Refusal, Wants, exchange, http::hop,
};
use outrigger_core::{End, Plan, Refused, Tick, decide, retry, settle};

use super::{
    super::{arena::Key, words},
    Arrival, CARRY_MAX, Call, Context, DISCARD_MAX, Down, Effect, Exchange, Flow, HIGH, Leg, Stage, changed,
    pool::Got,
};

impl<C: ExchangeCodec> Exchange<C> {
    pub(super) fn accept(&mut self, arrival: Arrival, now: Tick) -> Key {
        self.counters.down_opened += 1;
        self.downs.insert(Down {
            arrival,
            carry: Vec::new(),
            searched: 0,
            carry_since: now,
            outbox: Flow::default(),
            call: None,
            discard: 0,
            last_in: now,
            last_out: now,
            paused: false,
            flushing: false,
            closing: false,
            ended: false,
            leaving: false,
        })
    }

    pub(super) fn read_down(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        down.last_in = context.now;
        if down.carry.is_empty() {
            down.carry_since = context.now;
            let used = self.take_down(context, key, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            if let Some(down) = self.downs.get_mut(key)
                && !rest.is_empty()
            {
                if down.carry.capacity() == 0 {
                    down.carry = self.buffers.take();
                }
                down.carry.extend_from_slice(rest);
            }
        } else {
            down.carry.extend_from_slice(bytes);
            self.advance(context, key);
        }
        self.reads(key)
    }

    /// Whether a caller is read; if not it is noted as paused.
    fn reads(&mut self, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        let ahead = down.carry.len() > CARRY_MAX.max(self.bounds.limits.head_max);
        if ahead || (down.call.is_none() && down.outbox.len() > HIGH) {
            down.paused = true;
        }
        !down.paused && !down.closing && !down.ended
    }

    /// Goes on with what a caller sent already.
    pub(super) fn advance(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        if down.carry.is_empty() {
            return;
        }
        let mut carry = std::mem::take(&mut down.carry);
        let used = self.take_down(context, key, &carry);
        match self.downs.get_mut(key) {
            Some(down) if used < carry.len() => {
                carry.drain(..used);
                down.carry = carry;
            }
            _ => self.buffers.give(carry),
        }
    }

    pub(super) fn resume_down(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        down.paused = false;
        // While it was not read it could not go on: its time begins again.
        (down.last_in, down.carry_since) = (context.now, context.now);
        self.advance(context, key);
        // What it said ahead of its tunnel was all that it says.
        let said = |down: &Down<C::Body>| {
            let tunnel = down.call.as_ref().is_some_and(|call| matches!(call.stage, Stage::Tunnel));
            down.ended && !down.paused && tunnel
        };
        if self.downs.get(key).is_some_and(said) {
            self.end_of_down(context, key);
        }
        self.close_if_done(key);
        self.reads(key)
    }

    /// Closes a caller that sends no more when nothing of it is left to be done.
    pub(super) fn close_if_done(&mut self, key: Key) {
        if self
            .downs
            .get(key)
            .is_some_and(|down| down.ended && !down.paused && down.call.is_none() && down.outbox.is_empty())
        {
            self.close_down(key);
        }
    }

    /// Handles what can be handled of `bytes`; how many are done with.
    fn take_down(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let Some(down) = self.downs.get_mut(key) else { return bytes.len() };
            if down.closing {
                return bytes.len();
            }
            let rest = &bytes[at..];
            if down.discard > 0 {
                let n = usize::try_from(down.discard).unwrap_or(usize::MAX).min(rest.len());
                down.discard -= n as u64;
                at += n;
                continue;
            }
            let used = match &down.call {
                None if down.outbox.len() > HIGH => {
                    // What is left waits for the answers before it to be taken.
                    down.paused = true;
                    break;
                }
                None => self.take_head(context, key, rest),
                Some(call) if matches!(call.stage, Stage::Tunnel) => self.tunnel_up(key, rest),
                Some(call) if call.body.is_done() => break,
                Some(_) if down.paused => break,
                Some(_) => self.take_body(context, key, rest),
            };
            if used == 0 {
                break;
            }
            at += used;
        }
        at
    }

    /// Looks for a head at the start of `bytes`; 0: it is not complete.
    fn take_head(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> usize {
        let Some(down) = self.downs.get_mut(key) else { return bytes.len() };
        match C::find(bytes, down.searched, exchange::Side::Request, &self.bounds.limits) {
            Find::Partial { searched } => {
                down.searched = searched;
                0
            }
            Find::Fault(fault) => {
                self.refuse_head(context, key, bytes, fault);
                bytes.len()
            }
            Find::Head { len } => {
                down.searched = 0;
                self.request(context, key, bytes.get(..len).unwrap_or_default());
                if let Some(down) = self.downs.get_mut(key) {
                    down.carry_since = context.now;
                }
                len
            }
        }
    }

    /// One whole head: read it, decide, find it a connection.
    fn request(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) {
        let Some(down) = self.downs.get(key) else { return };
        let listener = down.arrival.listener;
        let arrived = down.carry_since;
        self.index.clear();
        let asked =
            match C::request(bytes, &down.arrival.manners.policy, &self.bounds.limits, &mut self.index) {
                Ok(asked) => asked,
                Err(fault) => return self.refuse_head(context, key, bytes, fault),
            };
        self.index.source = down.arrival.peer;
        let routes = context.snapshot.listener(listener).map(|listener| &listener.routes);
        if routes.is_some_and(|routes| routes.wants().any(Wants::SERVICE)) {
            let head = Head { bytes, index: &self.index };
            let mut dialects = down.arrival.manners.dialects.of.iter();
            if let Some((dialect, _)) = dialects.find(|(dialect, named)| dialect.claims(head, *named)) {
                dialect.read(bytes, &mut self.index);
            }
        }
        let head = Head { bytes, index: &self.index };
        let own = self.index.timeout_ms.or_else(|| hop::timeout(head, &down.arrival.manners.policy));
        self.index.timeout_ms = own;
        let head = Head { bytes, index: &self.index };
        match decide(context.snapshot, listener, context.local, head, arrived, context.now) {
            Ok(plan) => self.start(context, key, bytes, asked, plan),
            Err(Refused { response: Some(response), .. }) => {
                let mut answer = Message::default();
                let told = response.write(head, &mut answer).then_some((&answer, &*response.body));
                self.respond(context.now, key, &asked, told);
            }
            Err(refused) => {
                // A listener that a reload took away leaves its callers without routes until they have left.
                let name =
                    context.snapshot.listener(listener).map_or("(removed)", |listener| &*listener.name);
                let message = words::refused(refused.why, head, name);
                self.refuse(context.now, key, &asked, &refused, &message);
            }
        }
    }

    /// Hands a request to a connection, or puts it in line for one.
    fn start(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8], asked: Asked, plan: Plan) {
        let speaks = context.local.endpoint(plan.endpoint).and_then(|endpoint| endpoint.settings.speaks);
        if speaks.is_some_and(|name| name != C::NAME) {
            return self.refuse_foreign(context, key, &asked, plan);
        }
        let patience = self.patience(key);
        let got = self.acquire(context, plan.endpoint, patience);
        let (Some(down), Some(endpoint)) = (self.downs.get_mut(key), context.local.endpoint(plan.endpoint))
        else {
            return settle(context.local, plan, End::Abandoned, context.now);
        };
        let policy = &down.arrival.manners.policy;
        let request_id =
            if policy.request_id { fresh_id(&self.ids, &mut self.next_id) } else { String::new() };
        let hop = exchange::Hop {
            policy,
            peer: down.arrival.peer,
            authority: &endpoint.address,
            request_id: &request_id,
        };
        let head = Head { bytes, index: &self.index };
        let mut parked = Flow::default();
        let up = match got {
            Got::Full => {
                let message = words::failed(Refusal::Overloaded, &endpoint.cluster, &endpoint.address, 0);
                let refused = Refused::from(Refusal::Overloaded);
                settle(context.local, plan, End::Refused(Refusal::Overloaded), context.now);
                return self.refuse(context.now, key, &asked, &refused, &message);
            }
            Got::Line => None,
            Got::Connection(up) => Some(up),
        };
        let flow = match up.and_then(|up| self.ups.get_mut(up)) {
            Some(up) => {
                up.down = Some(key);
                (up.last_in, up.last_out) = (context.now, context.now);
                &mut up.outbox
            }
            None => &mut parked,
        };
        flow.begin(plan.retry.is_some());
        let change = plan.changes.as_ref().map(|changes| &changes.request);
        let left = policy.timeout.is_some().then(|| plan.told_ms(context.now)).flatten();
        let head = changed(head, change, left.map(|ms| (policy, ms)), &mut self.changed);
        let body = C::forward(head, &asked, &hop, flow.buffer(&mut self.buffers));
        let try_until = retry::try_deadline(&plan, 0, context.now);
        let hedge_at = retry::hedge_at(&plan, 0, context.now);
        if body.is_done() {
            self.next_deadline = self.next_deadline.min(plan.deadline).min(try_until).min(hedge_at);
        }
        self.calls += 1;
        let awaits = asked.awaits;
        let stage = Stage::Head;
        down.call = Some(Call {
            plan,
            asked,
            up,
            parked,
            body,
            stage,
            awaits,
            interims: 0,
            tries: 1,
            again: 0,
            try_until,
            hedge_at,
            hedge: None,
            pausing: false,
        });
        match up {
            Some(up) => self.flush_up(up),
            None => self.stand_in_line(key),
        }
    }

    /// A reload made the endpoints speak another protocol: who translates into that does not have this connection, but will
    /// have the caller's next one.
    fn refuse_foreign(&mut self, context: &mut Context<'_>, key: Key, asked: &Asked, plan: Plan) {
        let message = context.local.endpoint(plan.endpoint).map_or_else(String::new, |endpoint| {
            words::failed(Refusal::NoEndpoint, &endpoint.cluster, &endpoint.address, 0)
        });
        settle(context.local, plan, End::Refused(Refusal::NoEndpoint), context.now);
        if let Some(down) = self.downs.get_mut(key) {
            down.leaving = true;
        }
        let refused = Refused::from(Refusal::NoEndpoint);
        self.refuse(context.now, key, asked, &refused, &message);
    }

    /// Passes on what `bytes` are of a request's body; how many.
    fn take_body(&mut self, context: &mut Context<'_>, key: Key, bytes: &[u8]) -> usize {
        let Some(down) = self.downs.get_mut(key) else { return bytes.len() };
        let Some(call) = &mut down.call else { return 0 };
        call.awaits = false;
        let flow = match call.up.and_then(|up| self.ups.get_mut(up)) {
            Some(up) => {
                if up.outbox.is_empty() {
                    up.last_out = context.now;
                }
                &mut up.outbox
            }
            None => &mut call.parked,
        };
        let before = flow.len();
        let passed = match call.body.pass(bytes, &self.bounds.limits, flow.buffer(&mut self.buffers)) {
            Ok(passed) => passed,
            Err(fault) => {
                self.refuse_body(context, key, fault);
                return bytes.len();
            }
        };
        let waits = flow.len();
        if waits > HIGH {
            down.paused = true;
        }
        if passed.done {
            call.plan.complete(context.now);
            call.try_until = retry::try_deadline(&call.plan, call.again, context.now);
            call.hedge_at = retry::hedge_at(&call.plan, call.again, context.now);
            self.next_deadline = self.next_deadline.min(call.due());
        }
        if let Some(up) = call.up.filter(|_| waits > before) {
            self.flush_up(up);
        }
        passed.used
    }

    /// Passes on bytes of a tunnel.
    fn tunnel_up(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(down) = self.downs.get_mut(key) else { return bytes.len() };
        let Some(up_key) = down.call.as_ref().and_then(|call| call.up) else { return bytes.len() };
        let Some(up) = self.ups.get_mut(up_key) else { return bytes.len() };
        up.outbox.buffer(&mut self.buffers).extend_from_slice(bytes);
        if up.outbox.len() > HIGH {
            down.paused = true;
        }
        self.flush_up(up_key);
        bytes.len()
    }

    /// A caller sends no more. `false`: nothing of it is left to be done.
    pub(super) fn end_of_down(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        down.ended = true;
        match &down.call {
            Some(Call { stage: Stage::Tunnel, up: Some(up), .. }) => {
                let up = *up;
                let Some(connection) = self.ups.get_mut(up) else { return false };
                if connection.outbox.is_empty() {
                    self.effects.push(Effect::Shut(Leg::Up(up)));
                } else {
                    connection.shutting = true;
                }
                true
            }
            // Half a request is none.
            Some(call) if !call.body.is_done() => {
                self.abandon(context, key);
                false
            }
            Some(_) => true,
            // What waits is either not complete or will be served.
            None => !down.outbox.is_empty() || down.closing || down.paused,
        }
    }

    /// Answers a head, or the beginning of one, that cannot be carried.
    pub(super) fn refuse_head(&mut self, context: &mut Context<'_>, key: Key, head: &[u8], fault: Fault) {
        let Some(down) = self.downs.get_mut(key) else { return };
        context.local.refuse_unrouted(down.arrival.listener, fault.refusal());
        down.begins_to_say(context.now);
        C::fault(head, None, fault, &words::fault(fault), down.outbox.buffer(&mut self.buffers));
        self.count_fault(context.now, fault);
        self.close_after(key);
    }

    /// A request's body cannot be carried further: its endpoint never sees its end.
    pub(super) fn refuse_body(&mut self, context: &mut Context<'_>, key: Key, fault: Fault) {
        let Some(call) = self.downs.get_mut(key).and_then(|down| down.call.as_ref()) else { return };
        let (asked, begun) = (call.asked, !matches!(call.stage, Stage::Head));
        self.count_fault(context.now, fault);
        self.abandon(context, key);
        if begun {
            return self.reset_down(key);
        }
        let Some(down) = self.downs.get_mut(key) else { return };
        down.begins_to_say(context.now);
        C::fault(&[], Some(&asked), fault, &words::fault(fault), down.outbox.buffer(&mut self.buffers));
        self.close_after(key);
    }

    fn count_fault(&mut self, now: Tick, fault: Fault) {
        match fault {
            Fault::TargetTooLong | Fault::HeadTooLarge | Fault::BodyTooLarge => self.counters.too_large += 1,
            Fault::Slow => self.counters.slow_requests += 1,
            _ => self.counters.malformed += 1,
        }
        self.tell(now, "refused a request that cannot be carried", fault.why());
    }

    fn close_after(&mut self, key: Key) {
        self.flush_down(key);
        self.finish_down(key);
    }

    /// Answers a request in our own name. The connection stays where what follows can be told from its body.
    pub(super) fn refuse(&mut self, now: Tick, key: Key, asked: &Asked, refused: &Refused, message: &str) {
        self.say(now, key, asked, |close, out| {
            C::refuse(Some(asked), refused.why, refused.wait, message, close, out);
        });
    }

    /// Answers a request as its route says, by a head and a body; without them it cannot be told where it should go.
    fn respond(&mut self, now: Tick, key: Key, asked: &Asked, told: Option<(&Message, &[u8])>) {
        let Some((answer, body)) = told else {
            return self.refuse(now, key, asked, &Refused::from(Refusal::Malformed), words::NOWHERE);
        };
        self.say(now, key, asked, |close, out| C::respond(asked, answer.head(), body, close, out));
    }

    /// Says a whole answer of ours, which `spell` spells, whether we close the connection after it being told.
    fn say(&mut self, now: Tick, key: Key, asked: &Asked, spell: impl FnOnce(bool, &mut Vec<u8>)) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let discard = match asked.body {
            Framing::None => Some(0),
            Framing::Length(length) if !asked.awaits && length <= DISCARD_MAX => Some(length),
            _ => None,
        };
        let close = !asked.keep || discard.is_none() || self.draining || down.leaving;
        down.begins_to_say(now);
        spell(close, down.outbox.buffer(&mut self.buffers));
        down.discard = discard.unwrap_or(0);
        if close {
            self.close_after(key);
        } else {
            self.flush_down(key);
        }
    }
}

/// An id that no other request has.
fn fresh_id(ids: &foldhash::quality::RandomState, next: &mut u64) -> String {
    use std::hash::BuildHasher;
    *next += 1;
    let mut id = String::with_capacity(32);
    let _ = write!(id, "{:016x}{:016x}", ids.hash_one(*next), ids.hash_one((*next, 1u8)));
    id
}
