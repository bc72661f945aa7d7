//! The callers' leg: requests are read, decided and forwarded, all in one go, without an await or an allocation.
//!
//! A caller that sends what cannot be read is answered in its own protocol where its frame can be told, and closed
//! where the framing cannot be trusted any more. Nothing a caller sends touches another caller.

use std::time::Duration;

use outrigger_codec::{
    FrameCodec, FrameKind, Framed, Head, Malformed, Refusal, Scan, Ticket, Wants, frames::LANES_MAX,
};
use outrigger_core::{End, EndpointSlot, ListenerId, Plan, Tick, decide, retry, settle};

use super::{
    super::{arena::Key, pending::Call, words},
    AVOID_FAILED, Beats, Context, Down, Effect, Frames, Outbox, Pending, STALL_MAX, Up,
};

impl<C: FrameCodec> Frames<C> {
    /// A caller connected. `silence` is how long it may be silent without calls; `None`: what the protocol says.
    pub fn down_open(&mut self, listener: ListenerId, silence: Option<Duration>, now: Tick) -> Key {
        self.counters.down_opened += 1;
        self.downs.insert(Down {
            source: None,
            listener,
            silence: silence.unwrap_or(C::SERVER_IDLE),
            carry: Vec::new(),
            carry_since: Tick::NEVER,
            outbox: Outbox::default(),
            in_flight: 0,
            last_in: now,
            last_out: now,
            paused: false,
            flushing: false,
            closing: false,
            leaving: None,
            ended: false,
            beats: Beats::default(),
        })
    }

    /// A caller sent `bytes`. They may be changed in place. `false`: do not read it until `Resume`.
    pub fn down_bytes(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        down.last_in = context.now;
        if down.carry.is_empty() {
            down.carry_since = context.now;
            let used = self.down_frames(context, key, bytes);
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
            self.down_carry(context, key);
        }
        self.reads(key)
    }

    /// Goes on with what a paused caller sent already. `false`: still do not read it.
    pub fn resume(&mut self, context: &mut Context<'_>, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        // It may be waited for in more than one place: what it itself must read comes first.
        if down.outbox.len() > self.bounds.outbox_high || self.pressing {
            // Said again, because another place it waited for may have let it go meanwhile.
            down.paused = true;
            return false;
        }
        down.paused = false;
        self.down_carry(context, key);
        if let Some(down) = self.downs.get_mut(key) {
            // While it was not read it could not finish its frame: the time for that begins again.
            down.carry_since = context.now;
        }
        self.reads(key)
    }

    /// A caller sends no more, but may still read. Whether answers are still to come; otherwise it can be closed.
    pub fn down_ended(&mut self, key: Key) -> bool {
        let Some(down) = self.downs.get_mut(key) else { return false };
        down.ended = true;
        down.in_flight > 0 || !down.outbox.is_empty()
    }

    /// A caller's connection ended by itself.
    pub fn down_closed(&mut self, key: Key) {
        self.forget_down(key);
    }

    fn reads(&self, key: Key) -> bool {
        self.downs.get(key).is_some_and(|down| !down.paused && !down.closing && !down.ended)
    }

    /// Handles the whole frames in a caller's carry.
    fn down_carry(&mut self, context: &mut Context<'_>, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let mut carry = std::mem::take(&mut down.carry);
        let used = self.down_frames(context, key, &mut carry);
        let Some(down) = self.downs.get_mut(key) else { return self.buffers.give(carry) };
        if used == carry.len() {
            self.buffers.give(carry);
        } else {
            if used > 0 {
                carry.drain(..used);
                down.carry_since = context.now;
            }
            down.carry = carry;
        }
    }

    /// Handles the whole frames at the start of `bytes`; how many bytes are done with.
    fn down_frames(&mut self, context: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.reads(key) {
            match C::scan(&bytes[at..], self.bounds.frame_max) {
                Scan::Partial { .. } => break,
                Scan::Frame(framed) => {
                    let end = (at + framed.len).min(bytes.len());
                    self.down_frame(context, key, &mut bytes[at..end], framed);
                    at = end;
                    // The caller's own timeout counts from the arrival of its request, not of an earlier one.
                    if let Some(down) = self.downs.get_mut(key) {
                        down.carry_since = context.now;
                    }
                }
                Scan::TooLarge(framed) => {
                    self.counters.too_large += 1;
                    self.tell(
                        context.now,
                        "closed a caller that sent too much",
                        "frame larger than frame_max",
                    );
                    if framed.kind == FrameKind::Request {
                        let message = words::too_large(framed.len, self.bounds.frame_max);
                        let (ticket, why) = (C::ticket(&bytes[at..]), Refusal::TooLarge);
                        self.refuse_down(
                            key,
                            Answer { ticket, id: framed.id, why, message: &message },
                            context.now,
                        );
                    }
                    self.count_unread(context, key, Refusal::TooLarge);
                    self.finish_down(key);
                    at = bytes.len();
                }
                Scan::Broken(what) => {
                    self.count_broken(what);
                    self.count_unread(context, key, Refusal::Malformed);
                    self.tell(context.now, "closed a caller whose framing cannot be trusted", what.0);
                    self.finish_down(key);
                    at = bytes.len();
                }
            }
        }
        if self.downs.get(key).is_some_and(|down| down.closing) { bytes.len() } else { at }
    }

