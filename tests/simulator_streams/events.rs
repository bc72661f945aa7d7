//! What happens in a life: events drawn by chance, what peers do, and what they must not be made to hold.
//!
//! Bytes are read in any splits; a peer ends in any place. Nothing here may happen that sockets cannot do.

use std::time::Duration;

use outrigger::session::{Engine, Leg, Renewed, arena::Key};

use crate::{
    callers::{Caller, End},
    endpoints::Upstream,
    h2::Peer,
    life::{Life, trace},
    replies::Wrong,
};

/// A socket that takes whatever comes.
pub(crate) const WIDE: usize = 1 << 40;
/// Bytes read from a socket at once.
const READ_MAX: usize = 64 << 10;
/// Bytes of a sender without windows that may be here: one read and the mark, for what is sent and what waits behind it,
/// and what its receiver's outlet holds.
const HELD_MAX: usize = (5 * 64 + 24) << 10;

pub(crate) fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

impl Life {
    pub(crate) fn step(&mut self) {
        const KIND: [usize; 13] = [14, 24, 20, 14, 26, 12, 12, 8, 12, 12, 8, 4, 5];
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
            8 => self.caller_goes_on(),
            9 => self.endpoint_goes_on_with(),
            10 => self.peer_gives_windows(),
            11 => self.peer_fiddles(),
            _ if self.world.shape.calm => self.endpoint_says_goodbye(),
            _ => self.mishap(),
        }
    }

    fn mishap(&mut self) {
        const KIND: [usize; 19] = [14, 9, 5, 3, 4, 12, 6, 6, 5, 8, 3, 5, 5, 5, 8, 1, 1, 3, 3];
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
            7 => self.endpoint_says_goodbye(),
            8 => self.caller_stalls(),
            9 => self.endpoint_gives_up(),
            10 => self.endpoint_is_mute(),
            11 => self.unwanted_open(),
            12 => self.caller_does_not_read(),
            13 if self.rng.chance(15) => self.drain(),
            14 => self.endpoint_answers_wrongly(),
            15 => self.caller_storms(),
            16 => self.caller_goes_wild(),
            17 => self.endpoint_goes_wild(),
            18 => self.callers_trickle(),
            _ => self.socket_has_room(),
        }
    }

    fn some_up(&mut self, pass: impl Fn(&Upstream) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.ups.len()).filter(|at| pass(&self.ups[*at])).collect();
        (!there.is_empty()).then(|| self.rng.pick(&there))
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

    fn caller_does_not_read(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.pipe.room > 0) else { return };
        self.callers[at].pipe.room = self.rng.below(10);
        self.world.slow = true;
        trace!(self, "caller {} reads no more", self.callers[at].number);
    }

    /// The engine reads a part of what a caller said.
    fn caller_sends(&mut self) {
        let now = self.world.now;
        let willing = |caller: &Caller| caller.stalled.is_none_or(|until| now >= until);
        let can = |caller: &Caller| caller.peer.unsent() > 0 || caller.wants_to_end() || caller.gone;
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
        let unsent = self.callers[at].peer.unsent();
        if unsent == 0 {
            if self.callers[at].wants_to_end() {
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

    /// What is kept of a caller without windows is bounded by the marks, however much it sends.
    fn holds_little(&self, key: Key) {
        let Some(caller) = self.callers.iter().find(|caller| caller.key == key && caller.h1) else { return };
        let Some(call) = caller.waiting.front().map(|id| &self.world.calls[*id]) else { return };
        let seen = call.carrier().map_or(0, |attempt| attempt.seen);
        let held = caller.peer.sent.saturating_sub(call.start + seen);
        // What was seen is a part of the body; what is kept to be sent again is bounded by its own mark.
        assert!(held <= HELD_MAX, "{held} bytes of caller {} are held: {call:?}", caller.number);
    }

    /// A caller ended its sending side: the driver tells the engine, and closes at once where nothing is left to say.
    fn caller_ended(&mut self, at: usize) {
        let caller = &mut self.callers[at];
        let key = caller.key;
        caller.ended = true;
        trace!(self, "caller {} has ended", caller.number);
        let clear = caller.pipe.blocked_since.is_none() && !caller.pipe.flush_said;
        let half = caller.waiting.front().map(|id| &self.world.calls[*id]);
        let half =
            half.filter(|call| clear && call.headed.is_some() && call.whole.is_none()).map(|call| call.id);
        let waits = self.handle(|engine, context| engine.down_ended(context, key));
        assert!(!waits || half.is_none(), "half a request, call {half:?}, is waited for");
        if waits {
            if let Some(pipe) = self.pipe(Leg::Down(key)) {
                pipe.reading = false;
            }
        } else {
            self.close_caller(key);
        }
    }

    fn close_caller(&mut self, key: Key) {
        let Some(at) = self.callers.iter().position(|caller| caller.key == key) else { return };
        let mut caller = self.callers.swap_remove(at);
        trace!(self, "caller {} is closed", caller.number);
        assert!(
            caller.may_end(End::Orderly, &self.world),
            "caller {} is closed though it waits: {:?}",
            caller.number,
            caller.waiting
        );
        caller.over(Some(End::Orderly), &mut self.world);
        self.handle(|engine, context| engine.down_closed(context, key));
    }

    /// An endpoint answers some of what it was asked, right or wrong.
    fn endpoint_answers(&mut self) {
        let wrong = self.rng.chance(self.world.shape.flaw_percent);
        let wrong = if wrong { Wrong::draw(&mut self.rng) } else { Wrong::Nothing };
        self.answers(wrong);
    }

    fn endpoint_answers_wrongly(&mut self) {
        let wrong = Wrong::draw(&mut self.rng);
        self.answers(wrong);
    }

    fn answers(&mut self, wrong: Wrong) {
        let world = &self.world;
        let owing: Vec<(usize, Option<u32>)> = (0..self.ups.len())
            .flat_map(|at| {
                let up = &self.ups[at];
                let h2 = up.owed(world).into_iter().map(Some);
                let h1 = (up.owes() && !up.mute).then_some(None);
                h2.chain(h1).map(move |stream| (at, stream)).collect::<Vec<_>>()
            })
            .collect();
        if owing.is_empty() {
            return;
        }
        let (at, stream) = self.rng.pick(&owing);
        let up = &mut self.ups[at];
        trace!(self, "connection {} answers {stream:?}, {wrong:?}", up.number);
        match stream {
            // Early answers are the exception.
            Some(stream) if !up.is_whole(stream) && self.rng.chance(70) => {}
            Some(stream) if wrong == Wrong::Nothing && self.rng.chance(self.world.shape.refuse_percent) => {
                trace!(self, "  it refuses the stream");
                up.refuses(stream, &mut self.world);
            }
            Some(stream) => up.h2_answers(stream, wrong, &mut self.rng, &mut self.world),
            None if !up.whole && self.rng.chance(60) => {
                let expects = up.current.is_some_and(|id| self.world.calls[id].expects);
                if expects {
                    up.continues(&mut self.world);
                }
            }
            None => up.h1_answers(wrong, &mut self.rng, &mut self.world),
        }
    }

    /// An endpoint says more of an answer that it began.
    fn endpoint_goes_on_with(&mut self) {
        let Some(at) = self.some_up(|up| up.open && up.h1 == Some(false) && !up.served.is_empty()) else {
            return;
        };
        let up = &mut self.ups[at];
        let streams: Vec<u32> = up.served.keys().copied().collect();
        let stream = self.rng.pick(&streams);
        up.h2_goes_on(stream, &mut self.rng, &mut self.world);
    }

    /// The engine reads a part of what an endpoint said.
    fn endpoint_sends(&mut self) {
        let can = |up: &Upstream| up.open && up.pipe.reading && (up.peer.unsent() > 0 || up.ends.is_some());
        if let Some(at) = self.some_up(can) {
            self.read_up(self.ups[at].key);
        }
    }

    /// One read of an endpoint's socket.
    pub(crate) fn read_up(&mut self, key: Key) {
        let Some(at) = self.ups.iter().position(|up| up.key == key) else { return };
        let unsent = self.ups[at].peer.unsent();
        if unsent == 0 {
            if let Some(end) = self.ups[at].ends {
                self.up_lost(key, "closed by peer", end);
            }
            return;
        }
        let n = self.chunk(unsent);
        let up = &mut self.ups[at];
        let n = up.split(n).min(unsent);
        let mut bytes = up.deliver(n, &mut self.world);
        trace!(self, "connection {}: {n} bytes are read", up.number);
        if up.goodbye.is_some() {
            // Only now does the engine know.
            self.world.trouble[up.cluster] = Some(self.world.now);
        }
        self.handle_noting(
            |engine, context| engine.up_bytes(context, key, &mut bytes),
            |life, reads| {
                trace!(life, "  reads: {reads}");
                if let Some(pipe) = life.pipe(Leg::Up(key)) {
                    pipe.reading = *reads;
                }
            },
        );
    }

    /// An endpoint's connection ends, whatever it carries.
    fn endpoint_dies(&mut self) {
        let Some(at) = self.some_up(|up| up.open && up.ends.is_none()) else { return };
        let how = self.rng.below(4);
        let up = &mut self.ups[at];
        let reply = up.current.and_then(|id| self.world.calls[id].attempts[up.attempt].reply.as_ref());
        // An end in order would make a whole answer of one that ends with its connection.
        let how = if reply.is_some() { how.max(1) } else { how };
        up.dies(how, &mut self.world);
        trace!(self, "connection {} ends ({:?}, gone: {})", up.number, up.ends, up.gone);
        let (key, reading, at_once) = (up.key, up.pipe.reading, up.peer.unsent() == 0);
        if how > 0 && reading && at_once && self.rng.chance(50) {
            self.up_lost(key, "reset by peer", End::Reset);
        }
    }

    fn endpoint_is_mute(&mut self) {
        let Some(at) = self.some_up(|up| up.open) else { return };
        let up = &mut self.ups[at];
        up.mute = true;
        up.peer.dead = self.rng.chance(50);
        trace!(self, "connection {} answers no more (dead: {})", up.number, up.peer.dead);
    }

    /// An endpoint takes no new calls (HTTP/2), or says something on an idle connection (HTTP/1).
    fn endpoint_says_goodbye(&mut self) {
        let calm = self.world.shape.calm;
        // At once and between requests: otherwise it would answer whatever comes next, through any proxy.
        self.flush_all();
        let idle = |up: &Upstream| up.is_idle() && up.pipe.reading && up.pipe.blocked_since.is_none();
        let speaks = |up: &Upstream| up.h1 == Some(false) && up.goodbye.is_none() && up.ends.is_none();
        let said = self.ups.iter().any(|up| up.goodbye.is_some());
        let Some(at) = self.some_up(|up| up.open && (speaks(up) || (!calm && idle(up)))) else { return };
        let up = &mut self.ups[at];
        let key = up.key;
        if up.h1 == Some(true) {
            up.babbles();
            trace!(self, "connection {} babbles", up.number);
            return self.read_up(key);
        }
        let last = match self.rng.below(if calm { 2 } else { 3 }) {
            0 => 0x7fff_ffff,
            1 => up.peer.last,
            _ => self.rng.below(up.peer.last as usize + 1) as u32,
        };
        if calm && said {
            return;
        }
        trace!(self, "connection {} says goodbye behind stream {last}", up.number);
        up.says_goodbye(last, &mut self.world);
    }

    /// An endpoint ends a stream for a reason of its own.
    fn endpoint_gives_up(&mut self) {
        let open = |up: &Upstream| up.served.iter().any(|(stream, _)| !up.peer.streams[stream].is_over());
        let Some(at) = self.some_up(|up| up.ends.is_none() && open(up)) else { return };
        let up = &mut self.ups[at];
        let open = |stream: &&u32| !up.peer.streams[*stream].is_over() && !up.served[*stream].ignored;
        let streams: Vec<u32> = up.served.keys().filter(open).copied().collect();
        if !streams.is_empty() {
            let (stream, why) = (self.rng.pick(&streams), self.rng.pick(&[1, 2, 5, 7, 8, 0, 99]));
            trace!(self, "connection {} gives stream {stream} up: {why}", up.number);
            let begun = up.has_answered(stream, &self.world);
            if why == 7 && !begun {
                up.refuses(stream, &mut self.world);
            } else {
                up.gives_up(stream, why, &mut self.world);
            }
        }
    }

    fn endpoint_goes_wild(&mut self) {
        let Some(at) = self.some_up(|up| up.h1 == Some(false) && up.ends.is_none()) else { return };
        let up = &mut self.ups[at];
        trace!(self, "connection {} breaks the protocol", up.number);
        up.wild = true;
        if self.rng.chance(50) {
            up.peer.promise();
        } else {
            up.peer.gives(0, 0x7fff_ffff);
        }
        up.over(&mut self.world, false);
        self.world.trouble[up.cluster] = Some(self.world.now);
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

    fn some_peer(&mut self) -> Option<&mut Peer> {
        let downs =
            self.callers.iter_mut().filter(|caller| !caller.h1 && !caller.gone).map(|it| &mut it.peer);
        let ups = self.ups.iter_mut().filter(|up| up.h1 == Some(false) && up.ends.is_none());
        let mut peers: Vec<&mut Peer> = downs.chain(ups.map(|up| &mut up.peer)).collect();
        if peers.is_empty() {
            return None;
        }
        let at = self.rng.below(peers.len());
        Some(peers.swap_remove(at))
    }

    /// A peer gives back some of what it took, or more.
    fn peer_gives_windows(&mut self) {
        let percent = self.rng.pick(&[10, 50, 100, 100]);
        let more = self.rng.pick(&[1, 30, 5_000, 50_000]);
        let beyond = self.rng.chance(40);
        let Some(peer) = self.some_peer() else { return };
        peer.gives_back(percent);
        if beyond {
            for id in peer.starving() {
                peer.gives(id, more);
            }
        }
    }

    /// Callers take answers bit by bit, for longer than nothing may move.
    fn callers_trickle(&mut self) {
        for _ in 0..10 {
            for caller in self.callers.iter_mut().filter(|caller| !caller.h1 && !caller.gone) {
                caller.peer.gives_back(100);
                for id in caller.peer.starving() {
                    caller.peer.gives(id, 200);
                }
            }
            let keys: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
            for key in keys {
                self.read_all_of_caller(key);
            }
            self.advance(ms(110));
        }
    }

    /// A peer changes its settings, asks for a sign of life, or says what means nothing.
    fn peer_fiddles(&mut self) {
        let kind = self.rng.below(6);
        let endpoint = self.rng.chance(50);
        let wishes = self.world.shape.wishes(endpoint, &mut self.rng);
        let Some(peer) = self.some_peer() else { return };
        match kind {
            0..3 => {
                // A server has streams at once, a client has none of ours.
                let streams = wishes.streams.filter(|_| peer.is_server());
                peer.wish(crate::h2::Wishes { streams, ..wishes });
            }
            3 => peer.ping(),
            4 => peer.frame_of_no_kind(),
            _ => peer.priority(peer.last.max(1) + 2),
        }
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
        let Some(pipe) = self.pipe(leg) else { return };
        pipe.room = pipe.room.saturating_add(more).min(WIDE);
        if pipe.blocked_since.take().is_some() {
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
