//! YAML text (JSON is YAML too) to a tree in which every node knows its place.
//!
//! Reads one document of the YAML 1.2 core schema from the event parser. Everything is bounded: the file's size, the
//! depth, the nodes and the text after aliases and `${ENV}` are expanded. It must never panic and never guess:
//! duplicate keys, unknown tags, merge keys, several documents and control characters are refused with their place.
//! Variables expand inside scalar values only, never in keys, and the result is never read as YAML again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::report::{Problem, Span, quote};

/// Longest file read.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting, aliases included.
pub const DEPTH_MAX: usize = 64;
/// Most nodes, aliases included.
pub const NODES_MAX: usize = 4_000_000;
/// Most text in scalars, after aliases and variables are expanded.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// Most mistakes collected by the reader itself.
const PROBLEMS_MAX: usize = 1_000;

/// Most variables reported in one scalar: finding the place of each takes a walk through it.
const FAULTS_MAX: usize = 16;

/// Where `${NAME}` is looked up.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// One value (or key) and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The scalar; the first key of a block map; the first mark of any other collection.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing written, `~` or `null`.
    Null,
    /// Text; its type is settled by whoever wants it.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A map; keys are always scalars, each once, in the file's order.
    Map(Vec<(Node, Node)>),
    /// A value with a mistake that was reported already.
    Broken,
}

/// A scalar's text as written, escapes and variables resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text.
    pub text: Box<str>,
    /// Written without quotes, so that it may be a number or a truth value.
    pub plain: bool,
    /// Some of it came from the environment: not to be repeated in messages.
    pub expanded: bool,
}

/// The result of reading: a tree as complete as the mistakes allow, and the mistakes.
#[derive(Debug)]
pub struct Tree {
    /// The document; `Kind::Broken` when none could be read.
    pub root: Node,
    /// What was wrong with it.
    pub problems: Vec<Problem>,
    /// The text that spans point into.
    pub source: String,
}

impl Node {
    /// The value under `key`, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<(&Node, &Node)> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(k, v)| (k, v))
    }

    /// The scalar's text.
    pub fn text(&self) -> Option<&str> {
        if let Kind::Scalar(scalar) = &self.kind { Some(&scalar.text) } else { None }
    }
}

/// Reads a whole file. Mistakes that leave a tree behind (duplicates, variables) are collected; the first that does
/// not (syntax, bounds) ends the reading.
pub fn read(bytes: &[u8], lookup: &Lookup<'_>) -> Tree {
    let broken = |problem, source| Tree {
        root: Node { span: Span::default(), kind: Kind::Broken },
        problems: vec![problem],
        source,
    };
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", bytes.len());
        return broken(Problem::new(Span::default(), message), String::new());
    }
    let source = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(error) => {
            let problem = Problem::new(place(bytes, error.valid_up_to()), "the file is not UTF-8 here");
            return broken(problem, String::from_utf8_lossy(bytes).into_owned());
        }
    };
    if let Some((at, c)) = source.char_indices().find(|&(_, c)| unprintable(c)) {
        let message = format!("control character U+{:04X} is not allowed", u32::from(c));
        return broken(Problem::new(place(source.as_bytes(), at), message), source);
    }
    let mut builder = Builder::new(&source, lookup);
    match builder.document() {
        Ok(root) => {
            let problems = builder.problems;
            Tree { root, problems, source }
        }
        Err(problem) => {
            let mut problems = builder.problems;
            problems.push(problem);
            Tree { root: Node { span: Span::default(), kind: Kind::Broken }, problems, source }
        }
    }
}

/// Why a whole reading ends.
type Fatal<T> = Result<T, Problem>;

struct Builder<'s, 'l> {
    text: &'s str,
    parser: Parser<'s, StrInput<'s>>,
    /// Where markers were last turned from characters into bytes; they hardly ever go back, so this costs one pass.
    cursor: Cursor,
    lookup: &'l Lookup<'l>,
    anchors: HashMap<usize, Anchor>,
    /// `nodes <= NODES_MAX`
    nodes: usize,
    /// `text_bytes <= TEXT_BYTES_MAX`
    text_bytes: usize,
    problems: Vec<Problem>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    chars: usize,
    bytes: usize,
}

struct Anchor {
    node: Node,
    size: Size,
}

/// What copying a node costs.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) text_bytes: usize,
    height: usize,
}

