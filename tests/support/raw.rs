//! Frames of Bolt v1, v2 and Dubbo2, written and read byte by byte, and a caller that speaks them.
//!
//! What is built here is what stock peers write: SOFARPC's class and header map, Dubbo's Hessian strings and
//! attachments. It must never use the codecs of the product: those are what is tested. Offsets are those of
//! sofa-bolt's `RpcCommandDecoder` and `RpcCommandDecoderV2` and of Dubbo's `ExchangeCodec`.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take on a busy machine before a test says that there is none.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);
pub(crate) const SOFA_REQUEST: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";
/// A call whose payload has this in it is answered at once by an `Upstream`, with the same payload.
pub(crate) const ECHO: &str = "!echo";

/// How frames are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// Bolt v1.
    V1,
    /// Bolt v2 with `ver1` 1, which never has a checksum.
    V2,
    /// Bolt v2 with `ver1` 2 and a checksum.
    Crc,
    Dubbo,
}

pub(crate) const WIRES: [Wire; 4] = [Wire::V1, Wire::V2, Wire::Crc, Wire::Dubbo];

/// What the sidecar says in its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoRoute,
    Limited,
    Overloaded,
    NoEndpoint,
    Unreachable,
    TimedOut,
    Malformed,
    TooLarge,
}

impl Wire {
    /// Its name in the conf and in `/stats`.
    pub(crate) fn protocol(self) -> &'static str {
        if self == Self::Dubbo { "dubbo" } else { "bolt" }
    }

    /// The widest id there is.
    pub(crate) fn id_max(self) -> u64 {
        if self == Self::Dubbo { u64::MAX } else { u32::MAX.into() }
    }

    /// A call of `t.Echo.echo`, answered at once.
    pub(crate) fn call(self, id: u64) -> Call {
        Call {
            wire: self,
            id,
            service: "t.Echo".into(),
            method: "echo".into(),
            version: None,
            group: None,
            headers: Vec::new(),
            timeout: None,
            one_way: false,
            codec: if self == Self::Dubbo { 2 } else { 1 },
            payload: ECHO.into(),
        }
    }

    /// The answer of a service.
    pub(crate) fn answer(self, id: u64, payload: &str) -> Vec<u8> {
        match self {
            Self::Dubbo => dubbo(0x02, 20, id, &[&[0x91], string(payload).as_slice()].concat()),
            bolt => bolt.bolt_answer(2, id, 1, 0, b"", payload.as_bytes()),
        }
    }

    /// The answer of the sidecar itself to a request with this codec byte.
    pub(crate) fn refusal_in(self, id: u64, codec: u8, why: Refused, message: &str) -> Vec<u8> {
        let (bolt, dubbo_status) = match why {
            Refused::NoRoute | Refused::NoEndpoint => (0x06, 60),
            Refused::Limited | Refused::Overloaded => (0x04, 100),
            Refused::Unreachable => (0x10, 80),
            Refused::TimedOut => (0x07, 31),
            Refused::Malformed | Refused::TooLarge => (0x09, 40),
        };
        if self == Self::Dubbo {
            return dubbo(codec, dubbo_status, id, &string(message));
        }
        let map = pairs(&[("outrigger_error".into(), message.into())]);
        // What the sidecar makes carries no checksum, whatever its question had.
        self.bolt_answer_unchecked(2, id, codec, bolt, &map, b"")
    }

    /// As `refusal_in`, for the codec byte that `call` writes.
    pub(crate) fn refusal(self, id: u64, why: Refused, message: &str) -> Vec<u8> {
        self.refusal_in(id, if self == Self::Dubbo { 2 } else { 1 }, why, message)
    }

    pub(crate) fn heartbeat(self, id: u64) -> Vec<u8> {
        match self {
            Self::Dubbo => dubbo(0xe2, 0, id, b"\x4e"),
            bolt => bolt.bolt_request(1, 0, id, 1, -1, "", b"", b""),
        }
    }

    pub(crate) fn heartbeat_answer(self, id: u64) -> Vec<u8> {
        match self {
            Self::Dubbo => dubbo(0x22, 20, id, b"\x4e"),
            bolt => bolt.bolt_answer_unchecked(0, id, 1, 0, b"", b""),
        }
    }

    /// An endpoint's word that it takes no new calls: Dubbo's READONLY, MOSN's GOAWAY.
    pub(crate) fn retire(self, id: u64) -> Vec<u8> {
        match self {
            Self::Dubbo => dubbo(0xa2, 0, id, b"\x01R"),
            bolt => bolt.bolt_request(1, 100, id, 1, 0, "", b"", b""),
        }
    }

    fn bolt_open(self, kind: u8, command: u8, id: u64, codec: u8, switch: u8) -> Vec<u8> {
        let mut out = match self {
            Self::V1 => vec![1],
            Self::V2 => vec![2, 1],
            _ => vec![2, 2],
        };
        out.extend([kind, 0, command, 1]);
        out.extend((id as u32).to_be_bytes());
        out.push(codec);
        if self != Self::V1 {
            out.push(switch);
        }
        out
    }

    /// A Bolt frame of type request or one-way.
    #[allow(clippy::too_many_arguments, reason = "the fields of the frame, in their order")]
    pub(crate) fn bolt_request(
        self,
        kind: u8,
        command: u8,
        id: u64,
        codec: u8,
        timeout: i32,
        class: &str,
        map: &[u8],
        content: &[u8],
    ) -> Vec<u8> {
        // Java clients set the bit on ver1 1 too, where no checksum follows.
        let checked = command == 1 && self != Self::V1;
        let mut out = self.bolt_open(kind, command, id, codec, u8::from(checked));
        out.extend(timeout.to_be_bytes());
        finish(&mut out, class.as_bytes(), map, content);
        if checked && self == Self::Crc {
            out.extend(crc(&out).to_be_bytes());
        }
        out
    }

    pub(crate) fn bolt_answer(
        self,
        command: u8,
        id: u64,
        codec: u8,
        status: u16,
        map: &[u8],
        content: &[u8],
    ) -> Vec<u8> {
        let mut out = self.bolt_open(0, command, id, codec, u8::from(self == Self::Crc));
        out.extend(status.to_be_bytes());
        finish(&mut out, b"", map, content);
        if self == Self::Crc {
            out.extend(crc(&out).to_be_bytes());
        }
        out
    }

    fn bolt_answer_unchecked(
        self,
        command: u8,
        id: u64,
        codec: u8,
        status: u16,
        map: &[u8],
        content: &[u8],
    ) -> Vec<u8> {
        let mut out = self.bolt_open(0, command, id, codec, 0);
        out.extend(status.to_be_bytes());
        finish(&mut out, b"", map, content);
        out
    }
}

