//! Shows that the table can fail: each wrong expectation is told in the right words, beside a right one that passes.
//! It must never need the cases of the folder.

use crate::{
    script::{Case, parse},
    table::{run, splits},
};

/// What the report says, and the case that is wrong in this way.
const WRONG: &[(&str, &str)] = &[
    (
        "step 2 (>>): this differs\n    expected \"GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n\"\n    \
         seen     \"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"",
        "> GET / HTTP/1.1\n> Host: a\n>\n>> GET / HTTP/1.1\n>> Host: b\n>>\nanswered",
    ),
    (
        "step 4 (<): this differs",
        "> GET / HTTP/1.1\n> Host: a\n>\npasses\n<< HTTP/1.1 200 OK\n<< Content-Length: 1\n<<\n<< a\\\n\
         < HTTP/1.1 200 OK\n< Content-Length: 1\n<\n< b\\",
    ),
    ("step 2 (refused): expected another status", "> GET /\n> Host: a\n>\nrefused 404 no_route open"),
    ("step 2 (refused): expected another x-outrigger-error", "> GET /\n> Host: a\n>\nrefused 400 no_route"),
    (
        "step 2 (refused): it says that the connection is closed",
        "> GET /\n> Host: a\n>\nrefused 400 malformed open",
    ),
    ("step 2 (>>): nothing came; the client saw \"HTTP/1.1 400 ", "> GET /\n> Host: a\n>\npasses\nanswered"),
    (
        "behind the last step: of the upstream was expected at most",
        "> POST / HTTP/1.1\n> Host: a\n> Transfer-Encoding: chunked\n>\n> 1\n> a\n> 1\n> ab\n> 0\n>\n\
         >>? POST /other HTTP/1.1\nrefused 400 malformed",
    ),
    (
        "behind the last step: the client saw also \"ok\"",
        "> GET / HTTP/1.1\n> Host: a\n>\npasses\n<< HTTP/1.1 200 OK\n<< Content-Length: 2\n<<\n<< ok\\\n\
         < HTTP/1.1 200 OK\n< Content-Length: 2\n<",
    ),
    (
        "step 5 (closes): the connection was not ended",
        "> GET / HTTP/1.1\n> Host: a\n>\npasses\nanswered\ncloses",
    ),
    (
        "step 5 (upstream closed): it was not ended",
        "> GET / HTTP/1.1\n> Host: a\n>\npasses\nanswered\nupstream closed",
    ),
    (
        "step 7 (>>): it came by the same connection",
        "> GET /1 HTTP/1.1\n> Host: a\n>\npasses\nanswered\nupstream fresh\n> GET /2 HTTP/1.1\n> Host: a\n>\n\
         passes\nanswered",
    ),
    (
        "behind the last step: a further request reaches the upstream by another connection",
        "> GET / HTTP/1.1\n> Host: a\n>\npasses\n<< HTTP/1.1 200 OK\n<< Connection: close\n<< Content-Length: 0\n<<\n\
         < HTTP/1.1 200 OK\n< Content-Length: 0\n<",
    ),
    (
        "behind the last step: a further request does not reach the upstream",
        "> GET / HTTP/1.1\n> Host: a\n> Content-Length: 10\n>\n>> GET / HTTP/1.1\n>> Host: a\n>> Content-Length: 10\n>>",
    ),
];

const RIGHT: &str = "=== right\n> GET / HTTP/1.1\n> Host: a\n>\npasses\nanswered\n";

fn cases(text: &str) -> Vec<Case> {
    parse("wrong", text).expect("it reads").remove(0).cases
}

#[test]
fn a_wrong_expectation_is_told() {
    let wrong = WRONG.iter().enumerate().map(|(number, (_, script))| {
        // Only in pieces does something reach the upstream of what is then refused.
        let once = if script.contains(">>?") { "" } else { "once" };
        format!("=== wrong {number}\n{script}\n{once}\n")
    });
    let text = format!("% conf wrong\n{}{RIGHT}", wrong.collect::<Vec<_>>().concat());
    let mut groups = parse("wrong", &text).expect("it reads");
    let report = run(&groups.remove(0));
    for (number, (words, script)) in WRONG.iter().enumerate() {
        let told = report.failures.get(&number).unwrap_or_else(|| panic!("this passes:\n{script}"));
        assert!(told.contains(words), "{words}\nis not said by\n{told}");
    }
    assert_eq!(report.failures.len(), WRONG.len(), "what is right fails too: {report:#?}");
}

#[test]
fn a_case_is_cut_at_every_byte() {
    let text =
        "% conf cuts\n=== cuts\n> GET / HTTP/1.1\n> Host: a\n>\npasses\n<< HTTP/1.1 204 No\n<<\nreturns\n";
    let case = cases(text).remove(0);
    // 27 bytes there and 19 back have 26 and 18 places between them; whole, and byte by byte.
    assert_eq!(splits(&case).len(), 26 + 18 + 2);
}

#[test]
fn what_is_no_case_is_refused_with_its_place() {
    let refused = [
        "=== no conf",
        "% conf c\n> no case",
        "% conf c\n% colour: red",
        "% conf c\n=== c\nanswerd",
        "% conf c\n=== c\n> \\q",
        "% conf c\n=== c\n> \\{*}",
        "% conf c\n=== c\npasses",
        "% conf c\n=== c\nrefused four",
        "% conf c\n=== c\nrefused 400 malformed loudly",
    ];
    for text in refused {
        let error = parse("file", text).expect_err(text);
        assert!(error.starts_with(&format!("file:{}: ", text.lines().count())), "{error}");
    }
}
