//! Tests of what the conf means for HTTP: each key reaches what it is for, and what could never work is refused at its
//! place, in words that say what to write.

use std::{path::Path, time::Duration};

use outrigger_codec::{
    Field, Head, HeadIndex, Slot, Span,
    exchange::{Forwarded, Limits, Policy, Underscores},
};
use outrigger_core as core;

use super::{Plan, plain, read};
use crate::conf::report::Report;

/// A conf with `limits`, more keys of its one listener, and its routes; each a piece of a YAML flow map or list.
fn text(limits: &str, listener: &str, routes: &str) -> String {
    format!(
        "app: a\nlimits: {{{limits}}}\nlisteners:\n  l:\n    bind: 127.0.0.1:1\n{listener}    routes: [{routes}]\n\
         clusters: {{ c: {{ endpoints: ['a:1'] }} }}\n"
    )
}

fn conf(text: &str) -> Result<Plan, Report> {
    read(Path::new("conf.yaml"), text.as_bytes(), &|_| None)
}

fn well(text: &str) -> Plan {
    conf(text).unwrap_or_else(|report| panic!("{report}"))
}

/// The problems as `line:column message | help`.
#[track_caller]
fn refused(text: &str) -> Vec<String> {
    let report = conf(text).expect_err("the conf has mistakes");
    let told = report.problems().iter().map(|problem| {
        let help = problem.help.as_deref().unwrap_or("-");
        format!("{}:{} {} | {help}", problem.span.line, problem.span.column, problem.message)
    });
    told.collect()
}

const HTTP: &str = "    protocol: http1\n";

fn limits(written: &str) -> Limits {
    well(&text(written, HTTP, "{ to: c }")).bounds.limits
}

/// The routes of a listener that speaks HTTP.
fn routes(routes: &str) -> Vec<core::Route> {
    well(&text("", HTTP, routes)).listeners.remove(0).routes
}

/// The one problem of a match on line 7, where the match begins in column 14.
#[track_caller]
fn bad_match(matches: &str) -> String {
    let told = refused(&text("", HTTP, &format!("{{match: {{{matches}}}, to: c}}")));
    assert_eq!(told.len(), 1, "{told:?}");
    told.into_iter().next().unwrap_or_default()
}

