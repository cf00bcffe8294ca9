//! A whole state as a stream of parts, and back. Plain functions.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::peers::{SnapshotEntry, SnapshotHeader, SnapshotPart};

use crate::image;
use crate::model::{Entry, Memo, Revision};
use crate::tree::{Snapshot, Tree};

/// Keys and values of one part, about.
const PART_BYTES: usize = 1 << 20;

/// The parts of `state`, made one by one.
pub fn parts(message: Bytes, state: Snapshot) -> impl Iterator<Item = SnapshotPart> + Send {
    let header = SnapshotPart {
        header: Some(SnapshotHeader {
            message,
            revision: state.revision().0,
            keys: state.len() as u64,
            digest: image::sum(&state.tree),
        }),
        entries: Vec::new(),
    };
    let mut entries = state.range(Bytes::new()..Bytes::new());
    let rest = std::iter::from_fn(move || {
        let mut part = SnapshotPart::default();
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(entry) = entries.next()
        {
            bytes += entry.key.len() + entry.value.len();
            part.entries.push(SnapshotEntry {
                key: entry.key.clone(),
                value: entry.value.clone(),
                create_revision: entry.create_revision.0,
                mod_revision: entry.mod_revision.0,
            });
        }
        (!part.entries.is_empty()).then_some(part)
    });
    std::iter::once(header).chain(rest)
}

/// Why a state that was received cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    #[error("its first part is no header")]
    NoHeader,
    #[error("a second header")]
    SecondHeader,
    #[error("more keys than the header says")]
    TooMany,
    #[error("it is not what was sent: {0}")]
    Damaged(&'static str),
}

/// A state under way.
pub struct Receiving {
    header: SnapshotHeader,
    tree: Tree,
}

impl Receiving {
    /// # Errors
    /// `NoHeader`.
    pub fn start(first: SnapshotPart) -> Result<Receiving, BadState> {
        let header = first.header.ok_or(BadState::NoHeader)?;
        Ok(Receiving {
            header,
            tree: Tree::default(),
        })
    }

    /// # Errors
    /// `SecondHeader`, `TooMany`.
    pub fn add(&mut self, part: SnapshotPart) -> Result<(), BadState> {
        if part.header.is_some() {
            return Err(BadState::SecondHeader);
        }
        for entry in part.entries {
            // Values are views of the part they came in; a part's memory would live as long as its last value.
            self.tree.insert(Arc::new(Entry {
                key: Bytes::copy_from_slice(&entry.key),
                value: Bytes::copy_from_slice(&entry.value),
                create_revision: Revision(entry.create_revision),
                mod_revision: Revision(entry.mod_revision),
                memo: Memo::default(),
            }));
        }
        if self.tree.len() as u64 > self.header.keys {
            return Err(BadState::TooMany);
        }
        Ok(())
    }

    /// The message that goes with the state, and the state, if it is whole.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn finish(self) -> Result<(Bytes, Snapshot), BadState> {
        if self.tree.len() as u64 != self.header.keys {
            return Err(BadState::Damaged("keys are missing"));
        }
        if image::sum(&self.tree) != self.header.digest {
            return Err(BadState::Damaged("its checksum is another"));
        }
        let state = Snapshot {
            revision: Revision(self.header.revision),
            tree: self.tree,
        };
        Ok((self.header.message, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Op, Txn};
    use crate::mvcc::Mvcc;

    fn state(keys: usize) -> Snapshot {
        let mut mvcc = Mvcc::default();
        for n in 0..keys {
            let op = Op::Put {
                key: Bytes::from(format!("/k/{n}")),
                value: Bytes::from(vec![n as u8; 10_000]),
            };
            mvcc.apply(Txn::new(vec![], vec![op]));
        }
        mvcc.snapshot()
    }

    fn receive(parts: impl IntoIterator<Item = SnapshotPart>) -> Result<(Bytes, Snapshot), BadState> {
        let mut parts = parts.into_iter();
        let mut receiving = Receiving::start(parts.next().unwrap_or_default())?;
        for part in parts {
            receiving.add(part)?;
        }
        receiving.finish()
    }

    #[test]
    fn what_is_sent_arrives_whole_or_not_at_all() {
        for keys in [0, 1, 500] {
            let sent = state(keys);
            let all: Vec<SnapshotPart> = parts(Bytes::from_static(b"m"), sent.clone()).collect();
            let (message, got) = receive(all.clone()).expect("whole");
            assert_eq!((&message[..], got.revision()), (&b"m"[..], sent.revision()));
            assert!(got.tree.iter().eq(sent.tree.iter()));
            if keys == 0 {
                continue;
            }
            let mut short = all.clone();
            short.pop();
            assert_eq!(receive(short).err(), Some(BadState::Damaged("keys are missing")));
            let mut changed = all.clone();
            let last = changed.last_mut().and_then(|part| part.entries.last_mut());
            last.expect("an entry").value = Bytes::from_static(b"other");
            assert_eq!(
                receive(changed).err(),
                Some(BadState::Damaged("its checksum is another"))
            );
            assert_eq!(receive(all[1..].to_vec()).err(), Some(BadState::NoHeader));
        }
        assert_eq!(receive(None).err(), Some(BadState::NoHeader));
    }
}
