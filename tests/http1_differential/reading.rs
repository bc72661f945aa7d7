//! The reference: an HTTP/1 reader of its own, and what a sidecar may make of what it read.
//!
//! `Reading::next` reads one request off the front of some bytes by RFC 9112 alone; it is checked itself, against h11,
//! over the same bytes. `Reading::through` is the contract of a hop: what has to arrive behind the sidecar. Bytes are
//! kept as characters of the same numbers, so that nothing is lost and everything can be shown. It must never use the
//! codec of the product, nor look at what the product did.

use serde_json::Value;

/// Ends with the connection it is about: neither framing nor anything named here has a meaning behind a hop.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
    "transfer-encoding",
    "content-length",
];

/// What `Connection` cannot take away.
const NEVER_NOMINATED: &[&str] = &["host", "content-length", "transfer-encoding"];

/// What a trailer cannot say.
const NO_TRAILER: &[&str] =
    &["authorization", "connection", "content-length", "content-type", "cookie", "host", "transfer-encoding"];

pub(crate) type Field = (String, String);

/// One request as somebody read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Only the reference knows it; 0 or 1.
    pub(crate) minor: u8,
    pub(crate) headers: Vec<Field>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<Field>,
}

/// More bytes are needed, or these are no request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    More,
    Broken(String),
}

fn broken<T>(why: &str, at: &str) -> Result<T, Unread> {
    Err(Unread::Broken(format!("{why}: {at:?}")))
}

pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn line(&mut self) -> Result<String, Unread> {
        let end = self.0.windows(2).position(|pair| pair == b"\r\n").ok_or(Unread::More)?;
        let line = latin1(self.take(end)?);
        self.take(2)?;
        if line.contains(['\r', '\n', '\0']) { broken("a control in a line", &line) } else { Ok(line) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Unread::More)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fields(&mut self) -> Result<Vec<Field>, Unread> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else { return broken("no colon", &line) };
            if name.is_empty() || name.contains([' ', '\t']) {
                return broken("no name", &line);
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Unread> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split([';', ' ', '\t']).next().unwrap_or_default();
            let Ok(size) = usize::from_str_radix(size, 16) else { return broken("no chunk size", &line) };
            if size == 0 {
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return broken("a chunk longer than it says", &line);
            }
        }
    }
}

