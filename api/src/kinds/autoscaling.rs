//! Kinds of the autoscaling group.

pub mod horizontal;
pub mod horizontal_v1;
pub mod scale;

use crate::resource::{Kind, ResourceType, SubresourceType};

const PARTS: &[SubresourceType] = &[SubresourceType::status("HorizontalPodAutoscaler")];

const fn autoscaler(
    version: &'static str,
    schema: &'static str,
    behaviour: &'static dyn Kind,
) -> ResourceType {
    ResourceType::new(
        [
            "autoscaling",
            version,
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
        ],
        "horizontalpodautoscaler",
        schema,
        behaviour,
    )
    .short(&["hpa"])
    .categories(&["all"])
    .subresources(PARTS)
}

/// The preferred version, which is also the stored one, comes first.
pub(crate) const RESOURCES: &[ResourceType] = &[
    autoscaler(
        "v2",
        "autoscaling.v2.HorizontalPodAutoscaler",
        &horizontal::HorizontalPodAutoscaler,
    ),
    autoscaler(
        "v1",
        "autoscaling.v1.HorizontalPodAutoscaler",
        &horizontal_v1::HorizontalPodAutoscaler,
    ),
];
