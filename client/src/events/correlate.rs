//! Which events are news, which repeat an earlier one, and which are too many.
//!
//! Pure: the time comes in with each event. The bounds are client-go's `EventCorrelator`: a token bucket per source
//! and object against spam, similar events combined after ten in ten minutes, equal events counted.

#![deny(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use super::EventType;

/// Entries each table keeps; the oldest goes first. Source: client-go `maxLruCacheEntries`.
pub const MAX_ENTRIES: usize = 4096;
/// Similar events until they are combined. Source: client-go `defaultAggregateMaxEvents`.
pub const COMBINE_AFTER: usize = 10;
/// Seconds within which similar events are combined. Source: client-go `defaultAggregateIntervalInSeconds`.
pub const COMBINE_WITHIN_SECONDS: i64 = 600;
/// Events one source may send about one object at once. Source: client-go `defaultSpamBurst`.
pub const SPAM_BURST: f64 = 25.0;
/// Events a second that come back after that: one in five minutes. Source: client-go `defaultSpamQPS`.
pub const SPAM_PER_SECOND: f64 = 1.0 / 300.0;
/// Put before the message of combined events. Source: client-go's aggregator.
const COMBINED_PREFIX: &str = "(combined from similar events): ";

/// What a component wants said.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    pub about: ObjectReference,
    pub kind: EventType,
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A new Event of this name.
    Create { name: String, message: String },
    /// The Event of this name happened once more.
    Count {
        name: String,
        message: String,
        count: i32,
        first: Timestamp,
    },
    /// Beyond the spam bound.
    Drop,
}

/// What makes two events similar: everything but the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Similar {
    about: String,
    kind: EventType,
    reason: String,
}

#[derive(Clone, Debug)]
struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

#[derive(Clone, Debug)]
struct Group {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone, Debug)]
struct Logged {
    name: String,
    count: i32,
    first: Timestamp,
}

#[derive(Default)]
pub struct Correlator {
    buckets: Bounded<String, Bucket>,
    groups: Bounded<Similar, Group>,
    logged: Bounded<(Similar, String), Logged>,
}

impl Correlator {
    pub fn judge(&mut self, event: &Occurrence) -> Verdict {
        let about = identity(&event.about);
        if !self.admit(&about, event.at) {
            return Verdict::Drop;
        }
        let similar = Similar {
            about,
            kind: event.kind,
            reason: event.reason.clone(),
        };
        let combined = self.combine(&similar, event);
        let message = if combined {
            format!("{COMBINED_PREFIX}{}", event.message)
        } else {
            event.message.clone()
        };
        // All combined events share one entry, whatever each one's message.
        let entry = (
            similar,
            if combined {
                String::new()
            } else {
                event.message.clone()
            },
        );
        if let Some(logged) = self.logged.get_mut(&entry) {
            logged.count = logged.count.saturating_add(1);
            return Verdict::Count {
                name: logged.name.clone(),
                message,
                count: logged.count,
                first: logged.first,
            };
        }
        let name = event_name(&event.about, event.at);
        self.logged.insert(
            entry,
            Logged {
                name: name.clone(),
                count: 1,
                first: event.at,
            },
        );
        Verdict::Create { name, message }
    }

    fn admit(&mut self, about: &str, at: Timestamp) -> bool {
        let full = || Bucket {
            tokens: SPAM_BURST,
            filled: at,
        };
        let bucket = self.buckets.get_or_insert_with(about.to_owned(), full);
        let seconds = (at.as_millisecond() - bucket.filled.as_millisecond()).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + seconds * SPAM_PER_SECOND).min(SPAM_BURST);
        bucket.filled = at;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn combine(&mut self, similar: &Similar, event: &Occurrence) -> bool {
        let empty = || Group {
            messages: HashSet::new(),
            last: event.at,
        };
        let group = self.groups.get_or_insert_with(similar.clone(), empty);
        if event.at.as_second() - group.last.as_second() > COMBINE_WITHIN_SECONDS {
            group.messages.clear();
        }
        group.last = event.at;
        if group.messages.len() < COMBINE_AFTER {
            group.messages.insert(event.message.clone());
        }
        group.messages.len() >= COMBINE_AFTER
    }
}

