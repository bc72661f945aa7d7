//! A network of its own for tests whose programs refuse loopback: Java Dubbo registers and dials no address of 127/8, and
//! some servers listen on every address there is.
//!
//! A test binary runs itself once more inside a network namespace, where there is loopback with one more address
//! (`ADDRESS`) and no way out; each of its tests then takes the outcome of its namesake inside. So the tests of one binary
//! share what they start, and everything in there ends with it. Needs root, `unshare` and `ip`: a machine without them fails
//! the tests, it never passes them over. Must never let a program of such a test run outside.

use super::{Child, TempDir, peers};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The address of this host inside.
pub(crate) const ADDRESS: &str = "10.9.9.1";
/// Set inside: a directory that is removed when all is over.
const DIR: &str = "OUTRIGGER_TEST_NETNS";
/// Longer than all tests of one binary together take.
const ALL_MAX: Duration = Duration::from_secs(1_200);
/// Arguments that change how outcomes are printed.
const PRINTING: [&str; 4] = ["--nocapture", "--no-capture", "--quiet", "-q"];
/// The network that is made before the test binary runs in it.
const NETWORK: &str = "ip link set lo up && ip addr add \"$0\"/32 dev lo && exec \"$@\"";

/// What came of the tests inside, once they ran.
static RAN: OnceLock<Ran> = OnceLock::new();

/// Whether this is inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(DIR).is_some()
}

/// A directory for what lives as long as all tests inside.
pub(crate) fn dir() -> PathBuf {
    std::env::var_os(DIR).map(PathBuf::from).expect("a test inside asks")
}

/// Runs the body of the test of this name inside: the tests inside run one after the other.
pub(crate) fn inside(test: &str, body: impl FnOnce()) {
    if is_inside() {
        return body();
    }
    let ran = RAN.get_or_init(run_inside);
    match ran.outcomes.get(test).map(String::as_str) {
        Some("ok") => {}
        Some(outcome) => panic!("{test}, run inside a network of its own: {outcome}\n{}", ran.told()),
        None => panic!("{test} was not run inside: is this root, with `unshare` and `ip`?\n{}", ran.told()),
    }
}

struct Ran {
    outcomes: BTreeMap<String, String>,
    output: String,
    told: AtomicBool,
}

impl Ran {
    /// What was printed inside, for the first who asks: the others need not print it once more.
    fn told(&self) -> &str {
        if self.told.swap(true, Ordering::SeqCst) { "see the first" } else { &self.output }
    }
}

fn run_inside() -> Ran {
    // What is built needs the network that there is not inside.
    peers::prepare();
    let dir = TempDir::new();
    let output = dir.path().join("output");
    let file = File::create(&output).expect("a file can be created");
    let errors = file.try_clone().expect("a file can be shared");
    let program = std::env::current_exe().expect("a test binary knows itself");
    let mut command = Command::new("unshare");
    command.args(["-n", "--", "sh", "-c", NETWORK, ADDRESS]).arg(program);
    command.args(std::env::args().skip(1).filter(|argument| !PRINTING.contains(&argument.as_str())));
    command.env("RUST_TEST_THREADS", "1").env_remove("RUST_TEST_NOCAPTURE").env(DIR, dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors));
    let ended = Child::spawn(&mut command).wait(ALL_MAX);
    let output = String::from_utf8_lossy(&std::fs::read(&output).unwrap_or_default()).into_owned();
    assert!(ended.is_some(), "the tests inside did not end within {ALL_MAX:?}\n{output}");
    let outcome = |line: &str| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        Some((name.to_owned(), outcome.to_owned()))
    };
    Ran { outcomes: output.lines().filter_map(outcome).collect(), output, told: AtomicBool::new(false) }
}
