//! An application that a sidecar registers in `ZooKeeper`: each service at one port of every host here.

use super::confs::{ZK, head};
use super::lists::until;
use super::servers::HOSTS;
use super::support::echo::Upstream;
use super::support::raw::{Client, ECHO, Wire};
use super::support::{Sidecar, free_port};
use super::zk;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// How long a leaving sidecar may take.
const LEAVE_MAX: Duration = Duration::from_secs(30);

/// A sidecar whose calls an application answers, whatever the service.
pub(crate) struct Provider {
    sidecar: Sidecar,
    app: Upstream,
    pub(crate) port: u16,
}

impl Provider {
    /// Registers services: framework, name, and what else a line says (`, version: …`).
    pub(crate) fn start(name: &str, services: &[(&str, &str, &str)]) -> Self {
        let (app, port) = (Upstream::start(), free_port());
        let mut text = head(name, &[ZK], None);
        text.push_str("register:\n");
        for (at, host) in HOSTS.into_iter().enumerate() {
            for (which, (framework, service, more)) in services.iter().enumerate() {
                writeln!(
                    text,
                    "  own{at}-{which}: {{ in: zk, service: {service}, framework: {framework}, host: {host}, port: {port}, \
                     local: \"{}\"{more} }}",
                    app.address()
                )
                .expect("a text grows");
            }
        }
        text.push_str("listeners:\n");
        for (at, host) in HOSTS.into_iter().enumerate() {
            writeln!(
                text,
                "  at{at}: {{ bind: \"{host}:{port}\", protocol: [dubbo, bolt], routes: [{{ to: up }}] }}"
            )
            .expect("a text grows");
        }
        writeln!(text, "clusters:\n  up: {{ endpoints: [\"{}\"] }}", app.address()).expect("a text grows");
        let sidecar = Sidecar::start(&text);
        until("all is registered", || {
            let (_, page) = sidecar.admin_get("/registries");
            let page: Value = serde_json::from_str(&page).expect("/registries is JSON");
            let all = page["registered"].as_object().expect("what is registered");
            let is_done = |one: &Value| {
                one["why_not"].is_null()
                    && one["registries"][0]["pending"] == 0
                    && !one["registries"][0]["address"].is_null()
            };
            let stand = |(framework, service, _): &(&str, &str, &str)| {
                let folder = match *framework {
                    "dubbo" => format!("/dubbo/{service}/providers"),
                    "sofarpc" => format!("/sofa-rpc/{service}/providers"),
                    _ => format!("/services/{service}"),
                };
                zk::children(&folder).len() == HOSTS.len()
            };
            all.len() == services.len() * HOSTS.len()
                && all.values().all(is_done)
                && services.iter().all(stand)
        });
        Self { sidecar, app, port }
    }

    /// A sidecar that knows one registry alone calls a service of Dubbo and one of SOFARPC; `head`: how its conf begins.
    pub(crate) fn is_called(&self, head: &str, registry: &str, dubbo: &str, sofa: &str) {
        let ports = [free_port(), free_port()];
        let _caller = Sidecar::start(&format!(
            "{head}listeners:\n  dubbo: {{ bind: \"127.0.0.1:{}\", protocol: dubbo, routes: [ {{ to: d }} ] }}\n  \
             bolt: {{ bind: \"127.0.0.1:{}\", protocol: bolt, routes: [ {{ to: s }} ] }}\n\
             clusters:\n  d: {{ discover: {{ registry: {registry}, service: {dubbo}, framework: dubbo }} }}\n  \
             s: {{ discover: {{ registry: {registry}, service: {sofa}, framework: sofarpc }} }}\n",
            ports[0], ports[1]
        ));
        for (wire, port, service) in [(Wire::Dubbo, ports[0], dubbo), (Wire::V1, ports[1], sofa)] {
            let (before, mut client) = (self.app.calls(), Client::connect(port));
            until("a call comes through", || {
                client.ask(&wire.call(7).service(service)).bytes == wire.answer(7, ECHO)
            });
            assert!(self.app.calls() > before, "{wire:?}");
        }
    }

    /// It leaves in good order.
    pub(crate) fn leave(mut self) {
        self.sidecar.term();
        assert!(self.sidecar.wait(LEAVE_MAX).success());
    }
}

/// A port of every host, as addresses, in order.
pub(crate) fn addresses(port: u16) -> Vec<String> {
    HOSTS.iter().map(|host| format!("{host}:{port}")).collect()
}
