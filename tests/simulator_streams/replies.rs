//! What endpoints answer, right or wrong, early or late, in either protocol.
//!
//! An answer over HTTP/2 is said piece by piece, as windows allow; one over HTTP/1 at once. Must never be wrong in two ways.

use crate::{
    callers::End,
    calls::{Reply, Told},
    endpoints::{Mark, Upstream},
    h2::{Half, code},
    rng::Rng,
    wire::{Framing, Stream, header},
    world::World,
};

/// What may be wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    /// It stops somewhere, and the connection with it (HTTP/1), or its stream is ended (HTTP/2).
    Cut(Option<End>),
    /// Two lengths, or one that is not the body's.
    Lengths,
    Garbage,
    Interims,
    /// Something follows it (HTTP/1), or comes before its head (HTTP/2).
    Misplaced,
}

const WRONGS: [Wrong; 9] = [
    Wrong::Cut(Some(End::Orderly)),
    Wrong::Cut(Some(End::Orderly)),
    Wrong::Cut(Some(End::Reset)),
    Wrong::Cut(None),
    Wrong::Cut(None),
    Wrong::Lengths,
    Wrong::Garbage,
    Wrong::Interims,
    Wrong::Misplaced,
];

impl Wrong {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        rng.pick(&WRONGS)
    }
}

/// What an answer is, before it is said.
struct Draft {
    status: u16,
    len: usize,
    told: Told,
    trailer: bool,
    bodiless: bool,
}

impl Draft {
    fn draw(method: &str, grpc: bool, most: usize, rng: &mut Rng) -> Self {
        let status = if grpc { 200 } else { rng.pick(&[200, 200, 200, 200, 404, 503, 204, 304]) };
        let mut len = if rng.chance(30) { rng.below(most) } else { rng.below(300) };
        let mut told = if grpc || rng.chance(50) { Told::End } else { Told::Length };
        if status == 204 {
            (len, told) = (0, Told::End);
        }
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        if bodiless && told == Told::End || rng.chance(8) {
            len = 0;
        }
        let trailer = !bodiless && (grpc || rng.chance(20));
        Self { status, len, told, trailer, bodiless }
    }
}

/// HTTP/2.
impl Upstream {
    /// Refuses a stream, so that its call may go elsewhere.
    pub(crate) fn refuses(&mut self, stream: u32, world: &mut World) {
        let served = self.served[&stream];
        self.peer.reset(stream, code::REFUSED);
        world.calls[served.call].attempts[served.attempt].failed = true;
        self.marks.push((self.peer.said.len(), served.call, served.attempt, Mark::Unprocessed));
    }

    /// Ends a stream for a reason of its own.
    pub(crate) fn gives_up(&mut self, stream: u32, why: u32, world: &mut World) {
        let served = self.served[&stream];
        self.peer.reset(stream, why);
        let attempt = &mut world.calls[served.call].attempts[served.attempt];
        attempt.failed = true;
        if let Some(reply) = attempt.reply.as_mut().filter(|reply| reply.end.is_none()) {
            reply.complete = false;
        }
    }

    /// Says that no streams are taken: first as a wish, or those that came, or only some of them.
    pub(crate) fn says_goodbye(&mut self, last: u32, world: &mut World) {
        self.peer.goodbye(last, code::NO_ERROR);
        world.trouble[self.cluster] = Some(world.now);
        if last == 0x7fff_ffff {
            return;
        }
        let at = self.peer.said.len();
        self.goodbye = Some(last);
        for (stream, served) in self.served.range_mut(last + 1..) {
            if !self.peer.streams[stream].is_over() && !served.ignored {
                served.ignored = true;
                world.calls[served.call].attempts[served.attempt].failed = true;
                self.marks.push((at, served.call, served.attempt, Mark::Unprocessed));
            }
        }
        world.trouble[self.cluster] = Some(world.now);
    }

