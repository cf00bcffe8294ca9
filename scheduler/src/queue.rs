//! Pods that wait for a node: ready to be tried, backing off, refused until something changes, gated, or in flight.
//!
//! One entry per unassigned Pod the cluster has, so it is bounded by them. Must not know nodes or plug-ins beyond the
//! events that lift a refusal. Times are durations since the scheduler started.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::events::{Events, PluginSet};
use crate::pod::{PodInfo, Uid};

/// Wait after the first failed attempt; doubles with each. Source: kube-scheduler `podInitialBackoffSeconds`.
pub const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Source: kube-scheduler `podMaxBackoffSeconds`.
pub const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A refused Pod is tried again after this even if no event spoke for it, should an event have been misjudged.
/// Source: kube-scheduler `podMaxInUnschedulablePodsDuration`.
pub const MAX_UNSCHEDULABLE: Duration = Duration::from_secs(300);

/// Highest priority first, then who waits longest.
type Rank = (Reverse<i32>, Duration, u64, Uid);

#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<Uid, Entry>,
    active: BTreeSet<Rank>,
    backing_off: BTreeSet<(Duration, Uid)>,
    unschedulable: BTreeSet<(Duration, Uid)>,
    /// The unschedulable Pods by who refused them, so that an event passes over those it cannot help.
    refused_by: BTreeMap<PluginSet, BTreeSet<Uid>>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    /// Failed attempts so far.
    attempts: u32,
    /// When the last attempt failed.
    failed_at: Duration,
    arrived_at: Duration,
    arrival: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    BackingOff {
        until: Duration,
    },
    Unschedulable {
        since: Duration,
        by: PluginSet,
    },
    /// `schedulingGates` are set.
    Gated,
    /// Taken by [`Queue::pop`] and not yet given back or removed.
    InFlight,
}

/// How many Pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: usize,
    pub backing_off: usize,
    pub unschedulable: usize,
    pub gated: usize,
    pub in_flight: usize,
}

