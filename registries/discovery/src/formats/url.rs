//! The URLs in which Dubbo and SOFARPC describe a provider: `dubbo://10.0.0.1:20880/a.B?group=g&weight=50`.
//!
//! Nothing in one is escaped: whoever puts it into a name escapes the whole. It must never be taken for a URL of the web.
//! After Dubbo's `URLStrParser` and `URL.toFullString`.

use std::{collections::BTreeMap, fmt};

use super::Text;

/// A provider, or a rule about providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url<T = String> {
    /// What is spoken there, or what kind of rule it is.
    pub protocol: T,
    /// `host:port`, or a host alone; not checked.
    pub address: T,
    /// The path without its first slash: mostly the interface.
    pub path: T,
    /// The parameters. Of two with one name the last counts.
    pub params: BTreeMap<T, T>,
}

impl<'a, T: Text + From<&'a str>> Url<T> {
    /// Reads one that is not escaped; `None`: it has no protocol or no address.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (protocol, rest) = place.split_once("://")?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A user and a password may stand before the host; nobody needs them here.
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        if protocol.is_empty() || address.is_empty() {
            return None;
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        // Dubbo reads a name alone as its own value.
        let params = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, pair)));
        let params = params.filter(|(name, _)| !name.is_empty());
        Some(Self {
            protocol: protocol.into(),
            address: address.into(),
            path: path.into(),
            params: params.map(|(name, value)| (name.into(), value.into())).collect(),
        })
    }
}

/// A parameter that nobody could read back as it is, because it has a separator in it, is left out.
impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, path, params } = self;
        write!(out, "{protocol}://{address}")?;
        if !path.is_empty() {
            write!(out, "/{path}")?;
        }
        let legible = |(name, value): &(&String, &String)| {
            !name.is_empty() && !name.contains(['&', '=']) && !value.contains('&')
        };
        for (at, (name, value)) in params.iter().filter(legible).enumerate() {
            write!(out, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Params;

    #[test]
    fn every_part_is_read_and_written_back() {
        let text = "dubbo://10.0.0.1:20880/a.B?empty=&filter=x=y&methods=a,b";
        let url: Url = Url::parse(text).unwrap();
        assert_eq!(
            (url.protocol.as_str(), url.address.as_str(), url.path.as_str()),
            ("dubbo", "10.0.0.1:20880", "a.B")
        );
        assert_eq!(url.params["filter"], "x=y");
        assert_eq!(url.params["empty"], "");
        assert_eq!(url.to_string(), text);
    }

    #[test]
    fn odd_ones_are_read_as_dubbo_reads_them() {
        let url: Url = Url::parse("bolt://user:pass@h:1?alone&&=x&a=1&a=2").unwrap();
        assert_eq!((url.address.as_str(), url.path.as_str()), ("h:1", ""));
        assert_eq!(url.params, Params::from([("alone".into(), "alone".into()), ("a".into(), "2".into())]));
        for bad in ["", "h:1", "://h:1", "dubbo://", "dubbo:///a", "dubbo://?a=1"] {
            assert_eq!(Url::<&str>::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_value_cannot_bring_another_parameter_with_it() {
        let params = Params::from([
            ("a".into(), "1&weight=0".into()),
            ("b=c".into(), "2".into()),
            ("d".into(), "3".into()),
        ]);
        let url = Url { protocol: "tri".into(), address: "h:1".into(), path: String::new(), params };
        assert_eq!(url.to_string(), "tri://h:1?d=3");
    }
}
