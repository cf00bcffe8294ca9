//! The choice of one endpoint, as chains. Pure.
//!
//! Each endpoint gets the same share. One chain for each port of a Service is enough for nearly all traffic, and few chains
//! is what makes a large rule set load: a chain for each endpoint took 77 s at 10,000 Services of three. Two cases need a
//! second rule about the endpoint chosen, hence a chain for it: a client that is to come back to it (session affinity), and a
//! sender that may have been given itself and must be masqueraded then (hairpin). Only senders on this node can be the
//! latter here, so those few get a chain of their own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::compile::{MARK, short_hash};
use super::model::ServicePort;
use super::rule::{Match, Rule, Ruleset, Target, host};

/// Fills the chain `name` so that it sends each connection of `port` to one of `endpoints`, of which there is at least one.
pub fn balance(
    rules: &mut Ruleset,
    port: &ServicePort,
    name: &str,
    endpoints: &BTreeSet<SocketAddrV4>,
    is_here: &dyn Fn(Ipv4Addr) -> bool,
) {
    let mut chain = Vec::new();
    if let Some(seconds) = port.affinity_seconds {
        for endpoint in endpoints {
            let own = endpoint_chain(port, endpoint);
            chain.push(Rule::jump(
                [Match::Remembered {
                    name: own.clone(),
                    seconds,
                }],
                &own,
            ));
            let remember = Match::Remember { name: own.clone() };
            let rule = vec![
                masqueraded_if_itself(endpoint),
                to(port, endpoint, vec![remember]),
            ];
            rules.nat.insert(own, rule);
        }
        chain.extend(shares(endpoints).map(|(share, endpoint)| {
            Rule::jump(share, endpoint_chain(port, endpoint)).comment(format!("{} -> {endpoint}", port.name))
        }));
    } else {
        for sender in endpoints.iter().filter(|endpoint| is_here(*endpoint.ip())) {
            let own = format!("CORTEN-OWN-{}", short_hash(&[name, &sender.to_string()]));
            chain.push(Rule::jump([Match::Source(host(*sender.ip()))], &own));
            let itself = endpoint_chain(port, sender);
            let choices = shares(endpoints).map(|(share, endpoint)| {
                if endpoint == sender {
                    Rule::jump(share, &itself)
                } else {
                    to(port, endpoint, share)
                }
            });
            rules.nat.insert(own, choices.collect());
            rules.nat.insert(
                itself,
                vec![masqueraded_if_itself(sender), to(port, sender, Vec::new())],
            );
        }
        chain
            .extend(shares(endpoints).map(|(share, endpoint)| to(port, endpoint, share).comment(&port.name)));
    }
    rules.nat.insert(name.to_string(), chain);
}

/// For each endpoint the match that gives it the same share of what the rules before it left.
fn shares(endpoints: &BTreeSet<SocketAddrV4>) -> impl Iterator<Item = (Vec<Match>, &SocketAddrV4)> {
    endpoints
        .iter()
        .enumerate()
        .map(|(idx, endpoint)| match endpoints.len() - idx {
            1 => (Vec::new(), endpoint),
            left => (vec![Match::OneIn(left)], endpoint),
        })
}

/// The rule that sends a connection to its endpoint.
fn to(port: &ServicePort, endpoint: &SocketAddrV4, mut matches: Vec<Match>) -> Rule {
    // Said once more although every way here has matched it: DNAT to a port is refused without.
    matches.insert(0, Match::Protocol(port.protocol));
    Rule::new(matches, Target::Dnat(*endpoint))
}

fn masqueraded_if_itself(endpoint: &SocketAddrV4) -> Rule {
    Rule::jump([Match::Source(host(*endpoint.ip()))], MARK)
}

fn endpoint_chain(port: &ServicePort, endpoint: &SocketAddrV4) -> String {
    format!(
        "CORTEN-EP-{}",
        short_hash(&[&port.name, &port.protocol.to_string(), &endpoint.to_string()])
    )
}
