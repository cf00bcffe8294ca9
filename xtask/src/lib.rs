//! Chores shared by the `xtask` commands and the end-to-end tests.

pub mod image;
pub mod layering;
pub mod prerequisites;
pub mod rules;
