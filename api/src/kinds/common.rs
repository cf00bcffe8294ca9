//! Rules that several kinds share: defaults on JSON maps, metadata, selectors, small checks.

pub mod defaults;
pub mod metadata;
pub mod rules;
pub mod selector;
