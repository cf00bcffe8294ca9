//! How a machine becomes part of a cluster: from a token and an address to an identity of its own, kept alive.
//!
//! Knows tokens, certificates and the API's certificate requests. Must not know what the machine does afterwards.

mod identity;
mod pin;
mod renew;
mod request;
mod token;

pub use identity::{Facts, Identity, IdentityError};
pub use pin::{JoinError, Pinned, pin};
pub use renew::{Renewal, keep};
pub use request::{RequestError, certificate, new_key, user_of_node};
pub use token::{BadToken, CaHash, JoinToken, is_bootstrap_token};
