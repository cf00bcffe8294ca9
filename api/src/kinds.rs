//! Every built-in kind: one file each, and the table that lists them all.

use crate::resource::{Kind, ResourceType, SubresourceType};

/// A kind about which nothing special is known yet.
pub(crate) struct Plain;

impl Kind for Plain {}

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
    resource!("" "v1" "Binding" "bindings" "binding", namespaced, "core.v1.Binding", &Plain,
        short: &[], categories: &[], verbs: CREATE, subresources: &[]),
    resource!("" "v1" "ConfigMap" "configmaps" "configmap", namespaced, "core.v1.ConfigMap", &Plain,
        short: &["cm"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Endpoints" "endpoints" "endpoints", namespaced, "core.v1.Endpoints", &Plain,
        short: &["ep"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Event" "events" "event", namespaced, "core.v1.Event", &Plain,
        short: &["ev"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Namespace" "namespaces" "namespace", cluster, "core.v1.Namespace", &Plain,
        short: &["ns"], categories: &[], verbs: NO_COLLECTION,
        subresources: &[sub("finalize", "Namespace", &["update"]), sub("status", "Namespace", READ_WRITE)]),
    resource!("" "v1" "Node" "nodes" "node", cluster, "core.v1.Node", &Plain,
        short: &["no"], categories: &[], verbs: ALL,
        subresources: &[sub("status", "Node", READ_WRITE)]),
    resource!("" "v1" "Pod" "pods" "pod", namespaced, "core.v1.Pod", &Plain,
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
    resource!("" "v1" "Secret" "secrets" "secret", namespaced, "core.v1.Secret", &Plain,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "ServiceAccount" "serviceaccounts" "serviceaccount", namespaced, "core.v1.ServiceAccount", &Plain,
        short: &["sa"], categories: &[], verbs: ALL, subresources: &[]),
    resource!("" "v1" "Service" "services" "service", namespaced, "core.v1.Service", &Plain,
        short: &["svc"], categories: &["all"], verbs: ALL,
        subresources: &[sub("status", "Service", READ_WRITE)]),
    resource!("apps" "v1" "Deployment" "deployments" "deployment", namespaced, "apps.v1.Deployment", &Plain,
        short: &["deploy"], categories: &["all"], verbs: ALL,
        subresources: &[SCALE, sub("status", "Deployment", READ_WRITE)]),
    resource!("apps" "v1" "ReplicaSet" "replicasets" "replicaset", namespaced, "apps.v1.ReplicaSet", &Plain,
        short: &["rs"], categories: &["all"], verbs: ALL,
        subresources: &[SCALE, sub("status", "ReplicaSet", READ_WRITE)]),
    resource!("coordination.k8s.io" "v1" "Lease" "leases" "lease", namespaced, "coordination.v1.Lease", &Plain,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
    resource!("discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" "endpointslice", namespaced, "discovery.v1.EndpointSlice", &Plain,
        short: &[], categories: &[], verbs: ALL, subresources: &[]),
];
