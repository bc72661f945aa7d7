//! What happens in a life: events drawn by chance, what peers do, and what they must not be made to hold.
//!
//! Bytes are read in any splits; a peer ends in any place. Nothing here may happen that sockets cannot do.

use std::time::Duration;

use outrigger::session::{Arrival, Engine, Leg, Renewed, arena::Key};

use crate::{
    callers::{Caller, End},
    calls::Call,
    endpoints::{Upstream, Wrong},
    life::{Life, Pipe, trace},
    wire::{Framing, Stream},
};

/// A socket that takes whatever comes.
pub(crate) const WIDE: usize = 1 << 40;
/// Bytes read from a socket at once.
const READ_MAX: usize = 64 << 10;
/// Bytes of a caller that may be here: one read and the mark, for the request that is sent and for what waits behind it.
const HELD_MAX: usize = (4 * 64 + 24) << 10;
/// Bytes of an answer that may be here: one read and the mark, and what frames them.
const ANSWER_MAX: usize = (2 * 64 + 24) << 10;

pub(crate) fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

impl Life {
    pub(crate) fn step(&mut self) {
        const KIND: [usize; 10] = [16, 28, 20, 16, 28, 12, 12, 10, 3, 4];
        match self.rng.weighted(&KIND) {
            0 => self.caller_asks(),
            1 => self.caller_sends(),
            2 => self.flush_all(),
            3 => self.endpoint_answers(),
            4 => self.endpoint_sends(),
            5 => {
                let by = self.rng.range(0, 4_000) as u64;
                self.advance(Duration::from_micros(by));
            }
            6 => self.dial_ends(),
            7 => self.socket_has_room(),
            8 => self.tunnels(),
            _ if self.world.shape.calm => {}
            _ => self.mishap(),
        }
    }

    fn mishap(&mut self) {
        const KIND: [usize; 14] = [14, 12, 5, 4, 4, 14, 6, 6, 5, 6, 4, 5, 5, 5];
        match self.rng.weighted(&KIND) {
            0 => {
                let by = ms(self.rng.range(5, 300));
                self.advance(by);
            }
            1 => self.endpoint_dies(),
            2 => {
                let by = ms(self.rng.range(1_000, 20_000));
                self.advance(by);
            }
            3 => self.caller_leaves(),
            4 => self.caller_ends(),
            5 => self.caller_comes(),
            6 => self.swap(),
            7 => self.endpoint_babbles(),
            8 => self.caller_stalls(),
            9 => self.endpoint_answers_wrongly(),
            10 => self.endpoint_is_mute(),
            11 => self.unwanted_open(),
            12 => self.caller_does_not_read(),
            _ if self.rng.chance(15) => self.drain(),
            _ => self.socket_has_room(),
        }
    }

    fn room(&mut self) -> usize {
        if self.rng.chance(self.world.shape.slow_percent) { self.rng.below(3_000) } else { WIDE }
    }

    pub(crate) fn caller_comes(&mut self) {
        let names = self.world.shape.listener_names();
        if names.is_empty() || self.world.draining || self.callers.len() >= 6 {
            return;
        }
        let listener = names[self.rng.below(names.len())].clone();
        let id = self.snapshot.listener_named(&listener).expect("it is in the snapshot");
        let arrival =
            Arrival { listener: id, manners: self.world.shape.manners.clone(), peer: None, foreign: false };
        let now = self.world.now;
        let key = self.engine.down_open(arrival, now);
        self.numbers += 1;
        let pipe = Pipe::new(self.room());
        trace!(self, "caller {} comes on {listener}, room {}", self.numbers, pipe.room);
        self.callers.push(Caller::new(self.numbers, key, listener, pipe, now));
        self.handle(|_, _| ());
    }

