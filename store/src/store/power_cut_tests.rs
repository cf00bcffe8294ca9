//! Whole members, with the real log and image, on disks that lose power: of one member, or of all at once, at any sync
//! of either. What was not synced is gone, or there in part, sector by sector. Afterwards every member opens without
//! help, misses nothing it may have promised, and all hold what was acknowledged, once.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::Entry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::core::Action;
use super::driven::Driven;
use super::{Config, Store};
use crate::error::StoreError;
use crate::history::Limits;
use crate::image::power_cut as image_disk;
use crate::image::segments::SegmentImage;
use crate::image::trail::Interval;
use crate::image::{Batch, Image};
use crate::log::engine::EngineLog;
use crate::log::power_cut as log_disk;
use crate::log::{Append, Base, Durable, Identity, Log, LogError, LogState, Lost};
use crate::model::{Op, Precondition, Txn, TxnOutcome};
use crate::tree::Snapshot;

/// Power cuts of the short run; `POWER_CUTS=200` for the long one.
const CUTS: u64 = 3;
/// Ticks after which the members must agree again.
const HEAL: usize = 3000;
const HOT: u64 = 5;

type Lossy = EngineLog<log_disk::LossyFileSystem>;
type Call = Box<dyn FnOnce(&mut Lossy) + Send>;

