//! Kinds of the scheduling group.

pub mod priority_class;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses"],
    "priorityclass",
    "scheduling.v1.PriorityClass",
    &priority_class::PriorityClass,
)
.cluster()
.short(&["pc"])];
