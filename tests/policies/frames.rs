//! Bolt and Dubbo: many calls share a connection, answers come whole, and some calls have none.

use crate::endpoint::{Inner, Reply, Turn, later};
use crate::protocol::{Ask, Caller, Got, Meaning, Speaks};
use crate::support::raw::{ANSWER_MAX, Frame, Wire, dubbo, pairs, string};
use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct Frames {
    pub(crate) wire: Wire,
    pub(crate) name: &'static str,
}

impl Speaks for Frames {
    fn name(&self) -> &'static str {
        self.name
    }

    fn conf(&self) -> &'static str {
        self.wire.protocol()
    }

    fn error(&self) -> u32 {
        if self.wire == Wire::Dubbo { 80 } else { 1 }
    }

    fn is_framed(&self) -> bool {
        true
    }

    fn caller(&self, stream: TcpStream) -> Box<dyn Caller> {
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
        Box::new(FramesCaller { wire: self.wire, stream, last: 0, over: false })
    }

    fn serve(&self, stream: TcpStream, endpoint: &Arc<Inner>) {
        let _ = stream.set_nodelay(true);
        let Ok(writer) = stream.try_clone() else { return };
        let writer = Arc::new(Mutex::new(writer));
        // Whether the sidecar is there still is seen by what it sends.
        let say = |bytes: &[u8]| drop(writer.lock().expect("no thread panics with it").write_all(bytes));
        let mut from = BufReader::new(stream);
        while let Ok(Some(frame)) = Frame::read(&mut from) {
            if frame.is_heartbeat() {
                say(&frame.wire().heartbeat_answer(frame.id()));
                continue;
            }
            let payload = frame.payload();
            let key = payload.split('|').next().unwrap_or_default();
            let turn = endpoint.turn(key);
            let answer = |reply| answer(self.wire, frame.id(), reply, &endpoint.signed(key));
            match turn {
                Turn::End | Turn::Reset => return,
                _ if frame.is_one_way() => {}
                Turn::Silence => {}
                Turn::Reply(reply) => say(&answer(reply)),
                Turn::Half => {
                    let whole = answer(Reply::Ok);
                    return say(&whole[..whole.len() / 2]);
                }
                Turn::ReplyAfter(time) => {
                    let (writer, answer) = (Arc::clone(&writer), answer(Reply::Ok));
                    later(time, move || {
                        drop(writer.lock().expect("no thread panics with it").write_all(&answer));
                    });
                }
            }
        }
    }
}

/// An endpoint's answer.
fn answer(wire: Wire, id: u64, reply: Reply, text: &str) -> Vec<u8> {
    if wire == Wire::Dubbo {
        return match reply {
            Reply::Ok => wire.answer(id, text),
            Reply::Busy => dubbo(2, 100, id, &string(text)),
            Reply::Error => dubbo(2, 80, id, &string(text)),
            Reply::Exception => dubbo(2, 20, id, &[&[0x90], string(text).as_slice()].concat()),
        };
    }
    let thrown = pairs(&[("sofa_head_response_error".into(), "true".into())]);
    let (status, map) = match reply {
        Reply::Ok => (0, &b""[..]),
        Reply::Busy => (4, &b""[..]),
        Reply::Error => (1, &b""[..]),
        Reply::Exception => (0, &thrown[..]),
    };
    wire.bolt_answer(2, id, 1, status, map, text.as_bytes())
}

struct FramesCaller {
    wire: Wire,
    stream: TcpStream,
    last: u64,
    over: bool,
}

impl FramesCaller {
    fn send(&mut self, ask: &Ask, one_way: bool) {
        self.last += 1;
        let mut call = self.wire.call(self.last).payload(&format!("{}|{}", ask.key, "x".repeat(ask.size)));
        for (name, value) in &ask.headers {
            call = call.header(name, value);
        }
        if one_way {
            call = call.one_way();
        }
        self.over |= self.stream.write_all(&call.bytes()).is_err();
    }

    fn meaning(&self, frame: &Frame) -> Meaning {
        let ours = frame.contains("outrigger");
        let thrown = match self.wire {
            Wire::Dubbo => frame.bytes[16] == 0x90,
            _ => frame.contains("sofa_head_response_error"),
        };
        match (self.wire == Wire::Dubbo, frame.status()) {
            (true, 20) | (false, 0) if thrown => Meaning::Exception,
            (true, 20) | (false, 0) => Meaning::Ok,
            (true, 80) | (false, 0x10) if ours => Meaning::Unreachable,
            (true, 31) | (false, 7) if ours => Meaning::TimedOut,
            (true, 100) | (false, 4) if !ours => Meaning::Busy,
            (true, 80) | (false, 1) if !ours => Meaning::Error,
            _ => Meaning::Other(format!("{frame:?}")),
        }
    }
}

impl Caller for FramesCaller {
    fn ask(&mut self, ask: &Ask) -> Got {
        self.send(ask, false);
        match Frame::read(&mut self.stream) {
            Ok(Some(frame)) => {
                assert_eq!(frame.id(), self.last, "an answer that nobody waits for: {frame:?}");
                Got::new(self.meaning(&frame), &String::from_utf8_lossy(&frame.bytes), ask)
            }
            _ => {
                self.over = true;
                Got::torn()
            }
        }
    }

    fn tell(&mut self, ask: &Ask) {
        self.send(ask, true);
        // It must have been sent before the connection may be left.
        std::thread::sleep(Duration::from_millis(1));
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
