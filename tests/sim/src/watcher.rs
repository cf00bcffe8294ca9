//! Watchers: each follows a range, or what has a tag in it, moves between members, and resumes where it was. Every event is
//! compared with what was committed, and the cache built from them with the state at the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use corten_store::{
    Event, EventKind, Revision, Snapshot, Store, StoreError, Watch, WatchError, WatchItem, key_range,
    prefix_range,
};
use futures::Stream;

use crate::front::{self, Read};
use crate::model::{Change, Kept, Model};
use crate::random::Random;

/// The tag of a value: its first letter.
pub fn tagger(_key: &[u8], value: &[u8]) -> Option<Bytes> {
    value.first().map(|tag| Bytes::copy_from_slice(&[*tag]))
}

/// Events that one look takes, at most: a slow reader takes few.
const TAKE: u64 = 200;

enum State {
    Off,
    /// Waits until its member has come to where it resumes.
    Resuming(Pin<Box<dyn Future<Output = Result<(), StoreError>>>>),
    /// Reads the newest state to begin with.
    Listing(Pin<Box<dyn Future<Output = Read>>>),
    Live(Box<Watch>),
}

pub struct Watcher {
    number: usize,
    /// Whom it watches, by place.
    pub member: usize,
    range: Range<Bytes>,
    tag: Option<Bytes>,
    state: State,
    store: Option<Store>,
    /// Everything up to here was seen; `None`: begins with a list.
    told: Option<u64>,
    cache: BTreeMap<Bytes, Kept>,
    pub events: u64,
    pub lists: u64,
    pub resumes: u64,
}

impl Watcher {
    pub fn new(number: usize, random: &mut Random) -> Self {
        let range = match random.below(4) {
            0 => prefix_range(b"/"),
            1 => prefix_range(b"/m/"),
            2 => prefix_range(b"/r/"),
            _ => key_range(format!("/r/{}", random.below(4)).as_bytes()),
        };
        let tag = random
            .chance(0.3)
            .then(|| Bytes::from(vec![b'a' + random.below(3) as u8]));
        Watcher {
            number,
            member: 0,
            range,
            tag,
            state: State::Off,
            store: None,
            told: None,
            cache: BTreeMap::new(),
            events: 0,
            lists: 0,
            resumes: 0,
        }
    }

    pub fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// The connection breaks.
    pub fn disconnect(&mut self) {
        self.state = State::Off;
        self.store = None;
    }

    /// Starts, or resumes, at a member.
    pub fn connect(&mut self, member: usize, store: Store) {
        self.member = member;
        self.store = Some(store.clone());
        self.state = match self.told {
            Some(told) => {
                self.resumes += 1;
                let wait = async move { store.wait_applied(Revision(told)).await };
                State::Resuming(Box::pin(wait))
            }
            None => State::Listing(Box::pin(front::newest(store))),
        };
    }