    /// Begins an answer.
    pub(crate) fn h2_answers(&mut self, stream: u32, wrong: Wrong, rng: &mut Rng, world: &mut World) {
        let served = self.served[&stream];
        let most = world.shape.body_max;
        let call = &mut world.calls[served.call];
        let attempt = &mut call.attempts[served.attempt];
        attempt.failed |= wrong != Wrong::Nothing;
        let many = if wrong == Wrong::Interims { 9 } else { usize::from(rng.chance(8)) };
        for _ in 0..many {
            let status = if call.expects && rng.chance(50) { 100 } else { rng.pick(&[102, 103]) };
            attempt.interims.push(status);
            let name = format!("{}-{}", call.id, served.attempt);
            let fields = [(":status", status.to_string()), ("x-answer", name)];
            self.peer.says_head(stream, &fields, false, true, rng);
            self.marks.push((self.peer.said.len(), served.call, served.attempt, Mark::Heard));
        }
        let mut draft = Draft::draw(call.method, call.grpc, most, rng);
        if wrong == Wrong::Lengths && !draft.bodiless {
            (draft.told, draft.trailer) = (Told::Length, false);
        }
        let mut end = draft.bodiless || (draft.len == 0 && !draft.trailer && rng.chance(60));
        let mut fields = vec![
            (":status", draft.status.to_string()),
            ("x-answer", format!("{}-{}", call.id, served.attempt)),
        ];
        if draft.told == Told::Length {
            let other = draft.len + usize::from(wrong == Wrong::Lengths && !draft.bodiless);
            fields.push(("content-length", other.to_string()));
        }
        if call.grpc && rng.chance(15) {
            // Trailers alone.
            (draft.len, draft.trailer, end) = (0, false, true);
            fields.push(("grpc-status", "5".to_owned()));
        }
        match wrong {
            Wrong::Garbage => fields.push(("Gar bage", "1".to_owned())),
            Wrong::Misplaced => self.peer.says_data(stream, &[], false, rng),
            _ => {}
        }
        self.peer.says_head(stream, &fields, end, false, rng);
        let lost = matches!(wrong, Wrong::Interims | Wrong::Garbage | Wrong::Misplaced | Wrong::Cut(_));
        let lengths = wrong == Wrong::Lengths && !draft.bodiless;
        let Draft { status, len, told, trailer, .. } = draft;
        let len = if lost && end && !draft.bodiless { 0 } else { len };
        let complete = !(lost && !(end && matches!(wrong, Wrong::Cut(_)))) && !lengths;
        let reply = Reply {
            status,
            len,
            told,
            trailer,
            lies: lengths,
            complete,
            said: 0,
            end: end.then_some(self.peer.said.len()),
        };
        attempt.reply = Some(reply);
        self.moves.push((self.peer.said.len(), served.call, served.attempt));
        if !matches!(wrong, Wrong::Garbage | Wrong::Misplaced | Wrong::Interims) {
            self.marks.push((self.peer.said.len(), served.call, served.attempt, Mark::Heard));
        }
        if let Wrong::Cut(how) = wrong
            && !end
        {
            self.says_half(stream, world);
            match how {
                None => {
                    self.gives_up(stream, rng.pick(&[code::INTERNAL, code::CANCEL, code::REFUSED]), world);
                }
                Some(_) => self.ends = how,
            }
        }
    }

    /// Says a part of an answer's body, not its end.
    fn says_half(&mut self, stream: u32, world: &mut World) {
        let served = self.served[&stream];
        let attempt = &mut world.calls[served.call].attempts[served.attempt];
        let reply = attempt.reply.as_mut().expect("it was begun");
        let n = self.peer.room(stream).min(reply.len / 2).min(16_000);
        if n > 0 {
            let bytes = Stream::Answered(served.call, served.attempt).bytes(0, n);
            self.peer.says_data(stream, bytes, false, &mut Rng::new(0));
            self.moves.push((self.peer.said.len(), served.call, served.attempt));
            reply.said += n;
        }
    }

