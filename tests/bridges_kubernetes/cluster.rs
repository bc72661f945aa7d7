//! The API server, and the tests' own hands at it: `curl`, so that nothing of the client under test is believed.
//!
//! Each story has a namespace of its own. After the API of Kubernetes 1.34.

use super::servers::{BEHIND, KUBERNETES};
use super::support::{Child, netns, peers};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who may do everything.
const TOKEN: &str = "admin-token";
/// The folder of what is ours in a namespace.
const SLICES: &str = "endpointslices";

pub(crate) fn command(dir: &Path) -> Command {
    certificates(dir);
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(peers::folder().join("kube-apiserver/out/kube-apiserver"));
    command.args([
        format!("--etcd-servers=http://{BEHIND}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", KUBERNETES.port()),
        format!("--tls-cert-file={}", file("server.pem")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=false".to_owned(),
        format!("--service-account-issuer=https://{KUBERNETES}"),
        format!("--service-account-key-file={}", file("accounts.key")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    command
}

/// A CA of one day, the server's certificate for 127.0.0.1, and a key for the accounts of services.
fn certificates(dir: &Path) {
    std::fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n")).expect("a file");
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1").expect("a file");
    for args in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test-ca -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san",
        "genrsa -out accounts.key 2048",
    ] {
        let done =
            Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        assert!(done.expect("openssl: run tests/setup.sh").success(), "openssl {args}");
    }
}

fn authority() -> PathBuf {
    netns::dir().join("kubernetes/ca.pem")
}

/// Whether it takes calls.
pub(crate) fn answers() -> bool {
    curl("GET", "/readyz", None).is_ok_and(|(status, _)| status == 200)
}

/// Curl, as the admin, to this path.
fn client(path: &str) -> Command {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "-H",
        &format!("Authorization: Bearer {TOKEN}"),
        "-H",
        "Content-Type: application/json",
    ]);
    command.arg("--cacert").arg(authority()).arg(format!("https://{KUBERNETES}{path}"));
    command
}

/// Asks by curl: the status, and what was answered.
fn curl(method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String), String> {
    let mut command = client(path);
    command.args(["--max-time", "10", "-X", method, "-w", "\n%{http_code}"]);
    if body.is_some() {
        command.args(["--data-binary", "@-"]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl: run tests/setup.sh");
    let mut stdin = child.stdin.take().expect("a pipe");
    if let Some(body) = body {
        stdin.write_all(body.to_string().as_bytes()).expect("curl reads");
    }
    drop(stdin);
    let told = child.wait_with_output().expect("curl ends");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let (answer, status) = text.rsplit_once('\n').unwrap_or_default();
    match status.parse() {
        Ok(status) if told.status.success() => Ok((status, answer.to_owned())),
        _ => Err(String::from_utf8_lossy(&told.stderr).into_owned()),
    }
}

/// What it answers with a status of success.
#[track_caller]
fn done(method: &str, path: &str, body: Option<&Value>) -> Value {
    let (status, answer) =
        curl(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// A namespace, with what stands in it.
#[derive(Clone, Debug)]
pub(crate) struct Namespace(&'static str);

impl Namespace {
    /// Makes it.
    pub(crate) fn new(name: &'static str) -> Self {
        done("POST", "/api/v1/namespaces", Some(&json!({ "metadata": { "name": name } })));
        Self(name)
    }

    /// A kubeconfig that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let path = netns::dir().join(format!("{}.yaml", self.0));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
             clusters: [{{ name: c, cluster: {{ server: 'https://{KUBERNETES}', certificate-authority: '{}' }} }}]\n\
             users: [{{ name: u, user: {{ token: {TOKEN} }} }}]\n\
             contexts: [{{ name: main, context: {{ cluster: c, user: u, namespace: {} }} }}]\n",
            authority().display(),
            self.0
        );
        std::fs::write(&path, text).expect("a kubeconfig");
        path
    }

    fn path(&self, group: &str, kind: &str) -> String {
        let root = if group == "v1" { "/api" } else { "/apis" };
        format!("{root}/{group}/namespaces/{}/{kind}", self.0)
    }

    fn slices_path(&self) -> String {
        self.path("discovery.k8s.io/v1", SLICES)
    }

    /// A plain Service and one slice of it, as controllers would write them: hosts, and whether each is ready.
    pub(crate) fn put(&self, service: &str, port: u16, hosts: &[(&str, bool)]) {
        let ports = json!([{ "name": "main", "port": port, "protocol": "TCP" }]);
        let of = json!({
            "metadata": { "name": service },
            "spec": { "clusterIP": "None", "ports": ports },
        });
        done("POST", &self.path("v1", "services"), Some(&of));
        done("POST", &self.slices_path(), Some(&self.slice(service, port, hosts)));
    }

    /// The same slice with other hosts.
    pub(crate) fn change(&self, service: &str, port: u16, hosts: &[(&str, bool)]) {
        let path = format!("{}/{service}-1", self.slices_path());
        done("PUT", &path, Some(&self.slice(service, port, hosts)));
    }

    fn slice(&self, service: &str, port: u16, hosts: &[(&str, bool)]) -> Value {
        let endpoint =
            |(host, ready): &(&str, bool)| json!({ "addresses": [host], "conditions": { "ready": ready } });
        json!({
            "metadata": {
                "name": format!("{service}-1"),
                "namespace": self.0,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "main", "port": port, "protocol": "TCP" }],
            "endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>(),
        })
    }

    /// Takes the slice of a plain Service away.
    pub(crate) fn take(&self, service: &str) {
        done("DELETE", &format!("{}/{service}-1", self.slices_path()), None);
    }

    fn slices_of(&self, service: &str) -> String {
        format!("{}?labelSelector=kubernetes.io%2Fservice-name%3D{service}", self.slices_path())
    }

    /// The slices of a Service.
    pub(crate) fn slices(&self, service: &str) -> Vec<Value> {
        done("GET", &self.slices_of(service), None)["items"].as_array().expect("a list").clone()
    }

    /// The same from now on, with every change.
    pub(crate) fn record(&self, service: &str) -> Record {
        let path = self.slices_of(service);
        let now = done("GET", &path, None);
        let version = now["metadata"]["resourceVersion"].as_str().expect("a version");
        let log = netns::dir().join(format!("{}-{service}.record", self.0));
        let mut command = client(&format!("{path}&watch=1&resourceVersion={version}"));
        command.arg("--no-buffer").stdin(Stdio::null());
        command.stdout(File::create(&log).expect("a file")).stderr(Stdio::inherit());
        let first = now["items"].as_array().expect("a list").clone();
        Record { first, log, _curl: Child::spawn(&mut command) }
    }

    /// Who has the seats of this namespace.
    pub(crate) fn holders(&self) -> Vec<String> {
        let leases = done("GET", &self.path("coordination.k8s.io/v1", "leases"), None);
        let holder = |lease: &Value| lease["spec"]["holderIdentity"].as_str().map(str::to_owned);
        leases["items"].as_array().expect("a list").iter().filter_map(holder).collect()
    }
}

/// Every change of a Service's slices, as the server tells of them: nothing can be there for too short a time to be seen.
pub(crate) struct Record {
    first: Vec<Value>,
    log: PathBuf,
    _curl: Child,
}

impl Record {
    /// All sets of slices that stood there so far, one after the other.
    pub(crate) fn states(&self) -> Vec<Vec<Value>> {
        let name = |slice: &Value| slice["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut now: BTreeMap<String, Value> =
            self.first.iter().map(|slice| (name(slice), slice.clone())).collect();
        let mut states = vec![now.values().cloned().collect()];
        let told = std::fs::read_to_string(&self.log).expect("a file");
        // The last line may not be whole yet.
        for line in told.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: Value = serde_json::from_str(line).expect("an event is JSON");
            let slice = event["object"].clone();
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => drop(now.insert(name(&slice), slice)),
                Some("DELETED") => drop(now.remove(&name(&slice))),
                _ => panic!("{event}"),
            }
            states.push(now.values().cloned().collect());
        }
        states
    }
}

/// What the annotations of slices list.
pub(crate) fn entries(slices: &[Value]) -> Vec<Value> {
    let of = |slice: &Value| {
        let text = slice["metadata"]["annotations"]["outrigger/services"].as_str().expect("an annotation");
        serde_json::from_str::<Vec<Value>>(text).expect("a list")
    };
    slices.iter().flat_map(of).collect()
}
