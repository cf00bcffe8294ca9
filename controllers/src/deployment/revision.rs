//! Revision numbers and history, kept in annotations of ReplicaSets: what `kubectl rollout history` reads.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::ObjectExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::sets::{actual, max_surge, replicas, wanted};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];
/// Length of the revision history annotation. Source: the Deployment controller's `maxRevHistoryLengthInChars`.
const MAX_HISTORY_CHARS: usize = 2000;
/// Old ReplicaSets kept unless `spec.revisionHistoryLimit` is set; this value of the field means all.
const UNLIMITED: i32 = i32::MAX;

/// 0 when the set has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// One more than any old set has.
pub fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1
}

/// The annotations the new ReplicaSet should have. `created` is false when the set is only now being made.
pub fn annotations(
    deployment: &Deployment,
    current: Option<&BTreeMap<String, String>>,
    next: i64,
    created: bool,
) -> BTreeMap<String, String> {
    let mut annotations = current.cloned().unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = annotations.get(REVISION).cloned();
    let before_number = before.as_deref().and_then(|text| text.parse::<i64>().ok());
    if before_number.is_none_or(|before| before < next) {
        annotations.insert(REVISION.to_owned(), next.to_string());
        if let Some(before) = before {
            let history = annotations.remove(REVISION_HISTORY);
            annotations.insert(REVISION_HISTORY.to_owned(), extend_history(history, &before));
        }
    }
    if !created {
        set_sizes(deployment, &mut annotations);
    }
    annotations
}

fn extend_history(history: Option<String>, revision: &str) -> String {
    let Some(history) = history.filter(|history| !history.is_empty()) else {
        return revision.to_owned();
    };
    let mut entries: Vec<&str> = history.split(',').collect();
    entries.push(revision);
    while entries.len() > 1
        && entries.iter().map(|entry| entry.len() + 1).sum::<usize>() > MAX_HISTORY_CHARS + 1
    {
        entries.remove(0);
    }
    entries.join(",")
}

/// How large the Deployment was when this set was last scaled: the base of proportional scaling.
pub fn set_sizes(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    let wanted = wanted(deployment);
    annotations.insert(DESIRED_REPLICAS.to_owned(), wanted.to_string());
    annotations.insert(
        MAX_REPLICAS.to_owned(),
        (wanted + max_surge(deployment)).to_string(),
    );
}

pub fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    set.annotation(DESIRED_REPLICAS)?.parse().ok()
}

pub fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    set.annotation(MAX_REPLICAS)?.parse().ok()
}

/// Old ReplicaSets beyond `spec.revisionHistoryLimit`, oldest revision first. Sets that have, want or may still be
/// getting Pods stay.
pub fn surplus(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    let limit = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.revision_history_limit);
    let Some(limit) = limit.filter(|limit| *limit != UNLIMITED) else {
        return Vec::new();
    };
    let mut sets: Vec<_> = old.iter().filter(|set| !set.is_terminating()).cloned().collect();
    sets.sort_by_key(|set| revision(set));
    sets.truncate(sets.len().saturating_sub(usize::try_from(limit).unwrap_or(0)));
    sets.retain(|set| {
        let observed = set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            .unwrap_or(0);
        actual(set) == 0 && replicas(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
    });
    sets
}
