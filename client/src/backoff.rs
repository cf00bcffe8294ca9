//! Exponential back-off between named bounds, with jitter.
//!
//! Pure: the random share comes in as an argument.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

/// Doubles from `first` up to `limit`; `reset` starts over.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Backoff {
            first,
            limit,
            failures: 0,
        }
    }

    /// The next wait: the exponential step, lengthened by up to half of it. `random` is in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let step = exponential(self.first, self.limit, self.failures);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(1.0 + random.clamp(0.0, 1.0) / 2.0)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// `first * 2^failures`, at most `limit`.
pub fn exponential(first: Duration, limit: Duration, failures: u32) -> Duration {
    // 2^40 of anything we use is beyond every limit; the cap keeps the shift defined.
    first
        .checked_mul(1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX))
        .map_or(limit, |wait| wait.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(30));
        let waits: Vec<u128> = (0..5).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_micros(), 7500);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let limit = Duration::from_secs(1000);
        assert_eq!(exponential(Duration::from_millis(5), limit, u32::MAX), limit);
    }
}
