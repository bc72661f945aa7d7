//! HTTP/2 as the simulated peers speak it, written and read without the codec's help.
//!
//! Both sides of a connection: frames and literals out, and a strict reader in, whose decompressor is somebody else's
//! (`httlib-hpack`). It keeps the books of windows exactly: what was given counts from the moment at which the engine can
//! know of it, and a SETTINGS frame from its acknowledgement. It must never repair anything: a violation panics.

use std::collections::{BTreeMap, VecDeque};

use httlib_hpack::Decoder;

use crate::rng::Rng;

pub(crate) type Fields = Vec<(String, String)>;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest payload that anybody may send here.
const PAYLOAD_MAX: usize = 16_384;
/// What the engine gives to each stream first, and to a connection.
const WINDOW: i64 = 64 << 10;
const CONNECTION_WINDOW: i64 = 1 << 20;

pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const INTERNAL: u32 = 2;
    pub(crate) const CLOSED: u32 = 5;
    pub(crate) const REFUSED: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
}

/// What the engine said.
#[derive(Debug)]
pub(crate) enum Heard {
    Head { stream: u32, fields: Fields, end: bool },
    Data { stream: u32, data: Vec<u8>, end: bool },
    Reset { stream: u32, code: u32 },
    Goaway { last: u32, code: u32 },
}

/// How far one side of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Head,
    Body,
    Done,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// How far the engine is, and how far the peer.
    pub(crate) heard: Half,
    pub(crate) said: Half,
    /// Ended early, by the engine or by the peer.
    pub(crate) dropped: bool,
    pub(crate) given_up: bool,
    /// What the peer may still say, and what it said.
    pub(crate) may: i64,
    sent: i64,
    /// What the engine may still say, and what the peer took and has not given back.
    allows: i64,
    owed: i64,
}

impl Stream {
    /// Whether both sides have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.dropped || self.given_up || (self.heard == Half::Done && self.said == Half::Done)
    }
}

/// What a SETTINGS frame of the peer says; it counts from its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) window: Option<u32>,
    pub(crate) table: Option<u32>,
    pub(crate) streams: Option<u32>,
}

/// One end of a connection that is not the engine's. Peers that speak HTTP/1 use `said` and `sent` alone.
pub(crate) struct Peer {
    server: bool,
    /// All it ever said, and how much of that the engine has read.
    pub(crate) said: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// It answers no question.
    pub(crate) dead: bool,
    input: Vec<u8>,
    prefaced: bool,
    settled: bool,
    block: Option<(u32, bool, Vec<u8>)>,
    decoder: Decoder<'static>,
    table_max: u32,
    table: VecDeque<(String, String)>,
    /// What the peer may say, and what new streams begin with.
    pub(crate) may: i64,
    may_first: i64,
    allows: i64,
    allows_first: i64,
    owed: i64,
    /// Streams at once, where the engine acknowledged a bound.
    streams_max: Option<u32>,
    wishes: VecDeque<Wishes>,
    /// Windows given: where in `said`, to which stream, how much.
    gifts: VecDeque<(usize, u32, i64)>,
    pings: u32,
    /// The last stream of either side, and what the engine's GOAWAY named.
    pub(crate) last: u32,
    pub(crate) goaway: Option<u32>,
}

impl Peer {
    pub(crate) fn new(server: bool) -> Self {
        Self {
            server,
            said: Vec::new(),
            sent: 0,
            streams: BTreeMap::new(),
            dead: false,
            input: Vec::new(),
            prefaced: !server,
            settled: false,
            block: None,
            decoder: Decoder::with_dynamic_size(4096),
            table_max: 4096,
            table: VecDeque::new(),
            may: 65_535,
            may_first: 65_535,
            allows: 65_535,
            allows_first: 65_535,
            owed: 0,
            streams_max: None,
            wishes: VecDeque::new(),
            gifts: VecDeque::new(),
            pings: 0,
            last: 0,
            goaway: None,
        }
    }

    pub(crate) fn is_server(&self) -> bool {
        self.server
    }

    pub(crate) fn unsent(&self) -> usize {
        self.said.len() - self.sent
    }