    /// Says more of an answer, as far as the windows allow.
    pub(crate) fn h2_goes_on(&mut self, stream: u32, rng: &mut Rng, world: &mut World) {
        let served = self.served[&stream];
        if served.ignored {
            return;
        }
        let call = &mut world.calls[served.call];
        let trailers = call.trailers(true);
        let Some(reply) = &mut call.attempts[served.attempt].reply else { return };
        let state = &self.peer.streams[&stream];
        if state.is_over() || state.said == Half::Done || self.ends.is_some() || self.wild {
            return;
        }
        let room = self.peer.room(stream);
        let n = room.min(reply.len - reply.said).min(16_000);
        let n = if rng.chance(60) { n } else { rng.below(n + 1) };
        let last = reply.said + n == reply.len;
        if n == 0 && !last {
            return;
        }
        let bytes = Stream::Answered(served.call, served.attempt).bytes(reply.said, n);
        let end = last && !reply.trailer;
        if n > 0 || end {
            self.peer.says_data(stream, bytes, end, rng);
        }
        reply.said += n;
        if last && reply.trailer {
            self.peer.says_head(stream, &trailers, true, false, rng);
        }
        self.moves.push((self.peer.said.len(), served.call, served.attempt));
        reply.end = last.then_some(self.peer.said.len());
        if last && !self.is_whole(stream) && rng.chance(50) {
            // It has said everything, and wants no more (RFC 9113 §8.1).
            self.peer.reset(stream, code::NO_ERROR);
        }
    }
}

/// However it speaks.
impl Upstream {
    /// Whether a stream's answer was begun, or an interim one given.
    pub(crate) fn has_answered(&self, stream: u32, world: &World) -> bool {
        let served = self.served[&stream];
        let attempt = &world.calls[served.call].attempts[served.attempt];
        attempt.reply.is_some() || !attempt.interims.is_empty()
    }

    /// Its connection will end: in order, or with a reset, and then what was not read may be lost with it.
    pub(crate) fn dies(&mut self, how: usize, world: &mut World) {
        self.ends = Some(if how == 0 { End::Orderly } else { End::Reset });
        self.gone = how >= 2;
        if how == 3 {
            self.peer.said.truncate(self.peer.sent);
        }
        self.over(world, how == 3);
        world.trouble[self.cluster] = Some(world.now);
    }
}

/// HTTP/1.
impl Upstream {
    /// Says that the body may come, where its caller waits for that.
    pub(crate) fn continues_if_asked(&mut self, world: &mut World) {
        if self.current.is_some_and(|id| world.calls[id].expects) {
            self.continues(world);
        }
    }

    /// Says that the body may come.
    pub(crate) fn continues(&mut self, world: &mut World) {
        let Some(id) = self.current else { return };
        if world.calls[id].attempts[self.attempt].interims.is_empty() {
            self.hints(id, 100, world);
        }
    }

