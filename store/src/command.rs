//! How a command is written into a log entry: versioned and with its own checksum, so that what is applied is what was
//! proposed, whatever lies between. Knows bytes only.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use bytes::{Buf, Bytes};

use crate::model::{Op, Precondition, Revision, Txn};
use crate::store::agreement::Vote;
use crate::store::pressure::Refusal;

const VERSION: u8 = 1;
/// version, kind, CRC-32 of kind and body.
const HEADER: usize = 1 + 1 + 4;
/// Bytes of a value that is copied out of its entry in any case.
const COPIED: usize = 8 << 10;
const KIND_TXN: u8 = 1;
const KIND_COMPACT: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_REFUSED: u8 = 4;

/// What a log entry asks the state machine to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Txn(Txn),
    /// Forget the history at and below this revision.
    Compact(Revision),
    /// What a member's state adds up to.
    Vote(Vote),
    /// Nothing, in place of a transaction that the leader had no room for.
    Refused(Refusal),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("command is cut short")]
    Short,
    #[error("command version {0} is not known")]
    Version(u8),
    #[error("command has a wrong checksum")]
    Checksum,
    #[error("command has an unknown tag {0}")]
    Tag(u8),
    #[error("command has {0} bytes too many")]
    Trailing(usize),
}

/// The bytes of a transaction's body; what the proposal limit counts.
pub fn encoded_len(txn: &Txn) -> usize {
    let preconditions: usize = txn.preconditions.iter().map(|p| 1 + 4 + p.key().len() + 8).sum();
    let ops: usize = txn
        .ops
        .iter()
        .map(|op| match op {
            Op::Put { key, value } => 1 + 4 + key.len() + 4 + value.len(),
            Op::Delete { key } => 1 + 4 + key.len(),
        })
        .sum();
    HEADER + 8 + preconditions + ops
}

pub fn encode_txn(txn: &Txn) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(txn));
    out.extend_from_slice(&[VERSION, KIND_TXN, 0, 0, 0, 0]);
    put_len(&mut out, txn.preconditions.len());
    for precondition in &txn.preconditions {
        match precondition {
            Precondition::Absent(key) => put_tagged(&mut out, 0, key),
            Precondition::Exists(key) => put_tagged(&mut out, 1, key),
            Precondition::ModRevision(key, revision) => {
                put_tagged(&mut out, 2, key);
                out.extend_from_slice(&revision.0.to_le_bytes());
            }
        }
    }
    put_len(&mut out, txn.ops.len());
    for op in &txn.ops {
        match op {
            Op::Put { key, value } => {
                put_tagged(&mut out, 0, key);
                put_bytes(&mut out, value);
            }
            Op::Delete { key } => put_tagged(&mut out, 1, key),
        }
    }
    seal(out)
}

pub fn encode_compact(revision: Revision) -> Vec<u8> {
    let mut out = vec![VERSION, KIND_COMPACT, 0, 0, 0, 0];
    out.extend_from_slice(&revision.0.to_le_bytes());
    seal(out)
}

pub fn encode_vote(vote: Vote) -> Vec<u8> {
    let mut out = vec![VERSION, KIND_VOTE, 0, 0, 0, 0];
    for word in [vote.member, vote.index, vote.digest] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    seal(out)
}

pub fn encode_refused(refusal: Refusal) -> Vec<u8> {
    let mut out = vec![VERSION, KIND_REFUSED, 0, 0, 0, 0];
    let words = match refusal {
        Refusal::Disk { free, reserve } => [0, free, reserve],
        Refusal::Log { behind } => [1, behind, 0],
    };
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    seal(out)
}

