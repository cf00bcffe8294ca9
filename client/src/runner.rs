//! Runs a controller: changes become keys, keys become `sync` calls, failures come back later.
//!
//! Knows the queue, the caches' progress and shutdown. Must not know what a controller does.
//!
//! A controller never acts on what it changed itself but has not seen yet: `sync` reports its writes to [`Writes`],
//! and the next `sync` of the same key starts only once the caches hold them.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::cache::{Cache, Change, Seen};
use crate::object::{Object, ObjectKey};
use crate::queue::Queue;

/// Workers of one controller unless set otherwise. Source: kube-controller-manager `--concurrent-*-syncs`.
pub const DEFAULT_WORKERS: usize = 5;
/// How long a key waits for the caches to hold its own last write. Longer means that a watch is broken; the key is
/// then tried again later, never worked on with an old view.
pub const OWN_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Remembered writes at which those already seen are dropped.
const SWEEP_WRITES: usize = 1024;

/// What a successful `sync` wants next: nothing, or another look after a while.
pub type Requeue = Option<Duration>;

/// Any key a controller may work on.
pub trait Key: Clone + Eq + Hash + Ord + fmt::Display + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Ord + fmt::Display + Send + Sync + 'static> Key for T {}

/// Counters of one controller, for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    pub syncs: AtomicU64,
    pub failures: AtomicU64,
    pub panics: AtomicU64,
    /// Keys ready but not in work.
    pub depth: AtomicUsize,
    /// Keys in work.
    pub busy: AtomicUsize,
}

struct Shared<K> {
    queue: Mutex<Queue<K>>,
    wake: Notify,
}