impl Queue {
    /// An unassigned Pod was seen. A change that may help a refused Pod makes it ready again.
    pub fn set(&mut self, now: Duration, pod: PodInfo) {
        let uid = Uid::clone(&pod.uid);
        let pod = Arc::new(pod);
        let Some(entry) = self.entries.get_mut(&uid) else {
            self.arrivals += 1;
            let place = if pod.gated { Place::Gated } else { Place::Active };
            let entry = Entry {
                pod,
                place,
                attempts: 0,
                failed_at: now,
                arrived_at: now,
                arrival: self.arrivals,
            };
            self.entries.insert(Uid::clone(&uid), entry);
            self.enter(&uid, place);
            return;
        };
        let better = pod.asks_differently(&entry.pod) || pod.priority != entry.pod.priority;
        let place = entry.place;
        let next = match place {
            Place::InFlight => Place::InFlight,
            _ if pod.gated => Place::Gated,
            Place::Gated => Place::Active,
            Place::Unschedulable { .. } if better => entry.ready_place(now),
            other => other,
        };
        // Its rank is made of the old Pod, so it leaves before the new one is stored.
        self.leave(&uid);
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
        }
        self.enter(&uid, next);
    }

    /// The Pod is gone or has its node.
    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.entries.remove(uid);
    }

    /// The next Pod to try. It is in flight until one of `unschedulable`, `failed` or `remove`.
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.wake(now);
        let (_, _, _, uid) = self.active.first()?.clone();
        self.leave(&uid);
        self.enter(&uid, Place::InFlight);
        self.entries.get(&uid).map(|entry| Arc::clone(&entry.pod))
    }

    /// No node would have the Pod; it waits for an event that lifts the refusal.
    pub fn unschedulable(&mut self, now: Duration, uid: &str, by: PluginSet) {
        self.attempt_failed(now, uid, |_| Place::Unschedulable { since: now, by });
    }

    /// The attempt broke on something else than the nodes, so time alone may help.
    pub fn failed(&mut self, now: Duration, uid: &str) {
        self.attempt_failed(now, uid, |entry| Place::BackingOff {
            until: entry.backoff_end(),
        });
    }

    fn attempt_failed(&mut self, now: Duration, uid: &str, place: impl FnOnce(&Entry) -> Place) {
        let Some(entry) = self
            .entries
            .get_mut(uid)
            .filter(|entry| entry.place == Place::InFlight)
        else {
            return;
        };
        entry.attempts = entry.attempts.saturating_add(1);
        entry.failed_at = now;
        let place = if entry.pod.gated {
            Place::Gated
        } else {
            place(entry)
        };
        let uid = Uid::clone(&entry.pod.uid);
        self.enter(&uid, place);
    }

    /// Something happened in the cluster: Pods whose refusal it may lift become ready, after their back-off.
    pub fn on(&mut self, now: Duration, events: Events) {
        if events.is_empty() {
            return;
        }
        let helped: Vec<Uid> = self
            .refused_by
            .iter()
            .filter(|(by, _)| by.lifted_by().intersects(events))
            .flat_map(|(_, uids)| uids.iter().cloned())
            .collect();
        for uid in helped {
            self.make_ready(now, &uid);
        }
    }

    /// When time alone will make a Pod ready; `None` while nothing waits for time.
    pub fn deadline(&self) -> Option<Duration> {
        let backoff = self.backing_off.first().map(|(until, _)| *until);
        let unschedulable = self
            .unschedulable
            .first()
            .map(|(since, _)| *since + MAX_UNSCHEDULABLE);
        backoff.into_iter().chain(unschedulable).min()
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values() {
            match entry.place {
                Place::Active => counts.active += 1,
                Place::BackingOff { .. } => counts.backing_off += 1,
                Place::Unschedulable { .. } => counts.unschedulable += 1,
                Place::Gated => counts.gated += 1,
                Place::InFlight => counts.in_flight += 1,
            }
        }
        counts
    }

    fn wake(&mut self, now: Duration) {
        while let Some((until, uid)) = self
            .backing_off
            .first()
            .cloned()
            .filter(|(until, _)| *until <= now)
        {
            debug_assert!(until <= now);
            self.leave(&uid);
            self.enter(&uid, Place::Active);
        }
        while let Some((since, uid)) = self.unschedulable.first().cloned() {
            if since + MAX_UNSCHEDULABLE > now {
                break;
            }
            self.make_ready(now, &uid);
        }
    }

    fn make_ready(&mut self, now: Duration, uid: &Uid) {
        if let Some(entry) = self.entries.get(uid) {
            let place = entry.ready_place(now);
            self.leave(uid);
            self.enter(uid, place);
        }
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else {
            return;
        };
        let uid = &entry.pod.uid;
        match entry.place {
            Place::Active => drop(self.active.remove(&entry.rank())),
            Place::BackingOff { until } => drop(self.backing_off.remove(&(until, Uid::clone(uid)))),
            Place::Unschedulable { since, by } => {
                self.unschedulable.remove(&(since, Uid::clone(uid)));
                if let Some(uids) = self.refused_by.get_mut(&by) {
                    uids.remove(uid);
                    if uids.is_empty() {
                        self.refused_by.remove(&by);
                    }
                }
            }
            Place::Gated | Place::InFlight => {}
        }
    }

    fn enter(&mut self, uid: &Uid, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.place = place;
        match place {
            Place::Active => drop(self.active.insert(entry.rank())),
            Place::BackingOff { until } => drop(self.backing_off.insert((until, Uid::clone(uid)))),
            Place::Unschedulable { since, by } => {
                self.unschedulable.insert((since, Uid::clone(uid)));
                self.refused_by.entry(by).or_default().insert(Uid::clone(uid));
            }
            Place::Gated | Place::InFlight => {}
        }
    }
}

impl Entry {
    fn rank(&self) -> Rank {
        (
            Reverse(self.pod.priority),
            self.arrived_at,
            self.arrival,
            Uid::clone(&self.pod.uid),
        )
    }

