//! The resources of the `apiregistration` group.

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
