//! Names, passwords and certificates, over a real etcd that asks for them.
#![allow(clippy::expect_used, reason = "a failing test is the point")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use outrigger_discovery::{Framework, Level, Registry, ServiceKey};
use outrigger_registry_etcd::{EtcdRegistry, Settings, Tls, open};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::time;

use support::{
    LEASE, Server,
    gateway::encode,
    watched::{Keeper, Watched, registration, until},
};

fn service(name: &str) -> ServiceKey {
    ServiceKey { framework: Framework::Plain, ..ServiceKey::new(name) }
}

/// A server on which `shop` may do what a registry does, and nothing else; its tokens live two seconds.
async fn guarded() -> Server {
    let mut server = Server::new("http", &["--auth-token-ttl", "2"]);
    server.restart().await;
    let gateway = server.gateway();
    for name in ["root", "shop"] {
        gateway.call("auth/user/add", &json!({ "name": name, "password": format!("{name}-secret") }));
        gateway.call("auth/role/add", &json!({ "name": name }));
        gateway.call("auth/user/grant", &json!({ "user": name, "role": name }));
    }
    for (from, to) in [("/dubbo/", "/dubbo0"), ("/outrigger/plain/", "/outrigger/plain0")] {
        let (key, range_end) = (encode(from.as_bytes()), encode(to.as_bytes()));
        let perm = json!({ "permType": "READWRITE", "key": key, "range_end": range_end });
        gateway.call("auth/role/grant", &json!({ "name": "shop", "perm": perm }));
    }
    gateway.call("auth/enable", &json!({}));
    server
}

fn as_user(server: &Server, auth: Option<(&str, &str)>) -> EtcdRegistry {
    let auth = auth.map(|(name, password)| (name.to_owned(), password.to_owned()));
    open(Settings { auth, ..server.settings() })
}

#[tokio::test]
async fn a_user_with_a_password_registers_and_finds_and_its_token_is_renewed() {
    let server = guarded().await;
    let registry = as_user(&server, Some(("shop", "shop-secret")));
    let mut keeper = Keeper::start(&registry);
    let one = registration(Framework::Plain, Level::Interface, 1);
    keeper.set(std::slice::from_ref(&one)).await;
    let watched = Watched::start(&registry, service("a.B"));
    watched.until_addresses(&["10.9.9.1:1"]).await;
    for port in 2..4 {
        // Longer than a token lives, and in all longer than the lease.
        time::sleep(LEASE).await;
        let next = registration(Framework::Plain, Level::Interface, port);
        keeper.set(&[one.clone(), next]).await;
        let want = ["10.9.9.1:1".to_owned(), format!("10.9.9.1:{port}")];
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        watched.until_addresses(&want).await;
        // One that is asked for with a token that is too old by now.
        let other = Watched::start(&registry, service(&format!("other{port}")));
        other.until_addresses(&[]).await;
        server
            .gateway()
            .login("root", "root-secret")
            .put(&format!("/outrigger/plain/other{port}/10.0.0.1:1"), b"");
        other.until_addresses(&["10.0.0.1:1"]).await;
    }
    assert_eq!((watched.view().gaps, registry.status().connections), (0, 1), "it was never lost");
    assert_eq!(registry.services(Framework::Plain).await.expect("names"), ["a.B", "other2", "other3"]);
    assert!(!format!("{registry:?}").contains("shop-secret"));
    keeper.end().await;
    registry.close().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_and_not_that_nobody_is_there() {
    let server = guarded().await;
    for (auth, said) in [
        (Some(("shop", "wrong")), "authentication failed"),
        (Some(("nobody", "shop-secret")), "authentication failed"),
        (None, "user name is empty"),
    ] {
        let registry = as_user(&server, auth);
        let watched = Watched::start(&registry, service("a.B"));
        let why = watched.until_lost().await;
        assert!(why.contains(said), "{auth:?}: {why}");
        assert_eq!(watched.view().instances, None);
        let keeper = Keeper::start(&registry);
        keeper.wish.set([registration(Framework::Plain, Level::Interface, 1)].into());
        until("why", async || keeper.trouble().is_some_and(|why| why.contains(said))).await;
        registry.services(Framework::Plain).await.expect_err("nobody is let in");
    }
    // Who may not look at one thing may look at others.
    let registry = as_user(&server, Some(("shop", "shop-secret")));
    let spring =
        Watched::start(&registry, ServiceKey { framework: Framework::Spring, ..ServiceKey::new("shop") });
    let why = spring.until_lost().await;
    assert!(why.contains("permission denied") && why.contains("/outrigger/spring/shop/"), "{why}");
    let plain = Watched::start(&registry, service("shop"));
    plain.until_addresses(&[]).await;
    let keeper = Keeper::start(&registry);
    keeper.wish.set(
        [
            registration(Framework::Plain, Level::Interface, 1),
            registration(Framework::Spring, Level::Interface, 1),
        ]
        .into(),
    );
    Watched::start(&registry, service("a.B")).until_addresses(&["10.9.9.1:1"]).await;
    until("why", async || keeper.trouble().is_some_and(|why| why.contains("permission denied"))).await;
    assert_eq!(plain.view().gaps, 0);
}

/// Somebody who signs certificates, in a folder of files.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("a certificate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).expect("a certificate");
        let authority = Self { folder: folder.join(name), issuer: Issuer::new(params, key) };
        fs::create_dir(&authority.folder).expect("a folder");
        fs::write(authority.file("ca.pem"), own.pem()).expect("a file");
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate for these names or addresses, and its key.
    fn sign(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.file(&format!("{file}.pem")), self.file(&format!("{file}.key")));
        fs::write(&files.0, signed.pem()).expect("a file");
        fs::write(&files.1, key.serialize_pem()).expect("a file");
        files
    }
}

