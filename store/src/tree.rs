//! An ordered, persistent map from keys to entries: cloning it is O(1), and a clone never changes. The one file that
//! knows which map that is.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Entry, Revision};

/// How many entries an iterator takes out of the tree at first, and at most, per descent.
const FIRST_CHUNK: usize = 16;
const LARGEST_CHUNK: usize = 256;

#[derive(Clone, Debug, Default)]
pub struct Tree(imbl::OrdMap<Bytes, Arc<Entry>>);

impl Tree {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.0.get(key)
    }

    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.0.insert(entry.key.clone(), entry)
    }

    /// Puts at `key` what `make` makes of the entry that is there: the new one, and the old one. The new one's key is `key`.
    pub fn put(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Arc<Entry>>) -> Arc<Entry>,
    ) -> (Arc<Entry>, Option<Arc<Entry>>) {
        if let Some(slot) = self.0.get_mut(key) {
            let made = make(Some(slot));
            let prev = std::mem::replace(slot, made.clone());
            return (made, Some(prev));
        }
        let made = make(None);
        self.0.insert(made.key.clone(), made.clone());
        (made, None)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        self.0.remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.values()
    }

    fn between(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.range::<_, [u8]>((start, end)).map(|(_, entry)| entry)
    }
}

/// The whole key space as of one revision. Cheap to clone and to keep; it holds only what has changed since.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) tree: Tree,
}

impl Snapshot {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.tree.get(key).cloned()
    }

    /// The entries of a range in key order. An empty `end` means no upper bound (see [`crate::prefix_range`]).
    pub fn range(&self, range: Range<Bytes>) -> RangeIter {
        let exhausted = !range.end.is_empty() && range.start >= range.end;
        RangeIter {
            tree: self.tree.clone(),
            next: Bound::Included(range.start),
            end: range.end,
            chunk: Vec::new().into_iter(),
            chunk_len: FIRST_CHUNK,
            exhausted,
        }
    }

    /// How many entries a range has; walks them without copying.
    pub fn count(&self, range: Range<Bytes>) -> usize {
        if range.start.is_empty() && range.end.is_empty() {
            return self.tree.len();
        }
        if !range.end.is_empty() && range.start >= range.end {
            return 0;
        }
        self.tree
            .between(Bound::Included(&range.start), upper(&range.end))
            .count()
    }

    /// All entries in the store.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
}

fn upper(end: &Bytes) -> Bound<&[u8]> {
    if end.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(end)
    }
}

/// Owns its tree, so it can be sent anywhere and outlive the snapshot.
#[derive(Debug)]
pub struct RangeIter {
    tree: Tree,
    next: Bound<Bytes>,
    end: Bytes,
    chunk: std::vec::IntoIter<Arc<Entry>>,
    chunk_len: usize,
    exhausted: bool,
}

impl RangeIter {
    fn refill(&mut self) {
        let start = match &self.next {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        let chunk: Vec<_> = self
            .tree
            .between(start, upper(&self.end))
            .take(self.chunk_len)
            .cloned()
            .collect();
        match chunk.last() {
            Some(last) if chunk.len() == self.chunk_len => self.next = Bound::Excluded(last.key.clone()),
            _ => self.exhausted = true,
        }
        self.chunk_len = (self.chunk_len * 4).min(LARGEST_CHUNK);
        self.chunk = chunk.into_iter();
    }
}

impl Iterator for RangeIter {
    type Item = Arc<Entry>;

    fn next(&mut self) -> Option<Arc<Entry>> {
        loop {
            if let Some(entry) = self.chunk.next() {
                return Some(entry);
            }
            if self.exhausted {
                return None;
            }
            self.refill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Memo, prefix_range};

    fn snapshot(count: usize) -> Snapshot {
        let mut tree = Tree::default();
        for n in 0..count {
            let key = Bytes::from(format!("/k/{n:06}"));
            let revision = Revision(n as u64 + 2);
            let value = Bytes::new();
            tree.insert(Arc::new(Entry {
                key,
                value,
                create_revision: revision,
                mod_revision: revision,
                memo: Memo::default(),
            }));
        }
        Snapshot {
            revision: Revision(count as u64 + 1),
            tree,
        }
    }

    #[track_caller]
    fn check(count: usize, range: Range<Bytes>, expected: Range<usize>) {
        let snapshot = snapshot(count);
        let keys: Vec<_> = snapshot
            .range(range.clone())
            .map(|entry| entry.key.clone())
            .collect();
        let want: Vec<_> = expected.map(|n| Bytes::from(format!("/k/{n:06}"))).collect();
        assert_eq!(keys, want);
        assert_eq!(snapshot.count(range), want.len());
    }

    #[test]
    fn ranges_cross_chunks_and_stop_at_their_end() {
        for count in [0, 1, 15, 16, 17, 80, 81, 1000] {
            check(count, prefix_range(b""), 0..count);
            check(count, prefix_range(b"/k/"), 0..count);
            check(count, prefix_range(b"/j/"), 0..0);
        }
        check(1000, Bytes::from("/k/000010")..Bytes::from("/k/000500"), 10..500);
        check(1000, Bytes::from("/k/000500")..Bytes::from("/k/000500"), 0..0);
        check(1000, Bytes::from("/k/000500")..Bytes::from("/k/000010"), 0..0);
    }

    #[test]
    fn an_iterator_can_be_sent() {
        fn sendable<T: Send + 'static>(_: &T) {}
        sendable(&snapshot(1).range(prefix_range(b"")));
    }
}
