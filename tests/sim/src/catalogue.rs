//! The planted bugs, and within how many seeds each must be found.

use corten_store::planted::Bug;

use crate::options::Limits;
use crate::run::{Failure, run};

/// A bug and its budget of seeds.
pub const CATALOGUE: [(Bug, u64); 30] = [
    (Bug::AcknowledgeBeforeFsync, 3000),
    (Bug::AnswerBeforeFsync, 3000),
    (Bug::VoteNotSaved, 3000),
    (Bug::TermNotSaved, 3000),
    (Bug::LeaseRead, 3000),
    (Bug::LocalRead, 3000),
    (Bug::ReadBeforeApply, 3000),
    (Bug::AppliedIndexAside, 3000),
    (Bug::CutTooFar, 3000),
    (Bug::MembershipBehindImage, 3000),
    (Bug::CompactionForgetsImage, 3000),
    (Bug::SnapshotBehindState, 3000),
    (Bug::RemovedLeaderLeads, 3000),
    (Bug::LateCopyHappens, 3000),
    (Bug::OneMarkForAllLives, 3000),
    (Bug::UnknownToldDropped, 3000),
    (Bug::ExistsNotChecked, 3000),
    (Bug::CreateRevisionMoves, 3000),
    (Bug::WatchSkipsOnResume, 3000),
    (Bug::WatchRepeatsOnResume, 3000),
    (Bug::EventLostAtCompaction, 3000),
    (Bug::WatchFromBeforeHistory, 3000),
    (Bug::LaggingWatcherSkips, 3000),
    (Bug::InstallKeepsWatchers, 3000),
    (Bug::TagLooksAtNewSideOnly, 3000),
    (Bug::ProgressTooFar, 3000),
    (Bug::PageOfNewestState, 3000),
    (Bug::RebuildTakesLastValue, 3000),
    (Bug::VoteWithHole, 3000),
    (Bug::VotesNotRenounced, 3000),
];

/// The first seed from `from` on that shows a bug, and how many were needed; nothing if its budget did not do.
#[must_use]
pub fn find(bug: Bug, from: u64, budget: u64) -> Option<(u64, Box<Failure>)> {
    let limits = Limits {
        bug: Some(bug),
        ..Limits::default()
    };
    (0..budget).find_map(|n| run(from + n, limits).err().map(|failure| (n + 1, failure)))
}
