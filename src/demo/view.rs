//! What the demo shows: a table that is redrawn in place on a terminal, a line a second elsewhere, and a summary.
//!
//! Only cursor movements that every terminal knows, colours unless `NO_COLOR` forbids them, and nothing that is not
//! undone at the end, however that comes. Must never show a number that was not measured.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use super::{
    dubbo, http1,
    sidecar::Sidecar,
    speech::SPEECHES,
    streams,
    traffic::{Board, Count, Pair},
};
use crate::telemetry::Facts;

/// The view of one run.
pub(super) struct View {
    live: bool,
    colours: bool,
    began: Instant,
    looked: Instant,
    /// Lines of the last table, to go back over.
    drawn: usize,
}

/// What a table shows of each pair of counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    Recent,
    Total,
}

/// Whether the output can be redrawn.
pub(super) fn is_live() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

impl View {
    /// Says what there is, and how to try it by hand.
    pub(super) fn open(live: bool, sidecar: &Sidecar) -> io::Result<Self> {
        let now = Instant::now();
        let colours = live && std::env::var_os("NO_COLOR").is_none();
        let view = Self { live, colours, began: now, looked: now, drawn: 0 };
        print(&view.introduction(sidecar))?;
        if live {
            print("\x1b[?25l")?; // the cursor would dance
        }
        Ok(view)
    }

    fn introduction(&self, sidecar: &Sidecar) -> String {
        let (places, conf) = (sidecar.places, sidecar.conf.display());
        let (calls, relay, admin) = (places.calls, places.relay, places.admin);
        let readable = "LC_ALL=C tr -c ' -~' .; echo";
        let mut services = String::new();
        for speech in SPEECHES.iter().filter(|speech| !speech.called.is_empty()) {
            let parts = speech.called.iter().map(|(part, called)| format!("{part} {called}"));
            let _ = writeln!(services, "    {:<8}{}", speech.name, parts.collect::<Vec<_>>().join(", "));
        }
        format!(
            "{title}

One sidecar, two echo services for each protocol behind it, and callers that check every answer.
It runs with {conf}: edit it, and it is taken up within a second.

{own}, one port for all of these, method echo(String) or a POST of any text:
{services}    (Java Dubbo never dials 127.x: give it a host name of this machine that means 127.0.0.1)
{hand}:
    printf '{dubbo}' | nc -w 1 {nc_calls} | {readable}
    curl -i -d hello http://{calls}{path}; echo
    curl -i --http2-prior-knowledge -d hello http://{calls}{path2}; echo
    echo hello | nc -w 1 {nc_relay}
    curl http://{admin}/stats

",
            title = self.paint(BOLD, "outrigger demo"),
            own = self.paint(BOLD, &format!("Point your own client at {calls}")),
            hand = self.paint(BOLD, "Or try one call by hand"),
            dubbo = shell(&dubbo::request(1, "hello")),
            path = http1::PATH,
            path2 = streams::HTTP2.path,
            nc_calls = calls.to_string().replace(':', " "),
            nc_relay = relay.to_string().replace(':', " "),
        )
    }

    /// Shows what happened since the last time.
    pub(super) fn draw(&mut self, board: &mut Board, facts: Option<&Facts>) -> io::Result<()> {
        let passed = self.looked.elapsed();
        self.looked = Instant::now();
        if self.live {
            let mut text = self.table(board, Span::Recent, passed);
            text.push_str(&self.status(board, facts));
            self.redraw(&text)?;
        } else {
            print(&self.line(board, passed))?;
        }
        let rows = board.rows.iter_mut();
        rows.flat_map(|row| row.endpoints.values_mut().chain([&mut row.all]))
            .for_each(|pair| pair.recent = Count::default());
        Ok(())
    }

    /// Shows the whole run, and leaves the terminal as it was.
    pub(super) fn close(mut self, board: &Board) -> io::Result<()> {
        let text = self.table(board, Span::Total, self.began.elapsed());
        let end = match (board.failures(), &board.why) {
            (0, _) => "Every answer was the right one.\n".to_owned(),
            (n, why) => format!("{n} calls failed; the last: {}\n", why.as_deref().unwrap_or("unknown")),
        };
        if self.live { self.redraw(&(text + &end)) } else { print(&format!("\n{text}{end}")) }
    }

