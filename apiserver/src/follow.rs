//! Keeps an index of part of the store as new as the store.
//!
//! Knows watches. Must not know what an index holds.

use std::ops::Range;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use corten_store::watch::ProgressHandle;
use corten_store::{Event, Revision, Snapshot, Store, Watch, WatchItem};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Inner;

/// Wait before a watch that could not begin is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait of a request for an index that is behind; then it takes the index as it is.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Events taken over at once, before those who wait are told.
const BATCH: usize = 1024;

/// What follows the store.
pub trait Index: Send + 'static {
    /// The keys it is about.
    fn range() -> Range<Bytes>;
    /// Takes a whole state over, in place of everything it had.
    fn load(&mut self, server: &Inner, snapshot: &Snapshot);
    fn apply(&mut self, server: &Inner, event: &Event);
    /// Puts what was loaded or applied in force.
    fn publish(&mut self, server: &Inner);
}

/// How far an index is.
pub struct Followed {
    seen: watch::Sender<u64>,
    progress: Mutex<Option<ProgressHandle>>,
}

impl Default for Followed {
    fn default() -> Followed {
        Followed {
            seen: watch::Sender::new(0),
            progress: Mutex::new(None),
        }
    }
}

impl Followed {
    /// Waits until the index holds everything up to `revision`; not at all if nobody follows yet.
    pub async fn wait(&self, revision: Revision) {
        if *self.seen.borrow() >= revision.0 {
            return;
        }
        let Some(progress) = self.progress.lock().clone() else {
            return;
        };
        let mut seen = self.seen.subscribe();
        progress.request();
        let caught_up = seen.wait_for(|seen| *seen >= revision.0);
        if tokio::time::timeout(LONGEST_WAIT, caught_up).await.is_err() {
            tracing::warn!(%revision, "an index stays behind the store");
        }
    }

    fn reached(&self, revision: Revision) {
        self.seen.send_if_modified(|seen| {
            let newer = revision.0 > *seen;
            *seen = revision.0.max(*seen);
            newer
        });
    }
}

/// Loads the index and follows from there until the server ends. `of` finds the index's place in the server.
pub fn start<I: Index>(server: &std::sync::Arc<Inner>, mut index: I, of: fn(&Inner) -> &Followed) {
    let snapshot = server.store.snapshot();
    index.load(server, &snapshot);
    index.publish(server);
    let from = snapshot.revision();
    let watch = begin::<I>(&server.store, of(server), from);
    of(server).reached(from);
    let closing = server.closing.clone();
    tokio::spawn(run(std::sync::Arc::downgrade(server), closing, index, of, watch));
}

fn begin<I: Index>(store: &Store, followed: &Followed, from: Revision) -> Option<Watch> {
    let watch = store.watch(I::range(), from).ok()?;
    *followed.progress.lock() = Some(watch.progress_handle());
    Some(watch)
}

async fn run<I: Index>(
    server: Weak<Inner>,
    closing: CancellationToken,
    mut index: I,
    of: fn(&Inner) -> &Followed,
    mut watch: Option<Watch>,
) {
    loop {
        if let Some(watch) = &mut watch {
            follow(&server, &closing, &mut index, of, watch).await;
        }
        if closing.is_cancelled() {
            return;
        }
        if watch.is_none() {
            tokio::time::sleep(RETRY).await;
        }
        let Some(server) = server.upgrade() else { return };
        let snapshot = server.store.snapshot();
        index.load(&server, &snapshot);
        index.publish(&server);
        watch = begin::<I>(&server.store, of(&server), snapshot.revision());
        of(&server).reached(snapshot.revision());
    }
}

/// Until the watch breaks or the server ends.
async fn follow<I: Index>(
    server: &Weak<Inner>,
    closing: &CancellationToken,
    index: &mut I,
    of: fn(&Inner) -> &Followed,
    watch: &mut Watch,
) {
    loop {
        let item = tokio::select! {
            item = watch.next() => item,
            () = closing.cancelled() => return,
        };
        let Some(server) = server.upgrade() else { return };
        let (mut next, mut taken, mut reached) = (Some(item), 0, None);
        let mut broken = false;
        while let Some(item) = next.take() {
            match item {
                Some(Ok(WatchItem::Event(event))) => {
                    index.apply(&server, &event);
                    reached = Some(event.revision);
                    taken += 1;
                }
                Some(Ok(WatchItem::Progress(revision))) => reached = Some(revision),
                Some(Err(_)) | None => broken = true,
            }
            if taken < BATCH && !broken {
                next = watch.next().now_or_never();
            }
        }
        if taken > 0 {
            index.publish(&server);
        }
        if let Some(reached) = reached {
            of(&server).reached(reached);
        }
        if broken {
            return;
        }
    }
}
