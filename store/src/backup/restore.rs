//! A new member from a backup: the only one of a new cluster, for the members of the old one may still be alive and must
//! not talk to it. Its revisions continue far above those of the backup, so that whatever the old cluster wrote after the
//! backup is never mistaken for what the new one writes, and whoever watched the old one is told to list again.

use std::path::{Path, PathBuf};

use raft::eraftpb::ConfState;

use super::About;
use crate::error::OpenError;
use crate::image::segments::SegmentImage;
use crate::image::{Batch, Image, ImageError, Meta};
use crate::log::engine::EngineLog;
use crate::log::{Base, Identity, LogError};
use crate::model::Revision;
use crate::store::{lock, random_identity};
use crate::tree::Snapshot;

/// How far revisions jump: more than a cluster writes between a backup and its loss.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;
/// Where the log of the new member starts: after the entry that stands for the restore. Not where that of a founder
/// does, whose state could be rebuilt from its log.
const RESTORED: u64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0} is not empty: a backup is restored into an empty folder only")]
    NotEmpty(PathBuf),
    #[error("make the folder")]
    Folder(#[from] OpenError),
    #[error("read the folder")]
    Io(#[from] std::io::Error),
    #[error("write the log")]
    Log(#[from] LogError),
    #[error("write the state image")]
    Image(#[from] ImageError),
    #[error("revision {0} cannot be raised by {1}")]
    Bump(Revision, u64),
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub identity: Identity,
    /// The store's revision; nothing older can be watched.
    pub revision: Revision,
    pub keys: usize,
}

/// Makes the store of a new member in `dir` out of a backup. Keys that `keep` refuses are left out: what is about the old
/// members.
///
/// # Errors
/// See [`RestoreError`]; a folder that holds anything is not touched.
pub fn restore(
    dir: &Path,
    (about, state): (&About, Snapshot),
    bump: u64,
    keep: impl Fn(&[u8]) -> bool,
) -> Result<Restored, RestoreError> {
    if dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
        return Err(RestoreError::NotEmpty(dir.into()));
    }
    let revision = about.revision.0.checked_add(bump);
    let revision = revision
        .ok_or(RestoreError::Bump(about.revision, bump))
        .map(Revision)?;
    let mut tree = state.tree;
    let gone: Vec<_> = tree
        .iter()
        .map(|entry| entry.key.clone())
        .filter(|key| !keep(key))
        .collect();
    for key in gone {
        tree.remove(&key);
    }
    let state = Snapshot { revision, tree };
    let _lock = lock(dir)?;
    let identity = random_identity();
    let base = Base {
        index: RESTORED,
        term: 1,
        conf_state: ConfState {
            voters: vec![identity.member],
            ..ConfState::default()
        },
    };
    // The image first: a log without it is refused, an image without a log is only a folder that is not empty.
    let meta = Meta {
        installed: false,
        ..Meta::of_installed(identity, base.clone(), &state)
    };
    SegmentImage::new(&dir.join("image")).write(&Batch {
        replace: true,
        puts: state.tree.iter().cloned().collect(),
        deletes: Vec::new(),
        meta,
        state: state.tree.clone(),
    })?;
    drop(EngineLog::open(&dir.join("log"), || (identity, base))?);
    Ok(Restored {
        identity,
        revision,
        keys: state.len(),
    })
}
