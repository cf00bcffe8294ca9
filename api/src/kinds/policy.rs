//! Kinds of the policy group.

pub mod disruption_budget;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"],
    "poddisruptionbudget",
    "policy.v1.PodDisruptionBudget",
    &disruption_budget::PodDisruptionBudget,
)
.short(&["pdb"])
.subresources(&[SubresourceType::status("PodDisruptionBudget")])];
