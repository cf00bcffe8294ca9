//! The scheduler: cache, plug-ins, queue and binding, with kube-scheduler's names and semantics.
//!
//! Knows Pods and Nodes as API objects. Must not know how Pods are run.
//!
//! [`core::Core`] decides: events of the cluster and `now` go in, placements come out; it does no IO, reads no clock
//! and draws from a seeded generator, so the same events give the same placements. [`run`] is the shell around it:
//! informers feed the core, and its decisions become bindings, Pod conditions and Events.
//!
//! All nodes are filtered and scored for every Pod. What makes that cheap is [`classes`]: Pods that ask the same of a
//! node share one set of verdicts, and only nodes that changed since are judged again.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod cache;
pub mod classes;
pub mod core;
pub mod decide;
pub mod diagnosis;
pub mod events;
mod feed;
pub mod labels;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod requirements;
pub mod resources;
#[allow(clippy::disallowed_methods)] // the shell
mod run;
pub mod selector;

pub use feed::OMIT;
pub use run::{Config, MAX_IN_FLIGHT, run};
