//! The fastjson2 walker over any bytes: it moves forward, stays inside, and ends; in its maps too.
//!
//! A value is framed by its length, so stepping over it may succeed where reading it does not, never the reverse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_dubbo::{
    fastjson2::Walker,
    values::{Value, Values as _},
};

fuzz_target!(|bytes: &[u8]| {
    let inside =
        |value: Value| assert!(!matches!(value, Value::Text(span) if span.of(bytes).is_none()), "{value:?}");
    let (mut skipping, mut reading, mut mapping) =
        (Walker::new(bytes, 0), Walker::new(bytes, 0), Walker::new(bytes, 0));
    loop {
        let before = reading.at();
        if mapping.open_map() == Ok(true) {
            while let Ok(Some(key)) = mapping.key() {
                inside(key);
                let Ok(value) = mapping.value() else { break };
                inside(value);
            }
        }
        let (skipped, read) = (skipping.skip(), reading.read());
        let Ok(value) = read else { return };
        inside(value);
        assert!(skipped.is_ok(), "read but not skipped at {before}");
        assert_eq!(skipping.at(), reading.at());
        assert!(reading.at() > before && reading.at() <= bytes.len());
    }
});