/// A log in a thread of its own, as it has in a real process: what its engine keeps of files for a thread would mix up the
/// members, and bring back what a power cut took.
struct OwnThread {
    calls: Option<SyncSender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    fn start(open: impl FnOnce() -> Result<Lossy, LogError> + Send + 'static) -> Result<OwnThread, LogError> {
        let ((calls, called), (opened, opening)) = (sync_channel::<Call>(1), sync_channel(1));
        let thread = std::thread::spawn(move || {
            let (mut log, told) = match open() {
                Ok(log) => (log, Ok(())),
                Err(error) => return drop(opened.send(Err(error))),
            };
            let _ = opened.send(told);
            while let Ok(call) = called.recv() {
                call(&mut log);
            }
        });
        opening.recv().expect("the thread answers").map(|()| OwnThread {
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    fn call<T: Send + 'static>(&self, call: impl FnOnce(&mut Lossy) -> T + Send + 'static) -> T {
        let (done, doing) = sync_channel(1);
        let call: Call = Box::new(move |log| drop(done.send(call(log))));
        let calls = self.calls.as_ref().expect("taken only by drop");
        calls.send(call).expect("the thread runs");
        doing.recv().expect("the thread answers")
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.calls = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Log for OwnThread {
    fn state(&self) -> LogState {
        self.call(|log| log.state())
    }
    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        self.call(move |log| log.entries(low, high, max_bytes))
    }
    fn append(&mut self, batch: Append) -> Result<Durable, LogError> {
        self.call(move |log| log.append(batch))
    }
    fn cut(&mut self, base: Base) -> Result<(), LogError> {
        self.call(move |log| log.cut(base))
    }
    fn has_peers(&self) -> bool {
        self.call(|log| log.has_peers())
    }
    fn note_peers(&mut self, peers: bool) -> Result<(), LogError> {
        self.call(move |log| log.note_peers(peers))
    }
    fn note_loss(&mut self, lost: Option<Lost>) -> Result<(), LogError> {
        self.call(move |log| log.note_loss(lost))
    }
    fn fsyncs(&self) -> u64 {
        self.call(|log| log.fsyncs())
    }
    fn disk_bytes(&self) -> u64 {
        self.call(|log| log.disk_bytes())
    }
}

struct Up {
    store: Store,
    driven: Driven,
    log: OwnThread,
    image: SegmentImage,
    writing: Option<Batch>,
}

struct Member {
    id: u64,
    dir: PathBuf,
    log_disk: Arc<log_disk::Disk>,
    image_disk: Arc<image_disk::Disk>,
    /// The watermark as of the last start: what a power cut may bring back of it.
    watermark: Vec<u8>,
    up: Option<Up>,
}

/// What was asked for, by key, and the answer to come.
struct Asked {
    key: String,
    delete: bool,
    answer: oneshot::Receiver<Result<TxnOutcome, StoreError>>,
}

/// What is known of a key that is written once and deleted once at most.
#[derive(Default, Clone, Copy)]
struct Known {
    written: Option<u64>,
    /// A deletion was asked for; acknowledged.
    deleting: bool,
    deleted: bool,
}

struct World {
    members: Vec<Member>,
    wire: VecDeque<(u64, Bytes)>,
    asked: Vec<Asked>,
    known: BTreeMap<String, Known>,
    /// The newest acknowledged revision of each key that is written again and again.
    hot: BTreeMap<String, u64>,
    /// Who got each revision.
    revisions: BTreeMap<u64, String>,
    sequence: u64,
    boots: u64,
    now: Duration,
    random: StdRng,
    /// The member whose power just failed.
    failed: Option<usize>,
}

impl World {
    fn new(dir: &std::path::Path, count: u64, seed: u64) -> World {
        let member = |id: u64| {
            let dir = dir.join(id.to_string());
            std::fs::create_dir_all(dir.join("log")).expect("make");
            Member {
                id,
                dir,
                log_disk: Arc::default(),
                image_disk: Arc::default(),
                watermark: Vec::new(),
                up: None,
            }
        };
        World {
            members: (1..=count).map(member).collect(),
            wire: VecDeque::new(),
            asked: Vec::new(),
            known: BTreeMap::new(),
            hot: BTreeMap::new(),
            revisions: BTreeMap::new(),
            sequence: 0,
            boots: 0,
            now: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
            failed: None,
        }
    }

    /// Opens a member on what its disk holds.
    fn start(&mut self, at: usize) {
        self.boots += 1;
        let voters: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        let member = &mut self.members[at];
        member.log_disk.restore();
        member.image_disk.start(u32::MAX);
        let identity = Identity {
            cluster: 9,
            member: member.id,
        };
        let mut base = Base {
            index: 1,
            term: 1,
            ..Base::default()
        };
        base.conf_state.voters = voters;
        let file_system = Arc::new(log_disk::LossyFileSystem(member.log_disk.clone()));
        let path = member.dir.join("log");
        let folder = path.clone();
        let open = move || EngineLog::open_on(file_system, None, &folder, || (identity, base));
        let mut log =
            OwnThread::start(open).unwrap_or_else(|error| panic!("member {}: {error:?}", member.id));
        let lost = log.state().lost;
        assert_eq!(lost, None, "member {}: what was synced is there", member.id);
        let mut image = SegmentImage::on(member.image_disk.clone(), image_disk::SEGMENT_BYTES);
        let config = Config {
            history: Limits {
                max_events: 100,
                ..Limits::default()
            },
            image: Interval {
                entries: 12,
                ..Interval::default()
            },
            ..Config::in_memory()
        };
        let (store, mut driven) = Driven::open(&config, &mut log, &mut image, self.boots)
            .unwrap_or_else(|error| panic!("member {}: {error:?}", member.id));
        driven.start().expect("starts");
        member.watermark = std::fs::read(path.join("watermark")).expect("a watermark");
        member.up = Some(Up {
            store,
            driven,
            log,
            image,
            writing: None,
        });
        self.perform(at);
    }

    /// The next sync but so many of this member's finds no power.
    fn fail_at(&mut self, at: usize, log: u32, image: u32) {
        self.members[at].log_disk.fail_after(log);
        self.members[at].image_disk.start(image);
    }

    /// The process is gone, and of what it wrote only what a power cut leaves.
    fn cut(&mut self, at: usize) {
        let old_watermark = self.random.random_bool(0.3);
        let member = &mut self.members[at];
        member.up = None;
        let log = member.dir.join("log");
        log_disk::cut_power(&log, &member.log_disk, &mut self.random);
        member.image_disk.cut_power(&mut self.random);
        if old_watermark {
            std::fs::write(log.join("watermark"), &member.watermark).expect("write");
        }
    }

    fn lost_power(&mut self, at: usize) -> bool {
        let member = &self.members[at];
        let lost = member.log_disk.failed() || member.image_disk.failed();
        if lost {
            self.failed = Some(at);
        }
        lost
    }

    /// Does what a member asks for until it asks for nothing, or its power fails.
    fn perform(&mut self, at: usize) {
        loop {
            let member = &mut self.members[at];
            let watermark = member.dir.join("log/watermark");
            let Some(up) = &mut member.up else { return };
            let Some(action) = up.driven.next_action().expect("goes on") else {
                return;
            };
            match action {
                Action::Append(batch) => {
                    let before = std::fs::read(&watermark).expect("a watermark");
                    let last = up.log.state().last_index;
                    let durable = up.log.append(batch).expect("append");
                    let shrunk = up.log.state().last_index < last;
                    if member.log_disk.failed() {
                        // The real process would not have come back from the sync to write it.
                        if shrunk {
                            forget_newest(&watermark);
                        } else {
                            std::fs::write(&watermark, before).expect("write");
                        }
                    } else {
                        up.driven.persisted(durable).expect("goes on");
                    }
                    if shrunk {
                        // It was synced on its way down.
                        member.watermark = std::fs::read(&watermark).expect("a watermark");
                    }
                }
                Action::ReplaceImage(batch) => {
                    // After whatever is under way.
                    if let Some(before) = up.writing.take() {
                        up.image.write(&before).expect("write");
                        up.driven.image_written(Ok(0));
                    }
                    up.image.write(&batch).expect("write");
                }
                Action::WriteImage(batch) => up.writing = Some(batch),
                Action::Cut(base) => up.log.cut(base).expect("cut"),
                Action::NotePeers(peers) => up.log.note_peers(peers).expect("noted"),
                Action::Fetch(fetch) => {
                    let entries = up.log.entries(fetch.low, fetch.high, fetch.max_bytes);
                    up.driven
                        .fetched(fetch, entries.expect("in the log"))
                        .expect("goes on");
                }
                Action::Send { to, message } => self.wire.push_back((to, message)),
                Action::SendSnapshot { to, message, state } => self.send_snapshot(at, to, message, state),
                Action::SnapshotLost { to } => drop(up.store.inbox().snapshot_sent(to, false)),
                other @ (Action::Halt { .. }
                | Action::NoteRepaired
                | Action::RewriteImage(_)
                | Action::Scrub { .. }) => {
                    panic!("member {} lost nothing: {other:?}", member.id)
                }
            }
            if self.lost_power(at) {
                return;
            }
        }
    }

    fn send_snapshot(&mut self, from: usize, to: u64, message: Bytes, state: Snapshot) {
        let peer = self.members.iter().find(|member| member.id == to);
        let up = peer.and_then(|peer| peer.up.as_ref());
        let sent = up.is_some_and(|up| up.store.inbox().install(message, state).is_ok());
        if let Some(up) = &self.members[from].up {
            let _ = up.store.inbox().snapshot_sent(to, sent);
        }
    }

    /// A write by a member, with an outcome to come.
    fn ask(&mut self) {
        let at = self.random.random_range(0..self.members.len());
        let choice: f64 = self.random.random();
        let bytes = self.random.random_range(0..2500);
        let deletable = self
            .known
            .iter()
            .find(|(_, known)| known.written.is_some() && !known.deleting);
        let (key, delete) = match deletable {
            Some((key, _)) if choice < 0.2 => (key.clone(), true),
            _ if choice < 0.5 => (format!("/hot/{}", self.random.random_range(0..HOT)), false),
            _ => {
                self.sequence += 1;
                (format!("/once/{:06}", self.sequence), false)
            }
        };
        let Some(up) = &self.members[at].up else { return };
        let name = Bytes::from(key.clone());
        let op = if delete {
            Op::Delete { key: name.clone() }
        } else {
            Op::Put {
                key: name.clone(),
                value: vec![self.sequence as u8; bytes].into(),
            }
        };
        let once = key.starts_with("/once/") && !delete;
        let preconditions = once.then(|| Precondition::Absent(name)).into_iter().collect();
        if let Ok(answer) = up.store.propose(&Txn::new(preconditions, vec![op])) {
            if delete {
                self.known.get_mut(&key).expect("just seen").deleting = true;
            }
            self.asked.push(Asked { key, delete, answer });
        }
    }

    /// Takes down what was acknowledged.
    fn hear(&mut self) {
        for mut asked in std::mem::take(&mut self.asked) {
            match asked.answer.try_recv() {
                Ok(Ok(TxnOutcome::Committed { revision, .. })) => {
                    let taken = self.revisions.insert(revision.0, asked.key.clone());
                    assert_eq!(taken, None, "revision {revision} was given twice");
                    if asked.key.starts_with("/hot/") {
                        let newest = self.hot.entry(asked.key).or_default();
                        *newest = revision.0.max(*newest);
                        continue;
                    }
                    let known = self.known.entry(asked.key).or_default();
                    if asked.delete {
                        known.deleted = true;
                    } else {
                        known.written = Some(revision.0);
                    }
                }
                Ok(Ok(TxnOutcome::Conflict { .. })) => panic!("{} is written once", asked.key),
                Err(oneshot::error::TryRecvError::Empty) => self.asked.push(asked),
                // Refused, or unknown for ever.
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => (),
            }
        }
    }

    /// One step of every member, with what lies on the wire and a tick.
    fn step(&mut self) {
        self.now += Duration::from_millis(30);
        for (to, message) in std::mem::take(&mut self.wire) {
            let member = self.members.iter().find(|member| member.id == to);
            if let Some(up) = member.and_then(|member| member.up.as_ref()) {
                let _ = up.store.inbox().receive(message);
            }
        }
        for at in 0..self.members.len() {
            let ready = self.random.random_bool(0.5);
            let Some(up) = &mut self.members[at].up else {
                continue;
            };
            if let Some(batch) = up.writing.take_if(|_| ready) {
                up.image.write(&batch).expect("write");
                if self.lost_power(at) {
                    return;
                }
                let up = self.members[at].up.as_mut().expect("it runs");
                up.driven.image_written(Ok(0));
            }
            let up = self.members[at].up.as_mut().expect("it runs");
            up.driven.serve(self.now, true).expect("goes on");
            self.perform(at);
            if self.failed.is_some() {
                return;
            }
        }
        self.hear();
    }

    /// Whether all follow one leader and have applied all that any of them has.
    fn agree(&self) -> bool {
        let ups: Vec<&Up> = self
            .members
            .iter()
            .filter_map(|member| member.up.as_ref())
            .collect();
        let Some(first) = ups.first() else { return false };
        let (index, leader) = (first.driven.applied().index, first.driven.role().leader);
        let follows = |up: &&Up| (up.driven.applied().index, up.driven.role().leader) == (index, leader);
        leader != 0
            && self.asked.is_empty()
            && ups.iter().all(follows)
            // What a new leader finds in its log is committed only with its own first entry.
            && ups.iter().all(|up| up.log.state().last_index == index)
    }

    fn check(&self, round: u64) {
        let up = |member: &Member| member.up.as_ref().expect("it runs").store.snapshot();
        let states: Vec<Snapshot> = self.members.iter().map(up).collect();
        for state in &states {
            let revision = |key: &str| state.get(key.as_bytes()).map(|entry| entry.mod_revision.0);
            assert!(
                state.tree.iter().eq(states[0].tree.iter()),
                "round {round}: the members differ"
            );
            for (key, known) in &self.known {
                let found = revision(key);
                let whole = match known {
                    Known { deleted: true, .. } => found.is_none(),
                    Known { deleting: true, .. } => found.is_none() || found == known.written,
                    _ => known.written.is_none() || found == known.written,
                };
                assert!(
                    whole,
                    "round {round}: {key} was {:?} and is {found:?}",
                    known.written
                );
            }
            for (key, newest) in &self.hot {
                let found = revision(key);
                assert!(
                    found.is_some_and(|found| found >= *newest),
                    "round {round}: {key} is {found:?}"
                );
            }
        }
    }
}

/// Takes back what the watermark said last.
fn forget_newest(watermark: &std::path::Path) {
    let mut bytes = std::fs::read(watermark).expect("a watermark");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let newest = if number(0) > number(4096) { 0 } else { 4096 };
    bytes[newest..newest + 8].fill(0);
    std::fs::write(watermark, bytes).expect("write");
}

fn run(count: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SIM_SEED").unwrap_or_else(rand::random);
    let cuts = number("POWER_CUTS").unwrap_or(CUTS);
    println!("SIM_SEED={seed}");
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(dir.path(), count, seed);
    for round in 0..cuts {
        let down: Vec<usize> = (0..world.members.len())
            .filter(|at| world.members[*at].up.is_none())
            .collect();
        down.into_iter().for_each(|at| world.start(at));
        let healed = (0..HEAL).any(|_| {
            world.step();
            world.agree()
        });
        assert!(healed, "round {round}: the members do not come back");
        world.check(round);
        // Of some member the power fails, at one of its syncs; now and then it fails for all.
        let at = world.random.random_range(0..world.members.len());
        let all = world.random.random_bool(0.5);
        let (log, image) = (world.random.random_range(1..60), world.random.random_range(1..20));
        world.fail_at(at, log, image);
        while world.failed.is_none() {
            (0..world.random.random_range(0..4)).for_each(|_| world.ask());
            world.step();
        }
        let failed = world.failed.take().expect("just seen");
        for member in 0..world.members.len() {
            if all || member == failed {
                world.cut(member);
            }
        }
        // The others go on without it.
        if !all {
            for _ in 0..world.random.random_range(0..60) {
                world.ask();
                world.step();
            }
        }
    }
    let acknowledged = world.revisions.len();
    println!("{cuts} power cuts of {count} members, {acknowledged} acknowledged writes");
    assert!(
        acknowledged as u64 > cuts * 5,
        "the load was too low to mean anything"
    );
}

#[test]
fn a_power_cut_loses_nothing_that_one_member_acknowledged() {
    run(1);
}

#[test]
fn a_power_cut_of_one_or_all_of_three_members_loses_nothing() {
    run(3);
}
