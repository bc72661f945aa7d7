//! What is watched and what is found: a service by its key, an instance by its address.
//!
//! An instance's address is its identity within one watch. Registries hand over what they read; what a service's
//! version or group means is the same for all of them and is said here, in [`ServiceKey::admits`].

use std::collections::BTreeMap;

/// The weight of an instance that states none.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The largest weight an instance may have.
pub const WEIGHT_MAX: u32 = 10_000;

/// A service, and which of its instances are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The service's name: an interface or an application.
    pub service: String,
    /// Only instances of this group; `None`: of any group, or none.
    pub group: Option<String>,
    /// Only instances of this version; `None`: of any version, or none.
    pub version: Option<String>,
}

impl ServiceKey {
    /// Every instance of a service.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), group: None, version: None }
    }

    /// Whether an instance of the service is one of those that are wanted.
    pub fn admits(&self, instance: &Instance) -> bool {
        let wanted = |want: &Option<String>, have: &Option<String>| want.is_none() || want == have;
        wanted(&self.group, &instance.group) && wanted(&self.version, &instance.version)
    }
}

/// One process that gives the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `host:port`; see [`crate::check_address`].
    pub address: String,
    /// Its share of the calls beside the others' weights; 0: none. `<= WEIGHT_MAX`.
    pub weight: u32,
    /// The version it serves.
    pub version: Option<String>,
    /// The group it serves.
    pub group: Option<String>,
    /// Whatever else the registry knows of it, such as its zone.
    pub metadata: BTreeMap<String, String>,
}

impl Instance {
    /// An instance about which only the address is known.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: WEIGHT_DEFAULT,
            version: None,
            group: None,
            metadata: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_wants_exactly_the_group_and_version_it_names() {
        let plain = Instance::new("a:1");
        let grouped = Instance { group: Some("g".into()), version: Some("1.0.0".into()), ..plain.clone() };
        let any = ServiceKey::new("s");
        let v1 = ServiceKey { version: Some("1.0.0".into()), ..any.clone() };
        let v2 = ServiceKey { version: Some("2.0.0".into()), ..any.clone() };
        let other_group = ServiceKey { group: Some("h".into()), ..v1.clone() };
        assert!(any.admits(&plain) && any.admits(&grouped));
        assert!(v1.admits(&grouped) && !v1.admits(&plain));
        assert!(!v2.admits(&grouped) && !other_group.admits(&grouped));
    }
}