/// What the routes make of a request; headers are left out.
fn part(route: &core::Route, authority: &str, target: &str) -> Option<String> {
    let (mut bytes, mut index) = (Vec::new(), HeadIndex::default());
    let mut put = |text: &str| {
        bytes.extend_from_slice(text.as_bytes());
        Span::new(bytes.len() - text.len(), text.len())
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let host = authority.split(':').next().unwrap_or_default();
    for (slot, text) in
        [(Slot::Authority, authority), (Slot::Host, host), (Slot::Path, path), (Slot::Query, query)]
    {
        index.set(slot, put(text));
    }
    index.fields.push(Field { name: put("X-Zone"), value: put("a") });
    index.caseless = true;
    route
        .matches
        .fails_on(Head { bytes: &bytes, index: &index })
        .map(|part| String::from_utf8_lossy(part).into_owned())
}

#[test]
fn bounds_of_heads_and_bodies_reach_the_engines() {
    assert_eq!(limits(""), Limits::default());
    assert_eq!(
        limits("head_max: 16KiB, headers_max: 1000, uri_max: 64B, body_max: 10MiB"),
        Limits { head_max: 16 << 10, headers_max: 1_000, uri_max: 64, body_max: 10 << 20 }
    );
    assert_eq!(limits("head_max: 1MiB, uri_max: 1MiB").uri_max, 1 << 20);
    // Whoever asks for short heads alone gets short targets with them.
    assert_eq!((limits("head_max: 2KiB").head_max, limits("head_max: 2KiB").uri_max), (2 << 10, 2 << 10));
}

#[test]
fn bounds_that_mean_nothing_are_refused() {
    let bad = |written: &str| refused(&text(written, HTTP, "{ to: c }"));
    for (written, told) in [
        ("head_max: 1000B", "2:20 expected 1024 to 1048576 bytes | -"),
        ("head_max: 2MiB", "2:20 expected 1024 to 1048576 bytes | -"),
        ("headers_max: 0", "2:23 expected 1 to 1000 headers | -"),
        ("headers_max: 1001", "2:23 expected 1 to 1000 headers | -"),
        ("uri_max: 63B", "2:19 expected 64 to 65536 bytes | -"),
        (
            "uri_max: 65537B",
            "2:19 expected 64 to 65536 bytes: a target lies in a head | raise `head_max` as well",
        ),
        ("body_max: 0B", "2:20 expected at least 1 byte | leave it out for no bound"),
    ] {
        assert_eq!(bad(written), [told], "{written}");
    }
    assert_eq!(bad("head_max: 4KiB, uri_max: 5KiB").len(), 1);
}

#[test]
fn a_listeners_manners_reach_its_connections() {
    let manners = |keys: &str| {
        let plan = well(&text("", &format!("{HTTP}{keys}"), "{ to: c }"));
        plan.listeners[0].speaks.manners.as_ref().clone()
    };
    let plain = manners("");
    assert_eq!(plain.policy, Policy::default());
    assert_eq!(
        (plain.keepalive_timeout, plain.head_timeout.as_secs(), plain.idle_timeout.as_secs()),
        (None, 10, 30)
    );
    assert_eq!(manners("    http: {}\n").policy, Policy::default());
    let all = manners(
        "    head_timeout: 1s\n    idle_timeout: 2s\n    keepalive_timeout: 3s\n    http: { underscores: reject, \
         upgrades: [WebSocket, tls], trace: true, connect: true, via: outrigger, forwarded: append, request_id: true, timeout_header: X-Left }\n",
    );
    assert_eq!(all.head_timeout, Duration::from_secs(1));
    assert_eq!(all.idle_timeout, Duration::from_secs(2));
    assert_eq!(all.keepalive_timeout, Some(Duration::from_secs(3)));
    assert_eq!(
        all.policy,
        Policy {
            underscores: Underscores::Reject,
            upgrades: vec!["websocket".into(), "tls".into()],
            trace: true,
            connect: true,
            via: Some("outrigger".into()),
            forwarded: Forwarded::Append,
            request_id: true,
            timeout: Some((*b"x-left").into()),
        }
    );
    let other = manners("    http: { underscores: allow, upgrades: [], forwarded: replace }\n").policy;
    assert_eq!((other.underscores, other.forwarded), (Underscores::Allow, Forwarded::Replace));
    assert!(other.upgrades.is_empty());
    assert_eq!(manners("    http: { forwarded: off, underscores: drop }\n").policy, Policy::default());
}

#[test]
fn manners_that_mean_nothing_are_refused() {
    let bad = |key: &str| refused(&text("", &format!("{HTTP}    {key}\n"), "{ to: c }"));
    for (key, told) in [
        ("head_timeout: 0s", "7:19 expected a time above 0s | -"),
        ("idle_timeout: 0s", "7:19 expected a time above 0s | -"),
        ("keepalive_timeout: 0s", "7:24 expected a time above 0s | -"),
        (
            "http: { upgrades: [websocket, H2C] }",
            "7:35 an upgrade to `h2c` is never let through: what follows it could not be routed | leave it out; such \
             requests are served as HTTP/1.1",
        ),
        (
            "http: { upgrades: [web socket] }",
            "7:24 expected the name of a protocol, found `web socket` | as in `websocket`, without a version",
        ),
        (
            "http: { upgrades: [tls/1.0] }",
            "7:24 expected the name of a protocol, found `tls/1.0` | as in `websocket`, without a version",
        ),
        ("http: { upgrades: [tls, TLS] }", "7:29 `tls` is listed twice | -"),
        (
            "http: { via: 'a b' }",
            "7:18 expected a name without blanks and separators, found `a b` | as in `via: outrigger`",
        ),
        (
            "http: { via: '' }",
            "7:18 expected a name without blanks and separators, found `` | as in `via: outrigger`",
        ),
        (
            "http: { forwarded: always }",
            "7:24 unknown value `always`, expected one of `off`, `append` or `replace` | -",
        ),
        (
            "http: { underscore: drop }",
            "7:13 unknown key `underscore`, expected one of `underscores`, `upgrades`, `trace`, `connect`, `via`, \
             `forwarded`, `request_id` or `timeout_header` | did you mean `underscores`?",
        ),
    ] {
        assert_eq!(bad(key), [told], "{key}");
    }
}

#[test]
fn what_only_http_has_a_use_for_is_refused_where_nobody_speaks_it() {
    let keys = "    head_timeout: 1s\n    idle_timeout: 1s\n    http: {}\n";
    let route = "{ match: { authority: a, path: /, query: { a: b } }, to: c, idempotent: true }";
    let help =
        "leave it out, or let the listener's `protocol` be or list `http1`, `http2`, `grpc` or `triple`";
    let of = |key: &str| format!("`{key}` is of HTTP, which this listener does not speak | {help}");
    let told = refused(&text("", &format!("    protocol: [bolt, tcp]\n{keys}"), route));
    assert_eq!(
        told,
        [
            format!("7:5 {}", of("head_timeout")),
            format!("8:5 {}", of("idle_timeout")),
            format!("9:5 {}", of("http")),
            format!("10:25 {}", of("authority")),
            format!("10:39 {}", of("path")),
            format!("10:48 {}", of("query")),
        ]
    );
    // Nor do matches inside matches, each where it stands.
    let inside =
        "{ match: { any: [{ service: a }, { all: [{ path: /a }], not: { query: { a: b } } }] }, to: c }";
    let told = refused(&text("", "    protocol: [bolt, tcp]\n", inside));
    assert_eq!(told, [format!("7:57 {}", of("path")), format!("7:77 {}", of("query"))]);
    let by_header = refused(&text("", "    protocol: tcp\n", "{ to_header: x }"));
    assert_eq!(by_header, ["7:27 a relayed connection has no headers | name the cluster by `to`"]);
    // A relay knows nothing at all to match; that is told once.
    let told = refused(&text("", &format!("    protocol: tcp\n{keys}"), route));
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(
        told[3].starts_with("10:23 a listener that speaks only `tcp` knows nothing to match"),
        "{told:?}"
    );
    // All of it means something as soon as HTTP is one of several.
    for protocol in ["auto", "[bolt, http1]", "[http1, tcp]"] {
        well(&text("", &format!("    protocol: {protocol}\n{keys}"), route));
    }
    // A name that is wrong is the only mistake: nobody knows what was meant by it.
    let told = refused(&text("", &format!("    protocol: htp1\n    keepalive_timeout: 1s\n{keys}"), route));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("| did you mean `http1`?"), "{told:?}");
}

