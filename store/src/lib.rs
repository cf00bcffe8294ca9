//! The replicated key space: Raft, MVCC, watch history, snapshots.
//!
//! Knows keys and bytes. Must not know kinds, JSON, users or HTTP.
