//! The node agent: runs the Pods bound to this node through a container runtime.
//!
//! Knows Pods and the runtime. Must not know Services, routes or how Pods are placed.
//!
//! - [`pod`]: the Pod machine and its status; pure.
//! - [`spec`]: from a Pod's spec to the runtime's terms; pure.
//! - [`probe`], [`volume`], [`logs`]: a pure part each, and the IO that goes with it.
//! - [`node`]: the Node object, its conditions and its Lease.
//! - [`shell`]: performs what the machines ask for; the only place that knows everything.
//! - [`runtime`], [`tunnel`]: the container runtime and the way in for logs, exec and port-forward.

pub mod events;
pub mod logs;
pub mod node;
pub mod pod;
pub mod probe;
pub mod runtime;
pub mod shell;
pub mod spec;
pub mod tunnel;
pub mod volume;