async fn with_tls(
    authority: impl FnOnce(&Path) -> Authority,
    names: &[&str],
    asks: bool,
) -> (Server, Authority) {
    let mut server = Server::new("https", &["--enable-grpc-gateway=false"]);
    let authority = authority(server.dir.path());
    let (certificate, key) = authority.sign("server", names);
    server.argue(format!("--cert-file={}", certificate.display()));
    server.argue(format!("--key-file={}", key.display()));
    if asks {
        server.argue(format!("--trusted-ca-file={}", authority.file("ca.pem").display()));
        server.argue("--client-cert-auth".to_owned());
    }
    server.restart().await;
    (server, authority)
}

async fn finds_what_it_registers(settings: Settings) {
    let registry = open(settings);
    let mut keeper = Keeper::start(&registry);
    keeper.set(&[registration(Framework::Dubbo, Level::Both, 1)]).await;
    Watched::start(&registry, ServiceKey::new("a.B")).until_addresses(&["10.9.9.1:1"]).await;
    keeper.end().await;
    registry.close().await;
}

async fn is_lost(settings: Settings) -> String {
    let registry = open(settings);
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    let why = watched.until_lost().await;
    assert_eq!(watched.view().instances, None);
    why.to_string()
}

#[tokio::test]
async fn a_server_is_known_by_who_signed_its_certificate() {
    let (server, authority) = with_tls(|folder| Authority::new(folder, "right"), &["127.0.0.1"], false).await;
    let tls =
        |ca: PathBuf| Settings { tls: Some(Tls { ca, identity: None, name: None }), ..server.settings() };
    finds_what_it_registers(tls(authority.file("ca.pem"))).await;
    let wrong = Authority::new(server.dir.path(), "wrong");
    let why = is_lost(tls(wrong.file("ca.pem"))).await;
    assert!(why.contains("certificate"), "{why}");
    let why = is_lost(tls(wrong.file("none.pem"))).await;
    assert!(why.contains("none.pem"), "{why}");
    // Who speaks plainly to it is not understood.
    is_lost(server.settings()).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours_and_its_name_may_be_told() {
    let (server, authority) = with_tls(|folder| Authority::new(folder, "right"), &["etcd.test"], true).await;
    let (ca, ours) = (authority.file("ca.pem"), authority.sign("client", &["shop"]));
    let name = Some("etcd.test".to_owned());
    let settings = |tls: Tls| Settings { tls: Some(tls), ..server.settings() };
    let right = Tls { ca, identity: Some(ours), name };
    finds_what_it_registers(settings(right.clone())).await;
    is_lost(settings(Tls { identity: None, ..right.clone() })).await;
    let why = is_lost(settings(Tls { name: None, ..right.clone() })).await;
    assert!(why.contains("certificate"), "{why}");
    let wrong = Authority::new(server.dir.path(), "wrong");
    is_lost(settings(Tls { identity: Some(wrong.sign("client", &["shop"])), ..right.clone() })).await;
    // The files may be others at the next connection.
    let registry = open(settings(Tls { identity: Some(wrong.sign("later", &["shop"])), ..right }));
    let watched = Watched::start(&registry, ServiceKey::new("a.B"));
    watched.until_lost().await;
    for kind in ["pem", "key"] {
        fs::copy(authority.file(&format!("client.{kind}")), wrong.file(&format!("later.{kind}")))
            .expect("a file");
    }
    watched.until_addresses(&[]).await;
}