impl<'s, 'l> Builder<'s, 'l> {
    fn new(text: &'s str, lookup: &'l Lookup<'l>) -> Self {
        Self {
            text,
            parser: Parser::new_from_str(text),
            cursor: Cursor::default(),
            lookup,
            anchors: HashMap::new(),
            nodes: 0,
            text_bytes: 0,
            problems: Vec::new(),
        }
    }

    fn document(&mut self) -> Fatal<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::new(span, "a second document begins here; a conf file holds one"));
                }
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        let start = Span { start: 0, end: 0, line: 1, column: 1 };
        Ok(root.unwrap_or(Node { span: start, kind: Kind::Null }))
    }

    fn next(&mut self) -> Fatal<(Event<'s>, Span)> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok((event, span))) => {
                let (start, mut end) = (self.offset(span.start), self.offset(span.end));
                if let Event::Scalar(..) = event {
                    end = quoted_end(self.text, start, end).unwrap_or(end);
                }
                let (line, column) = (span.start.line() as u32, span.start.col() as u32 + 1);
                Ok((event, Span { start, end: end.max(start), line, column }))
            }
            Some(Err(error)) => {
                let mark = *error.marker();
                let start = self.offset(mark);
                let span =
                    Span { start, end: start, line: mark.line() as u32, column: mark.col() as u32 + 1 };
                let problem = Problem::new(span, format!("not valid YAML: {}", error.info()));
                let line = self.text.get(start as usize..).and_then(|_| line_at(self.text, start as usize));
                Err(if line.is_some_and(|line| line.contains("${")) {
                    problem.with_help("inside { } and [ ], write \"${NAME}\" with quotes")
                } else {
                    problem
                })
            }
        }
    }

    /// The byte offset of a marker, which counts characters.
    fn offset(&mut self, mark: Marker) -> u32 {
        let Cursor { mut chars, mut bytes } = self.cursor;
        let (before, after) = self.text.split_at(bytes);
        if mark.index() >= chars {
            for c in after.chars().take(mark.index() - chars) {
                (chars, bytes) = (chars + 1, bytes + c.len_utf8());
            }
        } else {
            for c in before.chars().rev().take(chars - mark.index()) {
                (chars, bytes) = (chars - 1, bytes - c.len_utf8());
            }
        }
        self.cursor = Cursor { chars, bytes };
        bytes as u32
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Fatal<Node> {
        self.charge(span, Size { nodes: 1, text_bytes: 0, height: depth + 1 })?;
        let (node, anchor) = match event {
            Event::Alias(id) => return self.alias(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let string = self.string_tag(tag.as_deref(), span);
                let plain = style == ScalarStyle::Plain && !string;
                (self.scalar(&text, plain, span)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", span);
                (self.seq(span, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", span);
                (self.map(span, depth)?, anchor)
            }
            _ => return Err(Problem::new(span, "not valid YAML: a value is missing")),
        };
        if anchor > 0 {
            let size = measure(&node);
            self.charge(span, Size { height: 0, ..size })?;
            self.anchors.insert(anchor, Anchor { node: node.clone(), size });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Fatal<Node> {
        let Some(Anchor { size, .. }) = self.anchors.get(&id) else {
            return Err(Problem::new(span, "this alias stands inside the value that it names"));
        };
        let size = Size { height: depth + size.height, ..*size };
        self.charge(span, size)?;
        // Charged before it is copied: this is what keeps nested aliases from growing without end.
        Ok(self.anchors[&id].node.clone())
    }

    fn charge(&mut self, span: Span, size: Size) -> Fatal<()> {
        self.nodes = self.nodes.saturating_add(size.nodes);
        self.text_bytes = self.text_bytes.saturating_add(size.text_bytes);
        let what = if size.height > DEPTH_MAX {
            format!("nested deeper than {DEPTH_MAX} levels")
        } else if self.nodes > NODES_MAX {
            format!("more than {NODES_MAX} values, aliases included")
        } else if self.text_bytes > TEXT_BYTES_MAX {
            format!("more than {TEXT_BYTES_MAX} bytes of text, aliases and variables included")
        } else {
            return Ok(());
        };
        Err(Problem::new(span, what))
    }

    fn seq(&mut self, span: Span, depth: usize) -> Fatal<Node> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Node { span, kind: Kind::Seq(items) });
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    fn map(&mut self, mut span: Span, depth: usize) -> Fatal<Node> {
        let mut entries = Vec::new();
        let mut seen: HashMap<Box<str>, Span> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node { span, kind: Kind::Map(entries) });
            }
            let key = self.key(event, at, depth)?;
            if entries.is_empty() && self.text.as_bytes().get(span.start as usize) != Some(&b'{') {
                span = at;
            }
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            let Some(text) = key.text() else { continue };
            match seen.entry(text.into()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(key.span);
                    entries.push((key, value));
                }
                Entry::Occupied(first) => {
                    let Span { line, column, .. } = *first.get();
                    let message = format!(
                        "duplicate key {}; the first is on line {line}, column {column}",
                        quote(text)
                    );
                    self.note(Problem::new(key.span, message));
                }
            }
        }
    }

    /// A key: always text, whatever it looks like, and never expanded. `Kind::Broken` is left out of its map.
    fn key(&mut self, event: Event<'s>, span: Span, depth: usize) -> Fatal<Node> {
        let broken = Node { span, kind: Kind::Broken };
        let (text, plain, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.string_tag(tag.as_deref(), span);
                (text.into_owned(), style == ScalarStyle::Plain, anchor)
            }
            event => {
                let node = self.node(event, span, depth + 1)?;
                let Kind::Scalar(scalar) = node.kind else {
                    self.note(Problem::new(span, "a key must be text, not a list, a map or nothing"));
                    return Ok(broken);
                };
                (scalar.text.into(), scalar.plain, 0)
            }
        };
        self.charge(span, Size { nodes: 1, text_bytes: text.len(), height: 0 })?;
        let scalar = Scalar { text: text.into(), plain, expanded: false };
        if plain && &*scalar.text == "<<" {
            self.note(
                Problem::new(span, "merge keys (`<<`) are not supported")
                    .with_help("an alias may stand for a whole value: `key: *name`"),
            );
            return Ok(broken);
        }
        if plain && scalar.text.is_empty() {
            self.note(Problem::new(span, "a key is missing before `:`"));
            return Ok(broken);
        }
        let node = Node { span, kind: Kind::Scalar(scalar) };
        if anchor > 0 {
            let size = measure(&node);
            self.anchors.insert(anchor, Anchor { node: node.clone(), size });
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, plain: bool, span: Span) -> Fatal<Node> {
        let (text, expanded) = match expand(text, self.lookup) {
            Ok(expansion) => expansion,
            Err(faults) => {
                for fault in faults {
                    let span = self.place_of_variable(span, fault.ordinal, fault.len);
                    let problem = Problem::new(span, fault.message);
                    self.note(Problem { help: fault.help, ..problem });
                }
                return Ok(Node { span, kind: Kind::Broken });
            }
        };
        self.charge(span, Size { nodes: 0, text_bytes: text.len(), height: 0 })?;
        let kind = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
            Kind::Null
        } else {
            Kind::Scalar(Scalar { text: text.into(), plain, expanded })
        };
        Ok(Node { span, kind })
    }

    /// The place of the `ordinal`-th `${` of a scalar in the source: escapes and folded lines may lie before it.
    fn place_of_variable(&self, span: Span, ordinal: usize, len: usize) -> Span {
        let slice = self.text.get(span.start as usize..span.end as usize).unwrap_or("");
        let Some((at, _)) = slice.match_indices("${").nth(ordinal) else { return span };
        let before = &slice[..at];
        let (mut line, mut column) = (span.line, span.column);
        if let Some(newline) = before.rfind('\n') {
            line += before.matches('\n').count() as u32;
            column = 1 + before[newline + 1..].chars().count() as u32;
        } else {
            column += before.chars().count() as u32;
        }
        let start = span.start + at as u32;
        Span { start, end: (start + len as u32).min(span.end), line, column }
    }

    /// `!!str` makes any scalar text; no other tag means anything here.
    fn string_tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let string =
            tag.is_yaml_core_schema() && tag.suffix == "str" || tag.handle.is_empty() && tag.suffix == "!";
        if !string {
            self.note(Problem::new(span, format!("the tag {} is not supported", quote(&tag.to_string()))));
        }
        string
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, known: &str, span: Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != known) {
            self.note(Problem::new(span, format!("the tag {} is not supported", quote(&tag.to_string()))));
        }
    }

    fn note(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

pub(super) fn measure(node: &Node) -> Size {
    let mut size = Size { nodes: 1, text_bytes: node.text().map_or(0, str::len), height: 1 };
    let mut add = |child: &Node| {
        let child = measure(child);
        size.nodes += child.nodes;
        size.text_bytes += child.text_bytes;
        size.height = size.height.max(child.height + 1);
    };
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(add),
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            add(key);
            add(value);
        }),
        Kind::Null | Kind::Scalar(_) | Kind::Broken => {}
    }
    size
}

