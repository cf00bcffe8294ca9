//! Who watches what: one topic for each distinct range and tag, found from a key and its tags. Knows no streams.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::model::{Entry, Event, Revision, Tagger, in_range};
use crate::planted::{Bug, planted};

/// All watchers of one range, or of the entries in it with one tag.
pub(super) struct Topic {
    pub range: Range<Bytes>,
    pub tag: Option<Bytes>,
    pub state: Mutex<TopicState>,
}

#[derive(Default)]
pub(super) struct TopicState {
    /// Every event of the range after `since`, oldest first.
    pub recent: VecDeque<Arc<Event>>,
    pub since: Revision,
    pub closed: bool,
    /// One for each watcher: its waker while it waits.
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl TopicState {
    pub fn join(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        })
    }

    pub fn leave(&mut self, slot: usize) {
        self.wakers[slot] = None;
        self.free.push(slot);
    }

    pub fn watchers(&self) -> usize {
        self.wakers.len() - self.free.len()
    }

    pub fn wait(&mut self, slot: usize, waker: &Waker) {
        match &mut self.wakers[slot] {
            Some(held) if held.will_wake(waker) => (),
            held => *held = Some(waker.clone()),
        }
    }

    pub fn take_waker(&mut self, slot: usize) -> Option<Waker> {
        self.wakers.get_mut(slot).and_then(Option::take)
    }

    fn trim(&mut self, floor: Revision) {
        while let Some(event) = self.recent.front()
            && event.revision <= floor
        {
            if !planted(Bug::EventLostAtCompaction) {
                self.since = event.revision;
            }
            self.recent.pop_front();
        }
    }
}

/// The tags of an entry before and after an event.
pub(super) type Tags = [Option<Bytes>; 2];

/// Both sides of an event as `tagger` sees them.
pub(super) fn tags_of(event: &Event, tagger: Option<Tagger>) -> Tags {
    let Some(tagger) = tagger else {
        return Tags::default();
    };
    let tag = |entry: Option<&Arc<Entry>>| entry.and_then(|entry| tagger(&entry.key, &entry.value));
    if planted(Bug::TagLooksAtNewSideOnly) {
        return [None, tag(event.entry())];
    }
    [tag(event.prev()), tag(event.entry())]
}

impl Topic {
    /// Whether an event belongs here.
    pub fn wants(&self, event: &Event, tagger: Option<Tagger>) -> bool {
        in_range(&self.range, &event.key)
            && self
                .tag
                .as_ref()
                .is_none_or(|tag| tags_of(event, tagger).iter().flatten().any(|side| side == tag))
    }

    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = self
            .state
            .lock()
            .wakers
            .iter_mut()
            .filter_map(Option::take)
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Single-key ranges and tags are found by lookup; the others by a walk over ranges sorted by start, cut short by the
/// largest end seen so far.
#[derive(Default)]
pub(super) struct Topics {
    tagger: Option<Tagger>,
    single: BTreeMap<Bytes, Arc<Topic>>,
    /// The topics of each tag: few, for a tag is watched in one range or two.
    tagged: HashMap<Bytes, Vec<Arc<Topic>>>,
    ranges: Vec<Ranged>,
    closed: bool,
}

struct Ranged {
    topic: Arc<Topic>,
    /// The largest end among this and all ranges before; empty is no bound.
    reach: Bytes,
}

impl Topics {
    pub fn new(tagger: Option<Tagger>) -> Self {
        Topics {
            tagger,
            ..Topics::default()
        }
    }

    /// The topic of `range`, or of the entries in it with a tag, and a place in it; new if there is none. It holds events
    /// after `since`. None when closed.
    pub fn join(
        &mut self,
        range: &Range<Bytes>,
        tag: Option<Bytes>,
        since: Revision,
    ) -> Option<(Arc<Topic>, usize)> {
        if self.closed {
            return None;
        }
        let topic = match self.find(range, tag.as_ref()) {
            Some(topic) => topic,
            None => self.insert(range.clone(), tag, since),
        };
        let slot = topic.state.lock().join();
        Some((topic, slot))
    }