#[test]
fn authorities_are_compared_in_lower_case() {
    let routes = routes(
        r"{match: {authority: Example.COM}, to: c}, {match: {authority: 'A:81'}, to: c},
          {match: {authority: {prefix: API.}}, to: c}, {match: {authority: {any: [A, '[::1]:80']}}, to: c},
          {match: {authority: {regex: '\S+\.B'}}, to: c}, {match: {authority: {present: false}}, to: c}",
    );
    let expect =
        [("example.com:8080", 0), ("example.com", 0), ("a:81", 1), ("api.a", 2), ("a:82", 3), ("x.b:9", 4)];
    for (authority, at) in expect {
        assert_eq!(part(&routes[at], authority, "/"), None, "{authority}");
    }
    assert_eq!(part(&routes[1], "a:82", "/").as_deref(), Some("authority"));
    assert_eq!(part(&routes[4], "x b.b", "/").as_deref(), Some("authority"));
    assert_eq!(part(&routes[5], "a", "/").as_deref(), Some("authority"));
}

#[test]
fn paths_queries_and_headers_are_compared_as_http_means_them() {
    let routes = routes(
        r#"{match: {path: /%61%2f%7E}, to: c}, {match: {path: {any: [/a, '*']}}, to: c},
           {match: {path: {prefix: /%61/}}, to: c}, {match: {path: {template: "/users/{id}/{rest*}"}}, to: c},
           {match: {path: {regex: '/v\d+'}, query: {version: 2, debug: {present: true}}, headers: {x-zone: a}}, to: c}"#,
    );
    for (target, at) in
        [("/a%2f~", 0), ("/a", 1), ("*", 1), ("/a/b", 2), ("/users/7/x/y?z", 3), ("/v1?debug&version=%32", 4)]
    {
        assert_eq!(part(&routes[at], "h", target), None, "{target}");
    }
    assert_eq!(part(&routes[3], "h", "/users//x").as_deref(), Some("path"));
    assert_eq!(part(&routes[4], "h", "/v1?version=2").as_deref(), Some("query"));
    assert_eq!(plain("/%2e%2E/%7e/%41%/%4/%é/%zz"), "/../~/A%/%4/%é/%zz");
}

