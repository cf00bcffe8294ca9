//! What the store tells about itself. Counters only: nothing here decides anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch as tokio_watch;

use crate::model::Revision;

/// What the store can tell about itself. Counters start at 0 when it opens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub revision: Revision,
    /// Keys that exist now.
    pub keys: usize,
    /// Index of the newest applied log entry.
    pub applied: u64,
    pub term: u64,
    pub member: u64,
    /// The leader's id, if one is known.
    pub leader: Option<u64>,
    pub fsyncs: u64,
    /// Log entries made durable.
    pub entries: u64,
    /// Transactions answered.
    pub transactions: u64,
    /// The largest number of proposals one fsync made durable.
    pub largest_batch: u64,
    /// Proposals that wait now.
    pub queued: usize,
    pub queued_bytes: usize,
    pub history_events: usize,
    pub history_bytes: usize,
    /// The oldest revision that can be read and watched.
    pub oldest: Revision,
    pub watchers: usize,
    /// As of the last cut of the log.
    pub log_bytes: u64,
    pub image_bytes: u64,
    /// The log index the image stands at.
    pub image_applied: u64,
    pub members: Membership,
    /// Whole states received from a leader.
    pub installed: u64,
    /// Times everything at rest was read.
    pub scrubs: u64,
    pub scrubbed_bytes: u64,
    /// Times something at rest was not as it was written, and was replaced.
    pub damages: u64,
}

/// Who takes part, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Membership {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// A change is under way: majorities of two memberships are needed.
    pub joint: bool,
}

/// Where a member stands; see [`crate::Store::standing`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub member: u64,
    pub term: u64,
    /// The leader's id, if one is known.
    pub leader: Option<u64>,
    pub leads: bool,
    /// Its log misses what it may have acknowledged: until the others have given it back, it neither votes nor leads.
    pub repairing: bool,
    /// The newest entry of this member's log.
    pub last_index: u64,
    /// The entry of the newest change of the membership that this member knows of for good, also after a crash.
    pub membership: u64,
    pub members: Membership,
    /// Of all members, this one included. Only the leader knows it.
    pub progress: Vec<Progress>,
}

/// What a leader knows of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub member: u64,
    /// The newest log entry it has on disk, as far as is known.
    pub matched: u64,
    /// Whether it has been heard of within the shortest election time-out.
    pub alive: bool,
}

/// Read by `status()`, written by the thread.
#[derive(Default)]
pub(super) struct Counters {
    /// See [`crate::replica::Role::alone`].
    pub alone: AtomicBool,
    pub applied: AtomicU64,
    pub term: AtomicU64,
    pub member: AtomicU64,
    pub leader: AtomicU64,
    pub fsyncs: AtomicU64,
    pub entries: AtomicU64,
    pub transactions: AtomicU64,
    pub largest_batch: AtomicU64,
    pub log_bytes: AtomicU64,
    pub image_bytes: AtomicU64,
    pub image_applied: AtomicU64,
    pub installed: AtomicU64,
    pub scrubs: AtomicU64,
    pub scrubbed_bytes: AtomicU64,
    pub damages: AtomicU64,
    pub members: Mutex<Membership>,
    pub standing: tokio_watch::Sender<Standing>,
}

impl Counters {
    pub fn read(&self) -> Status {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            applied: get(&self.applied),
            term: get(&self.term),
            member: get(&self.member),
            leader: Some(get(&self.leader)).filter(|leader| *leader != 0),
            fsyncs: get(&self.fsyncs),
            entries: get(&self.entries),
            transactions: get(&self.transactions),
            largest_batch: get(&self.largest_batch),
            log_bytes: get(&self.log_bytes),
            image_bytes: get(&self.image_bytes),
            image_applied: get(&self.image_applied),
            installed: get(&self.installed),
            scrubs: get(&self.scrubs),
            scrubbed_bytes: get(&self.scrubbed_bytes),
            damages: get(&self.damages),
            members: self.members.lock().clone(),
            ..Status::default()
        }
    }
}
