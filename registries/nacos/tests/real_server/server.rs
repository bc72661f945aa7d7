//! A real Nacos in a network of its own, and the test inside that network with it.
//!
//! The server's gRPC ports listen on every address, so the whole test runs again as a child in a new network and process
//! namespace: what is started in there ends with it, and nobody else can reach it. Spoken to by HTTP, which is independent
//! of what is tested. Needs root, or namespaces of users.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{self, Instant},
};

/// Where its HTTP is; gRPC is 1000 above.
pub(crate) const ADDRESS: &str = "127.0.0.1:22740";
/// Says that we are inside.
const INSIDE: &str = "OUTRIGGER_TEST_NACOS_INSIDE";
/// How long a server may take to start, on a machine that does other things as well.
const START: Duration = Duration::from_secs(60);

/// Whether this is the child inside; otherwise runs the test `name` there, and fails as it does.
pub(crate) fn inside(name: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    setup();
    let own = env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    // What is root needs no namespace of users; who is not becomes root in one.
    if Command::new("id").arg("-u").output().expect("id").stdout != b"0\n" {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]);
    command.arg("ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture").arg(own).arg(name);
    let status = command.env(INSIDE, "1").status().expect("unshare");
    assert!(status.success(), "{name} failed inside: {status}");
    false
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn setup() {
    let script = repository().join("tests/setup.sh");
    let done = Command::new("sh").arg(&script).stdout(Stdio::null()).status().expect("a shell");
    assert!(done.success(), "{} failed: run it to see why", script.display());
}

/// The server. It is killed when this is dropped.
pub(crate) struct Server {
    home: TempDir,
    process: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let mut server = Self { home: TempDir::new().expect("a directory"), process: None };
        server.run().await;
        server
    }

    /// Starts the process on what was stored before, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        let peer = repository().join("tests/peers/nacos-server");
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let process = Command::new("java")
            .args([
                "-Xms192m",
                "-Xmx384m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dnacos.standalone=true",
            ])
            .arg(format!("-Dnacos.home={}", self.home.path().display()))
            .arg(format!("-Duser.home={}", self.home.path().display()))
            .arg(format!(
                "-Dspring.config.additional-location=file:{}",
                peer.join("conf/application.properties").display()
            ))
            // In these two, defaults of its own would go before the file.
            .args(["-Dserver.port=22740", "-Dserver.servlet.contextPath=/nacos"])
            .arg("-cp")
            .arg(peer.join("out/nacos-server-1.jar"))
            .arg("peer.NacosServer")
            // It writes its logs wherever it stands.
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("java");
        self.process = Some(process);
        let until = Instant::now() + START;
        loop {
            // The health of the naming module is the last to become well.
            let up = request("GET", "/v1/ns/operator/metrics", &[]).await;
            if up.is_ok_and(|(status, body)| status == 200 && body.contains("\"UP\"")) {
                return;
            }
            assert!(Instant::now() < until, "the server does not start:\n{}", self.last_words());
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills it as if by a crash.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Has it hang.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("a process").id();
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().expect("kill");
        assert!(sent.success());
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("out.log")
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks the server by HTTP and expects that it does what is asked, if need be after a while: after a start it answers before
/// it can write.
pub(crate) async fn ask(method: &str, path: &str, query: &[(&str, &str)]) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = request(method, path, query).await;
        match answer {
            Ok((200, body)) => return body,
            _ if Instant::now() < until => time::sleep(Duration::from_millis(100)).await,
            other => panic!("{method} {path} {query:?}: {other:?}"),
        }
    }
}

/// Asks once; the status and the body.
async fn request(method: &str, path: &str, query: &[(&str, &str)]) -> std::io::Result<(u16, String)> {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    // By HTTP/1.0, since the end of the connection is then the end of the body.
    let head = format!("{method} /nacos{path}?{} HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n", pairs.join("&"));
    let asking = async {
        let mut stream = TcpStream::connect(ADDRESS).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = time::timeout(Duration::from_secs(5), asking).await??;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
