//! The JSON gateway of etcd, by plain HTTP: the hands of the tests.
//!
//! One connection a call. Calls block; none lasts longer than a few seconds. Test code: it asserts and panics.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key as it stands in the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
    pub(crate) created: i64,
    pub(crate) changed: i64,
}

impl Entry {
    /// The last part of the key.
    pub(crate) fn node(&self) -> &str {
        self.key.rsplit('/').next().expect("a part")
    }
}

/// The gateway of one server.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    address: String,
    token: Option<String>,
}

impl Gateway {
    pub(crate) fn new(address: String) -> Self {
        Self { address, token: None }
    }

    /// The same as somebody.
    pub(crate) fn login(&self, name: &str, password: &str) -> Self {
        let answer = self.call("auth/authenticate", &json!({ "name": name, "password": password }));
        Self { address: self.address.clone(), token: Some(answer["token"].as_str().expect("a token").into()) }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.post("kv/range", &json!({ "key": encode(b"/nothing") })).is_ok_and(|(status, _)| status == 200)
    }

    pub(crate) fn call(&self, path: &str, what: &Value) -> Value {
        let (status, answer) = self.post(path, what).expect("an answer");
        assert_eq!(status, 200, "{path} {what}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    fn post(&self, path: &str, what: &Value) -> std::io::Result<(u16, String)> {
        let address: SocketAddr = self.address.parse().expect("an address");
        let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        let body = what.to_string();
        let token =
            self.token.as_ref().map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /v3/{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n{token}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        socket.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
    }

    /// Writes a key that stays.
    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        self.put_on(key, value, 0);
    }

    /// Writes a key that goes with a lease.
    pub(crate) fn put_on(&self, key: &str, value: &[u8], lease: i64) {
        let what =
            json!({ "key": encode(key.as_bytes()), "value": encode(value), "lease": lease.to_string() });
        self.call("kv/put", &what);
    }

    /// Writes many keys that stay, a hundred at a time.
    pub(crate) fn put_all(&self, entries: &[(String, Vec<u8>)]) {
        for some in entries.chunks(100) {
            let put = |(key, value): &(String, Vec<u8>)| json!({ "requestPut": { "key": encode(key.as_bytes()), "value": encode(value) } });
            self.call("kv/txn", &json!({ "success": some.iter().map(put).collect::<Vec<_>>() }));
        }
    }

    pub(crate) fn delete(&self, key: &str) {
        self.call("kv/deleterange", &json!({ "key": encode(key.as_bytes()) }));
    }

    /// What stands below a prefix.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Entry> {
        self.below_at(prefix, 0)
    }

    /// What stood there at a revision; 0: what stands there.
    fn below_at(&self, prefix: &str, revision: i64) -> Vec<Entry> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix") += 1;
        let what = json!({
            "key": encode(prefix.as_bytes()), "range_end": encode(&end), "revision": revision.to_string(),
        });
        let answer = self.call("kv/range", &what);
        let number =
            |kv: &Value, name: &str| kv[name].as_str().map_or(0, |text| text.parse().expect("a number"));
        let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
        let entry = |kv: &Value| Entry {
            key: String::from_utf8(decode(kv["key"].as_str().expect("a key"))).expect("a text"),
            value: decode(kv["value"].as_str().unwrap_or_default()),
            lease: number(kv, "lease"),
            created: number(kv, "create_revision"),
            changed: number(kv, "mod_revision"),
        };
        kvs.iter().map(entry).collect()
    }

    /// What stands under a key.
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.below(key).into_iter().find(|entry| entry.key == key)
    }

    /// What stood under a key at a revision.
    pub(crate) fn get_at(&self, key: &str, revision: i64) -> Option<Entry> {
        self.below_at(key, revision).into_iter().find(|entry| entry.key == key)
    }

    /// The revision of the store.
    pub(crate) fn revision(&self) -> i64 {
        let answer = self.call("kv/range", &json!({ "key": encode(b"/nothing") }));
        answer["header"]["revision"].as_str().expect("a revision").parse().expect("a number")
    }

    /// Forgets everything that was before now.
    pub(crate) fn compact(&self) {
        let revision = self.revision().to_string();
        self.call("kv/compaction", &json!({ "revision": revision, "physical": true }));
    }

    /// A lease of the test's own.
    pub(crate) fn grant(&self, seconds: i64) -> i64 {
        let answer = self.call("lease/grant", &json!({ "TTL": seconds.to_string() }));
        answer["ID"].as_str().expect("a lease").parse().expect("a number")
    }

    pub(crate) fn revoke(&self, lease: i64) {
        self.call("lease/revoke", &json!({ "ID": lease.to_string() }));
    }

    /// How many leases there are.
    pub(crate) fn leases(&self) -> usize {
        self.call("lease/leases", &json!({}))["leases"].as_array().map_or(0, Vec::len)
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= part.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let letters: Vec<u32> = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| LETTERS.iter().position(|letter| *letter == byte).expect("a letter") as u32)
        .collect();
    for part in letters.chunks(4) {
        let bits = part.iter().fold(0, |bits, letter| bits << 6 | letter) << (6 * (4 - part.len()));
        out.extend(bits.to_be_bytes()[1..].iter().take(part.len() - 1));
    }
    out
}
