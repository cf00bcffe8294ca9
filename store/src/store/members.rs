//! Changes of the membership, in Raft's form.

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

/// One step of a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Gets everything and has no vote.
    AddLearner(u64),
    /// Makes a learner, or a stranger, a voter.
    AddVoter(u64),
    Remove(u64),
}

/// A single step takes effect at once; several go through a joint configuration that ends by itself.
pub(super) fn conf_change(changes: &[Change]) -> ConfChangeV2 {
    let single = |change: &Change| {
        let (kind, node_id) = match *change {
            Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::AddVoter(id) => (ConfChangeType::AddNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = node_id;
        single
    };
    ConfChangeV2 {
        changes: changes.iter().map(single).collect::<Vec<_>>().into(),
        ..ConfChangeV2::default()
    }
}
