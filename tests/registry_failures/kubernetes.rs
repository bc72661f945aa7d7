//! Kubernetes for the tests: how an API server is started over an etcd of its own, and what stands in it.
//!
//! What is asked and told goes by HTTPS, a connection a question, and is read by what the API itself says and the annotation
//! that slices of sidecars bear. There are no controllers here: what a garbage collector would do, a test does. Source: the API
//! server of Kubernetes 1.34, as `tests/setup.sh` builds it.

use super::support::peers;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Where the sidecars have their slices.
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Who may do everything; the server knows no other.
const TOKEN: &str = "admin-token";
/// How long an answer may take.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The label by which sidecars know each other's slices, and the annotation in which they say what is given.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SERVICES: &str = "outrigger/services";

/// A CA of two days, the server's certificate for both of its names, and a key for the accounts of services.
pub(crate) fn certificates(dir: &Path) {
    std::fs::write(dir.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n")).expect("a file");
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost").expect("a file");
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        let done = command.args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        assert!(done.expect("openssl: run tests/setup.sh").success(), "openssl {args}");
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test-ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile san",
    );
    openssl("genrsa -out accounts.key 2048");
}

/// The API server at `port`, over the etcd at the one above. Unless it `remembers` changes itself, it knows those alone that its
/// etcd has not forgotten.
pub(crate) fn command(dir: &Path, port: u16, remembers: bool) -> Command {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(peers::folder().join("kube-apiserver/out/kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", port + 1))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(format!("--secure-port={port}"))
        .arg(format!("--tls-cert-file={}", file("server.pem")))
        .arg(format!("--tls-private-key-file={}", file("server.key")))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .args(["--authorization-mode=RBAC", "--anonymous-auth=false"])
        .arg(format!("--service-account-issuer=https://127.0.0.1:{port}"))
        .arg(format!("--service-account-key-file={}", file("accounts.key")))
        .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
        .args(["--service-cluster-ip-range=10.96.0.0/24", "--endpoint-reconciler-type=none"])
        .args(["--disable-admission-plugins=ServiceAccount", "--profiling=false"])
        .arg(format!("--watch-cache={remembers}"));
    command
}

/// A kubeconfig of who may do everything, for a server that is reached by this name.
pub(crate) fn kubeconfig(dir: &Path, host: &str) -> PathBuf {
    let path = dir.join(format!("kubeconfig-{}.yaml", host.replace(':', "-")));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
         clusters: [{{ name: c, cluster: {{ server: 'https://{host}', certificate-authority: '{}' }} }}]\n\
         users: [{{ name: u, user: {{ token: {TOKEN} }} }}]\n\
         contexts: [{{ name: main, context: {{ cluster: c, user: u, namespace: default }} }}]\n",
        dir.join("ca.pem").display()
    );
    std::fs::write(&path, text).expect("a kubeconfig");
    path
}

/// The tests' own hands in one server.
pub(crate) struct Hands {
    port: u16,
    tls: Arc<ClientConfig>,
}

