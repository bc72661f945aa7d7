//! Nacos for the tests: how it is started, and what stands in it, asked and told by HTTP.
//!
//! Instances are put as those of a client of Nacos 1 that will be heard of again in an hour. Source: Nacos 2.2.4.

use super::support::{http_delete, http_get, http_post, peers, within};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where SOFARPC has its services.
const NAMESPACE: &str = "sofa-rpc";
/// So much above the port of HTTP is the one that clients have a connection to.
const ABOVE: u16 = 1_000;
/// After a start it answers before it can write.
const WRITE_MAX: Duration = Duration::from_secs(30);

pub(crate) fn command(dir: &Path, port: u16) -> Command {
    let project = peers::folder().join("nacos-server");
    let (home, conf) = (dir.display(), project.join("conf/application.properties"));
    let mut command = Command::new("java");
    command.args(["-Xms192m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
        .args([format!("-Dnacos.home={home}"), format!("-Duser.home={home}")])
        .args(["-Dnacos.standalone=true", "-Dserver.servlet.contextPath=/nacos"])
        .arg(format!("-Dserver.port={port}"))
        .arg(format!("-Dspring.config.additional-location=file:{}", conf.display()))
        .arg("-cp")
        .arg(project.join("out/nacos-server-1.jar"))
        .arg("peer.NacosServer");
    command
}

/// Whether it says that it is well: the naming module is the last to become so.
pub(crate) fn answers(at: SocketAddr) -> bool {
    let answer = http_get(at, "/nacos/v1/ns/operator/metrics");
    answer.is_ok_and(|(status, page)| status == 200 && page.contains("\"UP\""))
}

/// The addresses of a service; `None`: it could not be asked.
pub(crate) fn instances(at: SocketAddr, service: &str) -> Option<Vec<String>> {
    let path = format!("/nacos/v1/ns/instance/list?serviceName={service}:DEFAULT&namespaceId={NAMESPACE}");
    let (status, page) = http_get(at, &path).ok()?;
    let page: Value = serde_json::from_str(&page).ok().filter(|_| status == 200)?;
    let hosts = page["hosts"].as_array()?.iter();
    Some(hosts.map(|host| format!("{}:{}", host["ip"].as_str().expect("an ip"), host["port"])).collect())
}

/// Has the connection of this process torn, as a network does that forgot it: this version of Nacos ends no connection whose
/// other end merely hangs.
pub(crate) fn tear(at: SocketAddr, pid: u32) {
    let port = at.port() + ABOVE;
    let ss = |arguments: &str| {
        let ran = Command::new("ss").args(arguments.split(' ')).output().expect("ss runs");
        assert!(ran.status.success(), "ss {arguments}: {ran:?}");
        String::from_utf8(ran.stdout).expect("ss writes text")
    };
    let all = ss(&format!("-tnpH dst = {}:{port}", at.ip()));
    let line = all.lines().find(|line| line.contains(&format!("pid={pid},"))).expect("it is connected");
    let own = line.split_whitespace().nth(3).and_then(|own| own.rsplit_once(':')).expect("an address").1;
    ss(&format!("-KtnH sport = :{own} and dport = :{port}"));
}

/// Writes an instance.
pub(crate) fn put(at: SocketAddr, service: &str, address: &str) {
    let metadata = json!({
        "protocol": "bolt",
        "interface": service,
        "preserved.heart.beat.timeout": "3600000",
        "preserved.ip.delete.timeout": "3600000",
    });
    let path = format!("{}&metadata={}", one(service, address), escaped(&metadata.to_string()));
    done("put", || http_post(at, &path));
}

/// Takes an instance away.
pub(crate) fn take(at: SocketAddr, service: &str, address: &str) {
    let path = one(service, address);
    done("taken", || http_delete(at, &path));
}

fn one(service: &str, address: &str) -> String {
    let (ip, port) = address.split_once(':').expect("a port");
    format!(
        "/nacos/v1/ns/instance?serviceName={service}:DEFAULT&namespaceId={NAMESPACE}&ip={ip}&port={port}\
         &ephemeral=true"
    )
}

fn done(what: &str, mut ask: impl FnMut() -> Result<(u16, String), String>) {
    let mut last = None;
    let done = within(WRITE_MAX, || {
        last = Some(ask());
        matches!(last, Some(Ok((200, _))))
    });
    assert!(done, "an instance should be {what}: {last:?}");
}

fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}
