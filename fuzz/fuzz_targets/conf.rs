//! Any text as a conf file: either it gets a meaning, or there is a mistake to show at a place that exists.
//!
//! What was understood must be writable and mean the same when it is read again, since that is what the admin port
//! shows. The environment of the machine must not be read.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use outrigger::conf::{lower::read, report::Report};

fuzz_target!(|bytes: &[u8]| {
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    let plan = match read(Path::new("fuzz.yaml"), bytes, &env) {
        Ok(plan) => plan,
        Err(report) => return shown(&report, bytes),
    };
    let written = serde_json::to_vec(&plan.written).expect("a conf can be written");
    let again = read(Path::new("again.yaml"), &written, &env);
    let again = again.unwrap_or_else(|report| panic!("what was written cannot be read: {report}"));
    assert_eq!(serde_json::to_vec(&again.written).expect("a conf can be written"), written);
});

fn shown(report: &Report, bytes: &[u8]) {
    assert!(!report.problems().is_empty(), "refused without a reason");
    for problem in report.problems() {
        let span = problem.span;
        assert!(span.start <= span.end && span.end as usize <= bytes.len(), "{problem:?} lies outside");
        assert!(!problem.message.is_empty());
    }
    assert!(report.to_string().contains("fuzz.yaml"));
    let _ = report.to_json();
}