fn extent(node: &Node) -> (u32, u32) {
    let own = (node.span.start, node.span.end);
    let wider = |(start, end): (u32, u32), node: &Node| {
        let inner = extent(node);
        (start.min(inner.0), end.max(inner.1))
    };
    match &node.kind {
        Kind::Seq(items) => items.iter().fold(own, wider),
        Kind::Map(entries) => entries.iter().fold(own, |all, (key, value)| wider(wider(all, key), value)),
        Kind::Null | Kind::Scalar(_) | Kind::Broken => own,
    }
}

/// A variable that could not be expanded.
#[derive(Debug)]
struct Fault {
    /// Which `${` of the scalar it is, from 0.
    ordinal: usize,
    /// Its bytes.
    len: usize,
    message: String,
    help: Option<String>,
}

/// `${NAME}`, `${NAME:-default}` and `$$`. A `$` before anything else is itself, as regular expressions need it.
fn expand(text: &str, lookup: &Lookup<'_>) -> Result<(String, bool), Vec<Fault>> {
    let (mut out, mut expanded, mut faults, mut ordinal) = (String::new(), false, Vec::new(), 0);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            // `$${` is no variable, but it is one more `${` in the source.
            ordinal += usize::from(behind.starts_with('{'));
            rest = behind;
            continue;
        }
        let Some(inner) = rest.strip_prefix('{') else {
            out.push('$');
            continue;
        };
        let end = inner.find('}');
        let body = &inner[..end.unwrap_or(inner.len())];
        match variable(body, end.is_some(), lookup) {
            Ok(value) if out.len() + value.len() > TEXT_BYTES_MAX => {
                let message = format!("more than {TEXT_BYTES_MAX} bytes of text, variables included");
                faults.push(Fault { ordinal, len: body.len() + 3, message, help: None });
                return Err(faults);
            }
            Ok(value) => out.push_str(&value),
            Err((message, help)) => faults.push(Fault { ordinal, len: body.len() + 3, message, help }),
        }
        if faults.len() >= FAULTS_MAX {
            return Err(faults);
        }
        expanded = true;
        ordinal += 1;
        rest = end.map_or("", |end| &inner[end + 1..]);
    }
    out.push_str(rest);
    if faults.is_empty() { Ok((out, expanded)) } else { Err(faults) }
}