    fn some_caller(&mut self, pass: impl Fn(&Caller) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.callers.len()).filter(|at| pass(&self.callers[*at])).collect();
        (!there.is_empty()).then(|| self.rng.pick(&there))
    }

    fn some_up(&mut self, pass: impl Fn(&Upstream) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.ups.len()).filter(|at| pass(&self.ups[*at])).collect();
        (!there.is_empty()).then(|| self.rng.pick(&there))
    }

    /// A caller writes some requests to its socket.
    fn caller_asks(&mut self) {
        let free = |caller: &Caller| {
            !caller.ends
                && !caller.gone
                && !caller.closing
                && caller.gate.is_none()
                && caller.tunnel.is_none()
        };
        let Some(at) = self.some_caller(|caller| free(caller) && caller.waiting.len() < 8) else {
            return self.caller_comes();
        };
        if self.world.calls.len() > 200 {
            return;
        }
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 4]) {
            let caller = &mut self.callers[at];
            let last = caller.waiting.back().map(|call| &self.world.calls[*call]);
            if last.is_some_and(|last| !last.keep || last.upgrade || last.expects) {
                return;
            }
            let id = self.world.calls.len();
            let mut call = Call::draw(id, caller.number, &self.world.shape, &mut self.rng);
            call.write(&mut self.rng, &mut caller.wrote);
            caller.gate = call.expects.then_some(call.head_end);
            caller.waiting.push_back(id);
            caller.unread.push_back(id);
            trace!(self, "caller {} writes {call:?}", caller.number);
            self.world.calls.push(call);
        }
    }

    fn caller_leaves(&mut self) {
        let Some(at) = self.some_caller(|caller| !caller.gone) else { return };
        let caller = &mut self.callers[at];
        trace!(self, "caller {} leaves", caller.number);
        caller.gone = true;
        let key = caller.key;
        if caller.pipe.reading && !caller.ended {
            self.caller_lost(key);
        }
    }

    /// A caller shuts its sending side behind what it wrote, or in the middle of it.
    fn caller_ends(&mut self) {
        let Some(at) = self.some_caller(|caller| !caller.ends && !caller.gone) else { return };
        let cuts = self.rng.chance(40);
        let caller = &mut self.callers[at];
        caller.ends = true;
        caller.gate = None;
        if cuts {
            caller.wrote.truncate(caller.sent);
        }
        trace!(self, "caller {} sends no more behind {} bytes", caller.number, caller.unsent());
    }

    fn caller_stalls(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.unsent() > 0) else { return };
        let by = ms(self.rng.pick(&[100, 1_000, 20_000]));
        let caller = &mut self.callers[at];
        caller.stalled = Some(self.world.now.after(by));
        trace!(self, "caller {} stalls for {by:?}", caller.number);
    }

    fn caller_does_not_read(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.pipe.room > 0) else { return };
        self.callers[at].pipe.room = self.rng.below(10);
        trace!(self, "caller {} reads no more", self.callers[at].number);
    }

    /// The engine reads a part of what a caller wrote.
    fn caller_sends(&mut self) {
        let now = self.world.now;
        let willing = |caller: &Caller| caller.stalled.is_none_or(|until| now >= until);
        let can = |caller: &Caller| caller.unsent() > 0 || (caller.ends && !caller.ended) || caller.gone;
        let Some(at) = self.some_caller(|caller| caller.pipe.reading && willing(caller) && can(caller))
        else {
            return;
        };
        self.read_caller(self.callers[at].key);
    }

    fn chunk(&mut self, unsent: usize) -> usize {
        let most = unsent.min(READ_MAX);
        match self.rng.below(8) {
            0 => 1,
            1..4 => self.rng.range(1, most),
            _ => most,
        }
    }

    /// One read of a caller's socket.
    pub(crate) fn read_caller(&mut self, key: Key) {
        let Some(at) = self.callers.iter().position(|caller| caller.key == key) else { return };
        if self.callers[at].gone {
            return self.caller_lost(key);
        }
        let unsent = self.callers[at].unsent();
        if unsent == 0 {
            if self.callers[at].ends && !self.callers[at].ended {
                self.caller_ended(at);
            }
            return;
        }
        let n = self.chunk(unsent);
        let caller = &mut self.callers[at];
        let mut bytes = caller.deliver(n, &mut self.world);
        trace!(self, "caller {}: {n} bytes are read", caller.number);
        self.handle_noting(
            |engine, context| engine.down_bytes(context, key, &mut bytes),
            |life, reads| {
                trace!(life, "  reads: {reads}");
                if let Some(pipe) = life.pipe(Leg::Down(key)) {
                    pipe.reading = *reads;
                }
            },
        );
        self.holds_little(key);
    }

    fn caller_ended(&mut self, at: usize) {
        let key = self.callers[at].key;
        self.callers[at].ended = true;
        trace!(self, "caller {} sends no more", self.callers[at].number);
        if self.handle(|engine, context| engine.down_ended(context, key)) {
            if let Some(pipe) = self.pipe(Leg::Down(key)) {
                pipe.reading = false;
            }
        } else if let Some(caller) = self.callers.iter_mut().find(|caller| caller.key == key) {
            let front = caller.front().map(|call| &self.world.calls[call]);
            // Who stops in the middle of a request is not waited for, whatever it asked before.
            let whole = caller.unread.iter().all(|id| caller.sent <= self.world.calls[*id].start);
            let owed = front.is_some_and(|call| call.whole.is_some() && !call.flaw.is_in_head());
            assert!(!owed || !whole || caller.closing, "caller {} waits for {front:?}", caller.number);
            self.caller_lost(key);
        }
    }

    /// What a caller sent is not kept here beyond the bounds.
    fn holds_little(&self, key: Key) {
        let Some(caller) = self.callers.iter().find(|caller| caller.key == key) else { return };
        if caller.pipe.flush_said || caller.pipe.blocked_since.is_some() || caller.closing {
            return;
        }
        let gone_on = match (caller.tunnel, caller.front()) {
            (Some(id), _) => self.world.calls[id].head_end + self.world.calls[id].tunnelled,
            (None, Some(id)) => {
                let call = &self.world.calls[id];
                call.start + call.carrier().map_or(0, |attempt| attempt.seen)
            }
            (None, None) => caller.sent,
        };
        let held = caller.sent.saturating_sub(gone_on);
        assert!(held <= HELD_MAX, "{held} bytes of caller {} are held", caller.number);
    }

    /// An endpoint answers its call.
    fn endpoint_answers(&mut self) {
        let early = !self.world.shape.calm && self.rng.chance(10);
        let Some(at) = self.some_up(|up| up.owes() && !up.mute && (up.whole || early)) else {
            return self.endpoint_continues();
        };
        let up = &mut self.ups[at];
        let wrong = self.rng.chance(self.world.shape.flaw_percent);
        let wrong = if wrong { Upstream::draw_wrong(&mut self.rng) } else { Wrong::Nothing };
        up.answers(wrong, &mut self.rng, &mut self.world);
        trace!(
            self,
            "connection {} answers {wrong:?}: {:?}",
            up.number,
            up.current.map(|id| &self.world.calls[id].attempts)
        );
    }

    fn endpoint_continues(&mut self) {
        let world = &self.world;
        let asks =
            |up: &Upstream| up.current.is_some_and(|id| world.calls[id].expects && !up.has_continued(world));
        let there: Vec<usize> =
            (0..self.ups.len()).filter(|at| self.ups[*at].owes() && asks(&self.ups[*at])).collect();
        if let Some(at) = (!there.is_empty()).then(|| self.rng.pick(&there)) {
            self.ups[at].continues(&mut self.world);
            trace!(self, "connection {} says 100", self.ups[at].number);
        }
    }

    fn endpoint_answers_wrongly(&mut self) {
        let Some(at) = self.some_up(Upstream::owes) else { return };
        let wrong = Upstream::draw_wrong(&mut self.rng);
        self.ups[at].answers(wrong, &mut self.rng, &mut self.world);
        trace!(self, "connection {} answers {wrong:?}", self.ups[at].number);
    }

    fn endpoint_is_mute(&mut self) {
        if let Some(at) = self.some_up(Upstream::owes) {
            self.ups[at].mute = true;
            trace!(self, "connection {} is mute", self.ups[at].number);
        }
    }

    fn endpoint_sends(&mut self) {
        let can = |up: &Upstream| up.open && up.pipe.reading && (up.unsent() > 0 || up.ends.is_some());
        if let Some(at) = self.some_up(can) {
            self.read_up(self.ups[at].key);
        }
    }

    /// One read of an endpoint's socket.
    pub(crate) fn read_up(&mut self, key: Key) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else { return };
        let unsent = self.ups[at].unsent();
        if unsent == 0 {
            if let Some(end) = self.ups[at].ends {
                self.up_lost(key, "closed by peer", end);
            }
            return;
        }
        let n = self.chunk(unsent);
        let up = &mut self.ups[at];
        let n = up.split(n).min(unsent);
        let (call, attempt) = (up.current, up.attempt);
        let mut bytes = up.deliver(n, &mut self.world);
        trace!(self, "connection {}: {n} bytes are read", up.number);
        self.handle_noting(
            |engine, context| engine.up_bytes(context, key, &mut bytes),
            |life, reads| {
                trace!(life, "  reads: {reads}");
                if let Some(pipe) = life.pipe(Leg::Up(key)) {
                    pipe.reading = *reads;
                }
            },
        );
        let Some(call) = call.map(|id| &self.world.calls[id]).filter(|call| call.outcome.is_none()) else {
            return;
        };
        let Some(caller) = self.callers.iter().find(|caller| caller.number == call.caller) else { return };
        // Of the answer that is none the caller has nothing.
        let taken = if call.prevails == Some(attempt) { caller.heard_of(call.id) } else { 0 };
        let held = call.attempts[attempt].heard - taken;
        assert!(held <= ANSWER_MAX, "{held} bytes of the answer to call {} are held", call.id);
    }

    /// An endpoint's connection ends, whatever it carries.
    fn endpoint_dies(&mut self) {
        let Some(at) = self.some_up(|up| up.open && up.ends.is_none()) else { return };
        let up = &mut self.ups[at];
        let at = up.attempt;
        let reply = up.current.and_then(|id| self.world.calls[id].attempts[at].reply.as_ref());
        // An end in order would make a whole answer of it.
        let to_end = reply.is_some_and(|reply| reply.framing == Framing::Close);
        let how = if to_end { self.rng.range(1, 3) } else { self.rng.below(4) };
        up.ends = Some(if how == 0 { End::Orderly } else { End::Reset });
        up.gone = how >= 2;
        if how == 3 {
            // A reset takes away what was not read.
            up.said.truncate(up.sent);
        }
        if let Some(attempt) = up.current.map(|id| &mut self.world.calls[id].attempts[at]) {
            attempt.failed = true;
            if let Some(reply) = attempt.reply.as_mut().filter(|_| how == 3) {
                reply.complete = false;
            }
        }
        trace!(self, "connection {} ends ({:?}, gone: {})", up.number, up.ends, up.gone);
        let (key, reading, at_once) = (up.key, up.pipe.reading, up.unsent() == 0);
        if how > 0 && reading && at_once && self.rng.chance(50) {
            self.up_lost(key, "reset by peer", End::Reset);
        }
    }

    /// An endpoint says something on an idle connection.
    fn endpoint_babbles(&mut self) {
        // At once and between requests: otherwise it would answer whatever comes next, through any proxy.
        self.flush_all();
        let idle =
            |up: &Upstream| up.open && up.is_idle() && up.pipe.reading && up.pipe.blocked_since.is_none();
        let Some(at) = self.some_up(idle) else { return };
        let up = &mut self.ups[at];
        up.babbles();
        trace!(self, "connection {} babbles", up.number);
        let key = up.key;
        self.read_up(key);
    }

    fn tunnels(&mut self) {
        let len = self.rng.below(3_000);
        if let Some(at) = self.some_caller(|caller| caller.tunnel.is_some() && !caller.ends) {
            let caller = &mut self.callers[at];
            let id = caller.tunnel.expect("asked for");
            let said = caller.wrote.len() - self.world.calls[id].end;
            caller.wrote.extend(Stream::ToEndpoint(id).bytes(said, len));
        }
        if let Some(at) = self.some_up(|up| up.tunnel.is_some()) {
            self.ups[at].tunnels(len);
            if !self.world.shape.calm && self.rng.chance(10) {
                self.ups[at].ends = Some(End::Orderly);
            }
        }
    }

    fn dial_ends(&mut self) {
        let Some(at) = self.some_up(|up| !up.open) else { return };
        let key = self.ups[at].key;
        if !self.world.shape.calm && self.rng.chance(6) {
            return self.up_lost(key, "connection refused", End::Reset);
        }
        let room = self.room();
        self.up_opens(key, room);
    }

    /// A full socket takes bytes again; its own task finds out and writes.
    fn socket_has_room(&mut self) {
        let downs = self.callers.iter().filter(|c| c.pipe.room < WIDE / 2).map(|c| Leg::Down(c.key));
        let ups = self.ups.iter().filter(|up| up.open && up.pipe.room < WIDE / 2).map(|up| Leg::Up(up.key));
        let legs: Vec<Leg> = downs.chain(ups).collect();
        if legs.is_empty() {
            return;
        }
        let more = if self.rng.chance(20) { WIDE } else { self.rng.range(1, 30_000) };
        let leg = self.rng.pick(&legs);
        self.widen(leg, more);
    }

    pub(crate) fn widen(&mut self, leg: Leg, more: usize) {
        let now = self.world.now;
        let Some(pipe) = self.pipe(leg) else { return };
        pipe.room = pipe.room.saturating_add(more).min(WIDE);
        let blocked = pipe.blocked_since.take().is_some();
        if blocked {
            pipe.wide_since = now;
            trace!(self, "{leg:?} has room for {more} more");
            self.flush(leg);
        }
    }

    fn swap(&mut self) {
        self.world.shape.change(&mut self.rng);
        let snapshot = self.world.shape.snapshot();
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        let renames: Vec<_> =
            old.listeners().iter().map(|listener| self.snapshot.listener_named(&listener.name)).collect();
        let names = self.world.shape.listener_names();
        trace!(self, "snapshot {}: {names:?}", self.snapshot.revision);
        self.local.reconcile(&self.snapshot);
        self.world.swapped = self.world.now;
        for caller in &mut self.callers {
            if !names.contains(&caller.listener) {
                caller.leaving.get_or_insert(self.world.now);
            }
        }
        let bounds = self.world.shape.bounds;
        let manners = self.world.shape.manners.clone();
        self.handle(|engine, context| {
            engine.reconcile(context, bounds, &|id| {
                let listener = renames.get(id.0 as usize).copied().flatten()?;
                Some(Renewed { listener, manners: manners.clone() })
            });
        });
    }

    pub(crate) fn drain(&mut self) {
        trace!(self, "drain");
        self.world.draining = true;
        self.handle(|engine, context| engine.drain(context.now));
        if self.rng.chance(20) {
            trace!(self, "press");
            self.world.pressing = true;
            self.handle(|engine, _| engine.press());
        }
    }
}
