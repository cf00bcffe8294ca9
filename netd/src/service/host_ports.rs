//! Host ports: from the attachments of the address ledger to one chain. Pure.
//!
//! The plug-in rewrites the chain when a sandbox with host ports comes or goes, the daemon when it starts; both from
//! the same ledger, so neither needs to know of the other. The client's address is kept.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::compile::MARK;
use super::rule::{Match, Protocol, Rule, Target, host};
use crate::ipam::Attachment;

pub const CHAIN: &str = "CORTEN-HOSTPORTS";

/// The whole chain, in the order of the Pods' addresses.
pub fn rules<'a>(attachments: impl Iterator<Item = (Ipv4Addr, &'a Attachment)>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (address, attachment) in attachments {
        for mapping in &attachment.port_mappings {
            let Some(protocol) = Protocol::parse(Some(&mapping.protocol)) else {
                continue;
            };
            let mut matches = vec![Match::Port(protocol, mapping.host_port)];
            if let Ok(ip) = mapping.host_ip.parse::<Ipv4Addr>()
                && !ip.is_unspecified()
            {
                matches.insert(0, Match::Destination(host(ip)));
            }
            let mut hairpin = matches.clone();
            hairpin.insert(0, Match::Source(host(address)));
            rules.push(Rule::jump(hairpin, MARK));
            let to = SocketAddrV4::new(address, mapping.container_port);
            let short_id: String = attachment.container_id.chars().take(12).collect();
            rules.push(Rule::new(matches, Target::Dnat(to)).comment(format!("sandbox {short_id}")));
        }
    }
    rules
}
