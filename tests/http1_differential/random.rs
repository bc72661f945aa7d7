//! Accepted requests drawn from one number: what nobody thought of, and the same in every run.
//!
//! Each case is one to four requests on a connection, of ordinary and odd parts in any combination. It must never draw
//! what the sidecar has to refuse: every part is legal wherever it stands.

use super::cases::Case;

/// The cases begin with this seed.
const SEED: u64 = 0x5eed_0001;

/// A small generator (xorshift64*): the same everywhere, with no library behind it.
struct Draw(u64);

impl Draw {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// From 0 up to, not including, this.
    fn below(&mut self, end: usize) -> usize {
        self.number() as usize % end
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// So many characters, up to `max`, out of these.
    fn text(&mut self, from: &str, max: usize) -> String {
        let from: Vec<char> = from.chars().collect();
        let len = self.below(max + 1);
        (0..len).map(|_| from[self.below(from.len())]).collect()
    }
}

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-!#$%&'*+.^`|~";
const PATH: &str = "abcXYZ019-_~!$&'()*+,;=:@/";
const QUERY: &str = "abcXYZ019-._~!$&'()*+,;=:@/?{}|^`[]";
const ESCAPED: &[&str] = &["%20", "%41", "%2F", "%2f", "%3F", "%25", "%7e", "%C3%A9", "%2B", "%3b"];

/// The case of this number.
pub(crate) fn case(number: u64) -> Case {
    let mut draw = Draw((SEED + number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let count = 1 + draw.below(4);
    let mut bytes = Vec::new();
    for at in 0..count {
        if draw.one_in(10) {
            bytes.extend(b"\r\n");
        }
        request(&mut draw, at + 1 == count, &mut bytes);
    }
    Case { name: format!("drawn {number}"), bytes }
}

fn request(draw: &mut Draw, last: bool, out: &mut Vec<u8>) {
    let method = draw.of(&["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "QUERY"]);
    let host = draw.of(&["a.example", "b.example:8080", "127.0.0.1", "[::1]:99"]);
    let path = target(draw);
    let target = if draw.one_in(12) { format!("http://{host}{path}") } else { path };
    let old = last && draw.one_in(8);
    // A header is a line each; a chunked body is nothing for 1.0.
    let mut lines = headers(draw);
    lines.insert(draw.below(lines.len() + 1), format!("{}: {host}", draw.of(&["Host", "host", "HOST"])));
    let body = match draw.below(if old { 2 } else { 3 }) {
        0 => Vec::new(),
        1 => {
            let body = content(draw);
            let name = draw.of(&["Content-Length", "content-length", "CONTENT-LENGTH"]);
            lines.insert(draw.below(lines.len() + 1), format!("{name}: {}", body.len()));
            body
        }
        _ => {
            let coding = draw.of(&["chunked", "Chunked", "\tchunked "]);
            lines.insert(draw.below(lines.len() + 1), format!("Transfer-Encoding: {coding}"));
            chunks(draw)
        }
    };
    if !body.is_empty() && draw.one_in(8) {
        lines.push("Expect: 100-continue".to_owned());
    }
    if last && draw.one_in(6) {
        lines.push("Connection: close".to_owned());
    }
    out.extend(format!("{method} {target} HTTP/1.{}\r\n", u8::from(!old)).bytes());
    for line in lines {
        out.extend(line.chars().map(|c| u8::try_from(c).expect("one byte a character")));
        out.extend(b"\r\n");
    }
    out.extend(b"\r\n");
    out.extend(body);
}

fn target(draw: &mut Draw) -> String {
    let mut path = String::from("/");
    for _ in 0..draw.below(4) {
        // A letter in front: no segment is a dot or two, and the path does not begin with two slashes.
        path.push('p');
        path.push_str(&draw.text(PATH, 12));
        if draw.one_in(2) {
            path.push_str(draw.of(ESCAPED));
        }
        path.push('/');
    }
    if draw.one_in(2) {
        path.push('?');
        path.push_str(&draw.text(QUERY, 30));
    }
    path
}

fn headers(draw: &mut Draw) -> Vec<String> {
    let visible: String = (0x21..=0x7e_u8).chain(0x80..=0xff).map(char::from).collect();
    let mut lines = Vec::new();
    for _ in 0..draw.below(9) {
        let name = match draw.below(6) {
            0 => format!("X-{}", draw.text(TOKEN, 20)),
            1 => format!("{}Z", draw.text(TOKEN, 8)),
            _ => draw
                .of(&["Accept", "X-Same", "x-same", "Cookie", "X-Forwarded-For", "Via", "X-Id"])
                .to_owned(),
        };
        let mut value = draw.text(&visible, 30);
        for _ in 0..draw.below(3) {
            value = format!("{value}{}{}", draw.of(&[" ", "\t", "  ", ", "]), draw.text(&visible, 8));
        }
        let (before, after) = (draw.of(&["", " ", " ", "\t", "  "]), draw.of(&["", "", " ", "\t "]));
        lines.push(format!("{name}:{before}{value}{after}"));
    }
    match draw.below(10) {
        0 => lines.push("Connection: X-Same".to_owned()),
        1 => lines.push("TE: trailers".to_owned()),
        2 => lines.push("Keep-Alive: 5".to_owned()),
        3 => lines.push("Proxy-Connection: keep-alive".to_owned()),
        4 => lines.push("X_Under: 1".to_owned()),
        _ => {}
    }
    lines
}

fn content(draw: &mut Draw) -> Vec<u8> {
    let len = match draw.below(8) {
        0 => 0,
        1 => draw.below(30_000),
        _ => draw.below(200),
    };
    (0..len).map(|_| draw.number() as u8).collect()
}

fn chunks(draw: &mut Draw) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..draw.below(6) {
        let mut part = content(draw);
        part.push(b'.');
        let size = match draw.below(3) {
            0 => format!("{:x}", part.len()),
            1 => format!("{:X}", part.len()),
            _ => format!("{:06x}", part.len()),
        };
        out.extend(format!("{size}{}\r\n", draw.of(&["", "", ";e", ";e=1", ";a=\"b;c\";d"])).bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    out.extend(format!("0{}\r\n", draw.of(&["", "", ";last", "000"])).bytes());
    for n in 0..draw.below(8).saturating_sub(4) {
        out.extend(format!("X-Trailer-{n}: {n}\r\n").bytes());
    }
    out.extend(b"\r\n");
    out
}
