//! What a ReplicaSet reports about its Pods.
//!
//! Pure. Source: the ReplicaSet controller's `calculateStatus`.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Duration;

use corten_api::pod::is_ready;
use corten_api::selector::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::context::time;
use crate::pod::{available_at, is_available};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why Pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

/// `active`: Pods neither finished nor being deleted, before this sync's creates and deletes.
pub fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |wanted: &dyn Fn(&Pod) -> bool| active.iter().filter(|pod| wanted(pod)).count() as i32;
    let template_labels = template_labels(set);
    let min_ready = min_ready_seconds(set);
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: nonzero(count(&|pod| template_labels.matches(&pod.metadata.labels))),
        ready_replicas: nonzero(count(&is_ready)),
        available_replicas: nonzero(count(&|pod| is_available(pod, min_ready, now))),
        terminating_replicas: Some(terminating as i32),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

/// Equal but for the difference between absent and zero.
pub fn same(old: Option<&ReplicaSetStatus>, new: &ReplicaSetStatus) -> bool {
    let Some(mut old) = old.cloned() else { return false };
    for field in [
        &mut old.fully_labeled_replicas,
        &mut old.ready_replicas,
        &mut old.available_replicas,
    ] {
        *field = field.and_then(nonzero);
    }
    old.conditions = old.conditions.filter(|conditions| !conditions.is_empty());
    old == *new
}

/// How long until a ready Pod becomes available, if one is waiting for that.
pub fn next_change(set: &ReplicaSet, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let waiting = active
        .iter()
        .filter_map(|pod| available_at(pod, min_ready_seconds(set)));
    let next = waiting.filter(|at| *at > now).min()?;
    Duration::try_from(next.duration_since(now)).ok()
}

fn conditions(
    set: &ReplicaSet,
    failure: Option<Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = set
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        Some(_)
            if conditions
                .iter()
                .any(|condition| condition.type_ == REPLICA_FAILURE) => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message),
            last_transition_time: Some(time(now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn template_labels(set: &ReplicaSet) -> LabelSelector {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.clone());
    LabelSelector::from_map(&labels.unwrap_or_default())
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.min_ready_seconds)
        .unwrap_or(0)
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::super::rank::tests::{now, pod};
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;

    fn set(min_ready_seconds: i32) -> ReplicaSet {
        ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(3),
                min_ready_seconds: Some(min_ready_seconds),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The status reads `replicas/ready/available`, and after `;` the seconds until it changes by itself.
    #[track_caller]
    fn check(min_ready_seconds: i32, pods: &str, wanted: &str) {
        let set = set(min_ready_seconds);
        let pods: Vec<Arc<Pod>> = pods.split_whitespace().map(|text| Arc::new(pod(text))).collect();
        let status = status(&set, &pods, 0, None, now());
        let next = next_change(&set, &pods, now());
        let text = format!(
            "{}/{}/{} ; {}",
            status.replicas,
            status.ready_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
            next.map_or("-".into(), |wait| wait.as_secs().to_string()),
        );
        assert_eq!(text, wanted);
        assert!(same(Some(&status), &status), "a second sync writes nothing");
    }

    #[test]
    fn ready_pods_become_available_after_min_ready_seconds() {
        check(0, "a b!", "2/1/1 ; -");
        check(30, "a@10s b@29s c@1h", "3/3/1 ; 1");
        check(30, "a@30s b!", "2/1/1 ; -");
    }

    #[test]
    fn a_failure_stays_until_it_is_over() {
        let mut set = set(0);
        let failure = |reason| {
            Some(Failure {
                reason,
                message: "quota".into(),
            })
        };
        set.status = Some(status(&set, &[], 0, failure("FailedCreate"), now()));
        let later = now() + jiff::SignedDuration::from_secs(60);
        let kept = status(&set, &[], 0, failure("FailedCreate"), later);
        assert!(
            same(set.status.as_ref(), &kept),
            "the condition keeps its first time"
        );
        assert_eq!(status(&set, &[], 0, None, later).conditions, None);
    }
}