    /// Answers; everything that it will ever say to this request is said here.
    pub(crate) fn h1_answers(&mut self, wrong: Wrong, rng: &mut Rng, world: &mut World) {
        let Some(id) = self.current else { return };
        let most = world.shape.body_max;
        let number = self.attempt;
        let many = if wrong == Wrong::Interims { 9 } else { usize::from(rng.chance(8)) };
        for _ in 0..many {
            let status = rng.pick(&[102, 103]);
            self.hints(id, status, world);
        }
        let call = &mut world.calls[id];
        let attempt = &mut call.attempts[number];
        attempt.failed |= !matches!(wrong, Wrong::Nothing | Wrong::Misplaced);
        let from = self.peer.said.len();
        let draft = Draft::draw(call.method, call.grpc, most, rng);
        let Draft { status, len, bodiless, .. } = draft;
        let framing = match draft.told {
            Told::Length => Framing::Length(len),
            Told::End if bodiless || call.grpc || rng.chance(70) => Framing::Chunked,
            Told::End => Framing::Close,
        };
        let trailer = draft.trailer && framing == Framing::Chunked;
        let keep = rng.chance(92) && framing != Framing::Close;
        let mut head = format!("HTTP/1.1 {status} Said\r\nx-answer: {id}-{number}\r\n");
        match framing {
            Framing::Length(len) => header("Content-Length", len, &mut head),
            Framing::Chunked if !bodiless => head += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        match wrong {
            Wrong::Lengths => head += "Content-Length: 7\r\nContent-Length: 7\r\n",
            Wrong::Garbage => head += "gar bage\r\n",
            _ => {}
        }
        head += if keep { "\r\n" } else { "Connection: close\r\n\r\n" };
        self.peer.said.extend(head.bytes());
        let head_end = self.peer.said.len();
        if !matches!(wrong, Wrong::Lengths | Wrong::Garbage | Wrong::Interims) {
            self.head_end = head_end - 1;
        }
        let body = if bodiless { 0 } else { len };
        let bytes = Stream::Answered(id, number);
        if framing == Framing::Chunked && !bodiless {
            let mut at = 0;
            while at < body {
                let size = rng.range(1, body - at).max((body / 20).min(body - at));
                self.peer
                    .said
                    .extend(format!("{size:x}\r\n").bytes().chain(bytes.bytes(at, size).iter().copied()));
                self.peer.said.extend(b"\r\n");
                at += size;
            }
            self.peer.said.extend(b"0\r\n");
            let trailers = if trailer { call.trailers(true) } else { Vec::new() };
            for (name, value) in trailers {
                self.peer.said.extend(format!("{name}: {value}\r\n").bytes());
            }
            self.peer.said.extend(b"\r\n");
        } else {
            self.peer.said.extend(bytes.bytes(0, body));
        }
        if !matches!(wrong, Wrong::Lengths | Wrong::Garbage | Wrong::Interims) {
            self.marks.push((head_end, id, number, Mark::Heard));
        }
        let complete = matches!(wrong, Wrong::Nothing | Wrong::Misplaced);
        let closes = framing == Framing::Close && !bodiless;
        let mut reply =
            Reply { status, len, told: draft.told, trailer, lies: false, complete, said: len, end: None };
        self.spent |= !keep || closes || wrong != Wrong::Nothing;
        self.ends = if closes || (!keep && rng.chance(70)) { Some(End::Orderly) } else { self.ends };
        self.spoil(wrong, [from, head_end], closes, &mut reply, rng);
        self.answer_end =
            Some(self.peer.said.len()).filter(|_| reply.complete && !closes).or(self.answer_end);
        if wrong == Wrong::Misplaced && !closes {
            self.no_split = Some(self.peer.said.len());
            self.babbles();
            self.ends = None;
        }
        reply.end = Some(self.peer.said.len());
        world.calls[id].attempts[number].reply = Some(reply);
    }

    /// Gives an interim answer, which says whose it is.
    fn hints(&mut self, id: usize, status: u16, world: &mut World) {
        let name = format!("x-answer: {id}-{}\r\n", self.attempt);
        self.peer.said.extend(format!("HTTP/1.1 {status} Soon\r\n{name}\r\n").bytes());
        world.calls[id].attempts[self.attempt].interims.push(status);
        self.marks.push((self.peer.said.len(), id, self.attempt, Mark::Heard));
        self.moves.push((self.peer.said.len(), id, self.attempt));
    }

    /// Cuts an answer that lies behind `from`.
    fn spoil(
        &mut self,
        wrong: Wrong,
        [from, head_end]: [usize; 2],
        closes: bool,
        reply: &mut Reply,
        rng: &mut Rng,
    ) {
        let Wrong::Cut(end) = wrong else { return };
        let at = rng.range(from, self.peer.said.len() - 1);
        self.peer.said.truncate(at);
        self.ends = end;
        self.marks.retain(|(mark, ..)| *mark <= at);
        if closes && end == Some(End::Orderly) && at >= head_end {
            (reply.len, reply.complete) = (at - head_end, true);
        }
    }

    /// Says what answers nobody.
    pub(crate) fn babbles(&mut self) {
        self.peer.said.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nx-answer: nobody\r\n\r\nnobody");
        self.spent = true;
    }
}
