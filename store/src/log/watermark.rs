//! How far the log was durable at least, beside the log itself: what tells a torn write, which nobody was promised,
//! from a loss. Rewritten in place after each fsync of the log and not synced itself: it survives the death of the
//! process at once and a power cut some seconds later. It may be behind, never ahead. It also says who the member is,
//! so that a log which cannot be read at all can still be replaced.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Identity, LogError};

/// Two places, written in turn: one of them is whole whatever happens to the other.
const PLACES: [u64; 2] = [0, 4096];
/// number, cluster, member, index, term, flags, CRC-32.
const RECORD: usize = 6 * 8 + 4;
const LOST: u64 = 1;
const PEERS: u64 = 2;

/// What one record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub identity: Identity,
    pub index: u64,
    /// The newest term that was durable.
    pub term: u64,
    /// The log does not hold all of it; peers have to help.
    pub lost: bool,
    /// There were other members.
    pub peers: bool,
}

pub(super) struct Watermark {
    file: File,
    number: u64,
}

impl Watermark {
    /// The file, and the newest record in it that is whole.
    pub fn open(dir: &Path) -> Result<(Self, Option<Mark>), LogError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("watermark"))
            .map_err(error)?;
        let newest = PLACES
            .iter()
            .filter_map(|at| read(&file, *at))
            .max_by_key(|(number, _)| *number);
        let number = newest.map_or(0, |(number, _)| number);
        Ok((Watermark { file, number }, newest.map(|(_, mark)| mark)))
    }

    pub fn set(&mut self, mark: Mark) -> Result<(), LogError> {
        self.number += 1;
        let flags = u64::from(mark.lost) * LOST + u64::from(mark.peers) * PEERS;
        let Identity { cluster, member } = mark.identity;
        let mut record = [0; RECORD];
        let words = [self.number, cluster, member, mark.index, mark.term, flags];
        for (slot, word) in record.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32fast::hash(&record[..RECORD - 4]).to_le_bytes();
        record[RECORD - 4..].copy_from_slice(&crc);
        let place = PLACES[usize::from(self.number % 2 == 1)];
        self.file.write_all_at(&record, place).map_err(error)
    }

    /// For what must survive a power cut.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(error)
    }
}

fn error(source: std::io::Error) -> LogError {
    LogError::File("watermark", source)
}

fn read(file: &File, at: u64) -> Option<(u64, Mark)> {
    let mut record = [0; RECORD];
    file.read_exact_at(&mut record, at).ok()?;
    let (words, crc) = record.split_at(RECORD - 4);
    if crc != crc32fast::hash(words).to_le_bytes() {
        return None;
    }
    let word = |n: usize| u64::from_le_bytes(words[8 * n..8 * n + 8].try_into().expect("eight bytes"));
    let mark = Mark {
        identity: Identity {
            cluster: word(1),
            member: word(2),
        },
        index: word(3),
        term: word(4),
        lost: word(5) & LOST != 0,
        peers: word(5) & PEERS != 0,
    };
    Some((word(0), mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_byte_costs_one_step_at_most() {
        let dir = tempfile::tempdir().expect("a folder");
        let mark = |index| Mark {
            identity: Identity {
                cluster: 1,
                member: 2,
            },
            index,
            term: 3,
            lost: index == 5,
            peers: true,
        };
        let (mut watermark, found) = Watermark::open(dir.path()).expect("open");
        assert_eq!(found, None);
        (4..=5).for_each(|index| watermark.set(mark(index)).expect("set"));
        let path = dir.path().join("watermark");
        let good = std::fs::read(&path).expect("read");
        for at in (0..RECORD).chain(4096..4096 + RECORD) {
            let mut bytes = good.clone();
            bytes[at] ^= 16;
            std::fs::write(&path, bytes).expect("write");
            let (_, found) = Watermark::open(dir.path()).expect("open");
            assert!(
                [Some(mark(4)), Some(mark(5))].contains(&found),
                "byte {at}: {found:?}"
            );
        }
    }
}
