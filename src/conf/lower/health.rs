//! What the conf means for health checks: whom to ask what, how often, and what follows from the answers.
//!
//! A check that no endpoint could ever answer is a mistake, and is told as one.

use std::{fmt, time::Duration};

use super::{
    super::{file, health, report::quote, units, yaml::At},
    Lowering,
};

/// How the endpoints of a cluster are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPlan {
    /// What they are asked.
    pub check: health::Check,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take, from before the connection is made; at most `interval`.
    pub timeout: Duration,
    /// Bad ones in a row that make an endpoint ill, at least 1.
    pub unhealthy: u32,
    /// Good ones in a row that make it well again, at least 1.
    pub healthy: u32,
}

/// What is answered within this is not late, unless the conf says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Nobody is asked more often.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Lowering<'_> {
    /// How the endpoints of a cluster are checked; `None`: they are not.
    pub(super) fn health(&mut self, at: At<'_>, cluster: &file::Cluster) -> Option<HealthPlan> {
        let health = cluster.health.as_ref()?;
        let interval = health.interval.get();
        if interval < INTERVAL_MIN {
            self.problems.push(at.key("interval").problem("expected 100ms or more"));
        }
        let timeout = health.timeout.map(units::Duration::get);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.problems.push(at.key("timeout").problem("expected a time above 0s"));
        } else if timeout.is_some_and(|timeout| timeout > interval) {
            let message = format!("expected at most the interval, which is {}", health.interval);
            self.problems.push(at.key("timeout").problem(message));
        }
        for (key, count) in [("unhealthy", health.unhealthy), ("healthy", health.healthy)] {
            if count == 0 {
                self.problems.push(at.key(key).problem("expected at least 1"));
            }
        }
        match &health.check {
            health::Check::Http(check) => self.http_check(at.key("check").key("http"), check),
            health::Check::Tcp | health::Check::Grpc(_) | health::Check::Heartbeat(_) => {}
        }
        Some(HealthPlan {
            check: health.check.clone(),
            interval,
            timeout: timeout.unwrap_or(TIMEOUT.min(interval)),
            unhealthy: health.unhealthy,
            healthy: health.healthy,
        })
    }

    pub(super) fn http_check(&mut self, at: At<'_>, check: &health::HttpCheck) {
        let path = &check.path;
        if let Some(found) = path.chars().find(|c| !super::http::is_sent(*c)) {
            let message = format!("a path on its way has no {}", quote(&found.to_string()));
            let help = format!("write it as it is sent: {}", super::http::escaped(path));
            self.problems.push(at.key("path").problem(message).with_help(help));
        } else if !path.starts_with('/') {
            let problem = at.key("path").problem("a path begins with `/`");
            self.problems.push(problem.with_help(format!("write /{path}")));
        }
        if let Some(authority) = &check.authority {
            self.whole_authority(at.key("authority"), authority);
        }
        if check.statuses.is_empty() {
            self.problems.push(at.key("statuses").problem("expected at least one status of a good answer"));
        }
        for (i, status) in check.statuses.iter().enumerate() {
            let at = at.key("statuses").index(i);
            if !(200..=599).contains(status) {
                self.problems.push(at.problem(format!("expected a status of 200 to 599, found {status}")));
            } else if check.statuses.iter().take(i).any(|other| other == status) {
                self.problems.push(at.problem(format!("{status} is listed twice")));
            }
        }
    }
}

impl fmt::Display for health::Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => out.write_str("a connection"),
            Self::Http(check) => {
                write!(out, "GET {}", check.path)?;
                let host = check.authority.as_ref();
                host.map_or(Ok(()), |authority| write!(out, " of {authority}"))?;
                let statuses: Vec<String> = check.statuses.iter().map(u16::to_string).collect();
                write!(out, " answered with {}", statuses.join(", "))
            }
            Self::Grpc(check) if check.service.is_empty() => out.write_str("gRPC's health service"),
            Self::Grpc(check) => write!(out, "gRPC's health service, asked about {}", check.service),
            Self::Heartbeat(protocol) => write!(out, "a heartbeat of {protocol}"),
        }
    }
}

