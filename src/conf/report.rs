//! Problems in a conf file and how they are shown: `file:line:column`, the line itself with a caret under the mistake,
//! and what would help.
//!
//! The layout is the one that compilers taught people to read. Rendering must never panic, whatever the text holds
//! (tabs, wide or control characters, lines of a megabyte), and never passes a control character on to a terminal.

use std::fmt::{self, Display, Write as _};

use serde_json::{Value, json};
use unicode_width::UnicodeWidthChar;

/// Columns of source shown around a mistake; longer lines are clipped.
const SNIPPET_COLUMNS_MAX: usize = 100;
/// Columns kept before the mistake when a long line is clipped.
const SNIPPET_LEAD: usize = 40;
/// Longest piece of the user's own text repeated in a message.
const QUOTE_CHARS_MAX: usize = 60;

/// A place in the source. Ordered by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Byte offset of the first character; `start <= end`.
    pub start: u32,
    /// Byte offset behind the last character.
    pub end: u32,
    /// Line, from 1; 0 only in `Span::default()`, which means the file as a whole.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Where it is.
    pub span: Span,
    /// What is wrong and what was expected, in one line.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without advice.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All mistakes of one file, ready to be shown.
#[derive(Clone, Debug)]
pub struct Report {
    file: String,
    source: String,
    problems: Vec<Problem>,
    colour: bool,
}

impl Report {
    /// Gathers problems, sorted by position, each once.
    pub fn new(file: impl Into<String>, source: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.into(), source: source.into(), problems, colour: false }
    }

    /// Colours the text for a terminal; off by default.
    #[must_use]
    pub fn with_colour(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    /// The problems, sorted by position.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// An array of `{file, line, column, message, help}`.
    pub fn to_json(&self) -> Value {
        self.problems
            .iter()
            .map(|p| {
                json!({
                    "file": self.file,
                    "line": p.span.line.max(1),
                    "column": p.span.column.max(1),
                    "message": p.message,
                    "help": p.help,
                })
            })
            .collect()
    }

    fn paint(&self, code: &'static str) -> (&'static str, &'static str) {
        if self.colour { (code, "\x1b[0m") } else { ("", "") }
    }

    fn write_problem(&self, out: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        let ((red, end), (blue, _), (cyan, _)) =
            (self.paint("\x1b[1;31m"), self.paint("\x1b[1;34m"), self.paint("\x1b[1;36m"));
        let span = problem.span;
        let (line, column) = (span.line.max(1), span.column.max(1));
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(out, "{red}error{end}: {}", printable(&problem.message))?;
        writeln!(out, "{gutter} {blue}-->{end} {}:{line}:{column}", printable(&self.file))?;
        if span.line > 0 {
            let (text, caret) = snippet(&self.source, span);
            writeln!(out, "{gutter} {blue} |{end}")?;
            writeln!(out, " {blue}{number} |{end} {text}")?;
            writeln!(out, "{gutter} {blue} |{end} {red}{caret}{end}")?;
        }
        if let Some(help) = &problem.help {
            writeln!(out, "{gutter} {blue} ={end} {cyan}help{end}: {}", printable(help))?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            self.write_problem(out, problem)?;
            writeln!(out)?;
        }
        match self.problems.len() {
            1 => writeln!(out, "1 error in {}", printable(&self.file)),
            n => writeln!(out, "{n} errors in {}", printable(&self.file)),
        }
    }
}

impl std::error::Error for Report {}

/// The user's own text between backquotes: short, and on one line.
pub fn quote(text: &str) -> String {
    let mut out = String::from("`");
    let mut chars = text.chars();
    out.extend(chars.by_ref().take(QUOTE_CHARS_MAX).flat_map(shown));
    if chars.next().is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// The candidate most like `word`, when one is like it at all.
pub fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.8;
    // Similarity costs the product of both lengths, and no name of ours is that long.
    if word.len() > 128 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(like, _)| *like > LIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// "`a`, `b` or `c`".
pub fn listing(names: &[&str]) -> String {
    let mut out = String::new();
    for (i, name) in names.iter().enumerate() {
        let joint = match i {
            0 => "",
            i if i + 1 == names.len() => " or ",
            _ => ", ",
        };
        let _ = write!(out, "{joint}`{name}`");
    }
    out
}

/// The source line of `span`, clipped, and the carets to print under it.
fn snippet(source: &str, span: Span) -> (String, String) {
    let start = floor_boundary(source, span.start as usize);
    let end = floor_boundary(source, span.end as usize).max(start);
    let (before, after) = source.split_at(start);
    let lead = &before[before.rfind(['\n', '\r']).map_or(0, |i| i + 1)..];
    let rest = &after[..after.find(['\n', '\r']).unwrap_or(after.len())];
    let marked = &rest[..(end - start).min(rest.len())];

    let whole = lead.chars().chain(rest.chars()).take(SNIPPET_COLUMNS_MAX + 1).count() <= SNIPPET_COLUMNS_MAX;
    let lead_kept = if whole { usize::MAX } else { SNIPPET_LEAD };
    let clip_at = lead.char_indices().rev().take(lead_kept).last().map_or(lead.len(), |(i, _)| i);
    let mut text = String::from(if clip_at > 0 { "…" } else { "" });
    text.extend(lead[clip_at..].chars().flat_map(shown));
    let indent = columns(&text);
    let room = if whole { usize::MAX } else { SNIPPET_COLUMNS_MAX - SNIPPET_LEAD };
    text.extend(rest.chars().take(room).flat_map(shown));
    if rest.chars().nth(room).is_some() {
        text.push('…');
    }
    let marks = marked.chars().take(room).flat_map(shown).map(|c| c.width().unwrap_or(1)).sum::<usize>();
    (text, format!("{}{}", " ".repeat(indent), "^".repeat(marks.max(1))))
}

fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(1)).sum()
}

fn floor_boundary(source: &str, mut at: usize) -> usize {
    at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What is printed for one character: tabs as one space (so that carets stay below), no other control character.
fn shown(c: char) -> impl Iterator<Item = char> {
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let c = match c {
        '\t' => ' ',
        _ if hidden => '\u{fffd}',
        c => c,
    };
    std::iter::once(c)
}

fn printable(text: &str) -> String {
    text.chars().flat_map(shown).collect()
}
