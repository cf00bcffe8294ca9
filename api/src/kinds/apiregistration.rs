//! Kinds of the apiregistration.k8s.io group.

pub mod api_service;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["apiregistration.k8s.io", "v1", "APIService", "apiservices"],
    "apiservice",
    "apiregistration.v1.APIService",
    &api_service::ApiService,
)
.cluster()
.categories(&["api-extensions"])
.subresources(&[SubresourceType::status("APIService")])];
