//! A real API server of Kubernetes with an etcd behind it, on free ports of loopback, with data that goes with them.
//!
//! It can be killed, told to end, stopped and started again, each by its own process id; and a relay in front of it can be cut
//! or made to hold everything back, so that one client is cut off while the test itself is not. Everything ends with the test,
//! however that ends. Test code: it asserts and panics.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener as Port},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};

/// What a server may take to start on a machine that does other things as well.
const START: Duration = Duration::from_secs(90);
/// Who may do everything, who may only read, and who may do nothing; the server knows no fourth.
const TOKENS: &str = "admin-token,admin,1,\"system:masters\"\nreader-token,reader,2\nnobody-token,nobody,3\n";

/// The server.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    etcd: Process,
    api: Option<Process>,
    /// Those that were told to end and may not have done so.
    leaving: Vec<Process>,
    relay: Relay,
}

/// A process of ours: it ends with this, and with the thread that started it.
struct Process(Child);

impl Process {
    fn start(program: &Path, args: &[String], log: &Path) -> Self {
        assert!(program.exists(), "{} is missing: run tests/setup.sh", program.display());
        let log = fs::File::options().create(true).append(true).open(log).expect("a log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("setpriv");
        Self(child)
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill");
        assert!(sent.success(), "{signal}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    /// Starts both; they answer.
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().expect("a directory");
        certificates(dir.path());
        let (client, peer, port) = (free(), free(), free());
        let args = [
            "--name=t".to_owned(),
            format!("--data-dir={}", dir.path().join("etcd").display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=t=http://127.0.0.1:{peer}"),
            "--log-level=warn".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        let etcd = Process::start(&peers().join("etcd-server/out/etcd"), &args, &dir.path().join("etcd.log"));
        fs::write(dir.path().join("etcd.url"), format!("http://127.0.0.1:{client}")).expect("a file");
        let relay = Relay::start(port).await;
        let mut server = Self { dir, port, etcd, api: None, leaving: Vec::new(), relay };
        server.run().await;
        server
    }

    /// Starts an API server on what was stored before; it answers.
    pub(crate) async fn run(&mut self) {
        self.spawn();
        let until = Instant::now() + START;
        while !self.is_ready().await {
            let ended = self.api.as_mut().and_then(|api| api.0.try_wait().expect("a child"));
            assert!(
                ended.is_none() && Instant::now() < until,
                "no API server: {ended:?}\n{}",
                self.last_words()
            );
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn spawn(&mut self) {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let port = self.port;
        let args = [
            format!("--etcd-servers={}", fs::read_to_string(file("etcd.url")).expect("a file")),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=false".to_owned(),
            format!("--service-account-issuer=https://127.0.0.1:{port}"),
            format!("--service-account-key-file={}", file("accounts.key")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let program = peers().join("kube-apiserver/out/kube-apiserver");
        self.api = Some(Process::start(&program, &args, &self.dir.path().join("api.log")));
    }

    async fn is_ready(&self) -> bool {
        let client = self.client().await;
        let ready = http_ready(&client);
        time::timeout(Duration::from_secs(2), ready).await.unwrap_or(false)
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.api = None;
    }

    /// Tells it to end, which takes it as long as it likes; nobody has its port then.
    pub(crate) async fn end(&mut self) {
        let Some(api) = self.api.take() else { return };
        api.signal("TERM");
        self.leaving.push(api);
        let until = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok() {
            assert!(Instant::now() < until, "it does not let go of its port");
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// It hangs from now on.
    pub(crate) fn hang(&self) {
        self.api.as_ref().expect("a server").signal("STOP");
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.api.as_ref().expect("a server").signal("CONT");
    }

    /// The relay that registries are connected through.
    pub(crate) fn relay(&self) -> &Relay {
        &self.relay
    }

    /// A kubeconfig for who has this token; its server is the relay.
    pub(crate) fn kubeconfig(&self, token: &str) -> PathBuf {
        self.kubeconfig_at(token, self.relay.port)
    }

    fn kubeconfig_at(&self, token: &str, port: u16) -> PathBuf {
        let path = self.dir.path().join(format!("{token}-{port}.yaml"));
        let authority = self.dir.path().join("ca.pem");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
             clusters: [{{ name: c, cluster: {{ server: 'https://127.0.0.1:{port}', certificate-authority: '{}' }} }}]\n\
             users: [{{ name: u, user: {{ token: {token} }} }}]\n\
             contexts: [{{ name: main, context: {{ cluster: c, user: u, namespace: default }} }}]\n",
            authority.display()
        );
        fs::write(&path, text).expect("a kubeconfig");
        path
    }

    /// A client of the test's own, not through the relay.
    pub(crate) async fn client(&self) -> Client {
        let read = Kubeconfig::read_from(self.kubeconfig_at("admin-token", self.port)).expect("a kubeconfig");
        let mut config =
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.expect("a conf");
        config.proxy_url = None;
        Client::try_from(config).expect("a client")
    }

    /// Makes a namespace.
    pub(crate) async fn namespace(&self, name: &str) {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let api: Api<Namespace> = Api::all(self.client().await);
        api.create(&PostParams::default(), &namespace).await.expect("a namespace");
    }

    fn last_words(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let (api, etcd) = (read("api.log"), read("etcd.log"));
        let last = |text: &str| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        format!("{}\n{}\netcd {}", last(&api), last(&etcd), self.etcd.0.id())
    }
}

async fn http_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
    client.request_text(request).await.is_ok()
}

fn free() -> u16 {
    // Asked for and let go: a server of Go cannot be given a socket.
    Port::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|one| one.local_addr()).expect("a port").port()
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers")
}

/// A CA of one day, the server's certificate for 127.0.0.1, and a key for the accounts of services.
fn certificates(dir: &Path) {
    fs::write(dir.join("tokens.csv"), TOKENS).expect("a file");
    fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1").expect("a file");
    let openssl = |args: &str| {
        let done =
            Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        assert!(done.expect("openssl: run tests/setup.sh").success(), "openssl {args}");
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test-ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san",
    );
    openssl("genrsa -out accounts.key 2048");
}

/// What a relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// It holds everything back.
    Hung,
    /// It ends every connection.
    Cut,
}

/// Stands between a registry and the server.
pub(crate) struct Relay {
    port: u16,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (way, seen) = watch::channel(Way::Open);
        let task = tokio::spawn(async move {
            loop {
                let Ok((from, _)) = listener.accept().await else { continue };
                if *seen.borrow() != Way::Cut {
                    tokio::spawn(carry(from, to, seen.clone()));
                }
            }
        });
        Self { port, way, task }
    }

    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    pub(crate) fn hang(&self) {
        self.way.send_replace(Way::Hung);
    }

    pub(crate) fn open(&self) {
        self.way.send_replace(Way::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(from: TcpStream, to: u16, mut way: watch::Receiver<Way>) {
    if way.wait_for(|way| *way != Way::Hung).await.is_err() {
        return;
    }
    let Ok(to) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let mut cut = way.clone();
    tokio::select! {
        () = one_way(from_read, to_write, way.clone()) => {}
        () = one_way(to_read, from_write, way) => {}
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if way.wait_for(|way| *way != Way::Hung).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
