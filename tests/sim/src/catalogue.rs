//! The planted bugs, and within how many seeds each must be found.

use corten_store::planted::Bug;

use crate::options::{Fault, Faults, Limits};
use crate::run::{Failure, run};

/// A bug and its budget of seeds.
pub const CATALOGUE: [(Bug, u64); 31] = [
    (Bug::AcknowledgeBeforeFsync, 50),
    (Bug::AnswerBeforeFsync, 50),
    (Bug::VoteNotSaved, 8000),
    (Bug::TermNotSaved, 200),
    (Bug::LeaseRead, 8000),
    (Bug::LocalRead, 50),
    (Bug::ReadBeforeApply, 50),
    (Bug::AppliedIndexAside, 50),
    (Bug::CutTooFar, 50),
    (Bug::MembershipBehindImage, 1500),
    (Bug::CompactionForgetsImage, 200),
    (Bug::SnapshotBehindState, 50),
    (Bug::RemovedLeaderLeads, 1500),
    (Bug::RemovedAtOnce, 2000),
    (Bug::LateCopyHappens, 200),
    (Bug::OneMarkForAllLives, 50),
    (Bug::UnknownToldDropped, 200),
    (Bug::ExistsNotChecked, 100),
    (Bug::CreateRevisionMoves, 50),
    (Bug::WatchSkipsOnResume, 50),
    (Bug::WatchRepeatsOnResume, 50),
    (Bug::EventLostAtCompaction, 100),
    (Bug::WatchFromBeforeHistory, 50),
    (Bug::LaggingWatcherSkips, 50),
    (Bug::InstallKeepsWatchers, 600),
    (Bug::TagLooksAtNewSideOnly, 50),
    (Bug::ProgressTooFar, 50),
    (Bug::PageOfNewestState, 50),
    (Bug::RebuildTakesLastValue, 50),
    (Bug::VoteWithHole, 1000),
    (Bug::ShorterLogNotBelieved, 200),
];

/// What has to come together for a bug to show, where that seldom does by itself.
fn forced(bug: Bug) -> Faults {
    Faults::of(match bug {
        // A proposal is in a state that its proposer gets whole, because it hears nothing for so long that the log is cut.
        Bug::UnknownToldDropped => &[Fault::Partition, Fault::Images, Fault::Delay],
        // A member loses the leadership and has it again while a proposal is still on its way to it.
        Bug::LateCopyHappens => &[Fault::Delay, Fault::Repeat, Fault::Transfer],
        // A server lags by more than the witness holds while the other one is removed.
        Bug::RemovedAtOnce => &[Fault::Members, Fault::Images, Fault::Crash, Fault::Pause],
        // Another one is made leader while the old one counts on not having been silent for long.
        Bug::LeaseRead => &[Fault::Transfer, Fault::Pause, Fault::Partition],
        Bug::ShorterLogNotBelieved => &[Fault::Damage, Fault::Crash],
        _ => &[],
    })
}

/// The first seed from `from` on that shows a bug, and how many were needed; nothing if its budget did not do.
#[must_use]
pub fn find(bug: Bug, from: u64, budget: u64) -> Option<(u64, Box<Failure>)> {
    let limits = Limits {
        bug: Some(bug),
        forced: forced(bug),
        witness: bug == Bug::RemovedAtOnce,
        ..Limits::default()
    };
    (0..budget).find_map(|n| run(from + n, limits).err().map(|failure| (n + 1, failure)))
}
