//! The list of plug-ins: the only file outside their own crates that names them.
//!
//! A protocol or a registry joins the build by its crate and one line here; a conformance test walks both lists.

use std::{rc::Rc, sync::Arc};

use outrigger_discovery::Registry;

use crate::{
    conf::lower::RegistryPlan,
    session::frames::Bounds,
    worker::{Shared, accept::Protocol, driver::Driver},
};

/// Names each protocol's codec and the discipline that carries it.
macro_rules! protocols {
    ($($name:literal: $codec:ty => $discipline:ident),* $(,)?) => {
        /// The protocols of this build, by the names the conf uses.
        pub const PROTOCOLS: &[&str] = &[$($name),*];

        /// Starts every protocol in a worker.
        pub fn protocols(shared: &Rc<Shared>, bounds: Bounds) -> Vec<Rc<dyn Protocol>> {
            vec![$(protocols!(@ $discipline, $codec, shared, bounds)),*]
        }

        #[cfg(test)]
        mod conformance {
            $(const _: () = assert!(konst_eq($name, <$codec as outrigger_codec::FrameCodec>::NAME));)*

            const fn konst_eq(a: &str, b: &str) -> bool {
                let (a, b) = (a.as_bytes(), b.as_bytes());
                let mut at = 0;
                while at < a.len() && at < b.len() && a[at] == b[at] {
                    at += 1;
                }
                at == a.len() && at == b.len()
            }
        }
    };
    (@ frames, $codec:ty, $shared:expr, $bounds:expr) => { Driver::<$codec>::start($shared, $bounds) as Rc<dyn Protocol> };
}

protocols! {
    "bolt": outrigger_bolt::Bolt => frames,
    "dubbo": outrigger_dubbo::Dubbo => frames,
}

/// The registry that a conf names.
pub fn registry(plan: &RegistryPlan) -> Arc<dyn Registry> {
    match plan {
        RegistryPlan::File(path) => Arc::new(outrigger_registry_file::open(path)),
    }
}
