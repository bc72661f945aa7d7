//! What only grpc-java shows: pairs beside the call in both directions, statuses in full, compression, the ends of calls
//! as the server's context sees them, and a reader that is slow.
//!
//! Must ask the server itself where the client cannot know.

use std::time::Duration;

use super::programs::Stage;
use super::support::Process;
use super::talk::TOLD_MAX_MS;
use super::{MIB, expect, failure, value};

/// Bytes that may be on their way to a reader who takes none: the windows of two connections, and what each program
/// keeps besides.
const ON_THE_WAY_MAX: usize = 16 * MIB;

/// Metadata there, headers and trailers back: several values of a name, in order, and bytes.
pub(crate) fn beside(client: &mut Process) {
    let all = "[one, two, 0x00ff, 0x, 0xfffefdfc]";
    expect(client, "beside one 0x00ff two 0x 0xfffefdfc", &format!("{all} {all}"));
    // A value that no table of headers keeps.
    let long = "v".repeat(6000);
    expect(client, &format!("beside {long}"), &format!("[{long}] [{long}]"));
    expect(client, "details 8 too-much 0a0b00ff", "8 too-much 0a0b00ff");
    // Percent-encoded on its way.
    expect(client, "details 3 50%_größer 0a", "3 50%_größer 0a");
}

/// Messages of 4 MiB, and compressed ones.
pub(crate) fn sizes(client: &mut Process) {
    let large = 4 * MIB;
    expect(client, &format!("saybytes {large}"), &format!("{large} equal"));
    expect(client, "gzip 300000", "300000 equal");
    expect(client, "count 8 4194304", "8 in order");
}

/// How calls end before their answer: by their caller, and by their deadline.
pub(crate) fn endings(stage: &mut Stage) {
    let after: i64 = value(&stage.first.ask("withdrawn token-w")).parse().expect("a number");
    assert!((-5..=TOLD_MAX_MS).contains(&after), "the server was told {after} ms later");
    assert_eq!(value(&stage.servers[0].ask("told token-w")), "cancelled");
    failure(&stage.first.ask("impatient token-j 1500")).is(4, "DEADLINE_EXCEEDED");
    let told = || !value(&stage.servers[0].ask("told token-j")).is_empty();
    assert!(super::support::within(Duration::from_secs(2), told), "the server's context goes on");
}

/// A stream that its reader does not read: what is on its way stays bounded, other calls of the same connection pass, and
/// nothing of it is lost.
pub(crate) fn slow_reader(stage: &mut Stage) {
    const WORDS: usize = 2000;
    const EACH: usize = 32 << 10;
    expect(&mut stage.first, &format!("hold token-s {WORDS} {EACH}"), "held");
    let sent = |stage: &mut Stage| -> usize {
        value(&stage.servers[0].ask("sent token-s")).parse().expect("a number")
    };
    let mut last = 0;
    let stands = super::support::within(Duration::from_secs(5), || {
        std::thread::sleep(Duration::from_millis(200));
        let before = std::mem::replace(&mut last, sent(stage));
        before == last
    });
    assert!(stands, "the server sends on though nobody reads: {last} of {WORDS}");
    assert!(last * EACH <= ON_THE_WAY_MAX, "{last} words of {EACH} bytes are on their way to nobody");
    expect(&mut stage.first, "say meanwhile", "meanwhile");
    expect(&mut stage.first, &format!("saybytes {MIB}"), &format!("{MIB} equal"));
    expect(&mut stage.first, "count 1000 100", "1000 in order");
    assert_eq!(sent(stage), last, "the words of the first stream stay where they are");
    expect(&mut stage.first, "release", &format!("{WORDS} in order"));
}

/// 200 calls at once from each of two processes, answered out of order: each must get its own answer.
pub(crate) fn in_parallel(stage: &mut Stage) {
    for _ in 0..2 {
        stage.first.send("many 200");
        stage.second.send("many 200");
        for client in [&stage.first, &stage.second] {
            assert_eq!(value(&client.answer()), "own=200 failed=[]");
        }
    }
}
