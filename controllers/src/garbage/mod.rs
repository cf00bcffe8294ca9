//! Garbage collection: dependents go when their last owner is gone; deletion in the foreground and orphaning.
//!
//! [`graph`] knows who owns whom and decides; this file watches every kind's metadata and acts. An owner counts as
//! gone only if the server says so (by name and uid), and every delete names the uid and revision it means.
//! Source of the rules: the garbage collector, Kubernetes 1.36.

mod graph;

use std::sync::Arc;
use std::time::Duration;

use corten_client::{
    ApiClient, ApiError, Change, Controller, DeleteOptions, ObjectExt, ObjectKey, PartialObject, Patch,
    Propagation, QueueHandle, Requeue, Subresource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{Context, Doing, SyncError};
use crate::monitors::Monitors;
use graph::{Call, FOREGROUND, Graph, Judgement, ORPHAN, Owner, Place, Uid, judge};

/// Source: kube-controller-manager `--concurrent-gc-syncs`.
const WORKERS: usize = 20;
/// How long the first view of all kinds is waited for. Source: the garbage collector's `initialSyncTimeout`.
const PATIENCE: Duration = Duration::from_secs(30);

struct Ctx {
    api: ApiClient,
    monitors: Monitors,
    graph: Mutex<Graph>,
    queue: QueueHandle<Uid>,
}

pub async fn run(context: Context, monitors: Monitors) {
    let mut controller = Controller::<Uid>::new("garbagecollector")
        .workers(WORKERS)
        .patience(PATIENCE);
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        monitors,
        graph: Mutex::default(),
        queue: controller.handle(),
    });
    for monitor in &ctx.monitors.watched {
        let (shared, target) = (ctx.clone(), Arc::new(monitor.target.clone()));
        controller = controller.watch(&monitor.cache, move |change| {
            let mut graph = shared.graph.lock();
            match change {
                Change::Applied { old, new } => {
                    // Deleted and created again between two looks: the old one's dependents lost their owner.
                    let replaced = old.as_ref().filter(|old| old.uid() != new.uid());
                    let mut look = replaced.map(|old| graph.forget(old.uid())).unwrap_or_default();
                    look.extend(graph.observe(&target, new));
                    look
                }
                Change::Deleted(object) => graph.forget(object.uid()),
                Change::Resync => vec![],
            }
        });
    }
    controller
        .run(context.shutdown.clone(), move |uid, _writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &uid).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, uid: &str) -> Result<Requeue, SyncError> {
    let call = ctx.graph.lock().call(uid);
    match call {
        Call::Nothing => {}
        Call::Examine(place) => examine(ctx, &place).await?,
        Call::Orphan { place, dependents } => {
            for dependent in &dependents {
                unlink(ctx, dependent, std::slice::from_ref(&place.uid)).await?;
            }
            drop_finalizer(ctx, &place, ORPHAN).await?;
        }
        Call::WaitFor { dependents } => dependents
            .into_iter()
            .for_each(|dependent| ctx.queue.add(dependent)),
        Call::DropForeground(place) => drop_finalizer(ctx, &place, FOREGROUND).await?,
    }
    Ok(None)
}

async fn examine(ctx: &Ctx, place: &Place) -> Result<(), SyncError> {
    let Some(live) = live(ctx, place).await? else {
        let look = ctx.graph.lock().forget(&place.uid);
        look.into_iter().for_each(|uid| ctx.queue.add(uid));
        return Ok(());
    };
    if live.is_terminating() {
        return Ok(());
    }
    let mut owners = Vec::new();
    for reference in live.metadata.owner_references.iter().flatten() {
        owners.push((reference.uid.clone(), owner(ctx, place, reference).await?));
    }
    let (has_dependents, circle) = {
        let graph = ctx.graph.lock();
        (
            graph.has_dependents(&place.uid),
            graph.may_close_circle(&place.uid),
        )
    };
    let finalizers = live.metadata.finalizers.as_deref().unwrap_or_default();
    match judge(&owners, finalizers, has_dependents) {
        Judgement::Keep => Ok(()),
        Judgement::Unlink(gone) => unlink(ctx, place, &gone).await,
        Judgement::Delete(Propagation::Foreground) if circle && blocks(&live) => {
            unblock(ctx, place, &live).await?;
            ctx.queue.add(place.uid.clone());
            Ok(())
        }
        Judgement::Delete(propagation) => {
            let options = DeleteOptions {
                uid: Some(place.uid.clone()),
                resource_version: live.metadata.resource_version.clone(),
                propagation: Some(propagation),
                ..Default::default()
            };
            match ctx.api.delete_target(&place.target, &place.key, &options).await {
                Err(error) if !error.is_not_found() => Err(SyncError::Api {
                    doing: format!("delete {} {}", place.target, place.key),
                    source: error,
                }),
                _ => Ok(()),
            }
        }
    }
}