    pub(super) fn count_broken(&mut self, what: Malformed) {
        self.counters.malformed += 1;
        self.counters.crc += u64::from(what.0 == "crc");
    }

    fn count_unread(&self, context: &mut Context<'_>, key: Key, why: Refusal) {
        if let Some(down) = self.downs.get(key) {
            context.local.refuse_unrouted(down.listener, why);
        }
    }

    fn down_frame(&mut self, context: &mut Context<'_>, key: Key, frame: &mut [u8], framed: Framed) {
        match framed.kind {
            FrameKind::Request | FrameKind::OneWay => self.call(context, key, frame, framed),
            FrameKind::Heartbeat => {
                let Some(down) = self.downs.get_mut(key) else { return };
                if Self::beat_allowed(&mut down.beats, context.now)
                    && down.outbox.len() < self.bounds.outbox_high
                {
                    self.counters.heartbeats += 1;
                    C::heartbeat_ack(frame, down.outbox.buffer(&mut self.buffers));
                    self.flush_down(key);
                } else {
                    self.counters.heartbeats_dropped += 1;
                }
            }
            // We ask callers nothing, so every answer of theirs is to nobody's question.
            FrameKind::Response | FrameKind::HeartbeatAck => self.counters.unknown_replies += 1,
            // Callers have no say in our lifetime (MOSN too logs and ignores a client's GOAWAY).
            FrameKind::Event | FrameKind::Retire | FrameKind::Resume => {}
        }
    }

    /// One call: decode its head, decide, forward or refuse.
    fn call(&mut self, context: &mut Context<'_>, key: Key, frame: &mut [u8], framed: Framed) {
        let Some(down) = self.downs.get(key) else { return };
        let (listener, source, arrived) = (down.listener, down.source, down.carry_since);
        // A listener that a reload took away leaves its callers without routes until they have left.
        let (name, wants) = context
            .snapshot
            .listener(listener)
            .map_or(("(removed)", Wants::NONE), |table| (&*table.name, table.routes.wants()));
        self.index.clear();
        self.index.source = source;
        if let Err(what) = C::head(frame, wants, &mut self.index) {
            context.local.refuse_unrouted(listener, Refusal::Malformed);
            if framed.kind == FrameKind::Request {
                let (ticket, why, message) = (C::ticket(frame), Refusal::Malformed, &words::malformed(what));
                self.refuse_down(key, Answer { ticket, id: framed.id, why, message }, context.now);
            }
            return;
        }
        let head = Head { bytes: frame, index: &self.index };
        match decide(context.snapshot, listener, context.local, head, arrived, context.now) {
            // It waited too long here, behind others of a caller that was not read.
            Ok(plan) if plan.deadline <= context.now => {
                let caller = (framed.kind == FrameKind::Request).then_some((key, framed.id));
                self.refuse_planned(context, caller, C::ticket(frame), plan, Refusal::TimedOut);
            }
            Ok(plan) => {
                let id = (framed.kind == FrameKind::Request).then_some(framed.id);
                let said = self.index.timeout_ms;
                // Where less is left than its caller said, by its route or by what was spent, the provider too shall give up
                // in time. Nobody waits for a call without an answer: it has no time, unless its caller gave it some.
                let waits = id.is_some() || said.is_some();
                let left = plan.told_ms(context.now).filter(|ms| waits && said.is_none_or(|said| *ms < said));
                match left.filter(|ms| !C::set_timeout(frame, &self.index, *ms)) {
                    Some(ms) => self.forward_with_timeout(context, key, id, frame, ms, plan),
                    None => self.forward_changed(context, key, id, frame, plan),
                }
            }
            Err(refused) if framed.kind == FrameKind::Request => {
                let message = words::refused(refused.why, head, name);
                let (ticket, why) = (C::ticket(frame), refused.why);
                self.refuse_down(key, Answer { ticket, id: framed.id, why, message: &message }, context.now);
            }
            Err(_) => {}
        }
    }

