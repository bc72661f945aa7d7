//! How the programs under `tests/peers` are prepared and started: Java, Node, Go and Python.
//!
//! They are built by `tests/setup.sh`, run here once a test process (it returns at once when all is built). Every
//! program listens on and dials loopback only. Must never start a program whose build failed: a test without its
//! peer is a failure, not a pass.

use super::netns;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The host name that resolves to 127.0.0.1 inside the JVMs: Java Dubbo never dials 127.x or `localhost`, it
/// replaces both by the machine's outer address.
pub(crate) const LOOPBACK_NAME: &str = "peer.loopback";

/// A family of programs; each has a provider and a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Apache Dubbo 3.3.
    Dubbo33,
    /// Apache Dubbo 2.7.
    Dubbo27,
    /// SOFARPC over Bolt.
    Sofa,
    /// sofa-rpc-node over Bolt.
    Node,
}

impl Peer {
    /// Serves `DemoService` on the first port and its "green" twin on the second.
    pub(crate) fn provider(self, port: u16, green: u16) -> Command {
        let mut command = match self {
            Self::Dubbo33 | Self::Dubbo27 => self.java("peer.Provider"),
            Self::Sofa => self.java("peer.SofaProvider"),
            Self::Node => return node("server.js", &[port, green]),
        };
        if self.is_dubbo() {
            command.args(["--host", LOOPBACK_NAME]);
        }
        command.args(["--port", &port.to_string(), "--green-port", &green.to_string()]);
        command
    }

    /// Calls whatever listens on this port of loopback, as its stdin says.
    pub(crate) fn consumer(self, port: u16) -> Command {
        let (class, url) = match self {
            Self::Dubbo33 | Self::Dubbo27 => ("peer.Consumer", format!("dubbo://{LOOPBACK_NAME}:{port}")),
            Self::Sofa => ("peer.SofaConsumer", format!("bolt://127.0.0.1:{port}")),
            Self::Node => return node("client.js", &[port]),
        };
        let mut command = self.java(class);
        command.args(["--url", &url]);
        command
    }

    pub(crate) fn is_dubbo(self) -> bool {
        matches!(self, Self::Dubbo33 | Self::Dubbo27)
    }

    /// A program of this family by its class.
    pub(crate) fn java(self, class: &str) -> Command {
        let (project, jar) = match self {
            Self::Dubbo27 => ("dubbo-peer/out/d27", "dubbo-peer-1.jar"),
            Self::Sofa => ("sofa-peer/out", "sofa-peer-1.jar"),
            _ => ("dubbo-peer/out/d33", "dubbo-peer-1.jar"),
        };
        opened(project, jar, class)
    }
}

/// A program of Dubbo 2.7 that has its client of etcd in the place of those of other registries.
pub(crate) fn dubbo27_with_etcd(class: &str) -> Command {
    opened("dubbo-peer/out/d27-etcd", "dubbo-peer-1.jar", class)
}

fn opened(project: &str, jar: &str, class: &str) -> Command {
    // Hessian reads private fields of these packages by reflection.
    const OPENED: [&str; 5] = [
        "java.lang",
        "java.math",
        "java.util",
        "java.util.concurrent",
        "sun.reflect.generics.reflectiveObjects",
    ];
    let mut command = jvm(project, jar);
    for package in OPENED {
        command.arg(format!("--add-opens=java.base/{package}=ALL-UNNAMED"));
    }
    command.arg(class);
    command
}

/// A program that speaks HTTP and is told nothing but its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Web {
    /// An application on Spring Boot.
    Spring,
    /// Servers that say how they understood each request, one JSON line a request.
    TomcatRecorder,
    JettyRecorder,
    GoRecorder,
    H11Recorder,
    NodeRecorder,
    /// Go's server for clients of every kind; a line on its stdin asks for its counts.
    GoEcho,
    /// The same by HTTP/2 alone.
    GoEcho2,
    /// Clients of that server, asked by lines.
    GoClient,
    NodeClient,
    /// WebSocket by the `websockets` library.
    SocketServer,
    SocketClient,
}

impl Web {
    /// Listens on this port of loopback, or calls what listens there.
    pub(crate) fn on(self, port: u16) -> Command {
        let mut command = match self {
            Self::Spring => web_jvm("peer.SpringApp"),
            Self::TomcatRecorder => web_jvm("peer.TomcatRecorder"),
            Self::JettyRecorder => web_jvm("peer.JettyRecorder"),
            Self::GoRecorder => go_http("record"),
            Self::GoEcho => go_http("echo"),
            Self::GoEcho2 => go_http("echo2"),
            Self::GoClient => go_http("client"),
            Self::H11Recorder => python_http("recorder.py", &[]),
            Self::SocketServer => python_http("ws.py", &["server"]),
            Self::SocketClient => python_http("ws.py", &["client"]),
            Self::NodeRecorder => return script("node-http/recorder.js", &[port]),
            Self::NodeClient => return script("node-http/client.js", &[port]),
        };
        command.arg(port.to_string()).current_dir(&prepared().home);
        command
    }
}

/// The judge of HTTP/2, strict, over what listens on this port.
pub(crate) fn h2spec(port: u16) -> Command {
    let mut command = at_home("h2spec/out/h2spec");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-S"]);
    command
}

/// Grpc-go's server of the interoperability tests.
pub(crate) fn grpc_server(port: u16) -> Command {
    let mut command = at_home("go-grpc/out/go-grpc");
    command.arg(port.to_string());
    command
}

