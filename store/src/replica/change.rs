//! Changes of the membership on their way into the log. Each says which membership it was decided on, and where another one
//! holds by the time it is applied, it is void, on every member: a copy that comes late would make a voter a learner again,
//! or take in who has been removed since.

use bytes::Bytes;
use protobuf::Message as _;
use raft::StateRole;
use raft::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeV2, ConfState, Entry, EntryType};

use super::{Output, Replica};
use crate::planted::{Bug, planted};

/// Ends the context of a change.
const MARK: u8 = 0xc8;
/// The length of the membership, [`MARK`].
const END: usize = 4 + 1;

impl Replica {
    /// A leader forgets a second change while one is under way without a word: it is dropped here instead.
    pub(super) fn propose_conf(
        &mut self,
        token: u64,
        context: &[u8],
        change: ConfChangeV2,
        out: &mut Vec<Output>,
    ) {
        let busy = self.node.raft.state == StateRole::Leader && self.node.raft.has_pending_conf();
        let proposed = if busy {
            Err(raft::Error::ProposalDropped)
        } else {
            let on = self.node.raft.prs().conf().to_conf_state();
            self.node.propose_conf_change(seal(context, &on), change)
        };
        if let Err(error) = proposed {
            tracing::debug!(%error, "membership change was dropped");
            out.push(Output::Dropped { tokens: vec![token] });
        }
    }

    /// The shell applies outputs in order before it steps again, so Raft may count them as applied. Whether the membership has
    /// changed.
    pub(super) fn apply(&mut self, committed: Vec<Entry>, out: &mut Vec<Output>) -> bool {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return false;
        };
        let mut changed = false;
        let mut run = Vec::with_capacity(committed.len());
        for mut entry in committed {
            self.proposals.applied(&mut entry);
            if entry.get_entry_type() != EntryType::EntryNormal {
                open(&mut entry, &self.node.raft.prs().conf().to_conf_state());
            }
            let change = conf_change(&entry);
            let index = entry.index;
            run.push(entry);
            let Some(change) = change else { continue };
            match self.node.apply_conf_change(&change) {
                Ok(conf_state) => {
                    changed = true;
                    out.push(Output::Apply(std::mem::take(&mut run)));
                    self.node.mut_store().set_conf_state(conf_state.clone());
                    out.push(Output::Conf { index, conf_state });
                }
                // The leader checks a change before it proposes it; all members refuse the same one.
                Err(error) => tracing::error!(%error, index, "membership change is refused"),
            }
        }
        if !run.is_empty() {
            out.push(Output::Apply(run));
        }
        self.node.advance_apply_to(last);
        self.node.mut_store().evict(last);
        self.leave_if_removed();
        changed
    }

    /// `raft` lets a leader that is no member any more lead on, and panics when the next of its batches is on disk. The others
    /// are told what is committed, as far as one message can, for until they know they still count on its vote.
    fn leave_if_removed(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader
            && raft.prs().get(raft.id).is_none()
            && !planted(Bug::RemovedLeaderLeads)
        {
            raft.bcast_append();
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
    }
}

fn conf_change(entry: &Entry) -> Option<ConfChangeV2> {
    match entry.get_entry_type() {
        EntryType::EntryNormal => None,
        EntryType::EntryConfChange => {
            let change = ConfChange::parse_from_bytes(&entry.data).expect("the leader encoded the change");
            let mut single = ConfChangeSingle::default();
            single.set_change_type(change.get_change_type());
            single.node_id = change.node_id;
            Some(ConfChangeV2 {
                changes: vec![single].into(),
                ..ConfChangeV2::default()
            })
        }
        EntryType::EntryConfChangeV2 => {
            Some(ConfChangeV2::parse_from_bytes(&entry.data).expect("the leader encoded the change"))
        }
    }
}

/// A membership as bytes, the same on every member.
fn bytes(conf: &ConfState) -> Vec<u8> {
    let mut conf = conf.clone();
    conf.voters.sort_unstable();
    conf.voters_outgoing.sort_unstable();
    conf.learners.sort_unstable();
    conf.learners_next.sort_unstable();
    conf.write_to_bytes().expect("a message in memory always encodes")
}

/// `context` followed by the membership that the change is of.
fn seal(context: &[u8], on: &ConfState) -> Vec<u8> {
    let on = bytes(on);
    let length = u32::try_from(on.len()).expect("a message is smaller than 4 GiB");
    [context, &on, &length.to_le_bytes(), &[MARK]].concat()
}

/// Takes the membership off a committed change, and makes of a void one an entry that says nothing. What raft itself
/// proposes has none.
fn open(entry: &mut Entry, now: &ConfState) {
    let Some((own, on)) = parts(&entry.context) else {
        return;
    };
    let void = entry.context[on] != bytes(now);
    entry.context = entry.context.slice(..own);
    if void {
        entry.set_entry_type(EntryType::EntryNormal);
        entry.data = Bytes::new();
    }
}

/// The length of the context, and where the membership is.
fn parts(context: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let end = context.len().checked_sub(END)?;
    let (&MARK, length) = context[end..].split_last()? else {
        return None;
    };
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let own = end.checked_sub(usize::try_from(length).ok()?)?;
    Some((own, own..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
        ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        }
    }

    #[track_caller]
    fn check(context: Vec<u8>, now: &ConfState, (own, void): (&[u8], bool)) {
        let mut entry = Entry {
            context: context.into(),
            data: Bytes::from_static(b"change"),
            ..Entry::default()
        };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        open(&mut entry, now);
        assert_eq!(entry.context, own);
        assert_eq!(entry.data.is_empty(), void);
        assert_eq!(entry.get_entry_type() == EntryType::EntryNormal, void);
    }

    #[test]
    fn a_change_is_of_one_membership() {
        let on = conf(&[1, 2], &[3, 4]);
        check(seal(b"whose", &on), &conf(&[2, 1], &[4, 3]), (b"whose", false));
        check(seal(b"whose", &on), &conf(&[1, 2, 3], &[4]), (b"whose", true));
        check(seal(b"", &on), &conf(&[1, 2], &[3]), (b"", true));
        check(Vec::new(), &on, (b"", false));
        check(
            b"of an older build\0".to_vec(),
            &on,
            (b"of an older build\0", false),
        );
        check(vec![9, 0, 0, 0, MARK], &on, (&[9, 0, 0, 0, MARK], false));
    }
}
