//! Endpoints: what they may be sent, byte for byte, and what they answer, right or wrong.
//!
//! A connection carries one request at a time and none after an answer that ended it; a request is seen again only
//! where its route says that this does no harm, as often as that allows, and not after a byte of its answer, unless that
//! came too slowly; and beside another only at another endpoint and after the time that its route names. A violation
//! panics.

use outrigger::session::arena::Key;
use outrigger_core::Tick;

use crate::{
    callers::End,
    calls::{Attempt, Call, Flaw, Reply, write_chunks},
    life::Pipe,
    rng::Rng,
    shape::Shape,
    wire::{Framing, Head, Part, Reader, Stream, header, start},
    world::World,
};

/// A connection to an endpoint of the life.
pub(crate) struct Upstream {
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) address: String,
    pub(crate) pipe: Pipe,
    pub(crate) open: bool,
    /// When the driver gives up connecting.
    pub(crate) dial_until: Tick,
    reader: Reader,
    /// The call whose request it was given last, until both messages are over.
    pub(crate) current: Option<usize>,
    /// Which of that call's attempts it carries or carried last.
    pub(crate) attempt: usize,
    /// When the engine gave it that, and whether it was used before it did.
    pub(crate) given: Tick,
    pub(crate) settled: bool,
    /// That request came whole.
    pub(crate) whole: bool,
    /// All it ever said, and how much of that was read.
    pub(crate) said: Vec<u8>,
    pub(crate) sent: usize,
    /// Where in that the first head of the present answer ends, if it can be trusted.
    head_end: Option<usize>,
    /// Where in that the present answer ends.
    answer_end: Option<usize>,
    /// A read never ends here: what follows would be taken for an answer to whatever comes next, by anybody.
    no_split: Option<usize>,
    /// How it ends behind what it said.
    pub(crate) ends: Option<End>,
    /// Nothing more can be written to it, but nobody has noticed yet; then somebody has.
    pub(crate) gone: bool,
    pub(crate) deaf: bool,
    /// It never answers.
    pub(crate) mute: bool,
    /// No request may follow on it.
    spent: bool,
    /// It carries a tunnel, and how much of it was said.
    pub(crate) tunnel: Option<usize>,
    tunnel_said: usize,
    /// When bytes last moved.
    pub(crate) moved: Tick,
}

/// What may be wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    /// It stops somewhere, and the connection with it, or not even that.
    Cut(Option<End>),
    Lengths,
    Chunk,
    Garbage,
    Interims,
    Unasked,
    /// Something follows it.
    Leftover,
}

const WRONGS: [Wrong; 10] = [
    Wrong::Cut(Some(End::Orderly)),
    Wrong::Cut(Some(End::Orderly)),
    Wrong::Cut(Some(End::Reset)),
    Wrong::Cut(None),
    Wrong::Lengths,
    Wrong::Chunk,
    Wrong::Garbage,
    Wrong::Interims,
    Wrong::Unasked,
    Wrong::Leftover,
];

impl Upstream {
    pub(crate) fn new(number: u32, key: Key, address: &str, given: Tick, dial_until: Tick) -> Self {
        Self {
            number,
            key,
            address: address.to_owned(),
            pipe: Pipe::default(),
            open: false,
            dial_until,
            reader: Reader::default(),
            current: None,
            attempt: 0,
            given,
            settled: false,
            whole: false,
            said: Vec::new(),
            sent: 0,
            head_end: None,
            answer_end: None,
            no_split: None,
            ends: None,
            gone: false,
            deaf: false,
            mute: false,
            spent: false,
            tunnel: None,
            tunnel_said: 0,
            moved: Tick::ZERO,
        }
    }

    pub(crate) fn unsent(&self) -> usize {
        self.said.len() - self.sent
    }

