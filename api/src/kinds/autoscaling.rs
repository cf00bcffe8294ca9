//! Kinds of the autoscaling group.

pub mod scale;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[];
