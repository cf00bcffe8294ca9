//! What the log says about itself, beside the entries: who the member is, where the log starts, the hard state. Each is
//! a record of the engine under a key of its own.

use protobuf::Message;
use raft::eraftpb::{ConfState, HardState};
use raft_engine::env::FileSystem;
use raft_engine::{Engine, LogBatch};

use super::chain;
use super::{Base, Identity, LogError, LogState};

/// `raft-engine` can hold many groups; a member has one.
pub(super) const GROUP: u64 = 1;
pub(super) const IDENTITY_KEY: &[u8] = b"identity";
pub(super) const BASE_KEY: &[u8] = b"base";
pub(super) const HARD_STATE_KEY: &[u8] = b"hard-state";
/// The first byte of the identity and base records: entries carry chain headers.
const FORMAT: u8 = 2;

/// Where the chain of the log starts.
#[derive(Clone, Copy)]
pub(super) struct Root {
    /// The chain at the base.
    pub hash: u64,
    /// The batch that made the log start anew; what older batches say about the log is void.
    pub batch: u64,
}

/// The first records of a new log, durably.
pub(super) fn create<F: FileSystem>(
    engine: &Engine<F>,
    (identity, base): (Identity, Base),
) -> Result<(), LogError> {
    let mut batch = LogBatch::default();
    put_identity(&mut batch, identity)?;
    let root = Root {
        hash: chain::root(identity, &base),
        batch: 0,
    };
    batch
        .put(GROUP, BASE_KEY.to_vec(), encode_base(&base, root))
        .map_err(engine_error)?;
    engine.write(&mut batch, true).map_err(engine_error)?;
    Ok(())
}

/// Adds the member's identity to what `batch` writes.
pub(super) fn put_identity(batch: &mut LogBatch, identity: Identity) -> Result<(), LogError> {
    let mut record = vec![FORMAT];
    record.extend_from_slice(&identity.cluster.to_le_bytes());
    record.extend_from_slice(&identity.member.to_le_bytes());
    batch
        .put(GROUP, IDENTITY_KEY.to_vec(), record)
        .map_err(engine_error)
}

/// What the log is as it lies on disk, before its entries are verified.
///
/// # Errors
/// A record that is missing or damaged, or of another format.
pub(super) fn read_state<F: FileSystem>(engine: &Engine<F>) -> Result<(LogState, Root), LogError> {
    let record = engine
        .get(GROUP, IDENTITY_KEY)
        .ok_or(LogError::Damaged("identity"))?;
    if record.len() == 16 {
        return Err(LogError::Format);
    }
    let word = |at: usize| {
        record
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let identity = match (record.first(), word(1), word(9)) {
        (Some(&FORMAT), Some(cluster), Some(member)) => Identity { cluster, member },
        _ => return Err(LogError::Damaged("identity")),
    };
    let (base, root) = engine
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
    let state = LogState {
        identity,
        base,
        hard_state: hard_state.unwrap_or_default(),
        last_index,
        lost: None,
    };
    Ok((state, root))
}

pub(super) fn encode_base(base: &Base, root: Root) -> Vec<u8> {
    let mut record = vec![FORMAT];
    for word in [base.index, base.term, root.hash, root.batch] {
        record.extend_from_slice(&word.to_le_bytes());
    }
    record.extend(
        base.conf_state
            .write_to_bytes()
            .expect("a message in memory always encodes"),
    );
    record
}

fn decode_base(record: &[u8]) -> Option<(Base, Root)> {
    let (format, body) = record.split_first()?;
    if *format != FORMAT {
        return None;
    }
    let word = |n: usize| Some(u64::from_le_bytes(body.get(8 * n..8 * n + 8)?.try_into().ok()?));
    let base = Base {
        index: word(0)?,
        term: word(1)?,
        conf_state: ConfState::parse_from_bytes(body.get(32..)?).ok()?,
    };
    let root = Root {
        hash: word(2)?,
        batch: word(3)?,
    };
    Some((base, root))
}

pub(super) fn engine_error(error: raft_engine::Error) -> LogError {
    LogError::Engine(Box::new(error))
}