    /// Gives a place back; the last one takes the topic with it.
    pub fn leave(&mut self, topic: &Arc<Topic>, slot: usize) {
        let empty = {
            let mut state = topic.state.lock();
            state.leave(slot);
            state.watchers() == 0
        };
        if !empty {
            return;
        }
        if let Some(tag) = &topic.tag {
            if let Some(topics) = self.tagged.get_mut(tag) {
                topics.retain(|held| !Arc::ptr_eq(held, topic));
                if topics.is_empty() {
                    self.tagged.remove(tag);
                }
            }
        } else if is_single(&topic.range) {
            self.single.remove(&topic.range.start);
        } else if let Ok(at) = self.position(&topic.range) {
            self.ranges.remove(at);
            self.refresh_reach(at);
        }
    }

    /// Hands each event to the topics that want it, and returns those.
    pub fn push(&mut self, events: &[Arc<Event>]) -> Vec<Arc<Topic>> {
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        // A batch may touch a topic for each node, so they are told apart by lookup.
        let mut seen = HashSet::new();
        for event in events {
            let mut take = |topic: &Arc<Topic>| {
                topic.state.lock().recent.push_back(event.clone());
                if seen.insert(Arc::as_ptr(topic)) {
                    touched.push(topic.clone());
                }
            };
            self.visit(&event.key, &mut take);
            if !self.tagged.is_empty() {
                self.visit_tagged(event, take);
            }
        }
        touched
    }

    /// Nothing is known about the events before `since`; returns all topics.
    pub fn restart(&mut self, since: Revision) -> Vec<Arc<Topic>> {
        for topic in self.all() {
            let mut state = topic.state.lock();
            state.recent.clear();
            state.since = since;
        }
        self.all().cloned().collect()
    }

    pub fn trim(&mut self, floor: Revision) {
        for topic in self.all() {
            topic.state.lock().trim(floor);
        }
    }

    pub fn watchers(&self) -> usize {
        self.all().map(|topic| topic.state.lock().watchers()).sum()
    }

    pub fn close(&mut self) -> Vec<Arc<Topic>> {
        self.closed = true;
        for topic in self.all() {
            topic.state.lock().closed = true;
        }
        self.all().cloned().collect()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.single
            .values()
            .chain(self.ranges.iter().map(|ranged| &ranged.topic))
            .chain(self.tagged.values().flatten())
    }

    fn visit_tagged(&self, event: &Event, mut found: impl FnMut(&Arc<Topic>)) {
        let [before, after] = tags_of(event, self.tagger);
        let before = before.filter(|before| after.as_ref() != Some(before));
        for tag in [before, after].into_iter().flatten() {
            let topics = self.tagged.get(&tag).into_iter().flatten();
            topics
                .filter(|topic| in_range(&topic.range, &event.key))
                .for_each(&mut found);
        }
    }

    fn visit(&self, key: &Bytes, mut found: impl FnMut(&Arc<Topic>)) {
        if let Some(topic) = self.single.get(key) {
            found(topic);
        }
        let after = self
            .ranges
            .partition_point(|ranged| ranged.topic.range.start <= *key);
        for ranged in self.ranges[..after].iter().rev() {
            if !ranged.reach.is_empty() && ranged.reach <= *key {
                break;
            }
            if in_range(&ranged.topic.range, key) {
                found(&ranged.topic);
            }
        }
    }

    fn find(&self, range: &Range<Bytes>, tag: Option<&Bytes>) -> Option<Arc<Topic>> {
        if let Some(tag) = tag {
            let topics = self.tagged.get(tag)?;
            return topics.iter().find(|topic| topic.range == *range).cloned();
        }
        if is_single(range) {
            return self.single.get(&range.start).cloned();
        }
        self.position(range).ok().map(|at| self.ranges[at].topic.clone())
    }

