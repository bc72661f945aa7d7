//! The programs of these tests: Dubbo over Triple and grpc-java, a server and a client of each.
//!
//! All four speak of the same service (`talk.proto`), so any client may be paired with any server. Must start nothing
//! that dials anything but the port it is given.

use std::process::Command;

use super::support::peers::{LOOPBACK_NAME, Peer, jvm};
use super::support::{Process, Sidecar};

/// What a client or a server is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Apache Dubbo 3.3, over Triple.
    Dubbo,
    /// grpc-java.
    Grpc,
}

impl Made {
    /// Serves on both ports: as "blue" on the first, as "green" on the second. Not yet ready.
    pub(crate) fn servers(self, blue: u16, green: u16) -> Vec<Process> {
        match self {
            Self::Dubbo => vec![Process::spawn("the provider", &mut dubbo_provider(blue, green))],
            Self::Grpc => vec![
                Process::spawn("the blue server", &mut grpc_server("blue", blue)),
                Process::spawn("the green server", &mut grpc_server("green", green)),
            ],
        }
    }

    /// Calls whatever listens on this port of loopback, as its stdin says. Not yet ready.
    pub(crate) fn client(self, name: &str, port: u16) -> Process {
        let mut command = match self {
            Self::Dubbo => {
                let mut command = Peer::Dubbo33.java("peer.TripleConsumer");
                command.args(["--url", &format!("tri://{LOOPBACK_NAME}:{port}"), "--heartbeat", REDIAL_MS]);
                command
            }
            Self::Grpc => grpc("peer.GrpcClient", port),
        };
        Process::spawn(name, &mut command)
    }
}

/// How often Dubbo tries a lost connection again.
const REDIAL_MS: &str = "1000";

pub(crate) fn dubbo_provider(blue: u16, green: u16) -> Command {
    let mut command = Peer::Dubbo33.java("peer.TripleProvider");
    command.args(["--host", LOOPBACK_NAME]);
    command.args(["--port", &blue.to_string(), "--green-port", &green.to_string()]);
    command
}

pub(crate) fn grpc_server(name: &str, port: u16) -> Command {
    let mut command = grpc("peer.GrpcServer", port);
    command.args(["--name", name]);
    command
}

fn grpc(class: &str, port: u16) -> Command {
    let mut command = jvm("grpc-java-peer/out", "grpc-java-peer-1.jar");
    command.args([class, "--port", &port.to_string()]);
    command
}

/// Waits until all of them are ready.
pub(crate) fn ready<'a>(processes: impl IntoIterator<Item = &'a Process>) {
    for process in processes {
        process.ready();
    }
}

/// The listener `egress` with routes by all that a call says of itself, and `both`, which spreads calls over two
/// endpoints.
pub(crate) fn conf(protocol: &str, [blue, green, nowhere]: [u16; 3]) -> String {
    let [admin, egress, both] = [(); 3].map(|()| super::support::free_port());
    format!(
        r#"
app: triple-peers
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: {protocol}
    routes:
      - match: {{ service: {{ prefix: peer. }}, headers: {{ lane: nowhere }} }}
        to: nowhere
      - match: {{ headers: {{ lane: empty }} }}
        to: empty
      - match: {{ headers: {{ lane: few }} }}
        to: blue
        limit: {{ rate: 2/h, burst: 2 }}
      - match: {{ service: peer.api.DemoService, group: green, version: "2.0.0" }}
        to: green
      - match: {{ service: peer.talk.Talk, group: green, version: "2.0.0" }}
        to: green
      - match: {{ service: peer.api.DemoService, method: slow }}
        to: blue
        timeout: 300ms
      - match: {{ service: peer.talk.Talk, method: Wait, headers: {{ lane: hurried }} }}
        to: blue
        timeout: 300ms
      - match: {{ service: peer.api.DemoService }}
        to: blue
      - match: {{ service: peer.talk.Talk }}
        to: blue
  both:
    bind: 127.0.0.1:{both}
    protocol: {protocol}
    routes:
      - match: {{ service: peer.talk.Talk }}
        to: both
clusters:
  blue: {{ endpoints: ["127.0.0.1:{blue}"] }}
  green: {{ endpoints: ["127.0.0.1:{green}"] }}
  both: {{ endpoints: ["127.0.0.1:{blue}", "127.0.0.1:{green}"] }}
  nowhere: {{ endpoints: ["127.0.0.1:{nowhere}"] }}
  empty: {{ endpoints: [] }}
"#
    )
}

/// A sidecar between servers of one make and clients of one make; the clients know its port alone.
pub(crate) struct Stage {
    pub(crate) client: Made,
    pub(crate) server: Made,
    /// Of the two servers, and one that nobody listens on.
    pub(crate) ports: [u16; 3],
    pub(crate) conf: String,
    pub(crate) sidecar: Sidecar,
    pub(crate) servers: Vec<Process>,
    pub(crate) first: Process,
    pub(crate) second: Process,
}

impl Stage {
    /// All come up at the same time; nothing is called before each has said that it is ready.
    pub(crate) fn new(protocol: &str, client: Made, server: Made) -> Self {
        let ports @ [blue, green, _] = [(); 3].map(|()| super::support::free_port());
        let conf = conf(protocol, ports);
        let sidecar = Sidecar::start(&conf);
        let egress = sidecar.port("egress");
        let servers = server.servers(blue, green);
        let (first, second) =
            (client.client("the first client", egress), client.client("the second client", egress));
        ready(servers.iter().chain([&first, &second]));
        Self { client, server, ports, conf, sidecar, servers, first, second }
    }
}
