//! The end of a life, when everything must come to rest: whoever can go on does, and nothing may be left waiting.
//!
//! Must never help the engine: peers only do what willing peers do, and time passes.

use outrigger::session::{Engine, Leg, arena::Key};

use crate::{
    callers::{Caller, End},
    calls::Outcome,
    endpoints::Upstream,
    events::{WIDE, ms},
    h2::Peer,
    life::{Life, Sut, trace},
    replies::Wrong,
};

impl Life {
    /// Lives through the seed's events and comes to rest.
    pub(crate) fn live(&mut self) {
        for _ in 0..self.rng.range(1, 4) {
            self.caller_comes();
        }
        for _ in 0..self.world.shape.steps {
            self.step();
        }
        if self.world.shape.calm || !self.rng.chance(10) {
            self.comes_to_rest();
            self.leaves();
        }
        self.shut_down();
    }

    /// The end of the process: what is written is still taken by the sockets, then all are closed.
    fn shut_down(&mut self) {
        trace!(self, "shut");
        self.world.shut = true;
        self.handle(Sut::shut);
        for _ in 0..2 {
            self.flush_all();
            let downs = self.callers.iter().map(|caller| Leg::Down(caller.key));
            let legs: Vec<Leg> = downs.chain(self.ups.iter().map(|up| Leg::Up(up.key))).collect();
            for leg in legs {
                self.widen(leg, WIDE);
            }
        }
        self.unwanted_open();
        let deaf: Vec<Key> = self.ups.iter().filter(|up| up.deaf).map(|up| up.key).collect();
        for key in deaf {
            self.up_lost(key, "broken pipe", End::Reset);
        }
        assert_eq!((self.callers.len(), self.ups.len()), (0, 0), "connections after the end");
        assert_eq!((self.local.unsettled(), self.engine.calls()), (0, 0), "calls after the end");
    }

    /// Everybody goes on: every call is answered, or its endpoint is silent until its time is up, or gone.
    fn comes_to_rest(&mut self) {
        trace!(self, "coming to rest");
        let silent = !self.world.shape.calm && self.rng.chance(30);
        for _ in 0..if self.world.shape.calm { 300 } else { 60 } {
            self.everyone_goes_on(!silent);
            if self.at_rest() {
                break;
            }
            let by = if self.world.shape.calm { 1 } else { self.rng.range(1, 200) };
            self.advance(ms(by));
        }
        for round in 0..40 {
            if self.at_rest() {
                break;
            }
            assert!(!self.world.shape.calm, "without faults, and yet no rest: {}", self.unrest());
            if round % 4 == 3 {
                // Those that never answer, or stopped in the middle, go.
                let keys: Vec<Key> = self.ups.iter().map(|up| up.key).collect();
                for key in keys {
                    self.up_lost(key, "gone", End::Reset);
                }
            }
            self.everyone_goes_on(!silent || round > 20);
            self.advance(ms(1_300));
        }
        assert!(self.at_rest(), "no rest: {}", self.unrest());
        assert_eq!((self.local.unsettled(), self.engine.calls()), (0, 0), "calls were never settled");
        self.everyone_goes_on(true);
        for up in &self.ups {
            let left: Vec<_> = up.carried(&self.world).filter(|(call, _)| call.outcome.is_some()).collect();
            let excused = up.gone || up.deaf || up.h1 == Some(true);
            assert!(excused || left.is_empty(), "connection {} still has {left:?}", up.number);
        }
        for caller in self.callers.iter().filter(|caller| !caller.h1 && !caller.gone && !caller.wild) {
            let open = caller.peer.streams.iter().filter(|(_, stream)| !stream.is_over());
            let left: Vec<u32> = open.map(|(id, _)| *id).collect();
            let excused = caller.peer.goaway.is_some() || caller.pipe.blocked_since.is_some();
            assert!(excused || left.is_empty(), "streams {left:?} of caller {} never end", caller.number);
        }
        for call in self.world.calls.iter().filter(|call| self.world.shape.calm && call.began.is_some()) {
            let good = matches!(call.outcome, Some(Outcome::Answered | Outcome::Refused(404 | 1_012)));
            // An answer before it may have had to end the connection (HTTP/1).
            let behind = call.h1 && call.outcome == Some(Outcome::Lost) && call.attempts.is_empty();
            let once = call.is_sent_once() && call.outcome == Some(Outcome::Refused(502));
            assert!(good || behind || once, "nobody was at fault, and yet: {call:?}");
        }
    }

    fn settled(&self, caller: &Caller) -> bool {
        !caller.waits(&self.world) && (caller.peer.unsent() == 0 || caller.closing) && !caller.cut_off()
    }

    fn at_rest(&self) -> bool {
        self.local.unsettled() == 0 && self.callers.iter().all(|caller| self.settled(caller))
    }

    /// Who has not come to rest, for whoever reads the story.
    fn unrest(&self) -> String {
        let callers = self.callers.iter().filter(|caller| !self.settled(caller)).map(|caller| {
            let calls: Vec<_> = caller.waiting.iter().map(|id| &self.world.calls[*id]).collect();
            let (read, unsent) = (caller.pipe.reading, caller.peer.unsent());
            format!("caller {} (read {read}, {unsent} unsent) waits for {calls:?}", caller.number)
        });
        let ups = self.ups.iter().map(|up| {
            format!(
                "connection {} (h1 {:?}, open {}, current {:?}, whole {}, spent {}, ends {:?}, {} unsent)",
                up.number,
                up.h1,
                up.open,
                up.current,
                up.whole,
                up.spent,
                up.ends,
                up.peer.unsent()
            )
        });
        callers.chain(ups).collect::<Vec<_>>().join("; ")
    }

