//! How a machine becomes part of a cluster: from a token and an address to an identity of its own.
//!
//! Knows tokens, certificates and the API's certificate requests. Must not know what the machine does afterwards.

mod pin;
mod token;

pub use pin::{JoinError, Pinned, pin};
pub use token::{BadToken, CaHash, JoinToken, is_bootstrap_token};
