//! The filter and score plug-ins, one file each, with kube-scheduler's names, messages, formulas and weights.
//!
//! Each is a plain function of what a Pod asks and what a node is. Must not know the queue or the order of Pods.

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod spread_score;
pub mod taint_toleration;

/// Every plug-in scores a node between 0 and this.
pub const MAX_NODE_SCORE: i64 = 100;

/// Weights of kube-scheduler's default profile.
pub mod weight {
    pub const TAINT_TOLERATION: i64 = 3;
    pub const NODE_AFFINITY: i64 = 2;
    pub const POD_TOPOLOGY_SPREAD: i64 = 2;
    pub const NODE_RESOURCES_FIT: i64 = 1;
    pub const NODE_RESOURCES_BALANCED_ALLOCATION: i64 = 1;
    pub const IMAGE_LOCALITY: i64 = 1;
}
