//! The log on disk, in `raft-engine`, which checks its own records: one checksummed batch for all that belongs together,
//! then `fdatasync`. Beside it lies a watermark: how far the log was durable at least. The engine drops a damaged tail
//! when it opens; the watermark tells a torn write (never acknowledged) from a lost one (refused).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protobuf::Message;
use raft::eraftpb::{ConfState, Entry, HardState};
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::{Command, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::{Append, Base, Durable, Identity, Log, LogError, LogState, check_contiguous};

/// `raft-engine` can hold many groups; a member has one.
const GROUP: u64 = 1;
const IDENTITY_KEY: &[u8] = b"identity";
const BASE_KEY: &[u8] = b"base";
const HARD_STATE_KEY: &[u8] = b"hard-state";
/// One file of the log.
const FILE_BYTES: u64 = 16 << 20;
/// The engine drops old files once the log is larger than this. Above what two images apart can hold, so that nothing
/// live has to be rewritten.
const PURGE_BYTES: u64 = 128 << 20;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

pub struct EngineLog<F: FileSystem = DefaultFileSystem> {
    engine: Engine<F>,
    dir: PathBuf,
    watermark: Watermark,
    state: LogState,
    fsyncs: u64,
}

impl EngineLog {
    /// Opens the log in `dir`, or makes a new one for the member and base that `fresh` gives.
    ///
    /// # Errors
    /// Damage is refused: a record that does not read, or a tail that was durable and is gone.
    pub fn open(dir: &Path, fresh: impl FnOnce() -> (Identity, Base)) -> Result<Self, LogError> {
        EngineLog::open_on(Arc::new(DefaultFileSystem), dir, fresh)
    }
}

impl<F: FileSystem> EngineLog<F> {
    /// The same on a file system of the caller's: for tests that cut the power.
    pub(super) fn open_on(
        file_system: Arc<F>,
        dir: &Path,
        fresh: impl FnOnce() -> (Identity, Base),
    ) -> Result<Self, LogError> {
        let path = dir
            .to_str()
            .ok_or(LogError::Engine("the path is no UTF-8".into()))?
            .to_owned();
        let config = raft_engine::Config {
            dir: path,
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 1,
            // Small batches gain nothing, and a large batch is not worth the CPU next to its fsync.
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(FILE_BYTES),
            purge_threshold: ReadableSize(PURGE_BYTES),
            ..raft_engine::Config::default()
        };
        let engine = Engine::open_with_file_system(config, file_system).map_err(engine_error)?;
        let mut watermark = Watermark::open(dir).map_err(|source| LogError::File("watermark", source))?;
        if engine.get(GROUP, IDENTITY_KEY).is_none() {
            if let Some(durable) = watermark.read(None) {
                return Err(LogError::Lost {
                    last_index: 0,
                    durable,
                });
            }
            create(&engine, fresh())?;
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| LogError::File("folder", source))?;
        }
        let state = read_state(&engine)?;
        if let Some(durable) = watermark.read(Some(state.identity.member))
            && durable > state.last_index
        {
            return Err(LogError::Lost {
                last_index: state.last_index,
                durable,
            });
        }
        watermark.member = state.identity.member;
        Ok(EngineLog {
            dir: dir.to_owned(),
            engine,
            watermark,
            state,
            fsyncs: 0,
        })
    }
}

fn create<F: FileSystem>(engine: &Engine<F>, (identity, base): (Identity, Base)) -> Result<(), LogError> {
    let mut batch = LogBatch::default();
    let mut record = identity.cluster.to_le_bytes().to_vec();
    record.extend_from_slice(&identity.member.to_le_bytes());
    batch
        .put(GROUP, IDENTITY_KEY.to_vec(), record)
        .map_err(engine_error)?;
    batch
        .put(GROUP, BASE_KEY.to_vec(), encode_base(&base))
        .map_err(engine_error)?;
    engine.write(&mut batch, true).map_err(engine_error)?;
    Ok(())
}

