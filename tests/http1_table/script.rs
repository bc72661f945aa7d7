//! The language of the cases: text files that read as the conversation they stand for.
//!
//! ```text
//! === a body of told length passes        a case begins; what follows is in the order of events
//! > POST /a HTTP/1.1                      the client sends
//! > Host: a
//! > Content-Length: 3
//! >
//! > abc\
//! >> POST /a HTTP/1.1                     exactly this reaches the upstream
//! >> Host: a
//! >> Content-Length: 3
//! >>
//! >> abc\
//! << HTTP/1.1 200 OK                      the upstream answers
//! << Content-Length: 2
//! <<
//! << ok\
//! < HTTP/1.1 200 OK                       exactly this reaches the client
//! < Content-Length: 2
//! <
//! < ok\
//! ```
//!
//! Each line ends with CRLF unless a `\` ends it. Within a line: `\r \n \t \0 \\ \xHH`, `\{a*300}` for many, and where
//! something is expected `\{*}` for whatever stands there (one byte or more) and `\{up}` for the upstream's address.
//! Words that save writing:
//!
//! | | |
//! | --- | --- |
//! | `passes` | what the client sent reaches the upstream as it was |
//! | `returns` | what the upstream answered reaches the client as it was |
//! | `answered` | a stock answer of the upstream reaches the client |
//! | `refused 400 malformed` | an answer of ours, by status and `x-outrigger-error`, that says `Connection: close`, then the end |
//! | `refused 404 no_route open` | the same, and the connection goes on |
//! | … `bodiless` | the same without its body, as for HEAD |
//! | `>>? …` | at most a beginning of this reaches the upstream, and that connection is then ended |
//! | `<? …` | a beginning of this reaches the client and then an end that is no clean one; or a 502 of ours instead |
//! | `<~ …` | a chunked body that holds this, however it is cut |
//! | `closes`, `aborts`, `resets` | the client sees the end: a clean one, any one, a reset |
//! | `client ends`, `client resets` | the client sends no more; the client is gone |
//! | `upstream closes`, `upstream resets` | what the upstream does to its connection |
//! | `upstream closed` | what is done to it |
//! | `upstream fresh` | the next request comes by another connection |
//! | `once` | of no use in pieces: deadlines, limits that fill |
//!
//! What a case does not say is expected nevertheless: nothing else reaches either side; unless the client saw an end
//! its connection answers a further request; unless the upstream's connection was ended that request comes by it.
//!
//! Above the cases stand lines `% conf NAME`, then `% limits: …`, `% listener: …`, `% routes: …` and `% clusters: …`
//! of its conf, where `UP` is the cluster of the scripted upstream and `DEAD` an address that nobody listens at. Lines with `#` are for the reader.
//! It must never guess: a line that is none of these is an error with its place.

use std::path::Path;

/// One byte that is expected, or what stands for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Byte(u8),
    /// One byte or more, up to the byte that follows in the expectation.
    Whatever,
    /// The address of the upstream.
    Upstream,
}

/// A refusal as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) name: String,
    pub(crate) open: bool,
    pub(crate) bodiless: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Reaches(Vec<Token>),
    ReachesAtMost(Vec<Token>),
    Answer(Vec<u8>),
    Returns(Vec<Token>),
    ReturnsAtMost(Vec<Token>),
    ReturnsChunked(Vec<Token>),
    Refused(Refused),
    Closes,
    Aborts,
    Resets,
    ClientEnds,
    ClientResets,
    UpstreamCloses,
    UpstreamResets,
    UpstreamClosed,
    UpstreamFresh,
}

/// What one sidecar is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conf {
    pub(crate) name: String,
    pub(crate) limits: String,
    pub(crate) listener: Vec<String>,
    pub(crate) routes: String,
    pub(crate) clusters: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// File and line.
    pub(crate) place: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) once: bool,
}

impl Case {
    /// How many bytes the client sends.
    pub(crate) fn sent(&self) -> usize {
        self.steps.iter().map(|step| if let Step::Send(bytes) = step { bytes.len() } else { 0 }).sum()
    }

