//! The calls by which an application of Dubbo tells MOSN what it gives and what it wants: `/pub`, `/unpub`, `/sub`, `/unsub`.
//!
//! After MOSN's `pkg/upstream/servicediscovery/dubbod` (commit 707d635), whose answers are all of status 200 and say in `err_no`
//! how it went. One thing is otherwise on purpose: a call names a registry with its address and password, and what it names is
//! never dialled. The registries are those of the conf. `version` may be said of what is wanted, too.

use outrigger_discovery::Framework;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Ask,
    kept::{Name, Published},
};

/// The longest name of a method.
const METHOD_MAX: usize = 256;
/// Bytes of all of them.
const METHODS_MAX: usize = 16 << 10;

/// What a call asks for, by its path; `None`: there is no such path.
pub(super) fn ask(path: &str, body: &[u8]) -> Option<Result<Ask, String>> {
    if !["/pub", "/unpub", "/sub", "/unsub"].contains(&path) {
        return None;
    }
    let read = |said: Said| {
        let (name, methods) = said.service.name()?;
        Ok(match path {
            "/pub" => Ask::Publish(name, published(&methods)),
            "/unpub" => Ask::Unpublish(name),
            "/sub" => Ask::Subscribe(name),
            _ => Ask::Unsubscribe(name),
        })
    };
    Some(super::json::read(body).and_then(read).map_err(|why| refusal(path, &why)))
}

/// The answer to what was done, in MOSN's words.
pub(super) fn done(ask: &Ask) -> Value {
    let words = match ask {
        Ask::Publish(..) | Ask::Application(_) => "publish success",
        Ask::Unpublish(_) => "unpub success",
        Ask::Subscribe(_) => "subscribe success",
        Ask::Unsubscribe(_) => "unsubscribe success",
    };
    json!({ "err_no": 0, "err_msg": words })
}

/// The answer to what is not done.
pub(super) fn refused(why: &str) -> Value {
    json!({ "err_no": 1, "err_msg": why })
}

/// Why a call is refused, in MOSN's words.
pub(super) fn refusal(path: &str, why: &str) -> String {
    let what = match path {
        "/pub" => "publish",
        "/unpub" => "unpub",
        "/sub" => "subscribe",
        _ => "unsubscribe",
    };
    format!("{what} fail, err: {why}")
}

/// A call. Its `registry` is not even read.
#[derive(Deserialize)]
struct Said {
    service: Service,
}

#[derive(Deserialize)]
struct Service {
    interface: String,
    methods: Option<Vec<String>>,
    group: Option<String>,
    version: Option<String>,
}

impl Service {
    fn name(self) -> Result<(Name, Vec<String>), String> {
        let some = |part: Option<String>| part.filter(|part| !part.is_empty());
        let name = Name {
            framework: Framework::Dubbo,
            service: self.interface,
            // Consumers of Dubbo say 0.0.0 where they want one without a version.
            version: some(self.version).filter(|version| version != "0.0.0"),
            group: some(self.group),
            protocol: "dubbo".to_owned(),
        };
        name.check()?;
        Ok((name, self.methods.unwrap_or_default()))
    }
}

fn published(methods: &[String]) -> Published {
    let mut published = Published::default();
    let fits = |name: &&String| {
        (1..=METHOD_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte))
    };
    let mut names: Vec<&str> = methods.iter().filter(fits).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let names = names.join(",");
    // Otherwise it is told that it has any, as Dubbo says it of a service whose methods it does not know.
    if !names.is_empty() && names.len() <= METHODS_MAX {
        published.metadata.insert("methods".to_owned(), names);
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, body: &str) -> Result<Ask, String> {
        ask(path, body.as_bytes()).expect("a path")
    }

    fn name(version: Option<&str>, group: Option<&str>) -> Name {
        Name {
            framework: Framework::Dubbo,
            service: "com.mosn.test.UserService".into(),
            version: version.map(Into::into),
            group: group.map(Into::into),
            protocol: "dubbo".into(),
        }
    }

    const PUB: &str = r#"{"registry":{"type":"zookeeper","addr":"127.0.0.1:2181","username":"u","password":"p"},
        "service":{"interface":"com.mosn.test.UserService","methods":["GetUser","GetProfile",""],
        "group":"blue","version":"1.0.3"}}"#;

    #[test]
    fn calls_are_read_as_mosn_reads_them() {
        let Ok(Ask::Publish(of, said)) = asked("/pub", PUB) else { panic!() };
        assert_eq!(of, name(Some("1.0.3"), Some("blue")));
        assert_eq!(said.metadata["methods"], "GetProfile,GetUser");
        assert_eq!(asked("/unpub", PUB), Ok(Ask::Unpublish(of.clone())));
        assert_eq!(asked("/unsub", PUB), Ok(Ask::Unsubscribe(of)));
        let sub = r#"{"registry":{},"service":{"interface":"com.mosn.test.UserService","methods":[""],"group":""}}"#;
        assert_eq!(asked("/sub", sub), Ok(Ask::Subscribe(name(None, None))));
        let sub = sub.replace("\"group\":\"\"", "\"version\":\"0.0.0\"");
        assert_eq!(asked("/sub", &sub), Ok(Ask::Subscribe(name(None, None))));
        assert!(ask("/", b"{}").is_none() && ask("/pub/", b"{}").is_none());
    }

    #[test]
    fn what_means_nothing_is_refused_in_mosns_words() {
        for (path, begins) in [
            ("/pub", "publish fail, err: "),
            ("/unpub", "unpub fail, err: "),
            ("/sub", "subscribe fail, err: "),
            ("/unsub", "unsubscribe fail, err: "),
        ] {
            for bad in [
                "",
                "{}",
                r#"{"service":{}}"#,
                r#"{"service":{"interface":""}}"#,
                r#"{"service":{"interface":"a\u0007"}}"#,
                r#"{"service":{"interface":"a/b"}}"#,
                r#"{"service":{"interface":"a","interface":"b"}}"#,
                r#"{"service":{"interface":"a","group":"x y"}}"#,
            ] {
                let why = asked(path, bad).expect_err(bad);
                assert!(why.starts_with(begins), "{why}");
            }
        }
    }

    #[test]
    fn methods_that_nobody_could_call_are_not_told() {
        let long = "x".repeat(METHOD_MAX + 1);
        let methods = ["b", "a", "a", "x,y", "a&b", "\n", long.as_str()].map(str::to_owned);
        assert_eq!(published(&methods).metadata["methods"], "a,b");
        assert!(published(&[String::new()]).metadata.is_empty());
    }
}
