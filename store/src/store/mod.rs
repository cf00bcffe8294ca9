//! The handle everybody holds. It encodes proposals, queues them for the one thread that owns the replica, and reads
//! published state without asking anyone. Knows the shape of the queue, not what becomes of a proposal.

pub(crate) mod agreement;
#[cfg(test)]
mod agreement_tests;
mod core;
pub mod driven;
mod imager;
mod inbox;
mod members;
mod open;
mod owner;
mod pace;
#[cfg(test)]
mod power_cut_tests;
pub(crate) mod pressure;
mod queue;
mod recovery;
mod scrub;
mod settled;
mod status;

use std::borrow::Borrow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{oneshot, watch as tokio_watch};

pub use self::core::{Action, Fatal};
use crate::command;
use crate::error::{OpenError, SnapshotError, StoreError, WatchError};
use crate::history;
use crate::image::trail::Interval;
use crate::log::Identity;
use crate::model::{Op, Precondition, Revision, Tagger, Txn, TxnOutcome};
use crate::planted::{Bug, planted};
use crate::space::{self, Full, Space};
use crate::transport::Connect;
use crate::tree::Snapshot;
use crate::watch::{DEFAULT_MAX_LAG, Hub, Watch};
pub use inbox::Inbox;
pub use members::Change;
pub(crate) use open::{lock, random_identity};
pub use pressure::Refusal;
use queue::{Queue, Request};
pub use recovery::{founder, joiner};
pub use scrub::Pace;
use status::Counters;
pub use status::{Membership, Progress, Standing, Status};

/// Proposals that may wait for the next fsync; the next one is refused as overloaded.
pub const MAX_QUEUED: usize = 8192;
/// Bytes of proposals that may wait.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Bytes of one proposal. Kubernetes bounds a request body at 3 MiB; a transaction may hold a little more.
pub const MAX_TXN_BYTES: usize = 4 << 20;
/// Operations and preconditions of one transaction, each.
pub const MAX_TXN_OPS: usize = 4096;
/// Bytes of one key.
pub const MAX_KEY_BYTES: usize = 4096;

/// How a store is opened. `Config::new(dir)` is what a member uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where log and image live; made if missing. `None` keeps everything in memory: for tests and simulation.
    pub dir: Option<PathBuf>,
    pub history: history::Limits,
    /// Undelivered events at which an up-to-date watcher is ended. Default 100,000.
    pub max_watch_lag: usize,
    /// What watchers may choose entries by besides their key. Default: nothing.
    pub tagger: Option<Tagger>,
    /// How often the state image moves on.
    pub image: Interval,
    /// Election timeouts are drawn from it; `None` draws the seed itself.
    pub seed: Option<u64>,
    /// What a member with an empty folder becomes.
    pub birth: Birth,
    /// How peers are reached; `None` for a member that will always be alone.
    pub peers: Option<Arc<dyn Connect>>,
    /// Bytes of the file system that are kept free; see [`crate::space::reserve`] for the default and its bound.
    pub reserve: Option<u64>,
    /// Prefixes of keys that may be written even when the disk is full.
    pub vital: &'static [&'static str],
    /// How often what is at rest is read, and how fast.
    pub scrub: Pace,
}

/// How a member comes into being. Asked only once: afterwards its folder says who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Birth {
    /// The first member of a new cluster.
    #[default]
    Found,
    /// A member of an existing cluster: it waits until the leader of that cluster takes it in.
    Join { cluster: u64, member: u64 },
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: Some(dir.into()),
            ..Config::in_memory()
        }
    }

    /// Nothing is kept after the last handle is gone.
    pub fn in_memory() -> Self {
        Config {
            dir: None,
            history: history::Limits::default(),
            max_watch_lag: DEFAULT_MAX_LAG,
            tagger: None,
            image: Interval::default(),
            seed: None,
            birth: Birth::Found,
            peers: None,
            reserve: None,
            vital: &[],
            scrub: Pace::default(),
        }
    }
}