fn finish(out: &mut Vec<u8>, class: &[u8], map: &[u8], content: &[u8]) {
    out.extend((class.len() as u16).to_be_bytes());
    out.extend((map.len() as u16).to_be_bytes());
    out.extend((content.len() as u32).to_be_bytes());
    out.extend([class, map, content].concat());
}

/// A Dubbo frame.
pub(crate) fn dubbo(flags: u8, status: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xda, 0xbb, flags, status];
    out.extend(id.to_be_bytes());
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

/// A Bolt header map.
pub(crate) fn pairs(pairs: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// A Hessian string of ASCII, in the form that Java writes.
pub(crate) fn string(mut text: &str) -> Vec<u8> {
    assert!(text.is_ascii(), "the length of a Hessian string counts characters: {text}");
    let mut out = Vec::new();
    while text.len() > 0x8000 {
        let (chunk, rest) = text.split_at(0x8000);
        out.extend([0x52, 0x80, 0x00]);
        out.extend(chunk.as_bytes());
        text = rest;
    }
    match text.len() {
        len @ ..=31 => out.push(len as u8),
        len @ ..=1023 => out.extend([0x30 + (len >> 8) as u8, len as u8]),
        len => out.extend([0x53, (len >> 8) as u8, len as u8]),
    }
    out.extend(text.as_bytes());
    out
}

/// A Hessian map of strings.
pub(crate) fn map(pairs: &[(String, String)]) -> Vec<u8> {
    let inside = pairs.iter().flat_map(|(key, value)| [string(key), string(value)].concat());
    [0x48].into_iter().chain(inside).chain([0x5a]).collect()
}

/// The CRC of `java.util.zip.CRC32`, bit by bit.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

/// A call to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) wire: Wire,
    pub(crate) id: u64,
    service: String,
    method: String,
    version: Option<String>,
    group: Option<String>,
    headers: Vec<(String, String)>,
    timeout: Option<u32>,
    one_way: bool,
    codec: u8,
    payload: String,
}

