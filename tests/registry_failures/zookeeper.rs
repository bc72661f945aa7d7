//! `ZooKeeper` for the tests: how it is started, and what stands in it, by a client as small as it can be.
//!
//! One session for each thing that is asked or told, closed afterwards; what it writes stays until it is taken away. After
//! `zookeeper.jute` of `ZooKeeper` 3.8.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where Debian's package puts its jars.
const JARS: &str = "/usr/share/java";
const NAMES: [&str; 16] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-nop",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "metrics-core",
    "snappy-java",
    "commons-cli",
    "jackson-core",
    "jackson-databind",
    "jackson-annotations",
];

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET_CHILDREN: i32 = 8;
const CLOSE: i32 = -11;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;
/// Longer than any answer here is.
const ANSWER_MAX: usize = 1 << 20;
/// How long an answer may take.
const WAIT_MAX: Duration = Duration::from_secs(5);

pub(crate) fn command(dir: &Path, port: u16) -> Command {
    let conf = dir.join("zoo.cfg");
    let text = format!(
        "tickTime=500\nminSessionTimeout=1000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         admin.enableServer=false\n4lw.commands.whitelist=srvr\nmaxClientCnxns=0\n",
        dir.display(),
    );
    std::fs::write(&conf, text).expect("a conf");
    let jars = NAMES.map(|name| format!("{JARS}/{name}.jar"));
    let mut command = Command::new("java");
    command.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    // What is killed here is the process, not the machine: what it wrote is there without waiting for a disk.
    command.arg("-Dzookeeper.forceSync=no");
    command.args(["-Djava.net.preferIPv4Stack=true", "-cp", &jars.join(":")]);
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(conf);
    command
}

/// Whether it says that it serves.
pub(crate) fn answers(at: SocketAddr) -> bool {
    let ask = || {
        let mut socket = TcpStream::connect_timeout(&at, WAIT_MAX)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        socket.write_all(b"srvr")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    };
    // A server that has only begun to start says something else.
    ask().is_ok_and(|answer| answer.contains("Mode: standalone"))
}

/// The names of a node's children; none where there is no such node.
pub(crate) fn children(at: SocketAddr, path: &str) -> io::Result<Vec<String>> {
    let mut session = Session::open(at)?;
    let names = match session.ask(GET_CHILDREN, &[text(path), vec![0]].concat())? {
        Ok(mut answer) => (0..answer.int()).map(|_| answer.text()).collect(),
        Err(NO_NODE) => Vec::new(),
        Err(error) => panic!("ZooKeeper answers {error} about {path}"),
    };
    session.close()?;
    Ok(names)
}

/// The addresses of a service's providers.
pub(crate) fn providers(at: SocketAddr, service: &str) -> io::Result<Vec<String>> {
    let names = children(at, &folder(service))?;
    // dubbo%3A%2F%2FADDRESS%2F…
    let address = |name: &String| {
        let name = name.replace("%3A", ":").replace("%2F", "/");
        let rest = name.split_once("://").expect("a URL").1;
        rest.split(['/', '?', '%']).next().expect("an address").to_owned()
    };
    Ok(names.iter().map(address).collect())
}

/// Writes providers.
pub(crate) fn put(at: SocketAddr, service: &str, addresses: &[&str]) -> io::Result<()> {
    let nodes: Vec<String> = addresses.iter().map(|address| url(service, address)).collect();
    write(at, &folder(service), &nodes)
}

/// Writes these URLs below a path.
pub(crate) fn write(at: SocketAddr, folder: &str, urls: &[String]) -> io::Result<()> {
    let mut session = Session::open(at)?;
    let parents = folder.match_indices('/').skip(1).map(|(end, _)| folder[..end].to_owned());
    let nodes = urls.iter().map(|url| format!("{folder}/{}", escaped(url)));
    for path in parents.chain([folder.to_owned()]).chain(nodes) {
        let everybody =
            [&1_i32.to_be_bytes()[..], &31_i32.to_be_bytes(), &text("world"), &text("anyone")].concat();
        let asked = [text(&path), 0_i32.to_be_bytes().to_vec(), everybody, 0_i32.to_be_bytes().to_vec()];
        match session.ask(CREATE, &asked.concat())? {
            Ok(_) | Err(NODE_EXISTS) => {}
            Err(error) => panic!("ZooKeeper answers {error} about {path}"),
        }
    }
    session.close()
}

/// Takes providers away.
pub(crate) fn take(at: SocketAddr, service: &str, addresses: &[&str]) -> io::Result<()> {
    let mut session = Session::open(at)?;
    for address in addresses {
        let path = node(service, address);
        let asked = [text(&path), (-1_i32).to_be_bytes().to_vec()].concat();
        assert!(session.ask(DELETE, &asked)?.is_ok(), "{path} should go");
    }
    session.close()
}

fn folder(service: &str) -> String {
    format!("/dubbo/{service}/providers")
}

/// A provider's URL, as Dubbo writes it.
pub(crate) fn url(service: &str, address: &str) -> String {
    format!("dubbo://{address}/{service}?interface={service}&side=provider")
}

fn node(service: &str, address: &str) -> String {
    format!("{}/{}", folder(service), escaped(&url(service, address)))
}

/// A URL as the name of a node.
pub(crate) fn escaped(url: &str) -> String {
    let escaped = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '.' => c.to_string(),
        c => format!("%{:02X}", c as u32),
    };
    url.chars().map(escaped).collect()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes()[..], text.as_bytes()].concat()
}

struct Session(TcpStream);

impl Session {
    fn open(at: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&at, WAIT_MAX)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        let mut session = Self(socket);
        let mut hello = Vec::new();
        hello.extend(0_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(4_000_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(16_i32.to_be_bytes());
        hello.extend([0; 16]);
        hello.push(0);
        session.send(&hello)?;
        session.receive()?;
        Ok(session)
    }

    /// The answer, or the number of an error.
    fn ask(&mut self, kind: i32, asked: &[u8]) -> io::Result<Result<Answer, i32>> {
        self.send(&[&1_i32.to_be_bytes()[..], &kind.to_be_bytes(), asked].concat())?;
        let mut answer = Answer(self.receive()?);
        assert_eq!(answer.int(), 1, "an answer to the question");
        answer.take(8);
        let error = answer.int();
        Ok(if error == 0 { Ok(answer) } else { Err(error) })
    }

    fn close(&mut self) -> io::Result<()> {
        self.send(&[&2_i32.to_be_bytes()[..], &CLOSE.to_be_bytes()].concat())
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.0.write_all(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat())
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= ANSWER_MAX, "an answer of {length} bytes");
        let mut frame = vec![0; length];
        self.0.read_exact(&mut frame)?;
        Ok(frame)
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

    fn text(&mut self) -> String {
        let length = self.int();
        String::from_utf8(self.take(length.max(0) as usize)).expect("names are UTF-8")
    }
}
