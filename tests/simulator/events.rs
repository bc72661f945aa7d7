//! What happens in a life: events drawn by chance, and its end, when everything must come to rest.

use std::{sync::Arc, time::Duration};

use outrigger::session::{
    Manners, Renewed,
    arena::Key,
    frames::{Frames, Leg},
};

use crate::{
    dialect::{Ask, Dialect, Reply},
    life::{Life, trace},
    peers::{Call, Caller, PAYLOAD_MIN, Pipe, payload},
    shape::{METHODS, SERVICES, UNKNOWN},
};

/// A socket that takes whatever comes.
const WIDE: usize = 1 << 30;
/// Bytes read from a socket at once.
const READ_MAX: usize = 1_000;

fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

impl<D: Dialect> Life<D> {
    /// Lives through the seed's events and comes to rest.
    pub(crate) fn live(&mut self) {
        for _ in 0..self.rng.range(1, 5) {
            self.caller_comes();
        }
        for _ in 0..self.shape.steps {
            self.step();
        }
        if !self.shape.calm && self.rng.chance(10) {
            return self.ends_at_once();
        }
        self.comes_to_rest();
        self.leaves();
    }

    fn step(&mut self) {
        const KIND: [usize; 9] = [20, 24, 20, 20, 24, 14, 10, 10, 3];
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
            _ if self.shape.calm => {}
            _ => self.mishap(),
        }
    }

    fn mishap(&mut self) {
        const KIND: [usize; 16] = [12, 12, 4, 5, 8, 8, 6, 5, 5, 6, 6, 3, 2, 3, 4, 4];
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
            4 => self.caller_comes(),
            5 => self.swap(),
            6 => self.caller_beats(),
            7 => self.endpoint_says(|_, out| D::heartbeat(0, 7, out), false),
            8 => self.endpoint_says(|_, out| D::retire(out), true),
            9 => self.endpoint_says(|id, out| D::answer(0, id, Reply::Ok, b"?", out), false),
            10 => self.endpoint_says(|id, out| D::callback(0, id, out), false),
            11 => self.endpoint_says(|_, out| out.extend(b"\x99garbage"), true),
            12 => self.endpoint_says(|_, out| D::resume(out), false),
            13 => self.caller_errs(),
            14 => self.caller_ends(),
            _ if self.rng.chance(20) => self.drain(),
            _ => self.endpoint_repeats(),
        }
    }

    fn room(&mut self) -> usize {
        if self.rng.chance(self.shape.slow_percent) { self.rng.below(400) } else { WIDE }
    }

    fn caller_comes(&mut self) {
        let names = self.shape.listener_names();
        if names.is_empty() || self.draining || self.callers.len() >= 8 {
            return;
        }
        let listener = names[self.rng.below(names.len())].clone();
        let id = self.snapshot.listener_named(&listener).expect("it is in the snapshot");
        let key = self.engine.down_open(id, self.shape.silence, self.now);
        self.numbers += 1;
        trace!(self, "caller {} comes on {listener}", self.numbers);
        let room = self.room();
        let caller = Caller {
            number: self.numbers,
            key,
            listener,
            leaving: None,
            pipe: Pipe::new(room, self.now),
            reading: true,
            was_reading: true,
            ended: false,
            spoiled: false,
            lane: self.rng.below(D::LANES.into()) as u8,
            next_id: self.rng.pick(&[0, 1, 1, u64::from(u32::MAX), u64::MAX - 2]),
            beats: 0,
            calls: Vec::new(),
            last_io: self.now,
        };
        self.callers.push(caller);
        self.handle(|_, _| ());
    }

    fn caller_leaves(&mut self) {
        if self.callers.is_empty() {
            return;
        }
        let at = self.rng.below(self.callers.len());
        let caller = self.callers.swap_remove(at);
        trace!(self, "caller {} leaves", caller.number);
        self.handle(|engine, _| engine.down_closed(caller.key));
    }

    /// A caller shuts its sending side after all it wrote was read.
    fn caller_ends(&mut self) {
        let Some(at) = self.callers.iter().position(|c| c.reading && c.pipe.unsent() == 0) else { return };
        let key = self.callers[at].key;
        self.callers[at].ended = true;
        trace!(self, "caller {} sends no more", self.callers[at].number);
        if self.handle(|engine, _| engine.down_ended(key)) {
            self.set_reading(key, false);
        } else if let Some(at) = self.callers.iter().position(|caller| caller.key == key) {
            let caller = self.callers.swap_remove(at);
            assert!(!self.calls_waiting(&caller), "caller {} has calls to be answered", caller.number);
            self.handle(|engine, _| engine.down_closed(key));
        }
    }

    /// A caller writes some calls to its socket.
    fn caller_asks(&mut self) {
        if self.callers.is_empty() {
            return;
        }
        let at = self.rng.below(self.callers.len());
        if self.callers[at].spoiled || self.callers[at].ended || self.calls.len() > 150 {
            return;
        }
        for _ in 0..self.rng.pick(&[1, 1, 2, 5]) {
            let caller = &mut self.callers[at];
            let id = caller.next_id & D::ID_MASK;
            caller.next_id = caller.next_id.wrapping_add(1);
            let service = (!self.rng.chance(6)).then(|| self.rng.below(SERVICES.len()));
            let method = METHODS[if service == Some(3) { 0 } else { self.rng.below(2) }];
            let timeout_ms = [5, 40, 700, 60_000][self.rng.below(4)];
            let timeout_ms = self.rng.chance(self.shape.timeout_percent).then_some(timeout_ms);
            let token = self.calls.len();
            let payload_len = PAYLOAD_MIN + self.rng.below(self.shape.payload_max);
            let unreadable = !self.shape.calm && self.rng.chance(1);
            let one_way = !unreadable && self.rng.chance(8);
            let lane = if self.rng.chance(10) { self.rng.below(D::LANES.into()) as u8 } else { caller.lane };
            let out = &mut caller.pipe.to_send;
            if unreadable {
                D::unreadable(id, out);
            } else {
                let payload = payload(token, payload_len, false);
                let service = service.map_or(UNKNOWN, |at| SERVICES[at]);
                D::request(&Ask { lane, id, service, method, timeout_ms, one_way, payload: &payload }, out);
            }
            caller.pipe.sends(Some(token));
            caller.calls.push(token);
            let number = caller.number;
            trace!(
                self,
                "caller {number} writes call {token} ({service:?}, id {id}, {timeout_ms:?} ms, one way: {one_way}, unreadable: {unreadable})"
            );
            self.calls.push(Call {
                caller: number,
                id,
                service,
                one_way,
                unreadable,
                timeout: timeout_ms.map(|ms| Duration::from_millis(ms.into())),
                payload_len,
                first_byte: None,
                last_byte: None,
                taken_by: Vec::new(),
                served: false,
                answered: false,
            });
        }
    }

    fn caller_beats(&mut self) {
        let many = if self.rng.chance(10) { 200 } else { 1 };
        if self.callers.is_empty() {
            return;
        }
        let at = self.rng.below(self.callers.len());
        let caller = &mut self.callers[at];
        if caller.spoiled || caller.ended {
            return;
        }
        for _ in 0..many {
            D::heartbeat(caller.lane, 5, &mut caller.pipe.to_send);
            caller.pipe.sends(None);
            caller.beats += 1;
        }
        trace!(self, "caller {} asks for {many} signs of life", caller.number);
    }

    /// A caller sends what cannot be a frame, or is too large for one.
    fn caller_errs(&mut self) {
        if self.callers.is_empty() {
            return;
        }
        let at = self.rng.below(self.callers.len());
        let caller = &mut self.callers[at];
        if caller.ended {
            return;
        }
        caller.spoiled = true;
        if self.rng.chance(50) {
            caller.pipe.to_send.extend(b"\x77garbage");
        } else {
            // An id of a call that was not made: it would have to be told apart from the call.
            D::oversized(
                u64::from(u32::MAX) / 3,
                self.shape.bounds.frame_max as u32,
                &mut caller.pipe.to_send,
            );
            let token = self.calls.len();
            caller.pipe.sends(Some(token));
            caller.calls.push(token);
            self.calls.push(Call {
                caller: caller.number,
                id: u64::from(u32::MAX) / 3,
                service: None,
                one_way: false,
                unreadable: true,
                timeout: None,
                payload_len: 0,
                first_byte: None,
                last_byte: None,
                taken_by: Vec::new(),
                served: false,
                answered: false,
            });
        }
        trace!(self, "caller {} writes garbage", self.callers[at].number);
    }

    /// The engine reads a part of what a caller wrote.
    fn caller_sends(&mut self) {
        let readable = |caller: &Caller| caller.reading && caller.pipe.unsent() > 0;
        let keys: Vec<Key> = self.callers.iter().filter(|c| readable(c)).map(|c| c.key).collect();
        if !keys.is_empty() {
            let key = self.rng.pick(&keys);
            self.read_caller(key);
        }
    }

    fn chunk(&mut self, unsent: usize) -> usize {
        let most = unsent.min(READ_MAX);
        match self.rng.below(6) {
            0 => 1,
            1 | 2 => self.rng.range(1, most),
            _ => most,
        }
    }

    fn read_caller(&mut self, key: Key) {
        let unsent =
            self.callers.iter().find(|caller| caller.key == key).map_or(0, |caller| caller.pipe.unsent());
        if unsent == 0 {
            return;
        }
        let n = self.chunk(unsent);
        let Some(caller) = self.callers.iter_mut().find(|caller| caller.key == key) else { return };
        let mut bytes = caller.pipe.deliver(n, &mut self.calls, self.now);
        caller.last_io = self.now;
        trace!(self, "caller {}: {n} bytes are read", caller.number);
        self.handle_noting(
            |engine, context| engine.down_bytes(context, key, &mut bytes),
            |life, reads| {
                trace!(life, "  reads: {reads}");
                life.set_reading(key, *reads);
            },
        );
    }

    fn some_up(&mut self, pass: impl Fn(&crate::peers::Upstream) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.ups.len()).filter(|at| pass(&self.ups[*at])).collect();
        (!there.is_empty()).then(|| self.rng.pick(&there))
    }

    /// An endpoint answers one of its calls, in any order.
    fn endpoint_answers(&mut self) {
        if let Some(at) = self.some_up(|up| up.open && !up.inbox.is_empty()) {
            let which = self.rng.below(self.ups[at].inbox.len());
            self.answer(at, which);
        }
    }

    fn answer(&mut self, at: usize, which: usize) {
        let up = &mut self.ups[at];
        let (id, token) = up.inbox.swap_remove(which);
        up.done.push((id, token));
        let reply = [Reply::Ok, Reply::Ok, Reply::Ok, Reply::Exception, Reply::Busy, Reply::Error];
        let reply = reply[self.rng.below(reply.len())];
        let payload = payload(token, PAYLOAD_MIN + self.rng.below(self.shape.payload_max), true);
        D::answer(up.lane(), id, reply, &payload, &mut up.pipe.to_send);
        up.pipe.sends(None);
        self.calls[token].served = true;
        trace!(self, "connection {} answers call {token} (id {id}) {reply:?}", up.number);
    }

    fn endpoint_repeats(&mut self) {
        let Some(at) = self.some_up(|up| up.open && !up.done.is_empty()) else { return };
        let up = &mut self.ups[at];
        let (id, token) = up.done[self.rng.below(up.done.len())];
        D::answer(up.lane(), id, Reply::Ok, &payload(token, 20, true), &mut up.pipe.to_send);
        up.pipe.sends(None);
        trace!(self, "connection {} answers call {token} once more", up.number);
    }

    fn endpoint_says(&mut self, say: impl Fn(u64, &mut Vec<u8>), spoils: bool) {
        let id = self.rng.pick(&[77, 1 << 20, u64::from(u32::MAX), u64::MAX]);
        let Some(at) = self.some_up(|up| up.open) else { return };
        let up = &mut self.ups[at];
        say(id, &mut up.pipe.to_send);
        up.pipe.sends(None);
        up.spoiled |= spoils;
        trace!(self, "connection {} says something else", up.number);
    }

    fn endpoint_sends(&mut self) {
        if let Some(at) = self.some_up(|up| up.open && up.pipe.unsent() > 0) {
            let key = self.ups[at].key;
            self.read_up(key);
        }
    }

    fn read_up(&mut self, key: Key) {
        let unsent = self.ups.iter().find(|up| up.key == key).map_or(0, |up| up.pipe.unsent());
        if unsent == 0 {
            return;
        }
        let n = self.chunk(unsent);
        let Some(up) = self.ups.iter_mut().find(|up| up.key == key) else { return };
        let mut bytes = up.pipe.deliver(n, &mut self.calls, self.now);
        trace!(self, "connection {}: {n} bytes are read", up.number);
        let there = self.handle(|engine, context| engine.up_bytes(context, key, &mut bytes));
        assert_eq!(there, self.ups.iter().any(|up| up.key == key), "the engine knows what it closed");
    }

    /// An endpoint goes, at once or found out by the next write; what it had still to say is lost.
    fn endpoint_dies(&mut self) {
        let Some(at) = self.some_up(|up| up.open) else { return };
        match self.rng.below(4) {
            0 => self.ups[at].gone = true,
            1 => self.ups[at].mute = true,
            _ => self.up_lost(self.ups[at].key, "closed by peer"),
        }
    }

    fn dial_ends(&mut self) {
        let Some(at) = self.some_up(|up| !up.open) else { return };
        let key = self.ups[at].key;
        if !self.shape.calm && self.rng.chance(15) {
            return self.up_lost(key, "connection refused");
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
        let more = if self.rng.chance(30) { WIDE } else { self.rng.range(1, 300) };
        let leg = self.rng.pick(&legs);
        self.widen(leg, more);
    }

    fn widen(&mut self, leg: Leg, more: usize) {
        let pipe = match leg {
            Leg::Down(key) => self.callers.iter_mut().find(|c| c.key == key).map(|c| &mut c.pipe),
            Leg::Up(key) => self.ups.iter_mut().find(|up| up.key == key).map(|up| &mut up.pipe),
        };
        let Some(pipe) = pipe else { return };
        pipe.room = pipe.room.saturating_add(more).min(WIDE);
        let blocked = pipe.blocked_since.take().is_some();
        trace!(self, "{leg:?} has room for {more} more (blocked: {blocked})");
        if blocked {
            self.flush(leg);
        }
    }

    fn swap(&mut self) {
        self.shape.change(&mut self.rng);
        let snapshot = self.shape.snapshot();
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        let renames: Vec<_> =
            old.listeners().iter().map(|listener| self.snapshot.listener_named(&listener.name)).collect();
        trace!(self, "snapshot {}: {:?}", self.snapshot.revision, self.shape.listener_names());
        self.local.reconcile(&self.snapshot);
        let names = self.shape.listener_names();
        for caller in &mut self.callers {
            if !names.contains(&caller.listener) {
                caller.leaving.get_or_insert(self.now);
            }
        }
        let manners = Arc::new(Manners { keepalive_timeout: self.shape.silence, ..Manners::default() });
        self.handle(|engine, context| {
            engine.reconcile(context, |id| {
                let listener = renames.get(id.0 as usize).copied().flatten()?;
                Some(Renewed { listener, manners: Arc::clone(&manners) })
            });
        });
    }

    fn drain(&mut self) {
        trace!(self, "drain");
        self.draining = true;
        self.handle(|engine, context| engine.drain(context.now));
        if self.rng.chance(20) {
            self.pressing = true;
            self.handle(|engine, _| engine.press());
            for caller in &mut self.callers {
                caller.reading = false;
            }
        }
    }

    fn ends_at_once(&mut self) {
        trace!(self, "shut in the middle");
        let owed: Vec<usize> = (0..self.calls.len()).filter(|call| self.is_owed(*call)).collect();
        let slow = self.engine.counters.slow_callers;
        self.shut_down();
        // So many refusals at once may be more than the small bound of this life.
        if self.engine.counters.slow_callers == slow {
            let lost = owed.into_iter().find(|call| !self.calls[*call].answered);
            assert_eq!(lost, None, "a call was with an endpoint, and its caller was not told");
        }
    }

    /// Whether a call is with an endpoint and its caller still there.
    fn is_owed(&self, call: usize) -> bool {
        let call = &self.calls[call];
        let there = |caller: &Caller| caller.number == call.caller && !caller.spoiled;
        !call.one_way && !call.answered && !call.taken_by.is_empty() && self.callers.iter().any(there)
    }

    /// The end of the process: what is written is still taken by the sockets, then all are closed.
    fn shut_down(&mut self) {
        self.shut = true;
        self.handle(Frames::shut);
        self.flush_all();
        let downs: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
        for key in downs {
            self.widen(Leg::Down(key), WIDE);
        }
        self.flush_all();
        assert_eq!((self.callers.len(), self.ups.len()), (0, 0), "connections after the end");
        assert_eq!(self.local.unsettled(), 0, "calls after the end");
    }

    /// No new calls. Endpoints answer, or are silent until deadlines, then they are gone: every call is answered.
    fn comes_to_rest(&mut self) {
        trace!(self, "coming to rest");
        let silent = !self.shape.calm && self.rng.chance(40);
        for _ in 0..12 {
            self.everyone_reads(!silent);
            let by = if self.shape.calm { 1 } else { self.rng.range(1, 400) };
            self.advance(ms(by));
        }
        // The longest route timeout is 3 s; calls without a deadline wait on.
        for _ in 0..20 {
            if self.shape.calm || self.local.unsettled() == 0 {
                break;
            }
            self.everyone_reads(!silent);
            self.advance(ms(250));
        }
        for _ in 0..40 {
            if self.at_rest() {
                break;
            }
            let keys: Vec<Key> = self.ups.iter().map(|up| up.key).collect();
            assert!(!self.shape.calm, "without faults every call is answered before endpoints go");
            for key in keys {
                self.up_lost(key, "gone");
            }
            self.everyone_reads(false);
            self.advance(ms(1_300));
        }
        for caller in &self.callers {
            let stuck = caller.pipe.unsent() > 0 && !caller.spoiled && !self.pressing;
            assert!(!stuck, "caller {} is never read again", caller.number);
            let lost = caller.calls.iter().find(|call| {
                let call = &self.calls[**call];
                !call.one_way && !call.answered && !caller.spoiled && !self.pressing
            });
            assert_eq!(lost, None, "a call of caller {} was never answered", caller.number);
        }
        assert_eq!(self.local.unsettled(), 0, "calls were never settled");
    }

    fn at_rest(&self) -> bool {
        let done = |caller: &Caller| {
            self.pressing || caller.spoiled || caller.pipe.unsent() == 0 && !self.calls_waiting(caller)
        };
        self.local.unsettled() == 0 && self.callers.iter().all(done)
    }

    /// All sockets are wide, all that was written is read, and endpoints answer if they are to.
    fn everyone_reads(&mut self, answering: bool) {
        for _ in 0..4 {
            let downs: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
            for key in downs {
                self.widen(Leg::Down(key), WIDE);
                while self.callers.iter().any(|c| c.key == key && c.reading && c.pipe.unsent() > 0) {
                    self.read_caller(key);
                }
            }
            self.flush_all();
            let ups: Vec<Key> = self.ups.iter().map(|up| up.key).collect();
            for key in ups {
                if answering && self.ups.iter().any(|up| up.key == key && !up.open) {
                    self.up_opens(key, WIDE);
                }
                self.widen(Leg::Up(key), WIDE);
                while answering
                    && let Some(at) = self.ups.iter().position(|up| up.key == key && !up.inbox.is_empty())
                {
                    self.answer(at, 0);
                }
                while self.ups.iter().any(|up| up.key == key && up.open && up.pipe.unsent() > 0) {
                    self.read_up(key);
                }
            }
            self.flush_all();
        }
        // Nothing waits to be written any more, so nobody has a reason not to be read.
        let clear = |pipe: &Pipe| pipe.blocked_since.is_none() && !pipe.flush_said;
        let open = self.ups.iter().all(|up| up.open && clear(&up.pipe));
        for caller in self.callers.iter().filter(|caller| open && clear(&caller.pipe)) {
            let read = caller.reading || caller.spoiled || caller.ended || self.pressing;
            assert!(read, "caller {} is not read, and nothing is in its way", caller.number);
        }
    }

    /// The end: drained callers are let go by themselves, or all is shut.
    fn leaves(&mut self) {
        if self.draining || self.rng.chance(50) {
            if !self.draining {
                self.draining = true;
                self.handle(|engine, context| engine.drain(context.now));
            }
            for _ in 0..8 {
                self.everyone_reads(true);
                self.advance(ms(200));
            }
            let stay = self.callers.iter().filter(|caller| !caller.spoiled && !self.pressing).count();
            assert_eq!(stay, 0, "callers stay although all is drained");
        }
        self.shut_down();
    }
}