    fn backoff_end(&self) -> Duration {
        let doublings = self.attempts.saturating_sub(1).min(31);
        self.failed_at + INITIAL_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF)
    }

    fn ready_place(&self, now: Duration) -> Place {
        let until = self.backoff_end();
        if self.attempts == 0 || until <= now {
            Place::Active
        } else {
            Place::BackingOff { until }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Plugin;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(name: &str, priority: i32, gated: bool) -> PodInfo {
        let gates = if gated {
            json!([{"name": "wait"}])
        } else {
            json!([])
        };
        let spec = json!({"containers": [], "priority": priority, "schedulingGates": gates});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec}))
            .expect("a Pod");
        PodInfo::new(Arc::new(pod))
    }

    fn refused_by(plugin: Plugin) -> PluginSet {
        let mut by = PluginSet::default();
        by.insert(plugin);
        by
    }

    /// Runs a script, one step a line: `time verb argument`; `pop` names what it must give.
    #[track_caller]
    fn check(script: &str) {
        let mut queue = Queue::default();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let now = Duration::from_millis(words[0].parse().expect("milliseconds"));
            match words[1..] {
                ["add", name] => queue.set(now, pod(name, 0, false)),
                ["add", name, priority] => {
                    queue.set(now, pod(name, priority.parse().expect("priority"), false))
                }
                ["gate", name] => queue.set(now, pod(name, 0, true)),
                ["pop", want] => {
                    let got = queue.pop(now).map_or("-".to_owned(), |pod| pod.name.clone());
                    assert_eq!(got, want, "{line}");
                }
                ["refused", name] => queue.unschedulable(now, name, refused_by(Plugin::NodeResourcesFit)),
                ["tainted", name] => queue.unschedulable(now, name, refused_by(Plugin::TaintToleration)),
                ["failed", name] => queue.failed(now, name),
                ["remove", name] => queue.remove(name),
                ["pod-removed"] => queue.on(now, Events::POD_REMOVED),
                ["deadline", want] => {
                    let got = queue
                        .deadline()
                        .map_or("-".to_owned(), |at| at.as_millis().to_string());
                    assert_eq!(got, want, "{line}");
                }
                _ => panic!("unknown step {line}"),
            }
        }
    }

    #[test]
    fn priority_goes_before_age() {
        check(
            "0 add old
             5 add young
             9 add urgent 10
             9 pop urgent
             9 pop old
             9 pop young
             9 pop -",
        );
    }

    #[test]
    fn back_off_doubles_up_to_ten_seconds() {
        check(
            "0 add a
             0 pop a
             0 failed a
             999 pop -
             1000 pop a
             1000 failed a
             1000 deadline 3000
             3000 pop a
             3000 failed a
             7000 pop a
             7000 failed a
             15000 pop a
             15000 failed a
             15000 deadline 25000",
        );
    }

    #[test]
    fn an_event_wakes_only_those_it_may_help() {
        check(
            "0 add full
             0 add tainted
             0 pop full
             0 refused full
             0 pop tainted
             0 tainted tainted
             500 pod-removed
             500 pop -
             1000 pop full
             1000 pop -
             299999 pop -
             300000 pop tainted",
        );
    }

    #[test]
    fn gates_hold_a_pod_back_until_they_are_gone() {
        check(
            "0 gate a
             0 pop -
             0 deadline -
             1 add a
             1 pop a",
        );
    }

    #[test]
    fn a_removed_pod_leaves_from_everywhere() {
        check(
            "0 add a
             0 add b
             0 remove a
             0 pop b
             0 remove b
             0 failed b
             0 deadline -
             9000 pop -
             9000 add c
             9000 pop c
             9000 refused c
             9000 remove c
             9000 pod-removed
             20000 pop -",
        );
    }

    #[test]
    fn a_change_of_the_pod_makes_it_ready_again() {
        check(
            "0 add a
             0 pop a
             0 refused a
             2000 add a
             2000 pop -
             2000 add a 7
             2000 pop a",
        );
    }
}