#[test]
fn tests_that_no_request_can_pass_are_refused() {
    for (matches, told) in [
        (
            "authority: 'http://a'",
            "7:34 expected `host` or `host:port`, found `http://a` | write the host alone; what follows it is matched by `path`",
        ),
        (
            "authority: ''",
            "7:34 expected `host` or `host:port`, found `` | as in example.com, example.com:8080 or [::1]:8080",
        ),
        (
            "authority: {any: [a, b c]}",
            "7:44 expected `host` or `host:port`, found `b c` | as in example.com, example.com:8080 or [::1]:8080",
        ),
        (
            "authority: '*.a.b'",
            r"7:34 expected `host` or `host:port`, found `*.a.b` | for all hosts below one write { regex: '.*\.example\.com' }",
        ),
        (
            "authority: {template: '/a'}",
            "7:45 only a `path` can have a template | here { regex: … } or { prefix: … } may do",
        ),
        (
            "service: {template: '/a'}",
            "7:43 only a `path` can have a template | here { regex: … } or { prefix: … } may do",
        ),
        (
            "query: {v: {template: '/a'}}",
            "7:45 only a `path` can have a template | here { regex: … } or { prefix: … } may do",
        ),
        (
            "headers: {v: {template: '/a'}}",
            "7:47 only a `path` can have a template | here { regex: … } or { prefix: … } may do",
        ),
        ("path: api", "7:29 a path begins with `/`, or is `*` | write /api"),
        ("path: ''", "7:29 a path begins with `/`, or is `*` | write /"),
        ("path: {any: [/a, b]}", "7:40 a path begins with `/`, or is `*` | write /b"),
        ("path: {prefix: api}", "7:38 a path begins with `/` | write /api"),
        ("path: {prefix: '*'}", "7:38 a path begins with `/` | write /*"),
        (
            "path: '/a?b=1'",
            "7:29 a path is without its query | write `path: /a` and `query: { name: value }`",
        ),
        (
            "path: {prefix: '/a?b'}",
            "7:38 a path is without its query | write `path: /a` and `query: { name: value }`",
        ),
        ("path: /é b", "7:29 a path on its way has no `é` | write it as it is sent: /%C3%A9%20b"),
        (
            "path: {template: '/a#{b}'}",
            "7:40 a path on its way has no `#` | write it as it is sent: /a%23{b}",
        ),
        ("path: {template: '{a}'}", "7:40 a path begins with `/` | write /{a}"),
        (
            "path: {template: '/{a*}/b'}",
            "7:40 not a template: what takes the rest of the path must be the last segment | as in /users/{id} or /files/{rest*}",
        ),
        (
            "path: {template: '/v{a}'}",
            "7:40 not a template: a variable is a whole segment, as in `/{id}/`; `v{a}` is not | as in /users/{id} or /files/{rest*}",
        ),
        ("path: {regex: 'a)(b'}", "7:37 not a regular expression: unopened group | -"),
        ("authority: {regex: 'a)(b'}", "7:42 not a regular expression: unopened group | -"),
        ("path: {any: []}", "7:35 an empty list matches nothing | -"),
    ] {
        assert_eq!(bad_match(matches), told, "{matches}");
    }
}

