//! The table of raw HTTP/1 cases: what passes, what is refused and in which words, to the byte, on both sides.
//!
//! The cases are text, in `cases/`; `script` tells how they read. Each runs whole, cut in two behind every byte that
//! the client sends and every byte that the upstream answers, and one byte at a time: the verdict must not change.
//! `upstream` and `lane` are the two ends of a case, `table` runs them,
//! `wrong` shows that a wrong one is told. `HTTP1_CASE=words` runs the cases with these
//! words in their names. Nothing here may judge by time.

mod lane;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod upstream;
mod wrong;

use std::path::Path;

use script::{Group, folder};
use table::{Report, run};

/// So many different cases at least, lest a folder be read in vain.
const CASES_MIN: usize = 200;

/// Runs each conf's cases in a thread of its own.
fn all(groups: &[Group]) -> Vec<Report> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = groups.iter().map(|group| scope.spawn(|| run(group))).collect();
        threads
            .into_iter()
            .zip(groups)
            .map(|(thread, group)| {
                thread.join().unwrap_or_else(|_| panic!("conf {} failed", group.conf.name))
            })
            .collect()
    })
}

#[test]
fn every_case_of_the_table_is_as_it_says() {
    let mut groups = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http1_table/cases"));
    let mut names: Vec<String> =
        groups.iter().flat_map(|group| group.cases.iter().map(|case| case.name.clone())).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(count, names.len(), "two cases have the same name");
    let words = std::env::var("HTTP1_CASE").unwrap_or_default();
    for group in &mut groups {
        group.cases.retain(|case| case.name.contains(&words));
    }
    groups.retain(|group| !group.cases.is_empty());

    let reports = all(&groups);
    let cases: usize = reports.iter().map(|report| report.cases).sum();
    let runs: usize = reports.iter().map(|report| report.runs).sum();
    let failures: Vec<&str> =
        reports.iter().flat_map(|report| report.failures.values().map(String::as_str)).collect();
    let stopped = if reports.iter().any(|report| report.stopped) { "; not all were run" } else { "" };
    let told = failures.join("\n\n");
    assert!(
        failures.is_empty(),
        "{} of {cases} cases failed ({runs} runs{stopped}):\n\n{told}\n",
        failures.len()
    );
    eprintln!("{cases} cases, {runs} runs");
    assert!(!words.is_empty() || cases >= CASES_MIN, "only {cases} cases ran");
}
