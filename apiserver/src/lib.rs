//! The stateless front end: TLS, authentication, verbs, watch, discovery, over one `Store`.
//!
//! Knows requests and the registry of kinds. Must not know what controllers, the scheduler or nodes do
//! with objects, and keeps nothing that another front end would need.

pub mod body;
pub mod identity;
mod key;
mod negotiate;
pub mod pki;
mod query;
mod route;
mod stored;
