//! The Raft log on disk: entries, the hard state, and the base below which entries were cut. One narrow trait, two back
//! ends ([`engine`] on disk, [`memory`] for tests and simulation), one contract suite. Knows Raft's records, not what
//! is in them.

mod chain;
#[cfg(test)]
mod contract;
pub mod engine;
pub mod memory;
#[cfg(test)]
pub(crate) mod power_cut;
mod prefilled;
mod records;
mod watermark;

use raft::eraftpb::{ConfState, Entry, HardState};

/// Who this member is: random, written once, never reused. Addresses may change, this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: u64,
    pub member: u64,
}

/// The log starts after this entry; the state image holds everything up to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub index: u64,
    pub term: u64,
    /// The membership as of `index`.
    pub conf_state: ConfState,
}

/// What one fsync makes durable, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Append {
    /// Raft's number of the batch; comes back in the [`Durable`] token.
    pub number: u64,
    /// A snapshot was received: everything in the log is replaced by this base.
    pub base: Option<Base>,
    /// Contiguous. An entry at an index the log already has replaces it and everything after it.
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
}

/// Proof that a batch is on disk. Only a back end can make one, after its fsync returned.
#[derive(Debug)]
pub struct Durable {
    number: u64,
}

impl Durable {
    /// No proof at all.
    #[cfg(feature = "planted")]
    pub(crate) fn unproven(number: u64) -> Self {
        Durable { number }
    }

    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What the log holds besides its entries.
#[derive(Clone, Debug, PartialEq)]
pub struct LogState {
    pub identity: Identity,
    pub base: Base,
    pub hard_state: HardState,
    /// The base's index when the log is empty.
    pub last_index: u64,
    /// What was durable once and is not there any more; see [`Lost`].
    pub lost: Option<Lost>,
}

/// Entries up to `index`, votes up to `term` may have been given to peers and are gone. Until the peers have given
/// them back the member neither votes nor leads; a member without peers is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub index: u64,
    pub term: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log engine failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("log file {0} failed")]
    File(&'static str, #[source] std::io::Error),
    /// The log is shorter than what was durable once: acknowledged writes may be missing.
    #[error("log ends at {last_index}, but entry {durable} was durable once: its tail is damaged or lost")]
    Lost { last_index: u64, durable: u64 },
    #[error("log record {0} is damaged")]
    Damaged(&'static str),
    #[error("log record of entry {index} is damaged")]
    Record { index: u64 },
    #[error("log is of an older format, which this version does not read")]
    Format,
    #[error("entries {low}..{high} are not in the log")]
    Missing { low: u64, high: u64 },
    #[error("entry {index} leaves a hole after {last_index}")]
    Hole { index: u64, last_index: u64 },
}

/// The log of one member. Every method that changes it returns after the change is on disk, except [`Log::cut`].
pub trait Log: Send + 'static {
    fn state(&self) -> LogState;

    /// Entries `low..high`, at least one, then as many as fit in `max_bytes`.
    ///
    /// # Errors
    /// `Missing` when the range is not wholly in the log.
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError>;

    /// Makes a batch durable: one atomic write and one fsync.
    ///
    /// # Errors
    /// After an error nothing about the disk is known: the caller must stop the process.
    fn append(&mut self, batch: Append) -> Result<Durable, LogError>;

    /// Forgets the entries up to `base.index`. May be lost in a crash; the old base is as good.
    ///
    /// # Errors
    /// As [`Log::append`].
    fn cut(&mut self, base: Base) -> Result<(), LogError>;

    /// Whether the cluster had other members when the log was last told.
    fn has_peers(&self) -> bool {
        false
    }

    /// Notes durably whether the cluster has other members: without them nobody can repair this one.
    ///
    /// # Errors
    /// As [`Log::append`].
    fn note_peers(&mut self, _peers: bool) -> Result<(), LogError> {
        Ok(())
    }

    /// Notes durably what the log is missing, or that it misses nothing any more.
    ///
    /// # Errors
    /// As [`Log::append`].
    fn note_loss(&mut self, lost: Option<Lost>) -> Result<(), LogError>;

    /// Lets the operating system forget what it keeps of the files, so that what is read next comes from the disk.
    fn forget_cached(&self) {}

    /// The number of fsyncs so far.
    fn fsyncs(&self) -> u64;

    /// Bytes on disk. Reads the folder: for now and then.
    fn disk_bytes(&self) -> u64;
}

/// The rule both back ends check before they write.
fn check_contiguous(batch: &Append, state: &LogState) -> Result<(), LogError> {
    let (base, last_index) = match &batch.base {
        Some(base) => (base.index, base.index),
        None => (state.base.index, state.last_index),
    };
    let Some(first) = batch.entries.first() else {
        return Ok(());
    };
    if first.index <= base || first.index > last_index + 1 {
        return Err(LogError::Hole {
            index: first.index,
            last_index,
        });
    }
    match batch
        .entries
        .windows(2)
        .find(|pair| pair[1].index != pair[0].index + 1)
    {
        Some(pair) => Err(LogError::Hole {
            index: pair[1].index,
            last_index: pair[0].index,
        }),
        None => Ok(()),
    }
}
