//! The state machine: which transactions happen, and which revision each write gets. A plain function of the commands
//! applied so far, so that every replica computes the same bytes. Knows neither clock nor disk nor watchers.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::sync::Arc;

use bytes::Bytes;

use crate::image::{digest, sum};
use crate::model::{Encoded, Entry, Event, EventKind, Memo, Op, Precondition, Revision, Txn, TxnOutcome};
use crate::planted::{Bug, planted};
use crate::tree::{Snapshot, Tree};

/// The newest state. Older ones are the business of [`crate::history`].
#[derive(Debug)]
pub struct Mvcc {
    tree: Tree,
    revision: Revision,
    digest: u64,
}

/// What applying one transaction did.
#[derive(Debug, PartialEq)]
pub struct Applied {
    pub outcome: TxnOutcome,
    /// One for each revision taken, in order.
    pub events: Vec<Arc<Event>>,
}

impl Default for Mvcc {
    fn default() -> Self {
        Mvcc {
            tree: Tree::default(),
            revision: Revision::INITIAL,
            digest: 0,
        }
    }
}

impl Mvcc {
    /// Continues from a state received from a peer.
    pub fn restore(snapshot: Snapshot) -> Self {
        let digest = sum(&snapshot.tree);
        Mvcc::resume(snapshot, digest)
    }

    /// Continues from a state read back from disk, which adds up to `digest`.
    pub fn resume(snapshot: Snapshot, digest: u64) -> Self {
        Mvcc {
            tree: snapshot.tree,
            revision: snapshot.revision,
            digest,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            tree: self.tree.clone(),
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What the whole state adds up to: the same on every member that has applied the same log.
    pub fn digest(&self) -> u64 {
        self.digest.wrapping_add(self.revision.0)
    }

    /// Checks the preconditions against the state before the transaction, then does all of its operations or none.
    pub fn apply(&mut self, txn: Txn) -> Applied {
        if let Some(failed) = txn
            .preconditions
            .iter()
            .find(|precondition| !self.holds(precondition))
        {
            let key = failed.key().clone();
            let current = self.tree.get(&key).cloned();
            return Applied {
                outcome: TxnOutcome::Conflict { key, current },
                events: Vec::new(),
            };
        }
        let mut events = Vec::with_capacity(txn.ops.len());
        let mut revisions = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            events.extend(self.write(op));
            revisions.push(self.revision);
        }
        Applied {
            outcome: TxnOutcome::Committed {
                revision: self.revision,
                revisions,
            },
            events,
        }
    }

    fn holds(&self, precondition: &Precondition) -> bool {
        match precondition {
            Precondition::Absent(key) => self.tree.get(key).is_none(),
            Precondition::Exists(key) => self.tree.get(key).is_some() || planted(Bug::ExistsNotChecked),
            Precondition::ModRevision(key, revision) => self
                .tree
                .get(key)
                .is_some_and(|entry| entry.mod_revision == *revision),
        }
    }

    fn write(&mut self, op: Op) -> Option<Arc<Event>> {
        let revision = self.revision.next();
        let (key, kind) = match op {
            Op::Put { key, value } => self.put(key, value, revision),
            Op::Delete { key } => {
                let prev = self.tree.remove(&key)?;
                self.digest = self.digest.wrapping_sub(digest(&prev));
                (prev.key.clone(), EventKind::Delete { prev })
            }
        };
        self.revision = revision;
        Some(Arc::new(Event {
            revision,
            key,
            kind,
            encoded: Encoded::default(),
        }))
    }

    fn put(&mut self, key: Bytes, value: Bytes, revision: Revision) -> (Bytes, EventKind) {
        let (entry, prev) = self.tree.put(&key, |prev| {
            let create_revision = prev
                .filter(|_| !planted(Bug::CreateRevisionMoves))
                .map_or(revision, |prev| prev.create_revision);
            Arc::new(Entry {
                // An overwritten key keeps its first allocation, so that no entry keeps an old proposal alive for its key.
                key: prev.map_or_else(|| key.clone(), |prev| prev.key.clone()),
                value,
                create_revision,
                mod_revision: revision,
                memo: Memo::default(),
            })
        });
        let before = prev.as_deref().map_or(0, digest);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(digest(&entry));
        (entry.key.clone(), EventKind::Put { entry, prev })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    /// Applies `txns` to an empty store and compares `revision key value@create..mod ...` or the conflict of the last.
    #[track_caller]
    fn check(txns: Vec<(Vec<Precondition>, Vec<Op>)>, expected: &str) {
        let mut mvcc = Mvcc::default();
        let mut last = None;
        for (preconditions, ops) in txns {
            let before = mvcc.revision();
            let applied = mvcc.apply(Txn { preconditions, ops });
            for (n, event) in applied.events.iter().enumerate() {
                assert_eq!(event.revision.0, before.0 + 1 + n as u64, "revisions are dense");
            }
            last = Some(applied.outcome);
        }
        let mut text = match last {
            Some(TxnOutcome::Conflict { key, current }) => {
                format!(
                    "conflict {} {:?} ",
                    text(&key),
                    current.map(|entry| entry.mod_revision.0)
                )
            }
            Some(TxnOutcome::Committed { revisions, .. }) => {
                format!(
                    "{:?} ",
                    revisions.iter().map(|revision| revision.0).collect::<Vec<_>>()
                )
            }
            None => String::new(),
        };
        for entry in mvcc.snapshot().range(Bytes::new()..Bytes::new()) {
            let (create, modified) = (entry.create_revision, entry.mod_revision);
            text += &format!(
                "{}={}@{create}..{modified} ",
                self::text(&entry.key),
                self::text(&entry.value)
            );
        }
        assert_eq!(text.trim(), expected);
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn put(name: &'static str, value: &'static str) -> Op {
        Op::Put {
            key: key(name),
            value: key(value),
        }
    }

    fn delete(name: &'static str) -> Op {
        Op::Delete { key: key(name) }
    }

    #[test]
    fn every_write_operation_gets_its_own_revision() {
        check(
            vec![(vec![], vec![put("a", "1"), put("b", "1"), put("a", "2")])],
            "[2, 3, 4] a=2@2..4 b=1@3..3",
        );
        check(
            vec![
                (vec![], vec![put("a", "1")]),
                (vec![], vec![delete("a"), put("a", "2")]),
            ],
            "[3, 4] a=2@4..4",
        );
    }

    #[test]
    fn deleting_nothing_takes_no_revision() {
        check(
            vec![(vec![], vec![delete("x"), put("a", "1"), delete("x")])],
            "[1, 2, 2] a=1@2..2",
        );
    }

    #[test]
    fn the_first_failed_precondition_stops_the_whole_transaction() {
        let start = (vec![], vec![put("a", "1")]);
        let a = || key("a");
        let write = || vec![put("a", "2"), put("b", "2")];
        check(
            vec![start.clone(), (vec![Precondition::Absent(a())], write())],
            "conflict a Some(2) a=1@2..2",
        );
        check(
            vec![
                start.clone(),
                (
                    vec![Precondition::Exists(a()), Precondition::Exists(key("b"))],
                    write(),
                ),
            ],
            "conflict b None a=1@2..2",
        );
        check(
            vec![
                start.clone(),
                (vec![Precondition::ModRevision(a(), Revision(3))], write()),
            ],
            "conflict a Some(2) a=1@2..2",
        );
        check(
            vec![
                start,
                (vec![Precondition::ModRevision(a(), Revision(2))], write()),
            ],
            "[3, 4] a=2@2..3 b=2@4..4",
        );
    }
}
