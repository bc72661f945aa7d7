//! HTTP/1 as a link: what a caller's and an endpoint's bytes are to others, and what others' messages are in HTTP/1.
//!
//! Source: RFC 9112 §6, §7, §9; RFC 9113 §8.1 for what has no place here. Reads are cut everywhere; what is written is
//! compared byte for byte.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests may panic")]

use outrigger_codec::{
    Code, Event, Fault, Link, Message, Policy, ReplyKind, Slot, Span, Tag, streams::LinkSettings,
};
use outrigger_http1::Http1Link;
use proptest::{collection::vec, prelude::*};

/// What came of bytes: an event in short, and the head or the bytes that it tells of.
type Told = (String, String);

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A message of HTTP/2's kind.
fn message(slots: &[(Slot, &str)], fields: &[(&str, &str)]) -> Message {
    let mut message = Message::default();
    for (slot, value) in slots {
        message.set(*slot, value.as_bytes());
    }
    for (name, value) in fields {
        message.add(name.as_bytes(), value.as_bytes());
    }
    message
}

struct End {
    link: Http1Link,
    carry: Vec<u8>,
    out: Vec<u8>,
    stream: u32,
}

impl End {
    fn server() -> Self {
        Self {
            link: Http1Link::new(true, &LinkSettings::default()),
            carry: Vec::new(),
            out: Vec::new(),
            stream: 0,
        }
    }

    /// A connection to an endpoint.
    fn client() -> Self {
        Self {
            link: Http1Link::new(false, &LinkSettings::default()),
            carry: Vec::new(),
            out: Vec::new(),
            stream: 0,
        }
    }

    /// One to an endpoint that was asked for something.
    fn asking(method: &str, fields: &[(&str, &str)], end: bool) -> Self {
        let mut client = Self::client();
        client.asks(method, fields, end);
        client
    }

    fn asks(&mut self, method: &str, fields: &[(&str, &str)], end: bool) {
        let head = message(&[(Slot::Method, method), (Slot::Target, "/a?b"), (Slot::Authority, "h")], fields);
        self.stream = self.link.open(Tag(7));
        self.link.request(self.stream, head.head(), end, "endpoint:1", &mut self.out);
    }

    fn answers(&mut self, status: &str, fields: &[(&str, &str)], kind: ReplyKind, end: bool) {
        let head = message(&[(Slot::Target, status)], fields);
        self.link.answer(self.stream, head.head(), kind, end, &mut self.out);
    }

    fn sends(&mut self, bytes: &str, end: bool) {
        assert_eq!(self.link.data(self.stream, bytes.as_bytes(), end, &mut self.out), bytes.len());
    }

    fn trailers(&mut self, fields: &[(&str, &str)]) {
        self.link.trailers(self.stream, message(&[], fields).head(), &mut self.out);
    }

    /// What was written since it was last asked.
    fn said(&mut self) -> String {
        text(&std::mem::take(&mut self.out))
    }

    /// Gives it bytes in reads of these lengths, and then the rest.
    fn gives_in(&mut self, bytes: &[u8], cuts: &[usize]) -> Vec<Told> {
        let (policy, mut message) = (Policy::default(), Message::default());
        let mut cuts = cuts.iter().copied().chain(std::iter::repeat(bytes.len().max(1)));
        let (mut rest, mut told) = (bytes, Vec::new());
        loop {
            while !self.carry.is_empty() {
                let step = self.link.receive(&self.carry, &policy, &mut message, &mut self.out);
                assert!(step.used <= self.carry.len());
                if matches!(step.event, Event::Partial { .. } | Event::Wait) {
                    assert_eq!(step.used, 0);
                    break;
                }
                told.extend(self.tells(step.event, &message));
                self.carry.drain(..step.used);
            }
            if rest.is_empty() {
                return joined(told);
            }
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
            self.carry.extend_from_slice(now);
            rest = later;
        }
    }