    /// All sockets are wide, all windows open, all that was said is read, and endpoints answer if they are to.
    pub(crate) fn everyone_goes_on(&mut self, answering: bool) {
        for _ in 0..3 {
            let downs: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
            for key in downs {
                self.widen(Leg::Down(key), WIDE);
                self.caller_says_all(key);
                self.read_all_of_caller(key);
            }
            self.flush_all();
            let ups: Vec<Key> = self.ups.iter().map(|up| up.key).collect();
            for key in ups {
                self.endpoint_goes_on(key, answering);
            }
            self.flush_all();
        }
        self.nobody_is_forgotten();
    }

    fn caller_says_all(&mut self, key: Key) {
        let Some(caller) = self.callers.iter_mut().find(|caller| caller.key == key) else { return };
        caller.stalled = None;
        if caller.h1 || caller.gone || caller.wild {
            return;
        }
        opens_windows(&mut caller.peer);
        for id in caller.waiting.clone() {
            let call = &mut self.world.calls[id];
            for _ in 0..30 {
                caller.says_more(call, &mut self.rng);
            }
        }
    }

    pub(crate) fn read_all_of_caller(&mut self, key: Key) {
        let more = |caller: &Caller| caller.peer.unsent() > 0 || caller.wants_to_end() || caller.gone;
        while self.callers.iter().any(|c| c.key == key && c.pipe.reading && more(c)) {
            self.read_caller(key);
            self.flush_all();
        }
    }

    fn endpoint_goes_on(&mut self, key: Key, answering: bool) {
        if answering && self.ups.iter().any(|up| up.key == key && !up.open) {
            self.up_opens(key, WIDE);
        }
        self.widen(Leg::Up(key), WIDE);
        self.flush_all();
        if let Some(at) = self.ups.iter().position(|up| up.key == key && up.open) {
            let (up, calm) = (&mut self.ups[at], self.world.shape.calm);
            if up.h1 == Some(false) && !up.peer.dead && !up.wild {
                opens_windows(&mut up.peer);
            }
            if answering && up.h1 == Some(true) && up.owes() && !up.mute {
                if up.whole {
                    up.h1_answers(Wrong::Nothing, &mut self.rng, &mut self.world);
                } else {
                    up.continues_if_asked(&mut self.world);
                }
            }
            if answering && up.h1 == Some(false) && !up.wild {
                for stream in up.owed(&self.world) {
                    // Those that will say no more are answered nevertheless.
                    if up.is_whole(stream) || (!calm && self.rng.chance(5)) {
                        up.h2_answers(stream, Wrong::Nothing, &mut self.rng, &mut self.world);
                    }
                }
                let streams: Vec<u32> = up.served.keys().copied().collect();
                for stream in streams {
                    for _ in 0..30 {
                        up.h2_goes_on(stream, &mut self.rng, &mut self.world);
                    }
                }
            }
        }
        let more = |up: &Upstream| up.open && up.pipe.reading && (up.peer.unsent() > 0 || up.ends.is_some());
        while self.ups.iter().any(|up| up.key == key && more(up)) {
            self.read_up(key);
            self.flush_all();
        }
    }

    /// Nothing waits to be written any more, so nobody has a reason not to be read.
    fn nobody_is_forgotten(&self) {
        let clear = |pipe: &crate::life::Pipe| pipe.blocked_since.is_none() && !pipe.flush_said;
        let all = self.callers.iter().all(|caller| clear(&caller.pipe) && !caller.gone)
            && self.ups.iter().all(|up| up.open && clear(&up.pipe) && !up.deaf);
        if !all {
            return;
        }
        // What waits for a window is given it in the next round.
        let rest = self.at_rest();
        for up in self.ups.iter().filter(|up| rest || up.h1 == Some(false)) {
            assert!(up.pipe.reading, "connection {} is not read, and nothing is in its way", up.number);
        }
        for caller in &self.callers {
            let excused = caller.ended || caller.closing || (caller.h1 && caller.waits(&self.world));
            assert!(
                caller.pipe.reading || excused,
                "caller {} is not read, and nothing is in its way",
                caller.number
            );
        }
    }

    /// Drained callers are let go by themselves; the silent are closed in time.
    fn leaves(&mut self) {
        if self.world.draining || self.rng.chance(50) {
            if !self.world.draining {
                self.drain();
            }
            for _ in 0..12 {
                self.everyone_goes_on(true);
                self.advance(ms(200));
            }
            assert_eq!(self.callers.len(), 0, "callers stay although all is drained");
            assert_eq!(self.ups.len(), 0, "connections stay although all is drained");
        } else {
            for _ in 0..10 {
                self.everyone_goes_on(true);
                self.advance(ms(50_000));
            }
            assert_eq!(self.callers.len(), 0, "the silent stay");
            assert_eq!(self.ups.len(), 0, "idle connections stay");
        }
    }
}

/// Gives whatever is needed so that nothing waits for this peer.
fn opens_windows(peer: &mut Peer) {
    peer.gives_back(100);
    for id in peer.starving() {
        peer.gives(id, 60_000);
    }
}
