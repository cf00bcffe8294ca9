//! Selectors: which objects a request or a controller means, by label or by field.

pub mod field;
pub mod label;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};
