//! One run: members, network, clients and watchers on one clock, in one thread. Everything that happens is an event with
//! a time; equal times keep their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use corten_store::image::Image;
use corten_store::log::Log;
use corten_store::{Action, Snapshot};
use raft::eraftpb::ConfState;

use crate::admin::Admin;
use crate::blind;
use crate::client::{Client, Shared};
use crate::member::{Blocked, Member, Up, id_at, place_of};
use crate::model::{self, Model};
use crate::nemesis::Nemesis;
use crate::network::{Network, kind_of};
use crate::options::{Fault, MILLISECOND, Options, SECOND, Time};
use crate::random::Random;
use crate::watcher::Watcher;

/// By a clock that runs as it should.
const TICK: Time = corten_store::replica::TICK.as_micros() as Time;
/// A request that has no answer by then is given up.
const PATIENCE: Time = 4 * SECOND;
/// After the last fault, everything must have come together by then.
const HEALING: Time = 60 * SECOND;

pub enum What {
    Message {
        to: usize,
        message: Bytes,
    },
    State {
        from: usize,
        to: usize,
        message: Bytes,
        state: Snapshot,
    },
    /// How a transfer ended.
    Told {
        to: usize,
        boot: u64,
        peer: u64,
        ok: bool,
    },
    Tick {
        member: usize,
        boot: u64,
    },
    Serve {
        member: usize,
        boot: u64,
    },
    Synced {
        member: usize,
        boot: u64,
    },
    ImageDone {
        member: usize,
        boot: u64,
    },
    /// The connection over which `peer` sent has ended.
    Lost {
        member: usize,
        peer: u64,
    },
    Start {
        member: usize,
    },
    Client(usize),
    Watcher(usize),
    Admin,
    Fault(Fault),
    /// The oldest partition ends.
    Heal,
}

struct Event {
    at: Time,
    number: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What happened in a run, for the one who asks whether it was worth it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub simulated: Time,
    pub events: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    pub reads: u64,
    pub seen: u64,
    pub lists: u64,
    pub resumes: u64,
    pub crashes: u64,
    pub partitions: u64,
    pub installed: u64,
    pub changes: u64,
    pub compactions: u64,
    pub terms: u64,
    pub digest: u64,
}

pub struct World {
    pub options: Options,
    pub now: Time,
    queue: BinaryHeap<Reverse<Event>>,
    number: u64,
    pub members: Vec<Member>,
    pub network: Network,
    pub model: Model,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    pub shared: Shared,
    pub admin: Admin,
    pub nemesis: Nemesis,
    /// Of disks and processes.
    random: Random,
    /// Of clients and watchers.
    load: Random,
    /// `(term, leader)`, in the order of terms.
    leaders: Vec<(u64, u64)>,
    /// `(entry after which it was seen first, membership)`.
    memberships: Vec<(u64, ConfState)>,
    pub healing: bool,
    /// Writes went through again: clients ask for nothing more.
    quiet: bool,
    pub report: Report,
}

impl World {
    pub fn new(options: Options) -> Self {
        let mut load = Random::new(options.seed, 3);
        let clients = (0..options.clients).map(|n| Client::new(n as u64, 0)).collect();
        let watchers = (0..options.watchers)
            .map(|n| Watcher::new(n, &mut load))
            .collect();
        let mut world = World {
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            members: Vec::new(),
            network: Network::new(&options),
            model: Model::default(),
            clients,
            watchers,
            shared: Shared::default(),
            admin: Admin::new(&options),
            nemesis: Nemesis::new(&options),
            random: Random::new(options.seed, 4),
            load,
            leaders: Vec::new(),
            memberships: Vec::new(),
            healing: false,
            quiet: false,
            report: Report::default(),
            options,
        };
        world.add_member(true, false);
        world.after(0, What::Admin);
        for client in 0..world.clients.len() {
            world.after(10 * MILLISECOND, What::Client(client));
        }
        for watcher in 0..world.watchers.len() {
            world.after(20 * MILLISECOND, What::Watcher(watcher));
        }
        world
    }

