//! End to end: the real binary, real containerd, hosts made of network namespaces.
//!
//! Knows only what a user sees: commands, HTTP and files.
//!
//! A test makes a [`Cluster`] with a name of its own, which goes away with it, also after a panic. `CORTEN_BIN` names
//! the binary under test (default: the one in the target folder), `CORTEN_KUBECTL` more kubectls than those found,
//! `CORTEN_HELM` a Helm,
//! `CORTEN_KUBECTL_MINOR=33` runs the tables of commands with that version only, and `CORTEN_KEEP=1` keeps a failed
//! test's cluster to look at.

pub mod api;
pub mod bare;
pub mod cases;
pub mod cluster;
pub mod command;
pub mod faults;
pub mod gadgets;
pub mod golang;
pub mod helm;
pub mod hostile;
pub mod kubectl;
pub mod leftovers;
pub mod load;
pub mod lone;
pub mod manifests;
pub mod runner;
pub mod script;
pub mod servers;
pub mod wait;
pub mod webhook;

pub use cases::Cases;
pub use cluster::Cluster;
pub use command::Finished;
pub use kubectl::Kubectl;
pub use lone::Lone;
pub use runner::Runner;
pub use wait::{eventually, within};
pub use webhook::Webhook;