#[test]
fn routes_of_http_are_named_by_what_they_match() {
    let routes = routes(
        r#"{match: {path: /x, method: GET}, to: c}, {match: {path: /x}, to: c}, {match: {authority: A.b}, to: c},
           {match: {authority: a, path: {template: "/u/{id}"}, method: PUT}, to: c, idempotent: true},
           {match: {path: {prefix: /api}}, to: c}, {match: {path: /x}, to: c}, {match: {path: {regex: /x}}, to: c}"#,
    );
    let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["GET /x", "/x", "a.b", "PUT a/u/{id}", "/api*", "/x#5", "route-6"]);
    let idempotent: Vec<bool> = routes.iter().map(|route| route.retry.is_some()).collect();
    assert_eq!(idempotent, [false, false, false, true, false, false, false]);
}

#[test]
fn connections_of_a_cluster_are_the_protocols_affair_unless_written() {
    let cluster =
        |keys: &str| text("", HTTP, "{ to: c }").replace("endpoints:", &format!("{keys} endpoints:"));
    assert_eq!(well(&cluster("")).clusters[0].settings.connections, None);
    assert_eq!(well(&cluster("connections: 65536,")).clusters[0].settings.connections, Some(65_536));
    assert_eq!(refused(&cluster("connections: 0,")), ["8:31 expected 1 to 65536 connections | -"]);
    assert_eq!(refused(&cluster("connections: 65537,")), ["8:31 expected 1 to 65536 connections | -"]);
}

#[test]
fn endpoints_that_cannot_be_told_apart_as_written_are_refused_at_their_place() {
    let conf = |top: &str, route: &str, cluster: &str| {
        format!(
            "app: a\nadmin: off\n{top}listeners:\n  l:\n    bind: 127.0.0.1:0\n    routes: [{{ to: c, {route} }}]\n\
             clusters:\n  c: {{ endpoints: [a:1], {cluster} }}\n"
        )
    };
    for (top, route, cluster, told) in [
        (
            "",
            "",
            "zones: { near: [b] }",
            "8:33 which endpoints are near is not known | say where the process runs, as in `zone: eu-1a` at the top",
        ),
        (
            "zone: a\n",
            "",
            "zones: { near: [b], last: [b] }",
            "9:42 this zone is among the last ones, too | -",
        ),
        (
            "zone: a\n",
            "",
            "zones: { spill: 0% }",
            "9:42 expected at least 1% | 1% means: only when hardly any is left",
        ),
        ("", "", "tags: { header: '' }", "8:42 expected the name of a header | -"),
        ("", "", "tags: { metadata: '' }", "8:44 expected what endpoints call the tag | -"),
        (
            "",
            "",
            "environments: []",
            "8:40 expected at least one environment | leave it out for the process's own",
        ),
        ("", "subset_fallback: true", "", "6:40 there is no `subset` to fall back from | -"),
    ] {
        assert_eq!(refused(&conf(top, route, cluster)), [told], "{route} {cluster}");
    }
    let twice = conf("", "", "").replace("[a:1]", "[a:1, { address: a:1, weight: 2 }, { address: b }]");
    assert_eq!(
        refused(&twice),
        [
            "8:36 a:1 is listed twice | -",
            "8:65 expected `host:port`, found `b` | as in 10.0.0.7:12200 or echo.local:12200"
        ]
    );
    let header = conf("", "", "").replace("to: c, ", "to_header: x, subset: { v: '1' }");
    assert_eq!(
        refused(&header),
        [
            "6:38 a route with `to_header` has no `subset` | give the clusters that it may name a `subset` each"
        ]
    );
    let misspelled = conf("", "", "").replace("[a:1]", "[{ addres: a:1 }]");
    assert!(refused(&misspelled)[0].contains("addres"), "{:?}", refused(&misspelled));
}

