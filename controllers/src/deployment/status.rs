//! What a Deployment reports: counts, availability, progress and its deadline.
//!
//! Pure. Source of reasons and messages: the Deployment controller, Kubernetes 1.36.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use corten_client::ObjectExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::sets::{
    Sets, actual, available, is_paused, max_unavailable, ready, replicas, terminating, total, wanted,
};
use crate::context::time;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const NEW_REPLICA_SET_CREATED: &str = "NewReplicaSetCreated";
const FOUND_NEW_REPLICA_SET: &str = "FoundNewReplicaSet";
const REPLICA_SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
const REPLICA_SET_UPDATED: &str = "ReplicaSetUpdated";
const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
const DEPLOYMENT_PAUSED: &str = "DeploymentPaused";
const DEPLOYMENT_RESUMED: &str = "DeploymentResumed";
const MINIMUM_REPLICAS_AVAILABLE: &str = "MinimumReplicasAvailable";
const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";

/// Added to the deadline before looking again, so that a timer a little early does not cost a second look.
const DEADLINE_MARGIN: SignedDuration = SignedDuration::from_secs(1);

/// Counts and the `Available` condition; progress stays as it was.
pub fn counted(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let available_replicas = total(sets.all(), available);
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(total(sets.all(), actual)),
        updated_replicas: nonzero(total(&sets.new, actual)),
        ready_replicas: nonzero(total(sets.all(), ready)),
        available_replicas: nonzero(available_replicas),
        unavailable_replicas: nonzero((total(sets.all(), replicas) - available_replicas).max(0)),
        terminating_replicas: Some(total(sets.all(), terminating)),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let condition = if available_replicas >= wanted(deployment) - max_unavailable(deployment) {
        new(
            AVAILABLE,
            "True",
            MINIMUM_REPLICAS_AVAILABLE,
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.".into();
        new(AVAILABLE, "False", MINIMUM_REPLICAS_UNAVAILABLE, message, now)
    };
    set(&mut status, condition);
    status
}

/// [`counted`], and how the rollout progresses.
pub fn rollout(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let mut status = counted(deployment, sets, now);
    let current = find(deployment.status.as_ref(), PROGRESSING).cloned();
    if !has_deadline(deployment) {
        remove(&mut status, PROGRESSING);
    }
    let settled = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|condition| reason(condition) == NEW_REPLICA_SET_AVAILABLE);
    if has_deadline(deployment) && !settled {
        let subject = match &sets.new {
            Some(new) => format!("ReplicaSet {:?}", new.name()),
            None => format!("Deployment {:?}", deployment.name()),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set(
                &mut status,
                new(PROGRESSING, "True", NEW_REPLICA_SET_AVAILABLE, message, now),
            );
        } else if has_progressed(deployment, &status) {
            let message = format!("{subject} is progressing.");
            let mut condition = new(PROGRESSING, "True", REPLICA_SET_UPDATED, message, now);
            // Each step forward renews the deadline, so this replaces even an equal condition.
            if let Some(current) = current.filter(|current| current.status == "True") {
                condition.last_transition_time = current.last_transition_time;
            }
            remove(&mut status, PROGRESSING);
            set(&mut status, condition);
        } else if has_timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(
                &mut status,
                new(PROGRESSING, "False", PROGRESS_DEADLINE_EXCEEDED, message, now),
            );
        }
    }
    match replica_failure(sets) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

/// The new ReplicaSet is about to be created.
pub fn created_new(
    deployment: &Deployment,
    sets: &Sets,
    created: &ReplicaSet,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counted(deployment, sets, now);
    if has_deadline(deployment) {
        let message = format!("Created new replica set {:?}", created.name());
        set(
            &mut status,
            new(PROGRESSING, "True", NEW_REPLICA_SET_CREATED, message, now),
        );
    }
    status
}