/// One case of grpc-go's client of the interoperability tests.
pub(crate) fn grpc_client(port: u16, case: &str) -> Command {
    let mut command = at_home("go-grpc/out/client");
    command.args(["-server_host", "127.0.0.1", "-server_port", &port.to_string(), "-test_case", case]);
    command
}

/// An application on dubbo-go: a `provider` or a `consumer`.
pub(crate) fn go_dubbo(role: &str) -> Command {
    let mut command = at_home("dubbo-go-peer/out/dubbo-go-peer");
    command.arg(role);
    command
}

/// The conformance suite on one of its files: it calls `front` and starts its servers on `back`, where they speak this
/// version of HTTP.
pub(crate) fn conformance(file: &str, front: u16, back: u16, version: u8) -> Command {
    let folder = prepared().root.join("conformance");
    let mut command = at_home("conformance/out/connectconformance");
    command
        .args(["--mode", "server", "--parallel", "4", "--max-servers", "1", "--conf"])
        .arg(folder.join(file));
    command.args(["--", "python3"]).arg(folder.join("advertise.py"));
    command.args([front.to_string(), version.to_string()]);
    command.arg(folder.join("out/referenceserver")).args(["-port", &back.to_string()]);
    command
}

fn at_home(program: &str) -> Command {
    let mut command = Command::new(prepared().root.join(program));
    command.current_dir(&prepared().home);
    command
}

/// The folder of the peers, all built.
pub(crate) fn folder() -> &'static Path {
    &prepared().root
}

/// A server of the system's packages, which may lie outside an ordinary user's PATH.
pub(crate) fn system_server(name: &str) -> Command {
    prepared();
    let path = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(|folder| PathBuf::from(folder).join(name));
    Command::new(path.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name)))
}

/// A client of the system's packages.
pub(crate) fn system_client(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(&prepared().home);
    command
}

fn web_jvm(class: &str) -> Command {
    let mut command = jvm("spring-peer/out", "spring-peer-1.jar");
    command.arg(class);
    command
}

fn go_http(mode: &str) -> Command {
    let mut command = Command::new(prepared().root.join("go-http/out/go-http"));
    command.arg(mode);
    command
}

fn python_http(script: &str, mode: &[&str]) -> Command {
    let folder = prepared().root.join("python-http");
    let mut command = Command::new("python3");
    command.arg("-u").arg(folder.join(script)).args(mode).env("PYTHONPATH", folder.join("out/lib"));
    command
}

/// Builds what is not built yet: for who may not be able to later.
pub(crate) fn prepare() {
    prepared();
}

/// A JVM with the class path of one project; its options and its class are still to come.
pub(crate) fn jvm(project: &str, jar: &str) -> Command {
    let out = prepared().root.join(project);
    let home = &prepared().home;
    let mut command = Command::new("java");
    // Quick to start rather than quick in the long run.
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command
        .arg(format!("-Djdk.net.hosts.file={}", home.join(hosts_file()).display()))
        .arg("-Djava.net.preferIPv4Stack=true")
        // The frameworks keep caches and logs there.
        .arg(format!("-Duser.home={}", home.display()))
        .arg("-cp")
        .arg(format!("{}:{}", out.join(jar).display(), out.join("lib/*").display()))
        .current_dir(home);
    command
}

fn node(file: &str, ports: &[u16]) -> Command {
    script(&format!("node-peer/{file}"), ports)
}

fn script(path: &str, ports: &[u16]) -> Command {
    let mut command = Command::new("node");
    command.arg(prepared().root.join(path));
    command.args(ports.iter().map(u16::to_string));
    command.current_dir(&prepared().home);
    command
}

fn hosts_file() -> &'static str {
    if netns::is_inside() { "hosts-inside" } else { "hosts" }
}

struct Prepared {
    root: PathBuf,
    /// Working directory and `user.home` of the peers, beside what is built: their caches and logs are litter.
    home: PathBuf,
}

/// Builds the peers, once, and writes the hosts file that the JVMs resolve names by.
fn prepared() -> &'static Prepared {
    static ONCE: OnceLock<Prepared> = OnceLock::new();
    ONCE.get_or_init(|| {
        let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut setup = Command::new("sh");
        setup.arg(tests.join("setup.sh"));
        if netns::is_inside() {
            // What it says was said outside; here it would stand between the outcomes.
            setup.stdout(Stdio::null());
        }
        let setup = setup.status();
        assert!(setup.is_ok_and(|status| status.success()), "tests/setup.sh failed: the peers are not there");
        let root = tests.join("peers");
        let home = root.join("out/home");
        std::fs::create_dir_all(&home).expect("a home for the peers can be created");
        // With a hosts file of its own a JVM asks nobody else, so the machine's own name must be in it too.
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // In a network of their own, others know the machine by another address.
        let address = if netns::is_inside() { netns::ADDRESS } else { "127.0.0.1" };
        let hosts = format!("127.0.0.1 localhost\n127.0.0.1 {LOOPBACK_NAME}\n{address} {}\n", own.trim());
        let file = home.join(hosts_file());
        // Left alone when right: JVMs of another test process may be reading it.
        if std::fs::read_to_string(&file).ok().as_ref() != Some(&hosts) {
            std::fs::write(&file, hosts).expect("the hosts file can be written");
        }
        Prepared { root, home }
    })
}
