//! UDP flows that conntrack would go on sending to an endpoint that is gone. What to flush is pure.
//!
//! TCP notices by itself. A UDP flow keeps its translation as long as its client keeps sending, so it is removed when its
//! endpoint leaves, and when a port gets its first endpoint: flows seen before that were left untranslated. Flushing is
//! done by `conntrack -D`; without that program the flows end by the kernel's timeout (30 s idle, 120 s streams).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Stdio;

use crate::service::compile::needs_flush;
use crate::service::model::ServicePort;

/// More single flushes than this at once are done as one flush of every translated UDP flow.
const MAX_SINGLE_FLUSHES: usize = 128;

/// Which flows to end: those to `destination` (any host address for a node port), and if `endpoint` is given only those
/// translated to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flush {
    pub address: Option<Ipv4Addr>,
    pub port: u16,
    pub endpoint: Option<Ipv4Addr>,
}

/// Compares the ports before and after a change.
pub fn stale(old: &[ServicePort], new: &[ServicePort]) -> Vec<Flush> {
    let now: BTreeMap<&str, &ServicePort> = new
        .iter()
        .filter(|port| needs_flush(port.protocol))
        .map(|port| (port.name.as_str(), port))
        .collect();
    let before: BTreeMap<&str, &ServicePort> = old
        .iter()
        .filter(|port| needs_flush(port.protocol))
        .map(|port| (port.name.as_str(), port))
        .collect();
    let mut flushes = Vec::new();
    for (name, old) in &before {
        let kept = |endpoint: &SocketAddrV4| {
            now.get(name)
                .is_some_and(|port| port.endpoints.cluster.contains(endpoint))
        };
        for gone in old.endpoints.cluster.iter().filter(|endpoint| !kept(endpoint)) {
            flushes.extend(doors(old).map(|(address, port)| Flush {
                address,
                port,
                endpoint: Some(*gone.ip()),
            }));
        }
    }
    for (name, new) in &now {
        let had_none = before
            .get(name)
            .is_none_or(|port| port.endpoints.cluster.is_empty());
        if had_none && !new.endpoints.cluster.is_empty() {
            flushes.extend(doors(new).map(|(address, port)| Flush {
                address,
                port,
                endpoint: None,
            }));
        }
    }
    flushes.sort();
    flushes.dedup();
    flushes
}

/// Every address and port a client may use.
fn doors(port: &ServicePort) -> impl Iterator<Item = (Option<Ipv4Addr>, u16)> + '_ {
    let addresses = port
        .cluster_ips
        .iter()
        .chain(&port.external_ips)
        .chain(&port.load_balancer_ips);
    let by_address = addresses.map(|address| (Some(*address), port.port));
    by_address.chain(port.node_port.map(|node_port| (None, node_port)))
}

fn arguments(flush: &Flush) -> Vec<String> {
    let mut arguments = vec!["-D".to_string(), "-p".to_string(), "udp".to_string()];
    if let Some(address) = flush.address {
        arguments.extend(["--orig-dst".to_string(), address.to_string()]);
    }
    arguments.extend(["--orig-port-dst".to_string(), flush.port.to_string()]);
    if let Some(endpoint) = flush.endpoint {
        arguments.extend(["--dst-nat".to_string(), endpoint.to_string()]);
    }
    arguments
}

/// Ends the flows. A failure is logged, not returned: the rules are right already, only old flows take longer.
pub async fn flush(flushes: &[Flush]) {
    let commands = if flushes.len() > MAX_SINGLE_FLUSHES {
        vec![["-D", "-p", "udp", "--dst-nat"].map(str::to_string).to_vec()]
    } else {
        flushes.iter().map(arguments).collect()
    };
    for arguments in commands {
        let output = tokio::process::Command::new("conntrack")
            .args(&arguments)
            .stdin(Stdio::null())
            .output()
            .await;
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let message = String::from_utf8_lossy(&output.stderr);
                // It also fails when there was nothing to delete.
                if !message.contains("0 flow entries") {
                    tracing::warn!(?arguments, message = message.trim(), "cannot end stale UDP flows");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot run conntrack, stale UDP flows end by timeout");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::Endpoints;
    use crate::service::rule::Protocol;

    /// Ports are `name/protocol=endpoint,endpoint`; cluster address 10.96.0.1, port 53, node port 30053.
    fn ports(text: &str) -> Vec<ServicePort> {
        text.split_whitespace()
            .map(|one| {
                let (name, endpoints) = one.split_once('=').unwrap();
                let (name, protocol) = name.split_once('/').unwrap();
                let endpoints: Vec<SocketAddrV4> = endpoints
                    .split(',')
                    .filter(|ip| !ip.is_empty())
                    .map(|ip| SocketAddrV4::new(ip.parse().unwrap(), 53))
                    .collect();
                ServicePort {
                    name: name.to_string(),
                    protocol: Protocol::parse(Some(protocol)).unwrap(),
                    port: 53,
                    cluster_ips: vec![Ipv4Addr::new(10, 96, 0, 1)],
                    node_port: Some(30053),
                    external_ips: Vec::new(),
                    load_balancer_ips: Vec::new(),
                    source_ranges: Vec::new(),
                    affinity_seconds: None,
                    internal_local: false,
                    external_local: false,
                    endpoints: Endpoints {
                        cluster: endpoints.into_iter().collect(),
                        local: Default::default(),
                    },
                }
            })
            .collect()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        let text: Vec<String> = stale(&ports(old), &ports(new))
            .iter()
            .map(|flush| arguments(flush)[3..].join(" "))
            .collect();
        assert_eq!(text.join("; "), expected);
    }

    #[test]
    fn flows_end_with_their_endpoint_and_at_the_first_endpoint() {
        check("a/udp=10.0.0.1", "a/udp=10.0.0.1", "");
        check("a/tcp=10.0.0.1", "a/tcp=", "");
        check("a/udp=10.0.0.1", "a/udp=10.0.0.1,10.0.0.2", "");
        check(
            "a/udp=10.0.0.1,10.0.0.2",
            "a/udp=10.0.0.2",
            "--orig-port-dst 30053 --dst-nat 10.0.0.1; --orig-dst 10.96.0.1 --orig-port-dst 53 --dst-nat 10.0.0.1",
        );
        check(
            "a/udp=10.0.0.1",
            "",
            "--orig-port-dst 30053 --dst-nat 10.0.0.1; --orig-dst 10.96.0.1 --orig-port-dst 53 --dst-nat 10.0.0.1",
        );
        check(
            "a/udp=",
            "a/udp=10.0.0.1",
            "--orig-port-dst 30053; --orig-dst 10.96.0.1 --orig-port-dst 53",
        );
        check(
            "",
            "a/udp=10.0.0.1",
            "--orig-port-dst 30053; --orig-dst 10.96.0.1 --orig-port-dst 53",
        );
    }
}
