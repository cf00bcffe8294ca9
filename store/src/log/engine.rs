//! The log on disk, in `raft-engine`: one checksummed batch for all that belongs together, then `fdatasync`. Every entry
//! is kept as a record of the member's own chain ([`chain`]), and a watermark beside the log says how far it was
//! durable. The engine drops a damaged tail when it opens; the watermark, and the newest record that can still be found
//! in the raw files, tell a torn write (never acknowledged) from a lost one ([`LogState::lost`]).

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raft::eraftpb::Entry;
use raft_engine::env::FileSystem;
use raft_engine::{Command, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::chain::{self, Header};
use super::prefilled::Prefilled;
use super::records::{self, GROUP, Root, engine_error};
use super::watermark::{Mark, Watermark};
use super::{Append, Base, Durable, Identity, Log, LogError, LogState, Lost, check_contiguous};
use crate::space::Space;

/// One file of the log; smaller where the file system is.
const FILE_BYTES: u64 = 16 << 20;
const MIN_FILE_BYTES: u64 = 256 << 10;
/// One file may take this share of a small file system, and the log [`PURGE_FILES`] times as much before old files go.
const FILE_SHARE: u64 = 128;
const PURGE_FILES: u64 = 8;
/// How long a write waits for room on the disk before the process gives up.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(30);
/// The room on the disk is looked at whenever this share of the reserve was written.
const LOOK_SHARE: u64 = 64;
/// A batch of at most so many bytes leaves its memory to the next one.
const SPARE_BYTES: usize = 1 << 20;
/// Entries verified at once when the log opens.
const VERIFY_BYTES: u64 = 8 << 20;
/// The newest files, whose raw bytes are searched for records when the log opens.
const SEARCHED_FILES: usize = 2;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

pub struct EngineLog<F: FileSystem = Prefilled> {
    engine: Engine<F>,
    dir: PathBuf,
    watermark: Watermark,
    state: LogState,
    root: Root,
    /// The chain with the newest entry.
    hash: u64,
    /// Number of the newest batch.
    batch: u64,
    /// There are other members.
    peers: bool,
    space: Option<Arc<Space>>,
    /// Bytes of entries written since the room was looked at.
    unseen: u64,
    fsyncs: u64,
    /// The last batch, empty: its memory serves the next one.
    spare: LogBatch,
}

/// A batch on its way, and what the log is with it.
struct Next {
    write: LogBatch,
    state: LogState,
    root: Root,
    hash: u64,
    number: u64,
}

impl EngineLog {
    /// Opens the log in `dir`, or makes a new one for the member and base that `fresh` gives.
    ///
    /// # Errors
    /// Damage that no prefix of the log survives is refused. Where a tail is gone that was durable, the log opens with
    /// [`LogState::lost`].
    pub fn open(dir: &Path, fresh: impl FnOnce() -> (Identity, Base)) -> Result<Self, LogError> {
        EngineLog::open_within(None, dir, fresh)
    }

    /// The same, on a disk whose room is watched.
    ///
    /// # Errors
    /// See [`EngineLog::open`].
    pub fn open_within(
        space: Option<Arc<Space>>,
        dir: &Path,
        fresh: impl FnOnce() -> (Identity, Base),
    ) -> Result<Self, LogError> {
        EngineLog::open_on(Arc::new(Prefilled), space, dir, fresh)
    }

    /// Puts a log that does not open out of the way, as `log.damaged-N`, and starts an empty one for the same member:
    /// everything it ever held counts as lost. `None`, and nothing is touched, when nobody else could give it back or
    /// who the member was is not known.
    ///
    /// # Errors
    /// When the folder cannot be moved or the new log not be made.
    pub fn replace(space: Option<Arc<Space>>, dir: &Path) -> Result<Option<Self>, LogError> {
        let (_, mark) = Watermark::open(dir)?;
        let Some(mark) = mark.filter(|mark| mark.peers) else {
            return Ok(None);
        };
        let folder = |source| LogError::File("folder", source);
        let aside = (1..)
            .map(|n| dir.with_extension(format!("damaged-{n}")))
            .find(|path| !path.exists())
            .expect("some number is free");
        std::fs::rename(dir, aside).map_err(folder)?;
        std::fs::create_dir_all(dir).map_err(folder)?;
        let parent = dir.parent().unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(folder)?;
        // Before the new log exists: a crash in between must not make it look whole.
        let (mut watermark, _) = Watermark::open(dir)?;
        watermark.set(Mark { lost: true, ..mark })?;
        watermark.sync()?;
        EngineLog::open_within(space, dir, || (mark.identity, Base::default())).map(Some)
    }
}

impl<F: FileSystem> EngineLog<F> {
    /// The same on a file system of the caller's: for tests that cut the power.
    pub(crate) fn open_on(
        file_system: Arc<F>,
        space: Option<Arc<Space>>,
        dir: &Path,
        fresh: impl FnOnce() -> (Identity, Base),
    ) -> Result<Self, LogError> {
        let path = dir
            .to_str()
            .ok_or(LogError::Engine("the path is no UTF-8".into()))?
            .to_owned();
        let total = space.as_ref().map_or(u64::MAX, |space| space.total());
        let file_bytes = (total / FILE_SHARE).clamp(MIN_FILE_BYTES, FILE_BYTES);
        let config = raft_engine::Config {
            dir: path,
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 1,
            // Small batches gain nothing, a large batch is not worth the CPU next to its fsync, and the records in the
            // raw files must stay readable.
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(file_bytes),
            // Above what two images apart can hold, so that nothing live has to be rewritten.
            purge_threshold: ReadableSize(file_bytes * PURGE_FILES),
            ..raft_engine::Config::default()
        };
        // Before the engine truncates what it cannot read.
        let found = newest_record(dir);
        let (watermark, mark) = Watermark::open(dir)?;
        let engine = Engine::open_with_file_system(config, file_system).map_err(engine_error)?;
        if engine.get(GROUP, records::IDENTITY_KEY).is_none() {
            let durable = mark.filter(|mark| !mark.lost).map(|mark| mark.index);
            if let Some(durable) = durable.or(found.map(|header| header.durable)) {
                return Err(LogError::Lost {
                    last_index: 0,
                    durable,
                });
            }
            records::create(&engine, fresh())?;
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| LogError::File("folder", source))?;
        }
        let (state, root) = records::read_state(&engine)?;
        let mark = mark.filter(|mark| mark.identity == state.identity);
        let mut log = EngineLog {
            dir: dir.to_owned(),
            engine,
            watermark,
            hash: root.hash,
            batch: root.batch.max(found.map_or(0, |header| header.batch)),
            peers: mark.is_some_and(|mark| mark.peers),
            state,
            root,
            space,
            unseen: 0,
            fsyncs: 0,
            spare: LogBatch::default(),
        };
        log.verify()?;
        log.find_loss(mark, found);
        Ok(log)
    }

    /// Walks the chain; the log ends before the first record that does not belong there.
    fn verify(&mut self) -> Result<(), LogError> {
        let last = self.state.last_index;
        let mut next = self.state.base.index + 1;
        while next <= last {
            let records = match self.records(next, last + 1, VERIFY_BYTES) {
                Ok(records) => records,
                Err(source) => {
                    // A whole piece does not read; entry by entry shows where the damage starts.
                    let single = |index| self.records(index, index + 1, u64::MAX).ok();
                    let whole: Vec<_> = (next..=last).map_while(single).flatten().collect();
                    if whole.is_empty() {
                        tracing::error!(%source, index = next, "the log cannot be read on");
                        break;
                    }
                    whole
                }
            };
            let before = next;
            for record in records {
                let Some((_, header)) = chain::unseal(record) else {
                    break;
                };
                if header.index != next || header.before != self.hash {
                    break;
                }
                (self.hash, next) = (header.hash, next + 1);
                self.batch = self.batch.max(header.batch);
            }
            if next == before {
                break;
            }
        }
        if next <= last {
            // Whether it was ever acknowledged, the watermark knows: of a batch that was torn, the engine may have the index
            // and not the entries.
            tracing::warn!(index = next, last, "log record is damaged");
            let state = &mut self.state;
            state.last_index = next - 1;
            state.hard_state.commit = state.hard_state.commit.min(state.last_index);
        }
        Ok(())
    }

    fn find_loss(&mut self, mark: Option<Mark>, found: Option<Header>) {
        let found = found.filter(|header| header.batch > self.root.batch);
        let durable = [mark.map(|mark| mark.index), found.map(|header| header.durable)]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(0);
        let term = [mark.map(|mark| mark.term), found.map(|header| header.term)]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(0);
        let state = &mut self.state;
        let marked = mark.is_some_and(|mark| mark.lost);
        // A record may be there whose batch was torn, together with the term that came with it.
        let term_lost = mark.is_some_and(|mark| mark.term > state.hard_state.term);
        if marked || term_lost || durable > state.last_index {
            state.lost.get_or_insert_default();
        }
        if let Some(lost) = &mut state.lost {
            lost.index = lost.index.max(durable);
            lost.term = lost.term.max(term).max(state.hard_state.term);
        }
    }

    fn records(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        let mut records = Vec::new();
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.engine
            .fetch_entries_to::<Entries>(GROUP, low, high, Some(max), &mut records)
            .map_err(engine_error)?;
        Ok(records)
    }

    /// The chain with the entry at `index`.
    fn chain_at(&self, index: u64) -> Result<u64, LogError> {
        if index == self.state.base.index {
            return Ok(self.root.hash);
        }
        if index == self.state.last_index {
            return Ok(self.hash);
        }
        let record = self.records(index, index + 1, u64::MAX)?.pop();
        let (_, header) = record.and_then(chain::unseal).ok_or(LogError::Record { index })?;
        Ok(header.hash)
    }

    /// The batch as the engine takes it, and what the log is once it is durable.
    fn prepare(&mut self, batch: &Append) -> Result<Next, LogError> {
        let (mut write, mut state) = (std::mem::take(&mut self.spare), self.state.clone());
        let (mut root, mut hash, number) = (self.root, self.hash, self.batch + 1);
        if let Some(base) = &batch.base {
            // What the engine holds may reach beyond what of it is whole.
            let last = self.engine.last_index(GROUP).unwrap_or(0).max(state.last_index);
            write.add_command(GROUP, Command::Compact { index: last + 1 });
            hash = chain::root(state.identity, base);
            root = Root { hash, batch: number };
            write
                .put(
                    GROUP,
                    records::BASE_KEY.to_vec(),
                    records::encode_base(base, root),
                )
                .map_err(engine_error)?;
            state.last_index = base.index;
            state.base = base.clone();
        }
        if let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) {
            if first.index <= state.last_index {
                hash = self.chain_at(first.index - 1)?;
            }
            let durable = first.index - 1;
            let mut records = Vec::with_capacity(batch.entries.len());
            for entry in &batch.entries {
                let (record, with) = chain::seal(entry, hash, number, durable);
                hash = with;
                records.push(record);
            }
            write
                .add_entries::<Entries>(GROUP, &records)
                .map_err(engine_error)?;
            state.last_index = last.index;
        }
        if let Some(hard_state) = &batch.hard_state {
            write
                .put_message(GROUP, records::HARD_STATE_KEY.to_vec(), hard_state)
                .map_err(engine_error)?;
            state.hard_state = hard_state.clone();
        }
        Ok(Next {
            write,
            state,
            root,
            hash,
            number,
        })
    }

    /// Passes over an error of what only tidies up, if it is for want of room: it is tried again with the next image.
    fn tolerate(&self, error: raft_engine::Error) -> Result<(), LogError> {
        if !is_no_space(&error) {
            return Err(engine_error(error));
        }
        tracing::warn!(%error, "the log could not be cut");
        if let Some(space) = &self.space {
            space.give_up_placeholder();
        }
        Ok(())
    }

    /// Looks now and then whether there is still room, and always while there is little.
    fn look(&mut self, entries: &[Entry]) {
        let bytes = |entry: &Entry| (entry.data.len() + entry.context.len()) as u64;
        self.unseen += entries.iter().map(bytes).sum::<u64>();
        if let Some(space) = &self.space
            && (self.unseen >= space.reserve() / LOOK_SHARE || space.is_full())
        {
            self.unseen = 0;
            space.look();
        }
    }

    fn mark(&mut self, index: u64) -> Result<(), LogError> {
        let lost = self.state.lost;
        self.watermark.set(Mark {
            identity: self.state.identity,
            index: index.max(lost.map_or(0, |lost| lost.index)),
            term: self.state.hard_state.term.max(lost.map_or(0, |lost| lost.term)),
            lost: lost.is_some(),
            peers: self.peers,
        })
    }
}

