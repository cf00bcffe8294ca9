//! What a member of the store decides: requests, messages, ticks and finished writes go in; what to write, send and cut
//! comes out as [`Action`]s, answers and published events. The same inputs always give the same outputs. Knows no
//! thread, no clock, no disk and no network: [`super::owner`] runs it on real ones, the simulator on fake ones.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod apply;
mod snapshots;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry};
use tokio::sync::watch as tokio_watch;

use super::agreement::{Agreement, Vote};
use super::pressure::{Refusal, refuse};
use super::queue::Request;
use super::scrub::{Piece, Place};
use super::settled::Settled;
use super::status::{Counters, Membership, Standing};
use crate::command::{self, CommandError};
use crate::error::StoreError;
use crate::image::trail::Trail;
use crate::image::{Batch, ImageError};
use crate::log::{Append, Base, Durable, Identity, LogError};
use crate::model::{Revision, Txn};
use crate::mvcc::Mvcc;
use crate::planted::{Bug, planted};
use crate::replica::{Fetch, Input, Output, Proposal, Replica, Role};
use crate::space::{self, Full};
use crate::tree::Snapshot;
use crate::watch::Hub;
use crate::witness::is_witness;
use waiting::{ProposalReply, Waiting};

/// Why the process must stop: what is on disk is not known, or not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error("write the log")]
    Log(#[from] LogError),
    #[error("write the state image")]
    Image(#[from] ImageError),
    #[error("committed entry {index} is damaged")]
    Entry { index: u64, source: CommandError },
    /// A majority of the members holds another state than this one, which has put its own aside.
    #[error(
        "the state as of entry {index} differs from that of the majority: it is fetched from the others at the next start"
    )]
    Diverged { index: u64 },
    /// Raft accepts a snapshot only from the message that brought its state.
    #[error("a snapshot came without its state")]
    Snapshot,
}

/// What the core asks of its shell, to be begun in this order.
#[derive(Debug)]
pub enum Action {
    /// Make it durable in one atomic write; then give the proof to [`Core::persisted`].
    Append(Append),
    /// Replace the image, durably, before any later [`Action::Append`] is.
    ReplaceImage(Batch),
    /// Write the image; the answer comes as a request. Only one is under way at a time.
    WriteImage(Batch),
    /// The same, into a new file that takes the place of the old one once it is whole.
    RewriteImage(Batch),
    /// Read a piece of what is at rest. Damage of the log goes to [`Core::log_damaged`].
    Scrub {
        place: Place,
        done: SyncSender<Piece>,
    },
    /// Forget the log's entries up to here. May be lost in a crash.
    Cut(Base),
    /// Note durably whether there are other members; see [`crate::log::Log::note_peers`].
    NotePeers(bool),
    /// Put log and image aside, durably, and stop with [`Fatal::Diverged`]; see [`super::recovery::forget`].
    Halt {
        index: u64,
    },
    /// Note durably that the log holds everything again; see [`crate::log::Log::note_loss`].
    NoteRepaired,
    /// Read entries back from the log and give them to [`Core::fetched`].
    Fetch(Fetch),
    Send {
        to: u64,
        message: Bytes,
    },
    /// Transfer a whole state with the message that belongs to it; see [`crate::Transport::send_snapshot`].
    SendSnapshot {
        to: u64,
        message: Bytes,
        state: Snapshot,
    },
    /// See [`crate::Transport::snapshot_lost`].
    SnapshotLost {
        to: u64,
    },
}

/// What the core shares with the handles.
#[derive(Clone)]
pub(super) struct Shared {
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
    pub applied: tokio_watch::Sender<Revision>,
}