    fn tells(&mut self, event: Event, message: &Message) -> Option<Told> {
        let of =
            |span: Span| String::from_utf8_lossy(span.of(&message.bytes).unwrap_or_default()).into_owned();
        let fields = || -> String {
            let lines =
                message.index.fields.iter().map(|field| format!("{}={}", of(field.name), of(field.value)));
            lines.collect::<Vec<_>>().join(" ")
        };
        let ends = |end: bool| if end { " end" } else { "" };
        Some(match event {
            Event::Nothing => return None,
            Event::Request { stream, end, bodiless } => {
                self.stream = stream;
                self.link.adopt(stream, Tag(7));
                let bodiless = if bodiless { " bodiless" } else { "" };
                (format!("request{}{bodiless}", ends(end)), fields())
            }
            Event::Answer { tag, kind, end } => {
                assert_eq!(tag, Tag(7));
                (format!("{kind:?}{}", ends(end)), fields())
            }
            Event::Data { tag, at, len, end } => {
                assert_eq!(tag, Tag(7));
                (format!("data{}", ends(end)), text(&self.carry[at..at + len]))
            }
            Event::Trailers { tag } => {
                assert_eq!(tag, Tag(7));
                ("trailers".to_owned(), fields())
            }
            Event::Fault { stream, fault } => {
                self.stream = stream;
                ("fault".to_owned(), fault.why().to_owned())
            }
            Event::Reset { ours, .. } => (format!("reset {ours}"), String::new()),
            Event::Broken { .. } => ("broken".to_owned(), String::new()),
            other => panic!("{other:?}"),
        })
    }

    fn gives(&mut self, bytes: &str) -> Vec<Told> {
        self.gives_in(bytes.as_bytes(), &[])
    }
}

/// Bytes of a body that came in pieces, as one.
fn joined(told: Vec<Told>) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for (what, of) in told {
        match all.last_mut() {
            Some((last, bytes)) if last == "data" && what.starts_with("data") => {
                *last = what;
                bytes.push_str(&of);
            }
            _ => all.push((what, of)),
        }
    }
    all
}

fn told(all: &[(&str, &str)]) -> Vec<Told> {
    all.iter().map(|(what, of)| ((*what).to_owned(), (*of).to_owned())).collect()
}

