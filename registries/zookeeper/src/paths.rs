//! Where things stand in `ZooKeeper`, by the conventions of Dubbo, SOFARPC and Spring Cloud.
//!
//! Text in, paths out; it must never ask anybody. Names come from confs and from peers, so one that cannot be one part of
//! a path gives no path at all: nobody may point a watch or a write at another place by a slash in a name. As seen in
//! trees that Dubbo 2.7.23 and 3.3.6, SOFARPC 5.13.2 and Spring Cloud 2023.0.3 wrote.

use outrigger_discovery::formats::percent;

/// The longest name that is made a part of a path, in bytes; a node's own URL may be longer.
const NAME_BYTES_MAX: usize = 512;
/// The longest node name, in bytes: all siblings must fit into one answer of 1 MiB.
const NODE_BYTES_MAX: usize = 16 << 10;

/// What stands beside the interfaces under Dubbo's root and is none of them.
pub(crate) const BESIDE_INTERFACES: [&str; 3] = ["config", "mapping", "metadata"];

/// The roots below which everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    /// Empty, or `/a/b`.
    chroot: String,
    /// `/dubbo`, below the chroot.
    dubbo: String,
    /// Where applications of Dubbo 3 stand.
    applications: String,
}

impl Paths {
    /// `None`: the chroot or the group cannot be a path.
    pub(crate) fn new(chroot: Option<&str>, group: &str) -> Option<Self> {
        let chroot = path(chroot.unwrap_or_default())?;
        let group = path(group)?;
        if group.is_empty() {
            return None;
        }
        let dubbo = format!("{chroot}{group}");
        // Dubbo 3 puts its applications beside those of Spring, unless its registry has a group of its own.
        let applications = if group == "/dubbo" { format!("{chroot}/services") } else { dubbo.clone() };
        Some(Self { chroot, dubbo, applications })
    }

    /// The roots of all frameworks.
    pub(crate) fn roots(&self) -> Vec<String> {
        vec![self.dubbo.clone(), self.spring(), self.sofarpc()]
    }

    /// Dubbo's own root.
    pub(crate) fn dubbo(&self) -> &str {
        &self.dubbo
    }

    /// SOFARPC's root.
    pub(crate) fn sofarpc(&self) -> String {
        format!("{}/sofa-rpc", self.chroot)
    }

    /// Where applications of Spring Cloud stand.
    pub(crate) fn spring(&self) -> String {
        format!("{}/services", self.chroot)
    }

    /// Who gives an interface of Dubbo.
    pub(crate) fn providers(&self, interface: &str) -> Option<String> {
        self.of_interface(interface, "providers")
    }

    /// What operators say of an interface of Dubbo.
    pub(crate) fn configurators(&self, interface: &str) -> Option<String> {
        self.of_interface(interface, "configurators")
    }

    fn of_interface(&self, interface: &str, category: &str) -> Option<String> {
        let interface = percent::encode(name(interface)?);
        Some(format!("{}/{}/{category}", self.dubbo, name(&interface)?))
    }

    /// Which interfaces are mapped to applications.
    pub(crate) fn mappings(&self) -> String {
        format!("{}/mapping", self.dubbo)
    }

    /// Which applications have an interface. Not encoded, unlike the interface's own directory.
    pub(crate) fn mapping(&self, interface: &str) -> Option<String> {
        Some(format!("{}/mapping/{}", self.dubbo, name(interface)?))
    }

    /// What an application of Dubbo 3 gives: where Java writes it, and where Go does.
    pub(crate) fn metadata(&self, app: &str, revision: &str) -> Option<[String; 2]> {
        let (app, revision) = (name(app)?, name(revision)?);
        Some([
            format!("{}/metadata/{app}/{revision}", self.dubbo),
            format!("{}/{app}/{revision}", self.dubbo),
        ])
    }

    /// The instances of an application of Dubbo 3.
    pub(crate) fn application(&self, app: &str) -> Option<String> {
        Some(format!("{}/{}", self.applications, name(app)?))
    }

