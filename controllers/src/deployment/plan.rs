//! What one sync of a Deployment does: at most one stage, so that the next sync sees its effect first.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectExt;
use corten_client::object::controller_reference;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::hash::template_hash;
use super::revision::{self, REVISION};
use super::rolling::{self, Resize};
use super::sets::{POD_TEMPLATE_HASH, Sets, actual, is_paused, recreates, replicas, total};
use super::{scale, status};

/// One write.
#[derive(Debug, PartialEq)]
pub enum Step {
    Create(Box<ReplicaSet>),
    /// New annotations or `minReadySeconds`.
    Update(Box<ReplicaSet>),
    /// `set` already carries the new size; `from` is the old one.
    Scale {
        set: Box<ReplicaSet>,
        from: i32,
    },
    Delete(Arc<ReplicaSet>),
    SetRevision(String),
    Status(Box<DeploymentStatus>),
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Look again after this long even if nothing changes: the progress deadline.
    pub look_again: Option<Duration>,
}

/// `owned`: the Deployment's ReplicaSets. `still_running`: whether a set has Pods that are not finished, also
/// Pods that are being deleted.
pub fn plan(
    deployment: &Deployment,
    owned: &[Arc<ReplicaSet>],
    still_running: impl Fn(&ReplicaSet) -> bool,
    now: Timestamp,
) -> Plan {
    let sets = Sets::of(deployment, owned);
    if deployment.is_terminating() {
        return only_status(deployment, &sets, now);
    }
    if let Some(status) = status::pause_changed(deployment, now) {
        return Plan {
            steps: vec![Step::Status(Box::new(status))],
            look_again: None,
        };
    }
    if let Some(steps) = keep_revision(deployment, &sets, now) {
        return Plan {
            steps,
            look_again: None,
        };
    }
    if is_paused(deployment) || scale::is_due(deployment, &sets) {
        return resize(deployment, &sets, now);
    }
    let mut steps = if recreates(deployment) {
        recreate(deployment, &sets, still_running, now)
    } else {
        roll(deployment, &sets, now)
    };
    if steps.iter().any(|step| matches!(step, Step::Create(_))) {
        return Plan {
            steps,
            look_again: None,
        };
    }
    let status = status::rollout(deployment, &sets, now);
    if steps.is_empty() && status::is_complete(deployment, &status) {
        steps.extend(
            revision::surplus(deployment, &sets.old)
                .into_iter()
                .map(Step::Delete),
        );
    }
    let look_again = status::until_deadline(deployment, &status, now);
    if !status::same(deployment.status.as_ref(), &status) {
        steps.push(Step::Status(Box::new(status)));
    }
    Plan { steps, look_again }
}

fn only_status(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Plan {
    let status = status::counted(deployment, sets, now);
    let changed = !status::same(deployment.status.as_ref(), &status);
    Plan {
        steps: changed
            .then(|| Step::Status(Box::new(status)))
            .into_iter()
            .collect(),
        look_again: None,
    }
}

/// While paused or after a change of `spec.replicas`: sizes only, no rollout.
fn resize(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Plan {
    let mut plan = only_status(deployment, sets, now);
    let resizes = scale::scale(deployment, sets);
    if is_paused(deployment) && resizes.is_empty() {
        plan.steps.extend(
            revision::surplus(deployment, &sets.old)
                .into_iter()
                .map(Step::Delete),
        );
    }
    plan.steps
        .splice(0..0, resizes.into_iter().map(|resize| scaled(deployment, resize)));
    plan
}

fn roll(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Vec<Step> {
    if sets.new.is_none() {
        return create(deployment, sets, now);
    }
    let resizes = match rolling::grow_new(deployment, sets) {
        Some(resize) => vec![resize],
        None => rolling::shrink_old(deployment, sets),
    };
    resizes
        .into_iter()
        .map(|resize| scaled(deployment, resize))
        .collect()
}

fn recreate(
    deployment: &Deployment,
    sets: &Sets,
    still_running: impl Fn(&ReplicaSet) -> bool,
    now: Timestamp,
) -> Vec<Step> {
    let stops = rolling::stop_old(sets);
    if !stops.is_empty() {
        return stops
            .into_iter()
            .map(|resize| scaled(deployment, resize))
            .collect();
    }
    if total(&sets.old, actual) > 0 || sets.old.iter().any(|set| still_running(set)) {
        return Vec::new();
    }
    if sets.new.is_none() {
        return create(deployment, sets, now);
    }
    rolling::grow_new(deployment, sets)
        .map(|resize| scaled(deployment, resize))
        .into_iter()
        .collect()
}

/// The new ReplicaSet's annotations and the Deployment's own revision follow each other.
fn keep_revision(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Option<Vec<Step>> {
    let new = sets.new.as_ref()?;
    let next = revision::next_revision(&sets.old);
    let annotations = revision::annotations(deployment, new.metadata.annotations.as_ref(), next, true);
    let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let has_min_ready = new.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let mut steps = Vec::new();
    if Some(&annotations) != new.metadata.annotations.as_ref()
        || min_ready.unwrap_or(0) != has_min_ready.unwrap_or(0)
    {
        let mut set = ReplicaSet::clone(new);
        set.metadata.annotations = Some(annotations.clone());
        if let Some(spec) = &mut set.spec {
            spec.min_ready_seconds = min_ready;
        }
        steps.push(Step::Update(Box::new(set)));
    }
    steps.extend(set_revision(deployment, &annotations));
    if let Some(status) = status::found_new(deployment, new, now) {
        steps.push(Step::Status(Box::new(status)));
    }
    (!steps.is_empty()).then_some(steps)
}

fn set_revision(deployment: &Deployment, annotations: &BTreeMap<String, String>) -> Option<Step> {
    let revision = annotations.get(REVISION)?;
    (deployment.annotation(REVISION) != Some(revision)).then(|| Step::SetRevision(revision.clone()))
}

fn create(deployment: &Deployment, sets: &Sets, now: Timestamp) -> Vec<Step> {
    let Some(spec) = &deployment.spec else {
        return Vec::new();
    };
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata
        .labels
        .get_or_insert_default()
        .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = metadata.labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let next = revision::next_revision(&sets.old);
    let annotations = revision::annotations(deployment, None, next, false);
    let size = rolling::new_size(deployment, total(&sets.old, replicas), 0);
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations.clone()),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let status = status::created_new(deployment, sets, &set, now);
    let mut steps = vec![Step::Create(Box::new(set))];
    steps.extend(set_revision(deployment, &annotations));
    if !status::same(deployment.status.as_ref(), &status) {
        steps.push(Step::Status(Box::new(status)));
    }
    steps
}

fn scaled(deployment: &Deployment, (set, size): Resize) -> Step {
    let from = replicas(&set);
    let mut set = ReplicaSet::clone(&set);
    set.spec.get_or_insert_default().replicas = Some(size);
    revision::set_sizes(deployment, set.metadata.annotations.get_or_insert_default());
    Step::Scale {
        set: Box::new(set),
        from,
    }
}
