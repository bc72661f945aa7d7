//! The talk with one server: cases are sent, answers read, and what the server says is held against the reference.
//!
//! Behind each case a sentinel is sent on a connection of its own: what the server saw up to the sentinel belongs to the
//! case, so a request too many is seen as well as one that is missing. Nothing here may forgive a difference that the
//! server's dialect does not name.

use std::io::Read as _;
use std::time::Duration;

use super::cases::Case;
use super::reading::{Reading, latin1};
use super::servers::{Effect, Kind, Server};
use super::support::http1::Client;
use super::support::within;

/// What became of the cases on one server.
#[derive(Default)]
pub(crate) struct Verdict {
    /// Requests understood as they were meant.
    pub(crate) alike: usize,
    pub(crate) disagreements: Vec<String>,
    /// Why the server refused a legal request, for each of them.
    pub(crate) refused: Vec<&'static str>,
}

/// What came back for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Served,
    /// By the server, with this status.
    Refused(u16),
    /// By the sidecar.
    Sidecar(String),
    /// Nothing: it stood behind a request after which the connection was closed.
    Behind,
    /// No whole answer.
    Broken(String),
}

/// Sends the bytes and reads as many answers as there are requests; then what comes beside them, if anything.
pub(crate) fn converse(port: u16, bytes: &[u8], due: &[Reading]) -> (Vec<Answered>, Vec<u8>) {
    let mut client = Client::connect(port);
    let mut answers = Vec::new();
    if let Err(error) = client.link.try_send(bytes) {
        answers.push(Answered::Broken(format!("the request was not read: {error}")));
    }
    while answers.len() < due.len() {
        let (answered, ended) = match client.answer_to(&due[answers.len()].method) {
            Err(error) => (Answered::Broken(error.to_string()), true),
            Ok(answer) => {
                let closes = answer.head.closes();
                match (answer.head.get("x-outrigger-error"), answer.status()) {
                    (Some(_), status) => (Answered::Sidecar(format!("{status} {}", answer.text())), closes),
                    (None, 200) => (Answered::Served, false),
                    (None, status) => (Answered::Refused(status), closes),
                }
            }
        };
        answers.push(answered);
        if ended {
            answers.resize(due.len(), Answered::Behind);
        }
    }
    let mut rest = Vec::new();
    client.link.fin();
    // A connection that broke off was reported already.
    let _ = client.link.reader().read_to_end(&mut rest);
    (answers, rest)
}

/// Sends the sentinel of this number; what the server understood before it.
pub(crate) fn sentinel(server: &Server, port: u16, number: usize) -> Vec<Reading> {
    let target = format!("/sentinel/{number}");
    let answer = Client::connect(port).get(&target);
    assert_eq!(answer.status(), 200, "{} does not serve {target}: {answer:?}", server.kind.name);
    server.records_until(&target)
}

/// All cases through the sidecar's listener for this server.
pub(crate) fn understood(server: &Server, port: u16, cases: &[Case]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sent = 0;
    for (number, case) in cases.iter().enumerate() {
        let due = Reading::all(&case.bytes).unwrap_or_else(|why| panic!("{}: {why:?}", case.name));
        let (answers, rest) = converse(port, &case.bytes, &due);
        let seen = sentinel(server, port, number);
        sent += 1 + answers.iter().filter(|answered| **answered != Answered::Behind).count();
        if !rest.is_empty() {
            verdict.disagreements.push(format!(
                "{}: more answers than requests: {}",
                case.name,
                latin1(&rest)
            ));
        }
        judge(server, case, &due, &answers, seen, &mut verdict);
    }
    // What nginx and HAProxy counted themselves, when their last lines are written.
    let mut lines = Vec::new();
    let counts = || {
        server.logged().is_none_or(|logged| {
            lines = logged;
            lines.len() >= sent
        })
    };
    if !within(Duration::from_secs(5), counts) || !lines.is_empty() && lines.len() != sent {
        verdict.disagreements.push(format!("{} requests in its log, {sent} were sent", lines.len()));
    }
    verdict
}

fn judge(
    server: &Server,
    case: &Case,
    due: &[Reading],
    answers: &[Answered],
    seen: Vec<Reading>,
    verdict: &mut Verdict,
) {
    let mut seen = seen.into_iter();
    let mut behind_a_refusal = false;
    for (sent, answered) in due.iter().zip(answers) {
        let due = sent.through(&server.address());
        let is = |effect: fn(&Effect) -> bool| {
            server.kind.dialects.iter().find(|own| effect(&own.effect) && (own.about)(&due))
        };
        let problem = match answered {
            Answered::Served if is(|effect| matches!(effect, Effect::Hides)).is_some() => continue,
            Answered::Served => match seen.next() {
                Some(seen) => difference(server.kind, due, seen),
                None => Some("answered, but not understood at all".to_owned()),
            },
            Answered::Refused(status) => {
                behind_a_refusal = true;
                match is(|effect| matches!(effect, Effect::Refuses)) {
                    Some(dialect) => {
                        verdict.refused.push(dialect.why);
                        continue;
                    }
                    None => Some(format!("refused with {status}")),
                }
            }
            Answered::Behind if behind_a_refusal => continue,
            other => Some(format!("{other:?}")),
        };
        match problem {
            None => verdict.alike += 1,
            Some(problem) => {
                let shown: String = format!("{sent:?}").chars().take(600).collect();
                verdict.disagreements.push(format!("{}: {problem}\n    sent: {shown}", case.name));
            }
        }
    }
    verdict.disagreements.extend(seen.map(|more| format!("{}: a request too many: {more:?}", case.name)));
}