    /// Hands a frame on, made longer by a timeout that it has no place for.
    fn forward_with_timeout(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        id: Option<u64>,
        frame: &[u8],
        ms: u32,
        plan: Plan,
    ) {
        let mut anew = self.buffers.take();
        // What cannot tell it passes as it is.
        let told = C::add_timeout(frame, &self.index, ms, &mut anew);
        self.forward_changed(context, key, id, if told { &anew } else { frame }, plan);
        self.buffers.give(anew);
    }

    /// Hands a frame on, changed where its route says so.
    fn forward_changed(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        id: Option<u64>,
        frame: &[u8],
        plan: Plan,
    ) {
        let Some(changes) = plan.changes.as_ref().filter(|changes| !changes.request.is_none()) else {
            return self.forward(context, key, id, frame, plan);
        };
        let mut changed = self.buffers.take();
        // What cannot be changed passes as it is.
        let done = C::change(frame, &changes.request, &mut changed);
        self.counters.unchanged += u64::from(!done);
        self.forward(context, key, id, if done { &changed } else { frame }, plan);
        self.buffers.give(changed);
    }

    /// Hands a frame of `key` to a connection of the plan's endpoint. `id` is absent for one-way calls.
    pub(super) fn forward(
        &mut self,
        context: &mut Context<'_>,
        key: Key,
        id: Option<u64>,
        frame: &[u8],
        plan: Plan,
    ) {
        let caller = id.map(|id| (key, id));
        let Some(up_key) = self.choose(context, plan.endpoint, C::lane(frame)) else {
            if context.local.is_awaited(plan.endpoint) {
                return self.hold(context, key, id, frame, plan);
            }
            return self.refuse_planned(context, caller, C::ticket(frame), plan, Refusal::NoEndpoint);
        };
        if !self.has_room(context, up_key, plan.endpoint) {
            return self.refuse_planned(context, caller, C::ticket(frame), plan, Refusal::Overloaded);
        }
        let kept = if id.is_some() && plan.retry.is_some() { self.keep(frame) } else { Vec::new() };
        let (Some(up), Some(down)) = (self.ups.get_mut(up_key), self.downs.get_mut(key)) else { return };
        let ours = match id {
            Some(id) => {
                let try_until = retry::try_deadline(&plan, 0, context.now);
                let hedge_at = retry::hedge_at(&plan, 0, context.now);
                self.next_deadline = self.next_deadline.min(plan.deadline).min(try_until).min(hedge_at);
                down.in_flight += 1;
                up.pending.insert(Call {
                    down: key,
                    id,
                    ticket: C::ticket(frame),
                    tries: 1,
                    plan,
                    kept,
                    again: 0,
                    try_until,
                    hedge_at,
                    twin: None,
                })
            }
            None => {
                settle(context.local, plan, End::Sent, context.now);
                up.pending.next_id()
            }
        };
        Self::append(&mut self.buffers, up, frame, ours, context.now);
        // It must not fill the bound for all others; so must all who send there, as they come by.
        if up.outbox.len() > self.bounds.outbox_high {
            down.paused = true;
            up.waiting.push(key);
        }
        self.flush_up(up_key);
    }

    /// Puts a frame with a new id behind what waits for an endpoint.
    pub(super) fn append(buffers: &mut super::Buffers, up: &mut Up, frame: &[u8], id: u32, now: Tick) {
        if up.outbox.is_empty() {
            up.progress = now;
        }
        up.idle_since = now;
        let buffer = up.outbox.buffer(buffers);
        let start = buffer.len();
        buffer.extend_from_slice(frame);
        if let Some(copy) = buffer.get_mut(start..) {
            C::set_id(copy, u64::from(id));
        }
    }

    /// Whether one more call fits on a connection.
    pub(super) fn has_room(&self, context: &Context<'_>, key: Key, endpoint: EndpointSlot) -> bool {
        let Some(up) = self.ups.get(key) else { return false };
        let pending_max =
            context.local.endpoint(endpoint).map_or(0, |state| state.settings.pending_max as usize);
        let stalled = up.stalled(context.now) && up.outbox.len() > self.bounds.outbox_high;
        up.pending.len() < pending_max && !stalled && up.outbox.len() < self.bounds.outbox_max
    }

