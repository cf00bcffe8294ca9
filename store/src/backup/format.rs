//! The bytes of a backup: a magic word with the format's number, then chunks, each with its length, its number and a
//! CRC-32: the header ([`About`]), the entries, about 1 MiB of them at a time, and an end that says how many chunks there
//! were. Plain functions; a state of any size is written and read chunk by chunk.

use std::io::Read;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::image;
use crate::log::Identity;
use crate::model::{Entry, Memo, Revision};
use crate::tree::{Snapshot, Tree};

/// The format's number. A reader refuses any other.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"CORTENBK";
/// Keys and values of one chunk, about.
const CHUNK_BYTES: usize = 1 << 20;
/// No chunk is longer: one entry may be as long as a proposal.
const MAX_CHUNK_BYTES: usize = 16 << 20;
const ABOUT: u8 = 1;
const ENTRIES: u8 = 2;
const END: u8 = 3;
/// kind, number, length, CRC-32 of all that and the payload.
const HEAD: usize = 1 + 8 + 4 + 4;

/// What a backup says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The cluster it is of, and the member that wrote it.
    pub identity: Identity,
    pub revision: Revision,
    pub keys: u64,
    /// Sum over all entries; see [`crate::image::digest`].
    pub digest: u64,
    /// When it was written: seconds since 1970.
    pub taken_at: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("read the backup")]
    Io(#[from] std::io::Error),
    #[error("this is no backup of a Corten store")]
    Magic,
    #[error("backup format {0} is not known to this version, which knows {FORMAT}")]
    Format(u32),
    #[error("backup is cut short")]
    Short,
    #[error("backup is damaged: {0}")]
    Damaged(&'static str),
}

/// The bytes of a backup of `state`, made piece by piece. `taken_at` in seconds since 1970.
pub fn chunks(
    identity: Identity,
    state: &Snapshot,
    taken_at: u64,
) -> impl Iterator<Item = Bytes> + Send + use<> {
    let about = About {
        identity,
        revision: state.revision(),
        keys: state.len() as u64,
        digest: image::sum(&state.tree),
        taken_at,
    };
    let mut first = BytesMut::new();
    first.put_slice(MAGIC);
    first.put_u32_le(FORMAT);
    first.put_slice(&chunk(ABOUT, 0, &encode_about(&about)));
    let mut entries = state.range(Bytes::new()..Bytes::new());
    let (mut number, mut ended) = (0, false);
    let rest = std::iter::from_fn(move || {
        let mut payload = BytesMut::with_capacity(CHUNK_BYTES + 4096);
        while payload.len() < CHUNK_BYTES
            && let Some(entry) = entries.next()
        {
            payload.put_u32_le(entry.key.len() as u32);
            payload.put_u32_le(entry.value.len() as u32);
            payload.put_u64_le(entry.create_revision.0);
            payload.put_u64_le(entry.mod_revision.0);
            payload.put_slice(&entry.key);
            payload.put_slice(&entry.value);
        }
        number += 1;
        if !payload.is_empty() {
            return Some(chunk(ENTRIES, number, &payload));
        }
        let end = !std::mem::replace(&mut ended, true);
        end.then(|| chunk(END, number, &[]))
    });
    std::iter::once(first.freeze()).chain(rest)
}

fn chunk(kind: u8, number: u64, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + payload.len());
    out.put_u8(kind);
    out.put_u64_le(number);
    out.put_u32_le(payload.len() as u32);
    let crc = checksum(&out, payload);
    out.put_u32_le(crc);
    out.put_slice(payload);
    out.freeze()
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn encode_about(about: &About) -> Vec<u8> {
    let words = [
        about.identity.cluster,
        about.identity.member,
        about.revision.0,
        about.keys,
        about.digest,
        about.taken_at,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn decode_about(payload: &[u8]) -> Result<About, BackupError> {
    let mut words = payload
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let mut word = || {
        words
            .next()
            .ok_or(BackupError::Damaged("its header is too short"))
    };
    Ok(About {
        identity: Identity {
            cluster: word()?,
            member: word()?,
        },
        revision: Revision(word()?),
        keys: word()?,
        digest: word()?,
        taken_at: word()?,
    })
}

/// Reads only what the backup says about itself.
///
/// # Errors
/// See [`BackupError`].
pub fn read_about(input: &mut impl Read) -> Result<About, BackupError> {
    let mut start = [0; 12];
    fill(input, &mut start)?;
    if start[..8] != *MAGIC {
        return Err(BackupError::Magic);
    }
    let format = u32::from_le_bytes(start[8..].try_into().expect("four bytes"));
    if format != FORMAT {
        return Err(BackupError::Format(format));
    }
    match next(input, 0)? {
        (ABOUT, payload) => decode_about(&payload),
        _ => Err(BackupError::Damaged("it does not start with its header")),
    }
}

/// Reads and verifies a whole backup.
///
/// # Errors
/// See [`BackupError`]; nothing of a backup that is not whole may be used.
pub fn read(input: &mut impl Read) -> Result<(About, Snapshot), BackupError> {
    let mut tree = Tree::default();
    let about = walk(input, |entry| {
        tree.insert(Arc::new(entry));
    })?;
    let state = Snapshot {
        revision: about.revision,
        tree,
    };
    Ok((about, state))
}

/// Verifies a whole backup, and keeps nothing of it.
///
/// # Errors
/// See [`BackupError`].
pub fn verify(input: &mut impl Read) -> Result<About, BackupError> {
    walk(input, drop)
}

fn walk(input: &mut impl Read, mut take: impl FnMut(Entry)) -> Result<About, BackupError> {
    let about = read_about(input)?;
    let (mut keys, mut digest, mut last) = (0u64, 0u64, None::<Bytes>);
    for number in 1.. {
        match next(input, number)? {
            (ENTRIES, payload) => entries(&payload, |entry| {
                if last.as_ref().is_some_and(|last| entry.key <= *last) {
                    return Err(BackupError::Damaged("its entries are out of order"));
                }
                if entry.mod_revision > about.revision {
                    return Err(BackupError::Damaged("an entry is newer than the backup"));
                }
                keys += 1;
                digest = digest.wrapping_add(image::digest(&entry));
                last = Some(entry.key.clone());
                take(entry);
                Ok(())
            })?,
            (END, _) => break,
            _ => return Err(BackupError::Damaged("a chunk is of an unknown kind")),
        }
    }
    if keys != about.keys || digest != about.digest {
        return Err(BackupError::Damaged("its entries do not add up"));
    }
    Ok(about)
}

fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), BackupError> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => BackupError::Short,
        _ => BackupError::Io(error),
    })
}

