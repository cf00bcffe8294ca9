//! One Raft member without IO: inputs in, outputs out, and the same inputs always give the same outputs. Messages to
//! peers leave as opaque bytes, batches leave to be persisted, committed entries leave to be applied; what happens to
//! them is the shell's business. Nothing here assumes one member.
//!
//! `raft` 0.7 has pitfalls that are fenced here: its unsafe defaults ([`raft_config`]), its random election timeouts
//! (drawn from a seed instead), reads that it drops silently ([`reads`]), and messages that may only leave once a batch
//! is on disk (held until the log's [`Durable`] token comes back), and proposals that vanish with a leader ([`proposals`]).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod cache;
mod campaign;
mod change;
mod logger;
mod outbox;
mod probe;
mod proposals;
mod reads;
mod repair;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, HardState, Message, MessageType, Snapshot};
use raft::{Config, GetEntriesContext, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};

use crate::log::{Append, Base, Durable, LogState};
use crate::planted::{Bug, planted};
use crate::store::Progress;
use crate::witness::is_witness;
use cache::Cache;
use campaign::Turns;
use outbox::Outbox;
use proposals::Proposals;
use reads::Reads;
use repair::Repair;

/// One tick of Raft's time. Only members with peers tick.
pub const TICK: Duration = Duration::from_millis(30);
/// Ticks without a leader before an election, at least; at most twice as many.
pub const ELECTION_TICKS: usize = 10;
/// Ticks between two heartbeats.
pub const HEARTBEAT_TICKS: usize = 1;
/// Entries of one message to a peer, in bytes (one entry may be larger).
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Messages under way to one peer.
const MAX_INFLIGHT_MESSAGES: usize = 256;
/// Entries proposed and not committed, in bytes; more proposals are dropped.
const MAX_UNCOMMITTED_BYTES: u64 = 128 << 20;
/// Committed entries handed out at once, in bytes.
const MAX_COMMITTED_BYTES: u64 = 16 << 20;

/// Ticks of about so many milliseconds.
const fn ticks(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(TICK.as_millis() as u64)
}

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct Start {
    pub log: LogState,
    /// What the state machine holds already: the image's base, or the log's.
    pub applied: Base,
    /// All entries after `applied`.
    pub entries: Vec<Entry>,
    /// Different at every start of this member: makes read contexts unique.
    pub boot: u64,
    /// Election timeouts are drawn from it.
    pub seed: u64,
}

/// One thing to write into the log, once. `token` comes back when it is dropped or its outcome is unknown; the entry
/// carries `context` to whoever applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub token: u64,
    pub context: Bytes,
    pub data: Bytes,
}

#[derive(Debug)]
pub enum Input {
    /// One tick of time has passed.
    Tick,
    /// A message from a peer.
    Message(Bytes),
    Propose(Vec<Proposal>),
    /// A change of the membership; the entry carries `context`, and `token` comes back when it is dropped.
    ProposeConf {
        token: u64,
        context: Bytes,
        change: ConfChangeV2,
    },
    /// Asks this peer to take over as the leader.
    Transfer(u64),
    /// Asks for the index that a linearizable read has to wait for.
    Read {
        token: u64,
    },
    Campaign,
    /// A batch is on disk.
    Persisted(Durable),
    /// The entries asked for with [`Output::Fetch`]; empty when the log failed to give them.
    Fetched {
        fetch: Fetch,
        entries: Vec<Entry>,
    },
    /// The log was cut.
    Cut(Base),
    /// A snapshot for peers that are too far behind for the log.
    Offer(Snapshot),
    /// A message to this peer could not be sent.
    Unreachable(u64),
    /// The connection over which this peer's messages came has ended, as it does when its process dies.
    Lost(u64),
    /// How the transfer of a snapshot to this peer ended; nothing else is sent to it before.
    SnapshotSent {
        to: u64,
        ok: bool,
    },
}

