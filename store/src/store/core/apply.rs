//! What committed entries do to the state: it is changed, made visible, compared with the other members', and only then
//! are those answered who asked for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use raft::eraftpb::{Entry, EntryType};

use super::waiting::ProposalReply;
use super::{Action, Core, Fatal};
use crate::command::{self, Command};
use crate::error::StoreError;
use crate::model::{Event, Revision, TxnOutcome};
use crate::planted::{Bug, planted};
use crate::store::agreement::{EVERY, Verdict, Vote};
use crate::witness::is_witness;

/// Entries that are applied at once: readers wait for the newest state meanwhile.
const AT_ONCE: usize = 256;

/// What one entry asks for.
pub(super) struct Step {
    index: u64,
    term: u64,
    /// Set when this member proposed it since it started.
    token: Option<u64>,
    /// None for a new leader's first entry and a change of the membership; an error for a change of a membership that is
    /// not any more.
    command: Option<Result<Command, StoreError>>,
}

/// Who waits for an entry, and what became of it.
pub(super) type Answer = (ProposalReply, Option<Result<TxnOutcome, StoreError>>);

fn answer(answer: Answer) {
    // A caller that has gone away needs no answer.
    match answer {
        (ProposalReply::Txn(reply), Some(outcome)) => drop(reply.send(outcome)),
        (reply @ ProposalReply::Done(_), Some(Err(error))) => reply.fail(error),
        (ProposalReply::Done(reply), _) => drop(reply.send(Ok(()))),
        (ProposalReply::Txn(_), None) => unreachable!("a transaction has an outcome"),
    }
}

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
        let mut entries = entries.into_iter().peekable();
        let (mut steps, mut answers) = std::mem::take(&mut self.applying);
        while entries.peek().is_some() {
            let mut bytes = 0;
            for entry in entries.by_ref().take(AT_ONCE) {
                bytes += entry.data.len() as u64;
                steps.push(self.step(&entry)?);
            }
            let count = steps.len() as u64;
            let mut steps = steps.drain(..);
            while steps.len() > 0 {
                self.advance_state(&mut steps, &mut answers);
            }
            self.trail.note(&[], count, bytes);
            let counters = &self.shared.counters;
            counters.applied.store(self.applied.index, Ordering::Relaxed);
            counters
                .transactions
                .fetch_add(answers.len() as u64, Ordering::Relaxed);
            answers.drain(..).for_each(answer);
        }
        self.applying = (steps, answers);
        Ok(())
    }

    /// Takes steps up to the next compaction, if there is one.
    fn advance_state(&mut self, steps: &mut impl ExactSizeIterator<Item = Step>, answers: &mut Vec<Answer>) {
        let mut compacted = None;
        let hub = self.shared.hub.clone();
        let events = hub.advance(self.now, || {
            let mut events = Vec::with_capacity(steps.len());
            for step in steps {
                (self.applied.index, self.applied.term) = (step.index, step.term);
                let outcome = step
                    .command
                    .and_then(|command| self.take_step(command, &mut events, &mut compacted));
                let reply = step.token.and_then(|token| self.waiting.take(token));
                answers.extend(reply.map(|reply| (reply, outcome)));
                self.note_digest();
                if compacted.is_some() {
                    break;
                }
            }
            (events, self.mvcc.snapshot())
        });
        if !events.is_empty() {
            let forgotten = compacted.is_some() && planted(Bug::CompactionForgetsImage);
            self.trail.note(if forgotten { &[] } else { &events }, 0, 0);
            self.shared.applied.send_replace(self.mvcc.revision());
        }
        if let Some(revision) = compacted {
            hub.compact(revision);
        }
    }

    /// What an entry asks for.
    fn step(&self, entry: &Entry) -> Result<Step, Fatal> {
        let index = entry.index;
        let quiet = entry.data.is_empty()
            || entry.get_entry_type() != EntryType::EntryNormal
            || is_witness(self.identity.member);
        let command = if entry.data.is_empty() && !entry.context.is_empty() {
            let why = "the membership has changed meanwhile";
            Some(Err(StoreError::Unavailable(why)))
        } else if quiet {
            None
        } else {
            let command = command::decode(&entry.data);
            Some(Ok(command.map_err(|source| Fatal::Entry { index, source })?))
        };
        Ok(Step {
            index,
            term: entry.term,
            token: self.waiting.own_token(entry),
            command,
        })
    }

    fn take_step(
        &mut self,
        command: Result<Command, StoreError>,
        events: &mut Vec<Arc<Event>>,
        compacted: &mut Option<Revision>,
    ) -> Option<Result<TxnOutcome, StoreError>> {
        match command {
            Ok(Command::Txn(txn)) => {
                let applied = self.mvcc.apply(txn);
                events.extend(applied.events);
                return Some(Ok(applied.outcome));
            }
            Ok(Command::Compact(revision)) => *compacted = Some(revision),
            Ok(Command::Vote(vote)) => self.hear(vote),
            Ok(Command::Refused(refusal)) => return Some(Err(refusal.into())),
            Err(void) => return Some(Err(void)),
        }
        None
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
