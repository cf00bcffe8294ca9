//! The work queue's rules: each key waits at most once, is worked on by one worker at a time, and comes back later
//! when asked to.
//!
//! Pure: the time comes in with each call. Knows keys; must not know what is done with them.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::backoff::exponential;

/// First and longest wait of a failing key. Source: client-go `DefaultTypedControllerRateLimiter`.
pub const RETRY_FIRST: Duration = Duration::from_millis(5);
pub const RETRY_LIMIT: Duration = Duration::from_secs(1000);

/// Keys waiting, delayed and in work. Memory is bounded by the number of distinct keys.
#[derive(Debug)]
pub struct Queue<K> {
    /// In order of arrival; every key here is in `dirty`.
    ready: VecDeque<K>,
    /// Keys that must be worked on (again).
    dirty: HashSet<K>,
    /// Keys a worker holds. A key added meanwhile waits in `dirty` until `done`.
    processing: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    retry_first: Duration,
    retry_limit: Duration,
}

impl<K: Clone + Eq + Hash + Ord> Default for Queue<K> {
    fn default() -> Self {
        Queue::new(RETRY_FIRST, RETRY_LIMIT)
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub fn new(retry_first: Duration, retry_limit: Duration) -> Self {
        Queue {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            retry_first,
            retry_limit,
        }
    }

    /// Wants `key` worked on as soon as possible.
    pub fn add(&mut self, key: K) {
        if !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Wants `key` worked on at `at`; of several such wishes the earliest counts.
    pub fn add_at(&mut self, key: K, at: Instant) {
        if let Some(earlier) = self.due.get(&key).copied() {
            if earlier <= at {
                return;
            }
            self.delayed.remove(&(earlier, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    /// The next key to work on. Whoever takes it must call [`done`](Self::done).
    pub fn take(&mut self, now: Instant) -> Option<K> {
        self.promote(now);
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }

    /// When [`take`](Self::take) may next find something that waits for its time.
    pub fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// The worker is finished with `key`; what was added meanwhile is ready now.
    pub fn done(&mut self, key: &K) {
        self.processing.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// Brings `key` back after its back-off: 5 ms, doubled with each failure up to 1000 s.
    pub fn retry(&mut self, key: K, now: Instant) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let wait = exponential(self.retry_first, self.retry_limit, *failures);
        *failures = failures.saturating_add(1);
        self.add_at(key, now + wait);
        wait
    }

    /// Forgets the failures of `key`.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    pub fn failures(&self, key: &K) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }

    /// Keys ready to be worked on.
    pub fn depth(&self) -> usize {
        self.ready.len()
    }

    /// Keys waiting for their time.
    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    fn promote(&mut self, now: Instant) {
        while let Some((at, key)) = self.delayed.first().cloned() {
            if at > now {
                return;
            }
            self.delayed.pop_first();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // only a starting point; the steps add to it
mod tests {
    use super::*;

    /// Steps: `+a` add, `+a@20` add at 20 ms, `t=20` set the clock, `?` take, `/a` done, `!a` retry.
    /// `taken` lists the answers to `?`, `-` for none.
    #[track_caller]
    fn check(steps: &str, taken: &str) {
        let start = Instant::now();
        let mut now = start;
        let mut queue = Queue::default();
        let mut answers = Vec::new();
        for step in steps.split_whitespace() {
            let (verb, rest) = step.split_at(1);
            match (verb, rest.split_once('@')) {
                ("+", None) => queue.add(rest.to_owned()),
                ("+", Some((key, at))) => {
                    let at = Duration::from_millis(at.parse().expect("milliseconds"));
                    queue.add_at(key.to_owned(), start + at);
                }
                ("t", _) => now = start + Duration::from_millis(rest[1..].parse().expect("milliseconds")),
                ("?", _) => answers.push(queue.take(now).unwrap_or_else(|| "-".into())),
                ("/", _) => queue.done(&rest.to_owned()),
                ("!", _) => drop(queue.retry(rest.to_owned(), now)),
                _ => panic!("unknown step {step}"),
            }
        }
        assert_eq!(answers.join(" "), taken);
    }

    #[test]
    fn a_key_waits_once_and_keeps_its_place() {
        check("+a +b +a ? ? ?", "a b -");
    }

    #[test]
    fn a_key_in_work_is_not_given_out_twice() {
        check("+a ? +a +b ? ? /a ?", "a b - a");
        check("+a ? /a ?", "a -");
    }

    #[test]
    fn delayed_keys_come_at_their_time_earliest_wish_first() {
        check("+a@20 ? t=19 ? t=20 ? ?", "- - a -");
        check("+a@20 +a@10 t=10 ? /a t=20 ?", "a -");
        check("+a@10 +a@20 t=10 ? /a t=20 ?", "a -");
        check("+b@10 +a@10 t=30 ? ?", "a b");
    }

    #[test]
    fn failures_double_the_wait() {
        check("+a ? !a /a t=4 ? t=5 ? !a /a t=14 ? t=15 ?", "a - a - a");
    }

    #[test]
    fn a_fresh_add_does_not_wait_for_the_backoff() {
        check("+a ? !a /a +a ?", "a a");
    }
}
