//! Kinds of the apps group.

pub mod deployment;
pub mod replica_set;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        ["apps", "v1", "Deployment", "deployments"],
        "deployment",
        "apps.v1.Deployment",
        &deployment::Deployment,
    )
    .short(&["deploy"])
    .categories(&["all"])
    .subresources(&[SubresourceType::SCALE, SubresourceType::status("Deployment")]),
    ResourceType::new(
        ["apps", "v1", "ReplicaSet", "replicasets"],
        "replicaset",
        "apps.v1.ReplicaSet",
        &replica_set::ReplicaSet,
    )
    .short(&["rs"])
    .categories(&["all"])
    .subresources(&[SubresourceType::SCALE, SubresourceType::status("ReplicaSet")]),
];
