//! What counts as an address: `host:port`, where the host is a name, an IPv4 or a bracketed IPv6.
//!
//! Registries are fed by many hands, so every address is checked before it can reach a resolver or a connect. This
//! checks the form only; it must never resolve anything.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// The longest host name (RFC 1035 §2.3.4, without the final dot).
const HOST_BYTES_MAX: usize = 253;

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress(&'static str);

impl fmt::Display for BadAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for BadAddress {}

/// Whether `address` is a `host:port` that can be dialled.
pub fn check_address(address: &str) -> Result<(), BadAddress> {
    let (host, port) = address.rsplit_once(':').ok_or(BadAddress("a port is missing: write host:port"))?;
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if !digits || !matches!(port.parse::<u32>(), Ok(1..=65_535)) {
        return Err(BadAddress("the port must be a number from 1 to 65535"));
    }
    if let Some(inner) = host.strip_prefix('[') {
        let literal = inner.strip_suffix(']').ok_or(BadAddress("the bracket is not closed"))?;
        return literal
            .parse::<Ipv6Addr>()
            .map(drop)
            .map_err(|_| BadAddress("not an IPv6 address in the brackets"));
    }
    if host.contains(':') {
        return Err(BadAddress("write an IPv6 address in brackets: [::1]:8080"));
    }
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(named) {
        return Err(BadAddress("the host must be a name or an IP address"));
    }
    Ok(())
}

/// Whether others can be told an address: one that means "this host" to whoever dials it is of no use to them.
pub fn is_public(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => {
            let ip = ip.to_canonical();
            !ip.is_loopback() && !ip.is_unspecified()
        }
        Err(_) => !host.is_empty() && !host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_kinds_of_ip_are_addresses() {
        for good in ["127.0.0.1:1", "echo.prod.svc:65535", "my_host-1:80", "[::1]:8080", "[fe80::1]:20880"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        for bad in [
            "",
            ":",
            "host",
            ":80",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:8o",
            "host:000080",
            "::1:80",
            "[::1]",
            "[::1:80",
            "[nope]:80",
            "a b:80",
            "a/b:80",
            "bolt://h:80",
            "h\u{e9}:80",
            "host:80:90",
        ] {
            assert!(check_address(bad).is_err(), "{bad:?}");
        }
        assert!(check_address(&format!("{}:80", "a".repeat(254))).is_err());
    }

    #[test]
    fn an_address_that_means_this_host_is_not_public() {
        for here in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "0.0.0.0:1",
            "[::1]:1",
            "[::]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!is_public(here), "{here}");
        }
        for there in ["10.0.0.1:1", "[fe80::1]:1", "shop.prod.svc:1"] {
            assert!(is_public(there), "{there}");
        }
    }
}
