//! One framework's programs with a sidecar among them: two providers, for some parts a third, and a consumer that can call
//! through the sidecar or past it, for some parts a second one.
//!
//! Each call has a token of its own, and each provider notes the tokens that it executes. Must forget no token: at the end
//! each must have been executed as often as it had been when its test looked.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::framework::{Java, Thrown};
use super::support::{Process, Sidecar, TempDir, free_port, within};

/// Longer than anything takes that comes at all, and longer than any limit that is tested.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a consumer waits where its own timeout is not what is tested.
const TIMEOUT_MS: u32 = 8000;

/// A route for each kind of call, told apart by the pair `lane` beside it, and a cluster for each, so that each has its
/// turns to itself: of two calls one goes to either provider.
const LANES: [(&str, &str); 8] = [
    ("plain", ""),
    ("eager", ""),
    ("safe", "idempotent: true, retry: { on: [reset] }"),
    ("patient", "idempotent: true, retry: { per_try_timeout: 500ms }"),
    ("busy", "idempotent: true, retry: { on: [overloaded] }"),
    ("any", "idempotent: true, retry: { on: [reset, overloaded, error], tries: 3 }"),
    ("short", "timeout: 500ms"),
    ("shortany", "timeout: 500ms, idempotent: true, retry: { on: [reset, overloaded, error], tries: 3 }"),
];

pub(crate) struct Stage {
    pub(crate) java: Java,
    pub(crate) sidecar: Sidecar,
    pub(crate) providers: [Process; 2],
    consumer: Process,
    /// The third's is nobody's until it is started.
    ports: [u16; 3],
    /// Tokens, and how often each provider had executed them.
    seen: Vec<(String, [usize; 3])>,
    dir: TempDir,
}

/// A call, not yet made.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// `None`: past the sidecar, to the first provider.
    lane: Option<&'static str>,
    pub(crate) token: String,
    timeout: u32,
    retries: u32,
    beside: Vec<(&'static str, &'static str)>,
}

impl Ask {
    pub(crate) fn through(lane: &'static str, token: impl Into<String>) -> Self {
        Self { lane: Some(lane), token: token.into(), timeout: TIMEOUT_MS, retries: 0, beside: Vec::new() }
    }

    /// Past the sidecar to the first provider: what the framework does by itself.
    pub(crate) fn direct(token: impl Into<String>) -> Self {
        Self { lane: None, ..Self::through("", token) }
    }

    /// With a timeout of the consumer's own.
    pub(crate) fn timeout(self, timeout: u32) -> Self {
        Self { timeout, ..self }
    }

    /// With further tries by the framework itself.
    pub(crate) fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// With a pair beside it: an attachment of Dubbo's, a header of Bolt's.
    pub(crate) fn beside(mut self, key: &'static str, value: &'static str) -> Self {
        self.beside.push((key, value));
        self
    }
}

/// What the consumer saw.
#[derive(Clone, Debug)]
pub(crate) struct Got(Value);

