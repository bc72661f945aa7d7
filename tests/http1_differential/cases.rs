//! Requests that the sidecar accepts, each with its peculiarity in its name.
//!
//! Heads are written with plain line ends, which become CRLF; bodies are bytes. Several requests in one case are sent
//! in one piece. Only what is legal belongs here: what must be refused is in `smuggling`.

/// One connection's bytes.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// `\n` becomes CRLF; characters become bytes of the same number.
pub(crate) fn head(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").chars().map(|c| u8::try_from(c).expect("one byte a character")).collect()
}

/// Named bytes; `text` is all of it, or all but the body.
fn case(name: &str, text: &str, body: &[u8]) -> Case {
    Case { name: name.to_owned(), bytes: [&head(text), body].concat() }
}

/// All of them; the names are different.
pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for part in [methods, targets, hosts, fields, values, hop_by_hop, lengths, chunks, pipelines, versions] {
        all.extend(part());
    }
    let mut names: Vec<&str> = all.iter().map(|case| &*case.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cases have one name: {names:?}");
    all
}

fn methods() -> Vec<Case> {
    let mut cases: Vec<Case> =
        ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "PROPFIND", "REPORT", "PURGE"]
            .iter()
            .map(|method| {
                case(
                    &format!("method {method}"),
                    &format!("{method} /m HTTP/1.1\nHost: a.example\nA: b\n\n"),
                    b"",
                )
            })
            .collect();
    for method in ["get", "M-SEARCH", "X!#$%&'*+-.^_`|~9", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF"] {
        cases.push(case(
            &format!("odd method {method}"),
            &format!("{method} /m HTTP/1.1\nHost: a.example\n\n"),
            b"",
        ));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
        let text = format!("{method} /body HTTP/1.1\nHost: a.example\nContent-Length: 4\n\n");
        cases.push(case(&format!("{method} with a body"), &text, b"body"));
    }
    cases.push(case("OPTIONS *", "OPTIONS * HTTP/1.1\nHost: a.example\n\n", b""));
    cases
}

fn targets() -> Vec<Case> {
    let long = format!("/{}", "p".repeat(7000));
    let query = format!("/q?{}", "k=v&".repeat(1700));
    let targets = [
        "/",
        "/?",
        "/a/b/c",
        "/a//b",
        "/a/",
        "/a%20b",
        "/%41%42",
        "/a%2Fb",
        "/a%2fb",
        "/%E4%BD%A0%E5%A5%BD",
        "/a%5Cb",
        "/a;v=1/b;w",
        "/a,b",
        "/a+b",
        "/a=b&c",
        "/a:b@c",
        "/~user/",
        "/a!$'()*",
        "/...",
        "/.hidden",
        "/a.b/..c",
        "/a%25",
        "/x?",
        "/x?a=1&a=2&&b",
        "/x?a=%20%2B+",
        "/x?/../%2e",
        "/x?a=%zz",
        "/x?http://other.example/",
        "/x??",
        "/x?a=[1]",
        "/x?a={b}|c^d`e",
        "/{a}",
        "/a|b",
        "/a^b`",
        "/[x]",
        "/index.php?%FF",
        "/a%FF",
        "/http://a.example/",
        "/:80/",
        "/-_.~",
    ];
    let mut cases: Vec<Case> = targets
        .iter()
        .chain([&&*long, &&*query])
        .map(|target| {
            let name = format!("target {target:.40}");
            case(&name, &format!("GET {target} HTTP/1.1\nHost: a.example\n\n"), b"")
        })
        .collect();
    for (name, target) in [
        ("absolute form", "http://a.example/x/y?z"),
        ("absolute form, no path", "http://a.example"),
        ("absolute form, empty path and a query", "http://a.example?x=1"),
        ("absolute form, other case", "http://A.Example/x"),
        ("absolute form, odd path", "http://a.example/a%2Fb//c?d=/e"),
    ] {
        cases.push(case(name, &format!("GET {target} HTTP/1.1\nHost: a.example\n\n"), b""));
    }
    let with_port = "POST http://a.example:8080/p HTTP/1.1\nHost: a.example:8080\nContent-Length: 2\n\n";
    cases.push(case("absolute form with a port and a body", with_port, b"ok"));
    cases
}

