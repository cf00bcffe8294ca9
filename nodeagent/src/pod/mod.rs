//! One Pod on this node: what is wanted, what is there, what to do next.
//!
//! [`machine`] decides, [`status`] reports; both are pure. Must not know how an action is performed
//! (that is `shell`) nor which runtime performs it.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod action;
pub mod admission;
pub mod backoff;
pub mod conditions;
pub mod containers;
pub mod due;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod restart;
pub mod status;