    /// A new member with an empty disk; its place.
    pub fn add_member(&mut self, founder: bool, witness: bool) -> usize {
        let place = self.members.len();
        let mut tick = TICK;
        if self.options.faults.has(Fault::Drift) {
            tick = self.random.range(TICK * 4 / 5, TICK * 6 / 5);
        }
        self.members
            .push(Member::new(id_at(place, witness), founder, tick));
        self.start(place);
        place
    }

    pub fn after(&mut self, delay: Time, what: What) {
        self.number += 1;
        self.queue.push(Reverse(Event {
            at: self.now + delay,
            number: self.number,
            what,
        }));
    }

    /// Faults, then healing, then the checks of the end.
    pub fn run(&mut self) {
        for (fault, delay) in self.nemesis.begin(&self.options) {
            self.after(SECOND + delay, What::Fault(fault));
        }
        while self.now < self.options.safety {
            self.next();
        }
        self.heal();
        let (healed, acknowledged) = (self.now, self.shared.acknowledged);
        let (mut look, mut calm) = (self.now, false);
        loop {
            self.next();
            if self.now >= look {
                look = self.now + 100 * MILLISECOND;
                self.quiet |= self.shared.acknowledged >= acknowledged + 5;
                if self.quiet && self.is_together() {
                    if calm {
                        break;
                    }
                    calm = true;
                    Nemesis::disturb_calm(self);
                }
            }
            assert!(
                self.now < healed + HEALING,
                "liveness: not together within {} s: {}",
                HEALING / SECOND,
                self.describe()
            );
        }
        self.check_end();
    }

    fn next(&mut self) {
        let Some(Reverse(event)) = self.queue.pop() else {
            panic!("nothing is left to happen");
        };
        self.now = event.at;
        self.report.events += 1;
        match event.what {
            What::Message { to, message } => self.arrive(to, message),
            What::State {
                from,
                to,
                message,
                state,
            } => self.arrive_state(from, to, message, state),
            What::Told { to, boot, peer, ok } => {
                if let Some(up) = self.up(to, boot) {
                    // It must be told again if the queue is full; a test of that is in the store.
                    let _ = up.store.inbox().snapshot_sent(peer, ok);
                    self.wake(to);
                }
            }
            What::Tick { member, boot } => self.tick(member, boot),
            What::Serve { member, boot } => self.serve(member, boot),
            What::Synced { member, boot } => self.synced(member, boot),
            What::ImageDone { member, boot } => self.image_done(member, boot),
            What::Lost { member, peer } => {
                if let Some(up) = &self.members[member].up {
                    // A full queue is the same as not noticing.
                    let _ = up.store.inbox().lost(peer);
                    self.wake(member);
                }
            }
            What::Start { member } => self.start(member),
            What::Client(client) => self.client(client),
            What::Watcher(watcher) => self.watcher(watcher),
            What::Admin => {
                let delay = Admin::step(self);
                self.after(delay, What::Admin);
            }
            What::Fault(fault) => Nemesis::strike(self, fault),
            What::Heal => {
                if !self.network.cuts.is_empty() {
                    self.network.cuts.remove(0);
                }
            }
        }
    }