    /// The instances of an application of Spring Cloud.
    pub(crate) fn spring_application(&self, app: &str) -> Option<String> {
        Some(format!("{}/{}", self.spring(), name(app)?))
    }

    /// Who gives an interface of SOFARPC.
    pub(crate) fn sofarpc_providers(&self, interface: &str) -> Option<String> {
        Some(format!("{}/{}/providers", self.sofarpc(), name(interface)?))
    }
}

impl Paths {
    /// A seat that one process has at a time; no framework's.
    pub(crate) fn seat(&self, seat: &str) -> Option<String> {
        Some(format!("{}/outrigger/seats/{}", self.chroot, name(seat)?))
    }
}

/// A node in a directory.
pub(crate) fn child(directory: &str, node: &str) -> Option<String> {
    part(node, NODE_BYTES_MAX).map(|node| format!("{directory}/{node}"))
}

fn name(name: &str) -> Option<&str> {
    part(name, NAME_BYTES_MAX)
}

/// One part of a path, as the server takes it.
fn part(part: &str, most: usize) -> Option<&str> {
    let fits = !part.is_empty() && part.len() <= most && part != "." && part != "..";
    (fits && !part.chars().any(|c| c == '/' || c.is_control())).then_some(part)
}

/// `a/b`, `/a/b` and `/a/b/` as `/a/b`; nothing and `/` as nothing.
fn path(text: &str) -> Option<String> {
    let text = text.trim_matches('/');
    if text.is_empty() {
        return Some(String::new());
    }
    let parts: Option<Vec<&str>> = text.split('/').map(name).collect();
    parts.map(|parts| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_the_frameworks_write() {
        let paths = Paths::new(None, "dubbo").unwrap();
        assert_eq!(paths.providers("a.B$C").unwrap(), "/dubbo/a.B%24C/providers");
        assert_eq!(paths.configurators("a.B").unwrap(), "/dubbo/a.B/configurators");
        assert_eq!(paths.mapping("a.B$C").unwrap(), "/dubbo/mapping/a.B$C");
        assert_eq!(paths.metadata("shop", "f0").unwrap(), ["/dubbo/metadata/shop/f0", "/dubbo/shop/f0"]);
        assert_eq!(paths.application("shop").unwrap(), "/services/shop");
        assert_eq!(paths.spring_application("shop").unwrap(), "/services/shop");
        assert_eq!(paths.sofarpc_providers("a.B").unwrap(), "/sofa-rpc/a.B/providers");
    }

    #[test]
    fn a_chroot_is_before_all_and_a_group_has_its_own_applications() {
        let paths = Paths::new(Some("/x/y/"), "prod").unwrap();
        assert_eq!(paths.providers("a.B").unwrap(), "/x/y/prod/a.B/providers");
        assert_eq!(paths.application("shop").unwrap(), "/x/y/prod/shop");
        assert_eq!(paths.spring_application("shop").unwrap(), "/x/y/services/shop");
        assert_eq!(Paths::new(Some("/"), "/prod").unwrap(), Paths::new(None, "prod").unwrap());
    }

    #[test]
    fn a_name_that_is_no_part_of_a_path_leads_nowhere() {
        let paths = Paths::new(None, "dubbo").unwrap();
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", ".", "..", "a/b", "a\0", "a\n", &long] {
            assert_eq!(paths.application(bad), None, "{bad:?}");
            assert_eq!(paths.mapping(bad), None, "{bad:?}");
            assert_eq!(paths.metadata("shop", bad), None, "{bad:?}");
            assert_eq!(paths.sofarpc_providers(bad), None, "{bad:?}");
        }
        assert_eq!(child("/a", "b%2Fc").as_deref(), Some("/a/b%2Fc"));
        assert_eq!(child("/a", "../c"), None);
        for (chroot, group) in [(Some("/a//b"), "dubbo"), (Some("/.."), "dubbo"), (None, ""), (None, "/")] {
            assert_eq!(Paths::new(chroot, group), None, "{chroot:?} {group:?}");
        }
    }
}
