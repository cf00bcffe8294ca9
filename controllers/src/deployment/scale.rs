//! `spec.replicas` changed: who gets more, who gives.
//!
//! Pure. In the middle of a rollout every ReplicaSet gets its share (proportional scaling), so that the
//! availability promised by surge and unavailable holds at any size.

#![deny(clippy::disallowed_methods)]

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::revision::{desired_annotation, max_annotation};
use super::rolling::Resize;
use super::sets::{Sets, available, created, max_surge, recreates, replicas, total, wanted};

/// Some active ReplicaSet was last scaled for another `spec.replicas`.
pub fn is_due(deployment: &Deployment, sets: &Sets) -> bool {
    let differs =
        |set: &Arc<ReplicaSet>| desired_annotation(set).is_some_and(|desired| desired != wanted(deployment));
    sets.active().any(differs)
}

/// The sizes all ReplicaSets concerned should get. A set may keep its size and only be marked as scaled.
pub fn scale(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let wanted = wanted(deployment);
    if let Some(only) = active_or_latest(sets) {
        let due = replicas(only) != wanted || desired_annotation(only) != Some(wanted);
        return if due {
            vec![(only.clone(), wanted)]
        } else {
            Vec::new()
        };
    }
    if sets.new.as_ref().is_some_and(|new| is_saturated(deployment, new)) {
        return sets.active_old().map(|old| (old.clone(), 0)).collect();
    }
    if recreates(deployment) {
        Vec::new()
    } else {
        proportional(deployment, sets)
    }
}

/// The only ReplicaSet with Pods; with none, the new one, else the newest. `None` if several have Pods.
fn active_or_latest(sets: &Sets) -> Option<&Arc<ReplicaSet>> {
    let mut active = sets.active();
    match (active.next(), active.next()) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
        (None, _) => sets.new.as_ref().or(sets.old.last()),
    }
}

/// The new ReplicaSet has all it should have, so old ones only waste.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    replicas(new) == wanted && desired_annotation(new) == Some(wanted) && available(new) == wanted
}

/// Divides the difference by size; what rounding leaves goes to the largest. Every active set is listed, also
/// where only its annotations change.
fn proportional(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let wanted = wanted(deployment);
    let allowed = if wanted > 0 {
        wanted + max_surge(deployment)
    } else {
        0
    };
    let to_add = allowed - total(sets.active(), replicas);
    let mut active: Vec<Arc<ReplicaSet>> = sets.active().cloned().collect();
    if to_add > 0 {
        active.sort_by_key(|set| (Reverse(replicas(set)), Reverse(created(set))));
    } else {
        active.sort_by_key(|set| (Reverse(replicas(set)), created(set)));
    }
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for set in &active {
        let share = if to_add == 0 || to_add == added {
            0
        } else if to_add > 0 {
            fraction(deployment, set).min(to_add - added)
        } else {
            fraction(deployment, set).max(to_add - added)
        };
        added += share;
        sizes.push(replicas(set) + share);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    active.into_iter().zip(sizes).collect()
}

/// What the set would gain (or lose) if it kept its share of the Deployment.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let wanted = wanted(deployment);
    let size = replicas(set);
    if wanted == 0 {
        return -size;
    }
    let reported = || {
        deployment
            .status
            .as_ref()
            .and_then(|status| status.replicas)
            .unwrap_or(0)
    };
    let before = max_annotation(set)
        .filter(|before| *before != 0)
        .unwrap_or_else(reported);
    if before == 0 {
        return 0;
    }
    let after = f64::from(size) * f64::from(wanted + max_surge(deployment)) / f64::from(before);
    after.round() as i32 - size
}
