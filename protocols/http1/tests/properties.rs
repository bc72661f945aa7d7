//! Laws that hold for all heads and bodies, tried on good ones, on good ones with damage, and on noise.
//!
//! The most important: whatever passes the gate is understood alike by a strict reader, by a sloppy one, and by us. The readers
//! in `support/readers.rs` know nothing of the crate.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "support/readers.rs"]
mod readers;
mod support;

use std::fmt;

use outrigger_codec::{
    Asked, Body, ExchangeCodec, Fault, Find, Framing, Head, HeadIndex, Policy, ReplyKind, Slot,
    exchange::{Forwarded, Limits, Side, Underscores},
};
use outrigger_http1::{Http1, Http1Body};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use readers::{Meaning, Told, chunks};
use support::{Answer, ENDPOINT, answered_by, asked, pass, plain, read, read_by, text};

fn limits() -> Limits {
    Limits::default()
}

/// A good request, and what must become of it.
#[derive(Clone)]
struct Made {
    raw: Vec<u8>,
    spelled: Vec<u8>,
    body: Framing,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.body, text(&self.raw))
    }
}

fn token(most: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[!#$%&'*+.^`|~0-9A-Za-z-]{{1,{most}}}")).unwrap()
}

/// A value without white space around it, of any bytes that may stand in one.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let inner =
        prop_oneof![4 => 0x21..0x7f_u8, 2 => 0x80..=0xff_u8, 1 => select(vec![b' ', b'\t', b':', b','])];
    vec(inner, 0..20).prop_map(|bytes| {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = bytes.iter().take_while(|byte| blank(byte)).count();
        let end = bytes.iter().rev().take_while(|byte| blank(byte)).count();
        bytes.get(start..bytes.len() - end).unwrap_or_default().to_vec()
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", " ", "  ", "\t", " \t "])
}

/// A header line with space in it, and the line that goes on.
fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        token(12).prop_map(|name| format!("x-{name}")),
        select(vec![
            "Accept",
            "COOKIE",
            "content-type",
            "Contentlength",
            "Transfer.Encoding",
            "X-Forwarded-For",
            "TE-",
            "Hos"
        ])
        .prop_map(str::to_owned),
    ];
    (name, space(), value(), space()).prop_map(|(name, before, value, after)| {
        let raw = [name.as_bytes(), b":", before.as_bytes(), &value, after.as_bytes(), b"\r\n"].concat();
        (raw, [name.as_bytes(), b": ", &value, b"\r\n"].concat())
    })
}

/// A path and perhaps a query, which begins with one slash and has no dot segments.
fn origin() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-zA-Z0-9_~!$&'()*+,;=:@|^{}`-]{1,6}",
        1 => "[a-z]{1,3}\\.[a-z]{1,3}",
        1 => "%[2-7][0-9A-Fa-d]x",
        1 => "%[89A-Fa-f][0-9A-Fa-f]",
    ];
    let query = "(\\?[a-zA-Z0-9%&=./?:@_~-]{0,12})?";
    (vec(piece, 0..5), query).prop_map(|(path, query)| format!("/{}{query}", path.join("/")))
}

fn host() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "[a-zA-Z0-9][a-zA-Z0-9._~-]{0,12}",
        select(vec!["[::1]", "[2001:db8::a]", "[::ffff:1.2.3.4]"]).prop_map(str::to_owned),
    ];
    (name, prop_oneof![Just(None), (0..=65535_u32).prop_map(Some)])
        .prop_map(|(name, port)| port.map_or(name.clone(), |port| format!("{name}:{port}")))
}

