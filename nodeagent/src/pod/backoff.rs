//! Back-off of one thing that keeps failing. Time is passed in.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// First pause before a crashed container or a failed pull is tried again.
/// Source: Pod lifecycle, "Container restarts": 10 s, doubling, at most 5 minutes.
pub const RESTART_FIRST: Duration = Duration::from_secs(10);
pub const RESTART_LIMIT: Duration = Duration::from_secs(300);

/// Two numbers: how long the pause is and when it was last made longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    pub delay: Duration,
    pub updated: Timestamp,
}

impl Backoff {
    /// The pause counts from `since` (when the container ended). `None`: free to go.
    pub fn until(entry: Option<Backoff>, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = entry.filter(|entry| !entry.expired(since))?;
        let until = since + entry.delay;
        (until > now).then_some(until)
    }

    /// The entry after one more try at `now` of what ended at `since`.
    pub fn next(entry: Option<Backoff>, since: Timestamp, now: Timestamp) -> Backoff {
        match entry.filter(|entry| !entry.expired(since)) {
            Some(entry) => Backoff {
                delay: (entry.delay * 2).min(RESTART_LIMIT),
                updated: now,
            },
            None => Backoff {
                delay: RESTART_FIRST,
                updated: now,
            },
        }
    }

    /// Ten minutes without trouble forget the past.
    fn expired(&self, since: Timestamp) -> bool {
        since.duration_since(self.updated).unsigned_abs() > RESTART_LIMIT * 2 && since > self.updated
    }
}

/// First and longest pause after failures of an action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    pub first: Duration,
    pub limit: Duration,
}

impl Pace {
    pub const fn new(first_milliseconds: u64, limit_milliseconds: u64) -> Pace {
        Pace {
            first: Duration::from_millis(first_milliseconds),
            limit: Duration::from_millis(limit_milliseconds),
        }
    }

    pub fn after(&self, previous: Option<Duration>) -> Duration {
        previous.map_or(self.first, |delay| (delay * 2).min(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    /// Runs a container that lives `alive` seconds each time; returns the pauses before each restart.
    #[track_caller]
    fn check(alive: &[i64], pauses: &[i64]) {
        let mut entry = None;
        let mut now = 1_000;
        let mut seen = Vec::new();
        for alive in alive {
            let ended = now + alive;
            let free = Backoff::until(entry, at(ended), at(ended)).map_or(ended, |until| until.as_second());
            seen.push(free - ended);
            entry = Some(Backoff::next(entry, at(ended), at(free)));
            now = free;
        }
        assert_eq!(seen, pauses);
    }

    #[test]
    fn doubles_from_ten_seconds_to_five_minutes() {
        check(&[1, 1, 1, 1, 1, 1, 1, 1], &[0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_reset_it() {
        check(&[1, 1, 1, 601, 1], &[0, 10, 20, 0, 10]);
    }
}
