//! `direct` routes: the Pods of another node are reached through that node's address. The plan is pure.
//!
//! Knows nodes' facts and the routes of this host that are ours, told by their route protocol. Must not know Services.

use ipnet::Ipv4Net;

use crate::netlink::{Hop, Netlink, NetlinkError, Route};
use crate::node::NodeFacts;

/// Marks routes to other nodes. Free in iproute2's list of protocols; only routes with it are changed or removed.
pub const NODE_ROUTE_PROTOCOL: u8 = 67;
/// Marks the routes of single Pods, which come and go with their links.
pub const POD_ROUTE_PROTOCOL: u8 = 68;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// Nothing of ours leads there yet; a route of someone else must not be overwritten.
    Add(Route),
    /// Ours, but it leads elsewhere.
    Replace(Route),
    Delete(Route),
}

/// What makes `present` hold just the routes that `nodes` ask for. Two nodes that claim the same range: the first by
/// name has it.
pub fn plan(nodes: &[NodeFacts], node_name: &str, present: &[Route]) -> Vec<RouteChange> {
    let mut sorted: Vec<&NodeFacts> = nodes.iter().collect();
    // This node first: its own range must never lead away.
    sorted.sort_by_key(|node| (node.name != node_name, &node.name));
    let mut wanted: Vec<Route> = Vec::new();
    for node in sorted {
        let hop = match node.internal_ip {
            // Addresses of our range that no Pod has: an answer at once instead of a loop through the default route.
            _ if node.name == node_name => Hop::Unreachable,
            Some(gateway) => Hop::Via {
                gateway,
                interface: None,
            },
            None => continue,
        };
        for cidr in &node.pod_cidrs {
            if !wanted.iter().any(|route| overlap(route.destination, *cidr)) {
                wanted.push(Route {
                    destination: *cidr,
                    hop: hop.clone(),
                    protocol: NODE_ROUTE_PROTOCOL,
                });
            }
        }
    }
    let mut changes = Vec::new();
    let ours = || {
        present
            .iter()
            .filter(|route| route.protocol == NODE_ROUTE_PROTOCOL)
    };
    for route in ours().filter(|route| !wanted.iter().any(|want| want.destination == route.destination)) {
        changes.push(RouteChange::Delete(route.clone()));
    }
    for want in wanted {
        match ours().find(|route| route.destination == want.destination) {
            None => changes.push(RouteChange::Add(want)),
            Some(route) if same_hop(&route.hop, &want.hop) => {}
            Some(_) => changes.push(RouteChange::Replace(want)),
        }
    }
    changes
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The interface of a gateway is the kernel's choice.
fn same_hop(present: &Hop, wanted: &Hop) -> bool {
    match (present, wanted) {
        (Hop::Via { gateway: a, .. }, Hop::Via { gateway: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

/// Carries out a plan as far as possible; the first failure is returned after the rest was tried.
pub async fn apply(netlink: &Netlink, changes: &[RouteChange]) -> Result<(), NetlinkError> {
    let mut outcome = Ok(());
    for change in changes {
        let result = match change {
            RouteChange::Add(route) => netlink.add_route(route).await,
            RouteChange::Replace(route) => netlink.set_route(route).await,
            RouteChange::Delete(route) => netlink.delete_route(route).await,
        };
        outcome = outcome.and(result);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes are `name=address:range`; routes `range>gateway`, `range>!` for unreachable, `range>gateway/static` for
    /// someone else's. This node is `a`.
    #[track_caller]
    fn check(nodes: &str, present: &str, expected: &str) {
        let nodes: Vec<NodeFacts> = nodes
            .split_whitespace()
            .map(|text| {
                let (name, rest) = text.split_once('=').unwrap();
                let (address, range) = rest.split_once(':').unwrap();
                NodeFacts {
                    name: name.to_string(),
                    internal_ip: address.parse().ok(),
                    pod_cidrs: range.parse().into_iter().collect(),
                }
            })
            .collect();
        let present: Vec<Route> = present.split_whitespace().map(route).collect();
        let text: Vec<String> = plan(&nodes, "a", &present)
            .iter()
            .map(|change| match change {
                RouteChange::Add(route) => format!("add {}", show(route)),
                RouteChange::Replace(route) => format!("replace {}", show(route)),
                RouteChange::Delete(route) => format!("delete {}", show(route)),
            })
            .collect();
        assert_eq!(text.join("; "), expected);
    }

    fn route(text: &str) -> Route {
        let (range, hop) = text.split_once('>').unwrap();
        let (hop, protocol) = hop
            .strip_suffix("/static")
            .map_or((hop, NODE_ROUTE_PROTOCOL), |hop| (hop, 4));
        let hop = hop.parse().map_or(Hop::Unreachable, |gateway| Hop::Via {
            gateway,
            interface: Some(3),
        });
        Route {
            destination: range.parse().unwrap(),
            hop,
            protocol,
        }
    }

    fn show(route: &Route) -> String {
        match &route.hop {
            Hop::Via { gateway, .. } => format!("{}>{gateway}", route.destination),
            _ => format!("{}>!", route.destination),
        }
    }

    #[test]
    fn routes_follow_the_nodes() {
        let nodes = "a=10.0.0.1:10.244.1.0/24 b=10.0.0.2:10.244.2.0/24";
        check(nodes, "", "add 10.244.1.0/24>!; add 10.244.2.0/24>10.0.0.2");
        check(nodes, "10.244.1.0/24>! 10.244.2.0/24>10.0.0.2", "");
        check(
            nodes,
            "10.244.1.0/24>! 10.244.2.0/24>10.0.0.9",
            "replace 10.244.2.0/24>10.0.0.2",
        );
        check(
            nodes,
            "10.244.1.0/24>! 10.244.2.0/24>10.0.0.2 10.244.3.0/24>10.0.0.3",
            "delete 10.244.3.0/24>10.0.0.3",
        );
    }

    #[test]
    fn only_our_own_routes_are_touched() {
        check(
            "a=10.0.0.1:10.244.1.0/24",
            "10.244.1.0/24>! 10.9.0.0/16>10.0.0.9/static",
            "",
        );
        check(
            "a=x:x b=10.0.0.2:10.244.2.0/24",
            "10.244.2.0/24>10.0.0.9/static",
            "add 10.244.2.0/24>10.0.0.2",
        );
    }

    #[test]
    fn incomplete_and_conflicting_nodes_do_no_harm() {
        check("a=10.0.0.1:x b=x:10.244.2.0/24 c=10.0.0.3:x", "", "");
        check(
            "b=10.0.0.2:10.244.1.0/24 a=10.0.0.1:10.244.1.0/24",
            "",
            "add 10.244.1.0/24>!",
        );
        check(
            "b=10.0.0.2:10.0.0.0/8 a=10.0.0.1:10.244.1.0/24",
            "",
            "add 10.244.1.0/24>!",
        );
    }
}
