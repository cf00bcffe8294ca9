//! The auditor: replays what was committed, in the simplest way, and says what every state, event and answer must have
//! been. Everything a run observes is compared with it. Shares only the decoding of commands with the store.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use corten_store::command::{self, Command};
use corten_store::{Op, Precondition, Snapshot, Txn, TxnOutcome};
use raft::eraftpb::Entry;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub value: Bytes,
    pub create: u64,
    pub modified: u64,
}

/// One revision.
#[derive(Debug)]
pub struct Change {
    pub key: Bytes,
    pub new: Option<Kept>,
    pub prev: Option<Kept>,
}

/// What a transaction must have answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed { revisions: Vec<u64> },
    Conflict { key: Bytes, current: Option<Kept> },
}

/// One committed entry.
#[derive(Debug)]
struct Committed {
    term: u64,
    /// No older than the term in which it was committed.
    known_in: u64,
    content: u64,
    /// The store's revision after it.
    revision: u64,
}

/// Where a transaction ended up.
#[derive(Debug)]
pub struct Settled {
    pub index: u64,
    /// The store's revision after it.
    pub revision: u64,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub struct Model {
    keys: BTreeMap<Bytes, Kept>,
    /// `[0]` is revision 2.
    changes: Vec<Change>,
    /// Sum over all keys, by revision; `[0]` is revision 1.
    hashes: Vec<u64>,
    /// Whether a transaction ends here; `[0]` is revision 1.
    ends: Vec<bool>,
    /// `[0]` is the first entry after the founding.
    entries: Vec<Committed>,
    /// By the bytes of the transaction: each is unlike any other of its run.
    settled: HashMap<Bytes, Settled>,
    pub compactions: u64,
}

/// The founding entry's index, which is in no log.
const FOUNDED: u64 = 1;

impl Default for Model {
    fn default() -> Self {
        Model {
            keys: BTreeMap::new(),
            changes: Vec::new(),
            hashes: vec![0],
            ends: vec![true],
            entries: Vec::new(),
            settled: HashMap::new(),
            compactions: 0,
        }
    }
}

impl Model {
    pub fn revision(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// The newest committed entry.
    pub fn index(&self) -> u64 {
        FOUNDED + self.entries.len() as u64
    }

    pub fn term_at(&self, index: u64) -> Option<u64> {
        let at = index.checked_sub(FOUNDED + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    /// The newest entry that was committed before `term`: its leader has to have it. What later leaders commit it may lack,
    /// also when it learns only then that it was elected.
    pub fn committed_before(&self, term: u64) -> u64 {
        let newest = self.entries.iter().rposition(|entry| entry.known_in < term);
        newest.map_or(FOUNDED, |at| FOUNDED + 1 + at as u64)
    }

    /// A member has applied this entry: the first one to do so makes it part of the history, the others must agree.
    /// `term` is the newest one that the member knows of.
    pub fn commit(&mut self, member: u64, term: u64, entry: &Entry) {
        let content = hash(&[&entry.data, &entry.context]);
        if entry.index <= self.index() {
            let known = &self.entries[(entry.index - FOUNDED - 1) as usize];
            assert!(
                (known.term, known.content) == (entry.term, content),
                "S2: member {member} applied another entry {} (term {} instead of {})",
                entry.index,
                entry.term,
                known.term
            );
            return;
        }
        assert_eq!(
            entry.index,
            self.index() + 1,
            "S2: member {member} left an entry out"
        );
        self.apply(entry);
        let revision = self.revision();
        self.entries.push(Committed {
            term: entry.term,
            known_in: term,
            content,
            revision,
        });
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.data.is_empty() || entry.get_entry_type() != raft::eraftpb::EntryType::EntryNormal {
            return;
        }
        if stamped_term(entry).is_some_and(|term| term != entry.term) {
            // A late copy of what was proposed again: void for everyone.
            return;
        }
        match command::decode(&entry.data).expect("what was proposed reads") {
            Command::Txn(txn) => {
                let outcome = self.transact(txn);
                let settled = Settled {
                    index: entry.index,
                    revision: self.revision(),
                    outcome,
                };
                let before = self.settled.insert(entry.data.clone(), settled);
                if let Some(before) = before {
                    panic!(
                        "S6: a transaction was applied twice, at {} and {}",
                        before.index, entry.index
                    );
                }
            }
            Command::Compact(_) => self.compactions += 1,
            // Members that compare their states; who differs asks the world to halt it, which no run survives.
            Command::Vote(_) | Command::Refused(_) => {}
            #[allow(unreachable_patterns)]
            other => panic!("the auditor does not know {other:?}"),
        }
    }

    fn transact(&mut self, txn: Txn) -> Outcome {
        for precondition in &txn.preconditions {
            let key = precondition.key();
            let current = self.keys.get(key);
            let holds = match precondition {
                Precondition::Absent(_) => current.is_none(),
                Precondition::Exists(_) => current.is_some(),
                Precondition::ModRevision(_, revision) => {
                    current.is_some_and(|kept| kept.modified == revision.0)
                }
                #[allow(unreachable_patterns)]
                other => panic!("the auditor does not know {other:?}"),
            };
            if !holds {
                return Outcome::Conflict {
                    key: key.clone(),
                    current: current.cloned(),
                };
            }
        }
        let mut revisions = Vec::new();
        for op in txn.ops {
            match op {
                Op::Put { key, value } => {
                    let revision = self.revision() + 1;
                    let prev = self.keys.get(&key).cloned();
                    let kept = Kept {
                        value,
                        create: prev.as_ref().map_or(revision, |prev| prev.create),
                        modified: revision,
                    };
                    self.keys.insert(key.clone(), kept.clone());
                    self.change(key, Some(kept), prev);
                }
                Op::Delete { key } => {
                    if let Some(prev) = self.keys.remove(&key) {
                        self.change(key, None, Some(prev));
                    }
                }
            }
            revisions.push(self.revision());
        }
        if let Some(end) = self.ends.last_mut() {
            *end = true;
        }
        Outcome::Committed { revisions }
    }

    fn change(&mut self, key: Bytes, new: Option<Kept>, prev: Option<Kept>) {
        let mut sum = *self.hashes.last().expect("revision 1 is there");
        if let Some(prev) = &prev {
            sum = sum.wrapping_sub(hash_of(&key, prev));
        }
        if let Some(new) = &new {
            sum = sum.wrapping_add(hash_of(&key, new));
        }
        self.hashes.push(sum);
        self.ends.push(false);
        self.changes.push(Change { key, new, prev });
    }

    /// What became of a transaction, by its bytes.
    pub fn settled(&self, data: &Bytes) -> Option<&Settled> {
        self.settled.get(data)
    }

    /// The revision that a member which applied `index` must be at.
    pub fn revision_at(&self, index: u64) -> u64 {
        match index.checked_sub(FOUNDED + 1) {
            Some(at) => self.entries[at as usize].revision,
            None => 1,
        }
    }

    pub fn change_at(&self, revision: u64) -> Option<&Change> {
        self.changes.get(revision.checked_sub(2)? as usize)
    }

    /// A state that somebody saw is the one of its revision. `whole`: and no transaction is halfway in it.
    pub fn check_state(&self, snapshot: &Snapshot, whole: bool, what: &str) {
        let revision = snapshot.revision().0;
        assert!(
            revision <= self.revision(),
            "A6: {what}: revision {revision} was never committed"
        );
        let at = (revision - 1) as usize;
        assert!(
            !whole || self.ends[at],
            "W3: {what}: revision {revision} is inside of a transaction"
        );
        let mut sum = 0u64;
        for entry in snapshot.range(Bytes::new()..Bytes::new()) {
            let kept = Kept {
                value: entry.value.clone(),
                create: entry.create_revision.0,
                modified: entry.mod_revision.0,
            };
            sum = sum.wrapping_add(hash_of(&entry.key, &kept));
        }
        assert!(
            sum == self.hashes[at],
            "S3: {what}: the state at revision {revision} is not what was committed"
        );
    }

    /// The newest state of a range.
    pub fn range(&self, range: &Range<Bytes>) -> impl Iterator<Item = (&Bytes, &Kept)> {
        self.keys
            .range::<Bytes, _>(range.start.clone()..range.end.clone())
    }

    pub fn check_outcome(&self, expected: &Outcome, found: &TxnOutcome) {
        let same = match (expected, found) {
            (Outcome::Committed { revisions }, TxnOutcome::Committed { revisions: found, .. }) => {
                revisions.iter().eq(found.iter().map(|revision| &revision.0))
            }
            (
                Outcome::Conflict { key, current },
                TxnOutcome::Conflict {
                    key: found,
                    current: held,
                },
            ) => {
                let held = held.as_ref().map(|entry| Kept {
                    value: entry.value.clone(),
                    create: entry.create_revision.0,
                    modified: entry.mod_revision.0,
                });
                key == found && *current == held
            }
            _ => false,
        };
        assert!(same, "a transaction answered {found:?} instead of {expected:?}");
    }
}

/// The term under which an entry was proposed; see the store's `replica::proposals`.
fn stamped_term(entry: &Entry) -> Option<u64> {
    const STAMP: usize = 8 * 4 + 1;
    let at = entry.context.len().checked_sub(STAMP)?;
    let term = entry.context[at..at + 8].try_into().ok()?;
    Some(u64::from_le_bytes(term))
}

fn hash_of(key: &[u8], kept: &Kept) -> u64 {
    hash(&[
        key,
        &kept.value,
        &kept.create.to_le_bytes(),
        &kept.modified.to_le_bytes(),
    ])
}

/// Not for adversaries: enough to tell two states of a run apart.
pub fn hash(parts: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 29;
    };
    for part in parts {
        mix(part.len() as u64);
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(u64::from_le_bytes(word));
        }
    }
    state
}
