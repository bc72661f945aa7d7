//! The messages of Nacos 2 that are used, as JSON: what we ask, what it answers, what it tells.
//!
//! Fields that are not used are left out when writing and passed over when reading. Everything read may be absent, since
//! the servers' versions differ in what they write; must never refuse a whole list for one of its entries.
//! Source: the classes of `nacos-api` 2.2.4, package `com.alibaba.nacos.api`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// The code of an answer that means yes.
pub(crate) const OK: i32 = 200;
/// The server does not know our connection (any more).
pub(crate) const UNREGISTERED: i32 = 301;
/// No such config.
pub(crate) const NO_CONFIG: i32 = 300;
/// What an instance's cluster is where nobody says otherwise.
pub(crate) const CLUSTER: &str = "DEFAULT";

/// A question, and what answers it.
pub(crate) trait Question: Serialize + Sync {
    /// Its class.
    const KIND: &'static str;
    /// What is read of the answer.
    type Answer: DeserializeOwned + Send;
}

/// What every answer says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Outcome {
    pub(crate) result_code: i32,
    pub(crate) error_code: i32,
    pub(crate) message: Option<String>,
}

/// An answer that says nothing but yes.
#[derive(Debug, Deserialize)]
pub(crate) struct Yes {}

/// Whether the server is there.
#[derive(Serialize)]
pub(crate) struct ServerCheckRequest {}

/// Which connection this is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServerCheckResponse {
    pub(crate) connection_id: Option<String>,
}

/// The first word on the stream.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectionSetupRequest<'a> {
    pub(crate) client_version: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) abilities: BTreeMap<&'a str, BTreeMap<&'a str, bool>>,
    pub(crate) labels: BTreeMap<&'a str, &'a str>,
}

/// Whether the connection still lives.
#[derive(Serialize)]
pub(crate) struct HealthCheckRequest {}

/// Where a service stands: part of every question about one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) group_name: String,
    pub(crate) service_name: String,
}

/// Registers one instance in the place of all that this connection registered of its service, or takes all away.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceRequest<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    #[serde(rename = "type")]
    pub(crate) what: &'static str,
    pub(crate) instance: &'a Host,
}

impl InstanceRequest<'_> {
    pub(crate) const REGISTER: &'static str = "registerInstance";
    pub(crate) const DEREGISTER: &'static str = "deregisterInstance";
}

/// Registers these in the place of all that this connection registered of their service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchInstanceRequest<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    #[serde(rename = "type")]
    pub(crate) what: &'static str,
    pub(crate) instances: &'a [&'a Host],
}

impl BatchInstanceRequest<'_> {
    pub(crate) const REGISTER: &'static str = "batchRegisterInstance";
}

/// From now on (or no more) tell us who gives a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeServiceRequest<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    pub(crate) subscribe: bool,
    pub(crate) clusters: &'static str,
}

/// Who gives a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceQueryRequest<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    pub(crate) cluster: &'static str,
    pub(crate) healthy_only: bool,
    pub(crate) udp_port: i32,
}

/// Which services there are, by pages that are counted from 1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceListRequest<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) group_name: &'a str,
    pub(crate) service_name: &'static str,
    pub(crate) page_no: i32,
    pub(crate) page_size: i32,
}

/// A page of names, and how many there are in all.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceListResponse {
    pub(crate) count: i64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) service_names: Vec<String>,
}

/// An answer with a service in it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceAnswer {
    pub(crate) service_info: Option<ServiceInfo>,
}

/// The server tells who gives a service.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NotifySubscriberRequest {
    #[serde(deserialize_with = "or_default")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) service_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) group_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) service_info: ServiceInfo,
}

/// Who gives a service.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceInfo {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) group_name: String,
    /// When the server made this, in milliseconds by its own clock.
    #[serde(deserialize_with = "or_default")]
    pub(crate) last_ref_time: i64,
    /// Each is read by itself: see [`ServiceInfo::read`].
    #[serde(deserialize_with = "or_default")]
    hosts: Vec<Box<RawValue>>,
}

impl ServiceInfo {
    /// The instances, and how many could not be read.
    pub(crate) fn read(&self) -> (Vec<Host>, usize) {
        let mut hosts = Vec::with_capacity(self.hosts.len());
        hosts.extend(self.hosts.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()));
        let unreadable = self.hosts.len().saturating_sub(hosts.len());
        (hosts, unreadable)
    }
}

/// An instance, as Nacos has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host {
    pub(crate) ip: String,
    pub(crate) port: u16,
    #[serde(default = "one")]
    pub(crate) weight: f64,
    #[serde(default = "yes")]
    pub(crate) healthy: bool,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default = "yes")]
    pub(crate) ephemeral: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) cluster_name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Host {
    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        let bare = self.ip.contains(':') && !self.ip.starts_with('[');
        if bare { format!("[{}]:{}", self.ip, self.port) } else { format!("{}:{}", self.ip, self.port) }
    }
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

/// Where a config stands. `tenant` is a namespace; the public one is empty here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) tenant: String,
    pub(crate) group: String,
    pub(crate) data_id: String,
}

