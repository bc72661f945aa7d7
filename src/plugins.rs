//! The list of plug-ins: the only file outside their own crates that names them.
//!
//! A protocol or a registry joins the build by its crate and one line here; a conformance test walks both lists.

use std::{rc::Rc, sync::Arc};

use outrigger_discovery::Registry;

use crate::{
    conf::lower::RegistryPlan,
    session::{Bounds, exchange::Exchange, frames::Frames},
    worker::{Shared, accept::Protocol, driver::Driver},
};

/// Names each protocol's codec and the discipline that carries it.
macro_rules! protocols {
    ($($name:literal: $codec:ty => $discipline:ident),* $(,)?) => {
        /// The protocols of this build, by the names the conf uses.
        pub const PROTOCOLS: &[&str] = &[$($name),*];

        /// Whether a protocol's calls have an authority, a path and a query.
        pub fn exchanges(name: &str) -> bool {
            match name {
                $($name => protocols!(? $discipline),)*
                _ => false,
            }
        }

        /// Starts every protocol in a worker.
        pub fn protocols(shared: &Rc<Shared>, bounds: Bounds) -> Vec<Rc<dyn Protocol>> {
            vec![$(protocols!(@ $discipline, $codec, shared, bounds)),*]
        }

        #[cfg(test)]
        mod tests {
            use outrigger_codec::{ExchangeCodec as exchange, FrameCodec as frames};

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
    (@ frames, $codec:ty, $shared:expr, $bounds:expr) => {
        Driver::<Frames<$codec>>::start($shared, $bounds) as Rc<dyn Protocol>
    };
    (@ exchange, $codec:ty, $shared:expr, $bounds:expr) => {
        Driver::<Exchange<$codec>>::start($shared, $bounds) as Rc<dyn Protocol>
    };
    (? frames) => { false };
    (? exchange) => { true };
}

protocols! {
    "bolt": outrigger_bolt::Bolt => frames,
    "dubbo": outrigger_dubbo::Dubbo => frames,
    "http1": outrigger_http1::Http1 => exchange,
}

/// The registry that a conf names.
pub fn registry(plan: &RegistryPlan) -> Arc<dyn Registry> {
    match plan {
        RegistryPlan::File(path) => Arc::new(outrigger_registry_file::open(path)),
    }
}
