//! The log on a disk that loses power: what was not synced is gone, or there in part, sector by sector. What was
//! appended successfully must be there afterwards.

use std::collections::HashMap;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::Entry;
use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::engine::EngineLog;
use super::{Append, Base, Log, contract};

const SECTOR: usize = 512;
/// Power cuts of the short run; `POWER_CUTS=200` for the long one.
const CUTS: usize = 15;

/// Real files, and what of them would survive. Names of files are taken as durable.
pub(crate) struct Disk {
    synced: Mutex<HashMap<PathBuf, Vec<u8>>>,
    /// Syncs until the power fails. From then on a sync does nothing: what it would have made durable may be lost.
    left: Mutex<u32>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk {
            synced: Mutex::default(),
            left: Mutex::new(u32::MAX),
        }
    }
}

impl Disk {
    /// The power is back.
    pub fn restore(&self) {
        self.fail_after(u32::MAX);
    }

    /// The power fails at this sync, counted from 1.
    pub fn fail_after(&self, syncs: u32) {
        *self.left.lock() = syncs;
    }

    pub fn failed(&self) -> bool {
        *self.left.lock() == 0
    }
}

pub(crate) struct LossyFileSystem(pub Arc<Disk>);

pub(crate) struct LossyHandle {
    file: Arc<<DefaultFileSystem as FileSystem>::Handle>,
    path: PathBuf,
    disk: Arc<Disk>,
}

impl LossyFileSystem {
    fn handle(&self, path: &Path, file: <DefaultFileSystem as FileSystem>::Handle) -> LossyHandle {
        LossyHandle {
            file: Arc::new(file),
            path: path.to_owned(),
            disk: self.0.clone(),
        }
    }
}

impl Handle for LossyHandle {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.file.truncate(offset)
    }

    fn file_size(&self) -> Result<usize> {
        self.file.file_size()
    }

    fn sync(&self) -> Result<()> {
        let mut left = self.disk.left.lock();
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Ok(());
        }
        self.disk
            .synced
            .lock()
            .insert(self.path.clone(), std::fs::read(&self.path)?);
        Ok(())
    }
}