impl Call {
    pub(crate) fn service(mut self, service: &str) -> Self {
        self.service = service.into();
        self
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// Bolt: what stands behind the first colon of the service.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = Some(version.into());
        self
    }

    pub(crate) fn group(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The caller's own timeout in milliseconds.
    pub(crate) fn timeout(mut self, ms: u32) -> Self {
        self.timeout = Some(ms);
        self
    }

    pub(crate) fn one_way(mut self) -> Self {
        self.one_way = true;
        self
    }

    pub(crate) fn payload(mut self, payload: &str) -> Self {
        self.payload = payload.into();
        self
    }

    /// The service as the sidecar's messages name it.
    pub(crate) fn name(&self) -> String {
        let version = self.version.as_ref().filter(|_| self.wire != Wire::Dubbo);
        let service = version.map_or_else(|| self.service.clone(), |v| format!("{}:{v}", self.service));
        format!("{service}.{}", self.method)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        if self.wire == Wire::Dubbo {
            let arguments = [string("Ljava/lang/String;"), string(&self.payload)].concat();
            return self.dubbo_bytes(&arguments, &map(&self.attachments()));
        }
        let service =
            self.version.as_ref().map_or_else(|| self.service.clone(), |v| format!("{}:{v}", self.service));
        let mut header = vec![
            ("service".to_owned(), service.clone()),
            ("sofa_head_target_service".to_owned(), service),
            ("sofa_head_method_name".to_owned(), self.method.clone()),
        ];
        header.extend(self.headers.clone());
        self.bolt_bytes(&pairs(&header))
    }

    /// The Bolt frame with this header map in place of its own.
    pub(crate) fn bolt_bytes(&self, map: &[u8]) -> Vec<u8> {
        let timeout = self.timeout.map_or(-1, |ms| ms as i32);
        let kind = if self.one_way { 2 } else { 1 };
        self.wire.bolt_request(
            kind,
            1,
            self.id,
            self.codec,
            timeout,
            SOFA_REQUEST,
            map,
            self.payload.as_bytes(),
        )
    }

    /// The Dubbo frame with this descriptor and these arguments, and these attachments, in place of its own.
    pub(crate) fn dubbo_bytes(&self, arguments: &[u8], attachments: &[u8]) -> Vec<u8> {
        let version = self.version.as_ref().map_or(vec![0x4e], |version| string(version));
        let head = [string("2.0.2"), string(&self.service), version, string(&self.method)].concat();
        let flags = if self.one_way { 0x80 } else { 0xc0 } | self.codec;
        dubbo(flags, 0, self.id, &[&head, arguments, attachments].concat())
    }

    fn attachments(&self) -> Vec<(String, String)> {
        let mut all = vec![("path".to_owned(), self.service.clone())];
        all.extend(self.group.clone().map(|group| ("group".to_owned(), group)));
        all.extend(self.timeout.map(|ms| ("timeout".to_owned(), ms.to_string())));
        all.extend(self.headers.clone());
        all
    }
}

/// One whole frame as it came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.bytes[..self.bytes.len().min(300)];
        write!(out, "Frame of {} bytes: {}", self.bytes.len(), start.escape_ascii())
    }
}

