//! What callers say: requests in both protocols, right or wrong, piece by piece; and that they take them back.
//!
//! Must never say what a socket could not carry.

use outrigger::session::{Arrival, Engine, Leg};

use crate::{
    callers::Caller,
    calls::{Call, Flaw, Outcome, Told},
    events::{WIDE, ms},
    h2::{Half, code},
    life::{Life, Pipe, trace},
    rng::Rng,
    wire::{Stream, header},
};

impl Life {
    pub(crate) fn room(&mut self) -> usize {
        if self.rng.chance(self.world.shape.slow_percent) { self.rng.below(3_000) } else { WIDE }
    }

    pub(crate) fn caller_comes(&mut self) {
        let names = self.world.shape.listener_names();
        if names.is_empty() || self.world.draining || self.callers.len() >= 6 {
            return;
        }
        let listener = names[self.rng.below(names.len())].clone();
        let id = self.snapshot.listener_named(&listener).expect("it is in the snapshot");
        let h1 = self.rng.chance(40);
        let manners = self.world.shape.manners.clone();
        let arrival = Arrival { listener: id, manners, peer: None, foreign: h1 };
        let now = self.world.now;
        let key = self.engine.down_open(arrival, now);
        self.numbers += 1;
        let pipe = Pipe::new(self.room());
        let what = if h1 { "HTTP/1" } else { "HTTP/2" };
        trace!(self, "caller {} comes on {listener} with {what}, room {}", self.numbers, pipe.room);
        let mut caller = Caller::new(self.numbers, key, h1, listener, pipe, now);
        caller.tracing = self.tracing;
        if !h1 {
            caller.peer.greet(self.world.shape.wishes(false, &mut self.rng));
        }
        self.callers.push(caller);
        self.handle(|_, _| ());
        // Whatever is said first is written as soon as there is a socket.
        self.note(Leg::Down(key));
    }

    pub(crate) fn some_caller(&mut self, pass: impl Fn(&Caller) -> bool) -> Option<usize> {
        let there: Vec<usize> = (0..self.callers.len()).filter(|at| pass(&self.callers[*at])).collect();
        (!there.is_empty()).then(|| self.rng.pick(&there))
    }

    /// A caller begins some requests.
    pub(crate) fn caller_asks(&mut self) {
        let Some(at) = self.some_caller(Caller::is_free) else { return self.caller_comes() };
        if self.world.calls.len() > 200 {
            return;
        }
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 4]) {
            let caller = &mut self.callers[at];
            let last = caller.waiting.back().map(|call| &self.world.calls[*call]);
            if caller.h1 && last.is_some_and(|last| !last.keep) {
                return;
            }
            let id = self.world.calls.len();
            let mut call = Call::draw(id, caller.number, caller.h1, &self.world.shape, &mut self.rng);
            caller.begins(&mut call, &mut self.rng);
            trace!(self, "caller {} asks {call:?}", caller.number);
            caller.asks(&call);
            self.world.calls.push(call);
        }
    }

    /// A caller says more of a request, or takes it back.
    pub(crate) fn caller_goes_on(&mut self) {
        let open = |caller: &Caller| !caller.h1 && !caller.gone && !caller.wild && !caller.waiting.is_empty();
        let Some(at) = self.some_caller(open) else { return };
        let caller = &mut self.callers[at];
        let id = caller.waiting[self.rng.below(caller.waiting.len())];
        // Of those that were at several endpoints many: whoever answers then must be found.
        let odds = if self.world.calls[id].attempts.len() > 1 { 30 } else { 4 };
        if !self.world.shape.calm && self.rng.chance(odds) {
            let call = &mut self.world.calls[id];
            let why = self.rng.pick(&[code::CANCEL, code::CANCEL, code::INTERNAL, code::NO_ERROR]);
            trace!(self, "caller {} takes call {id} back: {why}", caller.number);
            return caller.takes_back(call.id, why, &mut self.world);
        }
        caller.says_more(&mut self.world.calls[id], &mut self.rng);
    }

    /// A caller begins many calls and takes them all back at once.
    pub(crate) fn caller_storms(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.is_free() && !caller.h1) else { return };
        let caller = &mut self.callers[at];
        trace!(self, "caller {} storms", caller.number);
        caller.wild = true;
        for _ in 0..self.rng.range(10, 60) {
            let id = self.world.calls.len();
            let mut call = Call::draw(id, caller.number, false, &self.world.shape, &mut self.rng);
            (call.flaw, call.expects) = (Flaw::None, false);
            caller.begins(&mut call, &mut self.rng);
            caller.asks(&call);
            self.world.calls.push(call);
            caller.takes_back(id, code::CANCEL, &mut self.world);
        }
    }

    pub(crate) fn caller_stalls(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.peer.unsent() > 0) else { return };
        let by = ms(self.rng.pick(&[100, 1_000, 20_000]));
        let caller = &mut self.callers[at];
        caller.stalled = Some(self.world.now.after(by));
        trace!(self, "caller {} stalls for {by:?}", caller.number);
    }

    /// A caller says goodbye (HTTP/2), or ends its side behind what it said or in the middle of it (HTTP/1).
    pub(crate) fn caller_ends(&mut self) {
        let Some(at) = self.some_caller(Caller::is_free) else { return };
        let cuts = self.rng.chance(40);
        let caller = &mut self.callers[at];
        caller.ends = true;
        if !caller.h1 {
            caller.peer.goodbye(0, code::NO_ERROR);
        } else if cuts {
            caller.peer.said.truncate(caller.peer.sent);
        }
        trace!(self, "caller {} says no more behind {} bytes", caller.number, caller.peer.unsent());
    }

    /// A caller breaks the protocol of its connection.
    pub(crate) fn caller_goes_wild(&mut self) {
        let Some(at) = self.some_caller(|caller| caller.is_free() && !caller.h1) else { return };
        let caller = &mut self.callers[at];
        trace!(self, "caller {} breaks the protocol", caller.number);
        caller.wild = true;
        match self.rng.below(3) {
            0 => caller.peer.promise(),
            1 => caller.peer.gives(0, 0x7fff_ffff),
            _ => caller.peer.said.extend([0xff; 40]),
        }
    }
}

