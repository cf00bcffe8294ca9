//! Kinds of the events group.

pub mod event;

use crate::resource::ResourceType;

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    ["events.k8s.io", "v1", "Event", "events"],
    "event",
    "events.v1.Event",
    &event::Event,
)
.short(&["ev"])
.stored_as("", "events")];
