//! Proposals on their way into the log: each happens once, whatever becomes of the leader it was sent to.
//!
//! Every entry carries the stamp of who proposed it, in which order, and **under which term**. A leader appends under its
//! own term only, and terms in a log never fall, so two rules that need no memory make a lost leader harmless:
//!
//! - an entry whose stamp names another term than its own is void, on every member ([`Proposals::applied`]);
//! - once an entry of a newer term is applied, a proposal stamped with an older one that has not been seen can never
//!   happen any more: it is proposed again under the new term, and nobody has to be told that its outcome is unknown.
//!
//! What the network repeats is stopped by the leader, which takes each proposer's stamps in growing order
//! ([`Proposals::admit`]): a leader leads its term in one life of its process, so that needs no disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::{Entry, EntryType};

use super::Proposal;
use crate::planted::{Bug, planted};

/// Proposals a member may have on their way.
const MAX_PENDING: usize = 32_768;
/// Proposals that keep their place in memory once they are sent.
const USUAL: usize = 1024;
/// Ticks a proposal waits for a leader before it is dropped: who is cut off from the majority says so within 2 s.
const HELD_TICKS: u64 = super::ticks(1_900);
/// Ticks after which the outcome of a proposal that was sent is called unknown, about 10 s.
const FLIGHT_TICKS: u64 = super::ticks(10_000);
/// Ends every stamp.
const MARK: u8 = 0xc7;
/// term, sequence, member, boot, [`MARK`].
const STAMP: usize = 8 * 4 + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    term: u64,
    /// Grows with everything this proposer sends.
    sequence: u64,
    member: u64,
    boot: u64,
}

impl Stamp {
    /// `context` followed by the stamp.
    fn seal(self, context: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(context.len() + STAMP);
        out.put_slice(context);
        for word in [self.term, self.sequence, self.member, self.boot] {
            out.put_u64_le(word);
        }
        out.put_u8(MARK);
        out.freeze()
    }

    /// The stamp, and the length of the context before it. What raft itself proposes has none.
    fn of(entry: &Entry) -> Option<(Stamp, usize)> {
        let length = entry.context.len().checked_sub(STAMP)?;
        let (MARK, words) = entry.context[length..]
            .split_last()
            .map(|(mark, words)| (*mark, words))?
        else {
            return None;
        };
        let word = |n: usize| u64::from_le_bytes(words[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
        let stamp = Stamp {
            term: word(0),
            sequence: word(1),
            member: word(2),
            boot: word(3),
        };
        Some((stamp, length))
    }
}

#[derive(Debug)]
struct Pending {
    proposal: Proposal,
    /// Tick at which it came.
    since: u64,
}

/// What happened to proposals with time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// Certain never to happen.
    pub dropped: Vec<u64>,
    /// Sent to a leader, and never heard of again.
    pub unknown: Vec<u64>,
}

pub(super) struct Proposals {
    member: u64,
    boot: u64,
    now: u64,
    sequence: u64,
    /// In nobody's log, in order.
    held: VecDeque<Pending>,
    /// Sent, by their sequence; with the term of their stamp.
    flight: BTreeMap<u64, (u64, Pending)>,
    /// The newest term of an applied entry.
    applied_term: u64,
    /// The leader did not take them; asked again with the next tick or the next entry.
    refused: bool,
    /// As a leader: the term, and the newest sequence of each proposer in it.
    admitted: (u64, BTreeMap<(u64, u64), u64>),
}

impl Proposals {
    /// `boot` is different at every start of `member`.
    pub fn new(member: u64, boot: u64) -> Self {
        Proposals {
            member,
            boot,
            now: 0,
            sequence: 0,
            held: VecDeque::new(),
            flight: BTreeMap::new(),
            applied_term: 0,
            refused: false,
            admitted: (0, BTreeMap::new()),
        }
    }

    /// Takes a proposal, or gives its token back when too many are on their way.
    pub fn add(&mut self, proposal: Proposal) -> Result<(), u64> {
        if self.held.len() + self.flight.len() >= MAX_PENDING {
            return Err(proposal.token);
        }
        let since = self.now;
        self.held.push_back(Pending { proposal, since });
        Ok(())
    }