    /// How many bytes the upstream answers; none when it only gives stock answers, which need not be cut in every case.
    pub(crate) fn answered(&self) -> usize {
        let answers = self
            .steps
            .iter()
            .filter_map(|step| if let Step::Answer(bytes) = step { Some(bytes) } else { None });
        if answers.clone().all(|bytes| bytes == STOCK.as_bytes()) { 0 } else { answers.map(Vec::len).sum() }
    }
}

/// A conf and the cases that run under it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) conf: Conf,
    pub(crate) cases: Vec<Case>,
}

/// The answer of `answered`.
const STOCK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads every file of the folder, in the order of their names.
pub(crate) fn folder(path: &Path) -> Vec<Group> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    files.sort();
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for group in parse(&name, &text).unwrap_or_else(|e| panic!("{e}")) {
            // A conf without lines of its own goes by its name.
            match groups.iter_mut().find(|other| other.conf.name == group.conf.name) {
                Some(other) => other.cases.extend(group.cases),
                None => groups.push(group),
            }
        }
    }
    groups
}

/// Reads one file's text.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Group>, String> {
    let mut groups: Vec<Group> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        let at = |error: &str| format!("{place}: {error}: {line}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(setting) = line.strip_prefix("% ") {
            set(&mut groups, setting).ok_or_else(|| at("no such line of a conf"))?;
            continue;
        }
        let group = groups.last_mut().ok_or_else(|| at("no conf stands above"))?;
        if let Some(name) = line.strip_prefix("=== ") {
            group.cases.push(Case {
                name: name.to_owned(),
                place: place.clone(),
                steps: Vec::new(),
                once: false,
            });
            continue;
        }
        let case = group.cases.last_mut().ok_or_else(|| at("no case stands above"))?;
        if line == "once" {
            case.once = true;
        } else {
            step(case, line).map_err(at)?;
        }
    }
    Ok(groups)
}

/// One line of a conf.
fn set(groups: &mut Vec<Group>, setting: &str) -> Option<()> {
    if let Some(name) = setting.strip_prefix("conf ") {
        groups.push(Group { conf: Conf { name: name.to_owned(), ..Conf::default() }, cases: Vec::new() });
        return Some(());
    }
    let conf = &mut groups.last_mut()?.conf;
    let (key, value) = setting.split_once(": ")?;
    match key {
        "limits" => value.clone_into(&mut conf.limits),
        "routes" => value.clone_into(&mut conf.routes),
        "listener" => conf.listener.push(value.to_owned()),
        "clusters" => conf.clusters.push(value.to_owned()),
        _ => return None,
    }
    Some(())
}

/// One line of a case: continues its last step, or is one more.
fn step(case: &mut Case, line: &str) -> Result<(), &'static str> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let steps = &mut case.steps;
    match word {
        ">" => match steps.last_mut() {
            Some(Step::Send(bytes)) => bytes.extend(plain(rest)?),
            _ => steps.push(Step::Send(plain(rest)?)),
        },
        "<<" => match steps.last_mut() {
            Some(Step::Answer(bytes)) => bytes.extend(plain(rest)?),
            _ => steps.push(Step::Answer(plain(rest)?)),
        },
        ">>" => expect(steps, rest, Step::Reaches, |step| match step {
            Step::Reaches(tokens) => Some(tokens),
            _ => None,
        })?,
        ">>?" => expect(steps, rest, Step::ReachesAtMost, |step| match step {
            Step::ReachesAtMost(tokens) => Some(tokens),
            _ => None,
        })?,
        "<" => expect(steps, rest, Step::Returns, |step| match step {
            Step::Returns(tokens) => Some(tokens),
            _ => None,
        })?,
        "<?" => expect(steps, rest, Step::ReturnsAtMost, |step| match step {
            Step::ReturnsAtMost(tokens) => Some(tokens),
            _ => None,
        })?,
        "<~" => expect(steps, rest, Step::ReturnsChunked, |step| match step {
            Step::ReturnsChunked(tokens) => Some(tokens),
            _ => None,
        })?,
        "refused" => steps.push(Step::Refused(refused(rest)?)),
        _ => words(steps, line)?,
    }
    Ok(())
}