#[derive(Debug, PartialEq)]
pub enum Output {
    Send {
        to: u64,
        message: Bytes,
    },
    /// The message that goes with a snapshot of the state as of `index`; the state travels beside it. Answered with
    /// [`Input::SnapshotSent`].
    SendSnapshot {
        to: u64,
        index: u64,
        message: Bytes,
    },
    /// Make it durable in one atomic write; then give the token back with [`Input::Persisted`].
    Persist(Append),
    /// Replace the state machine's state, durably, before the [`Output::Persist`] that follows.
    Install(Snapshot),
    /// Committed, in order, each entry once.
    Apply(Vec<Entry>),
    /// The membership as of this entry.
    Conf {
        index: u64,
        conf_state: ConfState,
    },
    /// Reads may be answered once `index` is applied.
    ReadReady {
        tokens: Vec<u64>,
        index: u64,
    },
    /// No leader confirmed in time.
    ReadFailed {
        tokens: Vec<u64>,
    },
    /// These proposals will never happen.
    Dropped {
        tokens: Vec<u64>,
    },
    /// These proposals may have happened, or may happen yet: nobody will ever know.
    Unknown {
        tokens: Vec<u64>,
    },
    /// A peer needs entries that are only on disk.
    Fetch(Fetch),
    /// A peer needs a snapshot at `index` or later; see [`Input::Offer`].
    NeedSnapshot {
        index: u64,
    },
    /// What the log had lost is there again, durably.
    Repaired,
    Role(Role),
}

/// Entries to read back from the log.
#[derive(Debug)]
pub struct Fetch {
    pub low: u64,
    pub high: u64,
    pub max_bytes: u64,
    context: GetEntriesContext,
}

impl PartialEq for Fetch {
    fn eq(&self, other: &Self) -> bool {
        (self.low, self.high) == (other.low, other.high)
    }
}

/// Where this member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub term: u64,
    /// 0 when unknown.
    pub leader: u64,
    pub leads: bool,
    /// Leads, has committed in its term, and is the only voter with nobody to replicate to: needs no ticks, and what it
    /// has published is all there is.
    pub alone: bool,
}

pub struct Replica {
    node: RawNode<Cache>,
    reads: Reads,
    proposals: Proposals,
    outbox: Outbox,
    /// While the log misses what this member may have acknowledged.
    repair: Option<Repair>,
    /// Batches on their way to the disk, oldest first, with the messages that wait for them.
    outstanding: VecDeque<(u64, Vec<Message>)>,
    /// A commit index alone is not worth an fsync; it goes with the next batch.
    unsaved: Option<HardState>,
    /// `(batch, index)` of a snapshot on its way to the disk. Until it is there Raft's view of what is applied contradicts the
    /// storage's, so nothing else may happen.
    installing: Option<(u64, u64)>,
    role: Role,
    seed: u64,
    now: u64,
    /// The tick at which each peer was last heard.
    heard: BTreeMap<u64, u64>,
    /// When this member campaigns, until there is a leader.
    turns: Option<Turns>,
}

/// The configuration with none of the unsafe defaults.
fn raft_config(id: u64, applied: u64) -> Config {
    Config {
        id,
        applied,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
        check_quorum: true,
        pre_vote: true,
        // Never `LeaseBased`: it is unsafe when a clock stops or jumps.
        read_only_option: if planted(Bug::LeaseRead) {
            ReadOnlyOption::LeaseBased
        } else {
            ReadOnlyOption::Safe
        },
        max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
        max_committed_size_per_ready: MAX_COMMITTED_BYTES,
        max_election_tick: campaign::patience(id) + ELECTION_TICKS,
        ..Config::default()
    }
}

impl Replica {
    /// # Panics
    /// If `start` contradicts itself; the shell checks that log and image fit together first.
    pub fn new(start: Start) -> Self {
        let id = start.log.identity.member;
        let config = raft_config(id, start.applied.index);
        config
            .validate()
            .expect("the constants above make a valid configuration");
        let cache = Cache::new(&start);
        let node =
            RawNode::new(&config, cache, &logger::logger()).expect("the log and the image fit together");
        Replica {
            node,
            reads: Reads::new(id, start.boot),
            proposals: Proposals::new(id, start.boot),
            outbox: Outbox::default(),
            repair: start.log.lost.map(Repair::new),
            outstanding: VecDeque::new(),
            unsaved: None,
            installing: None,
            role: Role::default(),
            seed: start.seed,
            now: 0,
            heard: BTreeMap::new(),
            turns: None,
        }
    }

