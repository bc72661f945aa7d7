//! The registries themselves: a `ZooKeeper` and a Nacos, each in a JVM of its own, started by the first test that asks.
//!
//! Both run inside the tests' own network only, on the ports that everybody knows. Must never be started twice.

use super::support::{Child, http_get, netns, peers, tail, within};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Where `ZooKeeper` listens.
pub(crate) const ZOOKEEPER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2181);
/// Where Nacos listens for HTTP; 1000 ports above for its own protocol.
pub(crate) const NACOS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8848);
/// What a starting JVM may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
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

/// Starts both, once. They end with the test process: each has a watchdog.
pub(crate) fn start() {
    static ONCE: OnceLock<[Mutex<Child>; 2]> = OnceLock::new();
    let servers = ONCE.get_or_init(|| {
        let both = [zookeeper(), nacos()];
        both.map(|(mut child, log, ready)| {
            let mut ended = None;
            let came = within(START_MAX, || {
                ended = child.ended();
                ended.is_some() || ready()
            });
            assert!(came && ended.is_none(), "a registry did not start ({ended:?}):\n{}", tail(&log));
            Mutex::new(child)
        })
    });
    for server in servers {
        let ended = server.lock().expect("nobody panics with it").ended();
        assert!(ended.is_none(), "a registry ended by itself with {ended:?}");
    }
}

type Started = (Child, PathBuf, fn() -> bool);

fn spawn(command: &mut Command, dir: &Path) -> (Child, PathBuf) {
    let log = dir.join("log");
    let file = File::create(&log).expect("a log can be created");
    let errors = file.try_clone().expect("a file can be shared");
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    (Child::spawn(command), log)
}

/// Sessions of whoever was killed are over after a few seconds, whatever their programs asked for.
fn zookeeper() -> Started {
    let dir = netns::dir().join("zookeeper");
    std::fs::create_dir_all(&dir).expect("a directory");
    let conf = dir.join("zoo.cfg");
    let text = format!(
        "tickTime=1000\nminSessionTimeout=2000\nmaxSessionTimeout=8000\ndataDir={}\nclientPort={}\n\
         clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n",
        dir.display(),
        ZOOKEEPER.port(),
    );
    std::fs::write(&conf, text).expect("a conf");
    let jars = NAMES.map(|name| format!("{JARS}/{name}.jar"));
    let mut command = Command::new("java");
    command.args([
        "-Xmx192m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.net.preferIPv4Stack=true",
    ]);
    command.args(["-cp", &jars.join(":"), "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(&conf);
    let (child, log) = spawn(&mut command, &dir);
    (child, log, || said("ruok").is_ok_and(|answer| answer == "imok"))
}

fn said(word: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&ZOOKEEPER, Duration::from_secs(2))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(word.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

fn nacos() -> Started {
    let dir = netns::dir().join("nacos");
    std::fs::create_dir_all(&dir).expect("a directory");
    let project = peers::folder().join("nacos-server");
    let (home, conf) = (dir.display(), project.join("conf/application.properties"));
    let mut command = Command::new("java");
    command.args(["-Xms192m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
        .arg(format!("-Dnacos.home={home}"))
        .arg(format!("-Duser.home={home}"))
        .args(["-Dnacos.standalone=true", "-Dserver.servlet.contextPath=/nacos"])
        .arg(format!("-Dserver.port={}", NACOS.port()))
        .arg(format!("-Dspring.config.additional-location=file:{}", conf.display()))
        .arg("-cp")
        .arg(project.join("out/nacos-server-1.jar"))
        .arg("peer.NacosServer");
    let (child, log) = spawn(&mut command, &dir);
    let ready = || {
        let answer = http_get(NACOS, "/nacos/v1/ns/operator/metrics?onlyStatus=true");
        answer.is_ok_and(|(status, page)| status == 200 && page.contains("UP"))
    };
    (child, log, ready)
}
