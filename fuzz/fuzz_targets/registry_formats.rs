//! What stands in registries, where many hands write: URLs of Dubbo and SOFARPC, Curator's JSON, what applications serve.
//!
//! What is read of an entry must be an instance that can be dialled, and reading must never fail on more than the entry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_discovery::{
    ServiceKey, check_address,
    formats::{application, curator, dubbo, percent, sofarpc},
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(service) = curator::parse(bytes) {
        let instance = curator::spring_instance(&service);
        assert!(instance.is_none_or(|instance| check_address(&instance.address).is_ok()));
        if let (Some(member), Ok(info)) = (service.member(), application::MetadataInfo::parse(bytes)) {
            info.instances(&ServiceKey::new("a"), &member);
        }
    }
    if let Ok(info) = application::MetadataInfo::parse(bytes) {
        let again = application::MetadataInfo::parse(info.to_string().as_bytes());
        assert!(again.is_ok(), "what is written can be read");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    application::apps(text);
    assert_eq!(percent::decode(&percent::encode(text)).as_deref(), Some(text));
    for read in [dubbo::provider(text), sofarpc::provider(text)] {
        if let Ok(Some(instance)) = read {
            assert!(check_address(&instance.address).is_ok(), "{instance:?}");
        }
    }
    if let Ok(Some(change)) = dubbo::override_of(text) {
        let mut some = vec![outrigger_discovery::Instance::new("10.0.0.1:1")];
        dubbo::apply(&[change], &mut some);
        assert!(some.len() <= 1);
    }
});
