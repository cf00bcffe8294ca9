//! Deployment: moves Pods from one template to the next by scaling ReplicaSets.
//!
//! [`plan`] decides; [`sets`] reads ReplicaSets, [`revision`] keeps the history, [`rolling`] and [`scale`] divide
//! replicas, [`status`] reports; this file fetches and applies. `kubectl rollout undo` needs nothing special: it
//! writes an old ReplicaSet's template back. Source of the rules: the Deployment controller, Kubernetes 1.36.

mod hash;
mod plan;
mod revision;
mod rolling;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use corten_api::pod::is_terminal;
use corten_api::selector::LabelSelector;
use corten_client::cache::index;
use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, Patch, Requeue,
    Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::apply;
use crate::claim::{self, claim_all};
use crate::context::{Context, Doing, SyncError};

use plan::{Step, plan};

/// Source: kube-controller-manager `--concurrent-deployment-syncs`.
const WORKERS: usize = 5;
const KIND: &str = "Deployment";

const SCALING_REPLICA_SET: &str = "ScalingReplicaSet";
const REPLICA_SET_CREATE_ERROR: &str = "ReplicaSetCreateError";

struct Ctx {
    api: ApiClient,
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    recorder: EventRecorder,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        deployments: context.cache(),
        sets: context
            .cache::<ReplicaSet>()
            .with_index(index::CONTROLLER, index::controller)
            .with_index(claim::ORPHANS, claim::orphans),
        pods: context
            .cache::<Pod>()
            .with_index(index::CONTROLLER, index::controller),
        recorder: context.recorder("deployment-controller"),
    });
    let (for_sets, for_pods) = (ctx.clone(), ctx.clone());
    Controller::new("deployment")
        .workers(WORKERS)
        .watch(&ctx.deployments, apply::own_key)
        .watch(&ctx.sets, move |change| set_changed(&for_sets, change))
        .watch(&ctx.pods, move |change| pod_gone(&for_pods, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

/// The Deployments a ReplicaSet's change concerns.
fn set_changed(ctx: &Ctx, change: &Change<ReplicaSet>) -> Vec<ObjectKey> {
    claim::concerned(change, KIND, |set| {
        let mut selecting = ctx.deployments.list_namespace(set.namespace());
        selecting.retain(|deployment| selects(deployment, set));
        selecting.iter().map(|deployment| deployment.key()).collect()
    })
}

/// A Recreate rollout waits for the last old Pod to go.
fn pod_gone(ctx: &Ctx, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pod = match change {
        Change::Deleted(pod) => pod,
        Change::Applied { old: Some(old), new } if is_terminal(new) && !is_terminal(old) => new,
        _ => return vec![],
    };
    let Some(reference) = pod.controller() else {
        return vec![];
    };
    let Some(set) = ctx.sets.get(&ObjectKey::new(pod.namespace(), &reference.name)) else {
        return vec![];
    };
    let deployment = claim::owner_key(&*set, KIND).and_then(|key| ctx.deployments.get(&key));
    deployment
        .filter(|deployment| sets::recreates(deployment))
        .map(|deployment| deployment.key())
        .into_iter()
        .collect()
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    selector(deployment).is_ok_and(|selector| selector.matches(&set.metadata.labels))
}

fn selector(deployment: &Deployment) -> Result<LabelSelector, SyncError> {
    let spec = deployment
        .spec
        .as_ref()
        .ok_or_else(|| SyncError::Invalid(format!("{} has no spec", deployment.key())))?;
    LabelSelector::from_api(&spec.selector).map_err(SyncError::Invalid)
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(deployment) = ctx.deployments.get(key) else {
        return Ok(None);
    };
    let owned = claim_all(&ctx.api, &ctx.sets, &*deployment, &selector(&deployment)?, writes).await?;
    let still_running = |set: &ReplicaSet| {
        ctx.pods
            .by_index(index::CONTROLLER, set.uid())
            .iter()
            .any(|pod| !is_terminal(pod))
    };
    let plan = plan(&deployment, &owned, still_running, Timestamp::now());
    for step in plan.steps {
        apply(ctx, &deployment, step, writes).await?;
    }
    Ok(plan.look_again)
}

async fn apply(ctx: &Ctx, deployment: &Deployment, step: Step, writes: &Writes) -> Result<(), SyncError> {
    let key = deployment.key();
    match step {
        Step::Create(set) => create(ctx, deployment, &set, writes).await,
        Step::Update(set) => {
            let written = ctx
                .api
                .replace(&*set)
                .await
                .doing(|| format!("update ReplicaSet {}", set.key()))?;
            writes.wrote(&ctx.sets, written.revision);
            Ok(())
        }
        Step::Scale { set, from } => {
            let written = ctx
                .api
                .replace(&*set)
                .await
                .doing(|| format!("scale ReplicaSet {}", set.key()))?;
            writes.wrote(&ctx.sets, written.revision);
            let to = sets::replicas(&set);
            if from != to {
                let direction = if from < to { "up" } else { "down" };
                let message = format!(
                    "Scaled {direction} replica set {} from {from} to {to}",
                    set.name()
                );
                ctx.recorder
                    .event(deployment, EventType::Normal, SCALING_REPLICA_SET, message);
            }
            Ok(())
        }
        Step::Delete(set) => apply::delete(&ctx.api, &ctx.sets, &set, None, writes).await,
        Step::SetRevision(revision) => {
            // As upstream by way of the status, which raises no generation.
            let patch = Patch::Merge(json!({ "metadata": {
                "uid": deployment.uid(),
                "annotations": { revision::REVISION: revision },
            }}));
            let written = ctx
                .api
                .patch_status::<Deployment>(&key, &patch)
                .await
                .doing(|| format!("set the revision of {key}"))?;
            writes.wrote(&ctx.deployments, written.revision);
            Ok(())
        }
        Step::Status(status) => report(ctx, deployment, *status, writes).await,
    }
}

async fn report(
    ctx: &Ctx,
    deployment: &Deployment,
    status: DeploymentStatus,
    writes: &Writes,
) -> Result<(), SyncError> {
    let key = deployment.key();
    let written = ctx
        .api
        .patch_status::<Deployment>(&key, &status_patch(deployment.uid(), &status))
        .await
        .doing(|| format!("report the status of {key}"))?;
    writes.wrote(&ctx.deployments, written.revision);
    Ok(())
}

/// The whole status over whatever revision the object now has: an annotation written a moment ago is no conflict, and the
/// next sync looks at the newest object anyway. Nothing but the status: a write of `status` takes annotations too, and
/// those known here may be older than what a user has applied since.
fn status_patch(uid: &str, status: &DeploymentStatus) -> Patch {
    Patch::Json(json!([
        { "op": "add", "path": "/metadata/uid", "value": uid },
        { "op": "add", "path": "/status", "value": status },
    ]))
}

async fn create(
    ctx: &Ctx,
    deployment: &Deployment,
    set: &ReplicaSet,
    writes: &Writes,
) -> Result<(), SyncError> {
    let doing = || format!("create ReplicaSet {}", set.key());
    match ctx.api.create(set).await {
        Ok(written) => {
            writes.wrote(&ctx.sets, written.revision);
            let replicas = sets::replicas(set);
            if replicas > 0 {
                let message = format!("Scaled up replica set {} from 0 to {replicas}", set.name());
                ctx.recorder
                    .event(deployment, EventType::Normal, SCALING_REPLICA_SET, message);
            }
            Ok(())
        }
        Err(error) if error.is_already_exists() => {
            let live = ctx.api.get::<ReplicaSet>(&set.key()).await.doing(doing)?;
            if live.is_some_and(|live| {
                live.is_controlled_by(deployment.uid()) && sets::same_template(&live, deployment)
            }) {
                // Ours after all; the cache will show it.
                return Err(SyncError::Api {
                    doing: doing(),
                    source: error,
                });
            }
            report(ctx, deployment, status::collided(deployment), writes).await?;
            Err(SyncError::Api {
                doing: doing(),
                source: error,
            })
        }
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            let message = format!("Failed to create new replica set {:?}: {error}", set.name());
            if let Some(status) = status::create_failed(deployment, &message, Timestamp::now()) {
                report(ctx, deployment, status, writes).await?;
            }
            ctx.recorder
                .event(deployment, EventType::Warning, REPLICA_SET_CREATE_ERROR, message);
            Err(SyncError::Api {
                doing: doing(),
                source: error,
            })
        }
    }
}
