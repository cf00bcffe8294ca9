//! Three and more members on a fake network, disk and clock: loss, delay, reordering, repeats, partitions, crashes at
//! every step, slow disks, log cuts, snapshots, a membership change. Prints the seed that failed; `SIM_SEED=42`
//! replays that one run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use corten_store::log::memory::{Disk, MemoryLog};
use corten_store::log::{Append, Base, Identity, Log};
use corten_store::replica::{Input, Output, Proposal, Replica, Start};
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, Snapshot};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Simulated milliseconds.
type Time = u64;
const TICK: Time = 100;
const CLUSTER: u64 = 5;

/// One run's fault rates, drawn from its seed and printed when it fails.
#[derive(Debug)]
struct Faults {
    loss: f64,
    repeat: f64,
    max_delay: Time,
    max_fsync: Time,
    crash_every: Time,
    partition_every: Time,
    cut_after: u64,
}

impl Faults {
    fn draw(random: &mut StdRng) -> Self {
        let chance = |random: &mut StdRng, max: f64| {
            if random.random_bool(0.5) {
                random.random_range(0.0..max)
            } else {
                0.0
            }
        };
        Faults {
            loss: chance(random, 0.2),
            repeat: chance(random, 0.2),
            max_delay: random.random_range(2..150),
            max_fsync: random.random_range(1..60),
            crash_every: random.random_range(2_000..20_000),
            partition_every: random.random_range(3_000..30_000),
            cut_after: random.random_range(5..200),
        }
    }
}

/// What a member's state machine holds: every command in order. The image is a copy of it.
#[derive(Clone, Default, Debug, PartialEq)]
struct State {
    base: Base,
    commands: Vec<(u64, Bytes)>,
}

impl State {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        for (index, data) in &self.commands {
            out.put_u64(*index);
            out.put_u32(data.len() as u32);
            out.put_slice(data);
        }
        out.freeze()
    }

    fn decode(base: Base, mut bytes: Bytes) -> Self {
        let mut commands = Vec::new();
        while bytes.has_remaining() {
            let (index, len) = (bytes.get_u64(), bytes.get_u32());
            commands.push((index, bytes.split_to(len as usize)));
        }
        State { base, commands }
    }
}

/// What the disk still has to do, in order.
enum DiskWork {
    Image(State),
    Append(Append),
}

struct Member {
    disk: Disk,
    /// The durable image.
    image: State,
    up: Option<Up>,
    boots: u64,
}

struct Up {
    replica: Replica,
    log: MemoryLog,
    state: State,
    boot: u64,
    work: VecDeque<(Time, DiskWork)>,
    /// `(token, index acknowledged by anyone before the read)`.
    reads: BTreeMap<u64, u64>,
    confirmed: Vec<(u64, Vec<u64>)>,
}

struct Sim {
    random: StdRng,
    faults: Faults,
    now: Time,
    members: Vec<Member>,
    /// `(arrival, tie-breaker) -> (to, message)`.
    network: BTreeMap<(Time, u64), (u64, Bytes)>,
    sent: u64,
    /// Pairs that cannot talk.
    cut_off: BTreeSet<(u64, u64)>,
    /// What was committed at each index, as the first member saw it.
    committed: BTreeMap<u64, (u64, Bytes)>,
    leaders: BTreeMap<u64, u64>,
    /// Acknowledged to a client: `command -> index`.
    acknowledged: BTreeMap<u64, u64>,
    /// Where each command happened: once, or never.
    happened: BTreeMap<u64, u64>,
    /// Commands of which a member said that they will never happen.
    dropped: BTreeSet<u64>,
    newest_acknowledged: u64,
    next_command: u64,
    reads_done: u64,
    crashes: u64,
    snapshots: u64,
    seed: u64,
    /// Of everything that happened, to compare two runs.
    digest: u64,
}

