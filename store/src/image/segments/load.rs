//! The image's files back into a state. One thread reads, checks and decodes them, the other one makes the state of what it
//! finds, so that a start takes both cores. At most one file and a few pieces are held besides the state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

use super::folder::Disk;
use super::record::{Decoder, Record};
use super::{File, damaged, error};
use crate::image::{ImageError, Sums};
use crate::model::Entry;
use crate::tree::Tree;

/// Changes that are handed over at once, and how many times as many may wait.
const PIECE: usize = 512;
const PIECES_AHEAD: usize = 4;

/// What a record does to the state.
enum Change {
    Put(Arc<Entry>, Sums),
    Delete(Bytes),
}

/// The state that the files add up to, and its sums. Notes the chain of each file.
///
/// # Errors
/// `Damaged` when a file is not whole or does not follow the one before.
pub(super) fn load(disk: &mut dyn Disk, files: &mut VecDeque<File>) -> Result<(Tree, Sums), ImageError> {
    let (sender, pieces) = sync_channel(PIECES_AHEAD);
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("store-load".into());
        let reader = reader.spawn_scoped(scope, || read_all(disk, files, sender));
        let reader = reader.map_err(error)?;
        let loaded = build(pieces);
        match reader.join() {
            Ok(read) => read.map(|()| loaded),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn build(pieces: Receiver<Vec<Change>>) -> (Tree, Sums) {
    let (mut tree, mut sums) = (Tree::default(), Sums::default());
    for change in pieces.into_iter().flatten() {
        let before = match change {
            Change::Put(entry, adds) => {
                sums = sums.plus(adds);
                tree.insert(entry)
            }
            Change::Delete(key) => tree.remove(&key),
        };
        if let Some(before) = before {
            sums = sums.minus(Sums::of(&before));
        }
    }
    (tree, sums)
}

fn read_all(
    disk: &mut dyn Disk,
    files: &mut VecDeque<File>,
    pieces: SyncSender<Vec<Change>>,
) -> Result<(), ImageError> {
    let (mut chain, mut bytes) = (None, Vec::new());
    let mut piece = Vec::with_capacity(PIECE);
    // Fails only when the other side has panicked, which is told there.
    let hand_over = |piece: Vec<Change>| drop(pieces.send(piece));
    for file in files {
        let (before, after) = read(disk, *file, &mut bytes, |record| {
            piece.extend(match record {
                Record::Delete { key } => Some(Change::Delete(Bytes::copy_from_slice(key))),
                put => put.entry().map(|entry| {
                    let sums = Sums::of(&entry);
                    Change::Put(Arc::new(entry), sums)
                }),
            });
            if piece.len() == PIECE {
                hand_over(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)));
            }
        })?;
        if chain.is_some_and(|chain| chain != before) {
            return Err(damaged(file.number, "does not follow the one before"));
        }
        (file.chain, chain) = (after, Some(after));
    }
    hand_over(piece);
    Ok(())
}

/// Every record of a file of the image, in order; it must be whole and end where it should. The chain before it and with
/// it. `bytes` is memory to use.
///
/// # Errors
/// `Damaged`, and what the disk says.
pub(super) fn read(
    disk: &dyn Disk,
    file: File,
    bytes: &mut Vec<u8>,
    mut each: impl FnMut(&Record<'_>),
) -> Result<(u32, u32), ImageError> {
    let opened = disk.open(file.number);
    opened.and_then(|file| file.read(bytes)).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            damaged(file.number, "is missing")
        } else {
            error(source)
        }
    })?;
    let whole = usize::try_from(file.length)
        .ok()
        .and_then(|length| bytes.get(..length));
    let whole = whole.ok_or_else(|| damaged(file.number, "is cut short"))?;
    let mut decoder = Decoder::new(whole);
    let before = match decoder.next_record() {
        Some(Record::Head { number, chain }) if number == file.number => chain,
        _ => return Err(damaged(file.number, "does not start as it should")),
    };
    while let Some(record) = decoder.next_record() {
        each(&record);
    }
    if decoder.at != whole.len() {
        return Err(damaged(file.number, "holds a record that was not written so"));
    }
    Ok((before, decoder.chain))
}
