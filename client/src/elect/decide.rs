//! Whether a Lease may be taken, and what is written into it. Pure.
//!
//! Source: client-go `tools/leaderelection`; the fields of a Lease are its `LeaderElectionRecord`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// Source: component-base `LeaderElectionConfiguration`, `leaseDuration`.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that cannot renew for so long stops. Source: ibid., `renewDeadline`.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Source: ibid., `retryPeriod`.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// A Lease as this process saw it change last: clocks of other machines are never compared.
#[derive(Debug, Clone)]
pub struct Observed {
    pub spec: LeaseSpec,
    pub at: Instant,
}

/// What a candidate may do.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Nobody holds it, or who did is out of time or gone.
    Take,
    /// It is ours already.
    Ours,
    /// Somebody holds it until then, if it is not renewed.
    HeldUntil(Instant),
}

/// `gone`: the holder is known not to run any more.
#[must_use]
pub fn decide(observed: Option<&Observed>, me: &str, gone: bool, now: Instant) -> Verdict {
    let Some(observed) = observed else {
        return Verdict::Take;
    };
    match observed.spec.holder_identity.as_deref().unwrap_or_default() {
        "" => Verdict::Take,
        holder if holder == me => Verdict::Ours,
        _ if gone => Verdict::Take,
        _ => {
            let seconds = observed.spec.lease_duration_seconds.unwrap_or_default();
            let until = observed.at + Duration::from_secs(seconds.max(0).unsigned_abs().into());
            if until <= now {
                Verdict::Take
            } else {
                Verdict::HeldUntil(until)
            }
        }
    }
}

/// The Lease as its new or present holder writes it.
#[must_use]
pub fn held(old: Option<&Lease>, namespace: &str, name: &str, me: &str, now: Timestamp) -> Lease {
    let spec = old.and_then(|lease| lease.spec.as_ref());
    let same = spec.is_some_and(|spec| spec.holder_identity.as_deref() == Some(me));
    let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let acquired = spec.and_then(|spec| spec.acquire_time.clone()).filter(|_| same);
    Lease {
        metadata: old.map_or_else(
            || ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            |lease| lease.metadata.clone(),
        ),
        spec: Some(LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
            acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if same || spec.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..LeaseSpec::default()
        }),
    }
}

/// The Lease as a holder leaves it that ends in order. Source: client-go `release`.
#[must_use]
pub fn released(old: &Lease, now: Timestamp) -> Lease {
    let transitions = old.spec.as_ref().and_then(|spec| spec.lease_transitions);
    Lease {
        metadata: old.metadata.clone(),
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        held(None, "kube-system", "x", holder, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_out_of_time_or_its_holder_gone() {
        let start = Instant::now();
        let seen = |holder: &str| Observed {
            spec: lease(holder).spec.expect("made above"),
            at: start,
        };
        let until = start + LEASE_DURATION;
        assert_eq!(decide(None, "a", false, start), Verdict::Take);
        assert_eq!(decide(Some(&seen("")), "a", false, start), Verdict::Take);
        assert_eq!(decide(Some(&seen("a")), "a", false, start), Verdict::Ours);
        assert_eq!(
            decide(Some(&seen("b")), "a", false, start),
            Verdict::HeldUntil(until)
        );
        assert_eq!(decide(Some(&seen("b")), "a", true, start), Verdict::Take);
        assert_eq!(decide(Some(&seen("b")), "a", false, until), Verdict::Take);
    }

    #[test]
    fn transitions_count_changes_of_the_holder() {
        let count = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        let first = lease("a");
        assert_eq!(count(&first), Some(0));
        let renewed = held(Some(&first), "", "", "a", Timestamp::now());
        assert_eq!(count(&renewed), Some(0));
        assert_eq!(
            renewed.spec.as_ref().and_then(|spec| spec.acquire_time.clone()),
            first.spec.as_ref().and_then(|spec| spec.acquire_time.clone())
        );
        let taken = held(Some(&renewed), "", "", "b", Timestamp::now());
        assert_eq!(count(&taken), Some(1));
        let left = released(&taken, Timestamp::now());
        assert_eq!(count(&held(Some(&left), "", "", "a", Timestamp::now())), Some(2));
    }
}
