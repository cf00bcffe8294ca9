//! The state machine, history and watch hub against a model that keeps every state and every event for ever.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use corten_store::mvcc::Mvcc;
use corten_store::watch::Hub;
use corten_store::{
    EventKind, HistoryLimits, Op, Precondition, Revision, SnapshotError, Txn, TxnOutcome, Watch, WatchError,
    WatchItem, key_range, prefix_range,
};
use futures::Stream;
use proptest::prelude::*;

type State = BTreeMap<Bytes, (Bytes, u64, u64)>;

#[derive(Clone, Debug)]
enum Step {
    Txn(Txn),
    /// Share of the history, in percent.
    Compact(u8),
    SnapshotAt(u8),
    Watch {
        range: Range<Bytes>,
        from: u8,
    },
    Drain(usize),
    Drop(usize),
    Restart,
}

#[derive(Default)]
struct Model {
    /// The state at each revision; the first is `Revision::INITIAL`.
    states: Vec<State>,
    /// `(revision, key, value if it was a put, value before)`.
    events: Vec<(u64, Bytes, Option<Bytes>, Option<Bytes>)>,
    floor: u64,
}

impl Model {
    fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    fn newest(&self) -> &State {
        self.states.last().expect("never empty")
    }

    fn txn(&mut self, txn: &Txn) -> Result<Vec<u64>, Bytes> {
        for precondition in &txn.preconditions {
            let current = self.newest().get(precondition.key());
            let holds = match precondition {
                Precondition::Absent(_) => current.is_none(),
                Precondition::Exists(_) => current.is_some(),
                Precondition::ModRevision(_, revision) => {
                    current.is_some_and(|(_, _, modified)| *modified == revision.0)
                }
            };
            if !holds {
                return Err(precondition.key().clone());
            }
        }
        let mut revisions = Vec::new();
        for op in &txn.ops {
            let mut state = self.newest().clone();
            let before = state.get(op.key()).cloned();
            let revision = self.revision() + 1;
            let after = match op {
                Op::Put { key, value } => {
                    let create = before.as_ref().map_or(revision, |(_, create, _)| *create);
                    state.insert(key.clone(), (value.clone(), create, revision));
                    Some(value.clone())
                }
                Op::Delete { key } => {
                    state.remove(key);
                    None
                }
            };
            if before.is_some() || after.is_some() {
                self.states.push(state);
                self.events.push((
                    revision,
                    op.key().clone(),
                    after,
                    before.map(|(value, _, _)| value),
                ));
            }
            revisions.push(self.revision());
        }
        Ok(revisions)
    }
}

struct Watcher {
    watch: Watch,
    range: Range<Bytes>,
    cursor: u64,
}

struct World {
    mvcc: Mvcc,
    hub: Arc<Hub>,
    model: Model,
    watchers: Vec<Watcher>,
}

fn inside(range: &Range<Bytes>, key: &Bytes) -> bool {
    *key >= range.start && (range.end.is_empty() || *key < range.end)
}

impl World {
    fn new() -> Self {
        let mvcc = Mvcc::default();
        let hub = Arc::new(Hub::new(mvcc.snapshot(), HistoryLimits::default(), 1_000));
        let model = Model {
            states: vec![State::new()],
            floor: 1,
            ..Model::default()
        };
        World {
            mvcc,
            hub,
            model,
            watchers: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Txn(txn) => self.txn(txn),
            Step::Compact(share) => {
                let revision = self.past(share);
                self.hub.compact(Revision(revision));
                self.model.floor = self.model.floor.max(revision);
            }
            Step::SnapshotAt(share) => self.snapshot_at(self.model.revision() * u64::from(share) / 100 + 1),
            Step::Watch { range, from } => {
                self.watch(range, self.model.revision() * u64::from(from) / 100 + 1)
            }
            Step::Drain(n) => {
                if !self.watchers.is_empty() {
                    let at = n % self.watchers.len();
                    self.drain(at);
                }
            }
            Step::Drop(n) => {
                if !self.watchers.is_empty() {
                    let at = n % self.watchers.len();
                    self.watchers.swap_remove(at);
                }
            }
            Step::Restart => {
                self.mvcc = Mvcc::restore(self.mvcc.snapshot());
            }
        }
    }

    fn past(&self, share: u8) -> u64 {
        let span = self.model.revision() - self.model.floor;
        self.model.floor + span * u64::from(share) / 100
    }