/// An existing ReplicaSet turned out to be the new one and nothing was said about progress yet.
pub fn found_new(deployment: &Deployment, found: &ReplicaSet, now: Timestamp) -> Option<DeploymentStatus> {
    if !has_deadline(deployment) || find(deployment.status.as_ref(), PROGRESSING).is_some() {
        return None;
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    let message = format!("Found new replica set {:?}", found.name());
    set(
        &mut status,
        new(PROGRESSING, "True", FOUND_NEW_REPLICA_SET, message, now),
    );
    Some(status)
}

pub fn create_failed(deployment: &Deployment, message: &str, now: Timestamp) -> Option<DeploymentStatus> {
    if !has_deadline(deployment) {
        return None;
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    set(
        &mut status,
        new(
            PROGRESSING,
            "False",
            REPLICA_SET_CREATE_ERROR,
            message.to_owned(),
            now,
        ),
    );
    (!same(deployment.status.as_ref(), &status)).then_some(status)
}

/// Another ReplicaSet has the name the template's hash gives: the next hash must differ.
pub fn collided(deployment: &Deployment) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    status
}

/// The deadline rests while the Deployment is paused.
pub fn pause_changed(deployment: &Deployment, now: Timestamp) -> Option<DeploymentStatus> {
    let current = find(deployment.status.as_ref(), PROGRESSING);
    if !has_deadline(deployment) || current.is_some_and(|now| reason(now) == PROGRESS_DEADLINE_EXCEEDED) {
        return None;
    }
    let was_paused = current.is_some_and(|condition| reason(condition) == DEPLOYMENT_PAUSED);
    let condition = match (is_paused(deployment), was_paused) {
        (true, false) => new(
            PROGRESSING,
            "Unknown",
            DEPLOYMENT_PAUSED,
            "Deployment is paused".into(),
            now,
        ),
        (false, true) => new(
            PROGRESSING,
            "Unknown",
            DEPLOYMENT_RESUMED,
            "Deployment is resumed".into(),
            now,
        ),
        _ => return None,
    };
    let mut status = deployment.status.clone().unwrap_or_default();
    set(&mut status, condition);
    Some(status)
}

/// All Pods are new and available, and nothing old is left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = wanted(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// How long until the progress deadline must be looked at, if one is running.
pub fn until_deadline(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let current = find(Some(status), PROGRESSING)?;
    if is_complete(deployment, status) || is_over(current) {
        return None;
    }
    let wait = deadline(deployment, current)? + DEADLINE_MARGIN;
    // A deadline already past was looked at just now; it needs the margin to show as past.
    let wait = wait.duration_since(now).max(DEADLINE_MARGIN);
    Duration::try_from(wait).ok()
}

/// Equal but for the difference between absent and zero.
pub fn same(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let plain = |status: &DeploymentStatus| {
        let mut status = status.clone();
        for field in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
            &mut status.terminating_replicas,
        ] {
            *field = field.and_then(nonzero);
        }
        status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
        status
    };
    old.is_some_and(|old| plain(old) == plain(new))
}

/// Absent means no deadline, and so does the largest number. Source: `HasProgressDeadline`.
fn has_deadline(deployment: &Deployment) -> bool {
    deadline_seconds(deployment).is_some()
}

fn deadline_seconds(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds;
    seconds.filter(|seconds| *seconds != i32::MAX)
}

fn deadline(deployment: &Deployment, condition: &DeploymentCondition) -> Option<Timestamp> {
    let allowed = SignedDuration::from_secs(i64::from(deadline_seconds(deployment)?));
    condition.last_update_time.as_ref()?.0.checked_add(allowed).ok()
}

fn is_over(condition: &DeploymentCondition) -> bool {
    matches!(
        reason(condition),
        NEW_REPLICA_SET_AVAILABLE | PROGRESS_DEADLINE_EXCEEDED
    )
}

fn has_progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = deployment.status.clone().unwrap_or_default();
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(&old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(condition) = find(Some(status), PROGRESSING) else {
        return false;
    };
    match reason(condition) {
        NEW_REPLICA_SET_AVAILABLE => false,
        PROGRESS_DEADLINE_EXCEEDED => true,
        _ => deadline(deployment, condition).is_some_and(|deadline| deadline < now),
    }
}

/// The new ReplicaSet's failure, else any other's.
fn replica_failure(sets: &Sets) -> Option<DeploymentCondition> {
    let failure = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|condition| condition.type_ == REPLICA_FAILURE)
            .cloned()
    };
    let found = sets.new.iter().chain(&sets.old).find_map(|set| failure(set))?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.to_owned(),
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

fn new(type_: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

fn reason(condition: &DeploymentCondition) -> &str {
    condition.reason.as_deref().unwrap_or_default()
}

fn find<'a>(status: Option<&'a DeploymentStatus>, type_: &str) -> Option<&'a DeploymentCondition> {
    status?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// A condition with the same status and reason stays as it is; one with the same status keeps its transition time.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = find(Some(status), &condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
