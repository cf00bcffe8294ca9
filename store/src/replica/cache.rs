//! What Raft reads back: the newest entries, and the terms of all of them. Older entries are on disk only; asking for
//! them becomes an output. Knows no disk itself.

use std::collections::VecDeque;

use parking_lot::Mutex;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::{Fetch, Start};
use crate::log::Base;

/// Applied entries kept in memory for peers that lag a little.
const KEEP_ENTRIES: usize = 4096;
const KEEP_BYTES: usize = 8 << 20;

pub(super) struct Cache {
    base: Base,
    hard_state: HardState,
    conf_state: ConfState,
    /// Contiguous, up to the last index.
    entries: VecDeque<Entry>,
    bytes: usize,
    last_index: u64,
    /// `(first index, term)` of each run of entries of one term, from the base on.
    terms: VecDeque<(u64, u64)>,
    /// Entries just read back for one request.
    fetched: Vec<Entry>,
    /// Offered, and not sent to anyone yet: each transfer gets a fresh one.
    snapshot: Mutex<Option<Snapshot>>,
    wants: Mutex<Wants>,
}

#[derive(Default)]
struct Wants {
    fetches: Vec<Fetch>,
    snapshot: Option<u64>,
}

impl Cache {
    pub fn new(start: &Start) -> Self {
        let mut hard_state = start.log.hard_state.clone();
        // The commit index is saved lazily; what was applied was committed, and its term has been.
        hard_state.commit = hard_state.commit.max(start.applied.index);
        if hard_state.term < start.applied.term {
            (hard_state.term, hard_state.vote) = (start.applied.term, 0);
        }
        let mut cache = Cache {
            base: start.applied.clone(),
            hard_state,
            conf_state: start.applied.conf_state.clone(),
            entries: VecDeque::new(),
            bytes: 0,
            last_index: start.applied.index,
            terms: VecDeque::from([(start.applied.index, start.applied.term)]),
            fetched: Vec::new(),
            snapshot: Mutex::default(),
            wants: Mutex::default(),
        };
        cache.append(&start.entries);
        cache
    }

    /// Adds entries; those at and after the first one's index go first.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|last| last.index >= first.index) {
            let last = self.entries.pop_back().expect("just seen");
            self.bytes -= size(&last);
        }
        while self
            .terms
            .back()
            .is_some_and(|(index, _)| *index >= first.index && *index > self.base.index)
        {
            self.terms.pop_back();
        }
        for entry in entries {
            if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            self.bytes += size(entry);
            self.last_index = entry.index;
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops what is applied and no longer recent.
    pub fn evict(&mut self, applied: u64) {
        while let Some(first) = self.entries.front()
            && first.index <= applied
            && (self.entries.len() > KEEP_ENTRIES || self.bytes > KEEP_BYTES)
        {
            self.bytes -= size(first);
            self.entries.pop_front();
        }
    }

    pub fn cut(&mut self, base: Base) {
        while let Some(first) = self.entries.front()
            && first.index <= base.index
        {
            self.bytes -= size(first);
            self.entries.pop_front();
        }
        while self.terms.len() > 1 && self.terms[1].0 <= base.index {
            self.terms.pop_front();
        }
        self.base = base;
    }

    /// A snapshot replaces everything.
    pub fn reset(&mut self, base: Base) {
        self.entries.clear();
        self.bytes = 0;
        self.last_index = base.index;
        self.terms = VecDeque::from([(base.index, base.term)]);
        self.conf_state = base.conf_state.clone();
        self.base = base;
    }

    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        // A new member refuses a snapshot that does not know it.
        *self.snapshot.get_mut() = None;
        self.conf_state = conf_state;
    }

    pub fn offer_fetched(&mut self, entries: Vec<Entry>) {
        self.fetched = entries;
    }

    pub fn offer_snapshot(&mut self, snapshot: Snapshot) {
        *self.snapshot.get_mut() = Some(snapshot);
    }

    pub fn take_fetches(&self) -> Vec<Fetch> {
        std::mem::take(&mut self.wants.lock().fetches)
    }

    pub fn take_snapshot_wanted(&self) -> Option<u64> {
        self.wants.lock().snapshot.take()
    }
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 32
}

/// At least one entry, then as many as fit.
fn limited<'a>(entries: impl Iterator<Item = &'a Entry> + Clone, max_bytes: u64) -> Vec<Entry> {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let first = bytes == 0;
        bytes += size(entry) as u64;
        first || bytes <= max_bytes
    };
    let count = entries.clone().take_while(fits).count();
    let mut taken = Vec::with_capacity(count);
    taken.extend(entries.take(count).cloned());
    taken
}