impl Frame {
    /// The next frame; `None` at a clean end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; 3];
        if from.read(&mut bytes[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut bytes[1..])?;
        let wire = match *bytes {
            [0xda, ..] => Wire::Dubbo,
            [1, ..] => Wire::V1,
            [2, 1, ..] => Wire::V2,
            [2, 2, ..] => Wire::Crc,
            _ => return Err(io::Error::other(format!("no frame begins with {bytes:02x?}"))),
        };
        let request = wire != Wire::Dubbo && bytes[if wire == Wire::V1 { 1 } else { 2 }] != 0;
        let fixed = match wire {
            Wire::Dubbo => 16,
            Wire::V1 => 20 + 2 * usize::from(request),
            _ => 22 + 2 * usize::from(request),
        };
        bytes.resize(fixed, 0);
        from.read_exact(&mut bytes[3..])?;
        let number =
            |at: usize, len: usize| bytes[at..at + len].iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let mut rest = number(fixed - 4, 4);
        if wire != Wire::Dubbo {
            rest += number(fixed - 8, 2) + number(fixed - 6, 2);
        }
        if wire == Wire::Crc && bytes[11] & 1 == 1 {
            rest += 4;
        }
        bytes.resize(fixed + rest, 0);
        from.read_exact(&mut bytes[fixed..])?;
        Ok(Some(Self { bytes }))
    }

    pub(crate) fn wire(&self) -> Wire {
        match *self.bytes {
            [0xda, ..] => Wire::Dubbo,
            [1, ..] => Wire::V1,
            [2, 1, ..] => Wire::V2,
            _ => Wire::Crc,
        }
    }

