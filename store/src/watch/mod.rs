//! The hub: newest state and history for readers, events for watchers. An event is one allocation shared by all;
//! a watcher holds a cursor, so a slow one costs no copies. Knows no disk, no Raft, no clock.

mod stream;
mod topics;

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::error::{SnapshotError, WatchError};
use crate::history::{History, Limits};
use crate::model::{Event, Revision, Tagger};
use crate::planted::{Bug, planted};
use crate::tree::Snapshot;
pub use stream::{ProgressHandle, Watch, WatchItem};
use topics::Topics;

/// A watcher that once was up to date may have at most this many undelivered events before it is ended.
pub const DEFAULT_MAX_LAG: usize = 100_000;
/// Topics drop their share of trimmed history each time the floor has moved this far.
const TRIM_STEP: u64 = 1024;

/// Written by the one thread that applies; read by everybody.
pub struct Hub {
    view: RwLock<History>,
    topics: Mutex<Topics>,
    tagger: Option<Tagger>,
    /// Every event up to this revision is in its topics.
    published: AtomicU64,
    trimmed: AtomicU64,
    max_lag: usize,
}

impl Hub {
    pub fn new(newest: Snapshot, limits: Limits, max_lag: usize) -> Self {
        Hub {
            published: AtomicU64::new(newest.revision().0),
            trimmed: AtomicU64::new(newest.revision().0),
            view: RwLock::new(History::new(newest, limits)),
            topics: Mutex::default(),
            tagger: None,
            max_lag,
        }
    }

    /// Lets watchers choose by tag.
    #[must_use]
    pub fn with_tagger(mut self, tagger: Option<Tagger>) -> Self {
        self.tagger = tagger;
        self.topics = Mutex::new(Topics::new(tagger));
        self
    }

    /// Makes visible what `change` does to the newest state, which it returns with its events: to readers first, then to
    /// watchers. Whoever wants the newest state meanwhile waits: while nobody else holds it, it is changed where it stands,
    /// which is far cheaper than beside what readers may look at.
    pub fn advance(
        &self,
        now: Duration,
        change: impl FnOnce() -> (Vec<Arc<Event>>, Snapshot),
    ) -> Vec<Arc<Event>> {
        // A panic leaves the lock taken: nobody may read a state that is lent, and such a process is about to end.
        let mut view = ManuallyDrop::new(self.view.write());
        view.lend();
        let (events, newest) = change();
        let revision = newest.revision();
        view.advance(&events, newest, now);
        let floor = view.floor();
        drop(ManuallyDrop::into_inner(view));
        if events.is_empty() {
            return events;
        }
        let touched = {
            let mut topics = self.topics.lock();
            let touched = topics.push(&events);
            self.published.store(revision.0, Ordering::Release);
            touched
        };
        for topic in touched {
            topic.wake_all();
        }
        if floor.0 >= self.trimmed.load(Ordering::Relaxed) + TRIM_STEP {
            self.trim(floor);
        }
        events
    }

    /// Continues from a state that a peer sent: there are no events on the way to it, so watchers that had not reached
    /// it end with `Compacted`.
    pub fn install(&self, newest: Snapshot) {
        let revision = newest.revision();
        self.view.write().replace(newest);
        let topics = {
            let mut topics = self.topics.lock();
            self.published.store(revision.0, Ordering::Release);
            self.trimmed.store(revision.0, Ordering::Relaxed);
            if planted(Bug::InstallKeepsWatchers) {
                return;
            }
            topics.restart(revision)
        };
        for topic in topics {
            topic.wake_all();
        }
    }

    /// Forgets the history before `revision`. Watchers that still need it end with `Compacted`.
    pub fn compact(&self, revision: Revision) {
        let floor = {
            let mut view = self.view.write();
            view.compact(revision);
            view.floor()
        };
        self.trim(floor);
    }

    fn trim(&self, floor: Revision) {
        self.trimmed.store(floor.0, Ordering::Relaxed);
        self.topics.lock().trim(floor);
    }

    pub fn snapshot(&self) -> Snapshot {
        self.view.read().newest().clone()
    }

