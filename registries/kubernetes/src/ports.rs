//! Which port of a slice is meant.
//!
//! A slice names its ports and, perhaps, what is spoken there; a caller knows what it wants to speak. Where that leaves more
//! than one, it is said, never guessed: a call at the wrong port would be answered by somebody.

use k8s_openapi::api::discovery::v1::EndpointPort;

/// A port for TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) spoken: String,
    pub(crate) number: u16,
}

/// The ports of a slice that can be dialled.
pub(crate) fn read(ports: Vec<EndpointPort>) -> Vec<Port> {
    let tcp = ports.into_iter().filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    tcp.filter_map(|port| {
        let number = u16::try_from(port.port?).ok().filter(|number| *number > 0)?;
        Some(Port {
            name: port.name.unwrap_or_default(),
            spoken: port.app_protocol.unwrap_or_default(),
            number,
        })
    })
    .collect()
}

/// The port where `protocol` is spoken: the only one; or else the one that is called so, that says so, or whose name begins so;
/// or else the one without a name.
pub(crate) fn choose(ports: &[Port], protocol: Option<&str>) -> Result<u16, String> {
    let only = |fits: &dyn Fn(&Port) -> bool| {
        let mut fitting = ports.iter().filter(|port| fits(port));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first.number)
    };
    if let Some(number) = only(&|_| true) {
        return Ok(number);
    }
    if ports.is_empty() {
        return Err("it has no port for TCP".to_owned());
    }
    let chosen = protocol.and_then(|protocol| {
        let begins = |port: &Port| port.name.strip_prefix(protocol).is_some_and(|rest| rest.starts_with('-'));
        only(&|port| port.name == protocol)
            .or_else(|| only(&|port| port.spoken == protocol))
            .or_else(|| only(&begins))
    });
    chosen.or_else(|| only(&|port| port.name.is_empty())).ok_or_else(|| {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        let wanted =
            protocol.map_or_else(String::new, |protocol| format!(", and which one is for {protocol}"));
        format!("it has several ports ({}){wanted} is not clear", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, spoken: &str, number: u16) -> Port {
        Port { name: name.into(), spoken: spoken.into(), number }
    }

    #[test]
    fn the_only_port_is_the_one_whatever_it_is_called() {
        assert_eq!(choose(&[port("grpc", "", 1)], Some("http")), Ok(1));
        assert_eq!(choose(&[port("", "", 1)], None), Ok(1));
    }

    #[test]
    fn of_several_the_one_that_says_so_is_taken() {
        let several =
            [port("metrics", "http", 1), port("http", "", 2), port("tri-a", "", 3), port("x", "tri", 4)];
        assert_eq!(choose(&several, Some("http")), Ok(2), "its own name goes first");
        assert_eq!(choose(&several, Some("tri")), Ok(4), "then what it says");
        assert_eq!(choose(&[port("tri-a", "", 3), port("tria", "", 5)], Some("tri")), Ok(3));
        assert_eq!(choose(&[port("", "", 3), port("tria", "", 5)], Some("http")), Ok(3), "or the nameless");
    }

    #[test]
    fn what_is_not_clear_is_said() {
        let two = [port("http-a", "", 1), port("http-b", "", 2)];
        let said = choose(&two, Some("http")).unwrap_err();
        assert!(said.contains("http-a, http-b") && said.contains("for http"), "{said}");
        assert!(choose(&two, None).is_err() && choose(&[], Some("http")).is_err());
    }

    #[test]
    fn only_tcp_can_be_dialled() {
        let one = |protocol: Option<&str>, port| EndpointPort {
            protocol: protocol.map(str::to_owned),
            port,
            ..EndpointPort::default()
        };
        let read = read(vec![
            one(Some("UDP"), Some(1)),
            one(None, Some(2)),
            one(None, None),
            one(Some("TCP"), Some(0)),
        ]);
        assert_eq!(read, [port("", "", 2)]);
    }
}
