//! The resources of the `networking` group.

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
