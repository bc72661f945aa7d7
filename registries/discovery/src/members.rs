//! The last good set of one watch: what the events add up to.
//!
//! Pure bookkeeping. It must never shrink because a registry is in trouble, and it tells whether anything changed, so
//! that nothing is published in vain.

use std::collections::BTreeMap;

use crate::{Event, Instance};

/// The instances of one watched service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    instances: BTreeMap<String, Instance>,
    lost: Option<String>,
    known: bool,
}

impl Members {
    /// Takes in one event; whether the set of instances is another one now, or is known for the first time.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Full(all) => {
                let all = all.into_iter().map(|instance| (instance.address.clone(), instance)).collect();
                let first = !std::mem::replace(&mut self.known, true);
                self.lost = None;
                let before = std::mem::replace(&mut self.instances, all);
                first || before != self.instances
            }
            Event::Added(instance) => {
                let before = self.instances.insert(instance.address.clone(), instance.clone());
                before.as_ref() != Some(&instance)
            }
            Event::Removed(address) => self.instances.remove(&address).is_some(),
            Event::Lost { reason } => {
                self.lost = Some(reason);
                false
            }
            Event::Back => {
                self.lost = None;
                false
            }
        }
    }

    /// The instances, by address.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Instance> {
        self.instances.values()
    }

    /// Whether the registry has ever told the whole set. Until then an empty set means "not known yet".
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// Why the registry cannot be asked just now; the set is the last good one.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(members: &Members) -> Vec<&str> {
        members.iter().map(|instance| instance.address.as_str()).collect()
    }

    fn lost() -> Event {
        Event::Lost { reason: "gone".into() }
    }

    #[test]
    fn a_lost_registry_keeps_the_last_good_set() {
        let mut members = Members::default();
        assert!(!members.is_known());
        assert!(members.apply(Event::Full(vec![Instance::new("a:1"), Instance::new("b:1")])));
        assert!(!members.apply(lost()));
        assert_eq!((addresses(&members), members.lost()), (vec!["a:1", "b:1"], Some("gone")));
        assert!(!members.apply(Event::Back));
        assert_eq!((addresses(&members), members.lost()), (vec!["a:1", "b:1"], None));
        assert!(members.apply(Event::Full(vec![Instance::new("b:1")])));
        assert_eq!(addresses(&members), ["b:1"]);
    }

    #[test]
    fn only_a_change_is_a_change() {
        let mut members = Members::default();
        assert!(!members.apply(lost()));
        assert!(members.apply(Event::Full(vec![])), "now it is known that there is none");
        assert!(!members.apply(Event::Full(vec![])));
        assert!(members.apply(Event::Added(Instance::new("a:1"))));
        assert!(!members.apply(Event::Added(Instance::new("a:1"))));
        assert!(members.apply(Event::Added(Instance { weight: 1, ..Instance::new("a:1") })));
        assert!(!members.apply(Event::Removed("b:1".into())));
        assert!(members.apply(Event::Removed("a:1".into())));
        assert_eq!(members.iter().len(), 0);
    }
}