    /// The engine is about to be given the next `n` bytes.
    pub(crate) fn deliver(&mut self, n: usize) -> Vec<u8> {
        let from = self.sent;
        self.sent += n;
        while let Some((_, stream, more)) = self.gifts.front().copied().filter(|(at, ..)| *at <= self.sent) {
            self.gifts.pop_front();
            match self.streams.get_mut(&stream) {
                Some(stream) => stream.allows += more,
                None => self.allows += more,
            }
        }
        self.said[from..self.sent].to_vec()
    }

    fn begin(&mut self, id: u32) -> &mut Stream {
        self.last = id;
        let stream = Stream {
            heard: Half::Head,
            said: Half::Head,
            dropped: false,
            given_up: false,
            may: self.may_first,
            sent: 0,
            allows: self.allows_first,
            owed: 0,
        };
        self.streams.entry(id).or_insert(stream)
    }

    fn of(&mut self, id: u32) -> &mut Stream {
        self.streams.get_mut(&id).unwrap_or_else(|| panic!("stream {id} is none"))
    }
}

/// What comes in.
impl Peer {
    /// The engine wrote `bytes`.
    pub(crate) fn hears(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        if !self.prefaced {
            let len = self.input.len().min(PREFACE.len());
            assert_eq!(self.input[..len], PREFACE[..len], "the preface");
            if len < PREFACE.len() {
                return Vec::new();
            }
            self.prefaced = true;
            at = PREFACE.len();
        }
        let input = std::mem::take(&mut self.input);
        let mut heard = Vec::new();
        while let Some([a, b, c, kind, flags, s @ ..]) = input.get(at..at + 9) {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            assert!(len <= PAYLOAD_MAX, "a frame of {len} bytes");
            let Some(payload) = input.get(at + 9..at + 9 + len) else { break };
            let stream = u32::from_be_bytes(s.try_into().expect("four bytes"));
            heard.extend(self.frame(*kind, *flags, stream, payload));
            at += 9 + len;
        }
        self.input = input[at..].to_vec();
        heard
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Option<Heard> {
        assert!(self.settled || (kind == 4 && flags & 1 == 0), "the first frame is of kind {kind}");
        assert!(self.block.is_none() || kind == 9, "a frame in the middle of a head");
        let number = || u32::from_be_bytes(payload.try_into().expect("a number"));
        match kind {
            0 => return Some(self.data(flags, id, payload)),
            1 => {
                assert_eq!(flags & !0x5, 0, "flags of HEADERS");
                return self.fragment(id, flags & 1 != 0, flags & 4 != 0, payload);
            }
            9 => {
                let (of, end, _) = self.block.as_ref().expect("a head has begun");
                assert_eq!(*of, id, "CONTINUATION of another stream");
                let end = *end;
                return self.fragment(id, end, flags & 4 != 0, payload);
            }
            3 => {
                let stream = self.of(id);
                if stream.dropped {
                    // What came for it afterwards found it closed.
                    assert_eq!(number(), 5, "stream {id} is ended twice");
                    return None;
                }
                (stream.dropped, stream.heard) = (true, Half::Done);
                return Some(Heard::Reset { stream: id, code: number() });
            }
            4 => self.settings(flags, payload),
            6 => {
                assert_eq!(payload.len(), 8, "PING");
                if flags & 1 != 0 {
                    self.pings = self.pings.checked_sub(1).expect("it was asked for");
                } else if !self.dead {
                    put(6, 1, 0, payload, &mut self.said);
                }
            }
            7 => {
                let (last, rest) = payload.split_at(4);
                let last = u32::from_be_bytes(last.try_into().expect("a number"));
                assert!(self.goaway.is_none_or(|before| last <= before), "GOAWAY takes back what it said");
                self.goaway = Some(last);
                let code = u32::from_be_bytes(rest[..4].try_into().expect("a number"));
                return Some(Heard::Goaway { last, code });
            }
            8 => self.given(id, i64::from(number())),
            _ => panic!("a frame of kind {kind}"),
        }
        None
    }

    fn data(&mut self, flags: u8, id: u32, payload: &[u8]) -> Heard {
        assert_eq!(flags & !1, 0, "flags of DATA");
        let (len, end) = (payload.len() as i64, flags & 1 != 0);
        assert!(len > 0 || end, "DATA that says nothing");
        self.allows -= len;
        self.owed += len;
        assert!(self.allows >= 0 || len == 0, "the connection's window is overdrawn by {}", -self.allows);
        let stream = self.of(id);
        assert!(!stream.dropped, "DATA behind the end of stream {id}");
        assert_eq!(stream.heard, Half::Body, "DATA of stream {id} in a wrong place");
        stream.allows -= len;
        stream.owed += len;
        assert!(
            stream.allows >= 0 || len == 0,
            "the window of stream {id} is overdrawn by {}",
            -stream.allows
        );
        if end {
            stream.heard = Half::Done;
        }
        Heard::Data { stream: id, data: payload.to_vec(), end }
    }

    fn fragment(&mut self, id: u32, end: bool, last: bool, payload: &[u8]) -> Option<Heard> {
        let (_, _, mut block) = self.block.take().unwrap_or((id, end, Vec::new()));
        block.extend_from_slice(payload);
        if !last {
            self.block = Some((id, end, block));
            return None;
        }
        let mut lines = Vec::new();
        self.decoder.decode(&mut block, &mut lines).expect("a head that can be decompressed");
        assert!(self.decoder.max_dynamic_size() <= self.table_max, "a compression table beyond its bound");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let fields: Fields = lines.into_iter().map(|(name, value, _)| (text(name), text(value))).collect();
        self.head(id, end, &fields);
        Some(Heard::Head { stream: id, fields, end })
    }

    fn head(&mut self, id: u32, end: bool, fields: &Fields) {
        let behind = fields.iter().skip_while(|(name, _)| name.starts_with(':'));
        for (name, _) in behind {
            assert!(!name.starts_with(':') && !name.contains(char::is_uppercase), "the header {name}");
            let hop =
                ["connection", "transfer-encoding", "keep-alive", "upgrade", "host", "proxy-connection"];
            assert!(!hop.contains(&name.as_str()), "the header {name}");
        }
        if self.server && !self.streams.contains_key(&id) {
            assert!(id % 2 == 1 && id > self.last, "stream {id} behind {}", self.last);
            assert!(self.goaway.is_none(), "a stream behind the engine's goodbye");
            self.begin(id);
            let open = self.streams.values().filter(|stream| !stream.is_over()).count();
            assert!(
                self.streams_max.is_none_or(|max| open <= max as usize),
                "{open} streams at once, {:?} are allowed",
                self.streams_max
            );
        }
        let server = self.server;
        let stream = self.of(id);
        assert!(!stream.dropped, "a head behind the end of stream {id}");
        match stream.heard {
            Half::Head => {
                let interim = fields.iter().any(|(name, value)| name == ":status" && value.starts_with('1'));
                let pseudo = fields.first().is_some_and(|(name, _)| name.starts_with(':'));
                assert!(pseudo && !(interim && (end || server)), "a head of stream {id}: {fields:?}");
                stream.heard = if interim { Half::Head } else { Half::Body };
            }
            Half::Body => {
                let pseudo = fields.iter().any(|(name, _)| name.starts_with(':'));
                assert!(end && !pseudo, "a second head of stream {id}: {fields:?}");
            }
            Half::Done => panic!("a head behind the end of stream {id}"),
        }
        if end {
            stream.heard = Half::Done;
        }
    }

    fn settings(&mut self, flags: u8, payload: &[u8]) {
        if flags & 1 == 0 {
            for wish in payload.chunks_exact(6) {
                let number = u32::from_be_bytes(wish[2..].try_into().expect("a number"));
                if wish[..2] == [0, 4] {
                    let more = i64::from(number) - self.may_first;
                    self.may_first += more;
                    self.streams.values_mut().for_each(|stream| stream.may += more);
                }
            }
            self.settled = true;
            return put(4, 1, 0, &[], &mut self.said);
        }
        let wishes = self.wishes.pop_front().expect("SETTINGS are acknowledged once");
        if let Some(window) = wishes.window {
            let more = i64::from(window) - self.allows_first;
            self.allows_first += more;
            self.streams.values_mut().for_each(|stream| stream.allows += more);
        }
        if let Some(table) = wishes.table {
            self.decoder.set_max_dynamic_size(table);
            self.table_max = table;
        }
        self.streams_max = wishes.streams.or(self.streams_max);
    }

    /// The engine gives a window: never more than it took, and what a stream that keeps up earned.
    fn given(&mut self, id: u32, more: i64) {
        assert!(more > 0, "a window is given nothing");
        if id == 0 {
            self.may += more;
            assert!(self.may <= CONNECTION_WINDOW, "the connection is given {} ahead", self.may);
            return;
        }
        let stream = self.of(id);
        assert!(!stream.dropped, "a window behind the end of stream {id}");
        stream.may += more;
        let grown = WINDOW << (stream.sent / WINDOW + 1).ilog2();
        assert!(stream.may <= grown, "stream {id} is given {} ahead, it said {}", stream.may, stream.sent);
    }

    /// Whether a part of a frame is there.
    pub(crate) fn is_cut(&self) -> bool {
        !self.input.is_empty() || self.block.is_some()
    }
}

/// What goes out.
impl Peer {
    pub(crate) fn greet(&mut self, wishes: Wishes) {
        if !self.server {
            self.said.extend(PREFACE);
        }
        self.wish(wishes);
    }

