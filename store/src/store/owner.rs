//! The one thread that owns the replica and the state machine: it takes requests in batches, performs what the replica
//! asks for, and answers. While one fsync runs, proposals gather in the queue for the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry};
use tokio::sync::watch as tokio_watch;

use super::imager::Imager;
use super::queue::{Depth, Reply, Request};
use super::status::{Counters, Membership};
use crate::command::{self, Command, CommandError};
use crate::error::StoreError;
use crate::image::trail::Trail;
use crate::image::{Batch, ImageError, Meta};
use crate::log::{Append, Base, Log, LogError};
use crate::model::{Event, Revision, TxnOutcome};
use crate::mvcc::Mvcc;
use crate::replica::{Input, Output, Proposal, Replica, Role};
use crate::transport::Transport;
use crate::tree::Snapshot;
use crate::watch::Hub;

/// Proposals that one fsync makes durable, at most.
const MAX_BATCH: usize = 1024;
/// Bytes of proposals that one fsync makes durable (one proposal may be larger).
const MAX_BATCH_BYTES: usize = 8 << 20;
/// One tick of Raft's time. Only members with peers tick.
const TICK: Duration = Duration::from_millis(100);
/// States of snapshots kept for transfers that have not started.
const MAX_OFFERED: usize = 2;
/// Ticks after which a proposal without an outcome is called ambiguous.
const PROPOSAL_TIMEOUT_TICKS: u64 = 100;
/// The same for proposals that went to a leader before the one now known: what has not happened yet hardly will.
const OLD_LEADER_TICKS: u64 = 3;