fn variable(body: &str, closed: bool, lookup: &Lookup<'_>) -> Result<String, (String, Option<String>)> {
    let form = || Some("write ${NAME} or ${NAME:-default}; a plain dollar sign is $$".to_owned());
    if !closed {
        return Err(("`${` is not closed by `}`".to_owned(), form()));
    }
    let (name, default) = body.split_once(":-").map_or((body, None), |(name, default)| (name, Some(default)));
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named {
        return Err((format!("{} is no variable name", quote(name)), form()));
    }
    match (lookup(name).filter(|value| default.is_none() || !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) if default.contains("${") => {
            Err(("a default cannot hold another variable".to_owned(), form()))
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable {} is not set", quote(name)),
            Some(format!("set it, or write ${{{name}:-default}}")),
        )),
    }
}

/// Characters outside YAML's printable set; the parser would take NUL for the end of the file.
fn unprintable(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')
        || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{feff}')
}

/// The place of a byte, for what is found before the parser runs.
fn place(bytes: &[u8], at: usize) -> Span {
    let before = String::from_utf8_lossy(&bytes[..at]);
    let (lines, tail) =
        before.rsplit_once('\n').map_or((0, &*before), |(head, tail)| (head.matches('\n').count() + 1, tail));
    let (line, column) = (lines as u32 + 1, tail.chars().count() as u32 + 1);
    Span { start: at as u32, end: at as u32, line, column }
}

