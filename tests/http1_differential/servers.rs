//! The servers behind the sidecar, each saying how it understood every request, and what is known of their dialects.
//!
//! Five print it themselves; nginx and `HAProxy` pass on to a recorder what they understood, and count in their logs. All
//! keep the defaults of their parsers, but for limits and for what is only spelling. A server may refuse what is legal;
//! it must never be allowed to understand it differently unless the dialect here says why that is harmless.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::reading::{Reading, Unread};
use super::support::peers::{Web, system_server};
use super::support::{Child, Process, TempDir, free_port, within};

/// How long a record may take that must come.
const RECORD_MAX: Duration = Duration::from_secs(20);

/// What one server makes of some requests that is its own affair.
pub(crate) struct Dialect {
    pub(crate) why: &'static str,
    pub(crate) about: fn(&Reading) -> bool,
    pub(crate) effect: Effect,
}

#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// It answers with a status of its own: no other understanding.
    Refuses,
    /// It answers as it likes and never shows the request.
    Hides,
    /// It shows the request so.
    Shows(fn(&mut Reading)),
}

/// What a server's record tells, and how it differs.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The order of headers of different names.
    pub(crate) ordered: bool,
    /// The case of the names.
    pub(crate) cased: bool,
    pub(crate) trailers: bool,
    pub(crate) dialects: &'static [Dialect],
    how: How,
}

enum How {
    Program(Web),
    /// The server's package, and its conf for ports and a folder.
    System(&'static str, fn(u16, u16, &str) -> String),
}

pub(crate) static KINDS: &[Kind] = &[
    Kind {
        name: "nginx",
        ordered: true,
        cased: true,
        trailers: false,
        dialects: &[
            Dialect {
                why: "its methods are capitals, `_` and `-`",
                about: |due| !due.method.chars().all(|c| c.is_ascii_uppercase() || "_-".contains(c)),
                effect: Effect::Refuses,
            },
            NO_ASTERISK,
        ],
        how: How::System("nginx", nginx_conf),
    },
    Kind {
        name: "haproxy",
        ordered: true,
        cased: false,
        trailers: true,
        dialects: &[],
        how: How::System("haproxy", haproxy_conf),
    },
    Kind {
        name: "go",
        ordered: false,
        cased: false,
        trailers: true,
        dialects: &[
            Dialect {
                why: "it answers `OPTIONS *` by itself",
                about: |due| due.target == "*",
                effect: Effect::Hides,
            },
            Dialect {
                why: "the announcement is gone once the trailers are there",
                about: |due| due.values("trailer").next().is_some(),
                effect: Effect::Shows(|due| {
                    due.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("trailer"));
                }),
            },
        ],
        how: How::Program(Web::GoRecorder),
    },
    Kind {
        name: "jetty",
        ordered: true,
        cased: false,
        trailers: true,
        dialects: &[],
        how: How::Program(Web::JettyRecorder),
    },
    Kind {
        name: "tomcat",
        ordered: false,
        cased: false,
        trailers: false,
        dialects: &[
            Dialect {
                why: "it answers `OPTIONS *` by itself",
                about: |due| due.target == "*",
                effect: Effect::Hides,
            },
            Dialect {
                why: "its hosts have no `_`",
                about: |due| due.values("host").any(|host| host.contains('_')),
                effect: Effect::Refuses,
            },
            Dialect {
                why: "its paths are UTF-8",
                about: |due| due.target == "/a%FF",
                effect: Effect::Refuses,
            },
        ],
        how: How::Program(Web::TomcatRecorder),
    },
    Kind {
        name: "h11",
        ordered: true,
        cased: true,
        trailers: true,
        dialects: &[],
        how: How::Program(Web::H11Recorder),
    },
    Kind {
        name: "node",
        ordered: true,
        cased: true,
        trailers: true,
        dialects: &[Dialect {
            why: "it knows its methods by name",
            about: |due| !METHODS.contains(&&*due.method),
            effect: Effect::Refuses,
        }],
        how: How::Program(Web::NodeRecorder),
    },
];

const METHODS: [&str; 12] = [
    "DELETE", "GET", "HEAD", "M-SEARCH", "OPTIONS", "PATCH", "POST", "PROPFIND", "PURGE", "PUT", "QUERY",
    "REPORT",
];

const NO_ASTERISK: Dialect =
    Dialect { why: "it knows no `*`", about: |due| due.target == "*", effect: Effect::Refuses };

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: &'static Kind,
    pub(crate) port: u16,
    source: Source,
}

enum Source {
    Program(Process),
    System(System),
}

