//! HTTP/2 and what is spoken in it: streams of their own on one connection, whose status may stand in trailers.

use crate::endpoint::{Inner, Reply, Turn, later};
use crate::http1::meaning;
use crate::protocol::{Ask, Caller, Got, Meaning, Speaks};
use crate::support::http2::{
    ACK, Answer, Client, Event, Fields, Frame, PING, PREFACE, Reader, SETTINGS, data, frame, grpc, headers,
    request, rst, settings, status, window,
};
use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// RFC 9113, section 7.
const CANCEL: u32 = 8;

pub(crate) struct Http2 {
    pub(crate) name: &'static str,
}

impl Http2 {
    /// Whether it is plain HTTP.
    fn is_plain(&self) -> bool {
        self.name == "http2"
    }
}

impl Speaks for Http2 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn error(&self) -> u32 {
        if self.is_plain() { 502 } else { 14 }
    }

    fn caller(&self, stream: TcpStream) -> Box<dyn Caller> {
        let client = Client::over(stream);
        client.bytes(&[PREFACE, &settings(&[]).bytes()].concat());
        Box::new(Http2Caller { name: self.name, client, over: false })
    }

    fn serve(&self, stream: TcpStream, endpoint: &Arc<Inner>) {
        let Ok(writer) = stream.try_clone() else { return };
        let writer = Writer(Arc::new(Mutex::new(writer)));
        let mut reader = Reader::new(stream);
        reader.patience(Duration::from_secs(60));
        if reader.exact(&mut [0; PREFACE.len()]).is_err() {
            return;
        }
        writer.say(&[settings(&[])]);
        let mut open = HashMap::new();
        while let Ok(event) = reader.event() {
            let whole = match event {
                Event::Head { stream, fields, end } => {
                    open.insert(stream, fields);
                    end.then_some(stream)
                }
                Event::Data { stream, bytes, end } => {
                    let len = bytes.len() as u32;
                    if len > 0 {
                        writer.say(&[window(0, len), window(stream, len)]);
                    }
                    end.then_some(stream)
                }
                Event::Settings(_) => {
                    writer.say(&[frame(SETTINGS, ACK, 0, [])]);
                    None
                }
                Event::Ping(bytes) => {
                    writer.say(&[frame(PING, ACK, 0, bytes)]);
                    None
                }
                Event::End(_) => return,
                _ => None,
            };
            let Some(stream) = whole else { continue };
            let Some(head) = open.remove(&stream) else { continue };
            if !self.answer(&writer, stream, &head, endpoint) {
                return;
            }
        }
    }
}

/// Frames go out whole, whoever sends them.
#[derive(Clone)]
struct Writer(Arc<Mutex<TcpStream>>);

impl Writer {
    fn say(&self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        // Whether the sidecar is there still is seen by what it sends.
        let _ = self.0.lock().expect("no thread panics with it").write_all(&bytes);
    }
}

impl Http2 {
    /// Does with a whole call what is due; `false`: the connection ends.
    fn answer(&self, writer: &Writer, stream: u32, head: &Fields, endpoint: &Inner) -> bool {
        let key = head.get("x-call").unwrap_or_default();
        let answer = |reply| self.frames(stream, reply, &endpoint.signed(key));
        match endpoint.turn(key) {
            Turn::End => return false,
            Turn::Reset => writer.say(&[rst(stream, CANCEL)]),
            Turn::Silence => {}
            Turn::Reply(reply) => writer.say(&answer(reply)),
            Turn::Half => {
                let begin = &answer(Reply::Ok)[..1];
                writer.say(&[begin, &[data(stream, b"a half", false)]].concat());
                return false;
            }
            Turn::ReplyAfter(time) => {
                let (writer, answer) = (writer.clone(), answer(Reply::Ok));
                later(time, move || writer.say(&answer));
            }
        }
        true
    }