    /// Whether it carries nothing and would take a request.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none()
            && self.tunnel.is_none()
            && self.ends.is_none()
            && !self.spent
            && self.unsent() == 0
    }

    /// Whether no byte of a request is on it.
    pub(crate) fn carries_nothing(&self) -> bool {
        self.current.is_none() && self.tunnel.is_none() && self.reader.is_idle()
    }

    /// Whether it was asked and has not answered.
    pub(crate) fn owes(&self) -> bool {
        self.current.is_some() && self.answer_end.is_none() && self.ends.is_none() && !self.spent
    }

    /// The socket takes the first `n` of what the engine has to write.
    pub(crate) fn hears(&mut self, bytes: &[u8], n: usize, world: &mut World) {
        self.moved = world.now;
        if self.tunnel.is_none() && self.reader.is_idle() {
            self.begins(bytes, world);
        }
        let mut bytes = &bytes[..n];
        while let Some(part) = self.reader.next(&mut bytes) {
            match part {
                Part::Head(head) => self.head(&head, world),
                Part::Data(data) => self.data(data, world),
                Part::End => {
                    let id = self.current.expect("it began with a call");
                    let call = &world.calls[id];
                    assert!(
                        call.whole.is_some() && call.flaw == Flaw::None,
                        "call {id} has an end it never had"
                    );
                    assert_eq!(self.reader.at, call.len, "call {id} was cut");
                    let trailer = ("x-end".to_owned(), id.to_string());
                    let trailers: &[_] = if call.trailer { &[trailer] } else { &[] };
                    assert_eq!(self.reader.trailers, trailers, "call {id}: the trailers");
                    self.whole = true;
                }
            }
        }
    }

    /// The first byte of a request.
    fn begins(&mut self, bytes: &[u8], world: &mut World) {
        let id = Call::named_by(bytes);
        let number = self.number;
        assert!(!self.spent, "call {id} was sent on connection {number}, which is not to be used again");
        assert!(
            self.current.is_none(),
            "call {id} was sent on connection {number} beside {:?}",
            self.current
        );
        let call = world.calls.get_mut(id).expect("only calls of this life are forwarded");
        assert!(call.outcome.is_none(), "call {id} was sent although nobody waits for it");
        assert!(call.headed.is_some(), "call {id} was sent before it was read");
        assert!(!call.flaw.is_in_head(), "call {id} has a head that must not go on: {:?}", call.flaw);
        let route = call.route.unwrap_or_else(|| panic!("call {id} has no route"));
        let home = Shape::home(route);
        assert!(self.address.starts_with(home), "call {id} went to {}, it belongs to {home}", self.address);
        self.may_have(call, route, &world.shape);
        call.attempts.push(Attempt {
            conn: number,
            address: self.address.clone(),
            given: self.given,
            seen: 0,
            reply: None,
            interims: Vec::new(),
            heard: 0,
            heard_at: None,
            answered: false,
            failed: self.ends.is_some() || self.gone,
            over: None,
            slow: false,
            beside: false,
        });
        self.attempt = call.attempts.len() - 1;
        (self.current, self.whole) = (Some(id), false);
        (self.head_end, self.answer_end) = (None, None);
    }

    /// Whether a call may be sent here after all that became of it elsewhere.
    fn may_have(&self, call: &Call, route: usize, shape: &Shape) {
        let (id, most, given) = (call.id, shape.tries(), self.given);
        let mut beside = 0;
        for earlier in &call.attempts {
            let conn = earlier.conn;
            assert!(Shape::idempotent(route), "call {id} was sent on {conn} and may not be sent again");
            assert!(call.attempts.len() <= most, "call {id} was sent too often: {call:?}");
            assert!(!earlier.answered, "call {id} was answered on {conn} already: {call:?}");
            if earlier.over.is_some_and(|over| over <= given) {
                assert!(
                    earlier.failed || earlier.slow,
                    "call {id} left {conn}, which did not fail: {call:?}"
                );
                let mute = earlier.heard == 0 || earlier.slow || earlier.beside;
                assert!(mute, "call {id} was half answered on {conn}: {call:?}");
                continue;
            }
            beside += 1;
            let after = shape.hedge(route);
            let after =
                after.unwrap_or_else(|| panic!("call {id} is with {conn}, which did not end: {call:?}"));
            // The second may be made, and have the request, sooner than the first.
            let (first, second) = (given.min(earlier.given), given.max(earlier.given));
            assert!(second >= first.after(after), "call {id} left {conn} too little time: {call:?}");
            let mute = earlier.heard_at.is_none_or(|heard| heard >= given);
            assert!(mute, "call {id} was about to be answered on {conn}: {call:?}");
            assert!(self.address != earlier.address, "call {id} is at {} twice: {call:?}", self.address);
            let whole = call.whole.is_some_and(|whole| whole <= second);
            assert!(whole, "call {id} was sent beside {conn} before it was whole: {call:?}");
        }
        assert!(beside <= 1, "call {id} is at three endpoints at once: {call:?}");
    }

    /// The attempt that it carries.
    pub(crate) fn carries<'a>(&self, world: &'a mut World) -> Option<&'a mut Attempt> {
        let id = self.tunnel.or(self.current)?;
        world.calls[id].attempts.get_mut(self.attempt)
    }

    /// Its connection ends for the engine. `beside`: another attempt of its call is there, or on its way.
    pub(crate) fn leaves(&self, beside: bool, world: &mut World) {
        let now = world.now;
        if let Some(attempt) = self.carries(world) {
            (attempt.over, attempt.beside) = (Some(now), beside);
        }
    }

    fn head(&mut self, head: &Head, world: &World) {
        let id = self.current.expect("it began with a call");
        let call = &world.calls[id];
        assert_eq!(
            head.line,
            format!("{} {} HTTP/1.1", call.method, call.target()),
            "call {id}: the request line"
        );
        assert_eq!(head.fields[0], ("Host".to_owned(), "peer".to_owned()), "call {id}: the host");
        assert_eq!(head.get("x-id"), Some(&*id.to_string()), "call {id}");
        assert_eq!(head.framing(), call.framing, "call {id}: the framing");
        let upgrade = call.upgrade.then_some("upgrade");
        assert_eq!(head.get("connection"), upgrade, "call {id}: what is for one hop alone");
        assert_eq!(head.get("upgrade").is_some(), call.upgrade, "call {id}: the upgrade");
        let expects = call.expects.then_some("100-continue");
        assert_eq!(head.get("expect"), expects, "call {id}: what it expects");
        self.reader.body(call.framing.unwrap_or(Framing::Length(0)));
    }

    fn data(&mut self, data: &[u8], world: &mut World) {
        let at = self.reader.at - data.len();
        let (stream, id) = match (self.tunnel, self.current) {
            (Some(id), _) => (Stream::ToEndpoint(id), id),
            (None, Some(id)) => (Stream::Asked(id), id),
            (None, None) => panic!("bytes of nobody"),
        };
        assert!(data == stream.bytes(at, data.len()), "{stream:?} at {at}: other bytes: {:?}", start(data));
        let call = &mut world.calls[id];
        if self.tunnel.is_some() {
            call.tunnelled = self.reader.at;
        } else if let Some(attempt) = call.attempts.get_mut(self.attempt) {
            attempt.seen = self.reader.at;
        }
    }

    /// How many bytes are read when `n` were to be.
    pub(crate) fn split(&self, n: usize) -> usize {
        if self.no_split == Some(self.sent + n) { n + 1 } else { n }
    }

    /// The next `n` bytes, which are now with the engine.
    pub(crate) fn deliver(&mut self, n: usize, world: &mut World) -> Vec<u8> {
        let from = self.sent;
        self.sent += n;
        self.moved = world.now;
        if let Some(id) = self.current.or(self.tunnel) {
            let call = &mut world.calls[id];
            let attempt = &mut call.attempts[self.attempt];
            attempt.heard += n;
            attempt.heard_at.get_or_insert(world.now);
            attempt.answered |= self.head_end.is_some_and(|end| self.sent >= end);
            if attempt.answered {
                let first = *call.prevails.get_or_insert(self.attempt);
                assert!(first == self.attempt, "call {id} was answered twice: {call:?}");
            }
        }
        if self.answer_end.is_some_and(|end| self.sent >= end) {
            self.answer_end = None;
            // A request that is not over by then never is.
            self.spent |= !self.whole;
            self.current = None;
        }
        self.said[from..self.sent].to_vec()
    }

    /// It ends, and the engine is about to be told.
    pub(crate) fn over(&self, end: End, world: &mut World) {
        let Some(id) = self.tunnel.or(self.current) else { return };
        let call = &mut world.calls[id];
        let attempt = &mut call.attempts[self.attempt];
        match (self.tunnel, end) {
            (Some(_), End::Orderly) => call.tunnel_said = Some(self.tunnel_said),
            _ => {
                let complete = attempt.reply.as_ref().is_some_and(|reply| reply.complete);
                attempt.failed |= end == End::Reset || !complete;
            }
        }
    }

    /// It says that the body may come.
    pub(crate) fn continues(&mut self, world: &mut World) {
        if let Some(id) = self.current {
            self.hints(100, id, world);
        }
    }

    /// Gives an interim answer, which says whose it is.
    fn hints(&mut self, status: u16, id: usize, world: &mut World) {
        world.calls[id].attempts[self.attempt].interims.push(status);
        let name = format!("x-answer: {id}-{}\r\n", self.attempt);
        self.said.extend(format!("HTTP/1.1 {status} Soon\r\n{name}\r\n").bytes());
        self.head_end.get_or_insert(self.said.len());
    }

    pub(crate) fn has_continued(&self, world: &World) -> bool {
        let attempt = self.current.map(|id| &world.calls[id].attempts[self.attempt]);
        attempt.is_some_and(|attempt| attempt.interims.contains(&100))
    }

    /// Answers, in the way that is `wrong`. Everything that it will ever say to this request is said here.
    pub(crate) fn answers(&mut self, wrong: Wrong, rng: &mut Rng, world: &mut World) {
        let Some(id) = self.current else { return };
        let draining = world.draining;
        let body_max = world.shape.body_max;
        let call = &world.calls[id];
        let number = self.attempt;
        let wrong = match wrong {
            Wrong::Unasked if call.upgrade => Wrong::Garbage,
            Wrong::Chunk if call.method == "HEAD" => Wrong::Garbage,
            wrong => wrong,
        };
        let many = if wrong == Wrong::Interims { 9 } else { usize::from(rng.chance(8)) };
        for _ in 0..many {
            let status = rng.pick(&[102, 103]);
            self.hints(status, id, world);
        }
        let call = &mut world.calls[id];
        call.attempts[number].failed |= !matches!(wrong, Wrong::Nothing | Wrong::Leftover);
        if call.upgrade && self.whole && wrong == Wrong::Nothing && rng.chance(60) {
            return self.switches(id, world);
        }
        let from = self.said.len();
        let status = if wrong == Wrong::Unasked {
            101
        } else {
            rng.pick(&[200, 200, 200, 200, 204, 304, 404, 500, 503])
        };
        let len = if rng.chance(30) { rng.below(body_max) } else { rng.below(300) };
        let old = rng.chance(10);
        let mut framing = match rng.below(5) {
            0 | 1 => Framing::Length(len),
            2 | 3 if !old => Framing::Chunked,
            _ => Framing::Close,
        };
        match wrong {
            Wrong::Chunk => framing = Framing::Chunked,
            Wrong::Lengths => framing = Framing::Length(len),
            _ => {}
        }
        let old = old && framing != Framing::Chunked;
        let status = if wrong == Wrong::Chunk { 200 } else { status };
        let bodiless = call.method == "HEAD" || matches!(status, 101 | 204 | 304);
        let says = match (old, rng.below(6)) {
            (true, 0..3) => Some("keep-alive"),
            (false, 0) => Some("close"),
            _ => None,
        };
        let keep = if old { says.is_some() } else { says.is_none() };
        let trailer = framing == Framing::Chunked && rng.chance(30);
        self.write_head(status, old, &format!("{id}-{number}"), framing, says, wrong, bodiless);
        let head_end = self.said.len();
        if !matches!(wrong, Wrong::Lengths | Wrong::Garbage | Wrong::Unasked) {
            self.head_end.get_or_insert(head_end);
        }
        if !bodiless {
            let stream = Stream::Answered(id, number);
            match framing {
                Framing::Length(_) | Framing::Close => self.said.extend(stream.bytes(0, len)),
                Framing::Chunked => {
                    write_chunks(stream, len, wrong == Wrong::Chunk, false, rng, &mut self.said);
                    let end = if trailer { format!("x-end: {id}\r\n\r\n") } else { "\r\n".to_owned() };
                    self.said.extend(end.bytes());
                }
            }
        }
        let closes = framing == Framing::Close && !bodiless;
        let mut reply = Reply { status, len, complete: wrong == Wrong::Nothing, trailer, framing, draining };
        self.spent |= !keep || closes || !matches!(wrong, Wrong::Nothing);
        self.ends = if closes || (!keep && rng.chance(70)) { Some(End::Orderly) } else { self.ends };
        self.spoil(wrong, [from, head_end], closes, &mut reply, rng);
        self.answer_end = self.answer_end.or(Some(self.said.len())).filter(|_| reply.complete && !closes);
        world.calls[id].attempts[number].reply = Some(reply);
    }

    /// Cuts an answer that lies behind `from`, or adds to it.
    fn spoil(
        &mut self,
        wrong: Wrong,
        [from, head_end]: [usize; 2],
        closes: bool,
        reply: &mut Reply,
        rng: &mut Rng,
    ) {
        match wrong {
            Wrong::Cut(end) => {
                let at = rng.range(from, self.said.len() - 1);
                self.said.truncate(at);
                self.head_end = self.head_end.filter(|end| *end <= at);
                self.ends = end;
                if closes && end == Some(End::Orderly) && at >= head_end {
                    (reply.len, reply.complete) = (at - head_end, true);
                }
            }
            Wrong::Leftover => {
                reply.complete = true;
                if !closes {
                    self.no_split = Some(self.said.len());
                    self.answer_end = Some(self.said.len());
                    self.said
                        .extend(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nx-answer: nobody\r\n\r\nnobody");
                    self.ends = None;
                }
            }
            _ => {}
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of one head")]
    fn write_head(
        &mut self,
        status: u16,
        old: bool,
        name: &str,
        framing: Framing,
        says: Option<&str>,
        wrong: Wrong,
        bodiless: bool,
    ) {
        let version = if old { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {status} Said\r\nx-answer: {name}\r\n");
        match framing {
            _ if status == 204 || status == 101 || (status == 304 && bodiless) => {}
            Framing::Length(len) => header("Content-Length", len, &mut head),
            Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Framing::Close => {}
        }
        match wrong {
            Wrong::Lengths => head += "Content-Length: 7\r\nContent-Length: 7\r\n",
            Wrong::Garbage => head += "gar bage\r\n",
            _ => {}
        }
        if let Some(says) = says {
            header("Connection", says, &mut head);
        }
        self.said.extend(head.bytes());
        self.said.extend(b"\r\n");
    }

    /// Agrees to become something else.
    fn switches(&mut self, id: usize, world: &mut World) {
        let name = format!("x-answer: {id}-{}\r\n\r\n", self.attempt);
        self.said.extend(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
        self.said.extend(name.bytes());
        self.head_end.get_or_insert(self.said.len());
        world.calls[id].attempts[self.attempt].interims.push(101);
        (self.tunnel, self.current) = (Some(id), None);
        self.spent = true;
        self.reader.body(Framing::Close);
    }

    /// Says more in its tunnel.
    pub(crate) fn tunnels(&mut self, len: usize) {
        if let Some(id) = self.tunnel.filter(|_| self.ends.is_none()) {
            self.said.extend(Stream::ToCaller(id).bytes(self.tunnel_said, len));
            self.tunnel_said += len;
        }
    }

    /// Says what answers nobody.
    pub(crate) fn babbles(&mut self) {
        self.said.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nx-answer: nobody\r\n\r\nnobody");
        self.spent = true;
    }

    pub(crate) fn draw_wrong(rng: &mut Rng) -> Wrong {
        rng.pick(&WRONGS)
    }
}