    /// # Errors
    /// `Compacted` or `Future`.
    pub fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, SnapshotError> {
        let found = self.view.read().at(revision)?;
        if planted(Bug::PageOfNewestState) {
            return Ok(self.snapshot());
        }
        Ok(found.unwrap_or_else(|rebuild| {
            let snapshot = rebuild.run();
            self.view.write().remember(snapshot.clone());
            snapshot
        }))
    }

    /// Every event in `range` after revision `from`, once, in order.
    ///
    /// # Errors
    /// `Compacted` when events after `from` are gone, `Future` when `from` has not happened yet.
    pub fn watch(self: &Arc<Self>, range: Range<Bytes>, from: Revision) -> Result<Watch, WatchError> {
        self.watch_tagged(range, None, from)
    }

    /// As [`Hub::watch`], only of entries that had `tag` before or after the event. Without a tagger a tag is not looked
    /// at: the watcher sees more than it asked for.
    ///
    /// # Errors
    /// Those of [`Hub::watch`].
    pub fn watch_tagged(
        self: &Arc<Self>,
        range: Range<Bytes>,
        tag: Option<Bytes>,
        from: Revision,
    ) -> Result<Watch, WatchError> {
        let tag = tag.filter(|_| self.tagger.is_some());
        {
            let view = self.view.read();
            if from < view.floor() && !planted(Bug::WatchFromBeforeHistory) {
                return Err(WatchError::Compacted { oldest: view.floor() });
            }
            let newest = view.newest().revision();
            if from > newest {
                return Err(WatchError::Future { newest });
            }
        }
        let mut topics = self.topics.lock();
        let since = Revision(self.published.load(Ordering::Acquire));
        let topic = topics.join(&range, tag, since).ok_or(WatchError::Closed)?;
        drop(topics);
        let from = match from {
            from if planted(Bug::WatchSkipsOnResume) => from.next(),
            from if planted(Bug::WatchRepeatsOnResume) => Revision(from.0 - 1),
            from => from,
        };
        Ok(Watch::new(self.clone(), topic, from))
    }

    /// The number of events kept, their bytes, and the oldest revision that can be read.
    pub fn history_stats(&self) -> (usize, usize, Revision) {
        let view = self.view.read();
        (view.len(), view.bytes(), view.floor())
    }

    pub fn watchers(&self) -> usize {
        self.topics.lock().watchers()
    }

