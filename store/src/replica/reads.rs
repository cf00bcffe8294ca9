//! Linearizable reads by read-index. All reads that wait share one round; the next round starts when it is answered.
//! `raft` may drop a round without a word (no leader, nothing committed in the term yet), so each has its own
//! time-out, and a change of term or leader starts it again, as does the first commit of a term.

use raft::{RawNode, StateRole};

use super::cache::Cache;

/// Reads that may wait at once.
pub const MAX_WAITING: usize = 16_384;
/// Ticks after which an unanswered round is asked again, about 150 ms.
const RETRY_TICKS: u64 = super::ticks(150);
/// Ticks after which a read fails: who is cut off from the majority says so within 2 s.
const TIMEOUT_TICKS: u64 = super::ticks(1_900);

pub(super) struct Reads {
    member: u64,
    boot: u64,
    /// Rounds asked so far.
    counter: u64,
    now: u64,
    /// `(token, tick it came at)`, for the next round.
    waiting: Vec<(u64, u64)>,
    flight: Option<Flight>,
}

struct Flight {
    context: Vec<u8>,
    reads: Vec<(u64, u64)>,
    term: u64,
    leader: u64,
    asked: u64,
    /// Whether this member knew then that the leader had committed something in its term.
    settled: bool,
}

impl Reads {
    pub fn new(member: u64, boot: u64) -> Self {
        Reads {
            member,
            boot,
            counter: 0,
            now: 0,
            waiting: Vec::new(),
            flight: None,
        }
    }

    /// Gives the token back when too many wait.
    pub fn add(&mut self, token: u64) -> Option<u64> {
        let flying = self.flight.as_ref().map_or(0, |flight| flight.reads.len());
        if self.waiting.len() + flying >= MAX_WAITING {
            return Some(token);
        }
        self.waiting.push((token, self.now));
        None
    }

    /// One tick; returns the reads that waited too long.
    pub fn tick(&mut self) -> Vec<u64> {
        self.now += 1;
        if self
            .flight
            .as_ref()
            .is_some_and(|flight| self.now - flight.asked >= RETRY_TICKS)
        {
            self.ground();
        }
        let now = self.now;
        let mut expired = Vec::new();
        let mut fresh = |reads: &mut Vec<(u64, u64)>| {
            reads.retain(|(token, since)| {
                let late = now - since >= TIMEOUT_TICKS;
                if late {
                    expired.push(*token);
                }
                !late
            });
        };
        fresh(&mut self.waiting);
        if let Some(flight) = &mut self.flight {
            fresh(&mut flight.reads);
        }
        expired
    }

    /// Starts a round when there is something to ask and someone to answer.
    pub fn pump(&mut self, node: &mut RawNode<Cache>) {
        let (term, leader) = (node.raft.term, node.raft.leader_id);
        let settled = node.raft.commit_to_current_term();
        let asks_again = |flight: &Flight| {
            // A new leader drops what it is asked before its first commit: waiting for a time-out would double the gap.
            (flight.term, flight.leader) != (term, leader) || (settled && !flight.settled)
        };
        if self.flight.as_ref().is_some_and(asks_again) {
            self.ground();
        }
        let answerable = match node.raft.state {
            StateRole::Leader => settled,
            _ => leader != raft::INVALID_ID,
        };
        if self.flight.is_some() || self.waiting.is_empty() || !answerable {
            return;
        }
        self.counter += 1;
        let words = [self.member, self.boot, self.counter];
        let context: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let reads = std::mem::take(&mut self.waiting);
        self.flight = Some(Flight {
            context: context.clone(),
            reads,
            term,
            leader,
            asked: self.now,
            settled,
        });
        node.read_index(context);
    }

    /// The reads that `context` answers; none if it is an old round's, or the term or leader changed since.
    pub fn answer(&mut self, node: &RawNode<Cache>, context: &[u8]) -> Option<Vec<u64>> {
        let now = (node.raft.term, node.raft.leader_id);
        let flight = self
            .flight
            .take_if(|flight| flight.context == context && (flight.term, flight.leader) == now)?;
        Some(flight.reads.into_iter().map(|(token, _)| token).collect())
    }

    fn ground(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.waiting.splice(0..0, flight.reads);
        }
    }
}
