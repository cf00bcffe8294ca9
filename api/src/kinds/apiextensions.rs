//! The resources of the `apiextensions` group.

mod conversion;
pub mod custom_resource_definition;
mod schema_rules;
mod structural;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    [
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    ],
    "customresourcedefinition",
    "apiextensions.v1.CustomResourceDefinition",
    &custom_resource_definition::CustomResourceDefinition,
)
.cluster()
.short(&["crd", "crds"])
.categories(&["api-extensions"])
.subresources(&[SubresourceType::status("CustomResourceDefinition")])];