/// The line of a framing in capitals or not, what it must become, and what it means.
fn framing() -> impl Strategy<Value = (String, String, Framing)> {
    prop_oneof![
        Just((String::new(), String::new(), Framing::None)),
        (space(), "0{0,3}", 0..i64::MAX as u64 / 1000).prop_map(|(space, zeros, length)| (
            format!("content-LENGTH:{space}{zeros}{length}\r\n"),
            format!("Content-Length: {length}\r\n"),
            Framing::Length(length)
        )),
        (space(), select(vec!["chunked", "Chunked", "CHUNKED"])).prop_map(|(space, coding)| (
            format!("Transfer-encoding:{coding}{space}\r\n"),
            "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Chunked
        )),
    ]
}

fn request() -> impl Strategy<Value = Made> {
    let hop = select(vec![
        "",
        "Connection: close\r\n",
        "connection: Keep-Alive,,TE\r\nTE: trailers\r\n",
        "Proxy-Foo: x\r\n",
    ]);
    let line =
        (token(32), origin(), host(), select(vec!["", "http://", "HTTP://"]), select(vec!["", "\r\n"]));
    (line, vec(header(), 0..8), framing(), hop, any::<(Index, Index, bool)>()).prop_filter_map(
        "methods that are not carried",
        |((method, target, host, scheme, lead), headers, (sent, told, body), hop, (first, second, old))| {
            if matches!(method.as_str(), "CONNECT" | "TRACE") || (old && body == Framing::Chunked) {
                return None;
            }
            let authority = if scheme.is_empty() { "" } else { &host };
            let minor = u8::from(!old);
            let mut raw =
                format!("{lead}{method} {scheme}{authority}{target} HTTP/1.{minor}\r\n").into_bytes();
            let mut spelled = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
            let mut lines: Vec<Vec<u8>> = headers.iter().map(|(line, _)| line.clone()).collect();
            for (line, at) in [(format!("hOst:\t{host}\r\n"), first), (sent, second), (hop.to_owned(), first)]
            {
                lines.insert(at.index(lines.len() + 1), line.into_bytes());
            }
            raw.extend(lines.concat());
            spelled.extend(headers.iter().flat_map(|(_, line)| line.clone()));
            spelled.extend(told.bytes());
            for head in [&mut raw, &mut spelled] {
                head.extend_from_slice(b"\r\n");
            }
            Some(Made { raw, spelled, body })
        },
    )
}

/// A good answer's head.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![100..600_u32, select(vec![100, 101, 103, 200, 204, 304, 404])];
    let hop = select(vec![
        "",
        "Connection: close\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Keep-Alive: 5\r\n",
    ]);
    let minor = select(vec!['1', '1', '0']);
    (status, minor, value(), vec(header(), 0..6), framing(), hop, any::<Index>()).prop_map(
        |(status, minor, reason, headers, (sent, ..), hop, at)| {
            let mut lines: Vec<Vec<u8>> = headers.into_iter().map(|(line, _)| line).collect();
            lines.insert(at.index(lines.len() + 1), sent.into_bytes());
            lines.insert(at.index(lines.len() + 1), hop.as_bytes().to_vec());
            [format!("HTTP/1.{minor} {status} ").as_bytes(), &reason, b"\r\n", &lines.concat(), b"\r\n"]
                .concat()
        },
    )
}

