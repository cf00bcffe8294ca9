//! One watcher: a cursor, first over the history, then over its topic. Knows no locks but its topic's and the view's.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::Hub;
use super::topics::Topic;
use crate::error::WatchError;
use crate::model::{Event, Revision};
use crate::planted::{Bug, planted};

/// Events a watcher takes from its topic at once.
const TAKE: usize = 64;
/// Past events a watcher looks at before it lets others run.
const SCAN: usize = 1024;

/// What a watch yields.
#[derive(Clone, Debug)]
pub enum WatchItem {
    Event(Arc<Event>),
    /// On request (see [`Watch::progress_handle`]): every event of the range up to this revision was delivered.
    Progress(Revision),
}

/// A stream of events; ends after its first error.
pub struct Watch {
    hub: Arc<Hub>,
    topic: Arc<Topic>,
    slot: usize,
    /// Everything of the range up to here was taken into `buffer` or delivered.
    cursor: Revision,
    /// The last event delivered, or where the watch started.
    seen: Revision,
    buffer: VecDeque<Arc<Event>>,
    /// Once the watcher was up to date, its lag is bounded.
    caught_up: bool,
    wants_progress: Arc<AtomicBool>,
    ended: bool,
}

/// Asks a watch to tell how far it is, from another task.
#[derive(Clone)]
pub struct ProgressHandle {
    wants_progress: Arc<AtomicBool>,
    topic: Arc<Topic>,
    slot: usize,
}

impl ProgressHandle {
    /// The watch yields [`WatchItem::Progress`] as soon as it has delivered everything published until now.
    pub fn request(&self) {
        self.wants_progress.store(true, Ordering::Release);
        let waker = self.topic.state.lock().take_waker(self.slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

enum Refill {
    Filled,
    Progress(Revision),
    /// Nothing yet, but more to look at.
    Again,
    Wait,
    Failed(WatchError),
}

impl Watch {
    pub(super) fn new(hub: Arc<Hub>, (topic, slot): (Arc<Topic>, usize), from: Revision) -> Self {
        Watch {
            hub,
            topic,
            slot,
            cursor: from,
            seen: from,
            buffer: VecDeque::new(),
            caught_up: false,
            wants_progress: Arc::default(),
            ended: false,
        }
    }

    pub fn progress_handle(&self) -> ProgressHandle {
        ProgressHandle {
            wants_progress: self.wants_progress.clone(),
            topic: self.topic.clone(),
            slot: self.slot,
        }
    }

    fn refill(&mut self, waker: &Waker) -> Refill {
        let topic = self.topic.clone();
        let mut state = topic.state.lock();
        if self.cursor < state.since {
            let upto = state.since;
            drop(state);
            return self.scan(upto);
        }
        let first = state
            .recent
            .partition_point(|event| event.revision <= self.cursor);
        let pending = state.recent.len() - first;
        if pending == 0 {
            self.caught_up = true;
            // Under the topic's lock: all events up to `published` are in the topic, and none is left.
            self.cursor = self
                .cursor
                .max(Revision(self.hub.published.load(Ordering::Acquire)));
            if self.wants_progress.swap(false, Ordering::AcqRel) {
                return Refill::Progress(self.cursor);
            }
            if state.closed {
                return Refill::Failed(WatchError::Closed);
            }
            state.wait(self.slot, waker);
            return Refill::Wait;
        }
        if self.caught_up && pending > self.hub.max_lag && planted(Bug::LaggingWatcherSkips) {
            self.cursor = state.recent.back().map_or(self.cursor, |event| event.revision);
            return Refill::Again;
        }
        if planted(Bug::ProgressTooFar) && self.wants_progress.swap(false, Ordering::AcqRel) {
            return Refill::Progress(Revision(self.hub.published.load(Ordering::Acquire)));
        }
        if self.caught_up && pending > self.hub.max_lag {
            let newest = state.recent.back().map_or(self.seen, |event| event.revision);
            return Refill::Failed(WatchError::Lagged {
                seen: self.seen,
                newest,
            });
        }
        self.buffer
            .extend(state.recent.range(first..).take(TAKE).cloned());
        self.cursor = self.buffer.back().map_or(self.cursor, |event| event.revision);
        Refill::Filled
    }

    /// Looks at a piece of history up to the point from which the topic has everything.
    fn scan(&mut self, upto: Revision) -> Refill {
        let view = self.hub.view.read();
        let events = match view.after(self.cursor) {
            Ok(events) => events,
            Err(oldest) => return Refill::Failed(WatchError::Compacted { oldest }),
        };
        let mut last = self.cursor;
        for event in events.take_while(|event| event.revision <= upto).take(SCAN) {
            last = event.revision;
            if self.topic.wants(event, self.hub.tagger) {
                self.buffer.push_back(event.clone());
                if self.buffer.len() == TAKE {
                    break;
                }
            }
        }
        self.cursor = last;
        if self.buffer.is_empty() {
            Refill::Again
        } else {
            Refill::Filled
        }
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(event) = self.buffer.pop_front() {
                self.seen = event.revision;
                return Poll::Ready(Some(Ok(WatchItem::Event(event))));
            }
            match self.refill(cx.waker()) {
                Refill::Filled => (),
                Refill::Progress(revision) => return Poll::Ready(Some(Ok(WatchItem::Progress(revision)))),
                Refill::Wait => return Poll::Pending,
                Refill::Again => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Refill::Failed(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.topics.lock().leave(&self.topic, self.slot);
    }
}
