//! The resources of the `events` group.

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