    pub fn id(&self) -> u64 {
        self.node.raft.id
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// What is committed, as far as this member knows.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The newest entry of the log.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// How far every member is, as a leader knows it.
    pub fn progress(&self) -> Vec<Progress> {
        let progress = self.node.raft.prs().iter().map(|(id, progress)| Progress {
            member: *id,
            matched: progress.matched,
            alive: self.is_alive(*id),
        });
        let mut all: Vec<Progress> = progress.collect();
        all.sort_by_key(|progress| progress.member);
        all
    }

    /// Whether its log misses what it may have acknowledged.
    pub fn is_repairing(&self) -> bool {
        self.repair.is_some()
    }

    /// Whether this member is the only voter.
    pub fn sole_voter(&self) -> bool {
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        conf_state.voters == [self.id()] && conf_state.voters_outgoing.is_empty()
    }

    /// The only way in. An empty vector of inputs is allowed and collects what a start left over.
    pub fn step(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
        let mut out = Vec::new();
        for input in inputs {
            self.take(input, &mut out);
        }
        self.drain(&mut out);
        out
    }

    /// The hard state that was not worth an fsync of its own; to be written when the store closes.
    pub fn take_unsaved(&mut self) -> Option<HardState> {
        self.unsaved.take()
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            // A lost tick or message is nothing new to Raft.
            Input::Tick | Input::Message(_) | Input::Campaign | Input::Transfer(_) | Input::Lost(_)
                if self.installing.is_some() => {}
            Input::ProposeConf { token, .. } if self.installing.is_some() => {
                out.push(Output::Dropped { tokens: vec![token] });
            }
            Input::Campaign | Input::Transfer(_) | Input::Lost(_) if self.repair.is_some() => {}
            Input::Transfer(peer) if is_witness(peer) => {}
            Input::Tick => self.tick(out),
            Input::Message(bytes) => self.message(&bytes, out),
            Input::Propose(proposals) => self.propose(proposals, out),
            Input::ProposeConf {
                token,
                context,
                change,
            } => self.propose_conf(token, &context, change, out),
            Input::Transfer(peer) => self.node.transfer_leader(peer),
            Input::Read { token } => {
                if let Some(refused) = self.reads.add(token) {
                    out.push(Output::ReadFailed {
                        tokens: vec![refused],
                    });
                }
            }
            Input::Campaign => self.campaign(),
            Input::Lost(peer) => {
                self.turns = campaign::turns_after(&mut self.node, peer, self.now).or(self.turns);
            }
            Input::Persisted(durable) => self.persisted(durable.number(), out),
            Input::Fetched { fetch, entries } => {
                self.node.mut_store().offer_fetched(entries);
                self.node.on_entries_fetched(fetch.context);
                self.node.mut_store().offer_fetched(Vec::new());
            }
            Input::Cut(base) => self.node.mut_store().cut(base),
            Input::Offer(snapshot) => self.node.mut_store().offer_snapshot(snapshot),
            Input::Unreachable(peer) => self.node.report_unreachable(peer),
            Input::SnapshotSent { to, ok } => {
                let status = if ok {
                    SnapshotStatus::Finish
                } else {
                    SnapshotStatus::Failure
                };
                self.node.report_snapshot(to, status);
            }
        }
    }

    /// Who has no vote must not ask: Raft looks at that only in its own time-outs, and a member that was removed would panic
    /// when it won.
    fn campaign(&mut self) {
        if !self.node.raft.promotable() {
            return;
        }
        let (term, last) = (self.node.raft.term, self.last_index());
        tracing::debug!(term, last, "asks for votes");
        if let Err(error) = self.node.campaign() {
            tracing::warn!(%error, "cannot campaign");
        }
    }

    /// Campaigns when it is this member's turn; hands over what a witness should not have.
    fn take_turn(&mut self) {
        let (raft, now) = (&self.node.raft, self.now);
        let led = raft.leader_id != raft::INVALID_ID;
        self.turns.take_if(|turns| led || turns.are_over(now));
        // Whoever has got so far as to ask for votes that count is not disturbed: they wait for disks.
        let asks = matches!(raft.state, StateRole::Follower | StateRole::PreCandidate);
        if asks && self.turns.as_mut().is_some_and(|turns| turns.is_due(now)) {
            self.campaign();
        }
        if let Some(peer) = campaign::successor(&self.node, |id| self.is_alive(id)) {
            self.node.transfer_leader(peer);
        }
    }

    /// Whether a peer was heard within the shortest election time-out.
    fn is_alive(&self, id: u64) -> bool {
        let silent = self.heard.get(&id).map(|heard| self.now - heard);
        id == self.id() || silent.is_some_and(|ticks| ticks <= ELECTION_TICKS as u64)
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        self.now += 1;
        if self.repair.is_none() {
            self.node.tick();
            self.take_turn();
        }
        let mut expired = self.reads.tick();
        if let Some(repair) = &mut self.repair {
            repair.answered(&mut expired, None);
        }
        if !expired.is_empty() {
            out.push(Output::ReadFailed { tokens: expired });
        }
        let expired = self.proposals.tick();
        if !expired.dropped.is_empty() {
            let tokens = expired.dropped;
            out.push(Output::Dropped { tokens });
        }
        if !expired.unknown.is_empty() {
            let tokens = expired.unknown;
            out.push(Output::Unknown { tokens });
        }
        // Raft may forget to leave a joint configuration when its leader steps down at the wrong moment.
        let joint = !self
            .node
            .raft
            .prs()
            .conf()
            .to_conf_state()
            .voters_outgoing
            .is_empty();
        if joint && self.node.raft.state == StateRole::Leader && !self.node.raft.has_pending_conf() {
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
        }
    }

