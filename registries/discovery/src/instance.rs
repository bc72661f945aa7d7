//! What is watched and what is found: a service by its key, an instance by its address.
//!
//! An instance's address is its identity within one watch. Registries hand over what they read; what a service's
//! version or group means is the same for all of them and is said here, in [`ServiceKey::admits`].

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::formats::Text;

/// The weight of an instance that states none.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The largest weight an instance may have.
pub const WEIGHT_MAX: u32 = 10_000;

/// Whose names and formats a service is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framework {
    /// Dubbo: a service is an interface, found at the interface level or by way of the applications that have it.
    #[default]
    Dubbo,
    /// SOFARPC: a service is an interface with a version (`1.0`, or `1.0:uniqueId`).
    Sofarpc,
    /// Spring Cloud: a service is an application.
    Spring,
    /// None: a service is a name, in whatever layout the registry has for that.
    Plain,
}

impl Framework {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dubbo, Self::Sofarpc, Self::Spring, Self::Plain];

    /// Its name, as the conf writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dubbo => "dubbo",
            Self::Sofarpc => "sofarpc",
            Self::Spring => "spring",
            Self::Plain => "plain",
        }
    }

    /// What its services speak unless they say otherwise, in its own words.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Dubbo => "dubbo",
            Self::Sofarpc => "bolt",
            Self::Spring | Self::Plain => "http",
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A service, and which of its instances are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The service's name: an interface or an application.
    pub service: String,
    /// Only instances of this group, or, if it is empty, of none; `None`: of any group, or none.
    pub group: Option<String>,
    /// Only instances of this version, or, if it is empty, of none; `None`: of any version, or none.
    pub version: Option<String>,
    /// Whose service it is.
    pub framework: Framework,
    /// Only instances that speak this, as the framework calls it (`dubbo`, `tri`, `bolt`, `http`); `None`: whatever they speak.
    pub protocol: Option<String>,
}

impl ServiceKey {
    /// Every instance of a service of Dubbo.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            group: None,
            version: None,
            framework: Framework::default(),
            protocol: None,
        }
    }

    /// Whether an instance of the service is one of those that are wanted.
    pub fn admits(&self, instance: &Instance) -> bool {
        // An empty one means exactly none.
        let wanted = |want: &Option<String>, have: &Option<String>| {
            want.as_ref().is_none_or(|want| want == have.as_deref().unwrap_or_default())
        };
        wanted(&self.group, &instance.group)
            && wanted(&self.version, &instance.version)
            && (instance.protocol.is_none() || wanted(&self.protocol, &instance.protocol))
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
    /// What it speaks, as its framework calls it; `None`: the registry does not say.
    pub protocol: Option<String>,
    /// When it was started, in milliseconds since 1970: what is new may be spared. No change of it is news.
    pub started: Option<u64>,
    /// Whatever else the registry knows of it, such as its zone. What changes with every start (times, process ids) has no
    /// place here.
    pub metadata: Metadata,
}

/// What an instance says of itself. Those of one service say mostly the same, and share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Arc<BTreeMap<String, String>>);

impl Metadata {
    /// What is said, and the same thing as another where that says nothing else: most of what stands in a registry does.
    pub(crate) fn like<T: Text>(said: BTreeMap<T, T>, other: Option<&Self>) -> Self {
        let equal = |one: &T, other: &String| *one.borrow() == **other;
        let same = |other: &&Self| {
            let mut both = said.iter().zip(other.iter());
            said.len() == other.len()
                && both.all(|((name, value), (other, said))| equal(name, other) && equal(value, said))
        };
        if let Some(same) = other.filter(same) {
            return same.clone();
        }
        said.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<BTreeMap<_, _>>().into()
    }

    /// Whether it is the same thing as another, and not only equal to it.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Metadata {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Metadata {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<BTreeMap<String, String>> for Metadata {
    fn from(said: BTreeMap<String, String>) -> Self {
        Self(Arc::new(said))
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        Arc::unwrap_or_clone(metadata.0)
    }
}

/// Has equal metadata of neighbours stored once.
pub(crate) fn share(instances: &mut [Instance]) {
    for at in 1..instances.len() {
        if let Some([before, instance]) = instances.get_mut(at.saturating_sub(1)..=at)
            && before.metadata == instance.metadata
        {
            instance.metadata = before.metadata.clone();
        }
    }
}

impl Instance {
    /// An instance about which only the address is known.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: WEIGHT_DEFAULT,
            version: None,
            group: None,
            protocol: None,
            started: None,
            metadata: Metadata::default(),
        }
    }

    /// Whether another one is the same but for when it was started.
    pub fn same(&self, other: &Self) -> bool {
        let Self { address, weight, version, group, protocol, started: _, metadata } = self;
        *address == other.address
            && *weight == other.weight
            && *version == other.version
            && *group == other.group
            && *protocol == other.protocol
            && *metadata == other.metadata
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
        let none = ServiceKey { version: Some(String::new()), ..any.clone() };
        assert!(none.admits(&plain) && !none.admits(&grouped));
        let tri = ServiceKey { protocol: Some("tri".into()), ..any };
        assert!(
            tri.admits(&plain) && tri.admits(&Instance { protocol: tri.protocol.clone(), ..plain.clone() })
        );
        assert!(!tri.admits(&Instance { protocol: Some("dubbo".into()), ..plain }));
    }
}
