//! A reader of `ZooKeeper`, as small as it can be: what the tests see of a registry shall not come through the client that the
//! sidecar uses.
//!
//! One session a question, closed before the answer is handed on. Must never write. After `zookeeper.jute` of `ZooKeeper` 3.8.

use super::servers::ZOOKEEPER;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const GET_DATA: i32 = 4;
const GET_CHILDREN: i32 = 8;
const CLOSE: i32 = -11;
const NO_NODE: i32 = -101;
/// Answers are of our own making; this is far above them.
const ANSWER_MAX: usize = 4 << 20;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The last part of its path.
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    /// Whether it goes with the session that made it.
    pub(crate) ephemeral: bool,
}

/// The children of a path; none where there is no such path.
pub(crate) fn children(path: &str) -> Vec<Node> {
    let mut session = Session::open();
    let names = session.ask(GET_CHILDREN, path).map(|mut answer| {
        let count = answer.int();
        (0..count).map(|_| answer.text()).collect::<Vec<_>>()
    });
    let mut nodes = Vec::new();
    for name in names.unwrap_or_default() {
        // It may be gone by now.
        let Some(mut answer) = session.ask(GET_DATA, &format!("{path}/{name}")) else { continue };
        let data = answer.bytes();
        answer.take(4 * 8 + 3 * 4);
        let ephemeral = answer.take(8).iter().any(|byte| *byte != 0);
        nodes.push(Node { name, data, ephemeral });
    }
    session.send(&[&2_i32.to_be_bytes()[..], &CLOSE.to_be_bytes()[..]].concat());
    nodes
}

struct Session(TcpStream);

impl Session {
    fn open() -> Self {
        let socket =
            TcpStream::connect_timeout(&ZOOKEEPER, Duration::from_secs(5)).expect("ZooKeeper listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
        let mut session = Self(socket);
        let mut hello = Vec::new();
        hello.extend(0_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(4_000_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(16_i32.to_be_bytes());
        hello.extend([0; 16]);
        hello.push(0);
        session.send(&hello);
        session.receive();
        session
    }

    /// `None`: there is no such node.
    fn ask(&mut self, kind: i32, path: &str) -> Option<Answer> {
        let mut question = Vec::new();
        question.extend(1_i32.to_be_bytes());
        question.extend(kind.to_be_bytes());
        question.extend((path.len() as i32).to_be_bytes());
        question.extend(path.as_bytes());
        question.push(0);
        self.send(&question);
        let mut answer = Answer(self.receive());
        assert_eq!(answer.int(), 1, "an answer to the question");
        answer.take(8);
        match answer.int() {
            0 => Some(answer),
            NO_NODE => None,
            error => panic!("ZooKeeper answers {error} about {path}"),
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let whole = [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
        self.0.write_all(&whole).expect("ZooKeeper reads");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("ZooKeeper answers");
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= ANSWER_MAX, "an answer of {length} bytes");
        let mut frame = vec![0; length];
        self.0.read_exact(&mut frame).expect("ZooKeeper answers wholly");
        frame
    }
}

/// What is left of an answer.
struct Answer(Vec<u8>);

impl Answer {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.0.split_off(count);
        std::mem::replace(&mut self.0, rest)
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.int();
        self.take(length.max(0) as usize)
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).expect("names are UTF-8")
    }
}