impl Reading {
    /// The first request of these bytes, and how many of them it takes.
    pub(crate) fn next(bytes: &[u8]) -> Result<(Self, usize), Unread> {
        let mut rest = Rest(bytes);
        let mut first = rest.line()?;
        if first.is_empty() {
            first = rest.line()?;
        }
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, version] = *words else { return broken("no request line", &first) };
        let minor = match version {
            "HTTP/1.0" => 0,
            "HTTP/1.1" => 1,
            _ => return broken("no version", version),
        };
        let mut reading = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            minor,
            headers: rest.fields()?,
            ..Self::default()
        };
        let chunked = reading.values("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
        let length = reading.values("content-length").next().map(str::to_owned);
        match length {
            Some(length) if chunked => return broken("two framings", &length),
            Some(length) => {
                let Ok(len) = length.parse() else { return broken("no length", &length) };
                reading.body = latin1(rest.take(len)?);
            }
            None if chunked => {
                reading.body = latin1(&rest.chunks()?);
                reading.trailers = rest.fields()?;
            }
            None => {}
        }
        let used = bytes.len() - rest.0.len();
        Ok((reading, used))
    }

    /// All requests of these bytes, which must be nothing but requests.
    pub(crate) fn all(mut bytes: &[u8]) -> Result<Vec<Self>, Unread> {
        let mut readings = Vec::new();
        while !bytes.is_empty() {
            let (reading, used) = Self::next(bytes)?;
            readings.push(reading);
            bytes = &bytes[used..];
        }
        Ok(readings)
    }

    /// What a server says that it understood.
    pub(crate) fn said(line: &Value) -> Self {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let fields = |key: &str| {
            let pairs = line[key].as_array().into_iter().flatten();
            let word = |pair: &Value, at: usize| pair[at].as_str().unwrap_or_default().to_owned();
            pairs.map(|pair| (word(pair, 0), word(pair, 1))).collect()
        };
        Self {
            method: text("method"),
            target: text("target"),
            minor: 1,
            headers: fields("headers"),
            body: text("body"),
            trailers: fields("trailers"),
        }
    }

    /// The values of all headers of this name.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value)
    }

    /// Whether the connection ends behind it, as far as its sender is concerned.
    pub(crate) fn closes(&self) -> bool {
        let has = |word: &str| {
            let options = self.values("connection").flat_map(|value| value.split(','));
            options.map(|option| option.trim_matches([' ', '\t'])).any(|o| o.eq_ignore_ascii_case(word))
        };
        has("close") || self.minor == 0 && !has("keep-alive")
    }

    /// What has to arrive behind a sidecar whose endpoint has this address: the same request without what was meant
    /// for the first hop only.
    pub(crate) fn through(&self, endpoint: &str) -> Self {
        let mut nominated: Vec<String> = Vec::new();
        for value in self.values("connection") {
            nominated
                .extend(value.split(',').map(|name| name.trim_matches([' ', '\t']).to_ascii_lowercase()));
        }
        nominated.retain(|name| !NEVER_NOMINATED.contains(&&**name));
        let goes_on = |(name, _): &&Field| {
            let name = name.to_ascii_lowercase();
            let hop = HOP_BY_HOP.contains(&&*name) || name.starts_with("proxy-") || nominated.contains(&name);
            !hop && !name.contains('_') && name != "expect"
        };
        let mut through = self.clone();
        through.minor = 1;
        through.headers = self.headers.iter().filter(goes_on).cloned().collect();
        let host = self.values("host").next().unwrap_or(endpoint).to_owned();
        through.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        through.headers.insert(0, ("Host".to_owned(), host));
        through.trailers.retain(|(name, _)| !NO_TRAILER.contains(&&*name.to_ascii_lowercase()));
        through.trailers.retain(|(name, _)| !name.contains('_'));
        if let Some(rest) = self.target.get(..7).filter(|start| start.eq_ignore_ascii_case("http://")) {
            let rest = &self.target[rest.len()..];
            let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
            through.target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        }
        through
    }

    /// Without framing, which each hop makes anew, and without `Expect`, which a server may answer and forget.
    pub(crate) fn unframed(mut self) -> Self {
        const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "expect"];
        self.headers.retain(|(name, _)| !FRAMING.contains(&&*name.to_ascii_lowercase()));
        self
    }
}

/// The reader must see what there is, and refuse what is none.
#[test]
fn the_reference_reads_what_is_there() {
    let bytes = b"\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nA:\t b \r\nTransfer-Encoding: Chunked\r\n\r\n\
        3;e=1\r\nab\xe9\r\n0\r\nT: 1\r\n\r\nGET http://x HTTP/1.0\r\nConnection: b, keep-alive\r\nB: 1\r\nC_d: 2\r\nC: 3\r\n\r\n";
    let all = Reading::all(bytes).expect("both are requests");
    let [post, get] = &*all else { panic!("{} requests", all.len()) };
    assert_eq!(
        (&*post.method, &*post.target, &*post.body, post.closes()),
        ("POST", "/a?b", "ab\u{e9}", false)
    );
    assert_eq!(post.headers[1], ("A".to_owned(), "b".to_owned()));
    assert_eq!(post.trailers, [("T".to_owned(), "1".to_owned())]);
    let get = get.through("127.0.0.1:1");
    let due = [("Host".to_owned(), "127.0.0.1:1".to_owned()), ("C".to_owned(), "3".to_owned())];
    assert_eq!((&*get.target, &*get.headers), ("/", &due[..]));
    for len in 0..bytes.len() {
        // Cut anywhere but between the two, something is missing.
        let whole = Reading::all(&bytes[..len]).map(|all| all.len());
        assert!(matches!(whole, Err(Unread::More) | Ok(0 | 1)), "{len}: {whole:?}");
    }
    for bad in [
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ] {
        assert!(matches!(Reading::all(bad.as_bytes()), Err(Unread::Broken(_))), "{bad:?}");
    }
}