    fn redraw(&mut self, text: &str) -> io::Result<()> {
        // Lines that are too long for the terminal are cut off by it: wrapped ones could not be counted.
        let mut out = String::from("\x1b[?7l");
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in text.lines() {
            let _ = write!(out, "\r{line}\x1b[K\n");
        }
        out.push_str("\x1b[J\x1b[?7h");
        self.drawn = text.lines().count();
        print(&out)
    }

    fn table(&self, board: &Board, span: Span, passed: Duration) -> String {
        let head =
            format!("{:<23}{:>9}{:>12}{:>12}{:>9}{:>12}", "", "calls/s", "p50", "p99", "errors", "calls");
        let mut text = format!("{}\n", self.paint(BOLD, &head));
        for (speech, row) in SPEECHES.iter().zip(&board.rows) {
            let _ = writeln!(text, "{}", self.row(BOLD, speech.name, &row.all, span, passed));
            if span == Span::Recent {
                // On one line: a terminal of 24 lines has room for all.
                for (endpoint, pair) in &row.endpoints {
                    let _ = write!(text, "  {endpoint} {}/s", rate(&pair.recent, passed));
                }
                text.push('\n');
                continue;
            }
            for (endpoint, pair) in &row.endpoints {
                let _ = writeln!(text, "{}", self.row(PLAIN, &format!("  {endpoint}"), pair, span, passed));
            }
        }
        text.push('\n');
        text
    }

    fn row(&self, paint: &str, name: &str, pair: &Pair, span: Span, passed: Duration) -> String {
        let shown = if span == Span::Recent { &pair.recent } else { &pair.total };
        let row = format!(
            "{name:<23}{:>9}{:>12}{:>12}{:>9}{:>12}",
            rate(shown, passed),
            quantile(shown, 0.5),
            quantile(shown, 0.99),
            pair.total.failures,
            grouped(pair.total.calls)
        );
        self.paint(if shown.failures > 0 { RED } else { paint }, &row)
    }

    /// What a second was like, where nothing can be redrawn.
    fn line(&self, board: &Board, passed: Duration) -> String {
        let mut text = format!("{:>4} s", self.began.elapsed().as_secs());
        for (speech, row) in SPEECHES.iter().zip(&board.rows) {
            let (recent, name) = (&row.all.recent, speech.name);
            let (p50, p99) = (quantile(recent, 0.5), quantile(recent, 0.99));
            let (rate, failures) = (rate(recent, passed), row.all.total.failures);
            let _ = write!(text, " | {name} {rate}/s p50 {p50} p99 {p99} errors {failures}");
        }
        text.push('\n');
        text
    }

    fn status(&self, board: &Board, facts: Option<&Facts>) -> String {
        let seconds = self.began.elapsed().as_secs();
        let conf = match facts {
            Some(facts) if facts.reload_failed => self
                .paint(RED, "the conf file has mistakes, so the old one stays; `outrigger check` names them"),
            Some(facts) => format!("conf revision {}", facts.revision),
            None => self.paint(RED, "the sidecar is slow to answer"),
        };
        let why = board.why.as_ref().map(|why| self.paint(RED, &format!("last failure: {why}")) + "\n");
        format!("{}{seconds} s · {conf} · Ctrl-C ends\n", why.unwrap_or_default())
    }

    fn paint(&self, paint: &str, text: &str) -> String {
        if self.colours && !paint.is_empty() {
            format!("\x1b[{paint}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.live {
            // A terminal that is gone needs nothing back.
            let _ = print("\x1b[?25h");
        }
    }
}

const PLAIN: &str = "";
const BOLD: &str = "1";
const RED: &str = "31";

fn rate(count: &Count, passed: Duration) -> String {
    grouped((count.calls as f64 / passed.as_secs_f64().max(0.001)).round() as u64)
}

fn quantile(count: &Count, share: f64) -> String {
    match count.latency.quantile(share).as_micros() {
        0 => "-".to_owned(),
        us @ 1..1_000 => format!("{us} µs"),
        us => format!("{:.1} ms", us as f64 / 1e3),
    }
}

/// Digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as `printf` of any shell makes them.
fn shell(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\'%".contains(&byte);
    bytes.iter().map(|&b| if plain(b) { char::from(b).to_string() } else { format!("\\{b:03o}") }).collect()
}
