//! Kinds of the apps group.

pub mod deployment;
pub mod replica_set;
