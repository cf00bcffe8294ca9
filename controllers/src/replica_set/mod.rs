//! ReplicaSet and ReplicationController: keep as many Pods of one template running as `spec.replicas` says.
//!
//! [`plan`] decides how many to create and which to delete, [`rank`] in what order Pods go, [`status`] what the
//! ReplicaSet reports, [`replicated`] how a ReplicationController reads as one; this file fetches and applies. Source of the
//! rules: the ReplicaSet controller, Kubernetes 1.36.

mod plan;
mod rank;
mod replicated;
mod status;

use std::sync::Arc;

use corten_api::pod::{is_active, is_terminal};
use corten_client::cache::index;
use corten_client::object::controller_reference;
use corten_client::{
    ApiClient, ApiError, Cache, Change, Controller, DeleteOptions, EventRecorder, EventType, KubeKind,
    ObjectExt, ObjectKey, Requeue, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::apply;
use crate::batch;
use crate::claim::{self, claim_all};
use crate::context::{Context, Doing, SyncError};

use plan::{Plan, plan};
use replicated::Replicated;
use status::{Failure, status};

/// Source: kube-controller-manager `--concurrent-replicaset-syncs` and `--concurrent-rc-syncs`.
const WORKERS: usize = 5;

const SUCCESSFUL_CREATE: &str = "SuccessfulCreate";
const FAILED_CREATE: &str = "FailedCreate";
const SUCCESSFUL_DELETE: &str = "SuccessfulDelete";
const FAILED_DELETE: &str = "FailedDelete";

struct Ctx<K: KubeKind> {
    api: ApiClient,
    sets: Cache<K>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
}

pub async fn run(context: Context) {
    run_for::<ReplicaSet>(context, "replicaset").await;
}

pub async fn run_replication(context: Context) {
    run_for::<ReplicationController>(context, "replicationcontroller").await;
}

async fn run_for<K: Replicated>(context: Context, queue: &'static str) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        sets: context
            .cache::<K>()
            .with_index(index::CONTROLLER, index::controller),
        pods: context
            .cache::<Pod>()
            .with_index(index::CONTROLLER, index::controller)
            .with_index(claim::ORPHANS, claim::orphans),
        recorder: context.recorder(K::COMPONENT),
    });
    let sets = ctx.sets.clone();
    Controller::new(queue)
        .workers(WORKERS)
        .watch(&ctx.sets, apply::own_key)
        .watch(&ctx.pods, move |change| interested(&sets, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

/// The owners a Pod's change concerns: the one it has, the one it had, or whoever selects an orphan.
fn interested<K: Replicated>(sets: &Cache<K>, change: &Change<Pod>) -> Vec<ObjectKey> {
    claim::concerned(change, K::KIND, |pod| {
        let selects = |set: &K| {
            set.selector()
                .is_ok_and(|selector| selector.matches(&pod.metadata.labels))
        };
        let mut selecting = sets.list_namespace(pod.namespace());
        selecting.retain(|set| selects(set));
        selecting.iter().map(|set| set.key()).collect()
    })
}

async fn sync<K: Replicated>(ctx: &Ctx<K>, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(owner) = ctx.sets.get(key) else {
        return Ok(None);
    };
    let owned = claim_all(&ctx.api, &ctx.pods, &*owner, &owner.selector()?, writes).await?;
    let set = owner.as_set();
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).cloned().collect();
    let terminating = owned
        .iter()
        .filter(|pod| pod.is_terminating() && !is_terminal(pod))
        .count();
    let now = Timestamp::now();
    let plan = if set.is_terminating() {
        Plan::default()
    } else {
        plan(&set, &active, || siblings(ctx, &*owner), now)
    };
    let failure = apply(ctx, &*owner, &plan, writes).await;
    let reported = failure.as_ref().map(|error| Failure {
        reason: if plan.delete.is_empty() {
            FAILED_CREATE
        } else {
            FAILED_DELETE
        },
        message: said(error),
    });
    let next = owner.reporting(status(&set, &active, terminating, reported, now));
    let unchanged = next
        .as_set()
        .status
        .as_ref()
        .is_some_and(|wanted| status::same(set.status.as_ref(), wanted));
    if !unchanged {
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

/// The active Pods of all that have the same owner: a node with many of them loses one first.
fn siblings<K: KubeKind>(ctx: &Ctx<K>, set: &K) -> Vec<Arc<Pod>> {
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
async fn apply<K: Replicated>(ctx: &Ctx<K>, set: &K, plan: &Plan, writes: &Writes) -> Option<ApiError> {
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

async fn create_pod<K: KubeKind>(ctx: &Ctx<K>, set: &K, pod: &Pod, writes: &Writes) -> Result<(), ApiError> {
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

async fn delete_pod<K: KubeKind>(ctx: &Ctx<K>, set: &K, pod: &Pod, writes: &Writes) -> Result<(), ApiError> {
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

/// `None` only for an owner without a template, which validation refuses.
fn new_pod<K: Replicated>(set: &K) -> Option<Pod> {
    let PodTemplateSpec { metadata, spec } = set.as_set().spec.as_ref()?.template.clone()?;
    let template = metadata.unwrap_or_default();
    Some(Pod {
        metadata: ObjectMeta {
            namespace: Some(set.namespace().to_owned()),
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
