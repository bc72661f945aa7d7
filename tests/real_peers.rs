//! Real applications through the sidecar: unmodified Dubbo 3.3 and 2.7, SOFARPC and sofa-rpc-node, each pair of
//! consumer and provider in processes of their own, with one sidecar between them.
//!
//! Every pair makes the same calls; what the consumer's framework saw is asserted exactly, exceptions included. The
//! pairs run one after the other: all at once, a score of JVMs would fight for the cores. Must never
//! dial a provider directly: the consumers know the sidecar's port alone.

mod support;

use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::peers::Peer;
use support::{Process, Sidecar, free_port};

/// What `process` answers, as the consumer prints it (after comparing every field).
const ORDER: &str = "Order{id=9007199254740993, name=订单-é🚀, remark=null, count=42, vip=true, score=3.25, \
    status=SHIPPED, amount=12345.6700, created=1700000000123, address=Hangzhou/Wensan Rd/310012, \
    others=[Berlin/Linienstr/10119, Hangzhou/Wensan Rd/310012], tags={a=1, b=200000}, blob=4B}";
const MIB: usize = 1 << 20;
/// The route timeout of the conf, and the time within which its expiry must have reached the caller: far below the
/// 1.5 s that the provider takes and the 3 s that the consumer would wait.
const ROUTE_TIMEOUT: Duration = Duration::from_millis(300);
const TIMEOUT_SEEN_MAX: Duration = Duration::from_millis(1200);
/// Long enough for a consumer that heartbeats twice a second to miss three answers and notice.
const IDLE_MIN: Duration = Duration::from_secs(4);
const UNREACHABLE_SEEN_MAX: Duration = Duration::from_secs(1);
/// A drained sidecar has nothing to wait for once the call in flight is answered: far below `drain_timeout` (30 s).
const DRAINED_MAX: Duration = Duration::from_secs(3);
/// Dubbo 3.3 dials a lost connection again in a period (a minute unless told otherwise; here the heartbeat's), SOFARPC
/// every 10 s; until then they refuse calls without dialling. Dubbo 2.7 dials at the next call as well.
const HEARTBEAT_MS: &str = "2000";
const REDIALLED_MAX: Duration = Duration::from_secs(15);

/// One pair: what calls, what serves, and how the listener between them is declared.
struct Pair {
    consumer: Peer,
    provider: Peer,
    protocol: &'static str,
}

#[test]
fn dubbo_3_3_to_3_3() {
    Pair { consumer: Peer::Dubbo33, provider: Peer::Dubbo33, protocol: "dubbo" }.run();
}

#[test]
fn dubbo_2_7_to_2_7() {
    Pair { consumer: Peer::Dubbo27, provider: Peer::Dubbo27, protocol: "dubbo" }.run();
}

#[test]
fn dubbo_3_3_to_2_7() {
    Pair { consumer: Peer::Dubbo33, provider: Peer::Dubbo27, protocol: "auto" }.run();
}

#[test]
fn dubbo_2_7_to_3_3() {
    Pair { consumer: Peer::Dubbo27, provider: Peer::Dubbo33, protocol: "[bolt, dubbo]" }.run();
}

#[test]
fn sofarpc_to_sofarpc() {
    Pair { consumer: Peer::Sofa, provider: Peer::Sofa, protocol: "bolt" }.run();
}

#[test]
fn node_to_sofarpc() {
    Pair { consumer: Peer::Node, provider: Peer::Sofa, protocol: "auto" }.run();
}

#[test]
fn node_to_node() {
    Pair { consumer: Peer::Node, provider: Peer::Node, protocol: "[bolt, dubbo]" }.run();
}

/// A sidecar, a provider behind it and two consumers in front.
struct Stage {
    consumer: Peer,
    provider: Peer,
    blue: u16,
    green: u16,
    nowhere: u16,
    conf: String,
    sidecar: Sidecar,
    provider_process: Process,
    first: Process,
    second: Process,
    /// When all of them were ready.
    since: Instant,
}

impl Pair {
    fn run(&self) {
        static ONE_PAIR_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_PAIR_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stage = self.stage();
        stage.values();
        stage.refusals();
        match self.consumer {
            Peer::Dubbo33 | Peer::Dubbo27 => stage.only_dubbo(),
            Peer::Sofa => stage.only_sofarpc(),
            Peer::Node => {}
        }
        stage.idle_connection_was_kept();
        stage.in_parallel();
        stage.provider_restarts();
        if self.consumer == self.provider && self.consumer != Peer::Node {
            stage.sidecar_restarts();
        }
        stage.sidecar.assert_running();
    }