/// A server of the system, with a recorder behind it.
struct System {
    _child: Child,
    records: Receiver<Reading>,
    log: PathBuf,
    _dir: TempDir,
}

impl Server {
    /// Started, not ready yet.
    pub(crate) fn spawn(kind: &'static Kind) -> Self {
        let port = free_port();
        let source = match kind.how {
            How::Program(web) => Source::Program(Process::spawn(kind.name, &mut web.on(port))),
            How::System(program, conf) => Source::System(System::start(program, port, conf)),
        };
        Self { kind, port, source }
    }

    /// Waits until it serves.
    pub(crate) fn ready(&self) {
        if let Source::Program(process) = &self.source {
            process.ready();
        }
        let up =
            within(Duration::from_secs(20), || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
        assert!(up, "{} does not listen", self.kind.name);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything it understood up to the request with this target, which must have been sent.
    pub(crate) fn records_until(&self, target: &str) -> Vec<Reading> {
        let mut records = Vec::new();
        loop {
            let record = match &self.source {
                Source::Program(process) => Reading::said(&process.answer()),
                Source::System(system) => system.records.recv_timeout(RECORD_MAX).unwrap_or_else(|error| {
                    panic!("{target} does not arrive behind {} ({error})", self.kind.name)
                }),
            };
            if record.target == target {
                return records;
            }
            records.push(record);
        }
    }

    /// A line for each request that it has seen, refused ones too: `request STATUS …`. `None`: it has no log.
    pub(crate) fn logged(&self) -> Option<Vec<String>> {
        let Source::System(system) = &self.source else { return None };
        let log = std::fs::read(&system.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        Some(text.lines().filter(|line| line.starts_with("request ")).map(str::to_owned).collect())
    }
}

impl System {
    fn start(program: &str, port: u16, conf: fn(u16, u16, &str) -> String) -> Self {
        let dir = TempDir::new();
        let folder = dir.path().display().to_string();
        let (records, recorder) = recorder();
        let path = dir.path().join("conf");
        std::fs::write(&path, conf(port, recorder, &folder)).expect("the conf can be written");
        let log = dir.path().join("log");
        let file = File::create(&log).expect("a log can be created");
        let errors = File::create(dir.path().join("errors")).expect("a log can be created");
        let mut command = system_server(program);
        match program {
            "nginx" => command
                .arg("-p")
                .arg(dir.path())
                .arg("-e")
                .arg(dir.path().join("errors"))
                .arg("-c")
                .arg(&path),
            _ => command.arg("-db").arg("-f").arg(&path),
        };
        command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
        Self { _child: Child::spawn(&mut command), records, log, _dir: dir }
    }
}

fn nginx_conf(port: u16, recorder: u16, dir: &str) -> String {
    format!(
        r#"
daemon off;
master_process off;
pid {dir}/pid;
events {{ worker_connections 512; }}
http {{
    log_format seen 'request $status $request';
    access_log /dev/stdout seen;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_header_buffer_size 128k;
    large_client_header_buffers 4 128k;
    client_body_buffer_size 1m;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    underscores_in_headers on;
    ignore_invalid_headers off;
    merge_slashes off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{recorder};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
        }}
    }}
}}
"#
    )
}

fn haproxy_conf(port: u16, recorder: u16, _dir: &str) -> String {
    format!(
        r#"
global
    log stdout format raw local0
    tune.bufsize 262144
    tune.http.maxhdr 256
    maxconn 512
defaults
    mode http
    log global
    option dontlognull
    log-format "request %ST %HM %HU"
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server recorder 127.0.0.1:{recorder}
"#
    )
}

/// Reads what another server passes on, says what it was and answers; ends with the test process.
fn recorder() -> (Receiver<Reading>, u16) {
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let (sender, records) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || record(stream, &sender));
        }
    });
    (records, port)
}

fn record(mut stream: TcpStream, records: &Sender<Reading>) {
    let mut bytes = Vec::new();
    let mut block = vec![0; 1 << 16];
    let _ = stream.set_nodelay(true);
    loop {
        match Reading::next(&bytes) {
            Ok((reading, used)) => {
                bytes.drain(..used);
                let body = if reading.method == "HEAD" { "" } else { "seen\n" };
                // Nobody listens any more when the test is over.
                let _ = records.send(reading);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Err(Unread::More) => match stream.read(&mut block) {
                Ok(0) | Err(_) => return,
                Ok(len) => bytes.extend(&block[..len]),
            },
            Err(Unread::Broken(why)) => {
                // Shown as what it is: no request that anybody sent.
                let _ = records.send(Reading { method: why, ..Reading::default() });
                return;
            }
        }
    }
}
