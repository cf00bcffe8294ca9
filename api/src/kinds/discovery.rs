//! Kinds of the discovery group.

pub mod endpoint_slice;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"],
    "endpointslice",
    "discovery.v1.EndpointSlice",
    &endpoint_slice::EndpointSlice,
)];
