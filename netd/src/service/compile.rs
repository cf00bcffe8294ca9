//! Service ports to chains and rules. Pure; the tests in `evaluate` send packets through the result.
//!
//! ```text
//! nat     CORTEN-SERVICES     one rule per address and port -> SVC, LOC or EXT; last: HOSTPORTS, NODEPORTS
//!         CORTEN-SVC-hash     all endpoints of a port          CORTEN-LOC-hash  those on this node
//!         CORTEN-EXT-hash     traffic from outside: masquerade or keep the source, by externalTrafficPolicy
//!         CORTEN-OWN-hash     the same for a sender that is an endpoint itself; CORTEN-EP-hash: one endpoint
//!         CORTEN-POSTROUTING  masquerade what is marked and what Pods send out of the cluster
//! filter  CORTEN-REJECT       ports without endpoints are refused, not left to time out
//!         CORTEN-FORWARD      accepts Pod traffic where the host's policy is DROP
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use super::balance::balance;
use super::model::ServicePort;
use super::rule::{Chains, ConnectionState, Match, Protocol, Rule, Ruleset, Target, host};
use super::{host_ports, model::Endpoints};
use crate::node::NodeFacts;

pub const SERVICES: &str = "CORTEN-SERVICES";
pub const NODE_PORTS: &str = "CORTEN-NODEPORTS";
pub const MARK: &str = "CORTEN-MARK";
const POSTROUTING: &str = "CORTEN-POSTROUTING";
const MASQUERADE: &str = "CORTEN-MASQ";
const EGRESS: &str = "CORTEN-EGRESS";
const REJECT: &str = "CORTEN-REJECT";
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// What the rules of one node follow from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub ports: &'a [ServicePort],
    /// Every node, this one included.
    pub nodes: &'a [NodeFacts],
    pub node_name: &'a str,
}

/// All chains of this node except [`host_ports::CHAIN`], which follows from the address ledger.
pub fn compile(input: &Input<'_>) -> Ruleset {
    let mut rules = Ruleset::default();
    rules.nat.insert(SERVICES.to_string(), Vec::new());
    rules.nat.insert(NODE_PORTS.to_string(), Vec::new());
    rules
        .nat
        .insert(MARK.to_string(), vec![Rule::new([], Target::SetMark)]);
    rules.filter.insert(REJECT.to_string(), Vec::new());
    let own = input.nodes.iter().find(|node| node.name == input.node_name);
    let is_here = |address: Ipv4Addr| {
        own.is_some_and(|own| {
            own.internal_ip == Some(address) || own.pod_cidrs.iter().any(|net| net.contains(&address))
        })
    };
    for port in input.ports {
        add_port(&mut rules, port, &is_here);
    }
    let local = || vec![Match::DestinationIsLocal, Match::NotDestination(LOOPBACK)];
    let services = chain(&mut rules.nat, SERVICES);
    // Last, because every packet to the host itself passes them.
    services.push(Rule::jump(local(), host_ports::CHAIN));
    services.push(Rule::jump(local(), NODE_PORTS));
    add_egress(&mut rules.nat, input);
    add_filter(&mut rules.filter);
    rules
}

fn chain<'a>(chains: &'a mut Chains, name: &str) -> &'a mut Vec<Rule> {
    chains.entry(name.to_string()).or_default()
}

fn add_port(rules: &mut Ruleset, port: &ServicePort, is_here: &dyn Fn(Ipv4Addr) -> bool) {
    let Endpoints { cluster, local } = &port.endpoints;
    let has_any = !cluster.is_empty(); // where there is a local endpoint, there is one in the cluster
    let hash = short_hash(&[&port.name, &port.protocol.to_string()]);
    let cluster_chain = format!("CORTEN-SVC-{hash}");
    let local_chain = format!("CORTEN-LOC-{hash}");
    let external_chain = format!("CORTEN-EXT-{hash}");
    let is_external =
        port.node_port.is_some() || !port.external_ips.is_empty() || !port.load_balancer_ips.is_empty();

    if !cluster.is_empty() {
        balance(rules, port, &cluster_chain, cluster, is_here);
    }
    if !local.is_empty() && (port.internal_local || (port.external_local && is_external)) {
        balance(rules, port, &local_chain, local, is_here);
    }

    let (internal_target, internal_set) = if port.internal_local {
        (&local_chain, local)
    } else {
        (&cluster_chain, cluster)
    };
    let external_set = if port.external_local { local } else { cluster };
    let refusal = |set: &BTreeSet<SocketAddrV4>| match (has_any, set.is_empty()) {
        (false, _) => Some((Target::Reject, "has no endpoints")),
        (true, true) => Some((Target::Drop, "has no local endpoints")),
        (true, false) => None,
    };

    for ip in &port.cluster_ips {
        let to = vec![
            Match::Destination(host(*ip)),
            Match::Port(port.protocol, port.port),
        ];
        match refusal(internal_set) {
            Some((target, why)) => {
                let rule = Rule::new(to, target).comment(format!("{} {why}", port.name));
                chain(&mut rules.filter, REJECT).push(rule);
            }
            None => {
                // Sent by the host or by someone off the cluster: the answer must come back through this node.
                let mut from_elsewhere = to.clone();
                from_elsewhere.push(Match::NotFromPod);
                let services = chain(&mut rules.nat, SERVICES);
                services.push(Rule::jump(from_elsewhere, MARK));
                services.push(Rule::jump(to, internal_target).comment(&port.name));
            }
        }
    }
    if !is_external {
        return;
    }
    let external_refusal = refusal(external_set);
    if has_any {
        add_external(rules, port, &external_chain, &cluster_chain, &local_chain);
    }
    let mut expose = |matches: Vec<Match>, in_chain: &str| {
        if has_any {
            chain(&mut rules.nat, in_chain)
                .push(Rule::jump(matches.clone(), &external_chain).comment(&port.name));
        }
        if let Some((target, why)) = &external_refusal {
            let mut matches = matches;
            if in_chain == NODE_PORTS {
                matches.insert(0, Match::DestinationIsLocal);
            }
            let rule = Rule::new(matches, target.clone()).comment(format!("{} {why}", port.name));
            chain(&mut rules.filter, REJECT).push(rule);
        }
    };
    let number = Match::Port(port.protocol, port.port);
    for ip in &port.external_ips {
        expose(vec![Match::Destination(host(*ip)), number.clone()], SERVICES);
    }
    for ip in &port.load_balancer_ips {
        let to = vec![Match::Destination(host(*ip)), number.clone()];
        if port.source_ranges.is_empty() {
            expose(to, SERVICES);
            continue;
        }
        for range in &port.source_ranges {
            let mut allowed = to.clone();
            allowed.insert(0, Match::Source(range.trunc()));
            expose(allowed, SERVICES);
        }
    }
    if let Some(node_port) = port.node_port {
        expose(vec![Match::Port(port.protocol, node_port)], NODE_PORTS);
    }
    if !port.source_ranges.is_empty() {
        // Whatever still has the balancer's address here came from outside the ranges and was not translated.
        for ip in &port.load_balancer_ips {
            let to = [Match::Destination(host(*ip)), number.clone()];
            let comment = format!("{} not in loadBalancerSourceRanges", port.name);
            chain(&mut rules.filter, REJECT).push(Rule::new(to, Target::Drop).comment(comment));
        }
    }
}

