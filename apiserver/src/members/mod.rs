//! The members of the store, as the cluster records them: who is at which address, who was removed for good, and what an
//! administrator may do about it.
//!
//! `record` is the form of one record, `change` the verbs, `keep` what a server does about members on its own, `serve` the
//! HTTP side below `/corten/v1/members`. Must not know TLS or how messages travel (the store's peers).

mod change;
mod keep;
mod record;
pub mod serve;

pub use change::{AdmitError, admit, announce, leave};
pub use keep::{follow, is_leaving, keep, leaving, removed};
pub use record::{Record, all, find, is_record};