pub struct Core {
    replica: Replica,
    identity: Identity,
    mvcc: Mvcc,
    trail: Trail,
    shared: Shared,
    /// The newest applied entry, and the membership as of it.
    applied: Base,
    waiting: Waiting,
    /// The states of the snapshots that were offered to peers, until their transfer starts.
    offered: VecDeque<(u64, Snapshot)>,
    agreement: Agreement,
    /// Votes of this member on their way into the log.
    speaks: Vec<Vote>,
    settled: Settled,
    /// The members hold different states, and none of them is a majority's.
    disagree: bool,
    /// There is too little room on the disk.
    full: Option<Full>,
    /// A record of the log up to here is damaged on disk.
    damaged: Option<u64>,
    /// The image is damaged on disk.
    image_damaged: bool,
    /// See [`super::Config::vital`].
    vital: &'static [&'static str],
    /// The state that came with the snapshot message in the replica's hands.
    arrived: Option<Snapshot>,
    ticks: u64,
    /// As of the last step.
    now: Duration,
    /// Empty: memory for the next entries.
    applying: (Vec<apply::Step>, Vec<apply::Answer>),
    /// What the replica has said and is not done yet, in order.
    outputs: VecDeque<Output>,
    actions: VecDeque<Action>,
}

/// Everything a core starts from.
pub(super) struct Parts {
    pub replica: Replica,
    pub identity: Identity,
    pub mvcc: Mvcc,
    pub trail: Trail,
    pub shared: Shared,
    pub applied: Base,
    pub mark: [u8; 16],
    pub vital: &'static [&'static str],
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            replica,
            identity,
            mvcc,
            trail,
            shared,
            applied,
            mark,
            vital,
        } = parts;
        shared.counters.member.store(replica.id(), Ordering::Relaxed);
        shared
            .counters
            .image_applied
            .store(applied.index, Ordering::Relaxed);
        let settled = Settled::new(replica.committed(), applied.index);
        let core = Core {
            replica,
            identity,
            mvcc,
            trail,
            shared,
            applied,
            waiting: Waiting::new(mark),
            offered: VecDeque::new(),
            agreement: Agreement::default(),
            speaks: Vec::new(),
            settled,
            disagree: false,
            full: None,
            damaged: None,
            image_damaged: false,
            vital,
            arrived: None,
            ticks: 0,
            now: Duration::ZERO,
            applying: Default::default(),
            outputs: VecDeque::new(),
            actions: VecDeque::new(),
        };
        core.note_members(&core.applied.conf_state);
        core
    }

    /// Applies what the log holds. A member without peers leads once its first actions are done.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn start(&mut self) -> Result<(), Fatal> {
        // A crash may have come between a membership and its note. That there are none is no news: they may be forgotten.
        if self.has_peers(&self.applied.conf_state) {
            self.actions.push_back(Action::NotePeers(true));
        }
        let outputs = self.replica.step([]);
        self.perform(outputs)?;
        if self.replica.sole_voter() {
            let outputs = self.replica.step([Input::Campaign]);
            self.perform(outputs)?;
        }
        Ok(())
    }

    fn has_peers(&self, conf_state: &ConfState) -> bool {
        let members = [
            &conf_state.voters,
            &conf_state.learners,
            &conf_state.voters_outgoing,
        ];
        let me = self.identity.member;
        members.into_iter().flatten().any(|id| *id != me)
    }

    /// The next thing to do, in order. Asked until there is none.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn next_action(&mut self) -> Result<Option<Action>, Fatal> {
        if self.actions.is_empty() && !self.outputs.is_empty() {
            self.go_on(true)?;
        }
        Ok(self.actions.pop_front())
    }

    /// Whether this member is all there is: then it needs no ticks.
    pub fn alone(&self) -> bool {
        self.replica.role().alone
    }

    /// Where this member stands.
    pub fn role(&self) -> Role {
        self.replica.role()
    }

    /// The newest applied entry, and the membership as of it.
    pub fn applied(&self) -> &Base {
        &self.applied
    }

    /// Whether there is too little room on the disk. While there is, nothing that grows is taken from anybody, and the image
    /// moves on with every write, so that what is deleted leaves the disk.
    pub fn note_room(&mut self, full: Option<Full>) {
        self.full = full;
        self.damaged.take_if(|index| *index <= self.trail.image_index());
        self.trail.hurry(full.is_some() || self.damaged.is_some());
    }

    /// A record of the log is not as it was written. All that was applied is in memory: once the image holds it, the log
    /// up to here is cut, and the damage with it.
    pub fn log_damaged(&mut self) {
        tracing::error!(
            upto = self.applied.index,
            "the log is damaged on disk: the image takes over what it held"
        );
        self.shared.counters.damages.fetch_add(1, Ordering::Relaxed);
        self.damaged = Some(self.applied.index);
        self.trail.hurry(true);
        self.advance_image();
    }

    /// Why no write is taken now, or none that grows.
    fn refusal(&self) -> Option<Refusal> {
        let behind = self.trail.too_far_behind().map(|behind| Refusal::Log { behind });
        let full = self
            .full
            .map(|Full { free, reserve }| Refusal::Disk { free, reserve });
        behind.or(full)
    }

    /// Whether a transaction is taken in spite of it.
    fn takes(&self, refusal: Refusal, txn: &Txn) -> bool {
        matches!(refusal, Refusal::Disk { .. }) && space::fits(txn, &self.mvcc.snapshot(), self.vital)
    }

    /// A batch is on disk.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn persisted(&mut self, durable: Durable) -> Result<(), Fatal> {
        self.settled.persisted();
        let outputs = self.replica.step([Input::Persisted(durable)]);
        self.perform(outputs)
    }

    /// The entries of [`Action::Fetch`]; none when the log failed to give them.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn fetched(&mut self, fetch: Fetch, entries: Vec<Entry>) -> Result<(), Fatal> {
        let outputs = self.replica.step([Input::Fetched { fetch, entries }]);
        self.perform(outputs)
    }

    /// Serves one batch, and a tick of time if one has passed; whether the store is to close. `now` is the time since
    /// the start.
    pub(super) fn serve(
        &mut self,
        now: Duration,
        batch: impl ExactSizeIterator<Item = Request>,
        ticked: bool,
    ) -> Result<bool, Fatal> {
        self.now = now;
        let mut inputs = Vec::new();
        let mut proposals = Vec::with_capacity(batch.len());
        let mut arrived = Vec::new();
        let mut close = false;
        let refusal = self.refusal();
        if ticked {
            self.ticks += 1;
            self.waiting.expire(self.ticks);
            inputs.push(Input::Tick);
        }
        for request in batch {
            match request {
                Request::Txn { reply, .. } if self.trail.too_far_behind().is_some() => {
                    let bytes = self.trail.too_far_behind().unwrap_or_default();
                    // A caller that has gone away needs no answer.
                    let _ = reply.send(Err(StoreError::LogFull { bytes }));
                }
                Request::Txn { reply, .. } if self.disagree => {
                    // A caller that has gone away needs no answer.
                    let _ = reply.send(Err(StoreError::Unavailable(
                        "the members hold different states, and no majority holds the same: restore a backup",
                    )));
                }
                Request::Txn { reply, .. } if is_witness(self.identity.member) => {
                    // A caller that has gone away needs no answer.
                    let _ = reply.send(Err(StoreError::Unavailable("a witness takes no writes")));
                }
                Request::Txn { data, reply } => {
                    proposals.push(self.proposal(data, ProposalReply::Txn(reply)))
                }
                Request::Compact { data, reply } => {
                    proposals.push(self.proposal(data, ProposalReply::Done(reply)))
                }
                Request::Conf { change, reply } => {
                    let (token, context) = self.waiting.proposal(ProposalReply::Done(reply), self.ticks);
                    inputs.push(Input::ProposeConf {
                        token,
                        context: context.into(),
                        change,
                    });
                }
                Request::Message(message) => {
                    let refused = refusal.and_then(|why| refuse(&message, why, |txn| self.takes(why, txn)));
                    inputs.push(Input::Message(refused.unwrap_or(message)));
                }
                Request::Install { message, state } => arrived.push((message, state)),
                Request::Unreachable(peer) => inputs.push(Input::Unreachable(peer)),
                Request::Lost(peer) => inputs.push(Input::Lost(peer)),
                Request::SnapshotSent { to, ok } => inputs.push(Input::SnapshotSent { to, ok }),
                Request::Transfer(peer) => inputs.push(Input::Transfer(peer)),
                Request::Barrier { reply } => {
                    let token = self.waiting.barrier(reply);
                    inputs.push(Input::Read { token });
                }
                Request::ImageWritten(written) => self.image_written(written?, &mut inputs),
                Request::Scrub { place, done } => self.actions.push_back(Action::Scrub { place, done }),
                Request::ImageDamaged => {
                    tracing::error!("the image is damaged on disk: it is written anew");
                    self.shared.counters.damages.fetch_add(1, Ordering::Relaxed);
                    self.image_damaged = true;
                }
                Request::Close => close = true,
            }
        }
        let largest = proposals.len() as u64;
        self.shared
            .counters
            .largest_batch
            .fetch_max(largest, Ordering::Relaxed);
        inputs.push(Input::Propose(proposals));
        let outputs = self.replica.step(inputs);
        self.perform(outputs)?;
        for (message, state) in arrived {
            // A step of its own: what the replica says about a snapshot is about this one.
            self.arrived = Some(state);
            let outputs = self.replica.step([Input::Message(message)]);
            self.outputs.extend(outputs);
            self.go_on(false)?;
            self.arrived = None;
        }
        if ticked {
            self.note_standing();
        }
        Ok(close)
    }

    fn proposal(&mut self, data: Vec<u8>, reply: ProposalReply) -> Proposal {
        let (token, context) = self.waiting.proposal(reply, self.ticks);
        Proposal {
            token,
            context: context.into(),
            data: data.into(),
        }
    }

    fn perform(&mut self, outputs: Vec<Output>) -> Result<(), Fatal> {
        self.outputs.extend(outputs);
        self.go_on(true)
    }

    /// Does what the replica has said. What others wait for is sent first, if `send_first`: the peers apply a batch while this
    /// member does.
    fn go_on(&mut self, send_first: bool) -> Result<(), Fatal> {
        while let Some(output) = self.outputs.pop_front() {
            if send_first && matches!(output, Output::Apply(_)) && self.only_sends() {
                self.outputs.push_front(output);
                return Ok(());
            }
            match output {
                Output::Persist(batch) => {
                    #[cfg(feature = "planted")]
                    if planted(Bug::AcknowledgeBeforeFsync) {
                        let durable = Durable::unproven(batch.number);
                        let early = self.replica.step([Input::Persisted(durable)]);
                        self.outputs.extend(early);
                    }
                    self.settled.append(&batch);
                    self.actions.push_back(Action::Append(batch));
                }
                Output::Apply(entries) => self.apply_in_pieces(entries)?,
                Output::Send { to, message } => self.actions.push_back(Action::Send { to, message }),
                Output::Conf { index, conf_state } => {
                    debug_assert!(index <= self.applied.index);
                    self.settled.changed(index);
                    self.note_members(&conf_state);
                    let peers = self.has_peers(&conf_state);
                    self.actions.push_back(Action::NotePeers(peers));
                    self.applied.conf_state = conf_state;
                    self.note_standing();
                }
                Output::ReadReady { tokens, index } => self.waiting.confirmed(index, tokens),
                Output::ReadFailed { tokens } => self.waiting.unconfirmed(&tokens),
                Output::Dropped { tokens } => self.waiting.dropped(&tokens),
                Output::Unknown { tokens } => self.waiting.unknown(&tokens),
                Output::Fetch(fetch) => self.actions.push_back(Action::Fetch(fetch)),
                Output::SendSnapshot { to, index, message } => self.send_snapshot(to, index, message),
                Output::NeedSnapshot { index } => {
                    let offered = self.offer_snapshot(index);
                    self.outputs.extend(offered);
                }
                Output::Install(snapshot) => self.install(&snapshot)?,
                Output::Repaired => self.actions.push_back(Action::NoteRepaired),
                Output::Role(role) => self.note_role(role),
            }
            if !self.speaks.is_empty() {
                let spoken = self.speak();
                self.outputs.extend(spoken);
            }
        }
        self.waiting
            .answer_barriers(self.applied.index, self.mvcc.revision());
        self.advance_image();
        Ok(())
    }

    /// Whether there is something to send, and nothing to wait for.
    fn only_sends(&self) -> bool {
        let sends = |action: &Action| matches!(action, Action::Send { .. });
        !self.actions.is_empty() && self.actions.iter().all(sends)
    }

    fn speak(&mut self) -> Vec<Output> {
        let votes = std::mem::take(&mut self.speaks);
        let proposals = votes.into_iter().map(|vote| Proposal {
            token: self.waiting.token(),
            // Nobody waits for it.
            context: Bytes::new(),
            data: command::encode_vote(vote).into(),
        });
        let proposals = proposals.collect();
        self.replica.step([Input::Propose(proposals)])
    }

    fn note_members(&self, conf_state: &ConfState) {
        *self.shared.counters.members.lock() = Membership {
            voters: conf_state.voters.clone(),
            learners: conf_state.learners.clone(),
            joint: !conf_state.voters_outgoing.is_empty(),
        };
    }

    /// Tells who leads, who takes part and, as the leader, how far everyone is.
    fn note_standing(&self) {
        let role = self.replica.role();
        let standing = Standing {
            member: self.identity.member,
            term: role.term,
            leader: Some(role.leader).filter(|leader| *leader != 0),
            leads: role.leads,
            repairing: self.replica.is_repairing(),
            last_index: self.replica.last_index(),
            membership: self.settled.index(),
            members: self.shared.counters.members.lock().clone(),
            progress: if role.leads {
                self.replica.progress()
            } else {
                Vec::new()
            },
        };
        self.shared.counters.standing.send_if_modified(|told| {
            let news = *told != standing;
            if news {
                *told = standing;
            }
            news
        });
    }

    fn note_role(&mut self, role: Role) {
        let counters = &self.shared.counters;
        let before = counters.leader.swap(role.leader, Ordering::Relaxed);
        if before != role.leader {
            let (member, leader) = (
                format!("{:x}", self.identity.member),
                format!("{:x}", role.leader),
            );
            tracing::info!(
                member,
                leader,
                term = role.term,
                "the leader of the members changed"
            );
        }
        counters.alone.store(role.alone, Ordering::Release);
        counters.term.store(role.term, Ordering::Relaxed);
        self.note_standing();
    }

    fn advance_image(&mut self) {
        if self.image_damaged && !self.trail.writing() {
            self.image_damaged = false;
            let batch = self.trail.rewrite(&self.mvcc.snapshot(), self.applied.clone());
            self.actions.push_back(Action::RewriteImage(batch));
        }
        while self.trail.due() {
            let batch = self.trail.advance(self.mvcc.snapshot(), self.applied.clone());
            self.actions.extend(batch.map(Action::WriteImage));
        }
    }

    fn image_written(&mut self, bytes: u64, inputs: &mut Vec<Input>) {
        let base = self.trail.written();
        let cut = if planted(Bug::CutTooFar) {
            self.applied.clone()
        } else {
            base.clone()
        };
        self.actions.push_back(Action::Cut(cut));
        let counters = &self.shared.counters;
        counters.image_bytes.store(bytes, Ordering::Relaxed);
        counters.image_applied.store(base.index, Ordering::Relaxed);
        inputs.push(Input::Cut(base));
    }

    /// The image's last batch was written while the store closed.
    pub(super) fn image_written_last(&mut self, bytes: u64) {
        self.image_written(bytes, &mut Vec::new());
    }

    /// Answers everybody who still waits; afterwards the last actions are left to do.
    pub(super) fn finish(&mut self) {
        if let Some(hard_state) = self.replica.take_unsaved() {
            self.actions.push_back(Action::Append(Append {
                hard_state: Some(hard_state),
                ..Append::default()
            }));
        }
        self.waiting.close();
    }
}

/// The context that marks this member's own proposals.
pub(super) fn mark(member: u64, boot: u64) -> [u8; 16] {
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&member.to_le_bytes());
    if !planted(Bug::OneMarkForAllLives) {
        mark[8..].copy_from_slice(&boot.to_le_bytes());
    }
    mark
}
