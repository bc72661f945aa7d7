//! One JSON object a run, on one line, for the driver to read.
//!
//! Written by hand: a dozen numbers need no serializer. Must never round a failure away: errors are whole numbers.

use crate::drive::Outcome;
use hdrhistogram::Histogram;
use std::fmt::Write;

/// The run as JSON; latencies in µs.
pub fn json(outcome: &Outcome) -> String {
    let errors = outcome.wrong + outcome.lost;
    let mut out = format!(
        r#"{{"calls": {}, "errors": {errors}, "wrong": {}, "lost": {}, "closed": {}, "seconds": {:.4}, "rps": {:.1}"#,
        outcome.calls,
        outcome.wrong,
        outcome.lost,
        outcome.closed,
        outcome.seconds,
        outcome.calls as f64 / outcome.seconds.max(1e-9),
    );
    percentiles(&mut out, "", &outcome.latency);
    if !outcome.late.is_empty() {
        percentiles(&mut out, "late_", &outcome.late);
    }
    if outcome.cpu > 0 {
        let each = outcome.cpu as f64 / 1000.0 / (outcome.calls as f64).max(1.0);
        let _ = write!(out, r#", "cpu_us": {each:.4}, "cpu_seconds": {:.4}"#, outcome.cpu as f64 / 1e9);
    }
    out.push('}');
    out
}

fn percentiles(out: &mut String, prefix: &str, histogram: &Histogram<u64>) {
    for (name, at) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
        let micros = histogram.value_at_quantile(at) as f64 / 1000.0;
        let _ = write!(out, r#", "{prefix}{name}_us": {micros:.1}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::histogram;

    #[test]
    fn errors_are_the_sum_of_wrong_and_lost() {
        let mut latency = histogram();
        latency.record(1_500_000).unwrap();
        let outcome = Outcome {
            calls: 10,
            wrong: 1,
            lost: 2,
            closed: 3,
            seconds: 2.0,
            latency,
            late: histogram(),
            cpu: 50_000,
        };
        let text = json(&outcome);
        assert!(text.contains(r#""errors": 3, "wrong": 1, "lost": 2, "closed": 3"#), "{text}");
        assert!(text.contains(r#""rps": 5.0"#) && text.contains(r#""cpu_us": 5.0000"#), "{text}");
        assert!(text.contains(r#""p50_us": 15"#) && !text.contains("late_"), "{text}");
    }
}
