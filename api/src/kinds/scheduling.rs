//! The resources of the `scheduling` group.

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