/// The next chunk, whose number is known.
fn next(input: &mut impl Read, number: u64) -> Result<(u8, Vec<u8>), BackupError> {
    let mut head = [0; HEAD];
    fill(input, &mut head)?;
    let (meta, crc) = head.split_at(HEAD - 4);
    let length = u32::from_le_bytes(meta[9..].try_into().expect("four bytes")) as usize;
    if length > MAX_CHUNK_BYTES {
        return Err(BackupError::Damaged("a chunk is too long"));
    }
    let mut payload = vec![0; length];
    fill(input, &mut payload)?;
    if checksum(meta, &payload).to_le_bytes() != crc {
        return Err(BackupError::Damaged("a chunk has a wrong checksum"));
    }
    if meta[1..9] != number.to_le_bytes() {
        return Err(BackupError::Damaged("a chunk is missing"));
    }
    Ok((meta[0], payload))
}

fn entries(
    mut payload: &[u8],
    mut take_entry: impl FnMut(Entry) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let short = || BackupError::Damaged("an entry is cut short");
    let mut take = |length: usize| {
        let (head, rest) = payload.split_at_checked(length).ok_or_else(short)?;
        payload = rest;
        Ok::<_, BackupError>(head)
    };
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    while let Ok(lengths) = take(8) {
        let (key, value) = (number(&lengths[..4]) as usize, number(&lengths[4..]) as usize);
        let revisions = take(16)?;
        take_entry(Entry {
            create_revision: Revision(number(&revisions[..8])),
            mod_revision: Revision(number(&revisions[8..])),
            key: Bytes::copy_from_slice(take(key)?),
            value: Bytes::copy_from_slice(take(value)?),
            memo: Memo::default(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Op, Txn};
    use crate::mvcc::Mvcc;

    const ME: Identity = Identity {
        cluster: 5,
        member: 6,
    };

    fn state(keys: usize, size: usize) -> Snapshot {
        let mut mvcc = Mvcc::default();
        for n in 0..keys {
            let op = Op::Put {
                key: format!("/key/{n:05}").into(),
                value: vec![n as u8; size].into(),
            };
            mvcc.apply(Txn::new(vec![], vec![op]));
        }
        mvcc.snapshot()
    }

    fn bytes(state: &Snapshot) -> Vec<u8> {
        chunks(ME, state, 77).flatten().collect()
    }

    #[test]
    fn what_was_written_is_read() {
        for state in [state(0, 0), state(3, 5), state(700, 5000)] {
            let bytes = bytes(&state);
            let (about, read) = read(&mut &bytes[..]).expect("whole");
            assert_eq!((about.identity, about.taken_at), (ME, 77));
            assert_eq!(
                (about.revision, about.keys),
                (state.revision(), state.len() as u64)
            );
            assert_eq!(verify(&mut &bytes[..]).expect("whole"), about);
            assert_eq!(read.revision(), state.revision());
            assert!(read.tree.iter().eq(state.tree.iter()));
        }
    }

    #[test]
    fn damage_is_refused() {
        let good = bytes(&state(4, 20));
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            assert!(read(&mut &bytes[..]).is_err(), "byte {at}");
            assert!(verify(&mut &bytes[..]).is_err(), "byte {at}");
            assert!(
                matches!(read(&mut &good[..at]), Err(BackupError::Short)),
                "cut at {at}"
            );
        }
        assert!(matches!(
            read(&mut &b"something else"[..]),
            Err(BackupError::Magic)
        ));
        let mut newer = good.clone();
        newer[8] = 9;
        assert!(matches!(read(&mut &newer[..]), Err(BackupError::Format(9))));
    }
}