    fn txn(&mut self, txn: Txn) {
        let expected = self.model.txn(&txn);
        let applied = self.mvcc.apply(txn);
        self.hub
            .advance(Duration::ZERO, || (applied.events, self.mvcc.snapshot()));
        match (applied.outcome, expected) {
            (TxnOutcome::Committed { revision, revisions }, Ok(expected)) => {
                assert_eq!(
                    revisions.iter().map(|revision| revision.0).collect::<Vec<_>>(),
                    expected
                );
                assert_eq!(revision.0, self.model.revision());
            }
            (TxnOutcome::Conflict { key, current }, Err(expected)) => {
                assert_eq!(key, expected);
                let value = self.model.newest().get(&key).map(|(value, _, _)| value.clone());
                assert_eq!(current.map(|entry| entry.value.clone()), value);
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    fn snapshot_at(&mut self, revision: u64) {
        let found = self.hub.snapshot_at(Revision(revision));
        if revision > self.model.revision() {
            assert!(matches!(found, Err(SnapshotError::Future { .. })));
            return;
        }
        if revision < self.model.floor {
            assert_eq!(
                found.err(),
                Some(SnapshotError::Compacted {
                    oldest: Revision(self.model.floor)
                })
            );
            return;
        }
        let found = found.expect("inside the window");
        let entries: State = found
            .range(prefix_range(b""))
            .map(|entry| {
                (
                    entry.key.clone(),
                    (entry.value.clone(), entry.create_revision.0, entry.mod_revision.0),
                )
            })
            .collect();
        assert_eq!(entries, self.model.states[revision as usize - 1]);
        assert_eq!(
            found.count(prefix_range(b"a")),
            entries.keys().filter(|key| key.starts_with(b"a")).count()
        );
    }

    fn watch(&mut self, range: Range<Bytes>, from: u64) {
        match self.hub.watch(range.clone(), Revision(from)) {
            Ok(watch) => self.watchers.push(Watcher {
                watch,
                range,
                cursor: from,
            }),
            Err(WatchError::Compacted { oldest }) => {
                assert!(from < self.model.floor && oldest.0 == self.model.floor);
            }
            Err(WatchError::Future { newest }) => {
                assert!(from > self.model.revision() && newest.0 == self.model.revision());
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Everything the watcher has ready must be exactly what the model says happened since its cursor.
    fn drain(&mut self, at: usize) {
        let model = &self.model;
        let Watcher { watch, range, cursor } = &mut self.watchers[at];
        let start = *cursor;
        let mut expected = model
            .events
            .iter()
            .filter(|event| event.0 > start && inside(range, &event.1));
        let mut cx = Context::from_waker(Waker::noop());
        let mut idle = 0;
        let progress = watch.progress_handle();
        progress.request();
        while idle < 3 {
            match Pin::new(&mut *watch).poll_next(&mut cx) {
                Poll::Pending => idle += 1,
                Poll::Ready(Some(Ok(WatchItem::Event(event)))) => {
                    let (revision, key, after, before) = expected.next().expect("no event was invented");
                    assert_eq!((event.revision.0, &event.key), (*revision, key));
                    assert_eq!(event.entry().map(|entry| &entry.value), after.as_ref());
                    assert_eq!(event.prev().map(|entry| &entry.value), before.as_ref());
                    assert!(matches!(event.kind, EventKind::Delete { .. }) == after.is_none());
                    *cursor = *revision;
                }
                Poll::Ready(Some(Ok(WatchItem::Progress(revision)))) => {
                    assert_eq!(revision.0, model.revision());
                    assert_eq!(expected.next(), None, "progress is told when all is delivered");
                    *cursor = revision.0;
                    return;
                }
                Poll::Ready(Some(Err(WatchError::Compacted { oldest }))) => {
                    assert_eq!(oldest.0, model.floor);
                    assert!(*cursor < model.floor, "a watcher that needs nothing old goes on");
                    self.watchers.swap_remove(at);
                    return;
                }
                Poll::Ready(other) => panic!("{other:?}"),
            }
        }
        panic!("a watcher never goes silent");
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    (0..3u8, 0..4u8).prop_map(|(group, name)| Bytes::from(format!("{}/{name}", char::from(b'a' + group))))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (key(), any::<u8>()).prop_map(|(key, value)| Op::Put { key, value: Bytes::from(vec![value; 3]) }),
        1 => key().prop_map(|key| Op::Delete { key }),
    ]
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        key().prop_map(Precondition::Absent),
        key().prop_map(Precondition::Exists),
        (key(), 1..60u64).prop_map(|(key, revision)| Precondition::ModRevision(key, Revision(revision))),
    ]
}

fn range() -> impl Strategy<Value = Range<Bytes>> {
    prop_oneof![
        Just(prefix_range(b"")),
        Just(prefix_range(b"a/")),
        Just(prefix_range(b"b/")),
        key().prop_map(|key| key_range(&key)),
        (key(), key()).prop_map(|(start, end)| start..end),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (
        prop::collection::vec(precondition(), 0..2),
        prop::collection::vec(op(), 1..4),
    )
        .prop_map(|(preconditions, ops)| Step::Txn(Txn { preconditions, ops }));
    prop_oneof![
        12 => txn,
        1 => (0..=100u8).prop_map(Step::Compact),
        3 => (0..=103u8).prop_map(Step::SnapshotAt),
        3 => (range(), 0..=103u8).prop_map(|(range, from)| Step::Watch { range, from }),
        4 => any::<usize>().prop_map(Step::Drain),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        while !world.watchers.is_empty() {
            world.drain(0);
            world.watchers.pop();
        }
    }
}