    fn stage(&self) -> Stage {
        let (blue, green, nowhere) = (free_port(), free_port(), free_port());
        let conf = self.conf(blue, green, nowhere);
        let sidecar = Sidecar::start(&conf);
        let egress = sidecar.port("egress");
        // All three come up at the same time; nothing is called before each has said that it is ready.
        let provider_process = Process::spawn("the provider", &mut self.provider.provider(blue, green));
        let (mut first, mut second) = (self.consumer.consumer(egress), self.consumer.consumer(egress));
        if self.consumer.is_dubbo() {
            first.args(["--heartbeat", HEARTBEAT_MS]);
            // Idle connections of this one heartbeat twice a second, which the sidecar has to answer.
            second.args(["--heartbeat", "500"]);
        }
        let first = Process::spawn("the first consumer", &mut first);
        let second = Process::spawn("the second consumer", &mut second);
        for process in [&provider_process, &first, &second] {
            process.ready();
        }
        let (consumer, provider) = (self.consumer, self.provider);
        Stage {
            consumer,
            provider,
            blue,
            green,
            nowhere,
            conf,
            sidecar,
            provider_process,
            first,
            second,
            since: Instant::now(),
        }
    }

    /// `green` is the same interface on another port: told apart by group and version (Dubbo, behind the arguments)
    /// or by unique id (Bolt, whose Node client puts no method name where a proxy could read it).
    fn conf(&self, blue: u16, green: u16, nowhere: u16) -> String {
        let (admin, egress, protocol) = (free_port(), free_port(), self.protocol);
        let timeout = ROUTE_TIMEOUT.as_millis();
        format!(
            r#"
app: real-peers
admin: 127.0.0.1:{admin}
listeners:
  egress:
    bind: 127.0.0.1:{egress}
    protocol: {protocol}
    routes:
      - match: {{ service: peer.api.DemoService, headers: {{ lane: nowhere }} }}
        to: nowhere
      - match: {{ service: peer.api.DemoService, group: green, version: "2.0.0" }}
        to: green
      - match: {{ service: peer.api.DemoService, version: "1.0:green" }}
        to: green
        timeout: {timeout}ms
      - match: {{ service: peer.api.DemoService, method: slow }}
        to: blue
        timeout: {timeout}ms
      - match: {{ service: peer.api.DemoService }}
        to: blue
clusters:
  blue: {{ endpoints: ["127.0.0.1:{blue}"] }}
  green: {{ endpoints: ["127.0.0.1:{green}"] }}
  nowhere: {{ endpoints: ["127.0.0.1:{nowhere}"] }}
"#
        )
    }
}

impl Stage {
    /// Calls that succeed, and exceptions of the service itself.
    fn values(&mut self) {
        let consumer = &mut self.first;
        expect(consumer, "echo hello", "hello");
        expect(consumer, "who", "blue");
        assert_eq!(value(&consumer.ask("nothing")), Value::Null);
        expect(consumer, &format!("bigtext {MIB}"), &format!("{MIB} equal"));
        match (self.consumer, self.provider) {
            // Node's consumer compares the fields itself; its server knows no enums.
            (Peer::Node, Peer::Node) => assert!(consumer.ask("pojo")["ok"] == true),
            (Peer::Node, _) => expect(consumer, "pojo", "SHIPPED"),
            _ => expect(consumer, "pojo", ORDER),
        }
        let failed = failure(&consumer.ask("fail 42 no-such-order"));
        if self.provider == Peer::Node {
            let message = "com.alipay.remoting.rpc.exception.RpcServerException: Error: no-such-order";
            assert_eq!((&*failed.exception, &*failed.message), ("Error", message));
        } else {
            assert_eq!((&*failed.exception, &*failed.message), ("peer.api.DemoException", "no-such-order"));
        }
        if self.consumer != Peer::Node {
            assert_eq!(failed.code, "42", "a field of the exception itself");
            let crashed = failure(&consumer.ask("crash boom"));
            assert_eq!((&*crashed.exception, &*crashed.message), ("java.lang.IllegalStateException", "boom"));
            expect(consumer, &format!("bigbytes {MIB}"), &format!("{MIB} equal"));
            // The number of times it arrived, seen by later calls.
            expect(consumer, "oneway token-1", "1");
            expect(consumer, "generic hello", "hello");
            expect(consumer, "genericpojo", "generic/7/SHIPPED");
        }
        expect(consumer, "green", "green");
    }

