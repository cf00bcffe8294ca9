//! Clusters of several servers under load: a client that goes from server to server, writers and readers that check every
//! answer, watchers that must not lose an event.
//!
//! Knows the API as a client does. What is broken meanwhile is the caller's business.

mod balancer;
mod client;
mod load;
mod watch;

pub use balancer::Balancer;
pub use client::{Client, Failed, Servers};
pub use load::{Load, Report};
pub use watch::{Cached, Watchers};

/// Where everything happens.
pub const NAMESPACE: &str = "soak";