    fn insert(&mut self, range: Range<Bytes>, tag: Option<Bytes>, since: Revision) -> Arc<Topic> {
        let state = Mutex::new(TopicState {
            since,
            ..TopicState::default()
        });
        let topic = Arc::new(Topic { range, tag, state });
        if let Some(tag) = &topic.tag {
            self.tagged.entry(tag.clone()).or_default().push(topic.clone());
        } else if is_single(&topic.range) {
            self.single.insert(topic.range.start.clone(), topic.clone());
        } else if let Err(at) = self.position(&topic.range) {
            self.ranges.insert(
                at,
                Ranged {
                    topic: topic.clone(),
                    reach: Bytes::new(),
                },
            );
            self.refresh_reach(at);
        }
        topic
    }

    fn position(&self, range: &Range<Bytes>) -> Result<usize, usize> {
        let wanted = (&range.start, &range.end);
        self.ranges
            .binary_search_by(|ranged| (&ranged.topic.range.start, &ranged.topic.range.end).cmp(&wanted))
    }

    fn refresh_reach(&mut self, from: usize) {
        for at in from..self.ranges.len() {
            let own = self.ranges[at].topic.range.end.clone();
            let before = at.checked_sub(1).map(|before| self.ranges[before].reach.clone());
            self.ranges[at].reach = match before {
                Some(reach) if own.is_empty() || reach.is_empty() => Bytes::new(),
                Some(reach) => reach.max(own),
                None => own,
            };
        }
    }
}

fn is_single(range: &Range<Bytes>) -> bool {
    range.end.len() == range.start.len() + 1
        && range.end.ends_with(&[0])
        && range.end.starts_with(&range.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{key_range, prefix_range};

    #[track_caller]
    fn check(topics: &Topics, ranges: &[Range<Bytes>], key: &'static str) {
        let key = Bytes::from_static(key.as_bytes());
        let mut found = Vec::new();
        topics.visit(&key, |topic| found.push(topic.range.clone()));
        found.sort_by(|a, b| (&a.start, &a.end).cmp(&(&b.start, &b.end)));
        let mut expected: Vec<_> = ranges
            .iter()
            .filter(|range| in_range(range, &key))
            .cloned()
            .collect();
        expected.sort_by(|a, b| (&a.start, &a.end).cmp(&(&b.start, &b.end)));
        assert_eq!(found, expected, "{key:?}");
    }

    #[test]
    fn a_key_finds_exactly_the_ranges_that_hold_it() {
        let of = |start: &'static str, end: &'static str| Bytes::from(start)..Bytes::from(end);
        let ranges = [
            prefix_range(b""),
            prefix_range(b"/a/"),
            prefix_range(b"/a/x/"),
            prefix_range(b"/b/"),
            of("/a/m", "/c"),
            of("/b", ""),
            key_range(b"/a/x/1"),
            key_range(b"/zz"),
        ];
        let keys = [
            "", "/", "/a", "/a/", "/a/b", "/a/x/1", "/a/x/2", "/b/", "/b/1", "/bz", "/c", "/zz", "/zzz",
        ];
        let mut topics = Topics::default();
        let mut places: Vec<_> = ranges
            .iter()
            .map(|range| topics.join(range, None, Revision(1)).expect("open"))
            .collect();
        for key in keys {
            check(&topics, &ranges, key);
        }
        while let Some((topic, slot)) = places.pop() {
            topics.leave(&topic, slot);
            for key in keys {
                check(&topics, &ranges[..places.len()], key);
            }
        }
        assert_eq!(topics.watchers(), 0);
    }

    #[test]
    fn the_same_range_shares_a_topic() {
        let mut topics = Topics::default();
        let (a, first) = topics
            .join(&prefix_range(b"/a/"), None, Revision(1))
            .expect("open");
        let (b, second) = topics
            .join(&prefix_range(b"/a/"), None, Revision(5))
            .expect("open");
        assert!(Arc::ptr_eq(&a, &b) && first != second);
        topics.leave(&a, first);
        assert_eq!(topics.watchers(), 1);
    }
}