#[test]
fn what_cannot_be_changed_of_a_head_is_refused_at_its_place() {
    let conf = |protocol: &str, keys: &str| {
        format!(
            "app: a\nadmin: off\nlisteners:\n  l:\n    bind: 127.0.0.1:0\n    protocol: {protocol}\n    \
             routes: [{{ to: c, {keys} }}]\nclusters:\n  c: {{ endpoints: [a:1] }}\n"
        )
    };
    let name = "up to 1000 printable ASCII characters, no blanks at either end";
    for (protocol, keys, told) in [
        (
            "auto",
            "request: {}",
            "7:32 nothing is changed | as in { set: { x-from: shop }, remove: [x-debug] }".to_owned(),
        ),
        (
            "auto",
            "request: { set: { 'a b': c } }",
            "7:48 `a b` cannot be the name of a header | -".to_owned(),
        ),
        (
            "auto",
            "request: { set: { Host: c } }",
            "7:47 a host is not changed as a header | write `rewrite: { authority: … }`".to_owned(),
        ),
        (
            "bolt",
            "response: { remove: [Content-Length] }",
            "7:44 `Content-Length` belongs to connections, not to messages | it is written as each connection needs it"
                .to_owned(),
        ),
        (
            "auto",
            "request: { add: { a: \"b\\r\\nc\" } }",
            format!("7:44 this cannot be the value of a header | {name}"),
        ),
        ("auto", "request: { add: { a: ' b' } }", format!("7:44 this cannot be the value of a header | {name}")),
        ("tcp", "request: { set: { a: b } }", "7:32 a relayed connection has no headers | -".to_owned()),
        (
            "bolt",
            "rewrite: { path: /x }",
            "7:23 `rewrite` is of HTTP, which this listener does not speak | leave it out, or let the listener's `protocol` be or list `http1`, `http2`, `grpc` or `triple`"
                .to_owned(),
        ),
        (
            "auto",
            "rewrite: {}",
            "7:32 nothing is changed | as in { strip_prefix: /api } or { authority: example.com }".to_owned(),
        ),
        (
            "auto",
            "rewrite: { path: x }",
            "7:40 expected a path that begins with `/`, as it is sent | without a query; as in /api".to_owned(),
        ),
        (
            "auto",
            "rewrite: { add_prefix: '/x?y' }",
            "7:46 expected a path that begins with `/`, as it is sent | without a query; as in /api".to_owned(),
        ),
        (
            "auto",
            "rewrite: { path: /x, add_prefix: /y }",
            "7:40 a path is either another or has another beginning | -".to_owned(),
        ),
        (
            "auto",
            "rewrite: { authority: 'a/b' }",
            "7:45 expected `host` or `host:port` | as in example.com or 10.0.0.7:8080".to_owned(),
        ),
    ] {
        assert_eq!(refused(&conf(protocol, keys)), [told], "{keys}");
    }
}

