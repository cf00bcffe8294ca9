//! Kinds of the coordination group.

pub mod lease;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["coordination.k8s.io", "v1", "Lease", "leases"],
    "lease",
    "coordination.v1.Lease",
    &lease::Lease,
)];