impl Hands {
    /// In the server at `port`, whose certificates are in `dir`.
    pub(crate) fn new(dir: &Path, port: u16) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(dir.join("ca.pem")).expect("a CA");
        roots.add(ca).expect("a CA that can be trusted");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
        let tls = tls.expect("versions of TLS").with_root_certificates(roots).with_no_client_auth();
        Self { port, tls: Arc::new(tls) }
    }

    /// Whether it takes questions, and has made the namespace that is always there.
    pub(crate) fn answers(&self) -> bool {
        ["/readyz", "/api/v1/namespaces/default"]
            .iter()
            .all(|path| self.ask("GET", path, None).is_ok_and(|(status, _)| status == 200))
    }

    /// The addresses of a service, as slices of sidecars list them; `None`: it could not be asked.
    pub(crate) fn instances(&self, service: &str) -> Option<Vec<String>> {
        let mut addresses = Vec::new();
        for slice in self.slices()? {
            for entry in entries(&slice) {
                if entry["service"] == service {
                    addresses.push(entry["address"].as_str().expect("an address").to_owned());
                }
            }
        }
        Some(addresses)
    }

    /// Writes an instance, in a slice of its own, which nobody keeps.
    pub(crate) fn put(&self, service: &str, address: &str) {
        let (ip, port) = address.split_once(':').expect("a port");
        let port: u16 = port.parse().expect("a number");
        let entry =
            json!([{ "framework": "dubbo", "service": service, "protocol": "dubbo", "address": address }]);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name(address),
                "labels": { MANAGED_BY: "outrigger", "kubernetes.io/service-name": "operators" },
                "annotations": { SERVICES: entry.to_string() },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "dubbo", "port": port, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [ip] }],
        });
        let answer = self.ask("POST", SLICES, Some(&slice));
        assert!(matches!(answer, Ok((201, _))), "{address} should be put: {answer:?}");
    }

    /// Takes an instance away that was put.
    pub(crate) fn take(&self, address: &str) {
        self.delete(&name(address));
    }

    /// Deletes every slice that lists a service, as an operator does who cleans up too much.
    pub(crate) fn clear(&self, service: &str) {
        let slices = self.slices().expect("it can be asked");
        let listing =
            slices.iter().filter(|slice| entries(slice).iter().any(|one| one["service"] == service));
        let names: Vec<&str> = listing.filter_map(|slice| slice["metadata"]["name"].as_str()).collect();
        assert!(!names.is_empty(), "{service} stands in slices");
        for name in names {
            self.delete(name);
        }
    }

    /// Does what the garbage collector does when a pod is gone: deletes what it alone owns.
    pub(crate) fn collect(&self, uid: &str) {
        for slice in self.slices().expect("it can be asked") {
            let owners = slice["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if !owners.is_empty() && owners.iter().all(|owner| owner["uid"] == uid) {
                self.delete(slice["metadata"]["name"].as_str().expect("a name"));
            }
        }
    }

    /// The version that whoever lists all slices now goes on from.
    pub(crate) fn version(&self) -> String {
        let (_, page) = self.ask("GET", SLICES, None).expect("it can be asked");
        page["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
    }

    /// What is said to one who watches from a version of which the changes since are not known any more.
    pub(crate) fn watched(&self, version: &str) -> Value {
        let path = format!("{SLICES}?watch=true&resourceVersion={version}&timeoutSeconds=1");
        let (status, page) = self.ask("GET", &path, None).expect("it can be asked");
        assert_eq!(status, 200, "{page}");
        page
    }

    fn delete(&self, name: &str) {
        let answer = self.ask("DELETE", &format!("{SLICES}/{name}"), None);
        assert!(matches!(answer, Ok((200, _))), "{name} should go: {answer:?}");
    }

    /// The slices of sidecars, and of operators who write the same.
    fn slices(&self) -> Option<Vec<Value>> {
        let path = format!("{SLICES}?labelSelector={}%3Doutrigger", MANAGED_BY.replace('/', "%2F"));
        let (status, page) = self.ask("GET", &path, None).ok()?;
        (status == 200).then(|| page["items"].as_array().cloned().unwrap_or_default())
    }

    /// Status and body. By HTTP/1.0, so that the body ends with the connection.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let socket = TcpStream::connect_timeout(&at, WAIT_MAX)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        socket.set_nodelay(true)?;
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        let session = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // Some ends are not said.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let answer = String::from_utf8(answer).map_err(io::Error::other)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        Ok((status.ok_or(ErrorKind::InvalidData)?, body))
    }
}

/// What the annotation of a slice lists.
fn entries(slice: &Value) -> Vec<Value> {
    let said = slice["metadata"]["annotations"][SERVICES].as_str().expect("an annotation");
    let entries: Value = serde_json::from_str(said).expect("JSON");
    entries.as_array().expect("a list").clone()
}

/// The slice of an instance that was put.
fn name(address: &str) -> String {
    format!("operators-{}", address.replace(['.', ':'], "-"))
}
