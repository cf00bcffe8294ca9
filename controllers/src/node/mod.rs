//! What happens to Nodes and because of them: health, taints, evictions, Pod CIDRs.

pub mod eviction;
mod health;
pub mod lifecycle;
pub mod pod_cidr;
mod taints;
