//! Where things stand in etcd, by the conventions of Dubbo and dubbo-go and by our own.
//!
//! Text in, keys out; it must never ask anybody. Names come from confs and from peers, so one that cannot be one part of a
//! key gives no key at all: nobody may point a watch or a write at another place by a slash in a name. A prefix ends with a
//! slash, or `Foo` would be `FooBar` as well. After dubbo-go's `registry/etcdv3` and `metadata/report/etcd`.

use outrigger_discovery::{Framework, formats::percent};

use crate::mirror::Range;

/// The longest name that is made a part of a key, in bytes; a provider's own URL may be longer.
const NAME_BYTES_MAX: usize = 512;
/// The longest last part of a key, in bytes.
const NODE_BYTES_MAX: usize = 64 << 10;

/// What stands beside the interfaces under Dubbo's root and is none of them.
pub(crate) const BESIDE_INTERFACES: [&str; 3] = ["config", "mapping", "metadata"];
/// Where applications of dubbo-go stand, whatever their root is.
const APPLICATIONS: &str = "/services";
/// Where everything of our own stands.
const OWN: &str = "/outrigger";

/// The roots below which everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// `/dubbo`.
    dubbo: String,
}

impl Keys {
    /// `None`: the group cannot be a part of a key.
    pub(crate) fn new(group: &str) -> Option<Self> {
        let parts: Option<Vec<&str>> = group.trim_matches('/').split('/').map(name).collect();
        Some(Self { dubbo: format!("/{}", parts?.join("/")) })
    }

    /// All of Dubbo.
    pub(crate) fn dubbo(&self) -> Range {
        below(&self.dubbo)
    }

    /// Who gives an interface of Dubbo.
    pub(crate) fn providers(&self, interface: &str) -> Option<Range> {
        self.of_interface(interface, "providers")
    }

    /// What operators say of an interface of Dubbo.
    pub(crate) fn configurators(&self, interface: &str) -> Option<Range> {
        self.of_interface(interface, "configurators")
    }

    fn of_interface(&self, interface: &str, category: &str) -> Option<Range> {
        let interface = percent::encode(name(interface)?);
        Some(below(&format!("{}/{}/{category}", self.dubbo, name(&interface)?)))
    }

    /// Which interfaces are mapped to applications.
    pub(crate) fn mappings(&self) -> Range {
        below(&format!("{}/mapping", self.dubbo))
    }

    /// Which applications have an interface. Not escaped, unlike the interface's own directory.
    pub(crate) fn mapping(&self, interface: &str) -> Option<String> {
        Some(format!("{}/mapping/{}", self.dubbo, name(interface)?))
    }

    /// What an application gives: where dubbo-go looks for it since 3.3.2, in 3.3.0 and 3.3.1, which forgot a slash, and before.
    pub(crate) fn metadata(&self, app: &str, revision: &str) -> Option<[String; 3]> {
        let (app, revision) = (name(app)?, name(revision)?);
        // An application may not be called like what else stands there.
        if BESIDE_INTERFACES.contains(&app) {
            return None;
        }
        Some([
            format!("{}/{app}/{revision}", self.dubbo),
            format!("{}{app}/{revision}", self.dubbo),
            format!("{}/metadata/{app}/{revision}", self.dubbo),
        ])
    }
}

/// The instances of an application of dubbo-go.
pub(crate) fn application(app: &str) -> Option<Range> {
    Some(below(&format!("{APPLICATIONS}/{}", name(app)?)))
}

/// The directory that a key is in.
pub(crate) fn directory(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Whether an instance of an application may stand there.
pub(crate) fn is_member(key: &str) -> bool {
    key.strip_prefix(APPLICATIONS).is_some_and(|rest| rest.starts_with('/'))
}

/// Every service of a framework that has no layout of its own.
pub(crate) fn plain_all(framework: Framework) -> Range {
    below(&format!("{OWN}/{framework}"))
}

/// Who gives a service of a framework that has no layout of its own.
pub(crate) fn plain(framework: Framework, service: &str) -> Option<Range> {
    let service = percent::encode(name(service)?);
    Some(below(&format!("{OWN}/{framework}/{}", name(&service)?)))
}

/// Who has a seat.
pub(crate) fn seat(seat: &str) -> Option<String> {
    Some(format!("{OWN}/seats/{}", name(seat)?))
}

/// A key in a directory.
pub(crate) fn child(directory: &Range, node: &str) -> Option<String> {
    part(node, NODE_BYTES_MAX).map(|node| format!("{}{node}", directory.start()))
}

fn below(directory: &str) -> Range {
    Range::below(&format!("{directory}/"))
}

fn name(name: &str) -> Option<&str> {
    part(name, NAME_BYTES_MAX)
}

fn part(part: &str, most: usize) -> Option<&str> {
    let fits = !part.is_empty() && part.len() <= most && part != "." && part != "..";
    (fits && !part.chars().any(|c| c == '/' || c.is_control())).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_dubbo_go_writes() {
        let keys = Keys::new("dubbo").unwrap();
        assert_eq!(keys.providers("a.B$C").unwrap().start(), "/dubbo/a.B%24C/providers/");
        assert_eq!(keys.configurators("a.B").unwrap().start(), "/dubbo/a.B/configurators/");
        assert_eq!(keys.mapping("a.B$C").unwrap(), "/dubbo/mapping/a.B$C");
        assert_eq!(
            keys.metadata("shop", "f0").unwrap(),
            ["/dubbo/shop/f0", "/dubboshop/f0", "/dubbo/metadata/shop/f0"]
        );
        assert_eq!(application("shop").unwrap().start(), "/services/shop/");
        assert_eq!(Keys::new("/prod/").unwrap().mapping("a.B").unwrap(), "/prod/mapping/a.B");
    }

    #[test]
    fn keys_of_our_own_are_by_framework() {
        assert_eq!(plain(Framework::Plain, "my shop").unwrap().start(), "/outrigger/plain/my+shop/");
        assert_eq!(plain(Framework::Sofarpc, "a.B").unwrap().start(), "/outrigger/sofarpc/a.B/");
        assert_eq!(seat("bridge").unwrap(), "/outrigger/seats/bridge");
    }

    #[test]
    fn a_name_that_is_no_part_of_a_key_leads_nowhere() {
        let keys = Keys::new("dubbo").unwrap();
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", ".", "..", "a/b", "a\0", "a\n", &long] {
            assert_eq!(application(bad), None, "{bad:?}");
            assert_eq!(keys.mapping(bad), None, "{bad:?}");
            assert_eq!(keys.metadata("shop", bad), None, "{bad:?}");
            assert_eq!(seat(bad), None, "{bad:?}");
        }
        assert_eq!(keys.metadata("mapping", "a.B"), None, "an application may not write mappings");
        let directory = keys.providers("a.B").unwrap();
        assert_eq!(child(&directory, "b%2Fc").as_deref(), Some("/dubbo/a.B/providers/b%2Fc"));
        assert_eq!(child(&directory, "../c"), None);
        for group in ["", "/", "a//b", ".."] {
            assert_eq!(Keys::new(group), None, "{group:?}");
        }
    }
}
