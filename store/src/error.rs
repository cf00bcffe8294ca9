//! Every way the store can refuse or fail: one variant for each thing a caller can do differently.

use std::path::PathBuf;

use crate::model::Revision;

/// Why a write or a read barrier has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was proposed; try again after a moment.
    #[error("store is overloaded: {queued} proposals wait ({queued_bytes} bytes)")]
    Overloaded { queued: usize, queued_bytes: usize },
    /// Nothing was proposed: the state image has to catch up first, so that the log can be cut. Try again after a moment.
    #[error("store is overloaded: the state image is {bytes} bytes behind the log")]
    LogFull { bytes: u64 },
    /// Nothing was proposed: what makes the state larger has to wait until the disk has room again.
    #[error("disk is full: {free} bytes are free, {reserve} are kept in reserve")]
    DiskFull { free: u64, reserve: u64 },
    /// Nothing was proposed; it never will be at this size.
    #[error("transaction of {size} bytes is larger than the limit of {max}")]
    TooLarge { size: usize, max: usize },
    /// Nothing was proposed; the transaction makes no sense.
    #[error("invalid transaction: {0}")]
    Invalid(&'static str),
    /// Nothing was proposed: this member does not lead.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader { leader: Option<u64> },
    /// No leader answered in time; nothing was proposed.
    #[error("store is unavailable: {0}")]
    Unavailable(&'static str),
    /// The write may or may not happen. Repeat it only under a precondition.
    #[error("outcome of the write is unknown: {0}")]
    Ambiguous(&'static str),
    /// The store was closed before the request was taken.
    #[error("store is closed")]
    Closed,
    /// A revision that does not exist yet.
    #[error("revision {asked} is in the future, the store is at {newest}")]
    Future { asked: Revision, newest: Revision },
}

/// Why there is no snapshot at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("revision was compacted, the oldest is {oldest}")]
    Compacted { oldest: Revision },
    #[error("revision is in the future, the newest is {newest}")]
    Future { newest: Revision },
}

/// Why a watch cannot start, or why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events after the asked revision are gone: list again and watch from there. `oldest` can still be resumed.
    #[error("revision was compacted, the oldest is {oldest}")]
    Compacted { oldest: Revision },
    #[error("revision is in the future, the newest is {newest}")]
    Future { newest: Revision },
    /// The watcher fell further behind than its bound. It saw everything up to `seen`.
    #[error("watcher lags: it has seen revision {seen}, the store is at {newest}")]
    Lagged { seen: Revision, newest: Revision },
    /// The store was closed.
    #[error("store is closed")]
    Closed,
}

/// Why a store does not open. Nothing is changed on disk unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("create {dir}")]
    Dir { dir: PathBuf, source: std::io::Error },
    /// Another process has the store open.
    #[error("{dir} is in use by another process")]
    InUse { dir: PathBuf },
    #[error("read the log")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The image is damaged or unreadable and the log no longer holds everything.
    #[error(
        "state image {path} is refused, and the log starts after index {log_base}: restore it from a backup"
    )]
    Image {
        path: PathBuf,
        log_base: u64,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Log and image do not fit together; neither is used.
    #[error("log and image do not fit together: {0}")]
    Mismatch(String),
    /// A committed entry cannot be read.
    #[error("log entry {index} is damaged")]
    Entry {
        index: u64,
        source: crate::command::CommandError,
    },
    #[error("start the store's thread")]
    Thread(#[source] std::io::Error),
}
