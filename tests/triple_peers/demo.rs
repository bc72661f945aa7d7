//! `DemoService`, Dubbo's service of plain Java objects, over Triple: what `real_peers.rs` asks of it over Dubbo2.
//!
//! Must assert exceptions as whole objects: Triple sends them with status 0.

use std::time::Duration;

use super::programs::Stage;
use super::{MIB, expect, failure, value};

/// What `process` answers, as the consumer prints it (after comparing every field).
const ORDER: &str = "Order{id=9007199254740993, name=订单-é🚀, remark=null, count=42, vip=true, score=3.25, \
    status=SHIPPED, amount=12345.6700, created=1700000000123, address=Hangzhou/Wensan Rd/310012, \
    others=[Berlin/Linienstr/10119, Hangzhou/Wensan Rd/310012], tags={a=1, b=200000}, blob=4B}";
/// The route timeout of the conf, and the time within which its expiry must have reached the caller.
const ROUTE_TIMEOUT: Duration = Duration::from_millis(300);
const TIMEOUT_SEEN_MAX: Duration = Duration::from_millis(1200);

/// Calls that succeed, and exceptions of the service itself.
pub(crate) fn values(stage: &mut Stage) {
    let consumer = &mut stage.first;
    expect(consumer, "echo hello", "hello");
    expect(consumer, "who", "blue");
    expect(consumer, "nothing", "null");
    expect(consumer, "pojo", ORDER);
    expect(consumer, "attached lane somewhere", ORDER);
    expect(consumer, &format!("bigtext {MIB}"), &format!("{MIB} equal"));
    expect(consumer, &format!("bigbytes {MIB}"), &format!("{MIB} equal"));
    expect(consumer, "late x 100", "x");
    // The number of times it arrived, seen by later calls.
    expect(consumer, "oneway token-1", "1");
    expect(consumer, "ping", "still there");
    expect(consumer, "generic hello", "hello");
    expect(consumer, "genericpojo", "generic/7/SHIPPED");

    let failed = failure(&consumer.ask("fail 42 no-such-order"));
    assert_eq!((&*failed.exception, &*failed.message), ("peer.api.DemoException", "no-such-order"));
    assert_eq!(failed.code, "42", "a field of the exception itself");
    let crashed = failure(&consumer.ask("crash boom"));
    assert_eq!((&*crashed.exception, &*crashed.message), ("java.lang.IllegalStateException", "boom"));
    let failed = failure(&consumer.ask("genericfail 7 generic-no"));
    assert_eq!(failed.exception, "com.alibaba.dubbo.rpc.service.GenericException");
    assert!(failed.message.starts_with("peer.api.DemoException: generic-no"), "{failed:?}");
    let unknown = failure(&consumer.ask("genericmissing"));
    assert!(unknown.message.contains("No such method nothingOfTheKind"), "{unknown:?}");
}

/// Where calls go by what they say of themselves, and what the caller sees when the sidecar itself answers.
pub(crate) fn refusals(stage: &mut Stage) {
    let [blue, _, nowhere] = stage.ports;
    let consumer = &mut stage.first;
    expect(consumer, "green", "green");
    let words = "outrigger: no route for peer.api.MissingService.ping on listener egress";
    failure(&consumer.ask("missing")).is(12, words);
    let words = format!("outrigger: cannot reach 127.0.0.1:{nowhere} (cluster nowhere)");
    failure(&consumer.ask("attached lane nowhere")).is(14, &words);
    failure(&consumer.ask("attached lane empty"))
        .is(14, "outrigger: no endpoint for peer.api.DemoService.process");

    let expired = failure(&consumer.ask("slow 1500"));
    let words = format!("outrigger: no answer from 127.0.0.1:{blue} (cluster blue) within 3");
    expired.is(4, &words);
    assert!(expired.took >= ROUTE_TIMEOUT && expired.took <= TIMEOUT_SEEN_MAX, "{expired:?}");
    // The provider's late answer arrives about now; it must not be taken for another call's.
    std::thread::sleep(Duration::from_millis(1300));
    expect(consumer, "echo after-the-late-answer", "after-the-late-answer");
    expect(consumer, "slow 20", "slept 20");
}

/// 200 calls at once, 100 from each process, answered out of order: each must get its own answer.
pub(crate) fn in_parallel(stage: &mut Stage) {
    // Once to warm cold JVMs up, then for the record.
    for _ in 0..2 {
        stage.first.send("parallel 100");
        stage.second.send("parallel 100");
        for consumer in [&stage.first, &stage.second] {
            assert_eq!(value(&consumer.answer()), "own=100 other=0 failed=none");
        }
    }
    let peak: u32 = value(&stage.first.ask("peak")).parse().expect("a number");
    assert!(peak >= 20, "only {peak} calls were in the provider at once: the sidecar serialises them");
}