/// The chain for traffic from outside. Policy `Local` keeps the source and this node's endpoints, but only for real
/// outsiders: Pods and the host itself reach all endpoints, as they would by the cluster address.
fn add_external(rules: &mut Ruleset, port: &ServicePort, name: &str, cluster_chain: &str, local_chain: &str) {
    let external = chain(&mut rules.nat, name);
    if !port.external_local {
        external.push(Rule::jump([], MARK));
        external.push(Rule::jump([], cluster_chain));
        return;
    }
    external.push(Rule::jump([Match::FromPod], cluster_chain));
    external.push(Rule::jump([Match::SourceIsLocal], MARK));
    external.push(Rule::jump([Match::SourceIsLocal], cluster_chain));
    if !port.endpoints.local.is_empty() {
        external.push(Rule::jump([], local_chain));
    }
}

/// 16 letters that fit a chain name of at most 28; cryptographic, so that no one can make two Services share a chain.
pub(super) fn short_hash(parts: &[&str]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(parts.join("\0"));
    digest
        .iter()
        .take(16)
        .map(|byte| ALPHABET[usize::from(byte & 31)] as char)
        .collect()
}

/// Marked packets and what this node's Pods send out of the cluster leave with the node's own address. Traffic to Pods
/// and nodes keeps its source: every node has a route back.
fn add_egress(nat: &mut Chains, input: &Input<'_>) {
    let own = input.nodes.iter().find(|node| node.name == input.node_name);
    let mut postrouting = vec![Rule::jump([Match::Marked], MASQUERADE)];
    for cidr in own.into_iter().flat_map(|node| &node.pod_cidrs) {
        postrouting.push(Rule::jump([Match::Source(*cidr)], EGRESS));
    }
    let inside: Vec<Ipv4Net> = input
        .nodes
        .iter()
        .flat_map(|node| node.pod_cidrs.iter().copied().chain(node.internal_ip.map(host)))
        .collect();
    let mut egress: Vec<Rule> = Ipv4Net::aggregate(&inside)
        .into_iter()
        .map(|net| Rule::new([Match::Destination(net)], Target::Return))
        .collect();
    egress.push(Rule::new([], Target::Masquerade));
    nat.insert(POSTROUTING.to_string(), postrouting);
    nat.insert(EGRESS.to_string(), egress);
    // The mark goes first, so that an encapsulated copy of the packet is not masqueraded again.
    let masquerade = vec![
        Rule::new([], Target::ClearMark),
        Rule::new([], Target::Masquerade),
    ];
    nat.insert(MASQUERADE.to_string(), masquerade);
}

fn add_filter(filter: &mut Chains) {
    let refuse = || Rule::jump([Match::State(ConnectionState::New)], REJECT);
    filter.insert("CORTEN-INPUT".to_string(), vec![refuse()]);
    filter.insert("CORTEN-OUTPUT".to_string(), vec![refuse()]);
    let forward = vec![
        // Packets conntrack does not know would reach the peer untranslated and make it reset the connection.
        Rule::new([Match::State(ConnectionState::Invalid)], Target::Drop),
        refuse(),
        Rule::new([Match::Marked], Target::Accept),
        Rule::new([Match::FromPod], Target::Accept),
        Rule::new([Match::ToPod], Target::Accept),
        Rule::new([Match::State(ConnectionState::Established)], Target::Accept),
    ];
    filter.insert("CORTEN-FORWARD".to_string(), forward);
}

/// Protocols whose state outlives an endpoint in conntrack without either side noticing.
pub fn needs_flush(protocol: Protocol) -> bool {
    protocol == Protocol::Udp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_fit_the_kernel() {
        // XT_EXTENSION_MAXNAMELEN is 29 with the final zero.
        for prefix in [
            "CORTEN-SVC-",
            "CORTEN-LOC-",
            "CORTEN-EXT-",
            "CORTEN-OWN-",
            "CORTEN-EP-",
        ] {
            assert!(prefix.len() + short_hash(&["a"]).len() <= 28);
        }
        assert_ne!(short_hash(&["a", "b"]), short_hash(&["ab"]));
    }
}
