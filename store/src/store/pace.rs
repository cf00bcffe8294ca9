//! How much one step of the store takes at once. Everything that waits would make the fewest fsyncs, but then all clients
//! wait for the same batch, and while one member works on it the other members, and the clients, have nothing to do. So a
//! batch is no larger than makes its fsync cheap. Pure.

use std::time::Duration;

use super::queue::MAX_BATCH_BYTES;

/// Bytes of a batch whose fsync takes no time: some 80 writes of 1 KiB.
const LEAST: usize = 96 << 10;
/// Bytes of a batch for each second that its fsync takes, four times what a store serves in one: a fifth of the time of a
/// busy store goes into fsyncs.
const PER_SECOND: f64 = (256 << 20) as f64;
/// The weight of the newest fsync among the last ones.
const NEWEST: f64 = 0.1;

/// What writes to the log have taken of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds: f64,
}

impl Pace {
    /// A write to the log took so long.
    pub fn note(&mut self, took: Duration) {
        self.seconds += (took.as_secs_f64() - self.seconds) * NEWEST;
    }

    /// Bytes that the next batch may have; at most [`MAX_BATCH_BYTES`].
    pub fn bytes(&self) -> usize {
        // The cast saturates.
        ((self.seconds * PER_SECOND) as usize).clamp(LEAST, MAX_BATCH_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_disks_get_large_batches() {
        let after = |milliseconds: f64| {
            let mut pace = Pace::default();
            for _ in 0..100 {
                pace.note(Duration::from_secs_f64(milliseconds / 1e3));
            }
            pace.bytes()
        };
        assert_eq!(Pace::default().bytes(), LEAST);
        assert_eq!(after(0.1), LEAST);
        assert!((1_200_000..1_400_000).contains(&after(5.0)));
        assert_eq!(after(10_000.0), MAX_BATCH_BYTES);
    }
}