fn hosts() -> Vec<Case> {
    let hosts = [
        "a.example",
        "A.EXAMPLE",
        "a.example:80",
        "a.example:65535",
        "127.0.0.1:8080",
        "localhost",
        "[::1]",
        "[::1]:8080",
        "a-b_c.example",
        "a.example.",
        "xn--fsq.example",
        "1",
    ];
    let mut cases: Vec<Case> = hosts
        .iter()
        .map(|host| {
            case(&format!("host {host}"), &format!("GET /host HTTP/1.1\nHost: {host}\nAccept: */*\n\n"), b"")
        })
        .collect();
    cases.push(case("host last", "GET /host HTTP/1.1\nAccept: */*\nX-A: b\nhOsT:a.example\n\n", b""));
    cases
}

fn fields() -> Vec<Case> {
    let many = (0..90).map(|i| format!("X-Many-{i}: {i}\n")).collect::<Vec<_>>().concat();
    let same = (0..60).map(|i| format!("X-Same: {i}\n")).collect::<Vec<_>>().concat();
    let cookies = (0..10).map(|i| format!("Cookie: c{i}={i}; d=\"q\"\n")).collect::<Vec<_>>().concat();
    let fields = [
        ("every mark of a token", "X!#$%&'*+-.^`|~9: v\n"),
        ("a name of one letter", "x: v\n"),
        ("a name of digits", "123: v\n"),
        ("a name in any case", "x-MiXeD-cAsE: v\n"),
        ("a long name", &format!("X-{}: v\n", "n".repeat(200))),
        ("names that differ in case", "X-A: 1\nx-a: 2\nX-a: 3\n"),
        ("equal pairs", "X-A: 1\nX-A: 1\n"),
        ("equal names apart", "X-A: 1\nX-B: 2\nX-A: 3\nX-C: 4\nX-A: 5\n"),
        ("several of Accept", "Accept: text/html\nAccept: */*;q=0.1\n"),
        ("several cookies", &*cookies),
        (
            "several Via and Forwarded",
            "Via: 1.0 a\nForwarded: for=a\nVia: 1.1 b\nForwarded: for=b;proto=http\n",
        ),
        ("several X-Forwarded-For", "X-Forwarded-For: 1.2.3.4\nX-Forwarded-For: 5.6.7.8, 9.9.9.9\n"),
        ("ninety fields", &*many),
        ("sixty of one name", &*same),
        (
            "names with underscores are dropped",
            "X_A: 1\nX-A: 2\nContent_Length: 5\nTransfer_Encoding: chunked\n",
        ),
        (
            "a name that begins like framing",
            "Content-Lengths: 5\nTransfer-Encodings: chunked\nContent-Length-: 3\n",
        ),
        ("authority and scheme in fields", "X-Host: b\nX-Original-URL: /admin\nX-Forwarded-Host: c\n"),
        (
            "conditional fields",
            "If-None-Match: \"a\", W/\"b\"\nIf-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT\nRange: bytes=0-1\n",
        ),
        ("credentials", "Authorization: Basic dTpw\n"),
        (
            "a date and a referrer",
            "Date: Tue, 15 Nov 1994 08:12:31 GMT\nReferer: http://b.example/?q\nUser-Agent: x/1 (y; z)\n",
        ),
    ];
    fields
        .iter()
        .map(|(name, lines)| case(name, &format!("GET /fields HTTP/1.1\nHost: a.example\n{lines}\n"), b""))
        .collect()
}

