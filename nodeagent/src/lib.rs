//! The node agent: runs the Pods bound to this node through a container runtime.
//!
//! Knows Pods and the runtime. Must not know Services, routes or how Pods are placed.

pub mod runtime;
pub mod tunnel;
