//! Kinds of the core group.

pub mod binding;
pub mod claim;
pub mod component_status;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod pod_template;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod volume;

use crate::resource::{CREATE, READ_WRITE, ResourceType, SubresourceType};

/// Namespaces cannot be deleted as a collection.
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CONNECT: &[&str] = &["create", "get"];
/// A request is handed on whatever its method. Source: discovery of Kubernetes 1.36.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const fn namespaced(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    schema: &'static str,
    behaviour: &'static dyn crate::resource::Kind,
) -> ResourceType {
    ResourceType::new(["", "v1", kind, plural], singular, schema, behaviour)
}

pub(crate) const RESOURCES: &[ResourceType] = &[
    namespaced(
        "Binding",
        "bindings",
        "binding",
        "core.v1.Binding",
        &binding::Binding,
    )
    .verbs(CREATE),
    namespaced(
        "ComponentStatus",
        "componentstatuses",
        "componentstatus",
        "core.v1.ComponentStatus",
        &component_status::ComponentStatus,
    )
    .cluster()
    .short(&["cs"])
    .verbs(&["get", "list"]),
    namespaced(
        "ConfigMap",
        "configmaps",
        "configmap",
        "core.v1.ConfigMap",
        &config_map::ConfigMap,
    )
    .short(&["cm"]),
    namespaced(
        "Endpoints",
        "endpoints",
        "endpoints",
        "core.v1.Endpoints",
        &endpoints::Endpoints,
    )
    .short(&["ep"]),
    namespaced("Event", "events", "event", "core.v1.Event", &event::Event).short(&["ev"]),
    namespaced(
        "LimitRange",
        "limitranges",
        "limitrange",
        "core.v1.LimitRange",
        &limit_range::LimitRange,
    )
    .short(&["limits"]),
    namespaced(
        "Namespace",
        "namespaces",
        "namespace",
        "core.v1.Namespace",
        &namespace::Namespace,
    )
    .cluster()
    .short(&["ns"])
    .verbs(NO_COLLECTION)
    .subresources(&[
        SubresourceType::new("finalize", "Namespace", &["update"]),
        SubresourceType::status("Namespace"),
    ]),
    namespaced("Node", "nodes", "node", "core.v1.Node", &node::Node)
        .cluster()
        .short(&["no"])
        .subresources(&[
            SubresourceType::new("proxy", "NodeProxyOptions", PROXY),
            SubresourceType::status("Node"),
        ]),
    namespaced(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        "core.v1.PersistentVolumeClaim",
        &claim::PersistentVolumeClaim,
    )
    .short(&["pvc"])
    .subresources(&[SubresourceType::status("PersistentVolumeClaim")]),
    namespaced(
        "PersistentVolume",
        "persistentvolumes",
        "persistentvolume",
        "core.v1.PersistentVolume",
        &volume::PersistentVolume,
    )
    .cluster()
    .short(&["pv"])
    .subresources(&[SubresourceType::status("PersistentVolume")]),
    namespaced("Pod", "pods", "pod", "core.v1.Pod", &pod::Pod)
        .short(&["po"])
        .categories(&["all"])
        .subresources(&[
            SubresourceType::new("attach", "PodAttachOptions", CONNECT),
            SubresourceType::new("binding", "Binding", CREATE),
            SubresourceType::new("ephemeralcontainers", "Pod", READ_WRITE),
            SubresourceType {
                name: "eviction",
                group: "policy",
                version: "v1",
                kind: "Eviction",
                verbs: CREATE,
            },
            SubresourceType::new("exec", "PodExecOptions", CONNECT),
            SubresourceType::new("log", "Pod", &["get"]),
            SubresourceType::new("portforward", "PodPortForwardOptions", CONNECT),
            SubresourceType::new("proxy", "PodProxyOptions", PROXY),
            SubresourceType::new("resize", "Pod", READ_WRITE),
            SubresourceType::status("Pod"),
        ]),
    namespaced(
        "PodTemplate",
        "podtemplates",
        "podtemplate",
        "core.v1.PodTemplate",
        &pod_template::PodTemplate,
    ),
    namespaced(
        "ReplicationController",
        "replicationcontrollers",
        "replicationcontroller",
        "core.v1.ReplicationController",
        &replication_controller::ReplicationController,
    )
    .short(&["rc"])
    .categories(&["all"])
    .subresources(&[
        SubresourceType::SCALE,
        SubresourceType::status("ReplicationController"),
    ]),
    namespaced(
        "ResourceQuota",
        "resourcequotas",
        "resourcequota",
        "core.v1.ResourceQuota",
        &resource_quota::ResourceQuota,
    )
    .short(&["quota"])
    .subresources(&[SubresourceType::status("ResourceQuota")]),
    namespaced("Secret", "secrets", "secret", "core.v1.Secret", &secret::Secret),
    namespaced(
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        "core.v1.ServiceAccount",
        &service_account::ServiceAccount,
    )
    .short(&["sa"])
    .subresources(&[SubresourceType {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: CREATE,
    }]),
    namespaced(
        "Service",
        "services",
        "service",
        "core.v1.Service",
        &service::Service,
    )
    .short(&["svc"])
    .categories(&["all"])
    .subresources(&[
        SubresourceType::new("proxy", "ServiceProxyOptions", PROXY),
        SubresourceType::status("Service"),
    ]),
];
