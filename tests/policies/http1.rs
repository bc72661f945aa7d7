//! HTTP/1: one call at a time on a connection, which its answers may end.

use crate::endpoint::{Inner, Reply, Turn, later};
use crate::protocol::{Ask, Caller, Got, Meaning, Speaks};
use crate::support::http1::{Client, Link, ok};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

pub(crate) struct Http1;

impl Speaks for Http1 {
    fn name(&self) -> &'static str {
        "http1"
    }

    fn error(&self) -> u32 {
        502
    }

    fn caller(&self, stream: TcpStream) -> Box<dyn Caller> {
        Box::new(Http1Caller { client: Client { link: Link::new(stream) }, over: false })
    }

    fn serve(&self, stream: TcpStream, endpoint: &Arc<Inner>) {
        let mut link = Link::new(stream);
        link.patient();
        while let Ok(Some(head)) = link.head() {
            let length = head.get("content-length").map_or(0, |text| text.parse().expect("a length"));
            let mut body = vec![0; length];
            if std::io::Read::read_exact(link.reader(), &mut body).is_err() {
                return;
            }
            let key = head.get("x-call").unwrap_or_default();
            let text = endpoint.signed(key);
            let said = match endpoint.turn(key) {
                Turn::End | Turn::Reset => return,
                Turn::Silence => continue,
                Turn::Half => {
                    let _ = link.try_send(&ok(&text, "").as_bytes()[..ok(&text, "").len() - 4]);
                    return;
                }
                Turn::Reply(reply) => link.try_send(answer(reply, &text).as_bytes()),
                Turn::ReplyAfter(time) => {
                    let Ok(stream) = link.stream().try_clone() else { return };
                    later(time, move || {
                        drop(std::io::Write::write_all(&mut &stream, answer(Reply::Ok, &text).as_bytes()));
                    });
                    Ok(())
                }
            };
            if said.is_err() {
                return;
            }
        }
    }
}

fn answer(reply: Reply, text: &str) -> String {
    let status = match reply {
        Reply::Ok => "200 OK",
        Reply::Busy => "503 Service Unavailable",
        Reply::Error => "502 Bad Gateway",
        Reply::Exception => "404 Not Found",
    };
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

struct Http1Caller {
    client: Client,
    over: bool,
}

/// What a status means, whoever said it.
pub(crate) fn meaning(status: u16, ours: Option<&str>) -> Meaning {
    match (status, ours) {
        (200, None) => Meaning::Ok,
        (503, None) => Meaning::Busy,
        (502, None) => Meaning::Error,
        (404, None) => Meaning::Exception,
        (502, Some(_)) => Meaning::Unreachable,
        (504, Some(_)) => Meaning::TimedOut,
        _ => Meaning::Other(format!("{status} {ours:?}")),
    }
}

impl Caller for Http1Caller {
    fn ask(&mut self, ask: &Ask) -> Got {
        let method = if ask.size == 0 { "GET" } else { "POST" };
        let path = ask.path.as_deref().unwrap_or("/t.Echo/echo");
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test.example\r\nX-Call: {}\r\n", ask.key);
        for (name, value) in &ask.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if ask.size > 0 {
            text.extend(["Content-Length: ", &ask.size.to_string(), "\r\n"]);
        }
        text.extend(["\r\n", &"x".repeat(ask.size)]);
        if self.client.link.try_send(text.as_bytes()).is_err() {
            self.over = true;
            return Got::torn();
        }
        match self.client.answer_to(method) {
            Ok(answer) => {
                self.over = answer.head.closes();
                let ours = answer.head.get("x-outrigger-error");
                Got::new(meaning(answer.status(), ours), &answer.text(), ask)
            }
            Err(_) => {
                self.over = true;
                let _ = self.client.link.stream().shutdown(Shutdown::Both);
                Got::torn()
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
