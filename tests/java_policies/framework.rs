//! The Java frameworks of these tests: how their programs are started, and how each spells what went wrong.
//!
//! The spellings are the frameworks' own, as they throw them where nothing stands between consumer and provider. Must
//! know nothing of the sidecar but its protocols' names.

use std::path::Path;
use std::process::Command;

use super::support::peers::{LOOPBACK_NAME, Peer};

/// How many calls a provider takes at once.
pub(crate) const THREADS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Java {
    Dubbo33,
    Dubbo27,
    /// Dubbo 3.3.
    Triple,
    Sofa,
}

/// An exception as its caller catches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thrown {
    pub(crate) class: &'static str,
    /// The framework's number for its kind; of Triple, where one came, the status.
    pub(crate) code: &'static str,
    /// The classes of its causes, the nearest first.
    pub(crate) causes: &'static [&'static str],
}

/// A failure for which a framework may try again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    TimedOut,
    Busy,
    Lost,
}

const EXECUTION: &str = "java.util.concurrent.ExecutionException";
const RPC: &str = "org.apache.dubbo.rpc.RpcException";
const STATUS: &[&str] = &[EXECUTION, "org.apache.dubbo.rpc.StatusRpcException"];
const SOFA: &str = "com.alipay.sofa.rpc.core.exception.SofaRpcException";

/// `RpcException.TIMEOUT_EXCEPTION`, as the consumer's own timer has it in Dubbo 2.7, and an answer in both.
const DUBBO_TIMED_OUT: Thrown =
    Thrown { class: RPC, code: "2", causes: &[EXECUTION, "org.apache.dubbo.remoting.TimeoutException"] };
/// `RpcException.TIMEOUT_EXCEPTION`, as the consumer's own timer has it in Dubbo 3.3.
const DUBBO_WAITED: Thrown =
    Thrown { class: RPC, code: "2", causes: &["java.util.concurrent.TimeoutException"] };
/// `RpcException.NETWORK_EXCEPTION`.
const DUBBO_NETWORK: Thrown =
    Thrown { class: RPC, code: "1", causes: &[EXECUTION, "org.apache.dubbo.remoting.RemotingException"] };
/// `RpcErrorType.CLIENT_TIMEOUT`.
const SOFA_TIMED_OUT: Thrown = Thrown {
    class: "com.alipay.sofa.rpc.core.exception.SofaTimeOutException",
    code: "200",
    causes: &["com.alipay.remoting.rpc.exception.InvokeTimeoutException"],
};
/// `RpcErrorType.SERVER_BUSY`.
const SOFA_BUSY: Thrown = Thrown {
    class: SOFA,
    code: "100",
    causes: &["com.alipay.remoting.rpc.exception.InvokeServerBusyException"],
};
/// `RpcErrorType.CLIENT_NETWORK`.
const SOFA_NETWORK: Thrown =
    Thrown { class: SOFA, code: "250", causes: &["com.alipay.remoting.exception.ConnectionClosedException"] };
/// `RpcErrorType.CLIENT_UNDECLARED_ERROR`, for what Bolt calls `NO_PROCESSOR`.
const SOFA_NOBODY: Thrown =
    Thrown { class: SOFA, code: "299", causes: &["com.alipay.remoting.rpc.exception.InvokeException"] };
/// `RpcErrorType.SERVER_UNDECLARED_ERROR`, an object of SOFARPC's that a provider answers with.
const SOFA_NOT_FOUND: Thrown = Thrown { class: SOFA, code: "199", causes: &[] };
/// What Dubbo makes of any other end of a call over Triple.
const fn triple(code: &'static str) -> Thrown {
    Thrown { class: RPC, code, causes: STATUS }
}

impl Java {
    fn peer(self) -> Peer {
        match self {
            Self::Dubbo33 | Self::Triple => Peer::Dubbo33,
            Self::Dubbo27 => Peer::Dubbo27,
            Self::Sofa => Peer::Sofa,
        }
    }

