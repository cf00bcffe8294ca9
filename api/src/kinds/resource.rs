//! Kinds of the resource.k8s.io group: devices that Pods may claim.

pub mod claim;
pub mod class;
mod device;
mod names;
mod request;
pub mod slice;
mod status;

use crate::resource::{ResourceType, SubresourceType};

const GROUP: &str = "resource.k8s.io";

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        [GROUP, "v1", "DeviceClass", "deviceclasses"],
        "deviceclass",
        "resource.v1.DeviceClass",
        &class::DeviceClass,
    )
    .cluster(),
    ResourceType::new(
        [GROUP, "v1", "ResourceClaim", "resourceclaims"],
        "resourceclaim",
        "resource.v1.ResourceClaim",
        &claim::ResourceClaim,
    )
    .subresources(&[SubresourceType::status("ResourceClaim")]),
    ResourceType::new(
        [GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates"],
        "resourceclaimtemplate",
        "resource.v1.ResourceClaimTemplate",
        &claim::ResourceClaimTemplate,
    ),
    ResourceType::new(
        [GROUP, "v1", "ResourceSlice", "resourceslices"],
        "resourceslice",
        "resource.v1.ResourceSlice",
        &slice::ResourceSlice,
    )
    .cluster(),
];

pub use request::admin_requests;
