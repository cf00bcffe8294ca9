//! Every built-in kind: one file each, and the table that lists them all.

use serde_json::Value;

use crate::resource::{ResourceType, SubresourceType};
use crate::selector::LabelSelector;

pub mod apps;
pub mod autoscaling;
pub mod common;
pub mod coordination;
pub mod core;
pub mod discovery;

use self::{apps::*, coordination::*, core::*, discovery::*};

/// Labels as the wide columns show them: `a=b,c=d`, `<none>` without any.
pub(crate) fn format_labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",")
    }
}

/// A label selector as the wide columns show it.
pub(crate) fn format_selector(selector: &Value) -> String {
    match LabelSelector::from_value(selector) {
        Err(_) => "<error>".into(),
        Ok(parsed) if parsed.requirements.is_empty() => "<none>".into(),
        Ok(parsed) => parsed.to_string(),
    }
}

const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Namespaces and Services of old could not be deleted as a collection; Namespaces still cannot.
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];

const fn sub(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> SubresourceType {
    SubresourceType {
        name,
        group: "",
        version: "",
        kind,
        verbs,
    }
}

const SCALE: SubresourceType = SubresourceType {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: READ_WRITE,
};

macro_rules! resource {
    ($group:literal $version:literal $kind:literal $plural:literal $singular:literal, $scope:ident, $schema:literal, $behaviour:expr,
     short: $short:expr, categories: $categories:expr, verbs: $verbs:expr, subresources: $subs:expr) => {
        ResourceType {
            group: $group,
            version: $version,
            kind: $kind,
            plural: $plural,
            singular: $singular,
            short_names: $short,
            categories: $categories,
            namespaced: scope!($scope),
            verbs: $verbs,
            subresources: $subs,
            schema: $schema,
            behaviour: $behaviour,
        }
    };
}

macro_rules! scope {
    (namespaced) => {
        true
    };
    (cluster) => {
        false
    };
}

/// All resources, in discovery order.
pub(crate) static RESOURCES: &[ResourceType] = &[
    resource!("" "v1" "Binding" "bindings" "binding", namespaced, "core.v1.Binding", &binding::Binding,
        short: &[], categories: &[], verbs: CREATE, subresources: &[]),
    resource!("" "v1" "ConfigMap" "configmaps" "configmap", namespaced, "core.v1.ConfigMap", &config_map::ConfigMap,
        short: &["cm"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Endpoints" "endpoints" "endpoints", namespaced, "core.v1.Endpoints", &endpoints::Endpoints,
        short: &["ep"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Event" "events" "event", namespaced, "core.v1.Event", &event::Event,
        short: &["ev"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Namespace" "namespaces" "namespace", cluster, "core.v1.Namespace", &namespace::Namespace,
        short: &["ns"], categories: &[], verbs: NO_COLLECTION,
        subresources: &[sub("finalize", "Namespace", &["update"]), sub("status", "Namespace", READ_WRITE)]),
    resource!("" "v1" "Node" "nodes" "node", cluster, "core.v1.Node", &node::Node,
        short: &["no"], categories: &[], verbs: ALL,
        subresources: &[sub("status", "Node", READ_WRITE)]),
    resource!("" "v1" "Pod" "pods" "pod", namespaced, "core.v1.Pod", &pod::Pod,
    short: &["po"], categories: &["all"], verbs: ALL,
    subresources: &[
        sub("attach", "PodAttachOptions", CONNECT),
        sub("binding", "Binding", CREATE),
        sub("ephemeralcontainers", "Pod", READ_WRITE),
        sub("exec", "PodExecOptions", CONNECT),
        sub("log", "Pod", &["get"]),
        sub("portforward", "PodPortForwardOptions", CONNECT),
        sub("resize", "Pod", READ_WRITE),
        sub("status", "Pod", READ_WRITE),
    ]),
    resource!("" "v1" "Secret" "secrets" "secret", namespaced, "core.v1.Secret", &secret::Secret,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "ServiceAccount" "serviceaccounts" "serviceaccount", namespaced, "core.v1.ServiceAccount", &service_account::ServiceAccount,
        short: &["sa"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Service" "services" "service", namespaced, "core.v1.Service", &service::Service,
        short: &["svc"], categories: &["all"], verbs: ALL,
        subresources: &[sub("status", "Service", READ_WRITE)]),
    resource!("apps" "v1" "Deployment" "deployments" "deployment", namespaced, "apps.v1.Deployment", &deployment::Deployment,
        short: &["deploy"], categories: &["all"], verbs: ALL,
        subresources: &[SCALE, sub("status", "Deployment", READ_WRITE)]),
    resource!("apps" "v1" "ReplicaSet" "replicasets" "replicaset", namespaced, "apps.v1.ReplicaSet", &replica_set::ReplicaSet,
        short: &["rs"], categories: &["all"], verbs: ALL,
        subresources: &[SCALE, sub("status", "ReplicaSet", READ_WRITE)]),
    resource!("coordination.k8s.io" "v1" "Lease" "leases" "lease", namespaced, "coordination.v1.Lease", &lease::Lease,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
    resource!("discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" "endpointslice", namespaced, "discovery.v1.EndpointSlice", &endpoint_slice::EndpointSlice,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
];
