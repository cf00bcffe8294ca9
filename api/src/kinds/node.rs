//! Kinds of the node group.

pub mod runtime_class;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"],
    "runtimeclass",
    "node.v1.RuntimeClass",
    &runtime_class::RuntimeClass,
)
.cluster()];