impl Storage for Cache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(StorageError::Compacted.into());
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let first = self
            .entries
            .front()
            .map_or(self.last_index + 1, |entry| entry.index);
        if low >= first {
            let range = (low - first) as usize..(high.min(self.last_index + 1) - first) as usize;
            return Ok(limited(self.entries.range(range), max_bytes));
        }
        if self.fetched.first().is_some_and(|entry| entry.index == low) {
            return Ok(limited(
                self.fetched.iter().take_while(|entry| entry.index < high),
                max_bytes,
            ));
        }
        if !context.can_async() {
            return Err(StorageError::Unavailable.into());
        }
        let high = high.min(first);
        self.wants.lock().fetches.push(Fetch {
            low,
            high,
            max_bytes,
            context,
        });
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.base.index {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last_index {
            return Err(StorageError::Unavailable.into());
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Ok(self.terms[after - 1].1)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let fresh =
            |snapshot: &mut Snapshot| snapshot.get_metadata().index >= request_index.max(self.base.index);
        match self.snapshot.lock().take_if(fresh) {
            Some(snapshot) => Ok(snapshot),
            None => {
                self.wants.lock().snapshot = Some(request_index.max(self.base.index));
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Identity, LogState};

    fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        indexes
            .map(|index| Entry {
                index,
                term,
                ..Entry::default()
            })
            .collect()
    }

    fn cache() -> Cache {
        let base = Base {
            index: 10,
            term: 2,
            ..Base::default()
        };
        let log = LogState {
            identity: Identity {
                cluster: 1,
                member: 1,
            },
            base: base.clone(),
            hard_state: HardState::default(),
            last_index: 10,
            lost: None,
        };
        Cache::new(&Start {
            log,
            applied: base,
            entries: Vec::new(),
            boot: 1,
            seed: 1,
        })
    }

    /// `terms` from the base's index to the last.
    #[track_caller]
    fn check(cache: &Cache, terms: &[u64]) {
        let base = cache.base.index;
        let found: Vec<_> = (base..=cache.last_index)
            .map(|index| cache.term(index).expect("known"))
            .collect();
        assert_eq!(found, terms);
        assert!(cache.term(cache.last_index + 1).is_err());
        assert!(cache.term(base - 1).is_err());
        assert_eq!(cache.bytes, cache.entries.iter().map(size).sum::<usize>());
    }

    #[test]
    fn terms_follow_appends_conflicts_and_cuts() {
        let mut cache = cache();
        check(&cache, &[2]);
        cache.append(&entries(11..=14, 2));
        cache.append(&entries(15..=16, 3));
        check(&cache, &[2, 2, 2, 2, 2, 3, 3]);
        cache.append(&entries(13..=14, 4));
        check(&cache, &[2, 2, 2, 4, 4]);
        cache.append(&entries(11..=11, 5));
        check(&cache, &[2, 5]);
        cache.append(&entries(12..=15, 6));
        cache.cut(Base {
            index: 13,
            term: 6,
            ..Base::default()
        });
        check(&cache, &[6, 6, 6]);
        cache.reset(Base {
            index: 40,
            term: 9,
            ..Base::default()
        });
        check(&cache, &[9]);
    }

    #[test]
    fn what_is_only_on_disk_is_asked_for() {
        let mut cache = cache();
        cache.append(&entries(11..=10 + 2 * KEEP_ENTRIES as u64, 2));
        cache.evict(u64::MAX);
        let ask = |cache: &Cache, can_async| cache.entries(11, 13, None, GetEntriesContext::empty(can_async));
        assert!(ask(&cache, false).is_err());
        assert!(ask(&cache, true).is_err());
        let fetches = cache.take_fetches();
        assert_eq!(
            fetches
                .iter()
                .map(|fetch| (fetch.low, fetch.high))
                .collect::<Vec<_>>(),
            [(11, 13)]
        );
        cache.offer_fetched(entries(11..=12, 2));
        assert_eq!(ask(&cache, true).expect("fetched").len(), 2);
        let recent = cache.last_index - 2;
        assert_eq!(
            cache
                .entries(recent, recent + 3, None, GetEntriesContext::empty(false))
                .expect("kept")
                .len(),
            3
        );
        assert_eq!(
            cache
                .entries(recent, recent + 3, 1, GetEntriesContext::empty(false))
                .expect("kept")
                .len(),
            1
        );
    }
}
