//! The list of plug-ins: the only file outside their own crates that names them.
//!
//! A protocol or a registry joins the build by its crate and one line here; a conformance test walks both lists.

use std::{rc::Rc, sync::Arc};

use outrigger_codec::{Dialect, Link, StreamCodec, streams::LinkSettings};
use outrigger_discovery::Registry;

use crate::{
    conf::lower::{RegistryKind, RegistryPlan},
    session::{
        Bounds,
        exchange::Exchange,
        frames::Frames,
        probe::{Ask, Beat, Question, Talk},
        streams::Streams,
    },
    worker::{Shared, accept::Protocol, driver::Driver},
};

/// The dialects of this build, in the order in which they are asked whether a call is theirs.
pub const DIALECTS: &[&dyn Dialect] =
    &[&outrigger_triple::Triple, &outrigger_triple::TripleHttp, &outrigger_grpc::Grpc];

/// The protocol that dialects are spoken in when nothing else is said.
pub const SPOKEN_IN: &str = "http2";

/// Names each protocol's codec and the discipline that carries it; for *streams* also the protocol that it translates.
macro_rules! protocols {
    ($($name:literal: $codec:ty $(, $other:ty)? => $discipline:ident);* $(;)?) => {
        /// The protocols of this build, by the names the conf uses.
        pub const PROTOCOLS: &[&str] = &[$($name),*];

        /// Whether the calls of a protocol, or of a dialect, have an authority, a path and a query.
        pub fn exchanges(name: &str) -> bool {
            match name {
                $($name => protocols!(? $discipline),)*
                name => DIALECTS.iter().any(|dialect| dialect.name() == name),
            }
        }

        /// The heartbeat of a protocol, for who wants to know whether an endpoint is well; `None`: it has none.
        pub fn heartbeat(name: &str) -> Option<Box<dyn Talk>> {
            match name {
                $($name => protocols!(~ $discipline, $codec),)*
                _ => None,
            }
        }

        /// Starts every protocol in a worker.
        pub fn protocols(shared: &Rc<Shared>, bounds: Bounds) -> Vec<Rc<dyn Protocol>> {
            vec![$(protocols!(@ $discipline, $codec $(, $other)?; shared, bounds)),*]
        }

        #[cfg(test)]
        mod tests {
            use outrigger_codec::{ExchangeCodec as exchange, FrameCodec as frames, StreamCodec as streams};

            use crate::conformance::{self, Sniffer};

            #[test]
            fn every_protocol_keeps_its_promises() {
                $(conformance::$discipline::<$codec>($name);)*
            }

            #[test]
            fn no_two_protocols_claim_the_same_bytes() {
                let sniffers: &[(&str, Sniffer)] = &[$(($name, <$codec as $discipline>::sniff)),*];
                let openings = [$(conformance::opening::$discipline::<$codec>()),*];
                conformance::exclusive(sniffers, &openings);
            }
        }
    };
    (@ frames, $codec:ty; $shared:expr, $bounds:expr) => {
        Driver::<Frames<$codec>>::start($shared, $bounds) as Rc<dyn Protocol>
    };
    (@ exchange, $codec:ty; $shared:expr, $bounds:expr) => {
        Driver::<Exchange<$codec>>::start($shared, $bounds) as Rc<dyn Protocol>
    };
    (@ streams, $codec:ty, $other:ty; $shared:expr, $bounds:expr) => {
        Driver::<Streams<$codec, $other>>::start($shared, $bounds) as Rc<dyn Protocol>
    };
    (~ frames, $codec:ty) => { Some(Box::new(Beat::<$codec>::new())) };
    (~ exchange, $codec:ty) => { None };
    (~ streams, $codec:ty) => { None };
    (? frames) => { false };
    (? exchange) => { true };
    (? streams) => { true };
}

protocols! {
    "bolt": outrigger_bolt::Bolt => frames;
    "dubbo": outrigger_dubbo::Dubbo => frames;
    "http1": outrigger_http1::Http1 => exchange;
    "http2": outrigger_http2::Http2, outrigger_http1::Http1 => streams;
}

/// The names of protocols and dialects, each once.
pub fn names() -> impl Iterator<Item = &'static str> {
    let dialects = DIALECTS.iter().map(|dialect| dialect.name());
    let again = |at: usize, name: &str| DIALECTS.iter().take(at).any(|dialect| dialect.name() == name);
    let dialects = dialects.enumerate().filter(move |(at, name)| !again(*at, name)).map(|(_, name)| name);
    PROTOCOLS.iter().copied().chain(dialects)
}

/// One connection of the protocol that dialects are spoken in, for programs on either side of the sidecar (the demo)
/// and for questions of the house's own; `server`: its peer calls.
pub fn link(server: bool) -> Box<dyn Link + Send> {
    let settings = LinkSettings::default();
    Box::new(if server {
        outrigger_http2::Http2::serve(&settings)
    } else {
        outrigger_http2::Http2::dial(&settings)
    })
}