impl FileSystem for LossyFileSystem {
    type Handle = LossyHandle;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<LossyHandle> {
        let file = DefaultFileSystem.create(&path)?;
        Ok(self.handle(path.as_ref(), file))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<LossyHandle> {
        let file = DefaultFileSystem.open(&path, permission)?;
        Ok(self.handle(path.as_ref(), file))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.0.synced.lock().remove(path.as_ref());
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        let mut synced = self.0.synced.lock();
        if let Some(content) = synced.remove(from.as_ref()) {
            synced.insert(to.as_ref().to_owned(), content);
        }
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<LossyHandle>) -> Result<Self::Reader> {
        DefaultFileSystem.new_reader(handle.file.clone())
    }

    fn new_writer(&self, handle: Arc<LossyHandle>) -> Result<Self::Writer> {
        DefaultFileSystem.new_writer(handle.file.clone())
    }
}

/// Turns the files into what the disk holds after a power cut: synced content, plus each other sector by chance.
pub(crate) fn cut_power(dir: &Path, disk: &Disk, random: &mut StdRng) {
    let kept = if random.random_bool(0.3) {
        0.0
    } else {
        random.random_range(0.0..1.0)
    };
    for file in std::fs::read_dir(dir)
        .expect("list")
        .map(|file| file.expect("file").path())
    {
        let log = file
            .extension()
            .is_some_and(|extension| extension == "raftlog" || extension == "rewrite");
        if !log {
            continue;
        }
        let written = std::fs::read(&file).expect("read");
        let mut content = disk.synced.lock().get(&file).cloned().unwrap_or_default();
        for start in (0..written.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(written.len());
            if content.get(start..end) == Some(&written[start..end]) || !random.random_bool(kept) {
                continue;
            }
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(&written[start..end]);
        }
        std::fs::write(&file, &content).expect("write");
        disk.synced.lock().insert(file, content);
    }
}

fn entry(index: u64, term: u64, random: &mut StdRng) -> Entry {
    let data = vec![index as u8; random.random_range(0..3000)];
    Entry {
        index,
        term,
        data: data.into(),
        ..Entry::default()
    }
}

/// Appends until the power fails; returns what was acknowledged: the entries after the base.
fn live(
    log: &mut impl Log,
    dir: &Path,
    disk: &Disk,
    held: &mut Vec<Entry>,
    random: &mut StdRng,
    number: &mut u64,
) {
    loop {
        *number += 1;
        let base = log.state().base.index;
        // Now and then a new leader's entries replace the newest ones.
        let back = if random.random_bool(0.1) {
            random.random_range(0..=held.len().min(3))
        } else {
            0
        };
        let first = base + 1 + (held.len() - back) as u64;
        let last = first + random.random_range(0..8);
        let entries: Vec<Entry> = (first..=last)
            .map(|index| entry(index, *number, random))
            .collect();
        let batch = Append {
            number: *number,
            entries: entries.clone(),
            ..Append::default()
        };
        let watermark = std::fs::read(dir.join("watermark")).expect("a watermark");
        log.append(batch).expect("append");
        if disk.failed() {
            // The real process would not have come back from the sync to write it.
            std::fs::write(dir.join("watermark"), watermark).expect("write");
            return;
        }
        held.truncate(held.len() - back);
        held.extend(entries);
        if random.random_bool(0.05) && held.len() > 4 {
            let keep = random.random_range(1..4);
            let last = &held[held.len() - keep - 1];
            log.cut(Base {
                index: last.index,
                term: last.term,
                ..contract::base(0, 0)
            })
            .expect("cut");
            held.drain(..held.len() - keep);
        }
    }
}

#[track_caller]
fn check(log: &impl Log, held: &[Entry], round: usize) {
    let state = log.state();
    let Some(last) = held.last() else { return };
    // A new leader's batch that was torn may have taken the newest entries with it: they were not committed.
    assert!(
        state.last_index + 3 >= last.index,
        "round {round}: the log ends at {} instead of {}",
        state.last_index,
        last.index
    );
    let end = last.index.min(state.last_index) + 1;
    if end == held[0].index {
        return;
    }
    // A cut may be lost; then older entries are there again.
    assert!(state.base.index < held[0].index, "round {round}");
    let found = log.entries(held[0].index, end, u64::MAX).expect("in the log");
    // The batch under way may have replaced the newest entries without being acknowledged.
    let same = found
        .iter()
        .zip(held)
        .take_while(|(found, held)| found == held)
        .count();
    assert!(
        same + 3 >= held.len(),
        "round {round}: {same} of {} entries are as acknowledged",
        held.len()
    );
    let replaced = found.get(same).map(|entry| entry.term);
    assert!(
        replaced.is_none_or(|term| term > last.term),
        "round {round}: only a newer leader replaces entries"
    );
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let seed = std::env::var("SIM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SIM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(Disk::default());
    let (mut held, mut number) = (Vec::new(), 0);
    let cuts = std::env::var("POWER_CUTS")
        .ok()
        .and_then(|text| text.parse().ok());
    for round in 0..cuts.unwrap_or(CUTS) {
        disk.restore();
        let file_system = Arc::new(LossyFileSystem(disk.clone()));
        let fresh = || (contract::IDENTITY, contract::base(0, 0));
        let mut log =
            EngineLog::open_on(file_system, None, dir.path(), fresh).expect("what a power cut leaves opens");
        check(&log, &held, round);
        // What was found is durable now, or will be replaced.
        let state = log.state();
        held = match state.last_index - state.base.index {
            0 => Vec::new(),
            _ => log
                .entries(state.base.index + 1, state.last_index + 1, u64::MAX)
                .expect("in the log"),
        };
        disk.fail_after(random.random_range(1..40));
        live(&mut log, dir.path(), &disk, &mut held, &mut random, &mut number);
        drop(log);
        cut_power(dir.path(), &disk, &mut random);
    }
    assert!(number > 50, "the load was too low to mean anything");
}