/// Why the process must stop: what is on disk is not known, or not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fatal {
    #[error("write the log")]
    Log(#[from] LogError),
    #[error("write the state image")]
    Image(#[from] ImageError),
    #[error("committed entry {index} is damaged")]
    Entry { index: u64, source: CommandError },
    /// Raft accepts a snapshot only from the message that brought its state.
    #[error("a snapshot came without its state")]
    Snapshot,
}

/// What the thread shares with the handles.
#[derive(Clone)]
pub(super) struct Shared {
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
    pub depth: Arc<Depth>,
    pub applied: tokio_watch::Sender<Revision>,
}

pub(super) struct Owner<L> {
    replica: Replica,
    log: L,
    mvcc: Mvcc,
    trail: Trail,
    imager: Imager,
    transport: Box<dyn Transport>,
    shared: Shared,
    /// The newest applied entry, and the membership as of it.
    applied: Base,
    /// Marks this member's own entries; different at every start.
    mark: [u8; 16],
    next_token: u64,
    proposals: BTreeMap<u64, Pending>,
    barriers: BTreeMap<u64, Reply<Revision>>,
    /// `(index, tokens)`: barriers that wait for `index` to be applied.
    confirmed: Vec<(u64, Vec<u64>)>,
    /// The states of the snapshots that were offered to peers, until their transfer starts.
    offered: VecDeque<(u64, Snapshot)>,
    /// The state that came with the snapshot message in the replica's hands.
    arrived: Option<Snapshot>,
    ticks: u64,
    started: Instant,
}

struct Pending {
    reply: ProposalReply,
    since: u64,
}

enum ProposalReply {
    Txn(Reply<TxnOutcome>),
    /// A compaction, or a change of the membership.
    Done(Reply<()>),
}

impl ProposalReply {
    fn fail(self, error: StoreError) {
        // A caller that has gone away needs no answer.
        match self {
            ProposalReply::Txn(reply) => drop(reply.send(Err(error))),
            ProposalReply::Done(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Everything an owner starts from.
pub(super) struct Parts<L> {
    pub replica: Replica,
    pub log: L,
    pub mvcc: Mvcc,
    pub trail: Trail,
    pub imager: Imager,
    pub transport: Box<dyn Transport>,
    pub shared: Shared,
    pub applied: Base,
    pub mark: [u8; 16],
}

impl<L: Log> Owner<L> {
    pub fn new(parts: Parts<L>) -> Self {
        let Parts {
            replica,
            log,
            mvcc,
            trail,
            imager,
            transport,
            shared,
            applied,
            mark,
        } = parts;
        shared
            .counters
            .log_bytes
            .store(log.disk_bytes(), Ordering::Relaxed);
        shared.counters.member.store(replica.id(), Ordering::Relaxed);
        shared
            .counters
            .image_applied
            .store(applied.index, Ordering::Relaxed);
        let owner = Owner {
            replica,
            log,
            mvcc,
            trail,
            imager,
            transport,
            shared,
            applied,
            mark,
            next_token: 1,
            proposals: BTreeMap::new(),
            barriers: BTreeMap::new(),
            confirmed: Vec::new(),
            offered: VecDeque::new(),
            arrived: None,
            ticks: PROPOSAL_TIMEOUT_TICKS,
            started: Instant::now(),
        };
        owner.note_members(&owner.applied.conf_state);
        owner
    }

    /// Applies what the log holds. A member without peers leads when this returns.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn start(&mut self) -> Result<(), Fatal> {
        let outputs = self.replica.step([]);
        self.perform(outputs)?;
        if self.replica.sole_voter() {
            let outputs = self.replica.step([Input::Campaign]);
            self.perform(outputs)?;
        }
        Ok(())
    }

    /// Serves requests until the store is closed.
    ///
    /// # Errors
    /// See [`Fatal`]; nothing may be answered after it.
    pub fn run(&mut self, requests: &Receiver<Request>) -> Result<(), Fatal> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let Some((batch, ticked)) = self.gather(requests, &mut next_tick) else {
                break;
            };
            let close = self.serve(batch, ticked)?;
            if close {
                break;
            }
        }
        self.finish(requests)
    }

    /// Waits for the first request, or a tick, and takes what else is there.
    fn gather(&self, requests: &Receiver<Request>, next_tick: &mut Instant) -> Option<(Vec<Request>, bool)> {
        let mut batch = Vec::new();
        // Alone, nothing depends on time: the thread sleeps until somebody asks.
        let first = if self.replica.role().alone {
            *next_tick = Instant::now() + TICK;
            requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            requests.recv_timeout(next_tick.saturating_duration_since(Instant::now()))
        };
        let mut bytes = 0;
        match first {
            Ok(request) => {
                let mut next = Some(request);
                while let Some(request) = next {
                    bytes += request.bytes();
                    self.shared.depth.leave(&request);
                    batch.push(request);
                    let full = batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES;
                    next = if full { None } else { requests.try_recv().ok() };
                }
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        let ticked = Instant::now() >= *next_tick;
        if ticked {
            // After a pause of the process, one tick is enough: time that nobody saw proves nothing.
            *next_tick = Instant::now() + TICK;
        }
        Some((batch, ticked))
    }

    /// Serves one batch; whether the store is to close.
    fn serve(&mut self, batch: Vec<Request>, ticked: bool) -> Result<bool, Fatal> {
        let mut inputs = Vec::new();
        let mut proposals = Vec::new();
        let mut close = false;
        if ticked {
            self.ticks += 1;
            self.expire();
            inputs.push(Input::Tick);
        }
        for request in batch {
            match request {
                Request::Txn { data, reply } => {
                    proposals.push(self.proposal(data, ProposalReply::Txn(reply)))
                }
                Request::Compact { data, reply } => {
                    proposals.push(self.proposal(data, ProposalReply::Done(reply)))
                }
                Request::Conf { change, reply } => {
                    let (token, context) = self.pending(ProposalReply::Done(reply));
                    inputs.push(Input::ProposeConf {
                        token,
                        context: context.into(),
                        change,
                    });
                }
                Request::Message(message) => inputs.push(Input::Message(message)),
                Request::Install { message, state } => {
                    // A step of its own: what the replica says about a snapshot is about this one.
                    let outputs = self.replica.step(std::mem::take(&mut inputs));
                    self.perform(outputs)?;
                    self.arrived = Some(state);
                    let outputs = self.replica.step([Input::Message(message)]);
                    self.perform(outputs)?;
                    self.arrived = None;
                }
                Request::Unreachable(peer) => inputs.push(Input::Unreachable(peer)),
                Request::SnapshotSent { to, ok } => inputs.push(Input::SnapshotSent { to, ok }),
                Request::Transfer(peer) => inputs.push(Input::Transfer(peer)),
                Request::Barrier { reply } => {
                    let token = self.token();
                    self.barriers.insert(token, reply);
                    inputs.push(Input::Read { token });
                }
                Request::ImageWritten(written) => self.image_written(written?, &mut inputs)?,
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
        Ok(close)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn proposal(&mut self, data: Vec<u8>, reply: ProposalReply) -> Proposal {
        let (token, context) = self.pending(reply);
        Proposal {
            token,
            context: context.into(),
            data: data.into(),
        }
    }

    /// Notes who waits for an entry; its token, and the context by which the entry is known again.
    fn pending(&mut self, reply: ProposalReply) -> (u64, Vec<u8>) {
        let token = self.token();
        let mut context = Vec::with_capacity(24);
        context.extend_from_slice(&self.mark);
        context.extend_from_slice(&token.to_le_bytes());
        self.proposals.insert(
            token,
            Pending {
                reply,
                since: self.ticks,
            },
        );
        (token, context)
    }

    /// The token of an entry that this member proposed since it started.
    fn own_token(&self, entry: &Entry) -> Option<u64> {
        let token = entry.context.strip_prefix(&self.mark[..])?;
        Some(u64::from_le_bytes(token.try_into().ok()?))
    }

    /// Proposals that wait too long may still happen: their outcome is unknown.
    fn expire(&mut self) {
        while let Some(oldest) = self.proposals.first_entry()
            && self.ticks.saturating_sub(oldest.get().since) >= PROPOSAL_TIMEOUT_TICKS
        {
            oldest
                .remove()
                .reply
                .fail(StoreError::Ambiguous("no leader confirmed it in time"));
        }
    }

    fn perform(&mut self, outputs: Vec<Output>) -> Result<(), Fatal> {
        let mut outputs = std::collections::VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Persist(batch) => outputs.extend(self.persist(batch)?),
                Output::Apply(entries) => self.apply_in_pieces(entries)?,
                Output::Send { to, message } => self.transport.send(to, message),
                Output::Conf { index, conf_state } => {
                    debug_assert!(index <= self.applied.index);
                    self.note_members(&conf_state);
                    self.applied.conf_state = conf_state;
                }
                Output::ReadReady { tokens, index } => self.confirmed.push((index, tokens)),
                Output::ReadFailed { tokens } => self.fail_barriers(&tokens),
                Output::Dropped { tokens } => self.drop_proposals(&tokens),
                Output::Fetch(fetch) => {
                    let entries = self
                        .log
                        .entries(fetch.low, fetch.high, fetch.max_bytes)
                        .unwrap_or_default();
                    outputs.extend(self.replica.step([Input::Fetched { fetch, entries }]));
                }
                Output::SendSnapshot { to, index, message } => self.send_snapshot(to, index, message),
                Output::NeedSnapshot { index } => outputs.extend(self.offer_snapshot(index)),
                Output::Install(snapshot) => self.install(&snapshot)?,
                Output::Role(role) => self.note_role(role),
            }
        }
        self.answer_barriers();
        self.advance_image();
        Ok(())
    }

    /// The state now stands for a snapshot at the applied index; its bytes are made only when a transfer starts.
    fn offer_snapshot(&mut self, index: u64) -> Vec<Output> {
        if self.applied.index < index {
            tracing::warn!(index, "a peer needs a snapshot of what is not applied yet");
            return Vec::new();
        }
        let mut snapshot = raft::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.applied.index, self.applied.term);
        metadata.set_conf_state(self.applied.conf_state.clone());
        self.offered.push_back((self.applied.index, self.mvcc.snapshot()));
        if self.offered.len() > MAX_OFFERED {
            self.offered.pop_front();
        }
        self.replica.step([Input::Offer(snapshot)])
    }

    fn send_snapshot(&mut self, to: u64, index: u64, message: Bytes) {
        let state = self.offered.iter().find(|(offered, _)| *offered == index);
        match state {
            Some((_, state)) => self.transport.send_snapshot(to, message, state.clone()),
            // Raft keeps the last snapshot it was offered; the next try gets a fresh one.
            None => self.transport.snapshot_lost(to),
        }
    }

    /// Replaces the whole state by the one that came with a snapshot: on disk, then for everyone to see.
    fn install(&mut self, snapshot: &raft::eraftpb::Snapshot) -> Result<(), Fatal> {
        let state = self.arrived.take().ok_or(Fatal::Snapshot)?;
        let metadata = snapshot.get_metadata();
        let base = Base {
            index: metadata.index,
            term: metadata.term,
            conf_state: metadata.get_conf_state().clone(),
        };
        let meta = Meta::of_installed(self.log.state().identity, base.clone(), &state);
        let bytes = self.imager.write_now(Batch {
            replace: true,
            puts: state.tree.iter().cloned().collect(),
            deletes: Vec::new(),
            meta: meta.clone(),
        })?;
        self.trail.restart(meta);
        self.mvcc = Mvcc::restore(state.clone());
        self.applied = base;
        let counters = &self.shared.counters;
        counters.image_bytes.store(bytes, Ordering::Relaxed);
        counters
            .image_applied
            .store(self.applied.index, Ordering::Relaxed);
        counters.applied.store(self.applied.index, Ordering::Relaxed);
        counters.installed.fetch_add(1, Ordering::Relaxed);
        // Last, for whoever waits for it looks at the counters next.
        self.shared.hub.install(state);
        self.shared.applied.send_replace(self.mvcc.revision());
        Ok(())
    }

    fn note_members(&self, conf_state: &ConfState) {
        *self.shared.counters.members.lock() = Membership {
            voters: conf_state.voters.clone(),
            learners: conf_state.learners.clone(),
            joint: !conf_state.voters_outgoing.is_empty(),
        };
    }

    fn persist(&mut self, batch: Append) -> Result<Vec<Output>, Fatal> {
        let counters = &self.shared.counters;
        counters
            .entries
            .fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        let durable = self.log.append(batch)?;
        counters.fsyncs.store(self.log.fsyncs(), Ordering::Relaxed);
        Ok(self.replica.step([Input::Persisted(durable)]))
    }

    /// What a start replays can be many intervals of the image; the pieces let it move on in between.
    fn apply_in_pieces(&mut self, mut entries: Vec<Entry>) -> Result<(), Fatal> {
        while !entries.is_empty() {
            let rest = entries.split_off(self.trail.room().min(entries.len()));
            self.apply(entries)?;
            self.advance_image();
            entries = rest;
        }
        Ok(())
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
            // A new leader's first entry, or a membership change.
            if entry.data.is_empty() || entry.get_entry_type() != raft::eraftpb::EntryType::EntryNormal {
                answers.extend(pending.map(|pending| (pending.reply, None)));
                continue;
            }
            let outcome = match command::decode(&entry.data) {
                Ok(Command::Txn(txn)) => {
                    let applied = self.mvcc.apply(txn);
                    events.extend(applied.events);
                    Some(applied.outcome)
                }
                Ok(Command::Compact(revision)) => {
                    self.publish(&mut events);
                    self.shared.hub.compact(revision);
                    None
                }
                Err(source) => {
                    return Err(Fatal::Entry {
                        index: entry.index,
                        source,
                    });
                }
            };
            answers.extend(pending.map(|pending| (pending.reply, outcome)));
        }
        self.trail.note(&events, count, bytes);
        self.publish(&mut events);
        let counters = &self.shared.counters;
        counters.applied.store(self.applied.index, Ordering::Relaxed);
        counters
            .transactions
            .fetch_add(answers.len() as u64, Ordering::Relaxed);
        for answer in answers {
            // A caller that has gone away needs no answer.
            match answer {
                (ProposalReply::Txn(reply), Some(outcome)) => drop(reply.send(Ok(outcome))),
                (ProposalReply::Done(reply), _) => drop(reply.send(Ok(()))),
                (ProposalReply::Txn(_), None) => unreachable!("a transaction has an outcome"),
            }
        }
        Ok(())
    }

    fn publish(&mut self, events: &mut Vec<Arc<Event>>) {
        if events.is_empty() {
            return;
        }
        self.shared
            .hub
            .publish(events, self.mvcc.snapshot(), self.started.elapsed());
        self.shared.applied.send_replace(self.mvcc.revision());
        events.clear();
    }

    fn answer_barriers(&mut self) {
        let applied = self.applied.index;
        let barriers = &mut self.barriers;
        let revision = self.mvcc.revision();
        self.confirmed.retain(|(index, tokens)| {
            if *index > applied {
                return true;
            }
            for reply in tokens.iter().filter_map(|token| barriers.remove(token)) {
                // A caller that has gone away needs no answer.
                let _ = reply.send(Ok(revision));
            }
            false
        });
    }

    fn fail_barriers(&mut self, tokens: &[u64]) {
        for reply in tokens.iter().filter_map(|token| self.barriers.remove(token)) {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(StoreError::Unavailable(
                "no leader confirmed the read in time",
            )));
        }
    }

    fn drop_proposals(&mut self, tokens: &[u64]) {
        for pending in tokens.iter().filter_map(|token| self.proposals.remove(token)) {
            pending.reply.fail(StoreError::Unavailable(
                "there is no leader, or it has too much to do",
            ));
        }
    }

    fn note_role(&mut self, role: Role) {
        let counters = &self.shared.counters;
        let before = counters.leader.load(Ordering::Relaxed);
        if role.leader != 0 && role.leader != before {
            let latest = self
                .ticks
                .saturating_sub(PROPOSAL_TIMEOUT_TICKS - OLD_LEADER_TICKS);
            for pending in self.proposals.values_mut() {
                pending.since = pending.since.min(latest);
            }
        }
        counters.alone.store(role.alone, Ordering::Release);
        counters.term.store(role.term, Ordering::Relaxed);
        counters.leader.store(role.leader, Ordering::Relaxed);
    }

    fn advance_image(&mut self) {
        if self.trail.due()
            && let Some(batch) = self.trail.advance(self.mvcc.snapshot(), self.applied.clone())
        {
            self.imager.write(batch);
        }
    }

    fn image_written(&mut self, bytes: u64, inputs: &mut Vec<Input>) -> Result<(), Fatal> {
        let base = self.trail.written();
        self.log.cut(base.clone())?;
        let counters = &self.shared.counters;
        counters.image_bytes.store(bytes, Ordering::Relaxed);
        counters.image_applied.store(base.index, Ordering::Relaxed);
        counters.log_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
        inputs.push(Input::Cut(base));
        Ok(())
    }

    /// Answers everybody who still waits and leaves the disk in order.
    fn finish(&mut self, requests: &Receiver<Request>) -> Result<(), Fatal> {
        self.imager.stop();
        for request in requests.try_iter() {
            match request {
                Request::ImageWritten(written) => self.image_written(written?, &mut Vec::new())?,
                other => other.refuse(),
            }
        }
        if let Some(hard_state) = self.replica.take_unsaved() {
            self.log.append(Append {
                hard_state: Some(hard_state),
                ..Append::default()
            })?;
        }
        while let Some((_, pending)) = self.proposals.pop_first() {
            pending.reply.fail(StoreError::Ambiguous("the store closed"));
        }
        while let Some((_, reply)) = self.barriers.pop_first() {
            // A caller that has gone away needs no answer.
            let _ = reply.send(Err(StoreError::Closed));
        }
        Ok(())
    }
}

/// The context that marks this member's own proposals.
pub(super) fn mark(member: u64, boot: u64) -> [u8; 16] {
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&member.to_le_bytes());
    mark[8..].copy_from_slice(&boot.to_le_bytes());
    mark
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::image::memory::MemoryImage;
    use crate::image::trail::Interval;
    use crate::log::Identity;
    use crate::log::memory::{Disk, MemoryLog};
    use crate::model::{Op, Txn};
    use crate::replica::Start;
    use crate::store::queue::Queue;
    use crate::store::recovery::{Recovered, founder, recover};
    use crate::transport::NoPeers;

    fn owner(disk: &Disk, queue: &Queue) -> Owner<MemoryLog> {
        let (identity, base) = founder(Identity {
            cluster: 1,
            member: 2,
        });
        let mut log = MemoryLog::open(disk, identity, base);
        let mut image = MemoryImage::default();
        let Recovered {
            log: state,
            image: meta,
            state: snapshot,
            entries,
        } = recover(&mut log, &mut image, std::path::Path::new("memory")).expect("fits");
        let Meta { base: applied, .. } = meta.clone();
        let start = Start {
            log: state,
            applied: applied.clone(),
            entries,
            boot: 1,
            seed: 1,
        };
        let shared = Shared {
            hub: Arc::new(Hub::new(snapshot.clone(), crate::history::Limits::default(), 10)),
            counters: Arc::default(),
            depth: queue.depth().clone(),
            applied: tokio_watch::channel(Revision::INITIAL).0,
        };
        Owner::new(Parts {
            replica: Replica::new(start),
            log,
            mvcc: Mvcc::restore(snapshot),
            trail: Trail::new(meta, Interval::default()),
            imager: Imager::start(image, queue.sender()).expect("a thread"),
            transport: Box::new(NoPeers),
            shared,
            applied,
            mark: mark(2, 1),
        })
    }

    fn put(queue: &Queue, key: &'static str) -> oneshot::Receiver<Result<TxnOutcome, StoreError>> {
        let op = Op::Put {
            key: key.into(),
            value: "v".into(),
        };
        let (reply, answer) = oneshot::channel();
        let data = command::encode_txn(&Txn::new(vec![], vec![op]));
        queue.send(Request::Txn { data, reply }).expect("there is room");
        answer
    }

    #[test]
    fn what_gathered_while_the_thread_was_busy_shares_one_fsync() {
        let (queue, requests) = Queue::new();
        let mut owner = owner(&Disk::default(), &queue);
        owner.start().expect("start");
        let before = owner.log.fsyncs();
        let answers: Vec<_> = ["a", "b", "c", "d"].map(|key| put(&queue, key)).into();
        queue.close();
        owner.run(&requests).expect("run");
        // One for the batch, one for the commit index when the store closes.
        assert_eq!(owner.log.fsyncs() - before, 2);
        for (n, mut answer) in answers.into_iter().enumerate() {
            let Ok(Ok(TxnOutcome::Committed { revision, .. })) = answer.try_recv() else {
                panic!("committed")
            };
            assert_eq!(revision.0, n as u64 + 2);
        }
    }

    #[test]
    fn nothing_is_answered_after_a_failed_fsync() {
        let (disk, (queue, requests)) = (Disk::default(), Queue::new());
        let mut owner = owner(&disk, &queue);
        owner.start().expect("start");
        disk.break_down();
        let mut answer = put(&queue, "a");
        assert!(matches!(owner.run(&requests), Err(Fatal::Log(_))));
        assert!(answer.try_recv().is_err(), "neither success nor failure is known");
        assert!(owner.shared.hub.snapshot().is_empty(), "and nothing is visible");
    }

    #[test]
    fn a_member_alone_needs_no_ticks() {
        let (queue, _requests) = Queue::new();
        let mut owner = owner(&Disk::default(), &queue);
        assert!(!owner.replica.role().alone);
        owner.start().expect("start");
        assert!(owner.replica.role().alone);
        assert!(owner.shared.counters.alone.load(Ordering::Relaxed));
    }
}