/// A call of an endpoint over a connection of its own: in the protocol that dialects are spoken in, or in plain HTTP/1.
pub fn ask(dialect: bool, question: Question) -> Box<dyn Talk> {
    let settings = LinkSettings::default();
    if dialect {
        Box::new(Ask::new(outrigger_http2::Http2::dial(&settings), question))
    } else {
        Box::new(Ask::new(<outrigger_http1::Http1 as StreamCodec>::dial(&settings), question))
    }
}

/// A question of the house's own in Dubbo2, and its answer.
pub mod dubbo2 {
    pub use outrigger_dubbo::{
        Dubbo,
        hessian::{
            Walker,
            tree::{Seen, Tree},
        },
        invoke::{Invocation, Returned, read, text, write},
    };
}

/// The kinds of registries of this build, by the names the conf uses.
pub const REGISTRIES: &[&str] = &[
    "file",
    #[cfg(feature = "zookeeper")]
    "zookeeper",
    #[cfg(feature = "nacos")]
    "nacos",
    #[cfg(feature = "kubernetes")]
    "kubernetes",
    #[cfg(feature = "etcd")]
    "etcd",
];

/// The registry that a conf names, of which nothing is connected to before it is asked; `None`: this build has none of its kind.
pub fn registry(plan: &RegistryPlan) -> Option<Arc<dyn Registry>> {
    match &plan.kind {
        RegistryKind::File(path) => Some(Arc::new(outrigger_registry_file::open(path))),
        #[cfg(feature = "zookeeper")]
        RegistryKind::ZooKeeper(plan) => Some(Arc::new(outrigger_registry_zookeeper::open(zookeeper(plan)))),
        #[cfg(feature = "nacos")]
        RegistryKind::Nacos(plan) => Some(Arc::new(outrigger_registry_nacos::open(nacos(plan)))),
        #[cfg(feature = "kubernetes")]
        RegistryKind::Kubernetes(plan) => {
            Some(Arc::new(outrigger_registry_kubernetes::open(kubernetes(plan))))
        }
        #[cfg(feature = "etcd")]
        RegistryKind::Etcd(plan) => Some(Arc::new(outrigger_registry_etcd::open(etcd(plan)))),
        #[allow(unreachable_patterns, reason = "a build may have fewer kinds")]
        _ => None,
    }
}

/// How often what is registered is looked after though nothing seems wrong.
#[cfg(any(feature = "zookeeper", feature = "nacos", feature = "kubernetes", feature = "etcd"))]
const RECONCILE: std::time::Duration = std::time::Duration::from_secs(60);

#[cfg(feature = "zookeeper")]
fn zookeeper(plan: &crate::conf::lower::ZooKeeperPlan) -> outrigger_registry_zookeeper::Settings {
    outrigger_registry_zookeeper::Settings {
        servers: plan.servers.clone(),
        chroot: plan.chroot.clone(),
        group: plan.group.clone(),
        auth: plan.auth.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        session_timeout: plan.session_timeout,
        reconcile: RECONCILE,
        ask: Some(Arc::new(crate::control::metadata::Asker::new())),
    }
}

#[cfg(feature = "nacos")]
fn nacos(plan: &crate::conf::lower::NacosPlan) -> outrigger_registry_nacos::Settings {
    outrigger_registry_nacos::Settings {
        servers: plan.servers.clone(),
        namespace: plan.namespace.clone(),
        group: plan.group.clone(),
        user: plan.auth.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        reconcile: RECONCILE,
        ask: Some(Arc::new(crate::control::metadata::Asker::new())),
    }
}

#[cfg(feature = "kubernetes")]
fn kubernetes(plan: &crate::conf::lower::KubernetesPlan) -> outrigger_registry_kubernetes::Settings {
    outrigger_registry_kubernetes::Settings {
        kubeconfig: plan.kubeconfig.clone(),
        context: plan.context.clone(),
        namespace: plan.namespace.clone(),
        pod: plan.pod.as_ref().map(|pod| outrigger_registry_kubernetes::Pod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ips: pod.ips.clone(),
        }),
        reconcile: RECONCILE,
        ask: Some(Arc::new(crate::control::metadata::Asker::new())),
        ..outrigger_registry_kubernetes::Settings::default()
    }
}

#[cfg(feature = "etcd")]
fn etcd(plan: &crate::conf::lower::EtcdPlan) -> outrigger_registry_etcd::Settings {
    outrigger_registry_etcd::Settings {
        servers: plan.servers.clone(),
        group: plan.group.clone(),
        auth: plan.auth.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        tls: plan.tls.as_ref().map(|tls| outrigger_registry_etcd::Tls {
            ca: tls.ca.clone(),
            identity: tls.identity.clone(),
            name: tls.name.clone(),
        }),
        lease: plan.lease,
        reconcile: RECONCILE,
        ask: Some(Arc::new(crate::control::metadata::Asker::new())),
    }
}