    /// A connection to the endpoint for frames of `lane`: the least busy one, or a new one while there may be more.
    pub(super) fn choose(
        &mut self,
        context: &mut Context<'_>,
        endpoint: EndpointSlot,
        lane: u8,
    ) -> Option<Key> {
        let at = endpoint.0 as usize;
        // Its endpoints speak something that these calls are not translated into.
        let speaks = context.local.endpoint(endpoint)?.settings.speaks;
        speaks.is_none_or(|name| name == C::NAME).then_some(())?;
        if self.pools.len() <= at {
            self.pools.resize_with(at + 1, Default::default);
        }
        let lane = usize::from(lane).min(LANES_MAX - 1);
        let pool = self.pools.get(at)?.get(lane)?;
        let most = context.local.endpoint(endpoint)?.settings.connections.unwrap_or(1) as usize;
        // Nobody is there yet.
        (most > 0).then_some(())?;
        let ups = &self.ups;
        let busy =
            |key: &Key| ups.get(*key).map_or((true, usize::MAX), |up| (!up.connected, up.pending.len()));
        let best =
            if let [only] = pool.as_slice() { Some(*only) } else { pool.iter().copied().min_by_key(busy) };
        match best {
            Some(key) if pool.len() >= most || busy(&key) == (false, 0) => Some(key),
            best => {
                let dialed = self.dial(context, endpoint, lane as u8);
                best.or(dialed)
            }
        }
    }

    fn dial(&mut self, context: &mut Context<'_>, endpoint: EndpointSlot, lane: u8) -> Option<Key> {
        let state = context.local.endpoint(endpoint)?;
        let (address, timeout) = (state.address.clone(), state.settings.connect_timeout);
        let key = self.ups.insert(Up {
            endpoint,
            lane,
            connected: false,
            retired: false,
            carry: Vec::new(),
            carry_since: Tick::NEVER,
            outbox: Outbox::default(),
            pending: Pending::default(),
            waiting: Vec::new(),
            since: context.now,
            last_in: context.now,
            progress: context.now,
            idle_since: context.now,
            beat: None,
            missed: 0,
            flushing: false,
            beats: Beats::default(),
        });
        self.pools.get_mut(endpoint.0 as usize)?.get_mut(usize::from(lane))?.push(key);
        context.local.connecting(endpoint);
        self.counters.up_dialed += 1;
        self.effects.push(Effect::Dial { up: key, address, timeout, patience: STALL_MAX });
        Some(key)
    }

    /// Refuses a call that was planned but not handed over.
    pub(super) fn refuse_planned(
        &mut self,
        context: &mut Context<'_>,
        caller: Option<(Key, u64)>,
        ticket: Ticket,
        plan: Plan,
        why: Refusal,
    ) {
        if let Some((down, id)) = caller {
            let waited = context.now.since(plan.started).as_millis();
            let message = context.local.endpoint(plan.endpoint).map_or_else(String::new, |endpoint| {
                words::failed(why, &endpoint.cluster, &endpoint.address, waited)
            });
            self.refuse_down(down, Answer { ticket, id, why, message: &message }, context.now);
        }
        if why == Refusal::Unreachable {
            context.local.avoid(plan.endpoint, context.now.after(AVOID_FAILED));
        }
        settle(context.local, plan, End::Refused(why), context.now);
    }

    /// Answers a caller in our own name.
    pub(super) fn refuse_down(&mut self, key: Key, answer: Answer<'_>, now: Tick) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let Answer { ticket, id, why, message } = answer;
        down.last_out = now;
        C::refuse(ticket, id, why, message, down.outbox.buffer(&mut self.buffers));
        self.flush_down(key);
        self.guard_down(key);
    }

    /// Keeps what waits for a caller under its bound: first it is not read any more, then it is closed.
    pub(super) fn guard_down(&mut self, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        if down.outbox.len() > self.bounds.outbox_max {
            self.counters.slow_callers += 1;
            tracing::debug!(
                protocol = C::NAME,
                waiting = down.outbox.len(),
                "closing a caller that does not read"
            );
            self.close_down(key);
        } else if down.outbox.len() > self.bounds.outbox_high {
            down.paused = true;
        }
    }

    /// Reads nothing more from a caller and closes it when its answers are written.
    pub(super) fn finish_down(&mut self, key: Key) {
        let Some(down) = self.downs.get_mut(key) else { return };
        down.closing = true;
        if down.outbox.is_empty() {
            self.close_down(key);
        }
    }
}

/// What a caller is told in our own name.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) ticket: Ticket,
    pub(super) id: u64,
    pub(super) why: Refusal,
    pub(super) message: &'a str,
}
