//! Kinds of the apps group.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        ["apps", "v1", "ControllerRevision", "controllerrevisions"],
        "controllerrevision",
        "apps.v1.ControllerRevision",
        &controller_revision::ControllerRevision,
    ),
    ResourceType::new(
        ["apps", "v1", "DaemonSet", "daemonsets"],
        "daemonset",
        "apps.v1.DaemonSet",
        &daemon_set::DaemonSet,
    )
    .short(&["ds"])
    .categories(&["all"])
    .subresources(&[SubresourceType::status("DaemonSet")]),
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
    ResourceType::new(
        ["apps", "v1", "StatefulSet", "statefulsets"],
        "statefulset",
        "apps.v1.StatefulSet",
        &stateful_set::StatefulSet,
    )
    .short(&["sts"])
    .categories(&["all"])
    .subresources(&[SubresourceType::SCALE, SubresourceType::status("StatefulSet")]),
];
