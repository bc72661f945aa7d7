//! The end of a life, when everything must come to rest: whoever can go on does, and nothing may be left waiting.
//!
//! Must never help the engine: peers only do what willing peers do, and time passes.

use outrigger::session::{Engine, Leg, arena::Key, exchange::Exchange};

use crate::{
    callers::{Caller, End},
    calls::Outcome,
    endpoints::{Upstream, Wrong},
    events::{WIDE, ms},
    life::{Life, trace},
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
        self.handle(Exchange::shut);
        for _ in 0..2 {
            self.flush_all();
            let downs: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
            for key in downs {
                self.widen(Leg::Down(key), WIDE);
            }
        }
        self.unwanted_open();
        assert_eq!((self.callers.len(), self.ups.len()), (0, 0), "connections after the end");
        assert_eq!(self.local.unsettled(), 0, "calls after the end");
    }

    /// Everybody goes on: every call is answered, or its endpoint is silent until its time is up, or gone.
    fn comes_to_rest(&mut self) {
        trace!(self, "coming to rest");
        let silent = !self.world.shape.calm && self.rng.chance(30);
        for _ in 0..if self.world.shape.calm { 300 } else { 30 } {
            self.everyone_goes_on(!silent);
            if self.at_rest() {
                break;
            }
            let by = if self.world.shape.calm { 1 } else { self.rng.range(1, 300) };
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
        assert_eq!(self.local.unsettled(), 0, "calls were never settled");
        for call in self.world.calls.iter().filter(|call| self.world.shape.calm && call.began.is_some()) {
            let good =
                matches!(call.outcome, Some(Outcome::Answered | Outcome::Tunnel | Outcome::Refused(404)));
            // An answer before it may have had to end the connection (HTTP/1.0).
            let behind = call.outcome == Some(Outcome::Lost) && call.attempts.is_empty();
            assert!(good || behind, "nobody was at fault, and yet: {call:?}");
        }
    }

    fn settled(&self, caller: &Caller) -> bool {
        !caller.waits(&self.world)
            && (caller.unsent() == 0 || caller.closing)
            && !caller.cut()
            && caller.tunnel.is_none()
    }

    fn at_rest(&self) -> bool {
        self.local.unsettled() == 0 && self.callers.iter().all(|caller| self.settled(caller))
    }

    /// Who has not come to rest, for whoever reads the story.
    fn unrest(&self) -> String {
        let callers = self.callers.iter().filter(|caller| !self.settled(caller)).map(|caller| {
            let call = caller.front().map(|id| &self.world.calls[id]);
            format!(
                "caller {} (read {}, {} unsent) waits for {call:?}",
                caller.number,
                caller.pipe.reading,
                caller.unsent()
            )
        });
        callers.collect::<Vec<_>>().join("; ")
    }

    /// All sockets are wide, all that was written is read, and endpoints answer if they are to.
    fn everyone_goes_on(&mut self, answering: bool) {
        for _ in 0..3 {
            let downs: Vec<Key> = self.callers.iter().map(|caller| caller.key).collect();
            for key in downs {
                if let Some(caller) = self.callers.iter_mut().find(|caller| caller.key == key) {
                    caller.stalled = None;
                    if !self.world.shape.calm || self.rng.chance(20) {
                        // It waited long enough for a word.
                        caller.gate = None;
                    }
                    caller.ends |= caller.tunnel.is_some();
                }
                self.widen(Leg::Down(key), WIDE);
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

    fn read_all_of_caller(&mut self, key: Key) {
        let more = |caller: &Caller| caller.unsent() > 0 || (caller.ends && !caller.ended) || caller.gone;
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
        if let Some(at) = self.ups.iter().position(|up| up.key == key && answering) {
            let up = &mut self.ups[at];
            let expects = up.current.is_some_and(|id| self.world.calls[id].expects);
            if up.owes() && !up.whole && expects && !up.has_continued(&self.world) {
                up.continues(&mut self.world);
            }
            if up.owes() && up.whole && !up.mute {
                up.answers(Wrong::Nothing, &mut self.rng, &mut self.world);
                trace!(self, "connection {} answers", up.number);
            }
            if up.tunnel.is_some() && up.ends.is_none() && up.pipe.shut {
                up.tunnels(100);
                up.ends = Some(End::Orderly);
            }
        }
        let more = |up: &Upstream| up.open && up.pipe.reading && (up.unsent() > 0 || up.ends.is_some());
        while self.ups.iter().any(|up| up.key == key && more(up)) {
            self.read_up(key);
            self.flush_all();
        }
    }

    /// Nothing waits to be written any more, so nobody has a reason not to be read.
    fn nobody_is_forgotten(&self) {
        let clear = |pipe: &crate::life::Pipe| pipe.blocked_since.is_none() && !pipe.flush_said;
        for up in self.ups.iter().filter(|up| up.open && !up.deaf) {
            let caller = up.current.or(up.tunnel).map(|id| self.world.calls[id].caller);
            let caller = self.callers.iter().find(|other| Some(other.number) == caller);
            let stuck = caller.is_none_or(|caller| clear(&caller.pipe)) && !up.pipe.reading;
            assert!(!stuck, "connection {} is not read, and nothing is in its way", up.number);
            let ended = up.tunnel.is_some()
                && caller.is_some_and(|caller| caller.ended && caller.tunnel == up.tunnel);
            let told = up.pipe.shut || !clear(&up.pipe);
            assert!(
                !ended || told,
                "connection {} was not told that its tunnel is closed on one side",
                up.number
            );
        }
        for caller in self.callers.iter().filter(|caller| clear(&caller.pipe)) {
            let call = caller.reads_answer_of();
            let hangs = call.is_some() && self.ups.iter().all(|up| up.current != call);
            assert!(!hangs, "caller {} has a part of an answer that nobody goes on with", caller.number);
        }
        let open = self.ups.iter().all(|up| up.open && clear(&up.pipe) && !up.deaf);
        for caller in self.callers.iter().filter(|caller| open && clear(&caller.pipe)) {
            let carried = self.ups.iter().any(|up| up.current == caller.front() && up.current.is_some());
            let excused =
                caller.ended || caller.closing || caller.gone || (caller.waits(&self.world) && !carried);
            let ahead = caller.waiting.len() > 1;
            assert!(
                caller.pipe.reading || excused || ahead,
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
            for _ in 0..6 {
                self.everyone_goes_on(true);
                self.advance(ms(200));
            }
            assert_eq!(self.callers.len(), 0, "callers stay although all is drained");
            assert_eq!(self.ups.len(), 0, "connections stay although all is drained");
        } else {
            for _ in 0..8 {
                self.everyone_goes_on(true);
                self.advance(ms(20_000));
            }
            assert_eq!(self.callers.len(), 0, "the silent stay");
            assert_eq!(self.ups.len(), 0, "idle connections stay");
        }
    }
}
