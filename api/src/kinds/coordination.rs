//! Kinds of the coordination group.

pub mod lease;
