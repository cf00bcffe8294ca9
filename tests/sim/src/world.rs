//! One run: members, network, clients and watchers on one clock, in one thread. Everything that happens is an event with
//! a time; equal times keep their order.

mod checks;
mod load;
mod machines;
mod traffic;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use corten_store::Snapshot;
use raft::eraftpb::ConfState;

use crate::admin::Admin;
use crate::client::{Client, Shared};
use crate::member::{Member, Up, id_at};
use crate::model::Model;
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::options::{Fault, MILLISECOND, Options, SECOND, Time};
use crate::random::Random;
use crate::watcher::Watcher;

/// By a clock that runs as it should.
const TICK: Time = corten_store::replica::TICK.as_micros() as Time;
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
}
