//! Changes of the membership, in Raft's form.

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::planted::{Bug, planted};

/// One step of a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Gets everything and has no vote.
    AddLearner(u64),
    /// Makes a learner, or a stranger, a voter.
    AddVoter(u64),
    Remove(u64),
}

/// A single addition takes effect at once; a removal, and several steps, go through a joint configuration that ends by
/// itself. Its end is held by a majority of those who stay, and so everything before it. A removal that took effect at once
/// could be known to the one who leaves and to a witness only, and the state would leave with the former: what a witness has
/// cut, it cannot give to the server that stays.
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
    let removes = changes.iter().any(|change| matches!(change, Change::Remove(_)));
    let mut change = ConfChangeV2 {
        changes: changes.iter().map(single).collect::<Vec<_>>().into(),
        ..ConfChangeV2::default()
    };
    if removes && !planted(Bug::RemovedAtOnce) {
        change.set_transition(ConfChangeTransition::Implicit);
    }
    change
}