    /// What the caller sees when the sidecar itself answers: a timeout, and a service that no route names.
    fn refusals(&mut self) {
        let consumer = &mut self.first;
        let expired =
            failure(&consumer.ask(if self.consumer == Peer::Node { "greenslow 1500" } else { "slow 1500" }));
        let (cluster, port) =
            if self.consumer == Peer::Node { ("green", self.green) } else { ("blue", self.blue) };
        let words = format!("outrigger: no answer from 127.0.0.1:{port} (cluster {cluster}) within 3");
        expired.is(Refused::TimedOut, self.consumer, &words);
        assert!(expired.took >= ROUTE_TIMEOUT, "too early: {expired:?}");
        assert!(expired.took <= TIMEOUT_SEEN_MAX, "too late: {expired:?}");
        expect(consumer, "echo after-the-timeout", "after-the-timeout");

        let missing = failure(&consumer.ask("missing"));
        let words = "outrigger: no route for peer.api.MissingService.ping on listener egress";
        missing.is(Refused::NoRoute, self.consumer, words);

        // The provider's late answer arrives about now; it must not be taken for another call's.
        std::thread::sleep(Duration::from_millis(1300));
        expect(consumer, "echo after-the-late-answer", "after-the-late-answer");
    }

    fn only_dubbo(&mut self) {
        let consumer = &mut self.first;
        expect(consumer, "ping", "still there");
        let failed = failure(&consumer.ask("genericfail 7 generic-no"));
        assert_eq!(failed.exception, "com.alibaba.dubbo.rpc.service.GenericException");
        assert!(failed.message.starts_with("peer.api.DemoException: generic-no"), "{failed:?}");
        self.routed_by_attachment();
    }

    fn only_sofarpc(&mut self) {
        let consumer = &mut self.first;
        let failed = failure(&consumer.ask("genericfail 7 generic-no"));
        assert_eq!((&*failed.exception, &*failed.message), ("peer.api.DemoException", "generic-no"));
        self.routed_by_attachment();
    }

    /// A pair beside the call (an attachment, which Dubbo writes behind the order; a header in Bolt) decides where it
    /// goes: to a port that refuses connections.
    fn routed_by_attachment(&mut self) {
        let refused = failure(&self.first.ask("attached lane nowhere"));
        let words = format!("outrigger: cannot reach 127.0.0.1:{} (cluster nowhere)", self.nowhere);
        refused.is(Refused::Unreachable, self.consumer, &words);
        expect(&mut self.first, "attached lane somewhere", ORDER);
    }

    /// The second consumer's connection has been idle since it came up. Dubbo dials again, and says so, when three
    /// heartbeats in a row (1.5 s here) bring nothing back.
    fn idle_connection_was_kept(&mut self) {
        if self.consumer.is_dubbo() {
            std::thread::sleep(IDLE_MIN.saturating_sub(self.since.elapsed()));
            let log = self.second.log();
            assert!(!log.contains("Reconnect"), "heartbeats were not answered:\n{log}");
        }
    }

    /// 200 calls at once, 100 from each process, answered out of order: each must get its own answer.
    fn in_parallel(&mut self) {
        // Once to warm two cold JVMs up, then for the record.
        for _ in 0..2 {
            self.first.send("parallel 100");
            self.second.send("parallel 100");
            for consumer in [&self.first, &self.second] {
                assert_eq!(value(&consumer.answer()), "own=100 other=0 failed=none");
            }
        }
        let peak = value(&self.first.ask("peak"));
        let peak: u32 = peak.as_str().and_then(|n| n.parse().ok()).expect("a number");
        assert!(peak >= 20, "only {peak} calls were in the provider at once: the sidecar serialises them");
    }

    /// The provider dies in mid-call and comes back on its port; consumers and sidecar stay.
    fn provider_restarts(&mut self) {
        self.second.send("late lost 4000");
        std::thread::sleep(Duration::from_millis(400));
        let killed = Instant::now();
        self.provider_process.kill();
        let lost = failure(&self.second.answer());
        assert!(killed.elapsed() <= UNREACHABLE_SEEN_MAX, "{:?}: {lost:?}", killed.elapsed());
        let blue = self.blue;
        let words =
            format!("outrigger: connection to 127.0.0.1:{blue} (cluster blue) was lost before the answer");
        lost.is(Refused::Unreachable, self.consumer, &words);

        let down = failure(&self.first.ask("echo nobody-there"));
        assert!(down.took <= UNREACHABLE_SEEN_MAX, "{down:?}");
        let words = format!("outrigger: cannot reach 127.0.0.1:{blue} (cluster blue)");
        down.is(Refused::Unreachable, self.consumer, &words);

        let mut again = self.provider.provider(blue, self.green);
        self.provider_process = Process::start("the provider, again", &mut again);
        self.both_call_again(Duration::from_secs(5));
    }

