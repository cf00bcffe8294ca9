//! Which change of the membership a member knows of for good. One that has only applied it, and crashes, may come back
//! without knowing that it was committed, and counts on the vote of a member that has left since. A plain structure.

use crate::log::Append;

#[derive(Debug)]
pub(super) struct Settled {
    /// Batches handed to the log, and those of them that are on disk.
    queued: u64,
    done: u64,
    /// The newest commit index that was handed to the log, and in which batch.
    commit: (u64, u64),
    /// The newest change that was applied.
    newest: u64,
    /// The newest change that is known for good.
    index: u64,
}

impl Settled {
    /// What a start finds on disk: what is `committed`, and applied up to `applied`.
    pub fn new(committed: u64, applied: u64) -> Self {
        Settled {
            queued: 0,
            done: 0,
            commit: (committed, 0),
            newest: applied,
            index: applied,
        }
    }

    /// A batch goes to the log.
    pub fn append(&mut self, batch: &Append) {
        self.queued += 1;
        let commit = batch.hard_state.as_ref().map_or(0, |state| state.commit);
        let base = batch.base.as_ref().map_or(0, |base| base.index);
        if commit.max(base) > self.commit.0 {
            self.commit = (commit.max(base), self.queued);
        }
    }

    /// The oldest batch is on disk.
    pub fn persisted(&mut self) {
        self.done += 1;
        self.settle();
    }

    /// A change was applied.
    pub fn changed(&mut self, index: u64) {
        self.newest = index;
        self.settle();
    }

    /// See [`crate::Standing::membership`].
    pub fn index(&self) -> u64 {
        self.index
    }

    fn settle(&mut self) {
        let (commit, batch) = self.commit;
        if commit >= self.newest && batch <= self.done {
            self.index = self.newest;
        }
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::HardState;

    use super::*;

    fn batch(commit: u64) -> Append {
        Append {
            hard_state: Some(HardState {
                commit,
                ..HardState::default()
            }),
            ..Append::default()
        }
    }

    #[test]
    fn a_change_is_known_once_its_commit_is_on_disk() {
        let mut settled = Settled::new(5, 3);
        assert_eq!(settled.index(), 3);
        settled.changed(5);
        assert_eq!(settled.index(), 5, "a start finds it committed");
        settled.append(&Append::default());
        settled.changed(7);
        settled.persisted();
        assert_eq!(settled.index(), 5, "its commit is not on disk");
        settled.append(&batch(7));
        assert_eq!(settled.index(), 5);
        settled.persisted();
        assert_eq!(settled.index(), 7);
        settled.append(&batch(9));
        settled.changed(9);
        assert_eq!(settled.index(), 7);
        settled.persisted();
        assert_eq!(settled.index(), 9);
    }
}