/// What the watches show, and where they show nothing, what the server says.
async fn owner(ctx: &Ctx, of: &Place, reference: &OwnerReference) -> Result<Owner, SyncError> {
    let seen = ctx.graph.lock().owner(&reference.uid);
    if seen != Owner::Unseen {
        return Ok(seen);
    }
    let OwnerReference {
        api_version,
        kind,
        name,
        ..
    } = reference;
    let Some(target) = ctx.monitors.find(api_version, kind) else {
        return Err(SyncError::Invalid(format!(
            "{} {} has an owner of unknown kind {kind}",
            of.target, of.key
        )));
    };
    if target.namespaced && of.key.namespace.is_empty() {
        // A reference that can never be resolved must not get anything deleted.
        return Ok(Owner::Alive);
    }
    let namespace = if target.namespaced {
        of.key.namespace.as_str()
    } else {
        ""
    };
    let key = ObjectKey::new(namespace, name);
    let live = ctx
        .api
        .get_metadata(target, &key)
        .await
        .doing(|| format!("look for owner {target} {key}"))?;
    Ok(match live.filter(|live| live.uid() == reference.uid) {
        None => Owner::Gone,
        Some(live) if live.is_terminating() && has_finalizer(&live, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Alive,
    })
}

/// The object itself, if it is still the same one.
async fn live(ctx: &Ctx, place: &Place) -> Result<Option<PartialObject>, SyncError> {
    let live = ctx.api.get_metadata(&place.target, &place.key).await;
    let live = live.doing(|| format!("read {} {}", place.target, place.key))?;
    Ok(live.filter(|live| live.uid() == place.uid))
}

fn has_finalizer(object: &PartialObject, finalizer: &str) -> bool {
    object
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizer)
}

/// Takes `owners` out of the object's references.
async fn unlink(ctx: &Ctx, place: &Place, owners: &[Uid]) -> Result<(), SyncError> {
    let Some(live) = live(ctx, place).await? else {
        return Ok(());
    };
    let before = live.metadata.owner_references.clone().unwrap_or_default();
    let after: Vec<_> = before
        .iter()
        .filter(|reference| !owners.contains(&reference.uid))
        .collect();
    if after.len() == before.len() {
        return Ok(());
    }
    patch(ctx, place, &live, json!({ "ownerReferences": after })).await
}

fn blocks(object: &PartialObject) -> bool {
    let mut owners = object.metadata.owner_references.iter().flatten();
    owners.any(|reference| reference.block_owner_deletion == Some(true))
}

/// Lets the object's owners go before it does.
async fn unblock(ctx: &Ctx, place: &Place, live: &PartialObject) -> Result<(), SyncError> {
    let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
    for reference in &mut owners {
        reference.block_owner_deletion = Some(false);
    }
    patch(ctx, place, live, json!({ "ownerReferences": owners })).await
}

async fn drop_finalizer(ctx: &Ctx, place: &Place, finalizer: &str) -> Result<(), SyncError> {
    let Some(live) = live(ctx, place).await? else {
        return Ok(());
    };
    if !has_finalizer(&live, finalizer) {
        return Ok(());
    }
    let left: Vec<&String> = live
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != finalizer)
        .collect();
    patch(ctx, place, &live, json!({ "finalizers": left })).await
}

/// Changes metadata, if the object is still as it was read.
async fn patch(ctx: &Ctx, place: &Place, live: &PartialObject, mut metadata: Value) -> Result<(), SyncError> {
    metadata["resourceVersion"] = json!(live.metadata.resource_version);
    metadata["uid"] = json!(place.uid);
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    match ctx
        .api
        .patch_target(&place.target, &place.key, Subresource::None, &patch)
        .await
    {
        Err(error) if !error.is_not_found() => Err(failed(place, error)),
        _ => Ok(()),
    }
}

fn failed(place: &Place, source: ApiError) -> SyncError {
    SyncError::Api {
        doing: format!("change the metadata of {} {}", place.target, place.key),
        source,
    }
}
