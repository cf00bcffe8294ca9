//! Runs seeds, and makes a failing run smaller.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::options::{FAULTS, Limits, Options, SECOND};
use crate::world::{Report, World};

/// What a run found.
#[derive(Clone, Debug)]
pub struct Failure {
    pub options: Options,
    pub message: String,
}

thread_local! {
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic of a run is its finding: kept, not printed.
fn keep_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with_borrow(|quiet| *quiet) {
                MESSAGE.set(Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}

/// One run.
///
/// # Errors
/// The first thing that was not as it must be.
pub fn run(seed: u64, limits: Limits) -> Result<Report, Box<Failure>> {
    keep_messages();
    let options = Options::draw(seed, limits);
    let drawn = options.clone();
    QUIET.set(true);
    #[cfg(feature = "planted")]
    corten_store::planted::plant(limits.bug);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(drawn);
        world.run();
        world.report
    }));
    #[cfg(feature = "planted")]
    corten_store::planted::plant(None);
    QUIET.set(false);
    ended.map_err(|_| {
        let message = MESSAGE.take().unwrap_or_default();
        Box::new(Failure { options, message })
    })
}

/// The fewest faults and the shortest time with which a seed still fails, by trying.
#[must_use]
pub fn shrink(failure: &Failure) -> (Limits, Failure) {
    let mut smallest = Smallest {
        limits: Limits::default(),
        failure: failure.clone(),
    };
    for _ in 0..2 {
        for fault in FAULTS {
            smallest.attempt(|limits| limits.faults = limits.faults.without(fault));
        }
        for watchers in 0..smallest.failure.options.watchers {
            smallest.attempt(|limits| limits.watchers = watchers.min(limits.watchers));
        }
        for clients in 1..smallest.failure.options.clients {
            smallest.attempt(|limits| limits.clients = clients.min(limits.clients));
        }
        let mut safety = smallest.failure.options.safety;
        while safety > SECOND {
            safety -= safety / 4;
            smallest.attempt(|limits| limits.safety = safety);
        }
    }
    (smallest.limits, smallest.failure)
}

struct Smallest {
    limits: Limits,
    failure: Failure,
}

impl Smallest {
    /// Keeps a change with which the seed still fails.
    fn attempt(&mut self, change: impl FnOnce(&mut Limits)) {
        let mut limits = self.limits;
        change(&mut limits);
        if let Err(failure) = run(self.failure.options.seed, limits) {
            (self.limits, self.failure) = (limits, *failure);
        }
    }
}
