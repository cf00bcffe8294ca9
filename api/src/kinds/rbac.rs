//! Kinds of the rbac group.

pub mod binding;
pub mod role;

use crate::resource::ResourceType;

const fn kind(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    schema: &'static str,
    behaviour: &'static dyn crate::resource::Kind,
) -> ResourceType {
    ResourceType::new(
        ["rbac.authorization.k8s.io", "v1", kind, plural],
        singular,
        schema,
        behaviour,
    )
}

pub(crate) const RESOURCES: &[ResourceType] = &[
    kind(
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
        "rbac.v1.ClusterRoleBinding",
        &binding::CLUSTER_ROLE_BINDING,
    )
    .cluster(),
    kind(
        "ClusterRole",
        "clusterroles",
        "clusterrole",
        "rbac.v1.ClusterRole",
        &role::CLUSTER_ROLE,
    )
    .cluster(),
    kind(
        "RoleBinding",
        "rolebindings",
        "rolebinding",
        "rbac.v1.RoleBinding",
        &binding::ROLE_BINDING,
    ),
    kind("Role", "roles", "role", "rbac.v1.Role", &role::ROLE),
];
