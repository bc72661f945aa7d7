//! The walker over Hessian 2 draft values, and the reader of a request's target, over any bytes.
//!
//! The walker must move forward, stay inside and end; a target that is asked for less must not become another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_bolt::hessian_draft::{Walker, target};

fuzz_target!(|bytes: &[u8]| {
    let mut walker = Walker::new(bytes);
    let mut before = 0;
    while walker.value().is_ok() {
        assert!(walker.position() > before && walker.position() <= bytes.len());
        before = walker.position();
    }
    if let Ok(both) = target(bytes, true, true) {
        for range in both.method.iter().chain(&both.service) {
            assert!(bytes.get(range.clone()).is_some(), "{range:?} lies outside");
        }
        let method = target(bytes, true, false).expect("what is read with more is read with less");
        let service = target(bytes, false, true).expect("what is read with more is read with less");
        assert_eq!((method.method, service.service), (both.method, both.service));
    }
});