    /// An endpoint's answer.
    fn frames(&self, stream: u32, reply: Reply, text: &str) -> Vec<Frame> {
        if self.is_plain() {
            let code = match reply {
                Reply::Ok => 200,
                Reply::Busy => 503,
                Reply::Error => 502,
                Reply::Exception => 404,
            };
            return vec![headers(stream, &status(code), false), data(stream, text, true)];
        }
        let head = status(200).with("content-type", "application/grpc");
        let code = match reply {
            Reply::Ok => "0",
            Reply::Busy => "8",
            Reply::Error => "14",
            // Triple has an exception's own number in the head of an answer that is otherwise well.
            Reply::Exception if self.name == "triple" => "0",
            Reply::Exception => "5",
        };
        if code != "0" {
            let alone = head.with("grpc-status", code).with("grpc-message", text);
            return vec![headers(stream, &alone, true)];
        }
        let thrown = reply == Reply::Exception;
        let head = if thrown { head.with("tri-exception-code", "3") } else { head };
        let end = Fields::new(&[("grpc-status", "0")]);
        vec![
            headers(stream, &head, false),
            data(stream, message(text.as_bytes()), false),
            headers(stream, &end, true),
        ]
    }
}

/// One message of gRPC.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

struct Http2Caller {
    name: &'static str,
    client: Client,
    over: bool,
}

impl Http2Caller {
    fn head(&self, ask: &Ask) -> Fields {
        let path = ask.path.as_deref().unwrap_or("/t.Echo/echo");
        let mut fields = match self.name {
            "http2" if ask.size == 0 => request("GET", path),
            "http2" => request("POST", path),
            "triple" => grpc(path).with("tri-consumer-appname", "test"),
            _ => grpc(path),
        };
        fields = fields.with("x-call", &ask.key);
        for (name, value) in &ask.headers {
            fields = fields.with(name, value);
        }
        fields
    }

    fn meaning(&self, answer: &Answer) -> (Meaning, String) {
        if self.name == "http2" {
            return (meaning(answer.status(), answer.head.get("x-outrigger-error")), answer.text());
        }
        let end = answer.trailers.as_ref().unwrap_or(&answer.head);
        let ours = end.get("x-outrigger-error").is_some();
        let thrown = answer.head.get("tri-exception-code").is_some();
        let meaning = match (end.get("grpc-status").unwrap_or_default(), ours) {
            ("0", false) if thrown => Meaning::Exception,
            ("0", false) => Meaning::Ok,
            ("5", false) => Meaning::Exception,
            ("8", false) => Meaning::Busy,
            ("14", false) => Meaning::Error,
            ("14", true) => Meaning::Unreachable,
            ("4", true) => Meaning::TimedOut,
            _ => Meaning::Other(format!("{answer:?}")),
        };
        let said = end.get("grpc-message").unwrap_or_default();
        (meaning, format!("{}{said}", answer.text()))
    }
}

impl Caller for Http2Caller {
    fn ask(&mut self, ask: &Ask) -> Got {
        let body = match (self.name, ask.size) {
            ("http2", 0) => None,
            ("http2", size) => Some(vec![b'x'; size]),
            (_, size) => Some(message(&vec![b'x'; size])),
        };
        let stream = self.client.number();
        let fields = self.head(ask);
        if self.client.try_bytes(&headers(stream, &fields, body.is_none()).bytes()).is_err() {
            self.over = true;
            return Got::torn();
        }
        if let Some(body) = body {
            self.client.upload(stream, &body, true);
        }
        loop {
            let over = |answer: &Answer| answer.whole || answer.reset.is_some();
            if self.client.answers.get(&stream).is_some_and(over) {
                break;
            }
            self.over |= self.client.try_step().is_err() || self.client.ended.is_some();
            if self.over {
                return Got::torn();
            }
        }
        self.over |= !self.client.goodbyes.is_empty();
        let answer = self.client.answers.get(&stream).cloned().unwrap_or_default();
        // An answer that comes twice would be seen.
        self.client.answers.retain(|other, _| stream - other < 100);
        if !answer.whole {
            return Got::torn();
        }
        let (meaning, text) = self.meaning(&answer);
        Got::new(meaning, &text, ask)
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