#[test]
fn a_route_that_answers_itself_sends_nobody_anywhere() {
    let conf = |protocol: &str, keys: &str| {
        format!(
            "app: a\nadmin: off\nlisteners:\n  l:\n    bind: 127.0.0.1:0\n    protocol: {protocol}\n    \
             routes: [{{ {keys} }}]\nclusters:\n  c: {{ endpoints: [a:1] }}\n"
        )
    };
    let both = |at: &str, key: &str| {
        format!("7:{at} a route with `{key}` answers itself | leave one of the two out")
    };
    let only_http = "is of HTTP, which this listener does not speak | leave it out, or let the listener's `protocol` be or list `http1`, `http2`, `grpc` or `triple`";
    let path = "expected a path that begins with `/`, as it is sent | without a query; as in /api";
    for (protocol, keys, told) in [
        ("auto", "respond: {}, to: c", both("33", "respond")),
        ("auto", "redirect: { path: /x }, weights: { c: 1 }", both("49", "redirect")),
        ("auto", "redirect: { path: /x }, respond: {}", both("49", "redirect")),
        ("auto", "respond: {}, timeout: 1s", both("38", "respond")),
        ("auto", "respond: {}, rewrite: { path: /x }", both("38", "respond")),
        (
            "auto",
            "respond: {}, response: { set: { a: b } }",
            "7:39 a route with `respond` answers itself | write headers below `respond: { headers: … }`".into(),
        ),
        ("bolt", "respond: {}", format!("7:16 `respond` {only_http}")),
        ("tcp", "redirect: { path: /x }", format!("7:16 `redirect` {only_http}")),
        ("auto", "respond: { status: 199 }", "7:35 expected a status from 200 to 599 | -".into()),
        (
            "auto",
            "respond: { status: 302 }",
            "7:35 a caller is not told here where to go | write `redirect: { status: …, path: … }`".into(),
        ),
        (
            "auto",
            "respond: { status: 204, body: x }",
            "7:46 an answer of this status has no body | -".into(),
        ),
        (
            "auto",
            "respond: { headers: { Content-Length: '1' } }",
            "7:54 `Content-Length` belongs to connections, not to messages | it is written as each connection needs it"
                .into(),
        ),
        ("auto", "redirect: { path: /x, status: 200 }", "7:46 expected 301, 302, 303, 307 or 308 | -".into()),
        ("auto", "redirect: { scheme: ftp }", "7:36 expected `http` or `https` | -".into()),
        ("auto", "redirect: { path: x }", format!("7:34 {path}")),
        (
            "auto",
            "redirect: { drop_query: true }",
            "7:26 this leads nowhere else | as in { scheme: https } or { strip_prefix: /old }".into(),
        ),
    ] {
        assert_eq!(refused(&conf(protocol, keys)), [told], "{keys}");
    }
    let long = format!("respond: {{ body: {} }}", "x".repeat(4_097));
    assert_eq!(refused(&conf("http1", &long)), ["7:33 longer than 4 KiB | -"]);
    // What is said of all routes is no mistake of one that answers itself.
    let by_default = conf("auto", "respond: {}").replace(
        "clusters:",
        "defaults: { route: { timeout: 1s, limit: { rate: 1/s }, request: { set: { a: b } } } }\nclusters:",
    );
    well(&by_default);
}

#[test]
fn what_cannot_be_tried_again_is_refused_at_its_place() {
    let conf = |protocol: &str, keys: &str| {
        format!(
            "app: a\nadmin: off\nlisteners:\n  l:\n    bind: 127.0.0.1:0\n    protocol: {protocol}\n    \
             routes: [{{ to: c, {keys} }}]\nclusters:\n  c: {{ endpoints: [a:1] }}\n"
        )
    };
    for (protocol, keys, told) in [
        (
            "auto",
            "retry: { hedge_after: 5ms }",
            "7:30 a call that may have been processed is not sent again | write `idempotent: true` as well if that does no harm",
        ),
        ("auto", "idempotent: true, retry: { hedge_after: 0s }", "7:63 expected a time above 0s | -"),
        (
            "auto",
            "idempotent: true, retry: { per_try_timeout: 5ms, hedge_after: 5ms }",
            "7:85 a try is over before that | make it shorter than `per_try_timeout`",
        ),
        ("auto", "idempotent: true, retry: { tries: 11 }", "7:57 expected 0 to 10 | -"),
        ("auto", "idempotent: true, retry: { on: [] }", "7:48 nothing is named that is tried again | -"),
        ("tcp", "idempotent: true", "7:23 a relayed connection is not made again | leave it out"),
    ] {
        assert_eq!(refused(&conf(protocol, keys)), [told], "{keys}");
    }
    well(&conf("auto", "idempotent: true, retry: { on: [], hedge_after: 5ms }"));
}