impl fmt::Display for HealthPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} within {:?}, every {:?}; ill after {} bad ones in a row, well again after {} good ones",
            self.check, self.timeout, self.interval, self.unhealthy, self.healthy
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conf::{lower::read, report::Report};

    /// A conf whose one cluster has a `health`, in line 7 from column 23.
    fn conf(health: &str) -> Result<Option<HealthPlan>, Report> {
        let text = format!(
            "app: a\nlisteners:\n  l: {{ bind: '127.0.0.1:1', routes: [{{ to: c }}] }}\nclusters:\n  c:\n    \
             endpoints: ['a:1']\n    health: {health}\n"
        );
        read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
            .map(|mut plan| plan.clusters.remove(0).health)
    }

    #[track_caller]
    fn well(health: &str) -> HealthPlan {
        conf(health).unwrap_or_else(|report| panic!("{report}")).expect("there is one")
    }

    #[track_caller]
    fn refused(health: &str) -> Vec<String> {
        let report = conf(health).expect_err("it is wrong");
        let told = report.problems().iter().map(|problem| {
            let help = problem.help.as_deref().unwrap_or("-");
            format!("{}:{} {} | {help}", problem.span.line, problem.span.column, problem.message)
        });
        told.collect()
    }

    #[test]
    fn each_kind_is_a_word_or_a_map_and_all_have_defaults() {
        let http = |path: &str, authority: Option<&str>, statuses: &[u16]| {
            let (path, authority) = (path.to_owned(), authority.map(str::to_owned));
            health::Check::Http(health::HttpCheck { path, authority, statuses: statuses.to_vec() })
        };
        let grpc = |service: &str| health::Check::Grpc(health::GrpcCheck { service: service.to_owned() });
        for (written, check) in [
            ("tcp", health::Check::Tcp),
            ("{ tcp: {} }", health::Check::Tcp),
            ("http", http("/", None, &[200])),
            ("{ http: { path: /healthz } }", http("/healthz", None, &[200])),
            (
                "{ http: { path: '/a?b=%20', authority: 'Ok.example:80', statuses: [204, 599] } }",
                http("/a?b=%20", Some("Ok.example:80"), &[204, 599]),
            ),
            ("grpc", grpc("")),
            ("{ grpc: { service: a.B } }", grpc("a.B")),
            ("bolt", health::Check::Heartbeat("bolt")),
            ("{ dubbo: {} }", health::Check::Heartbeat("dubbo")),
        ] {
            let plan = well(&format!("{{ check: {written} }}"));
            assert_eq!(plan.check, check, "{written}");
            assert_eq!((plan.interval.as_secs(), plan.timeout.as_secs()), (5, 1));
            assert_eq!((plan.unhealthy, plan.healthy), (3, 2));
        }
        let plan = well("{ check: tcp, interval: 100ms, unhealthy: 1, healthy: 7 }");
        assert_eq!((plan.unhealthy, plan.healthy, plan.timeout.as_millis()), (1, 7, 100));
        assert_eq!(well("{ check: tcp, interval: 9s, timeout: 9s }").timeout.as_secs(), 9);
    }

    #[test]
    fn mistakes_are_told_at_their_places() {
        const KINDS: &str = "`tcp`, `http`, `grpc`, `bolt` or `dubbo`";
        for (health, told) in [
            ("{ check: tcp, interval: 99ms }", "7:37 expected 100ms or more | -".to_owned()),
            ("{ check: tcp, timeout: 0s }", "7:36 expected a time above 0s | -".to_owned()),
            ("{ check: tcp, timeout: 6s }", "7:36 expected at most the interval, which is 5s | -".to_owned()),
            ("{ check: tcp, unhealthy: 0 }", "7:38 expected at least 1 | -".to_owned()),
            ("{ check: tcp, healthy: 0 }", "7:36 expected at least 1 | -".to_owned()),
            (
                "{ check: htp }",
                format!("7:22 unknown value `htp`, expected one of {KINDS} | did you mean `http`?"),
            ),
            (
                "{ check: { htp: { path: / } } }",
                format!("7:24 unknown value `htp`, expected one of {KINDS} | did you mean `http`?"),
            ),
            (
                "{ check: http1 }",
                format!("7:22 unknown value `http1`, expected one of {KINDS} | did you mean `http`?"),
            ),
            (
                "{ check: { tcp: {}, http: {} } }",
                "7:22 a cluster has one check, not `tcp` and `http` | leave one of them out".to_owned(),
            ),
            ("{ check: {} }", "7:22 expected one of tcp, http, grpc, bolt, dubbo | -".to_owned()),
            (
                "{ check: [tcp] }",
                "7:22 expected one of tcp, http, grpc, bolt, dubbo, or a map of one of them, found a list | -"
                    .to_owned(),
            ),
            ("{ check: { tcp: { port: 1 } } }", "7:31 unknown key `port`, expected none | -".to_owned()),
            (
                "{ check: { http: { path: health } } }",
                "7:38 a path begins with `/` | write /health".to_owned(),
            ),
            (
                "{ check: { http: { path: '/a b' } } }",
                "7:38 a path on its way has no ` ` | write it as it is sent: /a%20b".to_owned(),
            ),
            (
                "{ check: { http: { authority: 'a b' } } }",
                "7:43 expected `host` or `host:port`, found `a b` | as in example.com, example.com:8080 or \
                 [::1]:8080"
                    .to_owned(),
            ),
            (
                "{ check: { http: { statuses: [] } } }",
                "7:42 expected at least one status of a good answer | -".to_owned(),
            ),
            (
                "{ check: { http: { statuses: [200, 100] } } }",
                "7:48 expected a status of 200 to 599, found 100 | -".to_owned(),
            ),
            (
                "{ check: { http: { statuses: [200, 200] } } }",
                "7:48 200 is listed twice | -".to_owned(),
            ),
            (
                "{ interval: 1s }",
                "7:13 missing key `check` in `clusters.c.health` | -".to_owned(),
            ),
        ] {
            assert_eq!(refused(health), [told], "{health}");
        }
        let several = refused("{ check: { grpc: { servis: a } }, interval: 5, healthy: 0 }");
        assert_eq!(several.len(), 3, "{several:?}");
    }

    #[test]
    fn what_is_checked_is_told_in_words() {
        let told =
            well("{ check: { http: { path: /ok, authority: a.b, statuses: [200, 204] } } }").to_string();
        assert_eq!(
            told,
            "GET /ok of a.b answered with 200, 204 within 1s, every 5s; ill after 3 bad ones in a row, well again \
             after 2 good ones"
        );
        for (check, words) in [
            ("tcp", "a connection within"),
            ("grpc", "gRPC's health service within"),
            ("{ grpc: { service: a.B } }", "asked about a.B within"),
            ("bolt", "a heartbeat of bolt within"),
        ] {
            let told = well(&format!("{{ check: {check} }}")).to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
