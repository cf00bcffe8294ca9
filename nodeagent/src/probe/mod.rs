//! Probes: when one is due and what a row of results means. Pure; [`prober`] is what dials.

pub mod prober;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }

    pub fn spec(self, container: &Container) -> Option<&Probe> {
        match self {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What one probe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    Failure(String),
    /// The probe itself could not be carried out. Counts as no answer.
    Error(String),
}

/// The standing of one probe of one running container.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeState {
    /// What counts now: readiness begins as not ready, liveness as alive, startup as not started.
    pub passed: bool,
    last: Option<bool>,
    streak: i32,
    /// When the next one is due; `None` once it has had the last word (the container will be killed).
    pub next: Option<Timestamp>,
}

impl ProbeState {
    pub fn new(kind: ProbeKind, probe: &Probe, started: Timestamp, now: Timestamp) -> ProbeState {
        let delay = Duration::from_secs(probe.initial_delay_seconds.unwrap_or(0).max(0) as u64);
        ProbeState {
            passed: kind == ProbeKind::Liveness,
            last: None,
            streak: 0,
            next: Some((started + delay).max(now)),
        }
    }

    /// Takes in a result. `begun`: when this probe was sent. Returns whether `passed` was decided anew (also to the same).
    pub fn finish(
        &mut self,
        kind: ProbeKind,
        probe: &Probe,
        result: &ProbeResult,
        begun: Timestamp,
        now: Timestamp,
    ) -> bool {
        let period = Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1) as u64);
        self.next = Some((begun + period).max(now));
        let good = match result {
            ProbeResult::Success => true,
            ProbeResult::Failure(_) => false,
            ProbeResult::Error(_) => return false,
        };
        self.streak = if self.last == Some(good) {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.last = Some(good);
        let threshold = if good {
            probe.success_threshold
        } else {
            probe.failure_threshold
        };
        if self.streak < threshold.unwrap_or(if good { 1 } else { 3 }) {
            return false;
        }
        self.passed = good;
        if !good && kind != ProbeKind::Readiness {
            self.next = None;
        }
        if good && kind == ProbeKind::Startup {
            self.next = None;
        }
        true
    }

    /// The startup or liveness probe has failed for good.
    pub fn condemned(&self, kind: ProbeKind) -> bool {
        kind != ProbeKind::Readiness && self.next.is_none() && !self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    /// `results`: `+` success, `-` failure, `e` error. Wanted: `passed` after each as `1`/`0`, `!` for condemned.
    #[track_caller]
    fn check(kind: ProbeKind, success: i32, failure: i32, results: &str, wanted: &str) {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            period_seconds: Some(5),
            initial_delay_seconds: Some(2),
            ..Probe::default()
        };
        let mut state = ProbeState::new(kind, &probe, at(100), at(100));
        assert_eq!(state.next, Some(at(102)));
        let mut seen = String::new();
        for letter in results.chars() {
            let begun = state.next.expect("not over yet");
            let result = match letter {
                '+' => ProbeResult::Success,
                '-' => ProbeResult::Failure("no".into()),
                _ => ProbeResult::Error("no".into()),
            };
            state.finish(kind, &probe, &result, begun, begun);
            seen.push(if state.condemned(kind) {
                '!'
            } else if state.passed {
                '1'
            } else {
                '0'
            });
        }
        assert_eq!(seen, wanted);
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        check(ProbeKind::Readiness, 1, 3, "+--+---+", "11111101");
        check(ProbeKind::Readiness, 2, 1, "+-++", "0001");
        check(ProbeKind::Liveness, 1, 2, "-e+--", "1111!");
        check(ProbeKind::Startup, 1, 3, "--+", "001");
        check(ProbeKind::Startup, 1, 2, "--", "0!");
    }
}
