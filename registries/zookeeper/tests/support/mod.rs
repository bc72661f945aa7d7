//! A real `ZooKeeper` for the tests: Debian's jars in a JVM of its own, on a free port of loopback, with a directory that goes
//! with it.
//!
//! It can be killed, started again on the same data, and made to hang; each by its own process id. The jars are installed by
//! `tests/setup.sh` at the root of the workspace. Test code: it asserts and panics.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use outrigger_discovery::{Board, Instance, Registry, ServiceKey, View, formats::application::AskMetadata};
use outrigger_registry_zookeeper::{Settings, ZooKeeperRegistry, open};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time};
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// The session that the registries under test ask for. The client gives a connection two fifths of it to answer.
pub(crate) const SESSION: Duration = Duration::from_secs(4);
/// What a starting JVM may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long news may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const JARS: &str = "/usr/share/java";
const OLD_JARS: &str = "../../tests/peers/dubbo-peer/out/d27/lib";
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

/// A server.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    /// What the JVM is made of.
    jars: Vec<PathBuf>,
    child: Option<Child>,
    /// A shell that kills the server when the test process ends without a word: then nothing here is dropped.
    watchdog: Option<Child>,
}

impl Server {
    /// Starts one; it answers.
    pub(crate) async fn start() -> Self {
        Self::start_of(NAMES.iter().map(|name| Path::new(JARS).join(format!("{name}.jar"))).collect()).await
    }

    /// The same of 3.5, which the peers of Dubbo 2.7 bring with them for its client.
    pub(crate) async fn start_old() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(OLD_JARS);
        let jars =
            ["zookeeper-3.5.10", "zookeeper-jute-3.5.10"].map(|name| folder.join(format!("{name}.jar")));
        let log =
            ["slf4j-api", "slf4j-nop", "log4j-1.2"].map(|name| Path::new(JARS).join(format!("{name}.jar")));
        Self::start_of(jars.into_iter().chain(log).collect()).await
    }

    async fn start_of(jars: Vec<PathBuf>) -> Self {
        let dir = TempDir::new().expect("a directory");
        // Asked for and let go: a server of Java cannot be given a socket.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|one| one.local_addr())
            .expect("a port")
            .port();
        let conf = format!(
            "tickTime=500\nminSessionTimeout=1000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n",
            dir.path().display()
        );
        fs::write(dir.path().join("zoo.cfg"), conf).expect("a conf");
        let mut server = Self { dir, port, jars, child: None, watchdog: None };
        server.restart().await;
        server
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again on the data of before; it answers.
    pub(crate) async fn restart(&mut self) {
        let zookeeper = self.jars.first().expect("a jar");
        assert!(zookeeper.exists(), "{} is missing: run tests/setup.sh", zookeeper.display());
        let jars: Vec<String> = self.jars.iter().map(|jar| jar.display().to_string()).collect();
        let child = Command::new("java")
            .args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:CICompilerCount=1"])
            // Debian's metrics need nothing of the network, and neither does this.
            .args(["-Djava.net.preferIPv4Stack=true", "-cp", &jars.join(":")])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(self.dir.path().join("zoo.cfg"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("a JVM: run tests/setup.sh");
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r word; [ "$word" = done ] || kill -KILL "$0""#, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        (self.child, self.watchdog) = (Some(child), Some(watchdog));
        let until = Instant::now() + START;
        while !self.answers() {
            let child = self.child.as_mut().expect("a child");
            let ended = child.try_wait().expect("a child");
            let told = || fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default();
            assert!(
                ended.is_none() && Instant::now() < until,
                "the server did not start: {ended:?} {}",
                told()
            );
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether it says that it is well.
    fn answers(&self) -> bool {
        let ask = || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.write_all(b"ruok")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        ask().is_ok_and(|answer| answer == "imok")
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a signal");
            child.wait().expect("an end");
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            // Its pid may be another's soon: the watchdog must not kill any more.
            watchdog.stdin.take().expect("a pipe").write_all(b"done\n").expect("a word");
            watchdog.wait().expect("an end");
        }
    }

    /// It hangs from now on.
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a running server");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success(), "{signal}");
    }

    /// A session of the test's own.
    pub(crate) async fn client(&self) -> Client {
        let until = Instant::now() + PATIENCE;
        loop {
            let connector =
                Client::connector().with_session_timeout(Duration::from_secs(30)).with_fail_eagerly();
            match time::timeout(Duration::from_secs(5), connector.connect(&self.address())).await {
                Ok(Ok(client)) => return client,
                failed => assert!(Instant::now() < until, "no session: {failed:?}"),
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The settings of a registry at it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            servers: vec![self.address()],
            chroot: None,
            group: "dubbo".into(),
            auth: None,
            session_timeout: SESSION,
            reconcile: Duration::from_secs(60),
            ask: None,
        }
    }

    /// A registry at it.
    pub(crate) fn registry(&self) -> ZooKeeperRegistry {
        open(self.settings())
    }

    /// A registry at it that asks instances by `ask`.
    pub(crate) fn asking(&self, ask: Arc<dyn AskMetadata>) -> ZooKeeperRegistry {
        open(Settings { ask: Some(ask), ..self.settings() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes a node that stays, and the directories above it.
pub(crate) async fn write(client: &Client, path: &str, data: &[u8]) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    match client.create(path, data, &options).await {
        Err(Error::NoNode) => {
            let (parent, _) = path.rsplit_once('/').expect("a parent");
            client.mkdir(parent, &options).await.expect("a directory");
            client.create(path, data, &options).await.expect("a node");
        }
        Err(Error::NodeExists) => {
            client.set_data(path, data, None).await.expect("a node");
        }
        other => drop(other.expect("a node")),
    }
}

/// The names below a node; none where there is none.
pub(crate) async fn names(client: &Client, path: &str) -> Vec<String> {
    match client.list_children(path).await {
        Err(Error::NoNode) => Vec::new(),
        names => names.expect("names"),
    }
}

/// A running watch.
pub(crate) struct Watched {
    board: Board,
    number: usize,
    task: JoinHandle<()>,
}

impl Watched {
    /// Starts one.
    pub(crate) fn start(registry: &dyn Registry, key: ServiceKey) -> Self {
        let mut board = Board::default();
        let (number, teller) = board.open();
        Self { board, number, task: tokio::spawn(registry.watch(key, teller)) }
    }

    /// What it knows now.
    pub(crate) fn view(&self) -> View {
        self.board.view(self.number).expect("a watch")
    }

    /// The instances that it knows.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.view().instances.iter().flat_map(|all| all.iter()).cloned().collect()
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.instances().into_iter().map(|instance| instance.address).collect()
    }

    /// Waits until what it knows is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let wait = async {
            while !wanted(&self.view()) {
                self.board.news().await;
            }
        };
        let come = time::timeout(PATIENCE, wait).await;
        assert!(come.is_ok(), "{what} in time; what is known: {:#?}", self.view());
        assert!(!self.task.is_finished(), "a watch must not end while it is read");
        self.view()
    }

    /// Waits until exactly these addresses are known, and the registry is well.
    pub(crate) async fn until_addresses(&self, want: &[&str]) {
        self.until(&format!("{want:?}"), |view| {
            let have = view
                .instances
                .as_ref()
                .map(|all| all.iter().map(|one| one.address.as_str()).collect::<Vec<_>>());
            view.lost.is_none() && have.is_some_and(|have| have == want)
        })
        .await;
    }

    /// Waits until the registry is lost.
    pub(crate) async fn until_lost(&self) {
        self.until("a loss", |view| view.lost.is_some()).await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}
