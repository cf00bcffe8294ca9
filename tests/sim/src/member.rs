//! One member: its process, which comes and goes, and its disk, which stays. The shell around the store's core, on a fake
//! disk: like the real one it does one thing after the other, and waits for its disk.

use corten_store::image::memory::{Disk as ImageDisk, MemoryImage};
use corten_store::image::{Batch, Image};
use corten_store::log::memory::{Disk as LogDisk, MemoryLog};
use corten_store::log::{Identity, Log};
use corten_store::{Config, Driven, HistoryLimits, ImageInterval, Store};

use crate::options::{Options, Time};
use crate::watcher::tagger;

pub const CLUSTER: u64 = 77;

/// The id of the member at a place.
pub fn id_at(place: usize, witness: bool) -> u64 {
    let number = place as u64 + 1;
    if witness {
        corten_store::witness_id(number << 1)
    } else {
        number
    }
}

/// The place of a member.
pub fn place_of(id: u64) -> usize {
    let number = if corten_store::is_witness(id) {
        (id & !corten_store::witness_id(0)) >> 1
    } else {
        id
    };
    (number as usize).wrapping_sub(1)
}

/// What the process waits for before it goes on.
pub enum Blocked {
    /// The fsync of this batch.
    Append(u64),
    Replace(Box<Batch>),
}

pub struct Up {
    pub boot: u64,
    pub driven: Driven,
    pub store: Store,
    pub log: MemoryLog,
    pub image: MemoryImage,
    pub blocked: Option<Blocked>,
    /// On its way to the disk.
    pub writing: Option<Batch>,
    pub serving: bool,
    pub ticked: bool,
    /// Something waits that the queue does not count.
    pub nudged: bool,
    pub since: Time,
    /// The newest entry that the auditor has seen of this process.
    pub audited: u64,
    /// The newest entry after which its state was compared.
    pub checked: u64,
    pub led: u64,
}

pub struct Member {
    pub id: u64,
    pub founder: bool,
    pub log: LogDisk,
    pub image: ImageDisk,
    pub up: Option<Up>,
    pub boots: u64,
    /// Left for good: removed, or its disk is lost.
    pub gone: bool,
    pub lost_disk: bool,
    /// Its disk has lost what was durable, and it is not repaired yet.
    pub damaged: bool,
    /// The change of the membership that its last process said it knew for good.
    pub promised: u64,
    pub paused_until: Time,
    pub full_until: Time,
    pub slow_until: Time,
    /// The length of a tick by this member's clock.
    pub tick: Time,
}

impl Member {
    pub fn new(id: u64, founder: bool, tick: Time) -> Self {
        Member {
            id,
            founder,
            log: LogDisk::default(),
            image: ImageDisk::default(),
            up: None,
            boots: 0,
            gone: false,
            lost_disk: false,
            damaged: false,
            promised: 0,
            paused_until: 0,
            full_until: 0,
            slow_until: 0,
            tick,
        }
    }

    /// Starts the process on what its disk holds.
    pub fn start(&mut self, options: &Options, now: Time) {
        self.boots += 1;
        let identity = Identity {
            cluster: CLUSTER,
            member: self.id,
        };
        let (identity, base) = if self.founder {
            corten_store::founder(identity)
        } else {
            corten_store::joiner(identity)
        };
        let mut log = MemoryLog::open(&self.log, identity, base);
        let mut image = MemoryImage::open(&self.image);
        let boot = options.seed.wrapping_mul(1000) + self.boots;
        let config = Config {
            history: HistoryLimits {
                max_events: options.max_events,
                min_events: 0,
                ..HistoryLimits::default()
            },
            max_watch_lag: options.max_lag,
            tagger: Some(tagger),
            image: ImageInterval {
                entries: options.interval,
                ..ImageInterval::default()
            },
            seed: Some(options.seed),
            ..Config::in_memory()
        };
        let before = (
            log.state(),
            image.load().map(|loaded| loaded.map(|(meta, _)| meta)),
        );
        let (store, driven) = Driven::open(&config, &mut log, &mut image, boot)
            .unwrap_or_else(|error| panic!("member {} does not open: {error:?}", self.id));
        let lost = log.state().lost;
        assert!(
            lost.is_none() || self.damaged,
            "member {} misses {lost:?}, though its disk is whole: {before:?}",
            self.id
        );
        let audited = driven.applied().index;
        self.up = Some(Up {
            boot,
            driven,
            store,
            log,
            image,
            blocked: None,
            writing: None,
            serving: false,
            ticked: false,
            nudged: false,
            since: now,
            audited,
            checked: 0,
            led: 0,
        });
    }

    pub fn is_witness(&self) -> bool {
        corten_store::is_witness(self.id)
    }

    /// Whether an entry would survive a power cut of this member: in its log, or in the image that the log starts from.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        index <= self.log.base_index() || self.log.durable_term(index) == Some(term)
    }
}