    /// Whether something waits for a leader.
    pub fn waiting(&self) -> bool {
        !self.held.is_empty() && !self.refused
    }

    /// The entries of all that wait, for the leader of `term`.
    pub fn send(&mut self, term: u64) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.held.len());
        for pending in self.held.drain(..) {
            self.sequence += 1;
            let stamp = Stamp {
                term,
                sequence: self.sequence,
                member: self.member,
                boot: self.boot,
            };
            let entry = Entry {
                context: stamp.seal(&pending.proposal.context),
                data: pending.proposal.data.clone(),
                ..Entry::default()
            };
            self.flight.insert(self.sequence, (term, pending));
            entries.push(entry);
        }
        self.held.shrink_to(USUAL);
        entries
    }

    /// The `count` newest were not taken: they wait again.
    pub fn refused(&mut self, count: usize) {
        for _ in 0..count {
            if let Some((_, (_, pending))) = self.flight.pop_last() {
                self.held.push_front(pending);
            }
        }
        self.refused = true;
    }

    /// Which entries of a forwarded proposal the leader of `term` appends.
    pub fn admit(&mut self, term: u64, entry: &Entry) -> bool {
        if planted(Bug::LateCopyHappens) {
            return true;
        }
        let Some((stamp, _)) = Stamp::of(entry) else {
            return true;
        };
        if self.admitted.0 != term {
            self.admitted = (term, BTreeMap::new());
        }
        let newest = self.admitted.1.entry((stamp.member, stamp.boot)).or_insert(0);
        let fresh = stamp.term == term && stamp.sequence > *newest;
        if fresh {
            *newest = stamp.sequence;
        }
        fresh
    }

    /// Looks at a committed entry before it is applied: takes the stamp off, and empties what is void.
    pub fn applied(&mut self, entry: &mut Entry) {
        self.refused = false;
        if entry.term > self.applied_term {
            self.applied_term = entry.term;
            self.hold_older(entry.term);
        }
        if entry.get_entry_type() != EntryType::EntryNormal {
            return;
        }
        let Some((stamp, length)) = Stamp::of(entry) else {
            return;
        };
        if stamp.term != entry.term && !planted(Bug::LateCopyHappens) {
            (entry.context, entry.data) = (Bytes::new(), Bytes::new());
            return;
        }
        entry.context = entry.context.slice(..length);
        if (stamp.member, stamp.boot) == (self.member, self.boot) {
            self.flight.remove(&stamp.sequence);
        }
    }

    /// What was sent under older terms and was not seen is proposed again, oldest first.
    fn hold_older(&mut self, term: u64) {
        let older: Vec<u64> = self
            .flight
            .iter()
            .filter(|(_, (sent, _))| *sent < term)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in older.into_iter().rev() {
            let (_, pending) = self.flight.remove(&sequence).expect("just seen");
            self.held.push_front(pending);
        }
    }

    /// A whole state took the place of entries that were never seen; the newest of them had this `term`. The tokens of the
    /// proposals that may be among them.
    pub fn skipped_to(&mut self, term: u64) -> Vec<u64> {
        let mut unknown = Vec::new();
        self.flight.retain(|_, (sent, pending)| {
            let hidden = *sent <= term;
            if hidden {
                unknown.push(pending.proposal.token);
            }
            !hidden
        });
        self.applied_term = self.applied_term.max(term);
        unknown
    }

    pub fn tick(&mut self) -> Expired {
        self.now += 1;
        self.refused = false;
        let now = self.now;
        let mut expired = Expired::default();
        self.held.retain(|pending| {
            let late = now - pending.since >= HELD_TICKS;
            if late {
                expired.dropped.push(pending.proposal.token);
            }
            !late
        });
        // Sequences grow with time but for what was proposed again, which is few.
        self.flight.retain(|_, (_, pending)| {
            let late = now - pending.since >= FLIGHT_TICKS;
            if late {
                expired.unknown.push(pending.proposal.token);
            }
            !late
        });
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(token: u64) -> Proposal {
        Proposal {
            token,
            context: Bytes::from_static(b"who"),
            data: Bytes::from_static(b"what"),
        }
    }

    fn committed(mut entry: Entry, term: u64) -> Entry {
        entry.term = term;
        entry
    }

    fn noop(term: u64) -> Entry {
        committed(Entry::default(), term)
    }

    #[track_caller]
    fn sent(proposals: &mut Proposals, term: u64, count: usize) -> Vec<Entry> {
        let entries = proposals.send(term);
        assert_eq!(entries.len(), count);
        entries
    }

    #[test]
    fn what_is_applied_under_its_term_is_handed_on_as_it_was_proposed() {
        let mut proposals = Proposals::new(1, 7);
        proposals.add(proposal(1)).expect("room");
        let mut entry = committed(sent(&mut proposals, 3, 1).remove(0), 3);
        proposals.applied(&mut entry);
        assert_eq!((&entry.context[..], &entry.data[..]), (&b"who"[..], &b"what"[..]));
        proposals.applied(&mut noop(4));
        assert!(!proposals.waiting(), "it happened");
    }

    #[test]
    fn what_a_dead_leader_lost_is_proposed_again_in_order_and_once() {
        let mut proposals = Proposals::new(1, 7);
        for token in 1..=3 {
            proposals.add(proposal(token)).expect("room");
        }
        let lost = sent(&mut proposals, 3, 3);
        // The first got through before the leader died.
        proposals.applied(&mut committed(lost[0].clone(), 3));
        assert!(!proposals.waiting());
        proposals.applied(&mut noop(4));
        assert!(proposals.waiting());
        let again = sent(&mut proposals, 4, 2);
        // A copy that arrives late is appended by the new leader, and is void for everyone.
        let mut late = committed(lost[1].clone(), 4);
        proposals.applied(&mut late);
        assert!(late.data.is_empty() && late.context.is_empty());
        for entry in again {
            let mut entry = committed(entry, 4);
            proposals.applied(&mut entry);
            assert!(!entry.data.is_empty());
        }
        proposals.applied(&mut noop(5));
        assert!(!proposals.waiting());
    }

    #[test]
    fn a_leader_takes_each_proposal_once_and_only_those_of_its_term() {
        let (mut follower, mut leader) = (Proposals::new(1, 7), Proposals::new(2, 9));
        follower.add(proposal(1)).expect("room");
        follower.add(proposal(2)).expect("room");
        let entries = sent(&mut follower, 3, 2);
        assert!(leader.admit(3, &entries[0]));
        assert!(!leader.admit(3, &entries[0]), "repeated by the network");
        assert!(leader.admit(3, &entries[1]));
        assert!(!leader.admit(4, &entries[1]), "meant for another leader");
        assert!(leader.admit(4, &Entry::default()), "raft's own");
    }

    #[test]
    fn what_waits_too_long_is_dropped_and_what_was_sent_is_unknown() {
        let mut proposals = Proposals::new(1, 7);
        proposals.add(proposal(1)).expect("room");
        sent(&mut proposals, 3, 1);
        proposals.add(proposal(2)).expect("room");
        let mut expired = Expired::default();
        for _ in 0..FLIGHT_TICKS {
            let now = proposals.tick();
            expired.dropped.extend(now.dropped);
            expired.unknown.extend(now.unknown);
        }
        assert_eq!((expired.dropped, expired.unknown), (vec![2], vec![1]));
        proposals.applied(&mut noop(4));
        assert!(!proposals.waiting(), "nobody waits for it any more");
    }

    #[test]
    fn behind_a_whole_state_nothing_is_known() {
        let mut proposals = Proposals::new(1, 7);
        proposals.add(proposal(1)).expect("room");
        sent(&mut proposals, 3, 1);
        proposals.add(proposal(2)).expect("room");
        sent(&mut proposals, 5, 1);
        assert_eq!(proposals.skipped_to(4), [1]);
        proposals.applied(&mut noop(6));
        assert_eq!(
            sent(&mut proposals, 6, 1)[0].data,
            "what",
            "the other can be repeated"
        );
    }

    #[test]
    fn what_the_leader_refuses_waits_for_a_better_moment() {
        let mut proposals = Proposals::new(1, 7);
        proposals.add(proposal(1)).expect("room");
        sent(&mut proposals, 3, 1);
        proposals.refused(1);
        assert!(!proposals.waiting());
        proposals.tick();
        assert!(proposals.waiting());
    }
}