    /// Ends every watch with `Closed` once it has delivered what it has; no new one starts.
    pub fn close(&self) {
        let all = self.topics.lock().close();
        for topic in all {
            topic.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use futures::{Stream, StreamExt};

    use super::*;
    use crate::model::{Op, Txn, key_range, prefix_range};
    use crate::mvcc::Mvcc;

    struct World {
        mvcc: Mvcc,
        hub: Arc<Hub>,
    }

    impl World {
        fn new(limits: Limits, max_lag: usize) -> Self {
            let mvcc = Mvcc::default();
            let hub = Arc::new(Hub::new(mvcc.snapshot(), limits, max_lag));
            World { mvcc, hub }
        }

        fn put(&mut self, keys: &str) {
            for key in keys.split_whitespace() {
                let op = Op::Put {
                    key: Bytes::from(key.to_owned()),
                    value: Bytes::from_static(b"v"),
                };
                let applied = self.mvcc.apply(Txn::new(vec![], vec![op]));
                self.hub
                    .advance(Duration::ZERO, || (applied.events, self.mvcc.snapshot()));
            }
        }

        fn watch(&self, prefix: &'static str, from: u64) -> Watch {
            self.hub
                .watch(prefix_range(prefix.as_bytes()), Revision(from))
                .expect("inside the window")
        }
    }

    /// Everything the watch has ready now.
    fn drain(watch: &mut Watch) -> String {
        let mut cx = Context::from_waker(Waker::noop());
        let mut text = String::new();
        let mut idle = 0;
        // A scan of the past yields between chunks; two idle polls in a row mean there is nothing more.
        while idle < 2 {
            match std::pin::Pin::new(&mut *watch).poll_next(&mut cx) {
                Poll::Pending => {
                    idle += 1;
                    continue;
                }
                Poll::Ready(None) => text += "end ",
                Poll::Ready(Some(Ok(WatchItem::Event(event)))) => {
                    text += &format!("{}@{} ", String::from_utf8_lossy(&event.key), event.revision);
                }
                Poll::Ready(Some(Ok(WatchItem::Progress(revision)))) => {
                    text += &format!("progress {revision} ")
                }
                Poll::Ready(Some(Err(error))) => text += &format!("{error:?} "),
            }
            if text.ends_with("end ") {
                break;
            }
            idle = 0;
        }
        text.trim_end().to_owned()
    }

    #[track_caller]
    fn check(watch: &mut Watch, expected: &str) {
        assert_eq!(drain(watch), expected);
    }

    /// While the state is changed where it stands, nobody sees it half changed, or without what was lent.
    #[test]
    fn a_reader_sees_whole_states_only() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        world.put("first");
        let hub = world.hub.clone();
        let together = Arc::new(std::sync::Barrier::new(2));
        let started = together.clone();
        let reader = std::thread::spawn(move || {
            started.wait();
            let mut states = std::collections::BTreeMap::new();
            while states
                .last_key_value()
                .is_none_or(|(revision, _)| *revision < 4002)
            {
                let state = hub.snapshot();
                assert_eq!(state.len() as u64, state.revision().0 - 1);
                states.insert(state.revision().0, state);
            }
            // What was read stays as it was.
            for (revision, state) in states {
                assert_eq!(state.range(prefix_range(b"")).count() as u64, revision - 1);
            }
        });
        together.wait();
        for n in 0..2000 {
            let puts = [format!("a/{n}"), format!("b/{n}")].map(|key| Op::Put {
                key: key.into(),
                value: Bytes::from_static(b"v"),
            });
            world.hub.advance(Duration::ZERO, || {
                let txn = Txn::new(vec![], puts.to_vec());
                (world.mvcc.apply(txn).events, world.mvcc.snapshot())
            });
        }
        reader.join().expect("every state is whole");
    }

    /// The process is about to end then, but a reader may be faster.
    #[test]
    fn nobody_reads_a_state_whose_change_panicked() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        world.put("first");
        let change = || panic!("a broken invariant");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.hub.advance(Duration::ZERO, change)
        }));
        assert!(panicked.is_err());
        assert!(world.hub.view.try_read().is_none());
    }

    #[test]
    fn a_watch_sees_its_range_from_its_revision_on() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        world.put("a/1 b/1 a/2");
        let mut old = world.watch("a/", 1);
        let mut new = world.watch("a/", 4);
        let mut exact = world.hub.watch(key_range(b"b/1"), Revision(2)).expect("inside");
        check(&mut old, "a/1@2 a/2@4");
        check(&mut new, "");
        world.put("a/3 b/1 b/2");
        check(&mut old, "a/3@5");
        check(&mut new, "a/3@5");
        check(&mut exact, "b/1@3 b/1@6");
    }

    #[test]
    fn a_tag_narrows_a_watch_in_history_and_live() {
        // The tag is the value's first byte.
        let tagger: Tagger = |_, value| (!value.is_empty()).then(|| Bytes::copy_from_slice(&value[..1]));
        let mut mvcc = Mvcc::default();
        let hub = Hub::new(mvcc.snapshot(), Limits::default(), DEFAULT_MAX_LAG).with_tagger(Some(tagger));
        let hub = Arc::new(hub);
        let mut write = |text: &str| {
            for (key, value) in text.split_whitespace().filter_map(|put| put.split_once('=')) {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let op = match value {
                    "-" => Op::Delete { key },
                    value => Op::Put {
                        key,
                        value: Bytes::copy_from_slice(value.as_bytes()),
                    },
                };
                let applied = mvcc.apply(Txn::new(vec![], vec![op]));
                hub.advance(Duration::ZERO, || (applied.events, mvcc.snapshot()));
            }
        };
        let tag = || Some(Bytes::from_static(b"x"));
        let pods = prefix_range(b"p/");
        write("p/1=x1 p/2=y1 q/1=x1");
        let mut watch = hub
            .watch_tagged(pods.clone(), tag(), Revision(1))
            .expect("inside");
        let mut all = hub.watch(pods.clone(), Revision(1)).expect("inside");
        check(&mut watch, "p/1@2");
        check(&mut all, "p/1@2 p/2@3");
        // It comes, changes, stays, goes elsewhere; another comes; one goes for good.
        write("p/2=x2 p/2=x3 p/1=y2 p/3=x1 p/4=y1 q/2=x1 p/2=-");
        check(&mut watch, "p/2@5 p/2@6 p/1@7 p/3@8 p/2@11");
        check(&mut all, "p/2@5 p/2@6 p/1@7 p/3@8 p/4@9 p/2@11");
        drop(watch);
        let mut again = hub.watch_tagged(pods, tag(), Revision(6)).expect("inside");
        check(&mut again, "p/1@7 p/3@8 p/2@11");
        assert_eq!(hub.watchers(), 2);
        drop((again, all));
        assert_eq!(hub.watchers(), 0);
    }

    #[test]
    fn progress_is_told_on_request_and_only_when_all_is_delivered() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        let mut watch = world.watch("a/", 1);
        let progress = watch.progress_handle();
        world.put("a/1 b/1 b/2");
        progress.request();
        check(&mut watch, "a/1@2 progress 4");
        check(&mut watch, "");
        progress.request();
        check(&mut watch, "progress 4");
    }

    #[test]
    fn compaction_refuses_old_revisions_and_ends_watchers_that_need_them() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        world.put("a/1 a/2 b/1 a/3");
        let mut behind = world.watch("a/", 1);
        let mut current = world.watch("a/", 5);
        let mut quiet = world.watch("c/", 3);
        check(&mut current, "");
        check(&mut quiet, "");
        world.hub.compact(Revision(4));
        check(&mut behind, "Compacted { oldest: Revision(4) } end");
        let refused = world.hub.watch(prefix_range(b"a/"), Revision(3)).err();
        assert_eq!(refused, Some(WatchError::Compacted { oldest: Revision(4) }));
        let future = world.hub.watch(prefix_range(b"a/"), Revision(6)).err();
        assert_eq!(future, Some(WatchError::Future { newest: Revision(5) }));
        world.put("a/4 c/1");
        world.hub.compact(Revision(7));
        check(&mut current, "Compacted { oldest: Revision(7) } end");
        // The event at revision 7 was never delivered and is at, not above, the floor: it must not be skipped silently.
        check(&mut quiet, "Compacted { oldest: Revision(7) } end");
    }

    #[test]
    fn a_watcher_that_saw_everything_survives_compaction() {
        let mut world = World::new(Limits::default(), DEFAULT_MAX_LAG);
        let mut watch = world.watch("a/", 1);
        world.put("a/1");
        check(&mut watch, "a/1@2");
        world.put("b/1 b/2 b/3");
        world.hub.compact(Revision(5));
        world.put("a/2");
        check(&mut watch, "a/2@6");
    }

    #[test]
    fn a_watcher_past_its_bound_ends_with_an_error() {
        let mut world = World::new(Limits::default(), 2);
        world.put("a/1 a/2 a/3 a/4");
        let mut watch = world.watch("a/", 1);
        check(&mut watch, "a/1@2 a/2@3 a/3@4 a/4@5");
        world.put("a/5 a/6");
        check(&mut watch, "a/5@6 a/6@7");
        world.put("a/7 a/8 a/9");
        check(
            &mut watch,
            "Lagged { seen: Revision(7), newest: Revision(10) } end",
        );
    }

    #[test]
    fn closing_delivers_what_is_there_and_then_says_so() {
        let mut world = World::new(Limits::default(), 2);
        let mut watch = world.watch("a/", 1);
        world.put("a/1");
        world.hub.close();
        check(&mut watch, "a/1@2 Closed end");
        assert_eq!(
            world.hub.watch(prefix_range(b""), Revision(2)).err(),
            Some(WatchError::Closed)
        );
    }

    #[test]
    fn a_waiting_task_is_woken_by_its_own_range_only() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let mut world = World::new(Limits::default(), 2);
            let mut watch = world.watch("a/", 1);
            let task = tokio::spawn(async move {
                let Some(Ok(WatchItem::Event(event))) = watch.next().await else {
                    panic!("an event")
                };
                event.revision
            });
            tokio::task::yield_now().await;
            world.put("b/1 a/1");
            assert_eq!(task.await.expect("task"), Revision(3));
            assert_eq!(world.hub.watchers(), 0);
        });
    }
}
