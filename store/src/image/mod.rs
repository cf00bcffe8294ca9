//! The state image on disk: all keys as of one applied log entry, so that the log before it can be cut. It follows
//! behind the log in large batches. One narrow trait, two back ends ([`segments`], [`memory`]), one contract suite.
//! Knows entries and checksums, neither Raft nor MVCC.

#[cfg(test)]
mod contract;
pub mod memory;
#[cfg(test)]
pub(crate) mod power_cut;
pub mod segments;
pub mod trail;

use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message;
use raft::eraftpb::ConfState;

use crate::log::{Base, Identity};
use crate::model::{Entry, Memo, Revision};
use crate::tree::{Snapshot, Tree};

const META_VERSION: u8 = 3;
/// CRC, create revision, mod revision.
const RECORD_HEADER: usize = 4 + 8 + 8;

/// What an image says about itself; written in the same atomic batch as its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub identity: Identity,
    /// The last log entry the image contains, and the membership as of it.
    pub base: Base,
    pub revision: Revision,
    /// Number of keys.
    pub keys: u64,
    /// Sum of [`digest`] over all entries: a lost or stale record shows, though its own checksum is right.
    pub digest: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
    /// It came from a peer, and the log is about to start after it: a crash in between leaves the log behind.
    pub installed: bool,
}

impl Meta {
    /// The meta of a whole state that a peer sent.
    pub fn of_installed(identity: Identity, base: Base, state: &Snapshot) -> Meta {
        Meta {
            identity,
            base,
            revision: state.revision,
            keys: state.tree.len() as u64,
            digest: sum(&state.tree),
            bytes: state.tree.iter().map(|entry| size(entry)).sum(),
            installed: true,
        }
    }
}

/// The difference from one image to the next.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Nothing of the image before is kept.
    pub replace: bool,
    pub puts: Vec<Arc<Entry>>,
    pub deletes: Vec<Bytes>,
    pub meta: Meta,
    /// Everything, as of the batch.
    pub state: Tree,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// What is on disk is not a whole image; nothing of it may be used.
    #[error("state image is damaged: {0}")]
    Damaged(String),
    #[error("state image cannot be read or written")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The image of one member.
pub trait Image: Send + 'static {
    /// Everything, verified; `None` if there is no image yet.
    ///
    /// # Errors
    /// `Damaged` when any record, the number of keys, or the sum of all records is not as it was written.
    fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError>;

    /// Applies a batch, all or nothing, and returns once it is on disk.
    ///
    /// # Errors
    /// After an error nothing about the disk is known: the caller must stop the process.
    fn write(&mut self, batch: &Batch) -> Result<(), ImageError>;

    /// As [`Image::write`] of a batch that replaces everything, and the old image is there until the new one is whole.
    ///
    /// # Errors
    /// Those of [`Image::write`].
    fn rewrite(&mut self, batch: &Batch) -> Result<(), ImageError> {
        self.write(batch)
    }

    /// Reads and verifies the records after a key from the disk itself, about so many bytes of them. The last key, if more
    /// may follow, and the bytes.
    ///
    /// # Errors
    /// What is there is not what was written.
    fn check(&mut self, _after: Option<&[u8]>, _bytes: u64) -> Result<(Option<Bytes>, u64), ImageError> {
        Ok((None, 0))
    }

    /// Puts a damaged image, if there is one, out of the way, without deleting it, so that the next load finds none.
    ///
    /// # Errors
    /// When it cannot be moved.
    fn set_aside(&mut self) -> Result<(), ImageError>;

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;
}

/// What one entry adds to [`Meta::bytes`].
pub fn size(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}

/// What one entry adds to [`Meta::digest`].
pub fn digest(entry: &Entry) -> u64 {
    let crc = crc_of(entry);
    let mut mixed = entry.mod_revision.0.rotate_left(32) ^ u64::from(crc);
    // The finalizer of splitmix64: every input bit reaches every output bit.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// [`Meta::digest`] of a whole tree.
pub fn sum(tree: &Tree) -> u64 {
    tree.iter()
        .fold(0u64, |sum, entry| sum.wrapping_add(digest(entry)))
}

/// What all entries of an image add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    digest: u64,
    bytes: u64,
}

impl Sums {
    fn of(entry: &Entry) -> Sums {
        Sums {
            digest: digest(entry),
            bytes: size(entry),
        }
    }