/// A cheap handle; the store closes when [`Store::close`] is called or the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    applied: tokio_watch::Receiver<Revision>,
    done: tokio_watch::Receiver<bool>,
    identity: Identity,
    /// `None` in memory.
    space: Option<Arc<Space>>,
    vital: &'static [&'static str],
    /// Ends the scrub.
    _scrub: std::sync::mpsc::SyncSender<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Store {
    /// Opens or creates the store; returns once every acknowledged write is applied and the store can take more.
    ///
    /// # Errors
    /// See [`OpenError`]; damaged data is refused, never half-used.
    pub async fn open(config: Config) -> Result<Store, OpenError> {
        open::open(config).await
    }

    /// Proposes a transaction. `Committed` means: on disk (on a majority of members) and applied here.
    ///
    /// # Errors
    /// See [`StoreError`]; only `Ambiguous` leaves open whether the write happened. A dropped future does not take
    /// its proposal back.
    pub async fn txn(&self, txn: impl Borrow<Txn>) -> Result<TxnOutcome, StoreError> {
        let answer = self.propose(txn.borrow())?;
        drop(txn);
        answer
            .await
            .map_err(|_| StoreError::Ambiguous("the store closed"))?
    }

    /// Waits until the applied state holds every write acknowledged, by any member, before this call. Its revision.
    ///
    /// # Errors
    /// `Overloaded`, `Unavailable` (no leader answered in time) or `Closed`.
    pub async fn read_barrier(&self) -> Result<Revision, StoreError> {
        if self.inner.counters.alone.load(Ordering::Acquire) || planted(Bug::LocalRead) {
            // The only voter applies before it acknowledges, and publishes before it answers: what is published is all.
            return Ok(self.snapshot().revision());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Barrier { reply })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Waits until this member has applied `revision`.
    ///
    /// # Errors
    /// `Closed` when the store closes first. The caller brings its own deadline.
    pub async fn wait_applied(&self, revision: Revision) -> Result<(), StoreError> {
        let mut applied = self.inner.applied.clone();
        applied
            .wait_for(|applied| *applied >= revision)
            .await
            .map_err(|_| StoreError::Closed)?;
        Ok(())
    }

    /// The newest applied state of this member. Waits while changes are applied, 256 entries of the log at most.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.hub.snapshot()
    }

    /// The state at `revision`. Old revisions cost one step for each key changed since; recent results are kept.
    ///
    /// # Errors
    /// `Compacted` or `Future`.
    pub fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, SnapshotError> {
        self.inner.hub.snapshot_at(revision)
    }

    /// Every event of `range` with a revision greater than `from`, once, in order. Pass the revision of the snapshot
    /// that was read, and nothing is missed or seen twice.
    ///
    /// # Errors
    /// `Compacted` when events after `from` are gone; `Future` when this member has not applied `from` yet.
    pub fn watch(&self, range: Range<Bytes>, from: Revision) -> Result<Watch, WatchError> {
        self.inner.hub.watch(range, from)
    }

    /// As [`Store::watch`], only of entries that had `tag` before or after the event, by [`Config::tagger`]. A store without
    /// a tagger does not look at it: the watcher sees more than it asked for.
    ///
    /// # Errors
    /// Those of [`Store::watch`].
    pub fn watch_tagged(
        &self,
        range: Range<Bytes>,
        tag: Option<Bytes>,
        from: Revision,
    ) -> Result<Watch, WatchError> {
        self.inner.hub.watch_tagged(range, tag, from)
    }

    /// Forgets the history before `revision`, on every member.
    ///
    /// # Errors
    /// `Future` above the newest revision, and those of [`Store::txn`].
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let newest = self.snapshot().revision();
        if revision > newest {
            return Err(StoreError::Future {
                asked: revision,
                newest,
            });
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Compact {
            data: command::encode_compact(revision),
            reply,
        })?;
        answer
            .await
            .map_err(|_| StoreError::Ambiguous("the store closed"))?
    }

    /// Changes the membership by joint consensus; returns when the change is applied here. One change at a time.
    ///
    /// # Errors
    /// Those of [`Store::txn`]; `Unavailable` while another change is under way, and when one has happened meanwhile.
    pub async fn change_members(&self, changes: &[Change]) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let change = members::conf_change(changes);
        self.send(Request::Conf { change, reply })?;
        answer
            .await
            .map_err(|_| StoreError::Ambiguous("the store closed"))?
    }

    /// Asks the leader, if it is this member, to hand over to `member`. Whether it did shows in [`Store::status`].
    ///
    /// # Errors
    /// `Overloaded` or `Closed`.
    pub fn transfer_leadership(&self, member: u64) -> Result<(), StoreError> {
        self.send(Request::Transfer(member))
    }

    /// Where messages from peers go in.
    pub fn inbox(&self) -> Inbox {
        Inbox::new(self.inner.queue.clone())
    }

    /// The cluster's and this member's number: random, written once, never reused.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// Who leads, who takes part and, on the leader, how far everyone is; changes as they happen.
    pub fn standing(&self) -> tokio_watch::Receiver<Standing> {
        self.inner.counters.standing.subscribe()
    }

    pub fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let (history_events, history_bytes, oldest) = self.inner.hub.history_stats();
        let (queued, queued_bytes) = self.inner.queue.waiting();
        Status {
            revision: snapshot.revision(),
            keys: snapshot.len(),
            queued,
            queued_bytes,
            history_events,
            history_bytes,
            oldest,
            watchers: self.inner.hub.watchers(),
            ..self.inner.counters.read()
        }
    }

    /// Answers what was queued, ends every watch, closes the files and returns when that is done.
    pub async fn close(&self) {
        self.inner.queue.close();
        let mut done = self.inner.done.clone();
        // An error means the thread is gone already.
        let _ = done.wait_for(|done| *done).await;
    }

    fn propose(&self, txn: &Txn) -> Result<oneshot::Receiver<Result<TxnOutcome, StoreError>>, StoreError> {
        check(txn)?;
        if let Some(space) = &self.inner.space
            && let Err(Full { free, reserve }) = space.check()
            && !space::fits(txn, &self.snapshot(), self.inner.vital)
        {
            return Err(StoreError::DiskFull { free, reserve });
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Txn {
            data: command::encode_txn(txn),
            reply,
        })?;
        Ok(answer)
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        self.inner.queue.send(request)
    }
}

fn check(txn: &Txn) -> Result<(), StoreError> {
    if txn.ops.is_empty() {
        return Err(StoreError::Invalid("it has no operation"));
    }
    if txn.ops.len() > MAX_TXN_OPS || txn.preconditions.len() > MAX_TXN_OPS {
        return Err(StoreError::Invalid("it has too many operations or preconditions"));
    }
    let keys = txn
        .ops
        .iter()
        .map(Op::key)
        .chain(txn.preconditions.iter().map(Precondition::key));
    for key in keys {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(StoreError::Invalid("a key is empty or too long"));
        }
    }
    let size = command::encoded_len(txn);
    if size > MAX_TXN_BYTES {
        return Err(StoreError::TooLarge {
            size,
            max: MAX_TXN_BYTES,
        });
    }
    Ok(())
}