    fn note(&mut self, parts: [u64; 3]) {
        let mut digest = self.report.digest;
        for part in parts {
            digest = (digest.rotate_left(7) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.report.digest = digest;
    }

    fn up(&mut self, member: usize, boot: u64) -> Option<&mut Up> {
        self.members[member].up.as_mut().filter(|up| up.boot == boot)
    }

    pub fn start(&mut self, place: usize) {
        let member = &mut self.members[place];
        if member.gone || member.up.is_some() {
            return;
        }
        if member.full_until > self.now {
            let delay = member.full_until - self.now;
            self.after(delay, What::Start { member: place });
            return;
        }
        member.start(&self.options, self.now);
        let tick = self.random.below(member.tick);
        let up = member.up.as_mut().expect("just started");
        let boot = up.boot;
        up.driven
            .start()
            .unwrap_or_else(|error| panic!("a start failed: {error}"));
        let (applied, whole) = (up.driven.applied().index, !member.damaged);
        assert!(
            !whole || applied >= member.promised,
            "S8: member {} knew the membership of entry {} for good, and starts at {applied}",
            member.id,
            member.promised
        );
        self.after(tick, What::Tick { member: place, boot });
        self.perform(place);
    }

    /// The process dies, or the machine: what was not synced may be lost.
    pub fn crash(&mut self, place: usize, restart: Time) {
        let member = &mut self.members[place];
        let Some(mut up) = member.up.take() else { return };
        self.report.crashes += 1;
        member.promised = up.store.standing().borrow().membership;
        let id = member.id;
        let kept = self.random.below(member.log.unsynced() as u64 + 1) as usize;
        member.log.crash(kept);
        // An image is written whole or not at all, one after the other.
        let mut written = true;
        if let Some(batch) = up.writing.take() {
            written = self.random.chance(0.5);
            if written {
                up.image.write(&batch).expect("memory");
            }
        }
        if let Some(Blocked::Replace(batch)) = up.blocked.take()
            && written
            && self.random.chance(0.5)
        {
            up.image.write(&batch).expect("memory");
        }
        for client in &mut self.clients {
            if client.member == place {
                client.give_up(&mut self.shared);
            }
        }
        for watcher in &mut self.watchers {
            if watcher.member == place {
                watcher.disconnect();
            }
        }
        self.admin.crashed(place);
        self.after(restart, What::Start { member: place });
        // A process that dies closes its connections; a machine does not.
        if self.random.chance(0.7) {
            for other in 0..self.members.len() {
                let delay = self.random.range(100, 20 * MILLISECOND);
                self.after(
                    delay,
                    What::Lost {
                        member: other,
                        peer: id,
                    },
                );
            }
        }
    }

    fn crash_soon_up(&mut self, place: usize) {
        let restart = self.random.spread(20 * MILLISECOND, 3 * SECOND);
        self.crash(place, restart);
    }

    /// Has the member's process look at its queue.
    pub fn wake(&mut self, place: usize) {
        let now = self.now;
        let member = &mut self.members[place];
        let delay = member.paused_until.saturating_sub(now);
        let Some(up) = &mut member.up else { return };
        if up.serving || up.blocked.is_some() {
            return;
        }
        up.serving = true;
        let (boot, work) = (up.boot, self.random.range(20, 200));
        self.after(delay + work, What::Serve { member: place, boot });
    }

    fn tick(&mut self, place: usize, boot: u64) {
        let (tick, paused) = (
            self.members[place].tick,
            self.members[place].paused_until.saturating_sub(self.now),
        );
        if self.up(place, boot).is_none() {
            return;
        }
        // Connections break for other reasons too.
        if self.options.faults.has(Fault::Loss) && !self.healing && self.random.chance(0.005) {
            let peer = self.random.below(self.members.len() as u64) as usize;
            let peer = self.members[peer].id;
            self.after(0, What::Lost { member: place, peer });
        }
        let Some(up) = self.up(place, boot) else { return };
        up.ticked = true;
        self.after(tick + paused, What::Tick { member: place, boot });
        self.wake(place);
    }

    fn serve(&mut self, place: usize, boot: u64) {
        let (now, paused) = (self.now, self.members[place].paused_until > self.now);
        let Some(up) = self.up(place, boot) else { return };
        up.serving = false;
        if paused {
            self.wake(place);
            return;
        }
        if up.blocked.is_some() {
            return;
        }
        let ticked = std::mem::take(&mut up.ticked);
        up.nudged = false;
        let since = Duration::from_micros(now - up.since);
        let more = up
            .driven
            .serve(since, ticked)
            .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
        self.perform(place);
        if more {
            self.wake(place);
        }
    }

    /// Does what the core asks for, until it must wait for its disk.
    fn perform(&mut self, place: usize) {
        let inside = self.options.faults.has(Fault::CrashInside) && !self.healing;
        loop {
            let Some(up) = &mut self.members[place].up else {
                return;
            };
            if up.blocked.is_some() {
                break;
            }
            let action = up.driven.next_action();
            let action = action.unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            let Some(action) = action else {
                break;
            };
            if inside && self.random.chance(0.0004) {
                self.crash_soon_up(place);
                return;
            }
            self.act(place, action);
        }
        self.audit(place);
        self.poll(place);
        self.admin.poll(place);
        let Some(up) = &self.members[place].up else { return };
        if up.blocked.is_none() && (up.ticked || up.nudged || up.driven.waiting()) {
            self.wake(place);
        }
    }

    fn fsync_time(&mut self, place: usize) -> Time {
        let usual = self.random.range(self.options.fsync / 2, self.options.fsync * 2);
        if self.members[place].slow_until > self.now {
            usual + self.random.spread(50 * MILLISECOND, 4 * SECOND)
        } else {
            usual
        }
    }

    fn act(&mut self, place: usize, action: Action) {
        let time = self.fsync_time(place);
        let member = &mut self.members[place];
        let full = member.full_until > self.now;
        let Some(up) = &mut member.up else { return };
        let boot = up.boot;
        match action {
            Action::Append(batch) => {
                if full {
                    self.crash_soon_up(place);
                    return;
                }
                let number = batch.number;
                up.log
                    .write(batch)
                    .unwrap_or_else(|error| panic!("the log refuses: {error:?}"));
                up.blocked = Some(Blocked::Append(number));
                self.after(time, What::Synced { member: place, boot });
            }
            Action::ReplaceImage(batch) => {
                // What lies before is in no log of this member's.
                up.audited = batch.meta.base.index;
                up.blocked = Some(Blocked::Replace(Box::new(batch)));
                self.report.installed += 1;
                self.after(time * 2, What::Synced { member: place, boot });
            }
            Action::WriteImage(batch) => {
                up.writing = Some(batch);
                self.after(time * 3, What::ImageDone { member: place, boot });
            }
            Action::Cut(base) => up.log.cut(base).expect("memory"),
            Action::NotePeers(peers) => up.log.note_peers(peers).expect("memory"),
            Action::NoteRepaired => {
                up.log.note_loss(None).expect("memory");
                member.damaged = false;
            }
            Action::Fetch(fetch) => {
                let entries = up.log.entries(fetch.low, fetch.high, fetch.max_bytes);
                up.driven
                    .fetched(fetch, entries.unwrap_or_default())
                    .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            }
            Action::Send { to, message } => self.send(place, to, message),
            Action::SendSnapshot { to, message, state } => self.send_state(place, to, message, state),
            Action::SnapshotLost { to } => {
                let told = What::Told {
                    to: place,
                    boot,
                    peer: to,
                    ok: false,
                };
                self.after(0, told);
            }
            other @ (Action::RewriteImage(_) | Action::Scrub { .. }) => panic!("nobody scrubs: {other:?}"),
            other @ Action::Halt { .. } => panic!("S3: a member finds its own state wrong: {other:?}"),
        }
    }

    fn synced(&mut self, place: usize, boot: u64) {
        if self.up(place, boot).is_none() {
            return;
        }
        let failed = !self.healing && self.options.faults.has(Fault::FsyncError) && self.random.chance(0.002);
        if failed {
            self.crash_soon_up(place);
            return;
        }
        let Some(up) = self.up(place, boot) else { return };
        match up.blocked.take() {
            Some(Blocked::Append(number)) => {
                let durable = up.log.sync(number);
                up.driven
                    .persisted(durable)
                    .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            }
            Some(Blocked::Replace(batch)) => {
                // The image's thread does one thing after the other.
                if let Some(before) = up.writing.take() {
                    up.image.write(&before).expect("memory");
                    up.driven.image_written(Ok(up.image.disk_bytes()));
                    up.nudged = true;
                }
                up.image.write(&batch).expect("memory");
            }
            None => {}
        }
        self.perform(place);
    }

    fn image_done(&mut self, place: usize, boot: u64) {
        let Some(up) = self.up(place, boot) else { return };
        if let Some(batch) = up.writing.take() {
            up.image.write(&batch).expect("memory");
            up.driven.image_written(Ok(up.image.disk_bytes()));
            up.nudged = true;
            self.wake(place);
        }
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        let place = place_of(id);
        (place < self.members.len()).then_some(place)
    }

    fn send(&mut self, from: usize, to: u64, message: Bytes) {
        let Some(to) = self.place_of(to) else { return };
        for delay in self
            .network
            .send(from, to, kind_of(&message))
            .into_iter()
            .flatten()
        {
            let message = message.clone();
            self.after(delay, What::Message { to, message });
        }
    }

    fn send_state(&mut self, from: usize, to: u64, message: Bytes, state: Snapshot) {
        let boot = self.members[from].up.as_ref().map_or(0, |up| up.boot);
        let mut failed = true;
        if let Some(place) = self.place_of(to) {
            let slow = self.options.faults.has(Fault::Transfer) && !self.healing;
            let time = if slow {
                self.random.spread(MILLISECOND, 2 * SECOND)
            } else {
                MILLISECOND
            };
            let broken = slow && self.random.chance(0.3);
            let arrives = self.network.send(from, place, None)[0].filter(|_| !broken);
            if let Some(delay) = arrives {
                failed = false;
                let what = What::State {
                    from,
                    to: place,
                    message,
                    state,
                };
                self.after(delay + time, what);
            }
        }
        if failed {
            let delay = self.random.range(MILLISECOND, 200 * MILLISECOND);
            let told = What::Told {
                to: from,
                boot,
                peer: to,
                ok: false,
            };
            self.after(delay, told);
        }
    }

    fn arrive(&mut self, to: usize, message: Bytes) {
        if let Some(up) = &self.members[to].up {
            // A full queue loses it, as the network might have.
            let _ = up.store.inbox().receive(message);
            self.wake(to);
        }
    }

    fn arrive_state(&mut self, from: usize, to: usize, message: Bytes, state: Snapshot) {
        let peer = self.members[to].id;
        let ok = match &self.members[to].up {
            Some(up) => up.store.inbox().install(message, state).is_ok(),
            None => false,
        };
        self.wake(to);
        // The answer comes back on the same connection; if that breaks, the sender learns of a failure.
        let heard = self.network.send(to, from, None)[0];
        let told = What::Told {
            to: from,
            boot: self.members[from].up.as_ref().map_or(0, |up| up.boot),
            peer,
            ok: ok && heard.is_some(),
        };
        self.after(heard.unwrap_or(300 * MILLISECOND), told);
    }

    /// Compares what a member has applied, and who leads, with what is known.
    fn audit(&mut self, place: usize) {
        let member = &mut self.members[place];
        let id = member.id;
        let Some(up) = &mut member.up else { return };
        let applied = up.driven.applied().index;
        if applied != up.audited {
            let base = up.log.state().base.index;
            let low = up.audited.max(base) + 1;
            if low <= applied {
                let entries = match up.log.entries(low, applied + 1, u64::MAX) {
                    Ok(entries) => entries,
                    // A peer's state is about to replace the log, behind what the disk is doing now.
                    Err(_) if up.blocked.is_some() => return,
                    Err(error) => panic!("member {id} applied what it does not hold: {error:?}"),
                };
                for entry in &entries {
                    self.model.commit(id, up.driven.role().term, entry);
                }
            }
            up.audited = applied;
        }
        if applied != up.checked && !corten_store::is_witness(id) {
            up.checked = applied;
            let snapshot = up.store.snapshot();
            assert_eq!(
                snapshot.revision().0,
                self.model.revision_at(applied),
                "S4: member {id} is at another revision after entry {applied}"
            );
            self.model.check_state(&snapshot, true, "a member's state");
        }
        let conf = &up.driven.applied().conf_state;
        if self
            .memberships
            .last()
            .is_none_or(|(seen, last)| *seen < applied && last != conf)
        {
            self.memberships.push((applied, conf.clone()));
        }
        let role = up.driven.role();
        if role.leads && up.led != role.term {
            up.led = role.term;
            let log = up.log.state();
            self.check_leader(id, role.term, log.last_index, place);
        }
        self.note([id << 32 | applied, role.term, self.now]);
    }

    fn check_leader(&mut self, id: u64, term: u64, last: u64, place: usize) {
        match self.leaders.binary_search_by_key(&term, |leader| leader.0) {
            Ok(at) => assert_eq!(self.leaders[at].1, id, "S1: two leaders in term {term}"),
            Err(at) => self.leaders.insert(at, (term, id)),
        }
        let known = self.model.committed_before(term);
        assert!(
            last >= known,
            "S2: leader {id} of term {term} ends at {last}, but {known} is committed"
        );
        let up = self.members[place].up.as_mut().expect("it leads");
        let expected = self.model.term_at(known);
        if let (Ok(found), Some(expected)) = (up.log.entries(known, known + 1, u64::MAX), expected) {
            assert_eq!(
                found[0].term, expected,
                "S2: leader {id} holds another entry {known}"
            );
        }
    }

    /// What was acknowledged survives the loss of any minority.
    fn check_quorum(&mut self, index: u64) {
        let Some(term) = self.model.term_at(index) else {
            return;
        };
        // A membership takes effect when it is applied; entries close behind it may be of the one before.
        let first = self
            .memberships
            .partition_point(|(seen, _)| seen + 100 < index)
            .saturating_sub(1);
        let safe = self.memberships[first..].iter().any(|(_, conf)| {
            let majority = |voters: &[u64]| {
                let held = voters.iter().filter(|id| self.holds(**id, index, term)).count();
                voters.is_empty() || held > voters.len() / 2
            };
            majority(&conf.voters) && majority(&conf.voters_outgoing)
        });
        assert!(
            safe,
            "S5: entry {index} was acknowledged, and is durable on no majority"
        );
    }

    /// Whether a member has an entry on its disk, or had it on the disk that is lost.
    fn holds(&self, id: u64, index: u64, term: u64) -> bool {
        self.place_of(id).is_some_and(|place| {
            let member = &self.members[place];
            member.lost_disk || member.damaged || member.holds(index, term)
        })
    }

    /// Looks whether clients have their answers.
    fn poll(&mut self, place: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.member != place {
                continue;
            }
            let Some(flight) = &mut client.flight else {
                continue;
            };
            let Poll::Ready(answer) = flight.future.as_mut().poll(&mut cx) else {
                continue;
            };
            let index = client.answered(answer, &self.model, &mut self.shared);
            if let Some(index) = index {
                self.check_quorum(index);
            }
        }
    }

    fn any_up(&mut self) -> Option<usize> {
        let places: Vec<usize> = (0..self.members.len())
            .filter(|place| self.members[*place].up.is_some() && !self.members[*place].is_witness())
            .collect();
        self.load.pick(&places).copied()
    }

    fn client(&mut self, at: usize) {
        let think = self
            .load
            .range(self.options.think / 2, self.options.think * 3 / 2);
        self.after(think, What::Client(at));
        if let Some(flight) = &self.clients[at].flight {
            if flight.deadline < self.now {
                self.clients[at].give_up(&mut self.shared);
            }
            return;
        }
        if self.quiet {
            return;
        }
        let here = self.clients[at].member;
        if self.members[here].up.is_none() || self.load.chance(0.1) {
            match self.any_up() {
                Some(place) => self.clients[at].member = place,
                None => return,
            }
        }
        let place = self.clients[at].member;
        let Some(up) = &self.members[place].up else { return };
        let compact = self.options.faults.has(Fault::Compaction) && !self.healing;
        // Some wait until the store itself gives up.
        let patience = if self.load.chance(0.3) {
            4 * PATIENCE
        } else {
            PATIENCE
        };
        let deadline = self.now + patience;
        self.clients[at].ask(
            up.store.clone(),
            &mut self.shared,
            &mut self.load,
            compact,
            deadline,
        );
        self.poll(place);
        self.wake(place);
    }

    fn watcher(&mut self, at: usize) {
        let pause = self.load.spread(2 * MILLISECOND, 400 * MILLISECOND);
        self.after(pause, What::Watcher(at));
        let watcher = &mut self.watchers[at];
        if !self.healing && self.load.chance(0.03) {
            watcher.disconnect();
        }
        if watcher.is_off() {
            let Some(place) = self.any_up() else { return };
            let Some(up) = &self.members[place].up else { return };
            let store = up.store.clone();
            self.watchers[at].connect(place, store);
        }
        self.watchers[at].look(&self.model, &mut self.load);
        let place = self.watchers[at].member;
        self.wake(place);
    }

    /// Whether every server that belongs to the cluster has all that is committed on its disk. A witness can bring up only who
    /// lacks little: to lose another disk meanwhile is more than two servers and a witness survive.
    pub fn is_even(&self) -> bool {
        let newest = self.model.index();
        let mut servers = self.members.iter().filter(|member| !member.gone);
        !self.options.witness
            || servers.all(|member| {
                member.up.is_some()
                    && self
                        .model
                        .term_at(newest)
                        .is_none_or(|term| member.holds(newest, term))
            })
    }

    /// No more faults.
    fn heal(&mut self) {
        self.healing = true;
        self.network.heal();
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            (member.paused_until, member.full_until, member.slow_until) = (0, 0, 0);
            member.tick = TICK;
            self.start(place);
            self.wake(place);
        }
    }

