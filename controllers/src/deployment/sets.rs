//! What a Deployment reads from its ReplicaSets, and from its own spec.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use corten_api::intstr::scaled;
use corten_client::ObjectExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

/// On every ReplicaSet of a Deployment and on its Pods: which template they come from.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// `spec.strategy.rollingUpdate` unless set. Source: apps/v1 defaults.
const DEFAULT_SHARE: &str = "25%";

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Pods the ReplicaSet has, as it last reported.
pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub fn ready(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

pub fn terminating(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.terminating_replicas)
        .unwrap_or(0)
}

pub fn total<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>, of: fn(&ReplicaSet) -> i32) -> i32 {
    sets.into_iter().map(|set| of(set)).sum()
}

/// Zero time when never stored, so such a set counts as the oldest.
pub fn created(set: &ReplicaSet) -> Timestamp {
    set.metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MIN, |time| time.0)
}

/// Oldest first; names decide between sets of the same second.
pub fn oldest_first(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    created(a).cmp(&created(b)).then_with(|| a.name().cmp(b.name()))
}

/// The Deployment's own ReplicaSets, told apart by template.
pub struct Sets {
    /// Has the Deployment's template; the oldest, should there be several.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub fn of(deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> Self {
        let mut old = owned.to_vec();
        old.sort_by(|a, b| oldest_first(a, b));
        let at = old.iter().position(|set| same_template(set, deployment));
        Sets {
            new: at.map(|at| old.remove(at)),
            old,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> + Clone {
        self.old.iter().chain(&self.new)
    }

    /// Sets that are meant to have Pods.
    pub fn active(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> + Clone {
        self.all().filter(|set| replicas(set) > 0)
    }

    pub fn active_old(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> + Clone {
        self.old.iter().filter(|set| replicas(set) > 0)
    }
}

/// Whether the ReplicaSet's Pods are what the Deployment wants, the hash label aside.
pub fn same_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let Some(theirs) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
        return false;
    };
    let Some(ours) = deployment.spec.as_ref().map(|spec| &spec.template) else {
        return false;
    };
    let (theirs, ours) = (without_hash(theirs), without_hash(ours));
    // Most templates are equal or differ plainly; only a difference is worth the look at empty against absent.
    theirs == ours || canonical(&theirs) == canonical(&ours)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        if let Some(labels) = &mut metadata.labels {
            labels.remove(POD_TEMPLATE_HASH);
        }
        metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
        metadata.annotations = metadata
            .annotations
            .take()
            .filter(|annotations| !annotations.is_empty());
        metadata.creation_timestamp = None;
    }
    template.metadata = template
        .metadata
        .filter(|metadata| *metadata != Default::default());
    template
}

/// JSON without empty lists, objects and nulls, keys in order: equal for templates that mean the same.
pub fn canonical(template: &PodTemplateSpec) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(prune);
                // `emptyDir: {}` and the like mean something although they are empty; `null` and `[]` do not.
                fields.retain(|_, value| {
                    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
                });
            }
            Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(template).expect("a typed object is always JSON");
    prune(&mut value);
    value
}

/// `spec.replicas`, default 1.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

pub fn is_paused(deployment: &Deployment) -> bool {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.paused)
        .unwrap_or(false)
}

pub fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Pods beyond `spec.replicas` a rollout may have; percentages round up.
pub fn max_surge(deployment: &Deployment) -> i32 {
    if recreates(deployment) {
        0
    } else {
        fenceposts(deployment).0
    }
}

/// Pods below `spec.replicas` a rollout may have; percentages round down, and both zero means one.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let wanted = wanted(deployment);
    if recreates(deployment) || wanted == 0 {
        0
    } else {
        fenceposts(deployment).1.min(wanted)
    }
}

fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let default = IntOrString::String(DEFAULT_SHARE.to_owned());
    let surge = rolling
        .and_then(|rolling| rolling.max_surge.as_ref())
        .unwrap_or(&default);
    let unavailable = rolling
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .unwrap_or(&default);
    let wanted = wanted(deployment);
    let surge = scaled(surge, wanted, true).unwrap_or(0);
    let unavailable = scaled(unavailable, wanted, false).unwrap_or(0);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}