    /// A peer can send anything; what is not for us or does not parse is dropped, as the network might have done.
    fn message(&mut self, bytes: &[u8], out: &mut Vec<Output>) {
        let Ok(mut message) = Message::parse_from_bytes(bytes) else {
            tracing::warn!("a peer's message does not parse");
            return;
        };
        if message.to != self.id() || message.from == self.id() {
            tracing::warn!(
                from = message.from,
                to = message.to,
                "a peer's message is not for this member"
            );
            return;
        }
        self.heard.insert(message.from, self.now);
        if message.get_msg_type() == MessageType::MsgPropose {
            // Whoever proposed to a member that does not lead any more finds out with the next leader's first entry.
            if self.node.raft.state != StateRole::Leader {
                return;
            }
            let term = self.node.raft.term;
            message
                .mut_entries()
                .retain(|entry| self.proposals.admit(term, entry));
            if message.entries.is_empty() {
                return;
            }
        }
        if self.repair.is_some() && repair::ignores(&message) && !planted(Bug::VoteWithHole) {
            return;
        }
        let contradiction = repair::contradict(&self.node, &mut message);
        self.outbox.send(Vec::from_iter(contradiction), out);
        repair::believe(&mut self.node, &mut message);
        let needed = campaign::is_needed(&self.node, &message, self.turns.as_mut(), self.now);
        if let Err(error) = probe::step(&mut self.node, message) {
            tracing::debug!(%error, "a peer's message was dropped");
        }
        if needed {
            self.campaign();
        }
    }

    fn propose(&mut self, proposals: Vec<Proposal>, out: &mut Vec<Output>) {
        let added = proposals.into_iter().map(|proposal| self.proposals.add(proposal));
        let tokens: Vec<u64> = added.filter_map(Result::err).collect();
        if !tokens.is_empty() {
            out.push(Output::Dropped { tokens });
        }
    }