/// Pieces with which heads are told to be smuggled.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xa0",
    b"\xff",
    b"\"",
    b"_",
    b"-",
    b"0",
    b"+",
    b"#",
    b"?",
    b"/",
    b"//",
    b"/../",
    b"/%2e%2e",
    b"%00",
    b"\\",
    b"*",
    b"\r\n ",
    b"\r\n\t",
    b"chunked",
    b", chunked",
    b"identity",
    b"HTTP/1.0",
    b"\r\nHost: b",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding : chunked",
    b"\r\nTransfer_Encoding: chunked",
    b"\r\nTransfer-Encoding: xchunked",
    b"\r\nContent-Length: 5",
    b"\r\nContent_Length: 5",
    b"\r\nContent-Length: 5, 5",
    b"\nContent-Length: 5",
    b"\r\nConnection: x-a, host, content-length",
    b"\r\nConnection: x,",
    b"\r\nConnection: ,",
    b"\r\nConnection: te,,accept",
    b"\r\nUpgrade: h2c",
    b"\r\nUpgrade: websocket\r\nConnection: upgrade",
    b"\r\nExpect: 100-continue",
    b"\r\nX_Y: z",
    b"\r\nX-A: 1",
    b"\r\n: z",
    b"\r\nProxy-X: 1",
    b"\r\nKeep-Alive: 1",
    b"\r\nTE: gzip",
];

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, &'static [u8]),
    /// Behind a line, where it is most likely to stand.
    Append(Index, &'static [u8]),
    Replace(Index, u8),
    Delete(Index),
    Repeat(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        2 => (at(), select(PIECES)).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        4 => (at(), select(PIECES)).prop_map(|(at, piece)| Edit::Append(at, piece)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        1 => at().prop_map(Edit::Delete),
        1 => at().prop_map(Edit::Repeat),
    ]
}

/// Damages a head; its end is put right again, so that it always has one.
fn damage(raw: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut raw = raw[..raw.len() - 4].to_vec();
    for edit in edits {
        let lines: Vec<usize> =
            raw.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n").map(|(at, _)| at).collect();
        let line = |at: &Index| if lines.is_empty() { raw.len() } else { lines[at.index(lines.len())] };
        let splice = |raw: &[u8], at: usize, piece: &[u8]| [&raw[..at], piece, &raw[at..]].concat();
        raw = match edit {
            Edit::Insert(at, piece) => splice(&raw, at.index(raw.len() + 1), piece),
            Edit::Append(at, piece) => splice(&raw, line(at), piece),
            _ if raw.is_empty() => raw,
            Edit::Replace(at, byte) => {
                let at = at.index(raw.len());
                [&raw[..at], &[*byte], &raw[at + 1..]].concat()
            }
            Edit::Delete(at) => {
                let at = at.index(raw.len());
                [&raw[..at], &raw[at + 1..]].concat()
            }
            Edit::Repeat(at) => {
                let from = line(at).min(raw.len());
                let end = lines.iter().copied().find(|end| *end > from).unwrap_or(raw.len());
                splice(&raw, end, &raw[from..end])
            }
        };
    }
    [raw.as_slice(), b"\r\n\r\n"].concat()
}

/// How the bodies' ends are told in what we spelled, alike to a strict reader and to a sloppy one.
fn understood(spelled: &[u8]) -> (Meaning, Told) {
    let strict = Meaning::strict(spelled).unwrap_or_else(|| panic!("not by the letter: {}", text(spelled)));
    let sloppy = Meaning::sloppy(spelled);
    let told = strict.told().unwrap_or_else(|| panic!("two framings: {}", text(spelled)));
    assert_eq!(sloppy.told(), Some(told), "{}", text(spelled));
    assert_eq!(sloppy.first[..2], strict.first[..2], "{}", text(spelled));
    // A host or an expectation of an answer means nothing to anybody.
    let answer = strict.first[0].starts_with("HTTP/");
    for name in ["connection", "upgrade", "te", "host", "expect"].iter().take(if answer { 3 } else { 5 }) {
        assert_eq!(sloppy.all(name), strict.all(name), "{name}: {}", text(spelled));
    }
    assert_eq!(sloppy.fields.len(), strict.fields.len(), "{}", text(spelled));
    (strict, told)
}

fn told(framing: Framing) -> Told {
    match framing {
        Framing::None | Framing::Close => Told::Nowhere,
        Framing::Length(length) => Told::Length(length),
        Framing::Chunked => Told::Chunked,
    }
}

/// Holds what passed to what a strict reader makes of the original, and of what was spelled.
fn means_the_same(raw: &[u8], policy: &Policy) -> Option<Vec<u8>> {
    let read = read(raw, policy, &limits()).ok()?;
    let original = read.bytes.strip_prefix(b"\r\n").unwrap_or(&read.bytes);
    let original =
        Meaning::strict(original).unwrap_or_else(|| panic!("not by the letter, and passed: {}", text(raw)));
    let (spelled, _) = read.forward(policy);
    let (seen, framing) = understood(&spelled);
    let [method, target, version] = &original.first;
    assert!(matches!(version.as_str(), "HTTP/1.0" | "HTTP/1.1"));
    assert_eq!(original.told(), Some(framing), "{}", text(raw));
    assert_eq!(told(read.asked.body), framing);
    // A whole URI becomes its path.
    let authority = target
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
        .map(|_| target[7..].split(['/', '?']).next().unwrap_or_default().to_owned());
    let path = authority.as_ref().map_or(target.as_str(), |authority| &target[7 + authority.len()..]);
    let path = match path {
        "" if method == "OPTIONS" => "*".to_owned(),
        path if authority.is_some() && !path.starts_with('/') => format!("/{path}"),
        path => path.to_owned(),
    };
    assert_eq!(seen.first, [method.clone(), path, "HTTP/1.1".to_owned()], "{}", text(raw));
    let named = match (original.all("host")[..].to_vec(), authority) {
        (hosts, _) if hosts.len() == 1 => hosts[0].to_owned(),
        (hosts, authority) if hosts.is_empty() && version == "HTTP/1.0" => {
            authority.unwrap_or_else(|| ENDPOINT.to_owned())
        }
        (hosts, _) => panic!("{hosts:?} passed: {}", text(raw)),
    };
    assert_eq!(seen.all("host"), [named.as_str()], "{}", text(raw));
    assert_eq!(seen.fields[0].0, "host");
    let allowed = policy.underscores == Underscores::Allow;
    assert_eq!(seen.end_to_end(true), original.end_to_end(allowed), "{}", text(raw));
    let added: &[&str] = if read.asked.tunnel && method == "GET" { &["upgrade"] } else { &[] };
    assert_eq!(seen.words("connection"), added, "{}", text(raw));
    assert_eq!(seen.all("upgrade").len(), added.len());
    Some(spelled)
}

/// What was asked and so may be answered in its own way.
fn askings() -> Vec<Asked> {
    let of = |head: &str| asked(format!("{head}\r\nHost: a\r\n\r\n").as_bytes(), &Policy::default());
    vec![plain(), of("HEAD / HTTP/1.1"), of("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket")]
}

fn spelled_answer(raw: &[u8], asked: &Asked) -> Option<(Answer, Vec<u8>)> {
    let answer = answered_by(raw, raw.len(), asked, &limits()).ok()?;
    let (spelled, _) = answer.answer(asked, &Policy::default(), false);
    Some((answer, spelled))
}

fn answer_means_the_same(raw: &[u8], asked: &Asked) -> bool {
    let Some((answer, spelled)) = spelled_answer(raw, asked) else { return false };
    let original = Meaning::strict(&answer.bytes)
        .unwrap_or_else(|| panic!("not by the letter, and passed: {}", text(raw)));
    let (seen, framing) = understood(&spelled);
    assert_eq!(seen.first[0], "HTTP/1.1");
    assert_eq!(seen.first[1..], original.first[1..], "{}", text(raw));
    assert_eq!(seen.end_to_end(true), {
        let mut fields = original.end_to_end(true);
        fields.retain(|(name, _)| name != "expect" && name != "host");
        fields
    });
    let status: u16 = original.first[1].parse().unwrap();
    let head = *asked == askings()[1];
    let bodiless = status < 200 || status == 204;
    let expected = match original.told().unwrap() {
        _ if bodiless => Told::Nowhere,
        Told::Chunked if head || status == 304 => Told::Nowhere,
        Told::Nowhere if !head && status != 304 => Told::Chunked,
        told => told,
    };
    assert_eq!(framing, expected, "{}", text(raw));
    assert_eq!(answer.reply.kind == ReplyKind::Switch, status == 101);
    assert!(status != 101 || asked.tunnel);
    // And once more it is the same.
    let (again, twice) = spelled_answer(&spelled, asked)
        .unwrap_or_else(|| panic!("it does not pass again: {}", text(&spelled)));
    assert_eq!(text(&twice), text(&spelled));
    assert_eq!(again.reply.kind, answer.reply.kind);
    true
}

/// A chunked body: as sent, its content, and as it goes on.
fn body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<u8>)> {
    let extension = "(;[ -~\t]{0,8}){0,2}";
    let chunk = (vec(any::<u8>(), 1..40), "0{0,3}", any::<bool>(), extension);
    (vec(chunk, 0..6), "0{0,15}", extension, vec(header(), 0..4)).prop_map(
        |(parts, zeros, last, trailers)| {
            let (mut raw, mut content, mut spelled) = (Vec::new(), Vec::new(), Vec::new());
            for (data, zeros, upper, extension) in parts {
                let size = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
                raw.extend([format!("{zeros}{size}{extension}\r\n").as_bytes(), &data, b"\r\n"].concat());
                spelled.extend([format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat());
                content.extend(data);
            }
            raw.extend(format!("0{zeros}{last}\r\n").bytes());
            spelled.extend_from_slice(b"0\r\n");
            for (line, on) in trailers {
                let name = line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
                raw.extend(line);
                if !matches!(name.as_slice(), b"cookie" | b"content-type" | b"x-forwarded-for") {
                    spelled.extend(on);
                }
            }
            raw.extend_from_slice(b"\r\n");
            spelled.extend_from_slice(b"\r\n");
            (raw, content, spelled)
        },
    )
}

fn chunked() -> Http1Body {
    let read = read(&support::with("Transfer-Encoding: chunked"), &Policy::default(), &limits()).unwrap();
    read.forward(&Policy::default()).1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn good_requests_pass_as_what_they_are(made in request(), steps in vec(1..50_usize, 1..4)) {
        let policy = Policy::default();
        let read = read(&made.raw, &policy, &limits());
        let read = match read {
            Ok(read) => read,
            Err(fault) => return Err(TestCaseError::fail(format!("{fault:?}: {}", text(&made.raw)))),
        };
        prop_assert_eq!(read.bytes.len(), made.raw.len());
        prop_assert_eq!(read.asked.body, made.body);
        prop_assert_eq!(text(&read.forward(&policy).0), text(&made.spelled), "{}", text(&made.raw));
        for step in steps {
            let split = read_by(&made.raw, step, &policy, &limits()).unwrap();
            prop_assert_eq!(split.asked, read.asked);
            prop_assert_eq!(split.fields(), read.fields());
        }
        prop_assert!(means_the_same(&made.raw, &policy).is_some());
    }

    #[test]
    fn what_passes_damaged_is_read_in_one_way_only(made in request(), edits in vec(edit(), 1..4), allow in any::<bool>()) {
        let underscores = if allow { Underscores::Allow } else { Underscores::Drop };
        let raw = damage(&made.raw, &edits);
        // A sloppy reader would take underscores for hyphens, and be right only where none pass.
        if !(allow && raw.contains(&b'_')) {
            means_the_same(&raw, &Policy { underscores, trace: allow, ..Policy::default() });
        }
    }

    #[test]
    fn what_we_spelled_passes_again_as_the_same(made in request(), edits in vec(edit(), 0..3), replace in any::<bool>()) {
        let forwarded = if replace { Forwarded::Replace } else { Forwarded::Off };
        let policy = Policy { connect: true, trace: true, forwarded, ..Policy::default() };
        let raw = damage(&made.raw, &edits);
        if let Ok(first) = read(&raw, &policy, &limits()) {
            // A host that we gave the request ourselves is told of the second time.
            let named = first.slot(Slot::Host).is_some();
            let policy = if named { policy } else { Policy { forwarded: Forwarded::Off, ..policy } };
            let (spelled, _) = first.forward(&policy);
            let second = read(&spelled, &policy, &limits());
            let Ok(second) = second else {
                return Err(TestCaseError::fail(format!("{:?}: {}", second.err(), text(&spelled))));
            };
            prop_assert_eq!(text(&second.forward(&policy).0), text(&spelled), "{}", text(&raw));
            prop_assert_eq!(second.asked.body, first.asked.body);
            prop_assert_eq!(second.asked.awaits, first.asked.awaits);
            prop_assert_eq!(second.asked.tunnel, first.asked.tunnel);
            prop_assert_eq!(second.slot(Slot::Path), first.slot(Slot::Path));
            prop_assert_eq!(second.slot(Slot::Query), first.slot(Slot::Query));
            prop_assert_eq!(second.slot(Slot::Target), first.slot(Slot::Target));
            if named {
                prop_assert_eq!(second.slot(Slot::Host), first.slot(Slot::Host));
                prop_assert_eq!(second.slot(Slot::Authority), first.slot(Slot::Authority));
            }
        }
    }

    #[test]
    fn no_split_turns_a_verdict_round(made in request(), edits in vec(edit(), 0..4), step in 1..40_usize, small in 1..200_usize) {
        let raw = damage(&made.raw, &edits);
        for limits in [limits(), Limits { head_max: small, uri_max: small / 4, headers_max: small / 40, ..limits() }] {
            let by = |step| read_by(&raw, step, &Policy::default(), &limits).ok().map(|read| {
                (read.asked, read.fields(), read.slot(Slot::Path), read.bytes)
            });
            prop_assert_eq!(by(step), by(raw.len()), "{}", text(&raw));
            prop_assert_eq!(by(1), by(raw.len()), "{}", text(&raw));
        }
    }

    #[test]
    fn answers_are_read_in_one_way_only(raw in reply(), edits in vec(edit(), 0..3), step in 1..40_usize) {
        let raw = damage(&raw, &edits);
        for asked in askings() {
            // Names with underscores are a server's own affair; a sloppy reader would be right only without them.
            if !raw.contains(&b'_') {
                answer_means_the_same(&raw, &asked);
            }
            let by = |step| answered_by(&raw, step, &asked, &limits()).ok().map(|it| (it.reply, it.bytes));
            prop_assert_eq!(by(step), by(raw.len()), "{}", text(&raw));
        }
    }

    #[test]
    fn no_bytes_make_anything_panic(noise in vec(any::<u8>(), 0..200), made in request(), edits in vec(edit(), 0..8), cut in any::<Index>()) {
        let damaged = damage(&made.raw, &edits);
        let open = Policy { connect: true, trace: true, underscores: Underscores::Allow, via: Some("v".into()),
            forwarded: Forwarded::Append, request_id: true, ..Policy::default() };
        for bytes in [noise.as_slice(), &damaged, &damaged[..cut.index(damaged.len())], &damaged[cut.index(damaged.len())..]] {
            let _ = Http1::sniff(bytes);
            for side in [Side::Request, Side::Reply] {
                for searched in [0, bytes.len() / 2, bytes.len(), bytes.len() + 9] {
                    if let Find::Head { len } = Http1::find(bytes, searched, side, &limits()) {
                        prop_assert!(len <= bytes.len());
                    }
                }
            }
            let mut index = HeadIndex::default();
            if let Ok(asked) = Http1::request(bytes, &open, &limits(), &mut index) {
                // Only what ends as a head does.
                prop_assert!(bytes.ends_with(b"\r\n\r\n"), "{}", text(bytes));
                let read = support::Read { asked, bytes: bytes.to_vec(), index };
                read.forward(&open);
                prop_assert!(read.index.fields.iter().skip(1).all(|field| field.name.of(bytes).is_some()));
            }
            for asked in askings() {
                let mut index = HeadIndex::default();
                if let Ok(reply) = Http1::reply(bytes, &asked, &limits(), &mut index) {
                    let mut out = Vec::new();
                    Http1::answer(Head { bytes, index: &index }, &asked, &reply, &open, true, &mut out);
                }
            }
            let mut out = Vec::new();
            Http1::fault(bytes, None, Fault::malformed("x"), "x", &mut out);
        }
    }

    #[test]
    fn good_bodies_pass_in_any_split((raw, content, spelled) in body(), sizes in vec(1..30_usize, 1..5), behind in vec(any::<u8>(), 0..20)) {
        let bytes = [raw.as_slice(), &behind].concat();
        let (verdict, out) = pass(chunked(), &bytes, &sizes, &limits());
        prop_assert_eq!(verdict, Ok((raw.len(), true)), "{}", text(&raw));
        prop_assert_eq!(text(&out), text(&spelled));
        let (read, used) = chunks(&out).expect("a strict reader reads it");
        prop_assert_eq!(read, content.iter().map(|byte| char::from(*byte)).collect::<String>());
        prop_assert_eq!(used, out.len());
        // Once more it is the same.
        prop_assert_eq!(pass(chunked(), &out, &sizes, &limits()), (Ok((out.len(), true)), out));
    }

    #[test]
    fn damaged_bodies_end_only_where_a_strict_reader_sees_the_end(
        (raw, ..) in body(), edits in vec(edit(), 1..4), sizes in vec(1..30_usize, 1..5), small in any::<bool>(),
    ) {
        let bytes = damage(&raw, &edits);
        let limits = if small { Limits { body_max: 60, head_max: 60, headers_max: 3, ..limits() } } else { limits() };
        let whole = pass(chunked(), &bytes, &[bytes.len()], &limits);
        prop_assert_eq!(&pass(chunked(), &bytes, &sizes, &limits), &whole, "{}", text(&bytes));
        prop_assert_eq!(&pass(chunked(), &bytes, &[1], &limits), &whole, "{}", text(&bytes));
        let (verdict, out) = whole;
        if let Ok((used, true)) = verdict {
            let (content, read) = chunks(&bytes).unwrap_or_else(|| panic!("it passed: {}", text(&bytes)));
            prop_assert_eq!(read, used, "{}", text(&bytes));
            let (seen, all) = chunks(&out).unwrap_or_else(|| panic!("it was spelled: {}", text(&out)));
            prop_assert_eq!((seen, all), (content, out.len()));
        } else {
            prop_assert!(chunks(&out).is_none(), "what is no body has no end: {}", text(&out));
        }
    }

    #[test]
    fn bodies_of_a_length_or_to_the_end_are_passed_in_any_split(
        bytes in vec(any::<u8>(), 0..200), length in 0..250_u64, sizes in vec(1..30_usize, 1..5),
    ) {
        let answer = |lines: &str| {
            let raw = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            spelled_answer(raw.as_bytes(), &plain()).unwrap().0.answer(&plain(), &Policy::default(), false).1
        };
        let used = bytes.len().min(length as usize);
        let (verdict, out) = pass(answer(&format!("Content-Length: {length}\r\n")), &bytes, &sizes, &limits());
        prop_assert_eq!(verdict, Ok((used, used as u64 == length)));
        prop_assert_eq!(&out[..], &bytes[..used]);

        let mut body = answer("");
        let mut out = Vec::new();
        for piece in bytes.chunks(sizes[0]) {
            prop_assert_eq!(body.pass(piece, &limits(), &mut out).map(|passed| passed.used), Ok(piece.len()));
        }
        prop_assert!(body.end(&mut out));
        let (content, used) = chunks(&out).unwrap();
        prop_assert_eq!(content, bytes.iter().map(|byte| char::from(*byte)).collect::<String>());
        prop_assert_eq!(used, out.len());
    }
}