    pub(crate) fn wish(&mut self, wishes: Wishes) {
        let numbers = [(1, wishes.table), (3, wishes.streams), (4, wishes.window)];
        let mut payload = Vec::new();
        for (number, value) in numbers {
            if let Some(value) = value {
                payload.extend([0, number].into_iter().chain(value.to_be_bytes()));
            }
        }
        put(4, 0, 0, &payload, &mut self.said);
        self.wishes.push_back(wishes);
    }

    pub(crate) fn ping(&mut self) {
        self.pings += 1;
        put(6, 0, 0, b"question", &mut self.said);
    }

    pub(crate) fn goodbye(&mut self, last: u32, code: u32) {
        put(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat(), &mut self.said);
    }

    pub(crate) fn frame_of_no_kind(&mut self) {
        put(0xbe, 0xef, 0, b"grease", &mut self.said);
    }

    pub(crate) fn promise(&mut self) {
        put(5, 4, 1, &[0, 0, 0, 2], &mut self.said);
    }

    pub(crate) fn priority(&mut self, id: u32) {
        put(2, 0, id, &[0, 0, 0, 0, 9], &mut self.said);
    }

    pub(crate) fn reset(&mut self, id: u32, code: u32) {
        put(3, 0, id, &code.to_be_bytes(), &mut self.said);
        let stream = self.of(id);
        (stream.given_up, stream.said) = (true, Half::Done);
    }