    /// Hands what waits to the leader, if there is one. All proposals of a batch travel as one message, so that each peer
    /// gets one append for them.
    fn send_proposals(&mut self) {
        if self.node.raft.leader_id == raft::INVALID_ID || !self.proposals.waiting() {
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id();
        let entries = self.proposals.send(self.node.raft.term);
        let count = entries.len();
        message.entries = entries.into();
        if let Err(error) = self.node.raft.step(message) {
            tracing::debug!(%error, "proposals have to wait");
            self.proposals.refused(count);
        }
    }

    fn persisted(&mut self, number: u64, out: &mut Vec<Output>) {
        while self
            .outstanding
            .front()
            .is_some_and(|(oldest, _)| *oldest <= number)
        {
            let (_, messages) = self.outstanding.pop_front().expect("just seen");
            self.outbox.send(messages, out);
        }
        self.node.on_persist_ready(number);
        if let Some((_, index)) = self.installing.take_if(|(batch, _)| *batch <= number) {
            self.node.advance_apply_to(index);
        }
    }

    fn drain(&mut self, out: &mut Vec<Output>) {
        loop {
            self.fix_election_timeout();
            if self.installing.is_some() {
                break;
            }
            if let Some(repair) = &mut self.repair
                && repair.asks(&self.node)
            {
                repair.answered(&mut Vec::from_iter(self.reads.add(repair::TOKEN)), None);
            }
            self.reads.pump(&mut self.node);
            self.send_proposals();
            if !self.node.has_ready() {
                break;
            }
            self.ready(out);
        }
        if self.repair.take_if(|repair| repair.done(&self.node)).is_some() {
            tracing::info!("the log holds again what this member had acknowledged: it votes from now on");
            out.push(Output::Repaired);
        }
        self.wants(out);
        self.note_role(out);
    }

    fn ready(&mut self, out: &mut Vec<Output>) {
        let mut ready = self.node.ready();
        self.outbox.send(ready.take_messages(), out);
        let base = self.snapshot(ready.number(), ready.snapshot(), out);
        let entries = ready.take_entries();
        self.node.mut_store().append(&entries);
        if let Some(hard_state) = ready.hs() {
            self.unsaved = Some(hard_state.clone());
        }
        let number = ready.number();
        let messages = ready.take_persisted_messages();
        let must_sync = ready.must_sync();
        if must_sync {
            let mut hard_state = self.unsaved.take();
            if let Some(hard_state) = &mut hard_state {
                forget(hard_state);
            }
            if planted(Bug::AnswerBeforeFsync) {
                self.outbox.send(messages.clone(), out);
            }
            out.push(Output::Persist(Append {
                number,
                base,
                entries,
                hard_state,
            }));
            self.outstanding.push_back((number, messages));
        } else if let Some((_, held)) = self.outstanding.back_mut() {
            held.extend(messages);
        } else {
            self.outbox.send(messages, out);
        }
        let read_states = ready.take_read_states();
        let committed = ready.take_committed_entries();
        self.node.advance_append_async(ready);
        if !must_sync && self.outstanding.is_empty() {
            self.node.on_persist_ready(number);
        }
        if self.apply(committed, out)
            && let Some(hard_state) = self.unsaved.take()
        {
            // A member that forgot with a restart that a change was committed would count on the votes of others who are
            // gone since.
            out.push(Output::Persist(Append {
                number,
                hard_state: Some(hard_state),
                ..Append::default()
            }));
            self.outstanding.push_back((number, Vec::new()));
        }
        for read_state in read_states {
            if let Some(mut tokens) = self.reads.answer(&self.node, &read_state.request_ctx) {
                if let Some(repair) = &mut self.repair {
                    repair.answered(&mut tokens, Some(read_state.index));
                }
                out.push(Output::ReadReady {
                    tokens,
                    index: read_state.index,
                });
            }
        }
    }

    fn snapshot(&mut self, number: u64, snapshot: &Snapshot, out: &mut Vec<Output>) -> Option<Base> {
        let metadata = snapshot.get_metadata();
        if metadata.index == 0 {
            return None;
        }
        let conf_state = metadata.get_conf_state().clone();
        let base = Base {
            index: metadata.index,
            term: metadata.term,
            conf_state,
        };
        self.installing = Some((number, base.index));
        let tokens = self.proposals.skipped_to(base.term);
        if !tokens.is_empty() {
            out.push(Output::Unknown { tokens });
        }
        self.node.mut_store().reset(base.clone());
        out.push(Output::Install(snapshot.clone()));
        out.push(Output::Conf {
            index: base.index,
            conf_state: base.conf_state.clone(),
        });
        Some(base)
    }

    /// `raft` draws from the thread's generator whenever it resets; this draws again, from the seed, before any tick
    /// can see it.
    fn fix_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let mut mixed = self.seed ^ raft.id.rotate_left(17) ^ raft.term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 27;
        let timeout = campaign::patience(raft.id) + (mixed % ELECTION_TICKS as u64) as usize;
        if raft.randomized_election_timeout() != timeout {
            raft.set_randomized_election_timeout(timeout);
        }
    }

    fn wants(&mut self, out: &mut Vec<Output>) {
        for fetch in self.node.store().take_fetches() {
            out.push(Output::Fetch(fetch));
        }
        if let Some(index) = self.node.store().take_snapshot_wanted() {
            out.push(Output::NeedSnapshot { index });
        }
    }

    fn note_role(&mut self, out: &mut Vec<Output>) {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        let alone = leads
            // A change under way may bring a second voter.
            && !raft.has_pending_conf()
            && raft.commit_to_current_term()
            && raft.prs().iter().all(|(id, _)| *id == raft.id);
        let role = Role {
            term: raft.term,
            leader: raft.leader_id,
            leads,
            alone,
        };
        if role != self.role {
            self.role = role;
            out.push(Output::Role(role));
        }
    }
}

/// Loses what a planted bug does not write down.
fn forget(hard_state: &mut HardState) {
    if planted(Bug::VoteNotSaved) {
        hard_state.vote = 0;
    }
    if planted(Bug::TermNotSaved) {
        (hard_state.term, hard_state.vote) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unsafe_default_is_left() {
        let config = raft_config(1, 0);
        assert!(config.check_quorum && config.pre_vote);
        assert_eq!(config.read_only_option, ReadOnlyOption::Safe);
        for limit in [
            config.max_size_per_msg,
            config.max_uncommitted_size,
            config.max_committed_size_per_ready,
        ] {
            assert!(limit > 0 && limit < u64::MAX);
        }
        config.validate().expect("valid");
    }
}