/// A line that is expected continues the step above it, if that is of its kind.
fn expect(
    steps: &mut Vec<Step>,
    rest: &str,
    new: fn(Vec<Token>) -> Step,
    same: fn(&mut Step) -> Option<&mut Vec<Token>>,
) -> Result<(), &'static str> {
    let more = tokens(rest)?;
    match steps.last_mut().and_then(same) {
        Some(tokens) => tokens.extend(more),
        None => steps.push(new(more)),
    }
    Ok(())
}

/// A line without bytes of its own.
fn words(steps: &mut Vec<Step>, line: &str) -> Result<(), &'static str> {
    match line {
        "passes" => {
            let sent = steps.iter().rev().find_map(|step| match step {
                Step::Send(bytes) => Some(exactly(bytes)),
                _ => None,
            });
            steps.push(Step::Reaches(sent.ok_or("nothing was sent")?));
        }
        "returns" => {
            let answer = steps.iter().rev().find_map(|step| match step {
                Step::Answer(bytes) => Some(exactly(bytes)),
                _ => None,
            });
            steps.push(Step::Returns(answer.ok_or("nothing was answered")?));
        }
        "answered" => {
            steps.push(Step::Answer(STOCK.into()));
            steps.push(Step::Returns(exactly(STOCK.as_bytes())));
        }
        "closes" => steps.push(Step::Closes),
        "aborts" => steps.push(Step::Aborts),
        "resets" => steps.push(Step::Resets),
        "client ends" => steps.push(Step::ClientEnds),
        "client resets" => steps.push(Step::ClientResets),
        "upstream closes" => steps.push(Step::UpstreamCloses),
        "upstream resets" => steps.push(Step::UpstreamResets),
        "upstream closed" => steps.push(Step::UpstreamClosed),
        "upstream fresh" => steps.push(Step::UpstreamFresh),
        _ => return Err("no such step"),
    }
    Ok(())
}

fn refused(rest: &str) -> Result<Refused, &'static str> {
    let mut words = rest.split(' ');
    let status = words.next().and_then(|word| word.parse().ok()).ok_or("a status is missing")?;
    let name = words.next().ok_or("a name is missing")?.to_owned();
    let mut refused = Refused { status, name, open: false, bodiless: false };
    for word in words {
        match word {
            "open" => refused.open = true,
            "bodiless" => refused.bodiless = true,
            _ => return Err("no such manner of a refusal"),
        }
    }
    Ok(refused)
}

/// Bytes that are expected as they are.
pub(crate) fn exactly(bytes: &[u8]) -> Vec<Token> {
    bytes.iter().copied().map(Token::Byte).collect()
}

/// The bytes of a line that is sent.
fn plain(line: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = tokens(line)?.into_iter().map(|token| match token {
        Token::Byte(byte) => Ok(byte),
        Token::Whatever | Token::Upstream => Err("only what is expected may be left open"),
    });
    bytes.collect()
}

/// The bytes of a line and its end.
fn tokens(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('\\') {
        tokens.extend(exactly(before.as_bytes()));
        let Some(sign) = behind.chars().next() else { return Ok(tokens) };
        rest = &behind[sign.len_utf8()..];
        let byte = match sign {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits = rest.get(..2).ok_or("two digits are missing")?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|_| "these are no digits")?
            }
            '{' => {
                let (inner, behind) = rest.split_once('}').ok_or("a brace is missing")?;
                rest = behind;
                match inner {
                    "*" => tokens.push(Token::Whatever),
                    "up" => tokens.push(Token::Upstream),
                    _ => {
                        let (what, count) = inner.rsplit_once('*').ok_or("no such brace")?;
                        let count = count.parse().map_err(|_| "this is no count")?;
                        tokens.extend(exactly(what.replace("\\r\\n", "\r\n").repeat(count).as_bytes()));
                    }
                }
                continue;
            }
            _ => return Err("no such escape"),
        };
        tokens.push(Token::Byte(byte));
    }
    tokens.extend(exactly(rest.as_bytes()));
    tokens.extend(exactly(b"\r\n"));
    Ok(tokens)
}
