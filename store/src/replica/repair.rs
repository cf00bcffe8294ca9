//! A member whose log is shorter than what it once acknowledged ([`Lost`]). It takes entries and snapshots like a
//! learner, but gives no vote and does not campaign, until its log holds everything that the leader of a term not older
//! than its own had committed when asked. Whatever the member may have acknowledged, and whatever became committed by
//! that, is among it: a leader knows all that older terms committed once it has committed in its own.
//!
//! The other half is the leader's: what it believes about a peer's log only ever grows, so a peer that says its log is
//! shorter has to be believed expressly. Raft would find out with the next two writes (the refusal of an entry behind
//! what it believes makes it probe), and nothing unsafe follows from what it believes, as such a member gives no vote;
//! but in a cluster that is quiet the member would stay without a vote.

use raft::eraftpb::{Message, MessageType};
use raft::{INVALID_ID, ProgressState, RawNode, StateRole};

use super::cache::Cache;
use crate::log::Lost;
use crate::planted::{Bug, planted};

/// Stands for the member's own read among those of its callers.
pub(super) const TOKEN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Repair {
    lost: Lost,
    asked: bool,
    /// What the log has to reach.
    goal: Option<u64>,
}

impl Repair {
    pub fn new(lost: Lost) -> Self {
        Repair {
            lost,
            asked: false,
            goal: None,
        }
    }

    /// Whether the leader is to be asked now how far the log has to reach.
    pub fn asks(&mut self, node: &RawNode<Cache>) -> bool {
        let asks = !self.asked && node.raft.leader_id != INVALID_ID && node.raft.term >= self.lost.term;
        self.asked |= asks;
        asks
    }

    /// Takes the member's own token out of what was answered, or failed.
    pub fn answered(&mut self, tokens: &mut Vec<u64>, index: Option<u64>) {
        let before = tokens.len();
        tokens.retain(|token| *token != TOKEN);
        if tokens.len() < before {
            (self.asked, self.goal) = (index.is_some(), index);
        }
    }

    /// Whether the log holds all it has to, durably: only such entries are applied.
    pub fn done(&self, node: &RawNode<Cache>) -> bool {
        self.goal.is_some_and(|goal| node.raft.raft_log.applied >= goal)
    }
}

/// Whether a member under repair takes no notice of this message.
pub(super) fn ignores(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
    )
}

/// A heartbeat that takes more for granted than the log holds would stop the process. Returns what to tell the leader.
pub(super) fn contradict(node: &RawNode<Cache>, heartbeat: &mut Message) -> Option<Message> {
    let last = node.raft.raft_log.last_index();
    if heartbeat.get_msg_type() != MessageType::MsgHeartbeat || heartbeat.commit <= last {
        return None;
    }
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppendResponse);
    message.to = heartbeat.from;
    message.from = node.raft.id;
    message.term = heartbeat.term;
    message.reject = true;
    message.index = heartbeat.commit;
    message.reject_hint = last;
    heartbeat.commit = last;
    (heartbeat.term >= node.raft.term).then_some(message)
}

/// A peer refuses entries because its log is shorter than this leader believes: believed from now on. A message that
/// was only late costs one round of probing, nothing else: what is committed stays committed.
pub(super) fn believe(node: &mut RawNode<Cache>, refusal: &mut Message) {
    let current = node.raft.state == StateRole::Leader && refusal.term == node.raft.term;
    if refusal.get_msg_type() != MessageType::MsgAppendResponse || !refusal.reject || !current {
        return;
    }
    let Some(progress) = node.raft.mut_prs().get_mut(refusal.from) else {
        return;
    };
    let known = progress.state == ProgressState::Snapshot || progress.matched <= refusal.reject_hint;
    if known || planted(Bug::ShorterLogNotBelieved) {
        return;
    }
    tracing::warn!(
        peer = refusal.from,
        believed = progress.matched,
        last = refusal.reject_hint,
        "a peer's log is shorter than it was"
    );
    progress.matched = 0;
    progress.become_probe();
    progress.next_idx = refusal.reject_hint + 1;
    refusal.index = refusal.reject_hint;
}
