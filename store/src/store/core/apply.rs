//! What committed entries do to the state: it is changed, made visible, compared with the other members', and only then
//! are those answered who asked for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use raft::eraftpb::{Entry, EntryType};

use super::{Action, Core, Fatal, ProposalReply};
use crate::command::{self, Command};
use crate::error::StoreError;
use crate::model::{Event, TxnOutcome};
use crate::planted::{Bug, planted};
use crate::store::agreement::{EVERY, Verdict, Vote};
use crate::witness::is_witness;

impl Core {
    /// What a start replays can be many intervals of the image; the pieces let it move on in between. Not behind the last
    /// one: it may end with a change of the membership, which is told only after it.
    pub(super) fn apply_in_pieces(&mut self, mut entries: Vec<Entry>) -> Result<(), Fatal> {
        loop {
            let rest = entries.split_off(self.trail.room().min(entries.len()));
            self.apply(entries)?;
            if rest.is_empty() {
                if planted(Bug::MembershipBehindImage) {
                    self.advance_image();
                }
                return Ok(());
            }
            self.advance_image();
            entries = rest;
        }
    }

    /// Applies committed entries, makes the result visible, and only then answers.
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), Fatal> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut answers = Vec::new();
        let (count, mut bytes) = (entries.len() as u64, 0);
        for entry in entries {
            (self.applied.index, self.applied.term) = (entry.index, entry.term);
            bytes += entry.data.len() as u64;
            let pending = self
                .own_token(&entry)
                .and_then(|token| self.proposals.remove(&token));
            let outcome = self.apply_one(&entry, &mut events)?;
            answers.extend(pending.map(|pending| (pending.reply, outcome)));
            self.note_digest();
        }
        self.publish(&mut events);
        self.trail.note(&[], count, bytes);
        let counters = &self.shared.counters;
        counters.applied.store(self.applied.index, Ordering::Relaxed);
        counters
            .transactions
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        for answer in answers {
            // A caller that has gone away needs no answer.
            match answer {
                (ProposalReply::Txn(reply), Some(outcome)) => drop(reply.send(outcome)),
                (reply @ ProposalReply::Done(_), Some(Err(error))) => reply.fail(error),
                (ProposalReply::Done(reply), _) => drop(reply.send(Ok(()))),
                (ProposalReply::Txn(_), None) => unreachable!("a transaction has an outcome"),
            }
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        entry: &Entry,
        events: &mut Vec<Arc<Event>>,
    ) -> Result<Option<Result<TxnOutcome, StoreError>>, Fatal> {
        // A change of a membership that is not any more; else a new leader's first entry, or a change of the membership.
        if entry.data.is_empty() && !entry.context.is_empty() {
            let why = "the membership has changed meanwhile";
            return Ok(Some(Err(StoreError::Unavailable(why))));
        }
        if entry.data.is_empty()
            || entry.get_entry_type() != EntryType::EntryNormal
            || is_witness(self.identity.member)
        {
            return Ok(None);
        }
        let index = entry.index;
        match command::decode(&entry.data).map_err(|source| Fatal::Entry { index, source })? {
            Command::Txn(txn) => {
                let applied = self.mvcc.apply(txn);
                events.extend(applied.events);
                return Ok(Some(Ok(applied.outcome)));
            }
            Command::Compact(revision) => {
                if planted(Bug::CompactionForgetsImage) {
                    self.shared
                        .hub
                        .publish(&std::mem::take(events), self.mvcc.snapshot(), self.now);
                }
                self.publish(events);
                self.shared.hub.compact(revision);
            }
            Command::Vote(vote) => self.hear(vote),
            Command::Refused(refusal) => return Ok(Some(Err(refusal.into()))),
        }
        Ok(None)
    }

    fn publish(&mut self, events: &mut Vec<Arc<Event>>) {
        if events.is_empty() {
            return;
        }
        self.trail.note(events, 0, 0);
        self.shared.hub.publish(events, self.mvcc.snapshot(), self.now);
        self.shared.applied.send_replace(self.mvcc.revision());
        events.clear();
    }

    /// What the state adds up to is noted at certain entries; the leader then says it to the others.
    fn note_digest(&mut self) {
        let index = self.applied.index;
        if !index.is_multiple_of(EVERY) || is_witness(self.identity.member) {
            return;
        }
        let digest = self.mvcc.digest();
        self.agreement.note(index, digest);
        let role = self.replica.role();
        if role.leads && !role.alone {
            self.speaks.push(Vote {
                member: self.identity.member,
                index,
                digest,
            });
        }
    }

    fn hear(&mut self, vote: Vote) {
        let me = self.identity.member;
        // A witness holds no state that could agree.
        let mut voters = self.applied.conf_state.voters.clone();
        voters.retain(|voter| !is_witness(*voter));
        match self.agreement.take(vote, me, &voters) {
            Verdict::Fine => (),
            Verdict::Speak(vote) => {
                tracing::error!(index = vote.index, "the members' states differ: all are asked");
                self.speaks.push(vote);
            }
            Verdict::Halt { index } => self.actions.push_back(Action::Halt { index }),
            Verdict::NoMajority { index } => {
                tracing::error!(
                    index,
                    "no majority of the members holds the same state: writes stop"
                );
                self.disagree = true;
            }
        }
    }
}