fn read_state<F: FileSystem>(engine: &Engine<F>) -> Result<LogState, LogError> {
    let record = engine
        .get(GROUP, IDENTITY_KEY)
        .ok_or(LogError::Damaged("identity"))?;
    let word = |at: usize| {
        record
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let identity = match (word(0), word(8)) {
        (Some(cluster), Some(member)) => Identity { cluster, member },
        _ => return Err(LogError::Damaged("identity")),
    };
    let base = engine
        .get(GROUP, BASE_KEY)
        .as_deref()
        .and_then(decode_base)
        .ok_or(LogError::Damaged("base"))?;
    let hard_state: Option<HardState> = engine.get_message(GROUP, HARD_STATE_KEY).map_err(engine_error)?;
    let last_index = engine.last_index(GROUP).unwrap_or(base.index).max(base.index);
    if engine
        .first_index(GROUP)
        .is_some_and(|first| first > base.index + 1)
    {
        return Err(LogError::Damaged("first entry"));
    }
    Ok(LogState {
        identity,
        base,
        hard_state: hard_state.unwrap_or_default(),
        last_index,
    })
}

fn encode_base(base: &Base) -> Vec<u8> {
    let mut record = base.index.to_le_bytes().to_vec();
    record.extend_from_slice(&base.term.to_le_bytes());
    record.extend(
        base.conf_state
            .write_to_bytes()
            .expect("a message in memory always encodes"),
    );
    record
}

fn decode_base(record: &[u8]) -> Option<Base> {
    let index = u64::from_le_bytes(record.get(..8)?.try_into().ok()?);
    let term = u64::from_le_bytes(record.get(8..16)?.try_into().ok()?);
    let conf_state = ConfState::parse_from_bytes(&record[16..]).ok()?;
    Some(Base {
        index,
        term,
        conf_state,
    })
}

fn engine_error(error: raft_engine::Error) -> LogError {
    LogError::Engine(Box::new(error))
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
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.engine
            .fetch_entries_to::<Entries>(GROUP, low, high, Some(max), &mut entries)
            .map_err(engine_error)?;
        Ok(entries)
    }

    fn append(&mut self, batch: Append) -> Result<Durable, LogError> {
        check_contiguous(&batch, &self.state)?;
        let mut write = LogBatch::with_capacity(4);
        let mut state = self.state.clone();
        if let Some(base) = batch.base {
            write.add_command(
                GROUP,
                Command::Compact {
                    index: state.last_index + 1,
                },
            );
            write
                .put(GROUP, BASE_KEY.to_vec(), encode_base(&base))
                .map_err(engine_error)?;
            state.last_index = base.index;
            state.base = base;
        }
        if let Some(last) = batch.entries.last() {
            write
                .add_entries::<Entries>(GROUP, &batch.entries)
                .map_err(engine_error)?;
            state.last_index = last.index;
        }
        if let Some(hard_state) = batch.hard_state {
            write
                .put_message(GROUP, HARD_STATE_KEY.to_vec(), &hard_state)
                .map_err(engine_error)?;
            state.hard_state = hard_state;
        }
        // The watermark may be behind the log, never ahead: it goes down before the log does, and up after.
        if state.last_index < self.state.last_index {
            self.watermark.set(state.last_index)?;
        }
        self.engine.write(&mut write, true).map_err(engine_error)?;
        self.fsyncs += 1;
        if state.last_index > self.state.last_index {
            self.watermark.set(state.last_index)?;
        }
        self.state = state;
        Ok(Durable { number: batch.number })
    }

    fn cut(&mut self, base: Base) -> Result<(), LogError> {
        if base.index <= self.state.base.index {
            return Ok(());
        }
        let mut write = LogBatch::with_capacity(2);
        write.add_command(
            GROUP,
            Command::Compact {
                index: base.index + 1,
            },
        );
        write
            .put(GROUP, BASE_KEY.to_vec(), encode_base(&base))
            .map_err(engine_error)?;
        self.engine.write(&mut write, false).map_err(engine_error)?;
        self.state.last_index = self.state.last_index.max(base.index);
        self.state.base = base;
        self.engine.purge_expired_files().map_err(engine_error)?;
        Ok(())
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

/// `member, index, crc` in one small file, rewritten in place after each fsync of the log and not synced itself: it
/// survives the death of the process at once and a power cut some seconds later. It may be behind, never ahead.
struct Watermark {
    file: File,
    member: u64,
}

impl Watermark {
    fn open(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join("watermark");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Watermark { file, member: 0 })
    }

    /// The index, if the record is whole and belongs to `member` (or to anyone).
    fn read(&self, member: Option<u64>) -> Option<u64> {
        let mut record = [0; 20];
        self.file.read_exact_at(&mut record, 0).ok()?;
        if record[16..] != crc32fast::hash(&record[..16]).to_le_bytes() {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        if member.is_some_and(|member| member != word(0)) {
            return None;
        }
        Some(word(8))
    }

    fn set(&self, index: u64) -> Result<(), LogError> {
        self.write(index)
            .map_err(|source| LogError::File("watermark", source))
    }

    fn write(&self, index: u64) -> std::io::Result<()> {
        let mut record = [0; 20];
        record[..8].copy_from_slice(&self.member.to_le_bytes());
        record[8..16].copy_from_slice(&index.to_le_bytes());
        let crc = crc32fast::hash(&record[..16]).to_le_bytes();
        record[16..].copy_from_slice(&crc);
        self.file.write_all_at(&record, 0)
    }
}

#[cfg(test)]
mod tests {
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
            let read = open(dir.path()).and_then(|log| log.entries(1, 21, u64::MAX));
            assert!(read.is_err(), "byte {flip} of {end} flipped");
        }
        std::fs::write(&file, &bytes).expect("write");
        assert_eq!(open(dir.path()).expect("undamaged").state().last_index, 20);
    }
}