/// What a config says.
#[derive(Serialize)]
pub(crate) struct ConfigQueryRequest<'a> {
    #[serde(flatten)]
    pub(crate) config: &'a Config,
}

/// What a config says, and the digest of that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigQueryResponse {
    pub(crate) content: Option<String>,
    pub(crate) md5: Option<String>,
}

/// Writes a config; with `cas_md5` only if what it says has that digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigPublishRequest<'a> {
    #[serde(flatten)]
    pub(crate) config: &'a Config,
    pub(crate) content: &'a str,
    pub(crate) cas_md5: Option<&'a str>,
    pub(crate) addition_map: BTreeMap<&'a str, &'a str>,
}

/// From now on (or no more) tell us of changes of configs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigBatchListenRequest<'a> {
    pub(crate) listen: bool,
    pub(crate) config_listen_contexts: Vec<ConfigListenContext<'a>>,
}

/// A config, and the digest of what we believe that it says.
#[derive(Serialize)]
pub(crate) struct ConfigListenContext<'a> {
    #[serde(flatten)]
    pub(crate) config: &'a Config,
    pub(crate) md5: &'a str,
}

/// The server tells that a config changed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigChangeNotifyRequest {
    #[serde(deserialize_with = "or_default")]
    pub(crate) data_id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) group: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tenant: String,
}

/// What the server says is numbered, and so is our answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Numbered {
    #[serde(deserialize_with = "or_default")]
    pub(crate) request_id: String,
}

/// Our answer to whatever the server says: heard.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Heard<'a> {
    pub(crate) result_code: i32,
    pub(crate) request_id: &'a str,
}

/// An answer to a login.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login {
    pub(crate) access_token: String,
    /// Seconds.
    #[serde(default)]
    pub(crate) token_ttl: u64,
}

macro_rules! questions {
    ($($question:ident $(<$life:lifetime>)? => $answer:ty;)*) => {
        $(impl $(<$life>)? Question for $question $(<$life>)? {
            const KIND: &'static str = stringify!($question);
            type Answer = $answer;
        })*
    };
}

questions! {
    ServerCheckRequest => ServerCheckResponse;
    HealthCheckRequest => Yes;
    InstanceRequest<'a> => Yes;
    BatchInstanceRequest<'a> => Yes;
    SubscribeServiceRequest<'a> => ServiceAnswer;
    ServiceQueryRequest<'a> => ServiceAnswer;
    ServiceListRequest<'a> => ServiceListResponse;
    ConfigQueryRequest<'a> => ConfigQueryResponse;
    ConfigPublishRequest<'a> => Yes;
    ConfigBatchListenRequest<'a> => Yes;
}

/// `null` is as good as absent: Java writes it for whatever it does not know.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a failing test is the point")]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_read_takes_no_other_along() {
        let text = r#"{"namespace":"public","serviceName":"s","groupName":"g","serviceInfo":{"name":"s","hosts":[
            {"ip":"10.0.0.1","port":1,"metadata":{"weight":"5"},"clusterName":"DEFAULT","instanceHeartBeatTimeOut":15000},
            {"ip":"10.0.0.1","port":70000},
            {"ip":"10.0.0.2","port":2,"metadata":{"weight":null}},
            null, 7,
            {"ip":"::1","port":3,"metadata":null,"clusterName":null,"weight":0.5,"enabled":false}]}}"#;
        let told: NotifySubscriberRequest = serde_json::from_str(text).expect("a message");
        let (hosts, unreadable) = told.service_info.read();
        assert_eq!(unreadable, 4);
        let addresses: Vec<String> = hosts.iter().map(Host::address).collect();
        assert_eq!(addresses, ["10.0.0.1:1", "[::1]:3"]);
        let ends: Vec<_> = hosts.iter().map(|host| (host.enabled, host.healthy, host.ephemeral)).collect();
        assert_eq!(ends, [(true, true, true), (false, true, true)]);
    }

    #[test]
    fn what_java_leaves_null_is_absent() {
        let told: NotifySubscriberRequest =
            serde_json::from_str(r#"{"namespace":null,"serviceInfo":{"name":null,"hosts":null}}"#)
                .expect("a message");
        assert_eq!((told.namespace.as_str(), told.service_info.read().0.len()), ("", 0));
        let none: NotifySubscriberRequest =
            serde_json::from_str(r#"{"serviceInfo":null}"#).expect("a message");
        assert_eq!(none.service_info.read(), (Vec::new(), 0));
    }

    #[test]
    fn a_question_is_written_with_its_place_in_it() {
        let place = Place { namespace: "public".into(), group_name: "g".into(), service_name: "s".into() };
        let question = SubscribeServiceRequest { place: &place, subscribe: true, clusters: "" };
        let text = serde_json::to_string(&question).expect("JSON");
        let want =
            r#"{"namespace":"public","groupName":"g","serviceName":"s","subscribe":true,"clusters":""}"#;
        assert_eq!(text, want);
    }
}
