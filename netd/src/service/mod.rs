//! Service NAT as data: what is wanted ([`model`]), as rules ([`compile`]), ready for [`crate::iptables`]. Pure.
//!
//! Knows Services, EndpointSlices and the facts of nodes. Must not know how rules reach the kernel.
#![deny(clippy::disallowed_methods)]

mod balance;
pub mod compile;
#[cfg(test)]
mod evaluate;
pub mod host_ports;
pub mod model;
pub mod rule;

/// First letters of the host side of every Pod's link.
pub const POD_LINK_PREFIX: &str = "cpod";
