//! ReplicaSet: keeps as many Pods of one template running as `spec.replicas` says.
//!
//! [`plan`] decides how many to create and which to delete, [`rank`] in what order Pods go, [`status`] what the
//! ReplicaSet reports; this file fetches and applies. Source of the rules: the ReplicaSet controller, Kubernetes 1.36.

mod plan;
mod rank;
mod status;

use std::sync::Arc;

use corten_api::pod::{is_active, is_terminal};
use corten_api::selector::LabelSelector;
use corten_client::cache::index;
use corten_client::object::controller_reference;
use corten_client::{
    ApiClient, ApiError, Cache, Change, Controller, DeleteOptions, EventRecorder, EventType, ObjectExt,
    ObjectKey, Requeue, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::apply;
use crate::batch;
use crate::claim::{self, claim_all};
use crate::context::{Context, Doing, SyncError};

use plan::{Plan, plan};
use status::{Failure, status};

/// Source: kube-controller-manager `--concurrent-replicaset-syncs`.
const WORKERS: usize = 5;
const KIND: &str = "ReplicaSet";

const SUCCESSFUL_CREATE: &str = "SuccessfulCreate";
const FAILED_CREATE: &str = "FailedCreate";
const SUCCESSFUL_DELETE: &str = "SuccessfulDelete";
const FAILED_DELETE: &str = "FailedDelete";

#[derive(Clone)]
struct Ctx {
    api: ApiClient,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        sets: context
            .cache::<ReplicaSet>()
            .with_index(index::CONTROLLER, index::controller),
        pods: context
            .cache::<Pod>()
            .with_index(index::CONTROLLER, index::controller)
            .with_index(claim::ORPHANS, claim::orphans),
        recorder: context.recorder("replicaset-controller"),
    });
    let sets = ctx.sets.clone();
    Controller::new("replicaset")
        .workers(WORKERS)
        .watch(&ctx.sets, apply::own_key)
        .watch(&ctx.pods, move |change| interested(&sets, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

/// The ReplicaSets a Pod's change concerns: its owner, its former owner, or whoever selects an orphan.
fn interested(sets: &Cache<ReplicaSet>, change: &Change<Pod>) -> Vec<ObjectKey> {
    claim::concerned(change, KIND, |pod| {
        let mut selecting = sets.list_namespace(pod.namespace());
        selecting.retain(|set| selects(set, pod));
        selecting.iter().map(|set| set.key()).collect()
    })
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    selector(set).is_ok_and(|selector| selector.matches(&pod.metadata.labels))
}

fn selector(set: &ReplicaSet) -> Result<LabelSelector, SyncError> {
    let spec = set
        .spec
        .as_ref()
        .ok_or_else(|| SyncError::Invalid(format!("{} has no spec", set.key())))?;
    LabelSelector::from_api(&spec.selector).map_err(SyncError::Invalid)
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(set) = ctx.sets.get(key) else {
        return Ok(None);
    };
    let owned = claim_all(&ctx.api, &ctx.pods, &*set, &selector(&set)?, writes).await?;
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).cloned().collect();
    let terminating = owned
        .iter()
        .filter(|pod| pod.is_terminating() && !is_terminal(pod))
        .count();
    let now = Timestamp::now();
    let plan = if set.is_terminating() {
        Plan::default()
    } else {
        plan(&set, &active, || siblings(ctx, &set), now)
    };
    let failure = apply(ctx, &set, &plan, writes).await;
    let reported = failure.as_ref().map(|error| Failure {
        reason: if plan.delete.is_empty() {
            FAILED_CREATE
        } else {
            FAILED_DELETE
        },
        message: said(error),
    });
    let wanted = status(&set, &active, terminating, reported, now);
    if !status::same(set.status.as_ref(), &wanted) {
        let mut next = ReplicaSet::clone(&set);
        next.status = Some(wanted);
        let written = ctx
            .api
            .replace_status(&next)
            .await
            .doing(|| format!("report the status of {key}"))?;
        writes.wrote(&ctx.sets, written.revision);
    }
    match failure {
        Some(source) => Err(SyncError::Api {
            doing: format!("scale {key}"),
            source,
        }),
        None => Ok(status::next_change(&set, &active, now)),
    }
}

/// The active Pods of all ReplicaSets of the same owner: a node with many of them loses one first.
fn siblings(ctx: &Ctx, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let related = match set.controller() {
        Some(owner) => ctx.sets.by_index(index::CONTROLLER, &owner.uid),
        None => ctx.sets.get(&set.key()).into_iter().collect(),
    };
    let pods = related
        .iter()
        .flat_map(|set| ctx.pods.by_index(index::CONTROLLER, set.uid()));
    pods.filter(|pod| is_active(pod)).collect()
}

/// Returns the first failure; what succeeded before it stays.
async fn apply(ctx: &Ctx, set: &ReplicaSet, plan: &Plan, writes: &Writes) -> Option<ApiError> {
    if plan.create > 0 {
        let pod = new_pod(set)?;
        let create = |_| create_pod(ctx, set, &pod, writes);
        return batch::slow_start(plan.create, create)
            .await
            .1
            .filter(|error| !error.is_namespace_terminating());
    }
    batch::all(plan.delete.len(), |at| {
        delete_pod(ctx, set, &plan.delete[at], writes)
    })
    .await
    .1
}

async fn create_pod(ctx: &Ctx, set: &ReplicaSet, pod: &Pod, writes: &Writes) -> Result<(), ApiError> {
    match ctx.api.create(pod).await {
        Ok(written) => {
            writes.wrote(&ctx.pods, written.revision);
            let message = format!("Created pod: {}", written.key.name);
            ctx.recorder
                .event(set, EventType::Normal, SUCCESSFUL_CREATE, message);
            Ok(())
        }
        Err(error) => {
            if !error.is_namespace_terminating() {
                let message = format!("Error creating: {}", said(&error));
                ctx.recorder
                    .event(set, EventType::Warning, FAILED_CREATE, message);
            }
            Err(error)
        }
    }
}

async fn delete_pod(ctx: &Ctx, set: &ReplicaSet, pod: &Pod, writes: &Writes) -> Result<(), ApiError> {
    match ctx
        .api
        .delete::<Pod>(&pod.key(), &DeleteOptions::uid(pod.uid()))
        .await
    {
        Ok(written) => {
            writes.wrote(&ctx.pods, written.revision);
            let message = format!("Deleted pod: {}", pod.name());
            ctx.recorder
                .event(set, EventType::Normal, SUCCESSFUL_DELETE, message);
            Ok(())
        }
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => {
            let message = format!("Error deleting: {}", said(&error));
            ctx.recorder
                .event(set, EventType::Warning, FAILED_DELETE, message);
            Err(error)
        }
    }
}

/// The server's own words, without our framing.
fn said(error: &ApiError) -> String {
    match error {
        ApiError::Status(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// `None` only for a ReplicaSet without a template, which validation refuses.
fn new_pod(set: &ReplicaSet) -> Option<Pod> {
    let PodTemplateSpec { metadata, spec } = set.spec.as_ref()?.template.clone()?;
    let template = metadata.unwrap_or_default();
    Some(Pod {
        metadata: ObjectMeta {
            namespace: set.metadata.namespace.clone(),
            generate_name: Some(format!("{}-", set.name())),
            labels: template.labels,
            annotations: template.annotations,
            finalizers: template.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..Default::default()
        },
        spec,
        status: None,
    })
}