/// Adds keys from anywhere. Cheap to clone.
pub struct QueueHandle<K = ObjectKey> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for QueueHandle<K> {
    fn clone(&self) -> Self {
        QueueHandle {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Key> QueueHandle<K> {
    pub fn add(&self, key: K) {
        self.shared.queue.lock().add(key);
        self.shared.wake.notify_one();
    }

    pub fn add_after(&self, key: K, wait: Duration) {
        self.shared
            .queue
            .lock()
            .add_at(key, (Instant::now() + wait).into_std());
        self.shared.wake.notify_one();
    }
}

/// The revisions one `sync` wrote, by the cache that will show them.
#[derive(Clone, Default)]
pub struct Writes {
    expected: Arc<Mutex<Vec<(Seen, u64)>>>,
}

impl Writes {
    /// `cache` must have seen `revision` before this key is worked on again. 0 means nothing was written.
    pub fn wrote<K: Object>(&self, cache: &Cache<K>, revision: u64) {
        if revision > 0 {
            self.expected.lock().push((cache.seen(), revision));
        }
    }

    /// Until the caches hold all of them.
    async fn seen(&self) {
        let expected = self.expected.lock().clone();
        for (seen, revision) in expected {
            seen.wait_revision(revision).await;
        }
    }

    fn is_empty(&self) -> bool {
        self.expected.lock().is_empty()
    }

    fn is_seen(&self) -> bool {
        self.expected
            .lock()
            .iter()
            .all(|(seen, revision)| seen.progress().revision >= *revision)
    }
}

/// A named loop over keys.
pub struct Controller<K = ObjectKey> {
    name: &'static str,
    workers: usize,
    caches: Vec<Seen>,
    /// How long `caches` are waited for; `None`: for ever.
    patience: Option<Duration>,
    shared: Arc<Shared<K>>,
    stats: Arc<Stats>,
}

impl<K: Key> Controller<K> {
    pub fn new(name: &'static str) -> Self {
        let shared = Shared {
            queue: Mutex::new(Queue::default()),
            wake: Notify::new(),
        };
        Controller {
            name,
            workers: DEFAULT_WORKERS,
            caches: Vec::new(),
            patience: None,
            shared: Arc::new(shared),
            stats: Arc::default(),
        }
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// After so long `sync` runs also while caches are not complete: somebody else's server may be what they wait for.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Every change of `cache` adds the keys `keys` names. No `sync` runs before the cache is complete.
    pub fn watch<O: Object>(
        self,
        cache: &Cache<O>,
        keys: impl Fn(&Change<O>) -> Vec<K> + Send + Sync + 'static,
    ) -> Self {
        let handle = self.handle();
        cache.on_change(move |change| keys(change).into_iter().for_each(|key| handle.add(key)));
        self.needs(cache)
    }

    /// No `sync` runs before `cache` is complete.
    pub fn needs<O: Object>(mut self, cache: &Cache<O>) -> Self {
        self.caches.push(cache.seen());
        self
    }

    pub fn handle(&self) -> QueueHandle<K> {
        QueueHandle {
            shared: self.shared.clone(),
        }
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Works until `shutdown`, then waits for the syncs in work. An `Err` brings the key back after a back-off.
    pub async fn run<S, F, E>(self, shutdown: CancellationToken, sync: S)
    where
        S: Fn(K, Writes) -> F,
        F: Future<Output = Result<Requeue, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let complete = async {
            for cache in &self.caches {
                cache.wait_synced().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = complete => {}
            () = sleep_until(self.patience.map(|patience| Instant::now() + patience)), if self.patience.is_some() => {
                warn!(controller = self.name, "not all caches are complete, going on all the same");
            }
        }
        let mut work = JoinSet::new();
        let mut writes: HashMap<K, Writes> = HashMap::new();
        let mut sweep_at = SWEEP_WRITES;
        loop {
            while work.len() < self.workers {
                let Some(key) = self.take() else { break };
                let before = writes.remove(&key);
                let now = Writes::default();
                let future = sync(key.clone(), now.clone());
                let name = self.name;
                work.spawn(async move {
                    let outcome = attempt(name, &key, before, future).await;
                    (key, now, outcome)
                });
            }
            self.stats.busy.store(work.len(), Ordering::Relaxed);
            let due = self.shared.queue.lock().next_due().map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.shared.wake.notified(), if work.len() < self.workers => {}
                () = sleep_until(due), if due.is_some() && work.len() < self.workers => {}
                Some(finished) = work.join_next() => {
                    let (key, wrote, outcome) = finished.expect("the task catches panics and is never aborted");
                    self.finish(&key, &outcome);
                    let expected = if let Outcome::Unseen(before) = outcome { before } else { wrote };
                    if !expected.is_empty() {
                        writes.insert(key, expected);
                    }
                    // Keys that are never worked on again would stay for ever.
                    if writes.len() > sweep_at {
                        writes.retain(|_, expected| !expected.is_seen());
                        sweep_at = SWEEP_WRITES.max(2 * writes.len());
                    }
                }
            }
        }
        while work.join_next().await.is_some() {}
    }

    fn take(&self) -> Option<K> {
        let mut queue = self.shared.queue.lock();
        let key = queue.take(Instant::now().into_std());
        self.stats.depth.store(queue.depth(), Ordering::Relaxed);
        key
    }

    fn finish(&self, key: &K, outcome: &Outcome) {
        let now = Instant::now().into_std();
        let mut queue = self.shared.queue.lock();
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::Done(after) => {
                queue.forget(key);
                if let Some(wait) = after {
                    queue.add_at(key.clone(), now + *wait);
                }
            }
            Outcome::Failed | Outcome::Unseen(_) => {
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                queue.retry(key.clone(), now);
            }
            Outcome::Panicked => {
                self.stats.panics.fetch_add(1, Ordering::Relaxed);
                queue.retry(key.clone(), now);
            }
        }
        queue.done(key);
    }
}

enum Outcome {
    Done(Requeue),
    Failed,
    Panicked,
    /// The caches did not come to hold these writes in time.
    Unseen(Writes),
}

async fn attempt<K: Key, E: std::error::Error>(
    controller: &'static str,
    key: &K,
    before: Option<Writes>,
    sync: impl Future<Output = Result<Requeue, E>>,
) -> Outcome {
    if let Some(before) = before
        && tokio::time::timeout(OWN_WRITE_TIMEOUT, before.seen())
            .await
            .is_err()
    {
        warn!(controller, %key, "the cache does not show our own last write");
        return Outcome::Unseen(before);
    }
    match AssertUnwindSafe(sync).catch_unwind().await {
        Ok(Ok(after)) => Outcome::Done(after),
        Ok(Err(failure)) => {
            debug!(controller, %key, error = %chain(&failure), "sync failed, will try again");
            Outcome::Failed
        }
        Err(_) => {
            error!(controller, %key, "sync panicked, will try again");
            Outcome::Panicked
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use tokio::sync::mpsc;

    #[derive(Debug, thiserror::Error)]
    #[error("failed on purpose")]
    struct Failure;

    fn object(name: &str, revision: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                resource_version: Some(revision.to_string()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    /// Runs a controller over a cache with object `a`; `sync` is told how often it was called before.
    async fn check(
        sync: impl Fn(u64, Cache<ConfigMap>, Writes) -> Result<Requeue, Failure> + Clone + Send + Sync + 'static,
        calls: u64,
        touch: impl FnOnce(&mut crate::cache::Feed<ConfigMap>),
    ) -> Duration {
        use crate::reflect::Sink;
        let cache = Cache::<ConfigMap>::new();
        let mut feed = cache.feed();
        feed.list_begin();
        feed.apply_object(object("a", 1));
        feed.list_end(1);
        let shutdown = CancellationToken::new();
        let (sender, mut called) = mpsc::unbounded_channel();
        let controller = Controller::new("test").watch(&cache, |change| match change {
            Change::Applied { new, .. } => vec![new.key()],
            _ => vec![],
        });
        let count = Arc::new(AtomicU64::new(0));
        let running = tokio::spawn(controller.run(shutdown.clone(), {
            let cache = cache.clone();
            move |_key, writes| {
                let (sync, cache, sender) = (sync.clone(), cache.clone(), sender.clone());
                let count = count.clone();
                async move {
                    let before = count.fetch_add(1, Ordering::SeqCst);
                    sender.send(()).expect("the test listens");
                    sync(before, cache, writes)
                }
            }
        }));
        let start = Instant::now();
        called.recv().await.expect("a first sync");
        touch(&mut feed);
        for _ in 1..calls {
            called.recv().await.expect("another sync");
        }
        let took = start.elapsed();
        shutdown.cancel();
        running.await.expect("ends cleanly");
        took
    }

    #[tokio::test]
    async fn a_cache_that_is_never_complete_is_not_waited_for_for_ever() {
        let never = Cache::<ConfigMap>::new();
        let controller = Controller::<ObjectKey>::new("test")
            .needs(&never)
            .patience(Duration::from_millis(10));
        controller.handle().add(ObjectKey::cluster("a"));
        let (called, mut calls) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(controller.run(shutdown.clone(), move |key, _| {
            let _ = called.send(key);
            async { Ok::<_, Failure>(None) }
        }));
        assert_eq!(calls.recv().await, Some(ObjectKey::cluster("a")));
        shutdown.cancel();
        running.await.expect("ends cleanly");
    }

    #[tokio::test]
    async fn failures_come_back_with_backoff_and_success_ends_it() {
        let took = check(
            |before, _, _| if before < 3 { Err(Failure) } else { Ok(None) },
            4,
            |_| {},
        )
        .await;
        assert!(took.as_millis() >= 35, "5 + 10 + 20 ms, took {took:?}");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let sync = |before, _, _| {
            if before == 0 {
                panic!("on purpose")
            } else {
                Ok(None)
            }
        };
        check(sync, 2, |_| {}).await;
    }

    #[tokio::test]
    async fn requeue_comes_at_its_time() {
        let sync = |before, _, _| Ok((before == 0).then(|| Duration::from_millis(60)));
        assert!(check(sync, 2, |_| {}).await.as_millis() >= 60);
    }

    #[tokio::test]
    async fn a_sync_waits_until_the_cache_holds_its_own_write() {
        let sync = |before, cache: Cache<ConfigMap>, writes: Writes| {
            if before == 0 {
                writes.wrote(&cache, 7);
                return Ok(Some(Duration::from_millis(1)));
            }
            assert!(cache.seen().progress().revision >= 7, "synced with an old view");
            Ok(None)
        };
        check(sync, 2, |feed| feed.apply_object(object("a", 7))).await;
    }
}
