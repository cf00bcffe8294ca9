//! Role-based access control.
//!
//! `rules` decides on an immutable compiled set; `policy` is what a cluster starts with and `reconcile` how it is kept;
//! `escalation` says who may write which rules; `follow` keeps the compiled set as new as the store. All but `follow`
//! are plain functions.

pub mod escalation;
pub mod follow;
pub mod matches;
pub mod naive;
pub mod policy;
pub mod reconcile;
pub mod rules;

/// The group of all four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";