    /// The sidecar is told to end in mid-call, does so in order, and another takes its place; provider and consumers
    /// stay. The call is not `slow`, which the conf cuts short.
    fn sidecar_restarts(&mut self) {
        let (case, expected) = if self.consumer.is_dubbo() {
            // What this case sees of READONLY it must not see without.
            expect(&mut self.first, "retired not 100", "not in service");
            ("retired kept 1000", "kept retired")
        } else {
            ("late kept 1000", "kept")
        };
        self.first.send(case);
        std::thread::sleep(Duration::from_millis(300));
        self.sidecar.term();
        let asked = Instant::now();
        assert_eq!(value(&self.first.answer()), expected);
        let status = self.sidecar.wait(DRAINED_MAX.saturating_sub(asked.elapsed()));
        assert!(status.success(), "after TERM the sidecar ended with {status}");
        // With nobody on the port a call fails at once, and that must not spoil the later ones.
        let down = failure(&self.second.ask("echo nobody-there"));
        assert!(down.took <= UNREACHABLE_SEEN_MAX, "{down:?}");

        self.sidecar = Sidecar::start(&self.conf);
        self.both_call_again(REDIALLED_MAX);
    }

    /// Both consumers get answers within the limit, whatever their first calls meet, and from then on for good.
    fn both_call_again(&mut self, limit: Duration) {
        for consumer in [&mut self.first, &mut self.second] {
            let mut answer = Value::Null;
            let back = support::within(limit, || {
                answer = consumer.ask("echo back");
                let answered = answer["ok"] == true;
                if !answered {
                    // A refusal takes no time, and each is a line in the consumer's log.
                    std::thread::sleep(Duration::from_millis(100));
                }
                answered
            });
            assert!(back, "no call succeeds after the restart: {answer}");
            assert_eq!(value(&answer), "back");
            assert_eq!(value(&consumer.ask("parallel 50")), "own=50 other=0 failed=none");
        }
    }
}

/// What a framework threw.
#[derive(Debug)]
struct Failure {
    exception: String,
    code: String,
    message: String,
    causes: String,
    took: Duration,
}

/// What the sidecar answered in place of the provider.
#[derive(Clone, Copy)]
enum Refused {
    TimedOut,
    NoRoute,
    Unreachable,
}

impl Failure {
    /// That the consumer's framework made of our answer what it makes of its own kind of failure. `words` is our
    /// message: Dubbo shows it; SOFARPC and sofa-rpc-node know the status alone and have words of their own.
    fn is(&self, refused: Refused, consumer: Peer, words: &str) {
        let (exception, code, cause, message) = match (consumer, refused) {
            (Peer::Dubbo33 | Peer::Dubbo27, Refused::TimedOut) => (
                "org.apache.dubbo.rpc.RpcException",
                "2",
                "org.apache.dubbo.remoting.TimeoutException",
                words,
            ),
            (Peer::Dubbo33 | Peer::Dubbo27, Refused::NoRoute | Refused::Unreachable) => (
                "org.apache.dubbo.rpc.RpcException",
                "1",
                "org.apache.dubbo.remoting.RemotingException",
                words,
            ),
            (Peer::Sofa, Refused::TimedOut) => (
                "com.alipay.sofa.rpc.core.exception.SofaTimeOutException",
                "200",
                "com.alipay.remoting.rpc.exception.InvokeTimeoutException",
                "Rpc invocation timeout[responseCommand TIMEOUT]!",
            ),
            (Peer::Sofa, Refused::NoRoute) => (
                "com.alipay.sofa.rpc.core.exception.SofaRpcException",
                "299",
                "com.alipay.remoting.rpc.exception.InvokeException",
                "Rpc invocation exception: NO_PROCESSOR",
            ),
            (Peer::Sofa, Refused::Unreachable) => (
                "com.alipay.sofa.rpc.core.exception.SofaRpcException",
                "250",
                "com.alipay.remoting.exception.ConnectionClosedException",
                "Connection closed!",
            ),
            (Peer::Node, _) => {
                ("Error", "", "", "Server exception when invoke with callback.Please check the server log!")
            }
        };
        assert_eq!((&*self.exception, &*self.code), (exception, code), "{self:?}");
        assert!(self.causes.contains(cause), "not because of {cause}: {self:?}");
        assert!(self.message.contains(message), "no {message:?} in it: {self:?}");
    }
}

/// One case that must succeed with this value.
fn expect(consumer: &mut Process, case: &str, expected: &str) {
    assert_eq!(value(&consumer.ask(case)), expected, "case {case}");
}

fn value(answer: &Value) -> Value {
    assert_eq!(answer["ok"], true, "{answer}");
    answer["value"].clone()
}

fn failure(answer: &Value) -> Failure {
    assert_eq!(answer["ok"], false, "{answer}");
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Failure {
        exception: text("exception"),
        code: text("code"),
        message: text("message"),
        causes: answer["causes"].to_string(),
        took: Duration::from_micros(answer["us"].as_u64().expect("every case is timed")),
    }
}
