//! The Hessian 2.0 walker over any bytes: it moves forward, stays inside, and ends.
//!
//! Stepping over a value and reading it must come out at the same place, because a head mixes both in one walk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_dubbo::{hessian::Walker, values::Value};

fuzz_target!(|bytes: &[u8]| {
    let (mut skipping, mut reading) = (Walker::new(bytes, 0), Walker::new(bytes, 0));
    loop {
        let before = reading.at();
        let (skipped, read) = (skipping.skip(), reading.read());
        assert_eq!(skipped.is_ok(), read.is_ok(), "at {before}: {skipped:?}, {read:?}");
        let Ok(value) = read else { return };
        assert_eq!(skipping.at(), reading.at(), "from {before}, {value:?}");
        assert!(reading.at() > before && reading.at() <= bytes.len(), "from {before} to {}", reading.at());
        if let Value::Text(span) = value {
            assert!(span.of(bytes).is_some(), "{span:?} lies outside");
        }
        assert_eq!(reading.is_at_end(), reading.at() == bytes.len());
    }
});
