//! Rules that several kinds share: defaults on JSON maps, metadata, selectors, conditions, webhooks, small checks.

pub mod conditions;
pub mod defaults;
pub mod difference;
pub mod go_value;
pub mod ip;
pub mod metadata;
pub mod node_labels;
pub mod resources;
pub mod rules;
pub mod selector;
pub mod status;
pub mod webhook;
