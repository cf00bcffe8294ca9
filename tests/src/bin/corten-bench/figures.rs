//! Medians and percentiles, and one way to print them.

use std::time::Duration;

/// Durations of one repeated step.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn extend(&mut self, more: Samples) {
        self.0.extend(more.0);
    }

    /// The value below which `share` (0.0 to 1.0) of the samples lie; zero when there is none.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        // The product lies within the vector's length, so the cast loses nothing that matters.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = (last as f64 * share).round() as usize;
        sorted.get(rank).copied().unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// `name  p50 12.3 ms  p99 45.6 ms  (30 samples)`.
pub fn print(name: &str, samples: &Samples) {
    println!(
        "{name:<44} p50 {:>8.2} ms  p99 {:>8.2} ms  ({} samples)",
        milliseconds(samples.percentile(0.5)),
        milliseconds(samples.percentile(0.99)),
        samples.len()
    );
}

/// A quotient with what is wanted of it.
pub fn ratio(name: &str, value: f64, wanted: &str) {
    println!("{name:<44} {value:>8.2}  (wanted: {wanted})");
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
