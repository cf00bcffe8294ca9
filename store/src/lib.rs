//! The replicated key space: Raft, MVCC, watch history, snapshots.
//!
//! Knows keys and bytes. Must not know kinds, JSON, users or HTTP.
//!
//! A write walks through the rooms in this order, and rooms that do no IO are plain functions of their input:
//!
//! | room | decides | does no |
//! |---|---|---|
//! | [`command`] | how a transaction is written into the log | - |
//! | [`replica`] | what to persist, send and apply (Raft, sans IO) | IO, clock, randomness |
//! | [`mvcc`] | whether preconditions hold, which revision a write gets | IO, clock, randomness |
//! | [`history`] | which past revisions can still be read and watched | IO, clock |
//! | [`watch`] | which watcher sees which event | IO, clock |
//! | [`log`], [`image`] | nothing: they keep bytes on disk, each behind one trait | Raft, MVCC |
//! | [`peers`] | nothing: messages and whole states travel between members | what Raft says in them, TLS |
//! | `store::core` | what a member does with requests, messages and ticks, as one list of actions | IO, clock, threads |
//! | `store` | nothing: one thread that performs those actions | - |
//!
//! What must always hold: an acknowledged write is on disk; a revision is never reused and never goes back; a watch
//! delivers each event once, in order, or ends with an explicit error.

pub mod backup;
pub mod command;
pub mod error;
pub mod halt;
pub mod history;
pub mod image;
pub mod log;
pub mod model;
pub mod mvcc;
pub mod peers;
pub mod planted;
pub mod replica;
pub mod space;
mod store;
pub mod transport;
pub mod tree;
pub mod watch;
pub mod witness;

pub use error::{OpenError, SnapshotError, StoreError, WatchError};
pub use history::Limits as HistoryLimits;
pub use image::trail::Interval as ImageInterval;
pub use log::Identity;
pub use model::{
    Encoded, Entry, Event, EventKind, Memo, Op, Precondition, Revision, Tagger, Txn, TxnOutcome, key_range,
    prefix_range,
};
pub use store::driven::Driven;
pub use store::{
    Action, Birth, Change, Config, Fatal, Inbox, Membership, Pace, Progress, Refusal, Standing, Status,
    Store, founder, joiner,
};
pub use transport::{Connect, Transport};
pub use tree::{RangeIter, Snapshot};
pub use watch::{ProgressHandle, Watch, WatchItem};
pub use witness::{is_witness, witness_id};
