//! What one run is made of, drawn from its seed: each class of faults is on or off, each rate is drawn over orders of
//! magnitude. Knows nothing of what the store does.

use std::fmt;

use corten_store::planted::Bug;

use crate::random::Random;

/// Simulated microseconds.
pub type Time = u64;
pub const MILLISECOND: Time = 1_000;
pub const SECOND: Time = 1_000_000;

/// A class of faults that a run has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fault {
    Loss,
    Repeat,
    /// Long and uneven delays, so that messages overtake each other.
    Delay,
    Partition,
    Crash,
    /// All members at once.
    PowerCut,
    /// A crash between two actions of one step.
    CrashInside,
    Pause,
    SlowDisk,
    FsyncError,
    DiskFull,
    Members,
    /// A disk is lost for good, and its member replaced.
    DiskLoss,
    Compaction,
    /// A short interval between images: cuts of the log, and snapshots for those who need what was cut.
    Images,
    Transfer,
    /// Clocks that run at different speeds.
    Drift,
    /// Little history and impatient watches.
    ShortHistory,
    /// A disk loses what was durable, and says so.
    Damage,
}

pub const FAULTS: [Fault; 19] = [
    Fault::Loss,
    Fault::Repeat,
    Fault::Delay,
    Fault::Partition,
    Fault::Crash,
    Fault::PowerCut,
    Fault::CrashInside,
    Fault::Pause,
    Fault::SlowDisk,
    Fault::FsyncError,
    Fault::DiskFull,
    Fault::Members,
    Fault::DiskLoss,
    Fault::Compaction,
    Fault::Images,
    Fault::Transfer,
    Fault::Drift,
    Fault::ShortHistory,
    Fault::Damage,
];

/// A set of classes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Faults(pub u32);

impl Faults {
    pub const ALL: Faults = Faults((1 << FAULTS.len()) - 1);

    #[must_use]
    pub fn of(faults: &[Fault]) -> Faults {
        Faults(faults.iter().fold(0, |set, fault| set | 1 << *fault as u32))
    }

    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    #[must_use]
    pub fn without(self, fault: Fault) -> Faults {
        Faults(self.0 & !(1 << fault as u32))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(FAULTS.iter().filter(|fault| self.has(**fault)))
            .finish()
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub faults: Faults,
    /// Voters at the beginning.
    pub members: usize,
    /// The last of them is a witness.
    pub witness: bool,
    /// How long faults happen.
    pub safety: Time,
    pub clients: usize,
    pub watchers: usize,
    /// Between two operations of one client, on average.
    pub think: Time,
    pub loss: f64,
    pub repeat: f64,
    pub max_delay: Time,
    pub fsync: Time,
    /// Between two faults of one class, on average.
    pub every: Time,
    /// Entries between two images.
    pub interval: u64,
    pub max_events: usize,
    pub max_lag: usize,
}

/// What may be taken away from a seed's options to make its run smaller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub faults: Faults,
    pub safety: Time,
    pub clients: usize,
    pub watchers: usize,
    /// Classes that every run has, drawn or not.
    pub forced: Faults,
    /// Every run has three members, the last of them a witness.
    pub witness: bool,
    /// A bug of the store to run with; only where those are built in.
    pub bug: Option<Bug>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            faults: Faults::ALL,
            safety: Time::MAX,
            clients: usize::MAX,
            watchers: usize::MAX,
            forced: Faults(0),
            witness: false,
            bug: None,
        }
    }
}

impl Options {
    #[must_use]
    pub fn draw(seed: u64, limits: Limits) -> Options {
        let mut random = Random::new(seed, 1);
        // Now and then everything at once, else about a third of the classes.
        let density = if random.chance(0.1) { 0.9 } else { 0.35 };
        let mut drawn = 0;
        for fault in FAULTS {
            drawn |= u32::from(random.chance(density)) << fault as u32;
        }
        let faults = Faults((drawn | limits.forced.0) & limits.faults.0);
        let members = *random.pick(&[1, 3, 3, 3, 3, 3, 5]).unwrap_or(&3);
        let members = if limits.witness { 3 } else { members };
        let witness = members == 3 && (random.chance(0.3) || limits.witness);
        let safety = random.range(4, 12) * SECOND;
        let (clients, watchers) = (random.range(2, 6) as usize, random.range(2, 6) as usize);
        let think = random.spread(20 * MILLISECOND, 200 * MILLISECOND);
        let (loss, repeat) = (
            random.spread(2, 200) as f64 / 1000.0,
            random.spread(2, 200) as f64 / 1000.0,
        );
        let max_delay = random.spread(20 * MILLISECOND, 400 * MILLISECOND);
        let fsync = random.spread(200, 20 * MILLISECOND);
        let every = random.spread(300 * MILLISECOND, 6 * SECOND);
        let interval = random.spread(5, 150);
        let (max_events, max_lag) = (random.spread(5, 500) as usize, random.spread(2, 100) as usize);
        let short = faults.has(Fault::ShortHistory);
        Options {
            seed,
            faults,
            members,
            witness,
            safety: safety.min(limits.safety),
            clients: clients.min(limits.clients),
            watchers: watchers.min(limits.watchers),
            think,
            loss: if faults.has(Fault::Loss) { loss } else { 0.0 },
            repeat: if faults.has(Fault::Repeat) { repeat } else { 0.0 },
            max_delay: if faults.has(Fault::Delay) {
                max_delay
            } else {
                2 * MILLISECOND
            },
            fsync,
            every,
            interval: if faults.has(Fault::Images) {
                interval
            } else {
                100_000
            },
            max_events: if short { max_events } else { 1_000_000 },
            max_lag: if short { max_lag } else { 100_000 },
        }
    }
}
