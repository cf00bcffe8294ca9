//! NodePorts: a host port is given to one Pod at a time.

use crate::node::Node;
use crate::requirements::Requirements;

pub const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub fn filter(requirements: &Requirements, node: &Node) -> bool {
    let taken = |port| node.host_ports.iter().any(|other| other.conflicts(port));
    !requirements.host_ports.iter().any(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::pod::HostPort;

    fn ports(text: &str) -> Vec<HostPort> {
        let port = |word: &str| {
            let [ip, protocol, port] = word
                .split('/')
                .collect::<Vec<_>>()
                .try_into()
                .expect("ip/protocol/port");
            HostPort {
                ip: ip.to_owned(),
                protocol: protocol.to_owned(),
                port: port.parse().expect("port"),
            }
        };
        text.split_whitespace().map(port).collect()
    }

    #[track_caller]
    fn check(taken: &str, wanted: &str, want: bool) {
        let node = Node {
            host_ports: ports(taken),
            ..Node::default()
        };
        let requirements = Requirements {
            host_ports: ports(wanted),
            ..Requirements::default()
        };
        assert_eq!(filter(&requirements, &node), want, "{wanted} beside {taken}");
    }

    #[test]
    fn ports_conflict_by_address_protocol_and_number() {
        check("", "/TCP/80", true);
        check("/TCP/80", "/TCP/80", false);
        check("/TCP/80", "/UDP/80", true);
        check("/TCP/80", "/TCP/81", true);
        check("/TCP/80", "127.0.0.1/TCP/80", false);
        check("127.0.0.1/TCP/80", "/TCP/80", false);
        check("127.0.0.1/TCP/80", "127.0.0.2/TCP/80", true);
        check("/TCP/80 /TCP/443", "/TCP/8080 /TCP/443", false);
    }
}
