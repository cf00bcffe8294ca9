//! The words of the store: revisions, entries, transactions, events. Plain data, no behaviour beyond accessors.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The position of one write operation in the one global order. Grows by 1 with each put or delete, also inside a
/// transaction. An empty store is at [`Revision::INITIAL`], so 0 never names a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Where an empty store starts; the first write is 2.
    pub const INITIAL: Revision = Revision(1);

    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key and its value as of `mod_revision`. Immutable: a later write makes a new entry.
#[derive(Debug)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision of the put that made the key exist.
    pub create_revision: Revision,
    /// The revision of the put that wrote this value.
    pub mod_revision: Revision,
    /// What was derived from the above. Never stored, never compared.
    pub memo: Memo,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.mod_revision == other.mod_revision
            && self.create_revision == other.create_revision
            && self.key == other.key
            && self.value == other.value
    }
}

impl Eq for Entry {}

/// What is computed once from an entry and shared by all its holders.
#[derive(Default)]
pub struct Memo {
    /// One value of the reader's own type, such as a parsed head.
    of_reader: OnceLock<Arc<dyn Any + Send + Sync>>,
    checksum: OnceLock<u32>,
}

impl Memo {
    /// The checksum of the entry's record, computed by `init` at the first call.
    pub(crate) fn checksum(&self, init: impl FnOnce() -> u32) -> u32 {
        *self.checksum.get_or_init(init)
    }

    /// The reader's value, computed by `init` at the first call.
    ///
    /// # Panics
    /// If an earlier caller stored another type: one entry has one kind of reader.
    pub fn get_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Arc<T> {
        let any = self.of_reader.get_or_init(|| Arc::new(init())).clone();
        any.downcast().expect("an entry's memo has one type")
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.of_reader.get().is_some() {
            "Memo(set)"
        } else {
            "Memo(empty)"
        })
    }
}

/// One write operation as every watcher sees it: one allocation shared by all of them.
#[derive(Debug)]
pub struct Event {
    pub revision: Revision,
    pub key: Bytes,
    pub kind: EventKind,
    /// What watchers made of the event.
    pub encoded: Encoded,
}

/// Encoded forms of one event, each made by the first watcher that needs it and sent by all. A form is a number of the
/// reader's own. Never stored, never compared.
#[derive(Default)]
pub struct Encoded(Mutex<Vec<(u64, Bytes)>>);

/// Forms kept for one event; more are made again by each who needs them.
const MAX_FORMS: usize = 16;

impl Encoded {
    #[must_use]
    pub fn get(&self, form: u64) -> Option<Bytes> {
        let forms = self.0.lock();
        forms
            .iter()
            .find(|(held, _)| *held == form)
            .map(|(_, bytes)| bytes.clone())
    }

    /// Whether it was kept: the first of two who made the same form is.
    pub fn insert(&self, form: u64, bytes: Bytes) -> bool {
        let mut forms = self.0.lock();
        let keep = forms.len() < MAX_FORMS && forms.iter().all(|(held, _)| *held != form);
        if keep {
            forms.push((form, bytes));
        }
        keep
    }

    /// Frees what is held; whoever still needs it makes it again.
    pub fn clear(&self) {
        *self.0.lock() = Vec::new();
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} forms)", self.0.lock().len())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was created (`prev` is `None`) or overwritten.
    Put {
        entry: Arc<Entry>,
        prev: Option<Arc<Entry>>,
    },
    /// The key was removed; `prev` is what it held.
    Delete { prev: Arc<Entry> },
}

impl Event {
    /// What the key holds after the event.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.kind {
            EventKind::Put { entry, .. } => Some(entry),
            EventKind::Delete { .. } => None,
        }
    }

    /// What the key held before the event.
    pub fn prev(&self) -> Option<&Arc<Entry>> {
        match &self.kind {
            EventKind::Put { prev, .. } => prev.as_ref(),
            EventKind::Delete { prev } => Some(prev),
        }
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key && self.kind == other.kind
    }
}

/// All of `ops` happen, in order, if every precondition holds in the state just before; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

impl Txn {
    /// One write under the given preconditions.
    pub fn new(preconditions: Vec<Precondition>, ops: Vec<Op>) -> Self {
        Txn { preconditions, ops }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key does not exist.
    Absent(Bytes),
    /// The key exists and was last written at this revision.
    ModRevision(Bytes, Revision),
    /// The key exists.
    Exists(Bytes),
}

impl Precondition {
    pub fn key(&self) -> &Bytes {
        match self {
            Precondition::Absent(key) | Precondition::ModRevision(key, _) | Precondition::Exists(key) => key,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
    },
    /// Deleting a key that does not exist changes nothing and takes no revision.
    Delete {
        key: Bytes,
    },
}

impl Op {
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    Committed {
        /// The store's revision after the transaction.
        revision: Revision,
        /// One for each op, in order. A delete of an absent key repeats the revision before it.
        revisions: Vec<Revision>,
    },
    /// Nothing happened: the first precondition that did not hold, and what its key holds.
    Conflict { key: Bytes, current: Option<Arc<Entry>> },
}

/// From a key and its value to the one word by which watchers may choose entries besides their key, if it has one. Cheap: it
/// is asked for both sides of every event.
pub type Tagger = fn(key: &[u8], value: &[u8]) -> Option<Bytes>;

/// All keys that start with `prefix`. An empty prefix is the whole key space.
pub fn prefix_range(prefix: &[u8]) -> Range<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    Bytes::copy_from_slice(prefix)..Bytes::from(end)
}

/// Exactly one key.
pub fn key_range(key: &[u8]) -> Range<Bytes> {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(0);
    Bytes::copy_from_slice(key)..Bytes::from(end)
}

/// Whether `key` lies in `range`; an empty end means no upper bound.
pub(crate) fn in_range(range: &Range<Bytes>, key: &[u8]) -> bool {
    key >= &range.start[..] && (range.end.is_empty() || key < &range.end[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefix: &[u8], key: &[u8], inside: bool) {
        assert_eq!(in_range(&prefix_range(prefix), key), inside, "{prefix:?} {key:?}");
    }

    #[test]
    fn a_prefix_holds_its_own_keys_and_no_others() {
        check(b"", b"anything", true);
        check(b"/pods/", b"/pods/a", true);
        check(b"/pods/", b"/pods0", false);
        check(b"/pods/", b"/pod", false);
        check(b"a\xff", b"a\xff\xff", true);
        check(b"a\xff", b"b", false);
        check(b"\xff\xff", b"\xff\xff\x01", true);
    }

    #[test]
    fn an_encoded_form_is_kept_once_and_within_bounds() {
        let encoded = Encoded::default();
        assert!(encoded.insert(7, Bytes::from_static(b"a")));
        assert!(!encoded.insert(7, Bytes::from_static(b"b")));
        assert_eq!(encoded.get(7), Some(Bytes::from_static(b"a")));
        let kept = (100..200)
            .filter(|form| encoded.insert(*form, Bytes::new()))
            .count();
        assert_eq!(kept, MAX_FORMS - 1);
        encoded.clear();
        assert_eq!(encoded.get(7), None);
    }

    #[test]
    fn a_key_range_holds_one_key() {
        let range = key_range(b"a");
        assert!(in_range(&range, b"a") && !in_range(&range, b"a\0") && !in_range(&range, b"b"));
    }
}