/// The newest record that can be found in the newest files, whether or not the engine can still read it.
fn newest_record(dir: &Path) -> Option<Header> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
        .collect();
    files.sort();
    let newest = files.iter().rev().take(SEARCHED_FILES);
    newest
        .filter_map(|path| chain::newest(&std::fs::read(path).ok()?))
        .max_by_key(|header| header.batch)
}

fn is_no_space(error: &raft_engine::Error) -> bool {
    match error {
        raft_engine::Error::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
        // The engine says only this when it found no room in any of its files.
        raft_engine::Error::TryAgain(_) => true,
        _ => false,
    }
}

impl<F: FileSystem + 'static> Log for EngineLog<F> {
    fn state(&self) -> LogState {
        self.state.clone()
    }

    fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, LogError> {
        if low <= self.state.base.index || low >= high || high > self.state.last_index + 1 {
            return Err(LogError::Missing { low, high });
        }
        let mut entries = Vec::new();
        let mut before = None;
        for record in self.records(low, high, max_bytes)? {
            let index = record.index;
            let (entry, header) = chain::unseal(record).ok_or(LogError::Record { index })?;
            if before.is_some_and(|before| before != header.before) {
                return Err(LogError::Record { index });
            }
            before = Some(header.hash);
            entries.push(entry);
        }
        Ok(entries)
    }

    fn append(&mut self, batch: Append) -> Result<Durable, LogError> {
        check_contiguous(&batch, &self.state)?;
        let mut next = self.prepare(&batch)?;
        // The watermark may be behind the log, never ahead: it goes down before the log does, also on disk, or a power cut
        // would bring back a higher one. It goes up after.
        if next.state.last_index < self.state.last_index {
            self.mark(next.state.last_index)?;
            self.watermark.sync()?;
        }
        let begun = Instant::now();
        while let Err(error) = self.engine.write(&mut next.write, true) {
            // Nothing of the batch is in the log: the engine takes back what it could not write whole.
            let room = self.space.as_ref().filter(|_| is_no_space(&error));
            let room =
                room.is_some_and(|space| space.give_up_placeholder() || begun.elapsed() < WAIT_FOR_ROOM);
            if !room {
                return Err(engine_error(error));
            }
            tracing::error!(%error, "the log waits for room on the disk");
            std::thread::sleep(Duration::from_millis(100));
            next = self.prepare(&batch)?;
        }
        self.fsyncs += 1;
        (self.state, self.root, self.hash, self.batch) = (next.state, next.root, next.hash, next.number);
        if batch.entries.iter().map(|entry| entry.data.len()).sum::<usize>() <= SPARE_BYTES {
            self.spare = next.write;
        }
        self.mark(self.state.last_index)?;
        self.look(&batch.entries);
        Ok(Durable { number: batch.number })
    }

    fn cut(&mut self, base: Base) -> Result<(), LogError> {
        if base.index <= self.state.base.index {
            return Ok(());
        }
        let root = if base.index <= self.state.last_index {
            let hash = match self.chain_at(base.index) {
                Ok(hash) => hash,
                Err(error) => {
                    // The record is damaged. The old base is as good, and the next cut lies behind it.
                    tracing::warn!(%error, "the log is not cut");
                    return Ok(());
                }
            };
            Root { hash, ..self.root }
        } else {
            Root {
                hash: chain::root(self.state.identity, &base),
                batch: self.batch + 1,
            }
        };
        let mut write = LogBatch::with_capacity(4);
        write.add_command(
            GROUP,
            Command::Compact {
                index: base.index + 1,
            },
        );
        // Everything that lives moves on with the base, or one small record would keep the oldest file for ever.
        records::put_identity(&mut write, self.state.identity)?;
        write
            .put_message(GROUP, records::HARD_STATE_KEY.to_vec(), &self.state.hard_state)
            .map_err(engine_error)?;
        write
            .put(
                GROUP,
                records::BASE_KEY.to_vec(),
                records::encode_base(&base, root),
            )
            .map_err(engine_error)?;
        // Synced, or a power cut could bring back a base whose files are deleted below.
        if let Err(error) = self.engine.write(&mut write, true) {
            // The old base is as good.
            return self.tolerate(error);
        }
        if base.index > self.state.last_index {
            (self.state.last_index, self.hash, self.batch) = (base.index, root.hash, root.batch);
        }
        (self.state.base, self.root) = (base, root);
        self.engine
            .purge_expired_files()
            .map(drop)
            .or_else(|error| self.tolerate(error))
    }

    fn has_peers(&self) -> bool {
        self.peers
    }

    fn note_peers(&mut self, peers: bool) -> Result<(), LogError> {
        if peers == self.peers {
            return Ok(());
        }
        self.peers = peers;
        self.mark(self.state.last_index)?;
        self.watermark.sync()
    }

    fn note_loss(&mut self, lost: Option<Lost>) -> Result<(), LogError> {
        self.state.lost = lost;
        self.mark(self.state.last_index)?;
        self.watermark.sync()
    }

    fn forget_cached(&self) {
        for file in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            crate::space::forget_cached(&file.path());
        }
    }

    fn fsyncs(&self) -> u64 {
        self.fsyncs
    }

    fn disk_bytes(&self) -> u64 {
        folder_bytes(&self.dir)
    }
}

