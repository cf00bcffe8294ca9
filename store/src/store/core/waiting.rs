//! Who waits for what: for an entry to be applied, or for a read to be confirmed. Each is known by a token; the entries
//! that this member proposed carry theirs.

use std::collections::BTreeMap;

use raft::eraftpb::Entry;

use crate::error::StoreError;
use crate::model::{Revision, TxnOutcome};
use crate::planted::{Bug, planted};
use crate::store::queue::Reply;

/// Ticks after which a change of the membership without an outcome is called ambiguous, about 12 s. Of everything else the
/// replica says what became of it.
const PROPOSAL_TIMEOUT_TICKS: u64 = 400;

/// Who waits for an entry.
pub(super) enum ProposalReply {
    Txn(Reply<TxnOutcome>),
    /// A compaction, or a change of the membership.
    Done(Reply<()>),
}

impl ProposalReply {
    pub fn fail(self, error: StoreError) {
        // A caller that has gone away needs no answer.
        match self {
            ProposalReply::Txn(reply) => drop(reply.send(Err(error))),
            ProposalReply::Done(reply) => drop(reply.send(Err(error))),
        }
    }
}

struct Pending {
    reply: ProposalReply,
    /// The tick at which it was proposed.
    since: u64,
}

/// All who wait.
pub(super) struct Waiting {
    /// Marks this member's own entries; different at every start.
    mark: [u8; 16],
    next_token: u64,
    proposals: BTreeMap<u64, Pending>,
    barriers: BTreeMap<u64, Reply<Revision>>,
    /// `(index, tokens)`: barriers that wait for `index` to be applied.
    confirmed: Vec<(u64, Vec<u64>)>,
}

impl Waiting {
    pub fn new(mark: [u8; 16]) -> Self {
        Self {
            mark,
            next_token: 1,
            proposals: BTreeMap::new(),
            barriers: BTreeMap::new(),
            confirmed: Vec::new(),
        }
    }

    /// One that was never given before.
    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Notes who waits for an entry from the tick `now` on; its token, and the context by which the entry is known again.
    pub fn proposal(&mut self, reply: ProposalReply, now: u64) -> (u64, Vec<u8>) {
        let token = self.token();
        let mut context = Vec::with_capacity(24);
        context.extend_from_slice(&self.mark);
        context.extend_from_slice(&token.to_le_bytes());
        self.proposals.insert(token, Pending { reply, since: now });
        (token, context)
    }

    /// The token of an entry that this member proposed since it started.
    pub fn own_token(&self, entry: &Entry) -> Option<u64> {
        let token = entry.context.strip_prefix(&self.mark[..])?;
        Some(u64::from_le_bytes(token.try_into().ok()?))
    }

    /// Who waits for the entry of `token`, and from now on does not.
    pub fn take(&mut self, token: u64) -> Option<ProposalReply> {
        Some(self.proposals.remove(&token)?.reply)
    }

    /// Proposals that wait too long may still happen: their outcome is unknown.
    pub fn expire(&mut self, now: u64) {
        while let Some(oldest) = self.proposals.first_entry()
            && now.saturating_sub(oldest.get().since) >= PROPOSAL_TIMEOUT_TICKS
        {
            oldest
                .remove()
                .reply
                .fail(StoreError::Ambiguous("no leader confirmed it in time"));
        }
    }

    /// These proposals will not happen.
    pub fn dropped(&mut self, tokens: &[u64]) {
        for reply in tokens.iter().filter_map(|token| self.take(*token)) {
            reply.fail(StoreError::Unavailable(
                "there is no leader, or it has too much to do",
            ));
        }
    }

    /// Nobody will say whether these proposals happen.
    pub fn unknown(&mut self, tokens: &[u64]) {
        for reply in tokens.iter().filter_map(|token| self.take(*token)) {
            reply.fail(if planted(Bug::UnknownToldDropped) {
                StoreError::Unavailable("there is no leader")
            } else {
                StoreError::Ambiguous("no leader confirmed it in time")
            });
        }
    }

    /// Notes who waits for a read to be confirmed; its token.
    pub fn barrier(&mut self, reply: Reply<Revision>) -> u64 {
        let token = self.token();
        self.barriers.insert(token, reply);
        token
    }

    /// These reads are as new as they must be once `index` is applied.
    pub fn confirmed(&mut self, index: u64, tokens: Vec<u64>) {
        self.confirmed.push((index, tokens));
    }

    /// Answers the reads that are confirmed up to `applied`, with the revision as of it.
    pub fn answer_barriers(&mut self, applied: u64, revision: Revision) {
        let barriers = &mut self.barriers;
        self.confirmed.retain(|(index, tokens)| {
            if *index > applied && !planted(Bug::ReadBeforeApply) {
                return true;
            }
            for reply in tokens.iter().filter_map(|token| barriers.remove(token)) {
                // A caller that has gone away needs no answer.
                let _ = reply.send(Ok(revision));
            }
            false
        });
    }

    /// These reads were confirmed by nobody.
    pub fn unconfirmed(&mut self, tokens: &[u64]) {
        for reply in tokens.iter().filter_map(|token| self.barriers.remove(token)) {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(StoreError::Unavailable(
                "no leader confirmed the read in time",
            )));
        }
    }

    /// Answers everybody who still waits: the store closes.
    pub fn close(&mut self) {
        while let Some((_, pending)) = self.proposals.pop_first() {
            pending.reply.fail(StoreError::Ambiguous("the store closed"));
        }
        while let Some((_, reply)) = self.barriers.pop_first() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(StoreError::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn a_read_waits_for_the_entry_it_must_see() {
        let mut waiting = Waiting::new([1; 16]);
        let (reply, mut answer) = oneshot::channel();
        let token = waiting.barrier(reply);
        waiting.answer_barriers(9, Revision(9));
        assert!(answer.try_recv().is_err());
        waiting.confirmed(10, vec![token]);
        waiting.answer_barriers(9, Revision(9));
        assert!(answer.try_recv().is_err());
        waiting.answer_barriers(11, Revision(12));
        let answer = answer.try_recv().expect("answered").expect("confirmed");
        assert_eq!(answer, Revision(12));
    }

    #[test]
    fn a_proposal_without_an_outcome_ends_in_time() {
        let mut waiting = Waiting::new([1; 16]);
        let (reply, mut answer) = oneshot::channel();
        let (token, context) = waiting.proposal(ProposalReply::Done(reply), 7);
        waiting.expire(6 + PROPOSAL_TIMEOUT_TICKS);
        assert!(answer.try_recv().is_err());
        waiting.expire(7 + PROPOSAL_TIMEOUT_TICKS);
        let answer = answer.try_recv().expect("answered");
        assert!(matches!(answer, Err(StoreError::Ambiguous(_))));
        assert!(waiting.take(token).is_none());
        let entry = Entry {
            context: context.into(),
            ..Entry::default()
        };
        assert_eq!(waiting.own_token(&entry), Some(token));
        assert_eq!(Waiting::new([2; 16]).own_token(&entry), None);
    }
}