    /// Gives back `percent` of what it took; everything where that is 100.
    pub(crate) fn gives_back(&mut self, percent: i64) {
        let mut gifts = vec![(0, std::mem::take(&mut self.owed))];
        for (id, stream) in &mut self.streams {
            if stream.owed > 0 && !stream.is_over() && stream.heard != Half::Done {
                let part = (stream.owed * percent / 100).max(1);
                stream.owed -= part;
                gifts.push((*id, part));
            }
        }
        for (id, more) in gifts {
            self.gives(id, more);
        }
    }

    pub(crate) fn gives(&mut self, id: u32, more: i64) {
        if more > 0 {
            put(8, 0, id, &(more as u32).to_be_bytes(), &mut self.said);
            self.gifts.push_back((self.said.len(), id, more));
        }
    }

    /// Streams of which the engine may not say a byte more, though it has not ended them.
    pub(crate) fn starving(&self) -> Vec<u32> {
        let starves = |stream: &Stream| !stream.is_over() && stream.heard != Half::Done && stream.allows <= 0;
        self.streams.iter().filter(|(_, stream)| starves(stream)).map(|(id, _)| *id).collect()
    }

    /// A new stream of this end.
    pub(crate) fn open(&mut self, rng: &mut Rng) -> u32 {
        let id = if self.last == 0 { 1 } else { self.last + 2 };
        let id = if rng.chance(5) { id + 4 } else { id };
        self.begin(id);
        id
    }