fn values() -> Vec<Case> {
    let long = "v".repeat(30_000);
    let obs: String = (0x80..=0xff_u8).map(char::from).collect();
    let ascii: String = (0x21..=0x7e_u8).map(char::from).collect();
    let values = [
        ("an empty value", ""),
        ("an empty value of blanks", " \t "),
        ("blanks around", "  \t v \t "),
        ("tabs inside", "a\tb\t\tc"),
        ("blanks inside", "a   b"),
        ("every visible character", &*ascii),
        ("obs-text", &*obs),
        ("UTF-8", "\u{e4}\u{bd}\u{a0}\u{e5}\u{a5}\u{bd}"),
        ("broken UTF-8", "a\u{c3}(\u{ff}\u{fe}"),
        ("a long value", &*long),
        ("colons", "a: b: c"),
        ("lists with holes", ",a,,b, ,"),
        ("quotes", "\"a\\\"b\", \"c"),
        ("comments", "(a (b) c)"),
        ("what looks like a request", "GET /smuggled HTTP/1.1"),
        ("what looks like a field", "Content-Length: 10"),
        ("escapes", "%0d%0aX: y \\r\\n"),
        ("a comma only", ","),
        ("a semicolon", "a;b=c;d"),
    ];
    let text = |line: &str| format!("GET /values HTTP/1.1\nHost: a.example\n{line}\nX-After: 1\n\n");
    let mut cases: Vec<Case> = values
        .iter()
        .map(|(name, value)| case(&format!("value: {name}"), &text(&format!("X-Value: {value}")), b""))
        .collect();
    cases.push(case("value: no blank behind the colon", &text("X-Value:v"), b""));
    cases
}

fn hop_by_hop() -> Vec<Case> {
    let lines = [
        ("Connection nominates", "Connection: X-Hop, x-other\nX-Hop: 1\nX-Stays: 2\nX-OTHER: 3\n"),
        ("Connection in several lines", "Connection: X-A\nX-A: 1\nConnection: X-B\nX-B: 2\nX-C: 3\n"),
        ("Connection nominates what is not there", "Connection: keep-alive, X-None\nX-Stays: 1\n"),
        ("Connection cannot take Host away", "Connection: Host, X-Hop\nX-Hop: 1\n"),
        ("Connection with holes", "Connection: ,, keep-alive ,\t,X-Hop\nX-Hop: 1\n"),
        ("Keep-Alive", "Keep-Alive: timeout=5, max=10\nConnection: keep-alive\n"),
        (
            "proxy fields",
            "Proxy-Connection: keep-alive\nProxy-Authorization: Basic eA==\nProxy-Anything: 1\n",
        ),
        ("TE", "TE: trailers\nConnection: TE\n"),
        ("TE alone", "TE: gzip;q=0.5\n"),
        (
            "h2c upgrade",
            "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n",
        ),
        ("h2c settings not nominated", "Upgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n"),
        ("an upgrade without Connection", "Upgrade: websocket\n"),
        ("an upgrade to what nobody knows", "Connection: upgrade\nUpgrade: foo/2, bar\n"),
        ("Connection: close", "Connection: close\n"),
        ("Connection: Close in any case", "Connection: X-Hop, CLOSE\nX-Hop: 1\n"),
    ];
    let mut cases: Vec<Case> = lines
        .iter()
        .map(|(name, lines)| case(name, &format!("GET /hop HTTP/1.1\nHost: a.example\n{lines}\n"), b""))
        .collect();
    for nominated in ["Content-Length", "content-length, close", "Host, Content-Length"] {
        let text =
            format!("POST /hop HTTP/1.1\nHost: a.example\nConnection: {nominated}\nContent-Length: 3\n\n");
        cases.push(case(&format!("Connection: {nominated} leaves the body"), &text, b"abc"));
    }
    let text =
        "POST /hop HTTP/1.1\nHost: a.example\nConnection: Transfer-Encoding\nTransfer-Encoding: chunked\n\n";
    cases.push(case("Connection cannot take chunks away", text, b"3\r\nabc\r\n0\r\n\r\n"));
    cases
}

