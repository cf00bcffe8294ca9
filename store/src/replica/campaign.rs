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
/// Ticks for which it is tried again, about 2 s; then Raft's own time-outs have to do.
const TRY_TICKS: u64 = 66;
/// Entries by which a server may be behind when a witness hands over to it.
const HAND_OVER_LAG: u64 = 256;

/// When this member asks for votes, because the connection over which its leader's messages came has broken: everybody who
/// can lead has turns of its own, in the order of ids, until somebody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    next: u64,
    every: u64,
    end: u64,
}

impl Turns {
    /// Of the member in this `place` of `all` who can lead.
    fn new(place: usize, all: usize, now: u64) -> Turns {
        Turns {
            next: now + NOTICE_TICKS + TURN_TICKS * place as u64,
            every: TURN_TICKS * all as u64,
            end: now + TRY_TICKS,
        }
    }

    /// Whether it is this member's turn; the next one comes later.
    pub fn is_due(&mut self, now: u64) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
        }
        due
    }

    /// Somebody else asks, who can win: it is given the time to.
    fn wait(&mut self, now: u64) {
        self.next = self.next.max(now + 2 * TURN_TICKS);
    }

    pub fn are_over(&self, now: u64) -> bool {
        self.end <= now
    }
}

/// This member's turns, if it was the leader whose connection broke.
pub(super) fn turns_after(node: &mut RawNode<Cache>, lost: u64, now: u64) -> Option<Turns> {
    let raft = &mut node.raft;
    if raft.state != StateRole::Follower || raft.leader_id != lost {
        return None;
    }
    let term = raft.term;
    raft.become_follower(term, INVALID_ID);
    // Who is on its way out votes and leads until the change is over.
    let mut able: Vec<u64> = raft.prs().conf().voters().ids().iter().collect();
    able.retain(|id| *id != lost && !is_witness(*id));
    able.sort_unstable();
    let place = able.iter().position(|id| *id == raft.id)?;
    Some(Turns::new(place, able.len(), now))
}

/// Whether this member has to ask for votes at once, for somebody does who lacks entries that it has: a server to save the
/// time until its own turn, a witness to lead for a while. Who lacks nothing is given the time to win.
pub(super) fn is_needed(
    node: &RawNode<Cache>,
    message: &Message,
    turns: Option<&mut Turns>,
    now: u64,
) -> bool {
    let raft = &node.raft;
    let leaderless = raft.leader_id == INVALID_ID || raft.election_elapsed >= ELECTION_TICKS;
    if message.get_msg_type() != MessageType::MsgRequestPreVote || message.term <= raft.term || !leaderless {
        return false;
    }
    if raft.raft_log.is_up_to_date(message.index, message.log_term) {
        if let Some(turns) = turns {
            turns.wait(now);
        }
        return false;
    }
    raft.state == StateRole::Follower
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asks_for_votes_in_the_turn_of_another() {
        let mut all: Vec<Turns> = (0..3).map(|place| Turns::new(place, 3, 100)).collect();
        let mut asked = Vec::new();
        for now in 100..100 + TRY_TICKS {
            let due = all
                .iter_mut()
                .enumerate()
                .filter_map(|(place, turns)| turns.is_due(now).then_some(place));
            asked.extend(due.map(|place| (now, place)));
        }
        assert_eq!(asked[..4], [(102, 0), (105, 1), (108, 2), (111, 0)]);
        let alone = asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= TURN_TICKS);
        assert!(alone, "{asked:?}");
        assert!(all[0].are_over(100 + TRY_TICKS));
    }

    #[test]
    fn who_can_win_is_given_the_time_to() {
        let mut turns = Turns::new(1, 2, 100);
        turns.wait(104);
        assert!(!turns.is_due(105));
        assert!(turns.is_due(110));
        assert!(!turns.is_due(115));
        assert!(turns.is_due(116));
    }
}