fn first_base() -> Base {
    Base {
        index: 0,
        term: 0,
        conf_state: ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        },
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = Faults::draw(&mut random);
        let members = (1..=4).map(|_| Member {
            disk: Disk::default(),
            image: State {
                base: first_base(),
                commands: Vec::new(),
            },
            up: None,
            boots: 0,
        });
        let mut sim = Sim {
            random,
            faults,
            now: 0,
            members: members.collect(),
            network: BTreeMap::new(),
            sent: 0,
            cut_off: BTreeSet::new(),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            happened: BTreeMap::new(),
            dropped: BTreeSet::new(),
            newest_acknowledged: 0,
            next_command: 0,
            reads_done: 0,
            crashes: 0,
            snapshots: 0,
            seed,
            digest: 0,
        };
        for id in 1..=4 {
            sim.start(id);
        }
        sim
    }

    fn member(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    fn start(&mut self, id: u64) {
        let seed = self.seed;
        let member = self.member(id);
        member.boots += 1;
        let log = MemoryLog::open(
            &member.disk,
            Identity {
                cluster: CLUSTER,
                member: id,
            },
            first_base(),
        );
        let log_state = log.state();
        let applied = member.image.base.clone();
        assert!(
            applied.index >= log_state.base.index && applied.index <= log_state.last_index,
            "log and image fit"
        );
        let entries = if applied.index < log_state.last_index {
            log.entries(applied.index + 1, log_state.last_index + 1, u64::MAX)
                .expect("in the log")
        } else {
            Vec::new()
        };
        let start = Start {
            log: log_state,
            applied,
            entries,
            boot: member.boots,
            seed,
        };
        let state = member.image.clone();
        member.up = Some(Up {
            replica: Replica::new(start),
            log,
            state,
            boot: member.boots,
            work: VecDeque::new(),
            reads: BTreeMap::new(),
            confirmed: Vec::new(),
        });
        self.step(id, vec![]);
    }

    fn crash(&mut self, id: u64) {
        if self.member(id).up.take().is_some() {
            self.crashes += 1;
        }
    }

    fn note(&mut self, what: u64) {
        self.digest = (self.digest.rotate_left(7) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn step(&mut self, id: u64, inputs: Vec<Input>) {
        let Some(up) = &mut self.member(id).up else { return };
        let mut outputs = VecDeque::from(up.replica.step(inputs));
        while let Some(output) = outputs.pop_front() {
            // A process can die between any two of its actions.
            if self.random.random_bool(0.0002) {
                self.crash(id);
                return;
            }
            outputs.extend(self.perform(id, output));
        }
        self.answer_reads(id);
        self.maybe_cut(id);
    }

    fn perform(&mut self, id: u64, output: Output) -> Vec<Output> {
        let (now, fsync) = (self.now, self.random.random_range(0..self.faults.max_fsync));
        let Some(up) = &mut self.members[id as usize - 1].up else {
            return Vec::new();
        };
        match output {
            Output::Send { to, message } => self.send(id, to, message),
            // The state is inside the message here; whether it arrives, the sender learns no better than the network.
            Output::SendSnapshot { to, message, .. } => {
                self.send(id, to, message);
                let ok = self.random.random_bool(0.9);
                if let Some(up) = &mut self.members[id as usize - 1].up {
                    return up.replica.step([Input::SnapshotSent { to, ok }]);
                }
            }
            Output::Persist(batch) => up.work.push_back((now + fsync, DiskWork::Append(batch))),
            Output::Install(snapshot) => {
                let metadata = snapshot.get_metadata();
                let conf_state = metadata.get_conf_state().clone();
                let base = Base {
                    index: metadata.index,
                    term: metadata.term,
                    conf_state,
                };
                up.state = State::decode(base, snapshot.data.clone());
                up.work
                    .push_back((now + fsync, DiskWork::Image(up.state.clone())));
                self.snapshots += 1;
            }
            Output::Apply(entries) => self.apply(id, entries),
            Output::Conf { index, conf_state } => {
                assert_eq!(
                    up.state.base.index, index,
                    "a membership takes effect where it is applied"
                );
                up.state.base.conf_state = conf_state;
            }
            Output::ReadReady { tokens, index } => up.confirmed.push((index, tokens)),
            Output::ReadFailed { tokens } => up.reads.retain(|token, _| !tokens.contains(token)),
            Output::Dropped { tokens } => self
                .dropped
                .extend(tokens.into_iter().filter(|token| *token != 0)),
            Output::Unknown { .. } => (),
            Output::Repaired => up.log.note_loss(None).expect("noted"),
            Output::Fetch(fetch) => {
                let entries = up
                    .log
                    .entries(fetch.low, fetch.high, fetch.max_bytes)
                    .unwrap_or_default();
                return up.replica.step([Input::Fetched { fetch, entries }]);
            }
            Output::NeedSnapshot { index } => {
                if up.state.base.index >= index {
                    let mut snapshot = Snapshot {
                        data: up.state.encode(),
                        ..Snapshot::default()
                    };
                    let metadata = snapshot.mut_metadata();
                    metadata.index = up.state.base.index;
                    metadata.term = up.state.base.term;
                    metadata.set_conf_state(up.state.base.conf_state.clone());
                    return up.replica.step([Input::Offer(snapshot)]);
                }
            }
            Output::Role(role) => {
                if role.leads {
                    let leader = *self.leaders.entry(role.term).or_insert(id);
                    assert_eq!(leader, id, "one leader in term {}", role.term);
                }
                self.note(role.term ^ role.leader << 32);
            }
        }
        Vec::new()
    }

    fn apply(&mut self, id: u64, entries: Vec<Entry>) {
        for entry in entries {
            let first = self
                .committed
                .entry(entry.index)
                .or_insert((entry.term, entry.data.clone()))
                .clone();
            assert_eq!(
                first,
                (entry.term, entry.data.clone()),
                "entry {} is the same on all members",
                entry.index
            );
            self.note(entry.index ^ entry.term << 40);
            let up = self.members[id as usize - 1].up.as_mut().expect("it applies");
            assert_eq!(
                entry.index,
                up.state.base.index + 1,
                "entries are applied in order, each once"
            );
            (up.state.base.index, up.state.base.term) = (entry.index, entry.term);
            if entry.context.is_empty() {
                continue;
            }
            up.state.commands.push((entry.index, entry.data.clone()));
            let mut context = entry.context.clone();
            let (member, boot, command) = (context.get_u64(), context.get_u64(), context.get_u64());
            let index = *self.happened.entry(command).or_insert(entry.index);
            assert_eq!(index, entry.index, "command {command} happens once");
            if (member, boot) == (id, up.boot) {
                self.acknowledged.insert(command, entry.index);
                self.newest_acknowledged = self.newest_acknowledged.max(entry.index);
            }
        }
    }

    fn send(&mut self, from: u64, to: u64, message: Bytes) {
        let copies = 1 + u64::from(self.random.random_bool(self.faults.repeat));
        for _ in 0..copies {
            if self.random.random_bool(self.faults.loss) || self.cut_off.contains(&(from, to)) {
                continue;
            }
            let arrival = self.now + self.random.random_range(1..=self.faults.max_delay);
            self.sent += 1;
            self.network.insert((arrival, self.sent), (to, message.clone()));
        }
    }

    fn answer_reads(&mut self, id: u64) {
        let Some(up) = &mut self.members[id as usize - 1].up else {
            return;
        };
        let applied = up.state.base.index;
        let mut done = 0;
        up.confirmed.retain(|(index, tokens)| {
            if *index > applied {
                return true;
            }
            for token in tokens {
                let Some(floor) = up.reads.remove(token) else {
                    continue;
                };
                assert!(
                    applied >= floor,
                    "a read at {applied} misses the write acknowledged at {floor}"
                );
                done += 1;
            }
            false
        });
        self.reads_done += done;
    }

    /// Makes a durable image of what is applied and cuts the log there.
    fn maybe_cut(&mut self, id: u64) {
        let cut_after = self.faults.cut_after;
        let member = self.member(id);
        let Some(up) = &mut member.up else { return };
        let snapshot_pending = up.work.iter().any(|(_, work)| matches!(work, DiskWork::Image(_)));
        if snapshot_pending || up.state.base.index < up.log.state().base.index + cut_after {
            return;
        }
        member.image = up.state.clone();
        let base = up.state.base.clone();
        up.log.cut(base.clone()).expect("cut");
        let outputs = up.replica.step([Input::Cut(base)]);
        assert!(outputs.is_empty(), "a cut asks for nothing");
    }

    /// What the disks have finished by now.
    fn disks(&mut self) {
        for id in 1..=self.members.len() as u64 {
            loop {
                let now = self.now;
                let member = self.member(id);
                let Some(up) = &mut member.up else { break };
                if up.work.front().is_none_or(|(due, _)| *due > now) {
                    break;
                }
                match up.work.pop_front().expect("just seen").1 {
                    DiskWork::Image(state) => member.image = state,
                    DiskWork::Append(batch) => {
                        let durable = up.log.append(batch).expect("append");
                        if self.random.random_bool(0.001) {
                            self.crash(id);
                            break;
                        }
                        self.step(id, vec![Input::Persisted(durable)]);
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.network.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, message) = entry.remove();
            self.step(to, vec![Input::Message(message)]);
        }
    }

    fn client(&mut self) {
        let id = self.random.random_range(1..=self.members.len() as u64);
        let count = self.random.random_range(1..4);
        let newest = self.newest_acknowledged;
        let mut commands = Vec::new();
        for _ in 0..count {
            self.next_command += 1;
            commands.push(self.next_command);
        }
        let Some(up) = &mut self.member(id).up else { return };
        let boot = up.boot;
        let proposal = |command: u64| {
            let context = [id, boot, command]
                .iter()
                .flat_map(|word| word.to_be_bytes())
                .collect::<Vec<_>>();
            let data = vec![command as u8; 8 + command as usize % 50];
            Proposal {
                token: command,
                context: context.into(),
                data: data.into(),
            }
        };
        let token = commands[0];
        up.reads.insert(token, newest);
        let inputs = vec![
            Input::Read { token },
            Input::Propose(commands.into_iter().map(proposal).collect()),
        ];
        self.step(id, inputs);
    }

    fn nemesis(&mut self) {
        let id = self.random.random_range(1..=self.members.len() as u64);
        if self.now.is_multiple_of(self.faults.crash_every) {
            self.crash(id);
        }
        if self.now.is_multiple_of(self.faults.partition_every) {
            self.cut_off.clear();
            if self.random.random_bool(0.7) {
                for other in (1..=self.members.len() as u64).filter(|other| *other != id) {
                    self.cut_off.insert((id, other));
                    // Now and then only one direction is lost.
                    if self.random.random_bool(0.7) {
                        self.cut_off.insert((other, id));
                    }
                }
            }
        }
        for id in 1..=self.members.len() as u64 {
            if self.member(id).up.is_none() && self.random.random_bool(0.01) {
                self.start(id);
            }
        }
    }

    fn millisecond(&mut self, faults: bool) {
        self.now += 1;
        if faults {
            self.nemesis();
        }
        self.disks();
        self.deliver();
        if self.now.is_multiple_of(20) {
            self.client();
        }
        for id in 1..=self.members.len() as u64 {
            // Members do not tick together.
            if (self.now + id * 17).is_multiple_of(TICK) {
                self.step(id, vec![Input::Tick]);
            }
        }
    }

    /// Asks for member 4 to join, by joint consensus, until it has.
    fn grow(&mut self) {
        if !self.now.is_multiple_of(1000) {
            return;
        }
        for id in 1..=3 {
            let Some(up) = &mut self.member(id).up else {
                continue;
            };
            if up.replica.role().leads && !up.state.base.conf_state.voters.contains(&4) {
                let mut change = ConfChangeSingle::default();
                change.set_change_type(ConfChangeType::AddNode);
                change.node_id = 4;
                let changes = ConfChangeV2 {
                    changes: vec![change].into(),
                    ..ConfChangeV2::default()
                };
                let input = Input::ProposeConf {
                    token: 0,
                    context: Bytes::new(),
                    change: changes,
                };
                self.step(id, vec![input]);
            }
        }
    }

    fn run(&mut self, time: Time) {
        while self.now < time {
            self.millisecond(true);
            if self.now > time / 2 {
                self.grow();
            }
        }
        self.heal();
    }

    /// No more faults: everything must come together within a bound.
    fn heal(&mut self) {
        self.cut_off.clear();
        (self.faults.loss, self.faults.repeat) = (0.0, 0.0);
        let healed = self.now;
        let commands = self.acknowledged.len();
        loop {
            self.millisecond(false);
            self.grow();
            for id in 1..=self.members.len() as u64 {
                if self.member(id).up.is_none() {
                    self.start(id);
                }
            }
            let ups: Vec<&Up> = self
                .members
                .iter()
                .filter_map(|member| member.up.as_ref())
                .collect();
            let newest = self.committed.last_key_value().map_or(0, |(index, _)| *index);
            let together = ups.len() == 4
                && ups.iter().all(|up| {
                    up.state.base.index + 20 >= newest && up.state.base.conf_state.voters.contains(&4)
                });
            if together && self.acknowledged.len() > commands + 20 {
                break;
            }
            assert!(
                self.now < healed + 60_000,
                "the members come together within a minute"
            );
        }
        self.check_acknowledged();
        let untrue = self
            .dropped
            .iter()
            .find(|command| self.happened.contains_key(command));
        assert_eq!(untrue, None, "what was dropped never happens");
    }

    fn check_acknowledged(&self) {
        for member in &self.members {
            let up = member.up.as_ref().expect("healed");
            let held: BTreeMap<u64, &Bytes> = up
                .state
                .commands
                .iter()
                .map(|(index, data)| (*index, data))
                .collect();
            for (command, index) in self
                .acknowledged
                .iter()
                .filter(|(_, index)| **index <= up.state.base.index)
            {
                let data = held.get(index).expect("an acknowledged command is there");
                assert_eq!(data.first(), Some(&(*command as u8)));
            }
        }
    }
}

fn run(seed: u64, time: Time) -> Sim {
    let mut sim = Sim::new(seed);
    let options = format!("SIM_SEED={seed} {:?}", sim.faults);
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        sim.run(time);
        sim
    }));
    run.unwrap_or_else(|panic| {
        eprintln!("failed: {options}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn members_agree_through_faults_and_lose_nothing() {
    let single = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok());
    let count = std::env::var("SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12u64);
    let seeds = single.map_or(0..count, |seed| seed..seed + 1);
    let (mut acknowledged, mut crashes, mut snapshots, mut reads) = (0, 0, 0, 0);
    for seed in seeds {
        let sim = run(seed, 30_000);
        acknowledged += sim.acknowledged.len();
        crashes += sim.crashes;
        snapshots += sim.snapshots;
        reads += sim.reads_done;
    }
    println!("{acknowledged} acknowledged, {reads} reads, {crashes} crashes, {snapshots} snapshots");
    if single.is_none() {
        assert!(
            acknowledged > 1000 && reads > 1000 && crashes > 20 && snapshots > 0,
            "the load was too low"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, two) = (run(77, 10_000), run(77, 10_000));
    assert_eq!((one.digest, one.sent, one.now), (two.digest, two.sent, two.now));
    assert_ne!(one.digest, run(78, 10_000).digest);
}