fn lengths() -> Vec<Case> {
    let every: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..60_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let bodies: [(&str, &[u8]); 8] = [
        ("no body at all", b""),
        ("one byte", b"x"),
        ("every byte", &every),
        ("a large body", &large),
        ("a body like a request", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a body like chunks", b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a body of line ends", b"\r\n\r\n\r\n"),
        ("a body of zeros", b"\0\0\0\0"),
    ];
    let mut cases: Vec<Case> = bodies
        .iter()
        .map(|(name, body)| {
            let head = format!("POST /length HTTP/1.1\nHost: a.example\nContent-Length: {}\n\n", body.len());
            case(&format!("by length: {name}"), &head, body)
        })
        .collect();
    let other = [
        ("zeros before the length", "Content-Length: 0000000004\n", &b"four"[..]),
        ("blanks around the length", "Content-Length: \t 4 \t\n", b"four"),
        ("a form", "Content-Type: application/x-www-form-urlencoded\nContent-Length: 7\n", b"a=1&b=2"),
        ("a coded body", "Content-Encoding: gzip\nContent-Length: 4\n", b"\x1f\x8b\x08\0"),
        ("Expect", "Expect: 100-continue\nContent-Length: 4\n", b"four"),
        ("Expect in other case", "EXPECT: 100-Continue\nContent-Length: 4\n", b"four"),
        ("Expect without a body", "Expect: 100-continue\nContent-Length: 0\n", b""),
        ("the length before anything else", "content-length:4\nX-After: 1\n", b"four"),
    ];
    cases.extend(other.iter().map(|(name, lines, body)| {
        case(name, &format!("PUT /length HTTP/1.1\nHost: a.example\n{lines}\n"), body)
    }));
    cases
}