/// The end of a quoted scalar: the parser's own lies behind the blanks and the comment that follow.
fn quoted_end(text: &str, start: u32, end: u32) -> Option<u32> {
    let bytes = text.as_bytes().get(start as usize..end as usize)?;
    let (quote, mut at) = (*bytes.first()?, 1);
    while let Some(byte) = bytes.get(at) {
        at += match (quote, byte) {
            (b'\'', b'\'') if bytes.get(at + 1) == Some(&b'\'') => 2,
            (b'"', b'\\') => 2,
            (b'\'' | b'"', byte) if *byte == quote => return Some(start + at as u32 + 1),
            (b'\'' | b'"', _) => 1,
            _ => return None,
        };
    }
    None
}

fn line_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |i| i + 1);
    text.get(start..)?.lines().next()
}

// === places =================================================================================================

/// One step of a path into the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A map's key, or an enum's variant.
    Key(&'a str),
    /// A list's item.
    Index(usize),
}

/// The place of the value at `path`, or of the nearest one around it that was written.
pub fn locate(root: &Node, path: &[Step<'_>]) -> Span {
    path.iter().fold(At::root(root), |at, step| at.step(*step)).span()
}

/// A place that follows the structs down: cheap to copy, and still right where a value was left to its default.
#[derive(Clone, Copy, Debug)]
pub struct At<'n> {
    node: Option<&'n Node>,
    key: Span,
    span: Span,
}

impl<'n> At<'n> {
    /// The whole document.
    pub fn root(root: &'n Node) -> Self {
        Self { node: Some(root), key: root.span, span: root.span }
    }

    /// The value under a key.
    #[must_use]
    pub fn key(self, name: &str) -> Self {
        match self.node.and_then(|node| node.get(name)) {
            Some((key, value)) => Self { node: Some(value), key: key.span, span: value.span },
            None => Self { node: None, ..self },
        }
    }

    /// The value itself; `None`: it was not written.
    pub(super) const fn node(self) -> Option<&'n Node> {
        self.node
    }

    /// Whether a key was written here, whatever its value.
    pub fn has(self, name: &str) -> bool {
        self.node.is_some_and(|node| node.get(name).is_some())
    }

    /// From where to where the source holds the value and all that is in it; `None`: it was not written.
    pub(super) fn extent(self) -> Option<(u32, u32)> {
        self.node.map(extent)
    }

    /// An item of a list; a value that may be one or a list is its own first item.
    #[must_use]
    pub fn index(self, index: usize) -> Self {
        match self.node.map(|node| (&node.kind, node)) {
            Some((Kind::Seq(items), _)) => match items.get(index) {
                Some(item) => Self { node: Some(item), key: item.span, span: item.span },
                None => Self { node: None, ..self },
            },
            Some((Kind::Scalar(_), _)) if index == 0 => self,
            _ => Self { node: None, ..self },
        }
    }

    /// One step of either sort.
    #[must_use]
    pub fn step(self, step: Step<'_>) -> Self {
        match step {
            Step::Key(name) => self.key(name),
            Step::Index(index) => self.index(index),
        }
    }

    /// The value's place.
    pub fn span(self) -> Span {
        self.span
    }

    /// The place of the key that names the value (the value's own for list items).
    pub fn key_span(self) -> Span {
        self.key
    }

    /// A problem with the value.
    pub fn problem(self, message: impl Into<String>) -> Problem {
        Problem::new(self.span, message)
    }
}

// === scalars ========================================================================================================

/// A whole number, or that it was one.
pub(super) enum Int {
    Unsigned(u64),
    Signed(i64),
    TooLarge,
}

/// An integer of the core schema: decimal with a sign, `0x…` or `0o…`.
pub(super) fn integer(text: &str) -> Option<Int> {
    let radix = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        all.then(|| u64::from_str_radix(digits, radix).map_or(Int::TooLarge, Int::Unsigned))
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty() => {
            Some(text.parse().map_or(Int::TooLarge, Int::Signed))
        }
        Some(_) => None,
        None => radix(text.strip_prefix('+').unwrap_or(text), 10),
    }
}

/// A finite number; YAML's infinities and not-a-numbers have no meaning in a conf.
pub(super) fn float(text: &str) -> Option<f64> {
    let shape = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse().ok().filter(|value: &f64| shape && value.is_finite())
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}