    fn of_all(tree: &Tree) -> Sums {
        tree.iter()
            .fold(Sums::default(), |sums, entry| sums.plus(Sums::of(entry)))
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            digest: self.digest.wrapping_add(other.digest),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    fn minus(self, other: Sums) -> Sums {
        Sums {
            digest: self.digest.wrapping_sub(other.digest),
            bytes: self.bytes.wrapping_sub(other.bytes),
        }
    }
}

/// Compares what was read, and what it adds up to, with what the image says about itself.
fn verify(meta: &Meta, tree: &Tree, sums: Sums) -> Result<(), ImageError> {
    if tree.len() as u64 != meta.keys {
        return Err(ImageError::Damaged(format!(
            "it has {} keys instead of {}",
            tree.len(),
            meta.keys
        )));
    }
    if sums.digest != meta.digest || sums.bytes != meta.bytes {
        return Err(ImageError::Damaged("a key is older than the image".into()));
    }
    if let Some(newer) = tree.iter().find(|entry| entry.mod_revision > meta.revision) {
        return Err(ImageError::Damaged(format!(
            "a key is of revision {}, after the image",
            newer.mod_revision
        )));
    }
    Ok(())
}

/// Made when the entry was: what happens to its bytes in memory afterwards shows when the image is read.
fn crc_of(entry: &Entry) -> u32 {
    let (create, modified) = (entry.create_revision, entry.mod_revision);
    entry
        .memo
        .checksum(|| record_crc(&entry.key, create, modified, &entry.value))
}

fn record_crc(key: &[u8], create: Revision, modified: Revision, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&create.0.to_le_bytes());
    hasher.update(&modified.0.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

fn encode_record(entry: &Entry) -> Vec<u8> {
    let crc = crc_of(entry);
    let mut record = Vec::with_capacity(RECORD_HEADER + entry.value.len());
    record.extend_from_slice(&crc.to_le_bytes());
    record.extend_from_slice(&entry.create_revision.0.to_le_bytes());
    record.extend_from_slice(&entry.mod_revision.0.to_le_bytes());
    record.extend_from_slice(&entry.value);
    record
}

fn decode_record(key: &[u8], record: &[u8]) -> Result<Entry, ImageError> {
    let damaged = || ImageError::Damaged(format!("record of key {:?}", String::from_utf8_lossy(key)));
    let word = |at: usize| {
        record
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let (Some(create), Some(modified)) = (word(4), word(12)) else {
        return Err(damaged());
    };
    let (create_revision, mod_revision) = (Revision(create), Revision(modified));
    let value = &record[RECORD_HEADER..];
    if record[..4] != record_crc(key, create_revision, mod_revision, value).to_le_bytes() {
        return Err(damaged());
    }
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    Ok(Entry {
        key,
        value,
        create_revision,
        mod_revision,
        memo: Memo::default(),
    })
}

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut out = vec![META_VERSION];
    let Meta {
        identity,
        base,
        revision,
        keys,
        digest,
        bytes,
        installed,
    } = meta;
    for word in [
        identity.cluster,
        identity.member,
        base.index,
        base.term,
        revision.0,
        *keys,
        *digest,
        *bytes,
        u64::from(*installed),
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend(
        base.conf_state
            .write_to_bytes()
            .expect("a message in memory always encodes"),
    );
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode_meta(record: &[u8]) -> Result<Meta, ImageError> {
    let damaged = || ImageError::Damaged("its head".into());
    let at = record.len().checked_sub(4).ok_or_else(damaged)?;
    let (body, crc) = record.split_at(at);
    if crc != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged());
    }
    if body.first() != Some(&META_VERSION) {
        return Err(ImageError::Damaged(format!(
            "version {:?} is not known",
            body.first()
        )));
    }
    let word = |n: usize| {
        body.get(1 + 8 * n..9 + 8 * n)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let words: Vec<u64> = (0..9).map_while(word).collect();
    let [
        cluster,
        member,
        index,
        term,
        revision,
        keys,
        digest,
        bytes,
        installed,
    ] = words[..]
    else {
        return Err(damaged());
    };
    let conf_state = ConfState::parse_from_bytes(&body[73..]).map_err(|_| damaged())?;
    Ok(Meta {
        identity: Identity { cluster, member },
        base: Base {
            index,
            term,
            conf_state,
        },
        revision: Revision(revision),
        keys,
        digest,
        bytes,
        installed: installed != 0,
    })
}
