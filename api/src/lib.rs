//! What an object means: kinds, defaults, validation, patches, selectors, quantities, tables.
//!
//! Pure: no IO, no clock, no randomness, no async. Knows every Kubernetes kind; must not know how
//! objects are stored, served or acted upon.
//!
//! An object travels as `serde_json::Value` in its canonical form: only known fields, no `null` where
//! Kubernetes omits a field, zero values where it always writes one. [`resource::registry`] finds what a
//! kind means; typed objects (`k8s_openapi`) appear only in the helpers other components share.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod apply;
pub mod cron;
pub mod cursor;
pub mod custom;
pub mod field;
pub mod humanize;
pub mod intstr;
pub mod json;
pub mod key;
pub mod kinds;
pub mod meta;
pub use corten_cel::names;
pub mod options;
pub mod patch;
pub mod pod;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod scheduling;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;

pub use key::ObjectKey;
pub use resource::{Decoded, FieldValidation, ResourceType, registry};
pub use status::Status;
