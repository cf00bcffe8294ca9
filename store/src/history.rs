//! The recent past: every event since the floor, in order, and the states between. A plain structure; the time comes
//! in as an argument. Knows neither watchers nor threads.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::SnapshotError;
use crate::model::{Entry, Event, Revision};
use crate::planted::{Bug, planted};
use crate::tree::{Snapshot, Tree};

/// A tree is kept at least this many events apart, so that an old state is never further than that from a known one.
const MARK_EVERY: usize = 65_536;
/// States rebuilt for readers that are kept for the next page of the same list.
const REBUILT_KEPT: usize = 8;
/// What an event takes besides its key and values.
const EVENT_OVERHEAD: usize = 256;
/// Ages are noted at most this often.
const AGE_STEP: Duration = Duration::from_secs(10);

/// How much of the past is kept. An event goes when it is older than `max_age` and more than `min_events` are newer,
/// or when there are more than `max_events`, or more than `max_bytes`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Default 1,000,000.
    pub max_events: usize,
    /// Default 16,384; kept whatever their age.
    pub min_events: usize,
    /// Keys and values of all kept events. Default 512 MiB.
    pub max_bytes: usize,
    /// Default 1 hour.
    pub max_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_events: 1_000_000,
            min_events: 16_384,
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// The newest state and the events that led to it.
#[derive(Debug)]
pub struct History {
    newest: Snapshot,
    /// Dense: the event of revision `floor + 1 + n` is at `n`.
    events: VecDeque<Arc<Event>>,
    /// The oldest state that can be read; every event after it is held.
    floor: Revision,
    bytes: usize,
    /// `(time, revision)`: events up to `revision` had happened at `time`.
    ages: VecDeque<(Duration, Revision)>,
    /// Known states inside the window, oldest first.
    marks: VecDeque<Snapshot>,
    rebuilt: VecDeque<Snapshot>,
    limits: Limits,
}

/// The events between a wanted state and a known later one.
#[derive(Debug)]
pub struct Rebuild {
    wanted: Revision,
    known: Tree,
    undo: Vec<Arc<Event>>,
}

impl History {
    pub fn new(newest: Snapshot, limits: Limits) -> Self {
        History {
            floor: newest.revision,
            newest,
            events: VecDeque::new(),
            bytes: 0,
            ages: VecDeque::new(),
            marks: VecDeque::new(),
            rebuilt: VecDeque::new(),
            limits,
        }
    }

    /// Continues from another state, without the events on the way to it.
    pub fn replace(&mut self, newest: Snapshot) {
        *self = History::new(newest, self.limits.clone());
    }

    pub fn newest(&self) -> &Snapshot {
        &self.newest
    }

    /// The oldest revision whose state can be read, and after which every event is held.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of the newest state, which whoever applies holds, too. [`History::advance`] has to come before any reader.
    pub fn lend(&mut self) {
        self.newest.tree = Tree::default();
    }

    /// Adds what one applied batch did and drops what its limits allow to go. `now` never goes back.
    pub fn advance(&mut self, events: &[Arc<Event>], newest: Snapshot, now: Duration) {
        for event in events {
            debug_assert_eq!(
                event.revision.0,
                self.floor.0 + 1 + self.events.len() as u64,
                "events are dense"
            );
            self.bytes += size(event);
            self.events.push_back(event.clone());
        }
        self.newest = newest;
        let last_mark = self.marks.back().map_or(self.floor, |mark| mark.revision);
        if self.newest.revision.0 - last_mark.0 >= MARK_EVERY as u64 {
            self.marks.push_back(self.newest.clone());
        }
        if self.ages.back().is_none_or(|(noted, _)| now >= *noted + AGE_STEP) {
            self.ages.push_back((now, self.newest.revision));
        }
        self.trim(now);
    }

    /// Forgets every state before `revision`.
    pub fn compact(&mut self, revision: Revision) {
        let floor = revision.min(self.newest.revision);
        while self.floor < floor {
            self.drop_oldest();
        }
        self.drop_marks();
    }

    /// The events after `after`, oldest first.
    ///
    /// # Errors
    /// The floor, when some of them are gone.
    pub fn after(&self, after: Revision) -> Result<impl Iterator<Item = &Arc<Event>>, Revision> {
        if after < self.floor && !planted(Bug::WatchFromBeforeHistory) {
            return Err(self.floor);
        }
        let skip = usize::try_from(after.0.saturating_sub(self.floor.0))
            .unwrap_or(usize::MAX)
            .min(self.events.len());
        Ok(self.events.range(skip..))
    }

    /// The state at `revision`, or what [`Rebuild::run`] needs to make it (outside of any lock).
    ///
    /// # Errors
    /// `Compacted` below the floor, `Future` above the newest revision.
    pub fn at(&self, revision: Revision) -> Result<Result<Snapshot, Rebuild>, SnapshotError> {
        if revision > self.newest.revision {
            return Err(SnapshotError::Future {
                newest: self.newest.revision,
            });
        }
        if revision < self.floor {
            return Err(SnapshotError::Compacted { oldest: self.floor });
        }
        let known = self
            .marks
            .iter()
            .chain(&self.rebuilt)
            .chain([&self.newest])
            .filter(|known| known.revision >= revision)
            .min_by_key(|known| known.revision)
            .expect("the newest state is not older than the wanted one");
        if known.revision == revision {
            return Ok(Ok(known.clone()));
        }
        let first = (revision.0 - self.floor.0) as usize;
        let last = (known.revision.0 - self.floor.0) as usize;
        let undo = self.events.range(first..last).cloned().collect();
        Ok(Err(Rebuild {
            wanted: revision,
            known: known.tree.clone(),
            undo,
        }))
    }