    pub(crate) fn says_head(
        &mut self,
        id: u32,
        fields: &[(&str, String)],
        end: bool,
        interim: bool,
        rng: &mut Rng,
    ) {
        let mut block = Vec::new();
        for (name, value) in fields {
            self.line(name, value, rng, &mut block);
        }
        let mut parts = block.as_slice();
        let mut first = true;
        let plain = rng.chance(80);
        loop {
            let most = parts.len().min(PAYLOAD_MAX - 300);
            let (now, later) = parts.split_at(if plain { most } else { most.min(rng.range(0, 2 * most)) });
            let whole = if later.is_empty() { 4 } else { 0 };
            if first {
                let (mut flags, mut payload) = (whole | u8::from(end), Vec::new());
                let padding = if plain || rng.chance(50) { 0 } else { rng.below(200) };
                if padding > 0 {
                    flags |= 8;
                    payload.push(padding as u8);
                }
                if !plain && rng.chance(50) {
                    flags |= 0x20;
                    payload.extend([0, 0, 0, 0, 16]);
                }
                payload.extend(now);
                payload.extend(vec![0; padding]);
                put(1, flags, id, &payload, &mut self.said);
            } else {
                put(9, whole, id, now, &mut self.said);
            }
            (parts, first) = (later, false);
            if parts.is_empty() {
                break;
            }
        }
        let stream = self.of(id);
        stream.said = match (end, interim) {
            (true, _) => Half::Done,
            (false, true) => Half::Head,
            (false, false) => Half::Body,
        };
    }

    /// A header line: a literal, one that goes into the table, or one that is there.
    fn line(&mut self, name: &str, value: &str, rng: &mut Rng, block: &mut Vec<u8>) {
        let known = self.table.iter().position(|(n, v)| n == name && v == value);
        if let Some(at) = known {
            return integer(0x80, 7, 62 + at, block);
        }
        let indexed = rng.chance(30) && value.len() < 200;
        block.push(if indexed { 0x40 } else { rng.pick(&[0, 0, 0x10]) });
        for text in [name, value] {
            integer(0, 7, text.len(), block);
            block.extend(text.bytes());
        }
        if indexed {
            self.table.push_front((name.to_owned(), value.to_owned()));
            let size = |table: &VecDeque<(String, String)>| -> usize {
                table.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
            };
            while size(&self.table) > 4096 {
                self.table.pop_back();
            }
        }
    }

    /// What may be said now of a stream's body.
    pub(crate) fn room(&self, id: u32) -> usize {
        self.streams.get(&id).map_or(0, |stream| usize::try_from(stream.may.min(self.may)).unwrap_or(0))
    }

    pub(crate) fn says_data(&mut self, id: u32, data: &[u8], end: bool, rng: &mut Rng) {
        let spare = self.room(id).saturating_sub(data.len()).min(PAYLOAD_MAX - data.len());
        let padding = if spare > 1 && rng.chance(8) { rng.below(spare.min(256)) } else { 0 };
        let (mut flags, mut payload) = (u8::from(end), Vec::with_capacity(data.len() + padding + 1));
        if padding > 0 {
            flags |= 8;
            payload.push((padding - 1) as u8);
        }
        payload.extend(data);
        payload.extend(vec![0; padding.saturating_sub(1)]);
        put(0, flags, id, &payload, &mut self.said);
        let len = payload.len() as i64;
        self.may -= len;
        let stream = self.of(id);
        stream.may -= len;
        stream.sent += len;
        if end {
            stream.said = Half::Done;
        }
    }
}

fn put(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend([a, b, c, kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A number as HPACK spells it, in a byte that begins with `first` and has `bits` for it.
fn integer(first: u8, bits: u32, number: usize, out: &mut Vec<u8>) {
    let most = (1usize << bits) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The value of a header that is there once at most.
pub(crate) fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|(other, _)| other == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} twice: {fields:?}");
    value
}
