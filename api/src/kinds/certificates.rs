//! The resources of the `certificates` group.

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