impl Got {
    /// What a consumer saw of a case that is no call of a stage.
    pub(crate) fn of(consumer: &mut Process, case: &str) -> Self {
        Self(consumer.ask(case))
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// That the call was answered, by this provider, and no exception was seen.
    #[track_caller]
    pub(crate) fn is_from(&self, name: &str, token: &str) {
        assert_eq!(self.0["ok"], true, "{}", self.0);
        assert_eq!(self.text("value"), format!("{name} {token}"));
    }

    pub(crate) fn ok(&self) -> bool {
        self.0["ok"] == true
    }

    /// That an exception was thrown, of this class, with these words.
    #[track_caller]
    pub(crate) fn threw_own(&self, class: &str, code: &str, message: &str) {
        let got = (self.text("exception"), self.text("code"), self.text("message"));
        assert_eq!(got, (class, code, message), "{}", self.0);
        assert_eq!(self.0["causes"], Value::Array(Vec::new()), "it came as it was thrown: {}", self.0);
    }

    /// That just this was thrown.
    #[track_caller]
    pub(crate) fn threw(&self, thrown: Thrown) -> &Self {
        assert!(self.is(thrown), "not {thrown:?}: {}", self.0);
        self
    }

    /// That either was thrown: which is a matter of whose clock is a hair faster.
    #[track_caller]
    pub(crate) fn threw_either(&self, one: Thrown, other: Thrown) -> &Self {
        assert!(self.is(one) || self.is(other), "neither {one:?} nor {other:?}: {}", self.0);
        self
    }

    fn is(&self, thrown: Thrown) -> bool {
        let causes: Vec<&str> =
            self.0["causes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        (self.text("exception"), self.text("code")) == (thrown.class, thrown.code) && causes == thrown.causes
    }

    /// That it took at least so long, and not nearly so long as the consumer would have waited.
    #[track_caller]
    pub(crate) fn took_from(&self, least: Duration) {
        let took = self.took();
        assert!(took >= least && took < Duration::from_millis(TIMEOUT_MS.into()) / 2, "{}", self.0);
    }

    fn took(&self) -> Duration {
        Duration::from_micros(self.0["us"].as_u64().expect("every case is timed"))
    }
}

impl Stage {
    pub(crate) fn new(java: Java) -> Self {
        let dir = TempDir::new();
        let ports = [free_port(), free_port(), free_port()];
        let sidecar = Sidecar::start(&conf(java, ports));
        let providers = [0, 1].map(|at| provider(java, at, ports, &dir));
        let mut calls = java.consumer(sidecar.port("egress"), "from=command-line");
        let consumer = Process::spawn("the consumer", &mut calls);
        for process in providers.iter().chain([&consumer]) {
            process.ready();
        }
        let mut stage = Self { java, sidecar, providers, consumer, ports, seen: Vec::new(), dir };
        stage.warm_up();
        stage
    }

    /// Connections are there, and classes loaded, before anything is asked that has a limit. Nothing fails here.
    fn warm_up(&mut self) {
        for (lane, _) in LANES.into_iter().filter(|(_, route)| !route.contains("timeout")) {
            let tokens = [format!("warm-{lane}-0"), format!("warm-{lane}-1")];
            let got = tokens.clone().map(|token| self.call(&Ask::through(lane, token)));
            let mut by: Vec<_> = got.iter().map(|got| got.text("value").split(' ').next()).collect();
            by.sort_unstable();
            assert_eq!(by, [Some("first"), Some("second")], "{got:?}");
            for token in &tokens {
                assert_eq!(self.executed_in_all(token), 1, "{token}");
            }
        }
        self.call(&Ask::direct("warm-direct")).is_from("first", "warm-direct");
    }

    /// The third provider: it lives as long as its part holds it.
    pub(crate) fn third(&self) -> Process {
        let third = provider(self.java, 2, self.ports, &self.dir);
        third.ready();
        third
    }

    /// A consumer that says this pair beside each of its calls of this stage. Its other cases go past the sidecar, to the
    /// first provider.
    pub(crate) fn consumer_saying(&self, pair: &str) -> Process {
        let consumer = Process::spawn("the other consumer", &mut self.java.consumer(self.ports[0], pair));
        consumer.ready();
        consumer
    }

    fn line(&self, ask: &Ask) -> String {
        let Ask { lane, token, timeout, retries, beside } = ask;
        let port = if lane.is_some() { self.sidecar.port("egress") } else { self.ports[0] };
        let mut line = format!("work {} {timeout} {retries} {token}", self.java.url(port));
        for (key, value) in lane.map(|lane| ("lane", lane)).iter().chain(beside) {
            write!(line, " {key} {value}").expect("a text grows");
        }
        line
    }

    /// Makes a call and waits for its end. It has a thread to itself: Dubbo 2.7, given one address, has no cluster around it
    /// that would take what is beside a call away from the next calls of its thread.
    pub(crate) fn call(&mut self, ask: &Ask) -> Got {
        let line = self.line(ask);
        Got(self.consumer.ask(&format!("& {line}")))
    }

    /// The same by a consumer of the part's own.
    pub(crate) fn call_by(&self, consumer: &mut Process, ask: &Ask) -> Got {
        Got(consumer.ask(&format!("& {}", self.line(ask))))
    }

    /// A case of the consumer's that is no call of this stage.
    pub(crate) fn other(&mut self, case: &str) -> Got {
        Got(self.consumer.ask(case))
    }

    /// Makes a call that either provider must answer, and execute once.
    #[track_caller]
    pub(crate) fn is_answered(&mut self, ask: &Ask) {
        let got = self.call(ask);
        let by = if self.executed(&ask.token) == [1, 0] { "first" } else { "second" };
        got.is_from(by, &ask.token);
        assert_eq!(self.executed_in_all(&ask.token), 1);
    }

    /// Makes calls beside each other, each once those before it have come to a provider; the calls' ends come by `ends`.
    pub(crate) fn begin(&mut self, asks: &[Ask]) {
        for ask in asks {
            let line = self.line(ask);
            self.consumer.send(&format!("& {line}"));
            let token = &ask.token;
            let came = within(PATIENCE, || self.counts(token).iter().sum::<usize>() > 0);
            assert!(came, "{token} came to no provider");
        }
    }

    /// How calls ended that were begun, in their order.
    pub(crate) fn ends(&mut self, asks: &[Ask]) -> Vec<Got> {
        let mut came: Vec<Value> = asks.iter().map(|_| self.consumer.answer()).collect();
        let mut take = |ask: &Ask| {
            let line = self.line(ask);
            let at = came.iter().position(|answer| answer["case"] == *line);
            Got(came.swap_remove(at.unwrap_or_else(|| panic!("no end of {line}: {came:?}"))))
        };
        asks.iter().map(&mut take).collect()
    }

    /// How often each provider has executed the call of this token; it must stay so until the end.
    pub(crate) fn executed(&mut self, token: &str) -> [usize; 2] {
        let [first, second, third] = self.executed_by_three(token);
        assert_eq!(third, 0, "{token} came to the third");
        [first, second]
    }

    /// The same where there are three.
    pub(crate) fn executed_by_three(&mut self, token: &str) -> [usize; 3] {
        let counts = self.counts(token);
        self.seen.push((token.to_owned(), counts));
        counts
    }

    /// The same of both together.
    pub(crate) fn executed_in_all(&mut self, token: &str) -> usize {
        self.executed(token).iter().sum()
    }

    /// How often each provider has begun to execute it so far.
    pub(crate) fn count(&self, token: &str) -> [usize; 2] {
        let [first, second, _] = self.counts(token);
        [first, second]
    }

    /// The same where there are three.
    pub(crate) fn counts(&self, token: &str) -> [usize; 3] {
        [0, 1, 2].map(|at| {
            let journal = std::fs::read_to_string(journal(&self.dir, at)).unwrap_or_default();
            journal.lines().filter(|line| *line == token).count()
        })
    }

    /// What a provider does with calls from now on: see `Desk.java`.
    pub(crate) fn tell(&mut self, at: usize, what: &str) {
        assert_eq!(self.providers[at].ask(what)["value"], what);
    }

    /// Both of them.
    pub(crate) fn tell_both(&mut self, what: &str) {
        (0..2).for_each(|at| self.tell(at, what));
    }

    /// Nothing was executed since anybody looked, and the sidecar lives.
    pub(crate) fn end(mut self) {
        for (token, count) in &self.seen {
            assert_eq!(self.counts(token), *count, "{token} was executed once more, after its end");
        }
        self.sidecar.assert_running();
    }
}

fn journal(dir: &TempDir, at: usize) -> PathBuf {
    dir.path().join(format!("journal-{at}"))
}

fn provider(java: Java, at: usize, ports: [u16; 3], dir: &TempDir) -> Process {
    let name = ["first", "second", "third"][at];
    Process::spawn(&format!("the {name} provider"), &mut java.provider(name, ports[at], &journal(dir, at)))
}

/// Routes and clusters whose endpoints have tags: nobody has it but the second, and where there are three, the third.
fn tagged(java: Java, [first, second, third]: [u16; 3]) -> (String, String) {
    let gray = |port: u16| format!("{{ address: \"127.0.0.1:{port}\", metadata: {{ dubbo.tag: gray }} }}");
    let (two, gray_third) = (format!("\"127.0.0.1:{first}\", {}", gray(second)), gray(third));
    let (mut routes, mut clusters) = (String::new(), String::new());
    for (lane, route, endpoints, fallback) in [
        ("tags", "", two.clone(), ""),
        ("strict", "", two.clone(), "fallback: false"),
        ("three", ", idempotent: true, retry: { on: [reset] }", format!("{two}, {gray_third}"), ""),
        ("gone", ", idempotent: true", format!("\"127.0.0.1:{first}\", {gray_third}"), ""),
    ] {
        let tags = [java.tags(), fallback].into_iter().filter(|some| !some.is_empty());
        let tags = tags.collect::<Vec<_>>().join(", ");
        let route = format!("{{ match: {{ headers: {{ lane: {lane} }} }}, to: {lane}{route} }}");
        writeln!(routes, "      - {route}").expect("a text grows");
        let rest = "balance: round_robin, outlier: { share_max: 0% }";
        writeln!(clusters, "  {lane}: {{ endpoints: [{endpoints}], tags: {{ {tags} }}, {rest} }}")
            .expect("a text grows");
    }
    (routes, clusters)
}

fn conf(java: Java, ports: [u16; 3]) -> String {
    let [first, second, _] = ports;
    let (admin, egress, protocol) = (free_port(), free_port(), java.protocol());
    // A tag decides where a call goes, together with what the consumer's command line says.
    let mut routes = String::from(
        "      - { match: { headers: { lane: tagged, dubbo.tag: gray, from: command-line } }, to: second }\n      \
         - { match: { headers: { lane: tagged } }, to: first }\n",
    );
    let mut clusters = format!(
        "  first: {{ endpoints: [\"127.0.0.1:{first}\"] }}\n  second: {{ endpoints: [\"127.0.0.1:{second}\"] }}\n"
    );
    for (lane, route) in LANES {
        let comma = if route.is_empty() { "" } else { ", " };
        let line = writeln!(
            routes,
            "      - {{ match: {{ headers: {{ lane: {lane} }} }}, to: {lane}{comma}{route} }}"
        );
        line.expect("a text grows");
        let endpoints = format!("endpoints: [\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]");
        let rest = "balance: round_robin, outlier: { share_max: 0% }";
        writeln!(clusters, "  {lane}: {{ {endpoints}, {rest} }}").expect("a text grows");
    }
    let (more_routes, more_clusters) = tagged(java, ports);
    routes.push_str(&more_routes);
    clusters.push_str(&more_clusters);
    routes.push_str("      - { match: { service: peer.talk.Talk }, to: second }\n");
    format!(
        "app: java-policies\nadmin: 127.0.0.1:{admin}\nworkers: 1\nlisteners:\n  egress:\n    bind: 127.0.0.1:{egress}\n    \
         protocol: {protocol}\n    routes:\n{routes}clusters:\n{clusters}"
    )
}