/// What the files take, not how long they claim to be.
fn folder_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::HardState;

    use super::*;
    use crate::log::contract;

    fn open(dir: &Path) -> Result<EngineLog, LogError> {
        EngineLog::open(dir, || (contract::IDENTITY, contract::base(0, 0)))
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(|| {
            let dir = tempfile::tempdir().expect("a folder");
            move || open(dir.path()).expect("open")
        });
    }

    fn append(log: &mut EngineLog, indexes: std::ops::RangeInclusive<u64>, term: u64) {
        for index in indexes {
            let entry = Entry {
                index,
                term,
                data: vec![index as u8; 300].into(),
                ..Entry::default()
            };
            let hard_state = HardState {
                term,
                ..HardState::default()
            };
            log.append(Append {
                number: index,
                entries: vec![entry],
                hard_state: Some(hard_state),
                ..Append::default()
            })
            .expect("append");
        }
    }

    fn newest_file(dir: &Path) -> PathBuf {
        let files = std::fs::read_dir(dir).expect("list");
        let paths = files.map(|entry| entry.expect("entry").path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
            .max()
            .expect("a log file")
    }

    /// Without the watermark, the records after the damage prove that what is damaged was durable.
    #[test]
    fn a_later_record_proves_that_an_earlier_one_was_durable() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = open(dir.path()).expect("open");
        append(&mut log, 1..=9, 1);
        append(&mut log, 5..=20, 2);
        drop(log);
        let file = newest_file(dir.path());
        let mut bytes = std::fs::read(&file).expect("read");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty");
        bytes[end - 2000] ^= 1;
        std::fs::write(&file, &bytes).expect("write");
        std::fs::remove_file(dir.path().join("watermark")).expect("remove");
        let state = open(dir.path()).expect("a prefix is left").state();
        let lost = state.lost.expect("the loss is seen");
        assert!(lost.index >= 19 && lost.term == 2, "{lost:?}");
        assert!((5..19).contains(&state.last_index), "{}", state.last_index);
        // The same, once more: the loss is remembered though the engine has truncated its file.
        let mut log = open(dir.path()).expect("a prefix is left");
        log.note_loss(state.lost).expect("noted");
        append(&mut log, state.last_index + 1..=20, 3);
        drop(log);
        let mut log = open(dir.path()).expect("whole");
        assert!(
            log.state().lost.is_some(),
            "only the peers can say that it is whole"
        );
        log.note_loss(None).expect("noted");
        drop(log);
        let state = open(dir.path()).expect("whole").state();
        assert_eq!((state.lost, state.last_index), (None, 20));
    }

    #[test]
    fn a_log_that_does_not_open_is_replaced_only_if_peers_can_fill_it() {
        for peers in [false, true] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("log");
            std::fs::create_dir(&path).expect("make");
            let mut log = open(&path).expect("open");
            append(&mut log, 1..=9, 4);
            log.note_peers(peers).expect("noted");
            drop(log);
            std::fs::write(newest_file(&path), b"nothing of this is a log").expect("write");
            assert!(open(&path).is_err());
            let replaced = EngineLog::replace(None, &path).expect("replaced");
            assert_eq!(replaced.is_some(), peers);
            let Some(log) = replaced else { continue };
            let check = |state: LogState| {
                assert_eq!(state.identity, contract::IDENTITY);
                assert_eq!((state.base, state.last_index), (Base::default(), 0));
                assert_eq!(state.lost, Some(Lost { index: 9, term: 4 }));
            };
            check(log.state());
            drop(log);
            check(open(&path).expect("open").state());
            assert!(dir.path().join("log.damaged-1").exists());
        }
    }

    #[test]
    fn a_tail_that_was_durable_is_not_dropped_silently() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = open(dir.path()).expect("open");
        for index in 1..=20 {
            let entry = Entry {
                index,
                term: 1,
                data: vec![7; 300].into(),
                ..Entry::default()
            };
            log.append(Append {
                number: index,
                entries: vec![entry],
                ..Append::default()
            })
            .expect("append");
        }
        drop(log);
        let file = std::fs::read_dir(dir.path())
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .find(|path| path.extension().is_some_and(|extension| extension == "raftlog"))
            .expect("a log file");
        let bytes = std::fs::read(&file).expect("read");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty");
        for flip in [end - 40, end - 1000, end / 2] {
            let mut damaged = bytes.clone();
            damaged[flip] ^= 0x10;
            std::fs::write(&file, &damaged).expect("write");
            match open(dir.path()) {
                Ok(log) => {
                    let lost = log.state().lost.expect("the loss is seen");
                    assert_eq!(lost.index, 20, "byte {flip} of {end} flipped");
                    assert!(log.state().last_index < 20);
                }
                // Not even who the member is can be read.
                Err(error) => assert!(matches!(error, LogError::Lost { .. }), "{error:?}"),
            }
        }
        std::fs::write(&file, &bytes).expect("write");
        assert_eq!(open(dir.path()).expect("undamaged").state().last_index, 20);
    }
}