impl Caller {
    /// Says the head of a request, in HTTP/1 also the rest of it.
    pub(crate) fn begins(&mut self, call: &mut Call, rng: &mut Rng) {
        call.start = self.peer.said.len();
        if self.h1 {
            write(call, rng, &mut self.peer.said);
            return;
        }
        call.stream = self.peer.open(rng);
        let mut fields = vec![
            (":method", call.method.to_owned()),
            (":scheme", "http".to_owned()),
            (":authority", "peer".to_owned()),
            (":path", call.target()),
        ];
        fields.extend(call.fields());
        if rng.chance(10) {
            fields.push(("x-pad", "p".repeat(rng.below(30_000))));
        }
        match call.flaw {
            Flaw::Header => fields.push(("X-Bad", "1".to_owned())),
            Flaw::HeadSize => fields.extend((0..120).map(|_| ("x-pad", "p".to_owned()))),
            _ => {}
        }
        let end = call.told.is_none();
        self.peer.says_head(call.stream, &fields, end, false, rng);
        call.head_end = self.peer.said.len();
        if end {
            (call.ended, call.end) = (true, Some(call.head_end));
        }
        if call.flaw == Flaw::Window {
            // Beyond what the stream may, not what the connection may.
            call.len = 100_000;
            self.wild |= self.peer.may < 100_000;
            while call.said < call.len && self.peer.streams[&call.stream].may > -20_000 {
                let n = (call.len - call.said).min(15_000);
                self.peer.says_data(call.stream, Stream::Asked(call.id).bytes(call.said, n), false, rng);
                call.said += n;
                call.pieces.push(self.peer.said.len());
            }
        }
    }

    /// Says more of a request's body, as far as the windows allow (HTTP/2).
    pub(crate) fn says_more(&mut self, call: &mut Call, rng: &mut Rng) {
        if self.h1 || call.ended || call.flaw == Flaw::Window || call.outcome.is_some() {
            return;
        }
        let stream = &self.peer.streams[&call.stream];
        if stream.is_over() || stream.said == Half::Done {
            return;
        }
        let n = self.peer.room(call.stream).min(call.len - call.said).min(16_000);
        let n = if rng.chance(60) { n } else { rng.below(n + 1) };
        let last = call.said + n == call.len;
        if n == 0 && !last {
            return;
        }
        let end = last && !call.trailer;
        if n > 0 || end {
            self.peer.says_data(call.stream, Stream::Asked(call.id).bytes(call.said, n), end, rng);
        }
        call.said += n;
        if last && call.trailer {
            self.peer.says_head(call.stream, &call.trailers(false), true, false, rng);
        }
        call.pieces.push(self.peer.said.len());
        if last {
            (call.ended, call.end) = (true, Some(self.peer.said.len()));
        }
    }

    /// Takes a call back (HTTP/2).
    pub(crate) fn takes_back(&mut self, id: usize, why: u32, world: &mut crate::world::World) {
        let call = &mut world.calls[id];
        if !self.peer.streams[&call.stream].is_over() {
            self.peer.reset(call.stream, why);
            call.back = Some(self.peer.said.len());
            self.ends_with(id, Outcome::Left, world);
        }
    }
}

/// Writes a request as HTTP/1.
fn write(call: &mut Call, rng: &mut Rng, out: &mut Vec<u8>) {
    let version = if call.old { "1.0" } else { "1.1" };
    let mut head = format!("{} {} HTTP/{version}\r\nHost: peer\r\n", call.method, call.target());
    let chunked = call.told == Some(Told::End);
    for (name, value) in call.fields() {
        let name = if name == "x-id" && rng.chance(50) { "X-Id" } else { name };
        header(name, value, &mut head);
    }
    if chunked {
        head += "Transfer-Encoding: chunked\r\n";
    }
    match call.flaw {
        Flaw::Header => head += "x bad: 1\r\n",
        Flaw::HeadSize => (0..120).for_each(|_| head += "x-pad: p\r\n"),
        _ if rng.chance(10) => header("x-pad", "p".repeat(rng.below(6_000)), &mut head),
        _ => {}
    }
    match (call.keep, call.old) {
        (false, false) => head += "Connection: close\r\n",
        (true, true) => head += "Connection: keep-alive\r\n",
        (true, false) | (false, true) => {}
    }
    out.extend(head.bytes());
    out.extend(b"\r\n");
    call.head_end = out.len();
    let body = Stream::Asked(call.id);
    if chunked {
        let mut at = 0;
        while at < call.len {
            let size = rng.range(1, call.len - at).max((call.len / 20).min(call.len - at));
            out.extend(format!("{size:x}\r\n").bytes().chain(body.bytes(at, size).iter().copied()));
            out.extend(if call.flaw == Flaw::Body && rng.chance(50) { b"X\n" } else { b"\r\n" });
            at += size;
        }
        if call.flaw == Flaw::Body {
            out.extend(b"+5\r\nhello\r\n");
        }
        out.extend(b"0\r\n");
        if call.trailer {
            out.extend(format!("x-end: {}\r\n", call.id).bytes());
        }
        out.extend(b"\r\n");
    } else {
        out.extend(body.bytes(0, call.len));
    }
    (call.said, call.ended, call.end) = (call.len, true, Some(out.len()));
}