    /// What the listener speaks.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => "dubbo",
            Self::Triple => "triple",
            Self::Sofa => "bolt",
        }
    }

    /// What listens on this port of loopback, as a consumer is told of it.
    pub(crate) fn url(self, port: u16) -> String {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => format!("dubbo://{LOOPBACK_NAME}:{port}"),
            Self::Triple => format!("tri://{LOOPBACK_NAME}:{port}"),
            Self::Sofa => format!("bolt://127.0.0.1:{port}"),
        }
    }

    /// A provider that answers with its name and notes what it executes in this file.
    pub(crate) fn provider(self, name: &str, port: u16, journal: &Path) -> Command {
        let class = match self {
            Self::Dubbo33 | Self::Dubbo27 => "peer.Provider",
            Self::Triple => "peer.TripleProvider",
            Self::Sofa => "peer.SofaProvider",
        };
        let mut command = self.peer().java(class);
        if self != Self::Sofa {
            command.args(["--host", LOOPBACK_NAME]);
        }
        command.args(["--name", name, "--port", &port.to_string(), "--threads", &THREADS.to_string()]);
        command.arg("--journal").arg(journal);
        command
    }

    /// A consumer whose calls each say where they go, with this pair, `key=value`, beside each of them.
    pub(crate) fn consumer(self, port: u16, pair: &str) -> Command {
        let class = match self {
            Self::Dubbo33 | Self::Dubbo27 => "peer.Consumer",
            Self::Triple => "peer.TripleConsumer",
            Self::Sofa => "peer.SofaConsumer",
        };
        let mut command = self.peer().java(class);
        command.args(["--url", &self.url(port), "--attach", pair]);
        command
    }

    /// What a cluster's `tags` say beside what they are by default: applications of SOFARPC choose their own entry of the
    /// header map.
    pub(crate) fn tags(self) -> &'static str {
        match self {
            Self::Sofa => "header: [release, dubbo.tag], metadata: dubbo.tag",
            Self::Dubbo33 | Self::Dubbo27 | Self::Triple => "",
        }
    }

    /// What carries it.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Sofa => "release",
            Self::Dubbo33 | Self::Dubbo27 | Self::Triple => "dubbo.tag",
        }
    }

    /// What a consumer makes of an answer that says that the time is over; of Triple, `DEADLINE_EXCEEDED`.
    pub(crate) fn timed_out(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => DUBBO_TIMED_OUT,
            Self::Triple => triple("grpc 4"),
            Self::Sofa => SOFA_TIMED_OUT,
        }
    }

    /// What a consumer throws when its own time is over.
    pub(crate) fn waited(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Triple => DUBBO_WAITED,
            Self::Dubbo27 => DUBBO_TIMED_OUT,
            Self::Sofa => SOFA_TIMED_OUT,
        }
    }

    /// What a consumer makes of a provider whose threads are all taken. Over Triple such a provider answers nothing: it
    /// ends the stream.
    pub(crate) fn busy(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => DUBBO_NETWORK,
            Self::Triple => triple("grpc 1"),
            Self::Sofa => SOFA_BUSY,
        }
    }

    /// What a consumer is to see of a call that was lost with its provider; of Triple, UNAVAILABLE.
    pub(crate) fn lost(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => DUBBO_NETWORK,
            Self::Triple => triple("grpc 14"),
            Self::Sofa => SOFA_NETWORK,
        }
    }

    /// What it sees of that where nothing stands between: either of the two. Dubbo 3.3 waits for its timeout, though the
    /// connection has ended, and has two clocks for it, of the caller and of the calls; and over Triple it says CANCELLED.
    pub(crate) fn lost_alone(self) -> (Thrown, Thrown) {
        match self {
            Self::Dubbo33 => (DUBBO_WAITED, DUBBO_TIMED_OUT),
            Self::Triple => (triple("grpc 1"), triple("grpc 1")),
            Self::Dubbo27 | Self::Sofa => (self.lost(), self.lost()),
        }
    }

    /// What a consumer is to see of a call that nobody may take; of Triple, UNAVAILABLE.
    pub(crate) fn nobody(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => DUBBO_NETWORK,
            Self::Triple => triple("grpc 14"),
            Self::Sofa => SOFA_NOBODY,
        }
    }

    /// What it sees, where nothing stands between, of a provider that has not got the service; of Triple, UNIMPLEMENTED.
    pub(crate) fn nobody_alone(self) -> Thrown {
        match self {
            Self::Dubbo33 | Self::Dubbo27 => DUBBO_NETWORK,
            Self::Triple => triple("grpc 12"),
            Self::Sofa => SOFA_NOT_FOUND,
        }
    }

    /// Whether a consumer that was given further tries makes one, once it was answered so. Dubbo 2.7 has no cluster
    /// around the one address that it was given, and over Triple an answer of any status ends a call.
    pub(crate) fn tries_again(self, failed: Failed) -> bool {
        match self {
            Self::Dubbo33 => true,
            Self::Dubbo27 | Self::Triple => false,
            Self::Sofa => failed != Failed::Lost,
        }
    }
}