    /// Takes what is there.
    pub fn look(&mut self, model: &Model, random: &mut Random) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = if random.chance(0.2) { 2 } else { TAKE };
        let mut idle = 0;
        while left > 0 && idle < 2 {
            left -= 1;
            match &mut self.state {
                State::Off => return,
                State::Resuming(wait) => match wait.as_mut().poll(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) => self.follow(),
                    Poll::Ready(Err(_)) => self.disconnect(),
                },
                State::Listing(list) => match list.as_mut().poll(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok((_, snapshot))) => self.listed(&snapshot, model),
                    Poll::Ready(Err(_)) => self.disconnect(),
                },
                State::Live(watch) => {
                    if random.chance(0.02) {
                        watch.progress_handle().request();
                    }
                    match Pin::new(watch.as_mut()).poll_next(&mut cx) {
                        // A look at the past lets others run in between.
                        Poll::Pending => idle += 1,
                        Poll::Ready(Some(Ok(item))) => self.item(item, model),
                        Poll::Ready(Some(Err(error))) => self.ended(error, random),
                        Poll::Ready(None) => panic!("W4: watcher {} ended without a word", self.number),
                    }
                }
            }
        }
    }

    fn follow(&mut self) {
        let (Some(store), Some(told)) = (&self.store, self.told) else {
            return;
        };
        let watch = store.watch_tagged(self.range.clone(), self.tag.clone(), Revision(told));
        match watch {
            Ok(watch) => self.state = State::Live(Box::new(watch)),
            Err(WatchError::Compacted { oldest }) => {
                assert!(
                    oldest.0 > told,
                    "W5: {told} is refused, but {oldest} is the oldest"
                );
                self.relist();
            }
            Err(WatchError::Future { newest }) => {
                panic!("W9: {told} is in the future of a member that had come to it: {newest}")
            }
            Err(_) => self.disconnect(),
        }
    }

    fn relist(&mut self) {
        self.told = None;
        if let Some(store) = self.store.clone() {
            self.state = State::Listing(Box::pin(front::newest(store)));
        }
    }

    fn listed(&mut self, snapshot: &Snapshot, model: &Model) {
        model.check_state(snapshot, true, "a list before a watch");
        self.lists += 1;
        self.told = Some(snapshot.revision().0);
        let entries = snapshot.range(self.range.clone()).map(|entry| {
            let kept = Kept {
                value: entry.value.clone(),
                create: entry.create_revision.0,
                modified: entry.mod_revision.0,
            };
            (entry.key.clone(), kept)
        });
        let entries: Vec<_> = entries.filter(|(key, kept)| self.selects(key, kept)).collect();
        self.cache = entries.into_iter().collect();
        self.follow();
    }

    fn selects(&self, key: &[u8], kept: &Kept) -> bool {
        self.tag.is_none() || tagger(key, &kept.value) == self.tag
    }

    /// Whether a change belongs to what is watched, before or after.
    fn wants(&self, change: &Change) -> bool {
        let inside = change.key >= self.range.start && change.key < self.range.end;
        let side = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| self.selects(&change.key, kept));
        inside && (side(&change.new) || side(&change.prev))
    }

    /// No change between what was seen and `upto` belongs here.
    fn nothing_until(&self, told: u64, upto: u64, model: &Model) {
        for revision in told + 1..upto {
            let change = model.change_at(revision).expect("it was committed");
            assert!(
                !self.wants(change),
                "W4: watcher {} never saw the event of {:?} at revision {revision}, and is at {upto}",
                self.number,
                change.key
            );
        }
    }

    fn item(&mut self, item: WatchItem, model: &Model) {
        let told = self.told.unwrap_or_default();
        match item {
            WatchItem::Progress(revision) => {
                assert!(
                    revision.0 >= told && revision.0 <= model.revision(),
                    "W6: progress to {revision} after {told}"
                );
                self.nothing_until(told, revision.0 + 1, model);
                self.told = Some(revision.0);
            }
            WatchItem::Event(event) => {
                assert!(
                    event.revision.0 > told,
                    "W1: an event at {} after {told}",
                    event.revision
                );
                self.nothing_until(told, event.revision.0, model);
                self.event(&event, model);
                self.told = Some(event.revision.0);
                self.events += 1;
            }
        }
    }

    fn event(&mut self, event: &Event, model: &Model) {
        let revision = event.revision.0;
        let change = model
            .change_at(revision)
            .unwrap_or_else(|| panic!("A6: an event at {revision}, which was never committed"));
        assert!(
            self.wants(change),
            "W7: an event at {revision} that was not asked for"
        );
        let kept = |entry: &std::sync::Arc<corten_store::Entry>| Kept {
            value: entry.value.clone(),
            create: entry.create_revision.0,
            modified: entry.mod_revision.0,
        };
        let same = match &event.kind {
            EventKind::Put { entry, prev } => {
                change.new == Some(kept(entry)) && change.prev == prev.as_ref().map(kept)
            }
            EventKind::Delete { prev } => change.new.is_none() && change.prev == Some(kept(prev)),
        };
        assert!(
            same && event.key == change.key,
            "W8: the event at {revision} is {event:?}"
        );
        match change.new.as_ref().filter(|kept| self.selects(&event.key, kept)) {
            Some(kept) => self.cache.insert(event.key.clone(), kept.clone()),
            None => self.cache.remove(&event.key),
        };
    }

    fn ended(&mut self, error: WatchError, random: &mut Random) {
        let told = self.told.unwrap_or_default();
        match error {
            WatchError::Compacted { oldest } => {
                assert!(oldest.0 > told, "W10: ended for {oldest}, but had seen {told}");
                self.relist();
            }
            WatchError::Lagged { seen, .. } => {
                assert!(seen.0 <= told, "W11: lags since {seen}, but had seen {told}");
                if random.chance(0.5) {
                    self.follow();
                } else {
                    self.relist();
                }
            }
            WatchError::Closed => self.disconnect(),
            WatchError::Future { newest } => panic!("W9: a watch ended in the future of {newest}"),
        }
    }

    /// Whether nothing is left to see.
    pub fn is_current(&self, model: &Model) -> bool {
        let (State::Live(_), Some(told)) = (&self.state, self.told) else {
            return false;
        };
        (told + 1..=model.revision())
            .all(|revision| !model.change_at(revision).is_some_and(|change| self.wants(change)))
    }

    /// At the end, when everything was seen: the cache is the state.
    pub fn check_cache(&self, model: &Model) {
        let state: BTreeMap<&Bytes, &Kept> = model
            .range(&self.range)
            .filter(|(key, kept)| self.selects(key, kept))
            .collect();
        assert!(
            self.cache.iter().eq(state),
            "W4: the cache of watcher {} is not the state",
            self.number
        );
    }
}