    fn id_at(&self) -> std::ops::Range<usize> {
        match self.wire() {
            Wire::Dubbo => 4..12,
            Wire::V1 => 5..9,
            _ => 6..10,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.bytes[self.id_at()].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
    }

    /// The same frame under another id, its checksum true.
    pub(crate) fn with_id(&self, id: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let at = self.id_at();
        let wide = id.to_be_bytes();
        bytes[at.clone()].copy_from_slice(&wide[8 - at.len()..]);
        if self.wire() == Wire::Crc && bytes[11] & 1 == 1 {
            let end = bytes.len() - 4;
            let sum = crc(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// Type and command, as Bolt has them; Dubbo's flags told in the same words.
    fn kind(&self) -> (u8, u8) {
        match self.wire() {
            Wire::Dubbo => {
                let flags = self.bytes[2];
                let command = if flags & 0x20 != 0 { 0 } else { 1 + u8::from(flags & 0x80 == 0) };
                let kind = if flags & 0x80 == 0 { 0 } else { 2 - u8::from(flags & 0x40 != 0) };
                (kind, command)
            }
            Wire::V1 => (self.bytes[1], self.bytes[3]),
            _ => (self.bytes[2], self.bytes[4]),
        }
    }

    /// A call that waits for an answer.
    pub(crate) fn is_request(&self) -> bool {
        self.kind() == (1, 1)
    }

    pub(crate) fn is_one_way(&self) -> bool {
        self.kind() == (2, 1)
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        self.kind() == (1, 0)
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let at = match self.wire() {
            Wire::Dubbo => return self.bytes[3].into(),
            Wire::V1 => 10,
            _ => 12,
        };
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// The caller's timeout in a request; -1: there is none.
    pub(crate) fn timeout(&self) -> i32 {
        if self.wire() == Wire::Dubbo {
            let key = [&[7][..], b"timeout"].concat();
            let Some(at) = self.bytes.windows(8).position(|window| window == key) else { return -1 };
            let (len, rest) = self.bytes[at + 8..].split_first().expect("a value");
            let digits = String::from_utf8_lossy(&rest[..usize::from(*len)]).into_owned();
            return digits.parse().expect("a number");
        }
        let at = if self.wire() == Wire::V1 { 10 } else { 12 };
        i32::from_be_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// Whether `text` stands anywhere in the frame.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The payload of a call that `Call` built, or of an answer that `Wire::answer` built.
    pub(crate) fn payload(&self) -> String {
        let (wire, (kind, _)) = (self.wire(), self.kind());
        let text = if wire == Wire::Dubbo {
            let mut rest = &self.bytes[16..];
            // Before the argument stand five values; before a result its kind.
            let before = if kind == 0 { 1 } else { 5 };
            let mut text = Vec::new();
            for at in 0..=before {
                text = match (kind, at) {
                    (0, 0) => rest.split_off(..1).expect("a kind of result").to_vec(),
                    _ => take_string(&mut rest),
                };
            }
            text
        } else {
            let fixed = if wire == Wire::V1 { 20 } else { 22 } + if kind == 0 { 0 } else { 2 };
            let number = |at: usize| usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]));
            let from = fixed + number(fixed - 8) + number(fixed - 6);
            let trailer = if wire == Wire::Crc && self.bytes[11] & 1 == 1 { 4 } else { 0 };
            self.bytes[from..self.bytes.len() - trailer].to_vec()
        };
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Takes one Hessian string of ASCII (or null) off the front.
fn take_string(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let lead = *rest.split_off_first().expect("a string begins");
        let len = match lead {
            0x4e => return text,
            0..=31 => lead.into(),
            0x30..=0x33 => {
                usize::from(lead - 0x30) << 8
                    | usize::from(*rest.split_off_first().expect("its length goes on"))
            }
            0x52 | 0x53 => {
                let len = rest.split_off(..2).expect("its length goes on");
                usize::from(u16::from_be_bytes([len[0], len[1]]))
            }
            other => panic!("no string begins with {other:#x}"),
        };
        text.extend(rest.split_off(..len).expect("the string is whole"));
        if lead != 0x52 {
            return text;
        }
    }
}

/// A caller's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the listener is there");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
        stream.set_write_timeout(Some(ANSWER_MAX)).expect("a socket option");
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the sidecar reads");
    }

    /// The next frame that comes.
    pub(crate) fn next(&mut self) -> Frame {
        match Frame::read(&mut self.stream) {
            Ok(Some(frame)) => frame,
            other => panic!("no frame came: {other:?}"),
        }
    }

    /// The next frame must be these bytes exactly.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let came = self.next();
        assert_eq!(came, Frame { bytes: bytes.to_vec() });
    }

    /// Makes one call and gives its answer.
    pub(crate) fn ask(&mut self, call: &Call) -> Frame {
        self.send(&call.bytes());
        self.next()
    }

    /// Makes a call that must be answered by this refusal exactly.
    #[track_caller]
    pub(crate) fn refused(&mut self, call: &Call, why: Refused, message: &str) {
        self.send(&call.bytes());
        self.expect(&call.wire.refusal(call.id, why, message));
    }

    /// Makes an echo call that must succeed.
    #[track_caller]
    pub(crate) fn well(&mut self, wire: Wire, id: u64) {
        self.send(&wire.call(id).bytes());
        self.expect(&wire.answer(id, ECHO));
    }

    /// The connection must be ended by the other side, with nothing sent before, within the limit.
    #[track_caller]
    pub(crate) fn closed(&mut self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a socket option");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection should be closed, but: {other:?} {byte:?}"),
        }
    }

    /// Nothing may come for this long, and the connection must stay open.
    #[track_caller]
    pub(crate) fn silent(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket option");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("nothing should come, but: {other:?} {byte:?}"),
        }
        self.stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
    }
}

/// How long something took, with what it gave.
pub(crate) fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = what();
    (value, start.elapsed())
}

/// The text of a Hessian string of ASCII that `bytes` begins with.
pub(crate) fn hessian_text(mut bytes: &[u8]) -> String {
    String::from_utf8_lossy(&take_string(&mut bytes)).into_owned()
}
