//! Tests of the conf reader: every kind of mistake lands on its exact line and column, all of them in one report;
//! what follows from a mistake is not reported; and nothing that a file can hold makes it panic, hang or grow.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::decode::{OneOrMany, decode, load, load_with};
use super::report::{Problem, Report, Span, near};
use super::units::{Duration, Rate, Size};
use super::yaml::{self, At, DEPTH_MAX, Kind, Node, Step, Tree, locate};

// === a conf to read =================================================================================================

#[derive(Debug, Deserialize, PartialEq)]
struct Conf {
    app: String,
    workers: Option<u16>,
    #[serde(default)]
    strict: bool,
    drain_timeout: Option<Duration>,
    listeners: BTreeMap<String, Listener>,
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Listener {
    bind: Addr,
    protocol: Option<OneOrMany<Protocol>>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Route {
    #[serde(default)]
    matches: BTreeMap<String, Text>,
    to: String,
    timeout: Option<Duration>,
    limit: Option<Limit>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Limit {
    rate: Rate,
    burst: u32,
    body: Option<Size>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Auto,
    Bolt,
    Dubbo,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Registry {
    Zookeeper { address: Addr, session: Option<Duration> },
    File(String),
    Off,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(try_from = "String")]
struct Addr(std::net::SocketAddr);

impl TryFrom<String> for Addr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected an address, found `{text}`\nhelp: write 127.0.0.1:80"))
    }
}

/// A type that reads itself: text, or a map with one choice.
#[derive(Debug, PartialEq)]
enum Text {
    Exact(String),
    Other(Pattern),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Pattern {
    Prefix(String),
    Present(bool),
    Any(Vec<String>),
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("text or a pattern")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Exact(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
                Pattern::deserialize(MapAccessDeserializer::new(map)).map(Text::Other)
            }
        }
        deserializer.deserialize_str(Either)
    }
}

const GOOD: &str = "\
app: shop
workers: 2
strict: true
drain_timeout: 30s
listeners:
  egress:
    bind: 127.0.0.1:12220   # a comment
    protocol: [bolt, dubbo]
    routes:
      - matches: { service: com.example.Echo, version: 1.0, x: { prefix: a } }
        to: echo
        timeout: 250ms
        limit: { rate: 1000/s, burst: 100, body: 8MiB }
      - to: rest
  ingress: { bind: '127.0.0.1:12221', protocol: auto }
registries:
  zk: { zookeeper: { address: '127.0.0.1:2181' } }
  disk: { file: services.yaml }
  none: off
";

// === helpers ========================================================================================================

fn no_env(_: &str) -> Option<String> {
    None
}

fn env(name: &str) -> Option<String> {
    match name {
        "N" => Some("3".to_owned()),
        "NAME" => Some("shop: [x]".to_owned()),
        "EMPTY" => Some(String::new()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

/// A conf, and the tree it came from.
#[derive(Debug)]
struct Read {
    value: Conf,
    root: Node,
}

fn conf(text: &str) -> Result<Read, Report> {
    load_with("conf.yaml", text.as_bytes(), &env, |value, root| {
        (Read { value, root: root.clone() }, Vec::new())
    })
}

/// The problems as `line:column message`.
#[track_caller]
fn refused(text: &str) -> Vec<String> {
    shorten(&conf(text).expect_err("the conf has mistakes"))
}

fn shorten(report: &Report) -> Vec<String> {
    report.problems().iter().map(|p| format!("{}:{} {}", p.span.line, p.span.column, p.message)).collect()
}

fn tree(text: &str) -> Tree {
    yaml::read(text.as_bytes(), &env)
}

#[track_caller]
fn value<T: de::DeserializeOwned>(text: &str) -> T {
    let tree = tree(text);
    assert_eq!(tree.problems, []);
    decode(&tree.root).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"))
}

#[track_caller]
fn wrong<T: de::DeserializeOwned + fmt::Debug>(text: &str) -> Problem {
    let tree = tree(text);
    assert_eq!(tree.problems, []);
    let problems = decode::<T>(&tree.root).expect_err("the value is wrong");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

/// `line:column message` of what the reader alone refuses.
fn tree_problems(bytes: &[u8]) -> Vec<String> {
    shorten(&Report::new("f", "", yaml::read(bytes, &env).problems))
}

// === what is right ==================================================================================================

#[test]
fn a_good_conf_loads() {
    let conf = conf(GOOD).unwrap_or_else(|report| panic!("{report}")).value;
    assert_eq!(conf.workers, Some(2));
    assert!(conf.strict);
    let egress = &conf.listeners["egress"];
    assert_eq!(egress.protocol, Some(OneOrMany(vec![Protocol::Bolt, Protocol::Dubbo])));
    assert_eq!(conf.listeners["ingress"].protocol, Some(OneOrMany(vec![Protocol::Auto])));
    let route = &egress.routes[0];
    assert_eq!(route.matches["version"], Text::Exact("1.0".into()), "text is taken as written");
    assert_eq!(route.matches["x"], Text::Other(Pattern::Prefix("a".into())));
    assert_eq!(route.timeout.unwrap().get().as_millis(), 250);
    assert_eq!(route.limit.as_ref().unwrap().body.unwrap().bytes(), 8 << 20);
    assert_eq!(conf.registries["disk"], Registry::File("services.yaml".into()));
    assert_eq!(conf.registries["none"], Registry::Off);
    assert!(matches!(conf.registries["zk"], Registry::Zookeeper { session: None, .. }));
}

#[test]
fn json_loads() {
    let text = "{\"app\": \"s\", \"workers\": 4,\n\t\"listeners\": {\"a\": {\"bind\": \"127.0.0.1:1\", \"routes\": []}}}";
    let conf = conf(text).unwrap_or_else(|report| panic!("{report}")).value;
    assert_eq!((conf.app.as_str(), conf.workers), ("s", Some(4)));
    assert_eq!(value::<String>(r#""aé\n\"\/""#), "aé\n\"/");
}

#[test]
fn scalars_follow_the_core_schema() {
    assert_eq!(value::<u32>("0x1F"), 31);
    assert_eq!(value::<u32>("0o17"), 15);
    assert_eq!(value::<u32>("+007"), 7);
    assert_eq!(value::<i64>("-9223372036854775808"), i64::MIN);
    assert_eq!(value::<u64>("18446744073709551615"), u64::MAX);
    assert!((value::<f64>("1.5e3") - 1500.0).abs() < f64::EPSILON);
    assert!((value::<f64>("2") - 2.0).abs() < f64::EPSILON);
    assert!(value::<bool>("True"));
    assert_eq!(value::<Option<u8>>("~"), None);
    assert_eq!(value::<Option<String>>("null"), None);
    assert_eq!(value::<Option<String>>("'null'"), Some("null".into()));
    assert_eq!(value::<String>("!!str 5"), "5");
    assert_eq!(value::<(u8, String)>("[1, a]"), (1, "a".into()));
    assert_eq!(value::<BTreeMap<u16, u8>>("{80: 1, 443: 2}"), BTreeMap::from([(80, 1), (443, 2)]));
    assert_eq!(
        value::<serde_json::Value>("{a: [1, -2, 0.5, true, x, '5', ~]}"),
        serde_json::json!({"a": [1, -2, 0.5, true, "x", "5", null]})
    );
}

// === many mistakes at once ==========================================================================================

#[test]
fn all_mistakes_are_reported_at_their_places() {
    let text = "\
app: shop
workers: 70000
listners:
  egress:
    bind: 127.0.0.1
    protocol: [bolt, dubo]
    routes:
      - matches: { service: { prefx: a } }
        to: echo
        timeout: 250
        limit: { rate: 5, brust: 1 }
      - timeout: 1s
registries:
  zk: { zookeper: { address: '127.0.0.1:1' } }
  disk: { file: [a] }
strict: yes
";
    assert_eq!(
        refused(text),
        [
            "2:10 expected a whole number from 0 to 65535, found `70000`",
            "3:1 unknown key `listners`, expected one of `app`, `workers`, `strict`, `drain_timeout`, `listeners` or `registries`",
            "5:11 expected an address, found `127.0.0.1`",
            "6:22 unknown value `dubo`, expected one of `auto`, `bolt` or `dubbo`",
            "8:31 unknown value `prefx`, expected one of `prefix`, `present` or `any`",
            "10:18 expected a duration, found `250` without a unit",
            "11:24 expected a rate, found `5` without a unit",
            "11:27 unknown key `brust`, expected one of `rate`, `burst` or `body`",
            "12:9 missing key `to` in `listners.egress.routes[1]`",
            "14:9 unknown value `zookeper`, expected one of `zookeeper`, `file` or `off`",
            "15:17 expected text, found a list",
            "16:9 expected `true` or `false`, found `yes`",
        ]
    );
    let report = conf(text).unwrap_err();
    let help: Vec<_> = report.problems().iter().map(|p| p.help.as_deref().unwrap_or("-")).collect();
    assert_eq!(
        help[1..6],
        [
            "did you mean `listeners`?",
            "write 127.0.0.1:80",
            "did you mean `dubbo`?",
            "did you mean `prefix`?",
            "write 250ms or 250s; write a number with a unit, as in 250ms, 3s, 5m or 1h"
        ]
    );
    assert_eq!(help[7], "did you mean `burst`?");
    assert_eq!(help[9], "did you mean `zookeeper`?");
    assert_eq!(help[11], "write true or false");
}

#[test]
fn mistakes_of_the_reader_and_of_the_structs_come_together() {
    let text = "app: ${NOPE}\napp: x\nworkers: x\nlisteners: {}\n";
    assert_eq!(
        refused(text),
        [
            "1:6 the environment variable `NOPE` is not set",
            "2:1 duplicate key `app`; the first is on line 1, column 1",
            "3:10 expected a whole number from 0 to 65535, found `x`",
        ]
    );
}

#[test]
fn every_missing_key_is_named_where_its_map_is() {
    assert_eq!(
        refused("listeners:\n  a:\n    protocol: bolt\n  b: {}\n"),
        [
            "1:1 missing key `app`",
            "3:5 missing key `bind` in `listeners.a`",
            "4:6 missing key `bind` in `listeners.b`"
        ]
    );
    // Both in the same map, although serde stops at the first.
    let mistakes =
        refused("app: a\nlisteners: {a: {bind: '1.1.1.1:1', routes: [{to: x, limit: {body: 1B}}]}}\n");
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert_eq!(refused(""), ["1:1 expected a map, found nothing"]);
    assert_eq!(refused("- a\n"), ["1:1 expected a map, found a list"]);
}

#[test]
fn what_follows_from_a_mistake_is_not_reported() {
    // `bind` was given, although wrongly: it is not missing. Nor is it when it is misspelt.
    assert_eq!(
        refused("app: a\nlisteners:\n  x: { bind: 5 }\n  y: { bnid: '127.0.0.1:1' }\n"),
        [
            "3:14 expected an address, found `5`",
            "4:8 unknown key `bnid`, expected one of `bind`, `protocol` or `routes`"
        ]
    );
    // A key that only looks like another one is not blamed for its value.
    assert_eq!(refused("app: a\nlisteners: {}\nworker: {a: b}\n").len(), 1);
    // Two that look like the same known key: one stands for it, and nothing is "given twice".
    assert_eq!(refused("app: a\nlistener: {}\nlistners: {}\n").len(), 2);
}

#[test]
fn unknown_keys_are_refused_where_the_struct_would_ignore_them() {
    assert_eq!(
        refused("app: a\nzzz: {deep: [1]}\nlisteners: {}\n"),
        [
            "2:1 unknown key `zzz`, expected one of `app`, `workers`, `strict`, `drain_timeout`, `listeners` or `registries`"
        ]
    );
    assert_eq!(conf("app: a\nzzz: 1\nlisteners: {}\n").unwrap_err().problems()[0].help, None);
}

#[test]
fn hundreds_of_mistakes_end_with_a_bound() {
    let bad = (0..1_200).map(|i| format!("  l{i}: {{ bind: x }}")).collect::<Vec<_>>().join("\n");
    let text = format!("app: a\nlisteners:\n{bad}\n");
    let problems = refused(&text);
    assert_eq!(problems.len(), super::decode::PROBLEMS_MAX + 1);
    assert!(problems.iter().any(|p| p.ends_with("too many errors; the rest is not shown")));

    let unset = (0..50_000).map(|i| format!("k{i}: ${{NOPE}}")).collect::<Vec<_>>().join("\n");
    let begun = std::time::Instant::now();
    let report = load::<BTreeMap<String, u8>>("f", unset.as_bytes(), &no_env).unwrap_err();
    assert_eq!(report.problems().len(), 1_000);
    assert!(begun.elapsed().as_secs() < 10, "the time must not grow with the square of the mistakes");
}

// === enums and numbers ==============================================================================================

#[test]
fn choices_say_what_they_want() {
    let said = |text| wrong::<Registry>(text).message;
    assert_eq!(said("file"), "`file` needs a value");
    assert_eq!(said("{off: 1}"), "`off` takes no value");
    assert_eq!(said("[off]"), "expected one of `zookeeper`, `file` or `off`, found a list");
    assert_eq!(
        said("{file: a, off: b}"),
        "expected one of `zookeeper`, `file` or `off`, found a map that has not exactly one key"
    );
    assert_eq!(said("{zookeeper: {}}"), "missing key `address` in `zookeeper`");
    assert_eq!(value::<Registry>("{off: }"), Registry::Off);
    let problem = wrong::<Registry>("zookeeper: { address: 127.0.0.1:1, session: 5 }");
    assert_eq!((problem.span.line, problem.span.column), (1, 45));
}

#[test]
fn numbers_say_what_they_want() {
    assert_eq!(wrong::<u16>("-1").message, "expected a whole number from 0 to 65535, found `-1`");
    assert_eq!(wrong::<u8>("1.5").message, "expected a whole number from 0 to 255, found `1.5`");
    assert_eq!(
        wrong::<u64>("18446744073709551616").message,
        "expected a whole number, 0 or more, found `18446744073709551616`"
    );
    assert_eq!(wrong::<u16>("'5'").help.as_deref(), Some("write the number without quotes"));
    assert_eq!(wrong::<f64>(".nan").message, "expected a number, found `.nan`");
    assert_eq!(wrong::<f64>("infinity").message, "expected a number, found `infinity`");
    assert_eq!(wrong::<std::num::NonZeroU16>("0").message, "expected a whole number, 1 or more, found `0`");
    assert_eq!(wrong::<(u8, u8)>("[1, 2, 3]").span.column, 1);
    assert_eq!(wrong::<Vec<u8>>("").help.as_deref(), Some("write [] for an empty list"));
    assert_eq!(wrong::<String>("~").message, "expected text, found nothing");
    assert_eq!(wrong::<Vec<u8>>("[1, 2, 300]").span.column, 8);
}

// === the reader =====================================================================================================

#[test]
fn variables_expand_in_values_only() {
    assert_eq!(value::<u16>("${N}"), 3);
    assert_eq!(value::<u16>("\"${N}\""), 3, "JSON has no other way to write it");
    assert_eq!(value::<u16>("${NOPE:-1}${N}"), 13);
    assert_eq!(value::<String>("${NAME}"), "shop: [x]", "never read as YAML again");
    assert_eq!(value::<String>("a $$ $${N} $5 ^x$"), "a $ ${N} $5 ^x$");
    assert_eq!(value::<String>("x${EMPTY}"), "x");
    assert_eq!(value::<Option<u16>>("${EMPTY}"), None);
    assert_eq!(value::<u16>("${EMPTY:-9}"), 9);
    assert_eq!(value::<BTreeMap<String, u8>>("\"${N}\": 1"), BTreeMap::from([("${N}".into(), 1)]));
}

#[test]
fn a_variable_that_fails_is_placed_by_itself() {
    let text = "a: x ${N} $${ é${NOPE}\nb: \"${1x}\"\nc: ${N\nd: |\n  one\n  two ${GONE} ${N:-${X}}\n";
    let problems = yaml::read(text.as_bytes(), &env).problems;
    assert_eq!(
        shorten(&Report::new("f", text, problems.clone())),
        [
            "1:16 the environment variable `NOPE` is not set",
            "2:5 `1x` is no variable name",
            "3:4 `${` is not closed by `}`",
            "6:7 the environment variable `GONE` is not set",
        ]
    );
    assert_eq!(&text[problems[0].span.start as usize..problems[0].span.end as usize], "${NOPE}");
    assert_eq!(tree_problems(b"a: ${X:-${N}}"), ["1:4 a default cannot hold another variable"]);
}

#[test]
fn values_of_variables_are_not_repeated() {
    for text in ["${SECRET}", "\"${SECRET}\""] {
        let as_number = wrong::<u16>(text);
        assert_eq!(
            as_number.message,
            "expected a whole number from 0 to 65535, found another value of the variable"
        );
        for problem in [as_number, wrong::<Addr>(text), wrong::<Duration>(text), wrong::<Protocol>(text)] {
            assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
        }
    }
}

#[test]
fn unreadable_files_are_refused_with_a_place() {
    assert_eq!(tree_problems(b"a: b\nc: \xff\n"), ["2:4 the file is not UTF-8 here"]);
    assert_eq!(tree_problems(b"a: b\n\0c: d\n"), ["2:1 control character U+0000 is not allowed"]);
    assert_eq!(
        tree_problems(b"a: b\n---\nc: d\n"),
        ["2:1 a second document begins here; a conf file holds one"]
    );
    assert_eq!(tree_problems(b"? [a]\n: b\n"), ["1:3 a key must be text, not a list, a map or nothing"]);
    assert_eq!(tree_problems(b"<<: {a: b}\n"), ["1:1 merge keys (`<<`) are not supported"]);
    assert_eq!(tree_problems(b"a: !secret b\n"), ["1:4 the tag `!secret` is not supported"]);
    let syntax = tree_problems(b"a: [1, 2\nb: 3\n");
    assert!(syntax.len() == 1 && syntax[0].contains("not valid YAML"), "{syntax:?}");
    let flow = yaml::read(b"a: { b: ${X} }\n", &no_env).problems;
    assert_eq!(
        flow[0].help.as_deref(),
        Some("inside { } and [ ], write \"${NAME}\" with quotes"),
        "{flow:?}"
    );
    assert_eq!(tree_problems(&vec![b' '; yaml::FILE_BYTES_MAX + 1]).len(), 1);
    assert_eq!(
        tree_problems("\u{feff}a: [x]\n---\n".as_bytes())[0],
        "2:1 a second document begins here; a conf file holds one"
    );
    assert_eq!(tree_problems(b"---\na: b\n...\n"), [""; 0]);
}

#[test]
fn aliases_stand_for_values_within_a_budget() {
    type Maps = BTreeMap<String, BTreeMap<String, u8>>;
    assert_eq!(value::<Maps>("a: &x {n: 1}\nb: *x\n")["b"]["n"], 1);
    assert_eq!(value::<Vec<String>>("[&a x, *a, *a]"), ["x", "x", "x"]);
    // The same mistake through an alias is one mistake.
    assert_eq!(
        refused("app: a\nlisteners:\n  a: &l { bind: x }\n  b: *l\n"),
        ["3:17 expected an address, found `x`"]
    );
    assert_eq!(tree_problems(b"&a [*a]\n").len(), 1);

    let mut bomb = vec![String::from("l0: &l0 [x, x, x, x, x, x, x, x, x, x]")];
    for i in 1..10 {
        let aliases = vec![format!("*l{}", i - 1); 10].join(", ");
        bomb.push(format!("l{i}: &l{i} [{aliases}]"));
    }
    let begun = std::time::Instant::now();
    let problems = tree_problems(bomb.join("\n").as_bytes());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].ends_with("values, aliases included"), "{problems:?}");
    assert!(begun.elapsed().as_secs() < 10);

    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    assert!(tree_problems(long.as_bytes())[0].contains("bytes of text"));
}

#[test]
fn depth_is_bounded_through_aliases_too() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(tree_problems(nested(DEPTH_MAX).as_bytes()), [""; 0]);
    assert_eq!(tree_problems(nested(DEPTH_MAX + 1).as_bytes()), ["1:65 nested deeper than 64 levels"]);
    assert_eq!(tree_problems(nested(200_000).as_bytes()).len(), 1);
    assert_eq!(tree_problems("- ".repeat(200_000).as_bytes()).len(), 1);
    assert_eq!(tree_problems("? ".repeat(200_000).as_bytes()).len(), 1);
    let half = format!("a: &a {0}\nb: {1}*a{2}\n", nested(40), "[".repeat(40), "]".repeat(40));
    assert_eq!(tree_problems(half.as_bytes()), ["2:44 nested deeper than 64 levels"]);
}

#[test]
fn spans_cover_the_text_after_wide_characters() {
    let text = "é: 'ü𝄞'   # ß\nλ:\n  - value  \n";
    let Tree { root, source, .. } = tree(text);
    let Kind::Map(entries) = &root.kind else { panic!("{root:?}") };
    let slice = |node: &Node| &source[node.span.start as usize..node.span.end as usize];
    assert_eq!(entries.iter().map(|(key, _)| slice(key)).collect::<Vec<_>>(), ["é", "λ"]);
    assert_eq!(slice(&entries[0].1), "'ü𝄞'");
    let Kind::Seq(items) = &entries[1].1.kind else { panic!("{root:?}") };
    assert_eq!((slice(&items[0]), items[0].span.line, items[0].span.column), ("value", 3, 5));
}

// === places and reports =============================================================================================

#[test]
fn places_are_found_by_path() {
    use Step::{Index, Key};
    let conf = conf(GOOD).unwrap_or_else(|report| panic!("{report}"));
    let spot = |span: Span| (span.line, span.column);
    let to = [Key("listeners"), Key("egress"), Key("routes"), Index(0), Key("to")];
    assert_eq!(spot(locate(&conf.root, &to)), (11, 13));
    let route = At::root(&conf.root).key("listeners").key("egress").key("routes").index(0);
    assert_eq!(spot(route.key("to").key_span()), (11, 9));
    // What was not written is placed at what was.
    assert_eq!(spot(route.key("absent").key("deeper").span()), spot(route.span()));
    let ingress = At::root(&conf.root).key("listeners").key("ingress");
    assert_eq!(spot(ingress.key("protocol").index(0).span()), (15, 49));
    let late = |_: Conf, root: &Node| {
        let route = At::root(root).key("listeners").key("egress").key("routes").index(0);
        ((), vec![route.key("to").problem("no such cluster")])
    };
    let shown = load_with("conf.yaml", GOOD.as_bytes(), &env, late).unwrap_err().to_string();
    assert!(shown.contains("error: no such cluster\n   --> conf.yaml:11:13\n"), "{shown}");
}

#[test]
fn mistakes_in_the_meaning_are_told_beside_those_in_the_words_but_never_twice() {
    let bad = GOOD.replacen("bind:", "bnd:", 1);
    let late = |_: Conf, root: &Node| {
        let egress = At::root(root).key("listeners").key("egress");
        let (to, bind) = (egress.key("routes").index(0).key("to"), egress.key("bind"));
        ((), vec![to.problem("no such cluster"), bind.problem("follows from the first")])
    };
    let report = load_with("conf.yaml", bad.as_bytes(), &env, late).unwrap_err();
    let messages: Vec<&str> = report.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert!(messages.iter().any(|message| message.contains("unknown key `bnd`")), "{messages:?}");
    assert!(messages.contains(&"no such cluster"), "{messages:?}");
    assert!(!messages.contains(&"follows from the first"), "{messages:?}");
}

#[test]
fn a_report_reads_like_a_compilers() {
    let report = conf("app: a\nlisteners:\n    x:\n     adress: b\n     bind: '1.1.1.1:1'\n").unwrap_err();
    assert_eq!(
        report.to_string(),
        "error: unknown key `adress`, expected one of `bind`, `protocol` or `routes`
  --> conf.yaml:4:6
   |
 4 |      adress: b
   |      ^^^^^^

1 error in conf.yaml
"
    );
    let report = conf("app: a\nlisteners: {}\nworkes: 1\n").unwrap_err();
    assert!(
        report.to_string().contains("3 | workes: 1\n   | ^^^^^^\n   = help: did you mean `workers`?\n"),
        "{report}"
    );
    assert_eq!(
        report.to_json(),
        serde_json::json!([{
            "file": "conf.yaml", "line": 3, "column": 1, "help": "did you mean `workers`?",
            "message": "unknown key `workes`, expected one of `app`, `workers`, `strict`, `drain_timeout`, `listeners` or `registries`",
        }])
    );
    assert!(report.with_colour(true).to_string().contains("\x1b[1;31merror\x1b[0m: "));
}

#[test]
fn snippets_survive_any_line() {
    let line = |source: &str, start: u32, end: u32| {
        let span = Span { start, end, line: 1, column: 1 };
        let shown = Report::new("f", source, vec![Problem::new(span, "m")]).to_string();
        shown.lines().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("a:\tb", 3, 4), [" 1 | a: b", "   |    ^"]);
    assert_eq!(line("日本: x", 8, 9), [" 1 | 日本: x", "   |       ^"]);
    assert_eq!(line("a\x1b[31m: x", 0, 1), [" 1 | a\u{fffd}[31m: x", "   | ^"]);
    let long = format!("{}XY{}", "a".repeat(500), "b".repeat(500));
    let [text, carets] = &line(&long, 500, 502)[..] else { panic!() };
    assert!(text.starts_with(" 1 | …aaaa") && text.ends_with("b…") && text.chars().count() < 110, "{text}");
    assert_eq!(text.find("XY").map(|at| at - "…".len() + 1), carets.find("^^"), "{text}\n{carets}");
    // Spans that do not fit the source.
    for (start, end) in [(0, 0), (1, 2), (99, 100), (3, 1)] {
        assert_eq!(line("é", start, end).len(), 2);
    }
    assert_eq!(line("", 0, 0), [" 1 | ", "   | ^"]);
}

#[test]
fn near_matches_are_near() {
    let names = ["bind", "protocol", "routes", "drain_timeout"];
    let find = |word| near(word, names);
    assert_eq!(find("bnd"), Some("bind"));
    assert_eq!(find("drainTimeout"), Some("drain_timeout"));
    assert_eq!(find("drain-timeout"), Some("drain_timeout"));
    assert_eq!(find("Route"), Some("routes"));
    assert_eq!(find("cluster"), None);
    assert_eq!(find(""), None);
    assert_eq!(find(&"routes".repeat(1000)), None);
}

// === any bytes ======================================================================================================

/// A small generator (`SplitMix64`) so that a failing round can be run again.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

#[test]
fn mutated_files_never_panic_and_every_refusal_has_a_place() {
    const PIECES: [&str; 24] = [
        "{", "}", "[", "]", ":", ": ", "- ", "\n", "  ", "\t", "&a ", "*a", "!t ", "|\n", ">", "'", "\"",
        "${", "${N}", "#", "\r", "é", "? ", "---\n",
    ];
    let (mut good, mut refused) = (0, 0);
    for seed in 0..2_000 {
        let mut dice = Dice(seed);
        let mut bytes = GOOD.as_bytes().to_vec();
        for _ in 0..=dice.next(4) {
            let at = dice.next(bytes.len());
            match dice.next(4) {
                0 => bytes[at] = dice.next(256) as u8,
                1 => drop(bytes.drain(at..(at + dice.next(12)).min(bytes.len()))),
                2 => drop(bytes.splice(at..at, PIECES[dice.next(PIECES.len())].bytes())),
                _ => {
                    let piece = bytes[at..(at + dice.next(40)).min(bytes.len())].to_vec();
                    let to = dice.next(bytes.len());
                    drop(bytes.splice(to..to, piece));
                }
            }
        }
        match load::<Conf>("f", &bytes, &env) {
            Ok(_) => good += 1,
            Err(report) => {
                refused += 1;
                assert!(!report.problems().is_empty(), "seed {seed}: refused without a reason");
                let lines = String::from_utf8_lossy(&bytes).split(['\n', '\r']).count() as u32;
                for problem in report.problems() {
                    assert!((1..=lines + 1).contains(&problem.span.line), "seed {seed}: {problem:?}");
                }
                assert!(report.to_string().contains("error: "), "seed {seed}");
            }
        }
    }
    assert!(good > 50 && refused > 500, "{good} good, {refused} refused: the mutations test too little");
}

// === units ==========================================================================================================

#[test]
fn durations_are_exact() {
    let nanos = |text: &str| text.parse::<Duration>().map(|d| d.get().as_nanos()).map_err(|e| e.to_string());
    assert_eq!(nanos("250ms"), Ok(250_000_000));
    assert_eq!(nanos("1.5s"), Ok(1_500_000_000));
    assert_eq!(nanos("100us"), Ok(100_000));
    assert_eq!(nanos("0s"), Ok(0));
    assert_eq!(nanos("0.000000001s"), Ok(1));
    assert_eq!(nanos("3650d"), Ok(3650 * 86_400 * 1_000_000_000));
    for bad in
        ["", "s", "5", "-1s", "1 s", "1S", "1.s", ".5s", "1..2s", "1e3s", "3651d", "0.5ns", "1m30s", "１s"]
    {
        assert!(nanos(bad).is_err(), "{bad}");
    }
    for big in ["99999999999999999999d", "99999999999999999999.999999999d", "999999999999999999999s"] {
        assert!(nanos(big).is_err(), "{big}");
    }
    for (text, shown) in
        [("90s", "90s"), ("3600s", "1h"), ("1.5s", "1500ms"), ("0ms", "0s"), ("48h", "48h"), ("7ns", "7ns")]
    {
        let parsed: Duration = text.parse().unwrap();
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(shown.parse(), Ok(parsed));
    }
    assert_eq!(Duration::new(std::time::Duration::MAX), "3650d".parse().unwrap());
    assert_eq!(
        nanos("250").unwrap_err(),
        "expected a duration, found `250` without a unit\nhelp: write 250ms or 250s; write a number with a unit, as in 250ms, 3s, 5m or 1h"
    );
    assert!(
        nanos("5min").unwrap_err().starts_with("expected a duration, found `5min`: unknown unit\nhelp: ")
    );
}

#[test]
fn sizes_are_exact() {
    let bytes = |text: &str| text.parse::<Size>().map(Size::bytes).map_err(|e| e.to_string());
    assert_eq!(bytes("512B"), Ok(512));
    assert_eq!(bytes("64KiB"), Ok(65_536));
    assert_eq!(bytes("8MiB"), Ok(8 << 20));
    assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
    assert_eq!(
        (bytes("1GB"), bytes("2MB"), bytes("3KB"), bytes("3kB")),
        (Ok(1_000_000_000), Ok(2_000_000), Ok(3_000), Ok(3_000))
    );
    assert_eq!(bytes("18446744073709551615B"), Ok(u64::MAX));
    for bad in [
        "",
        "8",
        "8M",
        "8mib",
        "0.5B",
        "18446744073709551616B",
        "16777216TiB",
        "99999999999999999999TB",
        "-1B",
    ] {
        assert!(bytes(bad).is_err(), "{bad}");
    }
    for (size, shown) in [(0, "0B"), (512, "512B"), (65_536, "64KiB"), (1_000, "1000B"), (3 << 29, "1536MiB")]
    {
        assert_eq!(Size::new(size).to_string(), shown);
    }
}

#[test]
fn rates_have_a_count_and_a_period() {
    let rate = |text: &str| text.parse::<Rate>().map_err(|e| e.to_string());
    let parts = |text: &str| rate(text).map(|r| (r.count(), r.period().as_secs()));
    assert_eq!(parts("1000/s"), Ok((1000, 1)));
    assert_eq!(parts("5/m"), Ok((5, 60)));
    assert_eq!(parts("10/h"), Ok((10, 3600)));
    assert_eq!(rate("5/m").unwrap().to_string(), "5/m");
    for bad in ["", "5", "/s", "0/s", "5/d", "5s", "4294967296/s", "-1/s", "5/", "5/s/s"] {
        assert!(rate(bad).is_err(), "{bad}");
    }
    assert!(rate("0.5/s").unwrap_err().ends_with("the count must be a whole number\nhelp: write 30/m"));
    assert!(rate("0.001/s").unwrap_err().contains("as in 1000/s"));
}

#[test]
fn units_are_text_in_the_schema_and_when_written() {
    let schema = serde_json::to_value(schemars::schema_for!(Duration)).unwrap();
    assert_eq!((&schema["type"], &schema["examples"][0]), (&"string".into(), &"250ms".into()));
    let limit: (Duration, Size, Rate) = value("[1s, 8MiB, 5/m]");
    assert_eq!(serde_json::to_value(limit).unwrap(), serde_json::json!(["1s", "8MiB", "5/m"]));
    assert!(wrong::<Size>("8").help.unwrap().starts_with("write 8B or 8KiB"));
    let one_or_many = serde_json::to_value(schemars::schema_for!(OneOrMany<u8>)).unwrap();
    assert_eq!(one_or_many["anyOf"][1]["type"], "array");
}