/// What is different between what should and what did arrive, as far as this server tells.
fn difference(kind: &Kind, mut due: Reading, seen: Reading) -> Option<String> {
    for dialect in kind.dialects {
        if let Effect::Shows(as_it_does) = dialect.effect
            && (dialect.about)(&due)
        {
            as_it_does(&mut due);
        }
    }
    let (due, seen) = (as_told(kind, due), as_told(kind, seen));
    let fields = [
        ("method", due.method == seen.method, &due.method, &seen.method),
        ("target", due.target == seen.target, &due.target, &seen.target),
        ("body", due.body == seen.body, &due.body, &seen.body),
    ];
    if let Some((what, _, due, seen)) = fields.into_iter().find(|(_, same, ..)| !same) {
        return Some(format!("{what}: {due:?} was meant, {seen:?} understood"));
    }
    for (what, due, seen) in
        [("headers", &due.headers, &seen.headers), ("trailers", &due.trailers, &seen.trailers)]
    {
        if due != seen {
            let missing: Vec<_> = due.iter().filter(|field| !seen.contains(field)).collect();
            let more: Vec<_> = seen.iter().filter(|field| !due.contains(field)).collect();
            return Some(format!("{what}: not there {missing:?}, there instead {more:?} (else the order)"));
        }
    }
    None
}

/// Without what this server does not tell.
fn as_told(kind: &Kind, reading: Reading) -> Reading {
    let mut told = reading.unframed();
    if !kind.trailers {
        told.trailers.clear();
    }
    for fields in [&mut told.headers, &mut told.trailers] {
        if !kind.cased {
            for (name, _) in fields.iter_mut() {
                name.make_ascii_lowercase();
            }
        }
        if !kind.ordered {
            fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        }
    }
    told
}

/// Each payload is refused with one answer and the end of the connection, and nothing of it becomes a request.
pub(crate) fn smuggled(server: &Server, port: u16, payloads: &[Case]) -> Vec<String> {
    let mut failures = Vec::new();
    for (number, case) in payloads.iter().enumerate() {
        let mut client = Client::connect(port);
        client.send(&case.bytes);
        let mut answer = Vec::new();
        // Read to the end: a connection that stays open fails here, by the limit of its reads.
        let ended = client.link.reader().read_to_end(&mut answer);
        let answer = latin1(&answer).to_ascii_lowercase();
        let refused =
            ["http/1.1 4", "http/1.1 501", "http/1.1 505"].iter().any(|start| answer.starts_with(start));
        let once = answer.matches("http/1.1 ").count() == 1;
        let named = ["x-outrigger-error: malformed", "x-outrigger-error: forbidden"];
        if ended.is_err() || !refused || !once || !named.iter().any(|name| answer.contains(name)) {
            failures.push(format!("{}: {ended:?}, {answer:?}", case.name));
        }
        let seen = sentinel(server, port, number);
        failures.extend(seen.into_iter().map(|seen| format!("{}: understood {seen:?}", case.name)));
    }
    // Nothing arrives late either.
    let late = sentinel(server, port, payloads.len());
    failures.extend(late.into_iter().map(|seen| format!("late: {seen:?}")));
    // nginx and HAProxy served nothing else either, by their own account.
    let logged = server.logged().unwrap_or_default();
    let served =
        logged.iter().filter(|line| line.starts_with("request 200 ") && !line.contains("/sentinel/"));
    failures.extend(served.map(|line| format!("in the log: {line}")));
    failures
}

/// Without a sidecar, Go takes a bare LF for the end of a line: that it sees both requests must be seen.
#[test]
fn what_is_smuggled_is_seen() {
    let kind = super::KINDS.iter().find(|kind| kind.name == "go").expect("it is one of them");
    let server = Server::spawn(kind);
    server.ready();
    let bytes = b"GET /payload HTTP/1.1\nHost: a.example\n\n\
        GET /smuggled HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let failures = smuggled(&server, server.port, &[Case { name: "bare".to_owned(), bytes: bytes.to_vec() }]);
    let understood = failures.iter().filter(|failure| failure.contains("understood"));
    assert_eq!((failures.len(), understood.count()), (3, 2), "{failures:?}");
}

/// The comparison sees each kind of difference, lest all of this be blind.
#[test]
fn a_difference_is_seen() {
    let kind = super::KINDS.iter().find(|kind| kind.name == "h11").expect("it is one of them");
    let bytes = b"POST /a HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-B: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
        1\r\nz\r\n0\r\nX-T: 1\r\n\r\n";
    let meant = Reading::all(bytes).expect("a request").remove(0).through("x");
    assert_eq!(difference(kind, meant.clone(), meant.clone()), None);
    let changes: [fn(&mut Reading); 7] = [
        |seen| seen.method.push('X'),
        |seen| seen.target.push('/'),
        |seen| seen.body.push('\0'),
        |seen| seen.headers[0].1.push('2'),
        |seen| seen.headers.swap(1, 2),
        |seen| seen.headers[1].0.make_ascii_lowercase(),
        |seen| seen.trailers.clear(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut seen = meant.clone();
        change(&mut seen);
        assert!(difference(kind, meant.clone(), seen).is_some(), "change {number}");
    }
}