fn chunks() -> Vec<Case> {
    let single: Vec<u8> =
        b"single bytes".iter().flat_map(|b| [b"1\r\n", &[*b][..], b"\r\n"].concat()).collect();
    let large = [&b"c350\r\n"[..], &vec![b'z'; 50_000][..], b"\r\n0\r\n\r\n"].concat();
    let bodies: [(&str, &[u8]); 21] = [
        ("one chunk", b"4\r\nfour\r\n0\r\n\r\n"),
        ("nothing but the end", b"0\r\n\r\n"),
        ("several", b"4\r\nfour\r\n5\r\n five\r\n0\r\n\r\n"),
        ("hex in both cases", b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"),
        ("leading zeros", b"0004\r\nfour\r\n000\r\n\r\n"),
        ("sixteen digits", b"0000000000000004\r\nfour\r\n0\r\n\r\n"),
        ("line ends inside", b"8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n"),
        ("what looks like an end inside", b"1f\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\n\r\n"),
        ("an extension", b"4;name=value\r\nfour\r\n0\r\n\r\n"),
        ("an extension without a value", b"4;name\r\nfour\r\n0;last\r\n\r\n"),
        ("a quoted extension", b"4;n=\"a;b\"\r\nfour\r\n0\r\n\r\n"),
        ("several extensions", b"4;a;b=c;d=\"e\"\r\nfour\r\n0\r\n\r\n"),
        ("obs-text in an extension", b"4;a=\xe9\r\nfour\r\n0\r\n\r\n"),
        ("a trailer", b"4\r\nfour\r\n0\r\nX-Trailer: 1\r\n\r\n"),
        ("several trailers", b"4\r\nfour\r\n0\r\nX-T: 1\r\nX-U:2\r\nX-T: \t3 \r\nX-Empty:\r\n\r\n"),
        ("obs-text in a trailer", b"0\r\nX-T: \xe9\xff\r\n\r\n"),
        ("a trailer and an extension", b"1;x\r\nz\r\n0;y=1\r\nX-T: 1\r\n\r\n"),
        (
            "forbidden trailers",
            b"1\r\nz\r\n0\r\nContent-Length: 9\r\nX-T: 1\r\nHost: evil\r\nAuthorization: b\r\n\r\n",
        ),
        (
            "framing in trailers",
            b"1\r\nz\r\n0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nCookie: a=b\r\n\r\n",
        ),
        ("single bytes", &[&single[..], b"0\r\n\r\n"].concat()),
        ("a large chunk", &large),
    ];
    let mut cases: Vec<Case> = bodies
        .iter()
        .map(|(name, body)| {
            let text = "POST /chunks HTTP/1.1\nHost: a.example\nTransfer-Encoding: chunked\n\n";
            case(&format!("by chunks: {name}"), text, body)
        })
        .collect();
    let other = [
        ("the coding in capitals", "Transfer-Encoding: CHUNKED\n"),
        ("blanks around the coding", "transfer-encoding: \t chunked \t\n"),
        ("no blank before the coding", "TRANSFER-ENCODING:chunked\n"),
        ("a trailer announced", "Trailer: X-T\nTransfer-Encoding: chunked\n"),
        ("Expect and chunks", "Expect: 100-continue\nTransfer-Encoding: chunked\n"),
        ("Connection: close and chunks", "Connection: close\nTransfer-Encoding: chunked\n"),
    ];
    cases.extend(other.iter().map(|(name, lines)| {
        let text = format!("POST /chunks HTTP/1.1\nHost: a.example\n{lines}\n");
        case(name, &text, b"4\r\nfour\r\n0\r\nX-T: 1\r\n\r\n")
    }));
    cases
}

fn pipelines() -> Vec<Case> {
    let get = |n: usize| head(&format!("GET /pipe/{n} HTTP/1.1\nHost: a.example\nX-N: {n}\n\n"));
    let post = |n: usize| {
        head(&format!("POST /pipe/{n} HTTP/1.1\nHost: a.example\nContent-Length: 5\n\nbody{}", n % 10))
    };
    let chunked = |n: usize| {
        let text = format!("POST /pipe/{n} HTTP/1.1\nHost: a.example\nTransfer-Encoding: chunked\n\n");
        [head(&text), b"3;e\r\nabc\r\n0\r\nX-T: 1\r\n\r\n".to_vec()].concat()
    };
    let close = head("GET /pipe/last HTTP/1.1\nHost: a.example\nConnection: close\n\n");
    let options = head("OPTIONS * HTTP/1.1\nHost: a.example\n\n");
    let head_request = head("HEAD /pipe/head HTTP/1.1\nHost: a.example\n\n");
    let named =
        |name: &str, parts: &[Vec<u8>]| Case { name: format!("pipelined: {name}"), bytes: parts.concat() };
    vec![
        named("two GETs", &[get(1), get(2)]),
        named("twelve GETs", &(0..12).map(get).collect::<Vec<_>>()),
        named("GET behind a body", &[post(1), get(2)]),
        named("GET behind chunks", &[chunked(1), get(2)]),
        named("bodies behind bodies", &[post(1), chunked(2), post(3), chunked(4), get(5)]),
        named("HEAD between", &[get(1), head_request.clone(), get(2)]),
        named("HEAD first", &[head_request, get(1), post(2)]),
        named("the last closes", &[get(1), post(2), close]),
        named("OPTIONS * between", &[post(1), options, get(2)]),
        named("an empty line in front of each", &[b"\r\n".to_vec(), get(1), b"\r\n".to_vec(), get(2)]),
        named("an empty line behind a body", &[post(1), b"\r\n".to_vec(), get(2)]),
        named("an empty line behind chunks", &[chunked(1), b"\r\n".to_vec(), get(2)]),
    ]
}

fn versions() -> Vec<Case> {
    vec![
        case("1.0", "GET /one HTTP/1.0\nHost: a.example\nX-A: b\n\n", b""),
        case("1.0 without Host", "GET /one HTTP/1.0\nX-A: b\n\n", b""),
        case("1.0 without any field", "GET /one HTTP/1.0\n\n", b""),
        case("1.0 with a body", "POST /one HTTP/1.0\nHost: a.example\nContent-Length: 4\n\n", b"four"),
        case("1.0 that stays", "GET /one HTTP/1.0\nHost: a.example\nConnection: keep-alive\n\n", b""),
        case("1.0 with Keep-Alive", "GET /one HTTP/1.0\nHost: a.example\nKeep-Alive: 5\n\n", b""),
        case(
            "1.0 that expects",
            "POST /one HTTP/1.0\nHost: a.example\nExpect: 100-continue\nContent-Length: 1\n\n",
            b"x",
        ),
        case(
            "1.0 twice",
            "GET /one HTTP/1.0\nHost: a.example\nConnection: Keep-Alive\n\nGET /two HTTP/1.0\nHost: a.example\n\n",
            b"",
        ),
        case("HEAD in 1.0", "HEAD /one HTTP/1.0\n\n", b""),
    ]
}