    fn is_together(&self) -> bool {
        let newest = self.model.index();
        let members = self.members.iter().filter(|member| !member.gone);
        let mut together = self.admin.settled(self);
        for member in members {
            together &= !member.damaged;
            together &= member
                .up
                .as_ref()
                .is_some_and(|up| up.driven.applied().index + 20 >= newest);
        }
        together
            && self
                .watchers
                .iter()
                .all(|watcher| watcher.is_current(&self.model))
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "committed {} by index, {} acknowledged, admin {:?};",
            self.model.index(),
            self.shared.acknowledged,
            self.admin
        );
        for member in &self.members {
            text += &match &member.up {
                Some(up) => format!(
                    " [{} {:?} applied {} of {:?}]",
                    member.id,
                    up.driven.role(),
                    up.driven.applied().index,
                    up.driven.applied().conf_state
                ),
                None => format!(" [{} {}]", member.id, if member.gone { "gone" } else { "down" }),
            };
        }
        for (n, watcher) in self.watchers.iter().enumerate() {
            if !watcher.is_current(&self.model) {
                text += &format!(" watcher {n} is behind");
            }
        }
        text
    }

    fn check_end(&mut self) {
        for client in &mut self.clients {
            client.give_up(&mut self.shared);
        }
        for data in &self.shared.refused {
            assert!(
                self.model.settled(data).is_none(),
                "§6.3: a transaction that was refused has happened later"
            );
        }
        for watcher in &self.watchers {
            watcher.check_cache(&self.model);
        }
        for (register, operations) in self.shared.registers.iter().enumerate() {
            assert!(
                blind::check(operations) != blind::Verdict::Not,
                "§6.3: the history of register {register} is not linearizable: {operations:?}"
            );
        }
        self.report.simulated = self.now;
        self.report.acknowledged = self.shared.acknowledged;
        self.report.unknown = self.shared.unknown;
        self.report.reads = self.shared.reads;
        self.report.seen = self.watchers.iter().map(|watcher| watcher.events).sum();
        self.report.lists = self.watchers.iter().map(|watcher| watcher.lists).sum();
        self.report.resumes = self.watchers.iter().map(|watcher| watcher.resumes).sum();
        self.report.compactions = self.model.compactions;
        self.report.terms = self.leaders.len() as u64;
        self.report.changes = self.admin.done;
        self.note([self.model.index(), self.model.revision(), model::hash(&[])]);
    }
}