/// Bytes of a caller, and what they are.
const ASKED: [(&str, &[(&str, &str)]); 8] = [
    ("GET /a HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", &[("request end", "a=b")]),
    ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", &[("request end bodiless", "")]),
    (
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: x\r\nX: y\r\n\r\nhello",
        &[("request", "content-length=5"), ("data end", "hello")],
    ),
    ("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &[("request end", "content-length=0")]),
    (
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        &[("request", ""), ("data end", "hello")],
    ),
    (
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-End: z\r\n\r\n",
        &[("request", ""), ("data", "hello"), ("trailers", "x-end=z")],
    ),
    (
        "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        &[("request", "content-length=1 expect=100-continue"), ("data end", "x")],
    ),
    ("GET /a HTTP/1.0\r\n\r\n", &[("request end", "")]),
];

#[test]
fn requests_are_what_they_were() {
    for (bytes, expected) in ASKED {
        let mut end = End::server();
        assert_eq!(end.gives(bytes), told(expected), "{bytes:?}");
        let connection = bytes.contains("1.0");
        end.answers("200", &[("content-length", "0")], ReplyKind::Final, true);
        let said = end.said().to_ascii_lowercase();
        assert!(said.starts_with("http/1.1 200 ok\\r\\ncontent-length: 0\\r\\n"), "{said}");
        assert_eq!((end.link.is_spent(), end.link.is_severed()), (connection, false), "{bytes:?}");
        for cut in 1..bytes.len() {
            assert_eq!(
                End::server().gives_in(bytes.as_bytes(), &[cut]),
                told(expected),
                "{bytes:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn one_request_is_answered_before_the_next_is_read() {
    let mut end = End::server();
    let pipelined =
        "GET /a HTTP/1.1\r\nHost: h\r\nX-Id: 1\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\nX-Id: 2\r\n\r\n";
    assert_eq!(end.gives(pipelined), told(&[("request end", "x-id=1")]));
    assert_eq!(end.gives(""), []);
    end.answers("200 Fine", &[], ReplyKind::Final, false);
    end.sends("one", true);
    assert_eq!(
        end.said(),
        "HTTP/1.1 200 Fine\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n3\\r\\none\\r\\n0\\r\\n\\r\\n"
    );
    assert_eq!(end.gives(""), told(&[("request end", "x-id=2")]));
    end.link.retire(true, &mut Vec::new());
    end.answers("204", &[], ReplyKind::Final, true);
    assert!(end.said().contains("connection: close"), "the last one says so");
    assert!(end.link.is_spent() && !end.link.is_severed());
    assert_eq!(end.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), [], "nothing is read behind it");
}

#[test]
fn a_goodbye_in_the_middle_of_an_answer_is_said_with_the_next() {
    let mut end = End::server();
    end.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    end.answers("200", &[("content-length", "2")], ReplyKind::Final, false);
    end.link.retire(true, &mut Vec::new());
    end.sends("ok", true);
    assert!(!end.said().contains("close"));
    assert_eq!(end.gives(""), told(&[("request end", "")]));
    end.answers("200", &[("content-length", "0")], ReplyKind::Final, true);
    assert!(end.said().contains("connection: close") && end.link.is_spent());
}

#[test]
fn an_early_answer_is_the_last() {
    let mut end = End::server();
    end.gives("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
    end.answers("403", &[("content-length", "0")], ReplyKind::Final, true);
    assert!(end.said().contains("connection: close"));
    assert_eq!((end.link.streams(), end.link.is_spent(), end.link.is_severed()), (0, true, false));
    assert_eq!(end.gives("lloGET / HTTP/1.1\r\n\r\n"), [], "the rest is dropped");
}

/// Headers.
type Fields<'a> = &'a [(&'a str, &'a str)];
/// A request; the answer's status, headers and body; what is written behind the status line; whether all ends with it.
type Written<'a> = (&'a str, &'a str, Fields<'a>, Option<&'a str>, &'a str, bool);
/// A method, headers and a body; what is written behind the host.
type Forwarded<'a> = (&'a str, Fields<'a>, Option<&'a str>, &'a str);
/// A method; an endpoint's bytes; what they are; whether all ends with them.
type Heard<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);

#[test]
fn answers_are_framed_by_what_is_known_of_them() {
    let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let old = "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let length = [("content-length", "2")];
    let cases: [Written<'_>; 10] = [
        (get, "200", &length, Some("ok"), "Content-Length: 2\\r\\n\\r\\nok", false),
        (
            get,
            "200",
            &[],
            Some("ok"),
            "Transfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nok\\r\\n0\\r\\n\\r\\n",
            false,
        ),
        (get, "200", &[], None, "Content-Length: 0\\r\\n\\r\\n", false),
        (get, "204", &length, None, "\\r\\n", false),
        (get, "304", &length, None, "Content-Length: 2\\r\\n\\r\\n", false),
        (head, "200", &length, None, "Content-Length: 2\\r\\n\\r\\n", false),
        (head, "200", &[], Some("ok"), "\\r\\n", false),
        (
            old,
            "200",
            &length,
            Some("ok"),
            "Content-Length: 2\\r\\nconnection: keep-alive\\r\\n\\r\\nok",
            false,
        ),
        (old, "200", &[], Some("ok"), "connection: close\\r\\n\\r\\nok", true),
        (get, "200", &[("te", "x"), ("a", "b")], None, "a: b\\r\\nContent-Length: 0\\r\\n\\r\\n", false),
    ];
    for (asked, status, fields, body, expected, spent) in cases {
        let mut end = End::server();
        end.gives(asked);
        end.answers(status, fields, ReplyKind::Final, body.is_none());
        if let Some(body) = body {
            end.sends(body, true);
        }
        let said = end.said();
        let (_, behind) = said.split_once("\\r\\n").expect("a status line");
        let same = behind.eq_ignore_ascii_case(expected);
        assert!(same, "{asked:?} {status} {fields:?}: {behind}");
        assert_eq!(
            (end.link.is_spent(), end.link.is_severed(), end.link.streams()),
            (spent, false, 0),
            "{asked:?}"
        );
    }
}

#[test]
fn an_answer_that_is_not_what_it_said_is_cut() {
    for (sent, end) in [("a", true), ("abc", false)] {
        let mut server = End::server();
        server.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        server.answers("200", &[("content-length", "2")], ReplyKind::Final, false);
        server.sends(sent, end);
        assert!(server.link.is_severed(), "{sent}");
        assert!(!server.said().ends_with("abc"), "no byte goes beyond its framing");
    }
    let mut server = End::server();
    server.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    server.answers("200", &[], ReplyKind::Final, false);
    server.link.reset(server.stream, Code::CANCEL, &mut Vec::new());
    assert!(server.link.is_severed() && server.link.is_spent() && server.link.streams() == 0);
    assert!(!server.said().ends_with("0\\r\\n\\r\\n"));
    server.sends("more", true);
    assert_eq!(server.said(), "", "nothing is said behind it");
}

#[test]
fn trailers_go_where_there_are_chunks() {
    let mut server = End::server();
    server.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    server.answers("200", &[], ReplyKind::Final, false);
    server.trailers(&[("grpc-status", "0"), ("content-length", "9"), ("authorization", "x")]);
    assert!(server.said().ends_with("0\\r\\ngrpc-status: 0\\r\\n\\r\\n"));
    let mut server = End::server();
    server.gives("GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    server.answers("200", &[("content-length", "2")], ReplyKind::Final, false);
    server.sends("ok", false);
    server.trailers(&[("grpc-status", "0")]);
    assert!(server.said().ends_with("ok") && !server.link.is_severed());
}

#[test]
fn interim_answers_are_for_those_who_understand_them() {
    let interim = |asked: &str, status: &str| {
        let mut end = End::server();
        end.gives(asked);
        end.answers(status, &[("a", "b")], ReplyKind::Interim, false);
        end.said()
    };
    let expects = "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(interim(expects, "100"), "HTTP/1.1 100 Continue\\r\\na: b\\r\\n\\r\\n");
    assert_eq!(interim("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "100"), "", "nobody asked for it");
    assert!(interim("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "103").starts_with("HTTP/1.1 103 "));
    assert_eq!(interim("GET /a HTTP/1.0\r\n\r\n", "103"), "");
}

#[test]
fn what_is_no_request_is_answered_and_the_last() {
    let cases = [
        ("GET /a HTTP/1.1\r\n\r\n", None),
        ("GET /a HTTP/2.7\r\nHost: h\r\n\r\n", Some(Fault::Version)),
        ("TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n", Some(Fault::Method)),
        ("GET /a HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", None),
        ("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", None),
    ];
    for (bytes, fault) in cases {
        let mut end = End::server();
        let seen = end.gives(&format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((seen.len(), seen[0].0.as_str()), (1, "fault"), "{bytes:?}");
        assert!(fault.is_none_or(|fault| seen[0].1 == fault.why()), "{seen:?}");
        end.link.disown(end.stream);
        end.answers("400", &[("content-length", "0")], ReplyKind::Final, true);
        assert!(end.said().contains("connection: close") && end.link.is_spent(), "{bytes:?}");
    }
    let mut end = End::server();
    end.gives("HEAD /a HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n");
    end.answers("400", &[("content-length", "5")], ReplyKind::Final, false);
    end.sends("wrong", true);
    assert!(
        end.said().ends_with("\\r\\n\\r\\n"),
        "an answer to HEAD has no body, whatever was wrong with it"
    );
}

#[test]
fn a_body_that_cannot_be_read_never_ends() {
    let bad = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n+5\r\n";
    let mut end = End::server();
    let seen = end.gives(bad);
    assert_eq!(seen.last().map(|told| told.0.as_str()), Some("reset true"));
    assert!(end.said().starts_with("HTTP/1.1 400 ") && !end.link.is_severed() && end.link.is_spent());
    let mut end = End::server();
    end.gives(&bad[..bad.len() - 4]);
    end.answers("200", &[], ReplyKind::Final, false);
    assert_eq!(end.gives("+5\r\n").last().map(|told| told.0.as_str()), Some("reset true"));
    assert!(end.link.is_severed(), "an answer that has begun is cut");
}

#[test]
fn requests_are_framed_by_what_is_known_of_them() {
    let cases: [Forwarded<'_>; 7] = [
        ("GET", &[("a", "b")], None, "a: b\\r\\n\\r\\n"),
        ("POST", &[], None, "Content-Length: 0\\r\\n\\r\\n"),
        ("DELETE", &[], None, "\\r\\n"),
        ("POST", &[("content-length", "2")], Some("ok"), "Content-Length: 2\\r\\n\\r\\nok"),
        ("POST", &[], Some("ok"), "Transfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nok\\r\\n0\\r\\n\\r\\n"),
        ("GET", &[("te", "trailers"), ("host", "x")], None, "\\r\\n"),
        (
            "GET",
            &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")],
            None,
            "x: y\\r\\ncookie: a=b; c=d\\r\\n\\r\\n",
        ),
    ];
    for (method, fields, body, expected) in cases {
        let mut end = End::asking(method, fields, body.is_none());
        if let Some(body) = body {
            end.sends(body, true);
        }
        let said = end.said();
        let behind = said.strip_prefix(&format!("{method} /a?b HTTP/1.1\\r\\nhost: h\\r\\n"));
        assert!(behind.is_some_and(|behind| behind.eq_ignore_ascii_case(expected)), "{said}");
    }
    let mut end = End::client();
    let stream = end.link.open(Tag(7));
    let head = message(&[(Slot::Verb, "POST"), (Slot::Method, "Add"), (Slot::Target, "/s/Add")], &[]);
    end.link.request(stream, head.head(), true, "endpoint:1", &mut end.out);
    assert!(
        end.said().starts_with("POST /s/Add HTTP/1.1\\r\\nhost: endpoint:1\\r\\n"),
        "a dialect's method is no verb"
    );
}

#[test]
fn answers_of_endpoints_are_what_they_were() {
    let cases: [Heard<'_>; 9] = [
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            &[("Final", "content-length=2"), ("data end", "ok")],
            false,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &[("Final end", "content-length=0")], false),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            &[("Final", ""), ("data", "ok"), ("trailers", "x=y")],
            false,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", &[("Final end", "Content-Length=2")], false),
        ("GET", "HTTP/1.1 204 No\r\n\r\n", &[("Final end", "")], false),
        ("GET", "HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\n", &[("Final end", "Content-Length=2")], false),
        (
            "GET",
            "HTTP/1.1 103 Soon\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            &[("Interim", "a=b"), ("Final end", "")],
            false,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            &[("Final end", "content-length=0")],
            true,
        ),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", &[("Final end", "content-length=0")], true),
    ];
    for (method, bytes, expected, spent) in cases {
        let lower = |all: Vec<Told>| -> Vec<Told> {
            all.into_iter().map(|(what, of)| (what, of.to_ascii_lowercase())).collect()
        };
        let mut end = End::asking(method, &[], true);
        assert_eq!(lower(end.gives(bytes)), lower(told(expected)), "{bytes:?}");
        assert_eq!((end.link.streams(), end.link.is_spent()), (0, spent), "{bytes:?}");
        assert_eq!(end.link.room(), usize::from(!spent), "{bytes:?}");
        for cut in 1..bytes.len() {
            let mut end = End::asking(method, &[], true);
            assert_eq!(
                lower(end.gives_in(bytes.as_bytes(), &[cut])),
                lower(told(expected)),
                "{bytes:?} at {cut}"
            );
        }
    }
}

#[test]
fn an_answer_may_end_with_its_connection() {
    let mut end = End::asking("GET", &[], true);
    assert_eq!(end.gives("HTTP/1.1 200 OK\r\n\r\nhel"), told(&[("Final", ""), ("data", "hel")]));
    assert_eq!(end.gives("lo"), told(&[("data", "lo")]));
    assert_eq!((end.link.ended(), end.link.is_spent()), (Some(Tag(7)), true));
    let mut end = End::asking("GET", &[], true);
    end.gives("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel");
    assert_eq!(end.link.ended(), None, "and may be cut by it");
    let mut end = End::asking("GET", &[], true);
    assert_eq!(end.link.ended(), None);
}

#[test]
fn an_answer_before_the_request_was_said_is_the_last_on_its_connection() {
    let mut end = End::asking("POST", &[], false);
    end.sends("a part", false);
    assert_eq!(end.gives("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").len(), 1);
    assert!(end.link.streams() == 1 && end.link.room() == 0);
    end.sends("", true);
    assert_eq!((end.link.streams(), end.link.is_spent(), end.link.room()), (0, true, 0));
}

#[test]
fn what_no_request_asked_for_breaks_the_connection() {
    let mut end = End::client();
    assert_eq!(end.gives("HTTP/1.1 200 OK\r\n\r\n")[0].0, "broken");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut end = End::asking("GET", &[], true);
    let seen = end.gives(&format!("{answer}{answer}"));
    assert_eq!((seen.len(), seen[1].0.as_str()), (2, "broken"));
    let wrong = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 101 Up\r\n\r\n",
        "nonsense\r\n\r\n",
    ];
    for wrong in wrong {
        let mut end = End::asking("GET", &[], true);
        assert_eq!(end.gives(wrong)[0].0, "broken", "{wrong:?}");
        assert!(end.link.is_spent() || end.link.room() == 0);
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(which in 0..ASKED.len(), cuts in vec(1usize..30, 0..40), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
        let mut bytes = ASKED[which].0.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (mut whole, mut cut) = (End::server(), End::server());
        prop_assert_eq!(whole.gives_in(&bytes, &[]), cut.gives_in(&bytes, &cuts));
        prop_assert_eq!(whole.said(), cut.said());
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300), cuts in vec(1usize..30, 0..40), body: bool) {
        let mut end = End::server();
        if body {
            end.gives("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        end.gives_in(&bytes, &cuts);
        let mut end = End::asking("GET", &[], true);
        if body {
            end.gives("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        end.gives_in(&bytes, &cuts);
    }
}
