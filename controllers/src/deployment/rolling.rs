//! The rolling update: how far the new ReplicaSet may grow and the old ones must shrink.
//!
//! Pure. Each function returns the sizes that change.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::sets::{
    Sets, available, max_surge, max_unavailable, oldest_first, recreates, replicas, total, wanted,
};

/// A ReplicaSet and the size it should get.
pub type Resize = (Arc<ReplicaSet>, i32);

/// The size the new ReplicaSet should have now, given what it has.
pub fn new_size(deployment: &Deployment, all_replicas: i32, new_replicas: i32) -> i32 {
    let wanted = wanted(deployment);
    if recreates(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - all_replicas;
    if room <= 0 {
        new_replicas
    } else {
        new_replicas + room.min(wanted - new_replicas)
    }
}

/// Grows (or shrinks) the new ReplicaSet.
pub fn grow_new(deployment: &Deployment, sets: &Sets) -> Option<Resize> {
    let new = sets.new.as_ref()?;
    let size = replicas(new);
    let wanted = wanted(deployment);
    let next = if size > wanted {
        wanted
    } else {
        new_size(deployment, total(sets.all(), replicas), size)
    };
    (next != size).then(|| (new.clone(), next))
}

/// Shrinks old ReplicaSets: unhealthy Pods first, then as many healthy ones as may be missing.
pub fn shrink_old(deployment: &Deployment, sets: &Sets) -> Vec<Resize> {
    let Some(new) = &sets.new else { return Vec::new() };
    let min_available = wanted(deployment) - max_unavailable(deployment);
    // New Pods that are not available yet keep old ones in place.
    let budget = total(sets.all(), replicas) - min_available - (replicas(new) - available(new));
    let mut old: Vec<Arc<ReplicaSet>> = sets.active_old().cloned().collect();
    if old.is_empty() || budget <= 0 {
        return Vec::new();
    }
    old.sort_by(|a, b| oldest_first(a, b));
    let mut sizes: Vec<i32> = old.iter().map(|set| replicas(set)).collect();
    drop_unhealthy(&old, &mut sizes, budget);
    drop_healthy(&mut sizes, total(sets.all(), available) - min_available);
    let resized = old
        .into_iter()
        .zip(sizes)
        .filter(|(set, size)| replicas(set) != *size);
    resized.collect()
}

fn drop_unhealthy(old: &[Arc<ReplicaSet>], sizes: &mut [i32], mut budget: i32) {
    for (set, size) in old.iter().zip(sizes) {
        let unhealthy = (*size - available(set)).clamp(0, budget.max(0));
        *size -= unhealthy;
        budget -= unhealthy;
    }
}

fn drop_healthy(sizes: &mut [i32], mut budget: i32) {
    for size in sizes {
        let dropped = (*size).min(budget.max(0));
        *size -= dropped;
        budget -= dropped;
    }
}

/// Recreate: every old ReplicaSet goes to zero at once.
pub fn stop_old(sets: &Sets) -> Vec<Resize> {
    sets.active_old().map(|set| (set.clone(), 0)).collect()
}