/// # Errors
/// Anything but exactly what the encoder made: a damaged command is never half-used.
pub fn decode(data: &Bytes) -> Result<Command, CommandError> {
    if data.len() < HEADER {
        return Err(CommandError::Short);
    }
    if data[0] != VERSION {
        return Err(CommandError::Version(data[0]));
    }
    if checksum(data).to_le_bytes() != data[2..HEADER] {
        return Err(CommandError::Checksum);
    }
    let mut reader = Reader {
        rest: data.slice(HEADER..),
        whole: data.len(),
    };
    let command = match data[1] {
        KIND_TXN => Command::Txn(reader.txn()?),
        KIND_COMPACT => Command::Compact(reader.revision()?),
        KIND_VOTE => Command::Vote(Vote {
            member: reader.word()?,
            index: reader.word()?,
            digest: reader.word()?,
        }),
        KIND_REFUSED => Command::Refused(match (reader.word()?, reader.word()?, reader.word()?) {
            (0, free, reserve) => Refusal::Disk { free, reserve },
            (1, behind, 0) => Refusal::Log { behind },
            (tag, ..) => return Err(CommandError::Tag(tag as u8)),
        }),
        tag => return Err(CommandError::Tag(tag)),
    };
    match reader.rest.len() {
        0 => Ok(command),
        extra => Err(CommandError::Trailing(extra)),
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("the proposal limit keeps every length below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, key: &[u8]) {
    out.push(tag);
    put_bytes(out, key);
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = checksum(&out).to_le_bytes();
    out[2..HEADER].copy_from_slice(&crc);
    out
}

fn checksum(data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&data[1..2]);
    hasher.update(&data[HEADER..]);
    hasher.finalize()
}

struct Reader {
    rest: Bytes,
    whole: usize,
}

impl Reader {
    fn txn(&mut self) -> Result<Txn, CommandError> {
        let mut txn = Txn::default();
        for _ in 0..self.len()? {
            let tag = self.tag()?;
            let key = self.bytes()?;
            txn.preconditions.push(match tag {
                0 => Precondition::Absent(key),
                1 => Precondition::Exists(key),
                2 => Precondition::ModRevision(key, self.revision()?),
                tag => return Err(CommandError::Tag(tag)),
            });
        }
        for _ in 0..self.len()? {
            let tag = self.tag()?;
            let key = self.bytes()?;
            txn.ops.push(match tag {
                0 => Op::Put {
                    key,
                    value: self.bytes()?,
                },
                1 => Op::Delete { key },
                tag => return Err(CommandError::Tag(tag)),
            });
        }
        Ok(txn)
    }

    fn need(&self, len: usize) -> Result<(), CommandError> {
        if self.rest.len() < len {
            Err(CommandError::Short)
        } else {
            Ok(())
        }
    }

    fn tag(&mut self) -> Result<u8, CommandError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    fn len(&mut self) -> Result<usize, CommandError> {
        self.need(4)?;
        Ok(self.rest.get_u32_le() as usize)
    }

    fn revision(&mut self) -> Result<Revision, CommandError> {
        self.word().map(Revision)
    }

    fn word(&mut self) -> Result<u64, CommandError> {
        self.need(8)?;
        Ok(self.rest.get_u64_le())
    }

    /// A copy, which takes no more memory than it must: the entry is freed soon, and the state stays. A slice where a large
    /// value is most of the entry.
    fn bytes(&mut self) -> Result<Bytes, CommandError> {
        let len = self.len()?;
        self.need(len)?;
        let slice = self.rest.split_to(len);
        Ok(if len <= COPIED || len * 2 < self.whole {
            Bytes::copy_from_slice(&slice)
        } else {
            slice
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Txn {
        let key = |k: &'static str| Bytes::from_static(k.as_bytes());
        Txn {
            preconditions: vec![
                Precondition::Absent(key("a")),
                Precondition::Exists(key("b")),
                Precondition::ModRevision(key("c"), Revision(7)),
            ],
            ops: vec![
                Op::Put {
                    key: key("a"),
                    value: key("value"),
                },
                Op::Delete { key: key("c") },
            ],
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), expected: Result<Command, CommandError>) {
        let mut bytes = encode_txn(&sample());
        change(&mut bytes);
        assert_eq!(decode(&Bytes::from(bytes)), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        check(|_| (), Ok(Command::Txn(sample())));
        let compact = Bytes::from(encode_compact(Revision(9)));
        assert_eq!(decode(&compact), Ok(Command::Compact(Revision(9))));
        let vote = Vote {
            member: 1,
            index: 2,
            digest: 3,
        };
        assert_eq!(decode(&Bytes::from(encode_vote(vote))), Ok(Command::Vote(vote)));
        assert!(encode_txn(&sample()).len() <= encoded_len(&sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let good = encode_txn(&sample());
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&Bytes::from(bytes)).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(
                decode(&Bytes::copy_from_slice(&good[..len])).is_err(),
                "cut at {len}"
            );
        }
    }

    #[test]
    fn a_version_of_the_future_is_named() {
        check(|bytes| bytes[0] = 9, Err(CommandError::Version(9)));
    }
}
