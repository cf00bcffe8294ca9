//! What netd knows of nodes: the facts it takes from Node objects, and `node.json`, the plug-in's view of its own.
//!
//! Knows the Node API. Must not know Services or routes.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::paths;

/// The part of a Node that routes and rules follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    /// The first IPv4 address of type `InternalIP`.
    pub internal_ip: Option<Ipv4Addr>,
    /// IPv4 entries of `spec.podCIDRs`, else `spec.podCIDR`.
    pub pod_cidrs: Vec<Ipv4Net>,
}

impl NodeFacts {
    pub fn of(node: &Node) -> NodeFacts {
        let spec = node.spec.as_ref();
        let listed = spec
            .and_then(|spec| spec.pod_cidrs.as_deref())
            .unwrap_or_default();
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let cidrs = if listed.is_empty() {
            single.into_iter().collect()
        } else {
            listed.iter().collect::<Vec<_>>()
        };
        let internal_ip = node
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten())
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse().ok());
        NodeFacts {
            name: node.metadata.name.clone().unwrap_or_default(),
            internal_ip,
            pod_cidrs: cidrs
                .iter()
                .filter_map(|cidr| cidr.parse::<Ipv4Net>().ok())
                .map(|net| net.trunc())
                .collect(),
        }
    }
}

/// `node.json`: what the plug-in needs to know of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalNode {
    /// Where Pods of this node get their addresses from.
    #[serde(rename = "podCIDR", with = "as_text")]
    pub pod_cidr: Ipv4Net,
    /// Source address of the host when it speaks to its Pods.
    #[serde(rename = "nodeIP")]
    pub node_ip: Option<Ipv4Addr>,
    /// Bytes: the MTU of the link that carries `node_ip`, so that Pods never send more than nodes can.
    pub mtu: u32,
}

impl LocalNode {
    /// # Errors
    /// The file is missing (the node has no PodCIDR yet) or is not what [`LocalNode::write`] wrote.
    pub fn read(netd_dir: &Path) -> std::io::Result<LocalNode> {
        let bytes = std::fs::read(paths::node_file(netd_dir))?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::other)
    }

    /// Replaces the file in one step; an unchanged file is not written.
    pub fn write(&self, netd_dir: &Path) -> std::io::Result<()> {
        if LocalNode::read(netd_dir).is_ok_and(|present| present == *self) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        write_atomically(&paths::node_file(netd_dir), &bytes)
    }
}

/// For serde: networks in the notation of the API.
pub mod as_text {
    use ipnet::Ipv4Net;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(net: &Ipv4Net, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(net)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv4Net, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Readers see the old bytes or the new ones, never a part.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(node: serde_json::Value, internal_ip: Option<&str>, pod_cidrs: &[&str]) {
        let facts = NodeFacts::of(&serde_json::from_value(node).unwrap());
        assert_eq!(facts.internal_ip, internal_ip.map(|ip| ip.parse().unwrap()));
        assert_eq!(
            facts.pod_cidrs,
            pod_cidrs
                .iter()
                .map(|cidr| cidr.parse().unwrap())
                .collect::<Vec<Ipv4Net>>()
        );
    }

    #[test]
    fn facts_are_the_internal_address_and_the_ipv4_ranges() {
        let addresses = serde_json::json!([
            {"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "fd00::1"},
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "10.0.0.2"}]);
        check(serde_json::json!({}), None, &[]);
        check(
            serde_json::json!({"spec": {"podCIDR": "10.244.1.0/24"}}),
            None,
            &["10.244.1.0/24"],
        );
        check(
            serde_json::json!({"spec": {"podCIDR": "fd00::/64", "podCIDRs": ["fd00::/64", "10.244.1.0/24"]}, "status": {"addresses": addresses}}),
            Some("10.0.0.1"),
            &["10.244.1.0/24"],
        );
        check(serde_json::json!({"spec": {"podCIDR": "nonsense"}}), None, &[]);
    }
}