/// `name.hash` where the hash is the time in nanoseconds, as `kubectl get events` shows it everywhere.
fn event_name(about: &ObjectReference, at: Timestamp) -> String {
    format!(
        "{}.{:x}",
        about.name.as_deref().unwrap_or_default(),
        at.as_nanosecond()
    )
}

fn identity(about: &ObjectReference) -> String {
    let part = |field: &Option<String>| field.as_deref().unwrap_or_default().to_owned();
    [
        part(&about.kind),
        part(&about.namespace),
        part(&about.name),
        part(&about.uid),
        part(&about.api_version),
        part(&about.field_path),
    ]
    .join("\0")
}

/// A map of at most [`MAX_ENTRIES`]; the entry that came first goes first.
struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Bounded {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_ENTRIES {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.insert(key.clone(), value());
        }
        self.entries
            .get_mut(&key)
            .expect("inserted above, and the newest entry is never the one dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `(second, message)` pairs about one Pod; the verdicts read `new`, `xN` and `drop`, `~` when combined.
    #[track_caller]
    fn check(events: impl IntoIterator<Item = (i64, String)>, verdicts: &str) {
        let mut correlator = Correlator::default();
        let seen: Vec<String> = events
            .into_iter()
            .map(|(second, message)| {
                let verdict = correlator.judge(&Occurrence {
                    about: ObjectReference {
                        name: Some("web".into()),
                        ..Default::default()
                    },
                    kind: EventType::Normal,
                    reason: "Pulled".into(),
                    message,
                    at: Timestamp::from_second(second).expect("a time"),
                });
                let mark = |message: &str| {
                    if message.starts_with(COMBINED_PREFIX) {
                        "~"
                    } else {
                        ""
                    }
                };
                match verdict {
                    Verdict::Create { message, .. } => format!("{}new", mark(&message)),
                    Verdict::Count { message, count, .. } => format!("{}x{count}", mark(&message)),
                    Verdict::Drop => "drop".into(),
                }
            })
            .collect();
        assert_eq!(seen.join(" "), verdicts);
    }

    fn text(message: &str) -> String {
        message.into()
    }

    #[test]
    fn equal_events_are_counted() {
        check(
            [(1, text("a")), (2, text("b")), (3, text("a")), (9, text("a"))],
            "new new x2 x3",
        );
    }

    #[test]
    fn the_tenth_similar_event_starts_a_combined_one() {
        let many = (0..12).map(|at| (at, format!("message {at}")));
        check(many, "new new new new new new new new new ~new ~x2 ~x3");
    }

    #[test]
    fn similar_events_far_apart_are_not_combined() {
        let many = (0..12).map(|at| (at * (COMBINE_WITHIN_SECONDS + 1), format!("message {at}")));
        check(many, "new new new new new new new new new new new new");
    }

    #[test]
    fn a_burst_is_cut_off_and_one_comes_back_every_five_minutes() {
        let mut events: Vec<_> = (0..27).map(|_| (0, text("a"))).collect();
        events.push((300, text("a")));
        let mut wanted: Vec<String> = vec!["new".into()];
        wanted.extend((2..=25).map(|count| format!("x{count}")));
        wanted.extend(["drop".into(), "drop".into(), "x26".into()]);
        check(events, &wanted.join(" "));
    }

    #[test]
    fn names_are_the_object_and_the_time_in_hex() {
        let about = ObjectReference {
            name: Some("web-1".into()),
            ..Default::default()
        };
        assert_eq!(
            event_name(&about, Timestamp::from_second(1).expect("a time")),
            "web-1.3b9aca00"
        );
    }
}
