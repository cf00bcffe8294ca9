//! Bugs on purpose, for the simulator to find. Without the feature `planted` there are none: [`planted`] is a constant
//! then, and what hangs on it is not compiled in.

/// One bug. Each stands for a mistake that was made somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A batch counts as durable when it is handed to the disk.
    AcknowledgeBeforeFsync,
    /// A follower's answer leaves before its batch is on disk.
    AnswerBeforeFsync,
    /// The vote is not written down.
    VoteNotSaved,
    /// The term is not written down.
    TermNotSaved,
    /// Reads rest on the leader's lease.
    LeaseRead,
    /// A barrier asks nobody.
    LocalRead,
    /// A barrier is answered before its entry is applied.
    ReadBeforeApply,
    /// The image's index is that of another state.
    AppliedIndexAside,
    /// The log is cut beyond the image.
    CutTooFar,
    /// An image behind a membership change has the membership before it.
    MembershipBehindImage,
    /// What is applied with a compaction is not in the image.
    CompactionForgetsImage,
    /// A snapshot says it is older than it is.
    SnapshotBehindState,
    /// A leader that was removed leads on.
    RemovedLeaderLeads,
    /// A removal takes effect before those who stay hold what the one who leaves had.
    RemovedAtOnce,
    /// A late copy of a proposal happens too.
    LateCopyHappens,
    /// Proposals of a life before are taken for those of this one.
    OneMarkForAllLives,
    /// What may have happened is told never to happen.
    UnknownToldDropped,
    /// One precondition is not checked.
    ExistsNotChecked,
    /// An overwritten key counts as new.
    CreateRevisionMoves,
    /// A watch starts one event too late.
    WatchSkipsOnResume,
    /// A watch starts one event too early.
    WatchRepeatsOnResume,
    /// Compaction takes events that a watcher has not seen.
    EventLostAtCompaction,
    /// A watch from before the history starts at its beginning.
    WatchFromBeforeHistory,
    /// A watcher that lags loses what it did not take.
    LaggingWatcherSkips,
    /// Watchers do not hear of a state that came from a peer.
    InstallKeepsWatchers,
    /// An entry that loses its tag is not told.
    TagLooksAtNewSideOnly,
    /// Progress is told before all is delivered.
    ProgressTooFar,
    /// A list's later pages are of the newest state.
    PageOfNewestState,
    /// An old state is rebuilt with the newest of the old values.
    RebuildTakesLastValue,
    /// A member that has lost entries votes.
    VoteWithHole,
    /// A leader goes on believing what a peer's log held before it lost something.
    ShorterLogNotBelieved,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in everything that runs on this thread.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