    /// Remembers a rebuilt state for the next reader of the same revision.
    pub fn remember(&mut self, snapshot: Snapshot) {
        if snapshot.revision < self.floor
            || self.rebuilt.iter().any(|kept| kept.revision == snapshot.revision)
        {
            return;
        }
        if self.rebuilt.len() == REBUILT_KEPT {
            self.rebuilt.pop_front();
        }
        self.rebuilt.push_back(snapshot);
    }

    fn trim(&mut self, now: Duration) {
        while self.events.len() > self.limits.max_events
            || (self.bytes > self.limits.max_bytes && !self.events.is_empty())
        {
            self.drop_oldest();
        }
        while let Some(&(noted, revision)) = self.ages.front()
            && now.saturating_sub(noted) > self.limits.max_age
            && self.newest.revision.0 - revision.0 >= self.limits.min_events as u64
        {
            self.ages.pop_front();
            while self.floor < revision {
                self.drop_oldest();
            }
        }
        self.drop_marks();
    }

    fn drop_oldest(&mut self) {
        let event = self
            .events
            .pop_front()
            .expect("the floor is below the newest revision");
        self.bytes -= size(&event);
        self.floor = event.revision;
    }

    fn drop_marks(&mut self) {
        let floor = self.floor;
        while self.marks.front().is_some_and(|mark| mark.revision < floor) {
            self.marks.pop_front();
        }
        while self.ages.front().is_some_and(|(_, revision)| *revision < floor) {
            self.ages.pop_front();
        }
        self.rebuilt.retain(|kept| kept.revision >= floor);
    }
}

impl Rebuild {
    /// Takes the events back. Costs one tree operation for each distinct key.
    pub fn run(self) -> Snapshot {
        let mut before: BTreeMap<&Bytes, Option<&Arc<Entry>>> = BTreeMap::new();
        for event in &self.undo {
            if planted(Bug::RebuildTakesLastValue) {
                before.insert(&event.key, event.prev());
                continue;
            }
            before.entry(&event.key).or_insert(event.prev());
        }
        let mut tree = self.known;
        for (key, entry) in before {
            match entry {
                Some(entry) => tree.insert(entry.clone()),
                None => tree.remove(key),
            };
        }
        Snapshot {
            revision: self.wanted,
            tree,
        }
    }
}

/// What is kept alive by the event. Its encoded forms are bounded by whoever makes them.
fn size(event: &Event) -> usize {
    let value = event.entry().map_or(0, |entry| entry.value.len());
    let prev = event.prev().map_or(0, |prev| prev.value.len());
    EVENT_OVERHEAD + event.key.len() + value + prev
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Op, Txn};
    use crate::mvcc::Mvcc;

    /// One put a second, for `seconds` seconds; expects the floor and the number of events kept.
    #[track_caller]
    fn check(limits: Limits, seconds: u64, expected_floor: u64, expected_events: usize) {
        let (mut mvcc, mut history) = empty(limits);
        for second in 0..seconds {
            put(
                &mut mvcc,
                &mut history,
                &format!("k{second}"),
                Duration::from_secs(second),
            );
        }
        assert_eq!(
            (history.floor().0, history.len()),
            (expected_floor, expected_events)
        );
        let bytes: usize = history.events.iter().map(|event| size(event)).sum();
        assert_eq!(bytes, history.bytes);
    }

    fn empty(limits: Limits) -> (Mvcc, History) {
        let mvcc = Mvcc::default();
        let history = History::new(mvcc.snapshot(), limits);
        (mvcc, history)
    }

    fn put(mvcc: &mut Mvcc, history: &mut History, key: &str, now: Duration) {
        let op = Op::Put {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from_static(b"v"),
        };
        let applied = mvcc.apply(Txn::new(vec![], vec![op]));
        history.advance(&applied.events, mvcc.snapshot(), now);
    }

    fn limits(max_events: usize, min_events: usize, max_age: u64) -> Limits {
        Limits {
            max_events,
            min_events,
            max_bytes: usize::MAX,
            max_age: Duration::from_secs(max_age),
        }
    }

    #[test]
    fn events_go_by_count_bytes_and_age_but_never_below_the_minimum() {
        check(Limits::default(), 500, 1, 500);
        check(limits(100, 0, 10_000), 500, 401, 100);
        check(
            Limits {
                max_bytes: 300 * 10,
                ..Limits::default()
            },
            500,
            490,
            11,
        );
        check(limits(1000, 200, 1), 500, 292, 209);
        check(limits(1000, 0, 100), 500, 392, 109);
    }

    #[test]
    fn every_state_in_the_window_can_be_rebuilt() {
        let (mut mvcc, mut history) = empty(Limits::default());
        let mut states = vec![mvcc.snapshot()];
        for n in 0..300 {
            put(
                &mut mvcc,
                &mut history,
                &format!("k{}", n * 7 % 40),
                Duration::ZERO,
            );
            states.push(mvcc.snapshot());
        }
        history.compact(Revision(50));
        for state in &states {
            let found = history
                .at(state.revision)
                .map(|found| found.unwrap_or_else(Rebuild::run));
            if state.revision < Revision(50) {
                assert_eq!(
                    found.err(),
                    Some(SnapshotError::Compacted { oldest: Revision(50) })
                );
                continue;
            }
            let found = found.expect("inside the window");
            let entries =
                |snapshot: &Snapshot| snapshot.range(Bytes::new()..Bytes::new()).collect::<Vec<_>>();
            assert_eq!(entries(&found), entries(state));
            history.remember(found);
        }
        let newest = history.newest().revision;
        assert!(matches!(
            history.at(newest.next()),
            Err(SnapshotError::Future { .. })
        ));
    }
}
