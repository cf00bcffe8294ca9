//! When a member wants to lead, beside Raft's own time-outs: soon after the leader's connection broke, and, as a
//! witness, only for the sake of others. Nothing here can do harm: with pre-vote a member that is wrong about the leader
//! asks the others in vain, and changes nothing.

use raft::eraftpb::{Message, MessageType};
use raft::{INVALID_ID, RawNode, StateRole};

use super::ELECTION_TICKS;
use super::cache::Cache;
use crate::witness::is_witness;

/// Ticks after a lost connection in which the others find out too: whoever still hears a leader does not answer.
const NOTICE_TICKS: u64 = 2;
/// Ticks one candidate has before the next one tries, so that two do not split the votes.
const TURN_TICKS: u64 = 3;
/// Entries by which a server may be behind when a witness hands over to it.
const HAND_OVER_LAG: u64 = 256;

/// The tick at which this member campaigns, if it was this leader whose connection broke and no other one is there by then.
/// Everybody has another turn, in the order of ids.
pub(super) fn turn_after(node: &mut RawNode<Cache>, lost: u64, now: u64) -> Option<u64> {
    let raft = &mut node.raft;
    if raft.state != StateRole::Follower || raft.leader_id != lost {
        return None;
    }
    let term = raft.term;
    raft.become_follower(term, INVALID_ID);
    // Who is on its way out votes and leads until the change is over.
    let mut voters: Vec<u64> = raft.prs().conf().voters().ids().iter().collect();
    voters.retain(|id| *id != lost && !is_witness(*id));
    voters.sort_unstable();
    let turn = voters.iter().position(|id| *id == raft.id)?;
    Some(now + NOTICE_TICKS + TURN_TICKS * turn as u64)
}

/// Whether this witness has to lead for a while: somebody who wants to lacks entries that it has.
pub(super) fn is_needed(node: &RawNode<Cache>, message: &Message) -> bool {
    let raft = &node.raft;
    let leaderless = raft.leader_id == INVALID_ID || raft.election_elapsed >= ELECTION_TICKS;
    is_witness(raft.id)
        && message.get_msg_type() == MessageType::MsgRequestPreVote
        && message.term > raft.term
        && raft.state == StateRole::Follower
        && leaderless
        && !raft.raft_log.is_up_to_date(message.index, message.log_term)
}

/// To whom this witness hands the leadership that it has: a server that is `alive` and has caught up. One that is on its way
/// out, too: it may be the only one with a state for those who stay.
pub(super) fn successor(node: &RawNode<Cache>, alive: impl Fn(u64) -> bool) -> Option<u64> {
    let raft = &node.raft;
    if !is_witness(raft.id) || raft.state != StateRole::Leader || raft.lead_transferee.is_some() {
        return None;
    }
    let voters = raft.prs().conf().voters();
    let able = raft.prs().iter().filter(|(id, progress)| {
        !is_witness(**id)
            && voters.contains(**id)
            && alive(**id)
            && progress.matched + HAND_OVER_LAG >= raft.raft_log.last_index()
    });
    let best = able.max_by_key(|(id, progress)| (progress.matched, **id));
    best.map(|(id, _)| *id)
}

/// The newest tick count of an election time-out: a witness waits until all others have had their chance.
pub(super) fn patience(member: u64) -> usize {
    if is_witness(member) {
        3 * ELECTION_TICKS
    } else {
        ELECTION_TICKS
    }
}
