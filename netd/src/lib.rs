//! The network daemon: the CNI plug-in, routes to other nodes, Service NAT.
//!
//! Knows Nodes, Services and EndpointSlices. Must not know containers or how Pods are placed.
//!
//! Two programs share this crate. The *daemon* ([`run`]) follows the API, programs routes and Service rules and writes
//! what the plug-in needs to know into [`paths`]; the *plug-in* ([`cni::main`]) is executed by the container runtime
//! once a sandbox and works from those files alone, so Pods get their network while the control plane is away.
//! IPv4 only for now: Services and EndpointSlices of the other family are skipped.

pub mod cni;
pub mod conntrack;
mod daemon;
pub mod ipam;
pub mod iptables;
pub mod netlink;
pub mod netns;
pub mod node;
pub mod paths;
pub mod routes;
pub mod service;
mod sysctl;

pub use daemon::{CleanupError, Config, RunError, cleanup, run};
