//! ResourceQuota: what a namespace's objects use, counted anew.
//!
//! The API server books what writes use in the quota itself; this counts from the objects when a quota is new or changed,
//! and when something was given back: objects that were deleted, Pods that have ended. A count is written only onto the
//! quota it was begun with, so no booking made meanwhile is lost.
//! Source of the rules: the resourcequota controller, Kubernetes 1.36.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corten_api::quantity::{Quantity, ResourceList};
use corten_api::quota::{self, Quota};
use corten_client::{
    ApiClient, Cache, Change, Controller, KubeKind, ObjectExt, ObjectKey, Requeue, Selection, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::Value;

use crate::context::{Context, Doing, SyncError};
use crate::monitors::Monitors;

/// Source: kube-controller-manager `--concurrent-resource-quota-syncs`.
const WORKERS: usize = 5;
/// Objects come and go in bursts; they are counted once for all that happens within this time.
const SETTLE: Duration = Duration::from_millis(500);
/// Kinds of which more than the number counts: their objects are read whole.
const MEASURED: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];

struct Ctx {
    api: ApiClient,
    quotas: Cache<ResourceQuota>,
    monitors: Monitors,
}

pub async fn run(context: Context, monitors: Monitors) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        quotas: context.cache(),
        monitors: monitors.clone(),
    });
    let controller = Controller::new("resourcequota")
        .workers(WORKERS)
        .watch(&ctx.quotas, |change| match change {
            Change::Applied { old, new } => {
                let same = old.as_ref().is_some_and(|old| old.spec == new.spec);
                if same { vec![] } else { vec![new.key()] }
            }
            _ => vec![],
        });
    for monitor in monitors
        .watched
        .iter()
        .filter(|monitor| monitor.target.namespaced)
    {
        let is_pod = monitor.target.group.is_empty() && monitor.target.plural == "pods";
        let (queue, quotas) = (controller.handle(), ctx.quotas.clone());
        monitor.cache.on_change(move |change| {
            let namespace = match change {
                Change::Deleted(object) => object.namespace(),
                // It may have ended.
                Change::Applied { old: Some(_), new } if is_pod => new.namespace(),
                _ => return,
            };
            for quota in quotas.list_namespace(namespace) {
                queue.add_after(quota.key(), SETTLE);
            }
        });
    }
    controller
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let doing = || format!("count what ResourceQuota {key} is about");
    // Not from the cache: the count must be younger than the quota it is written onto.
    let target = ResourceQuota::target();
    let Some(live) = ctx.api.get::<ResourceQuota>(key).await.doing(doing)? else {
        return Ok(None);
    };
    let object = serde_json::to_value(&live).map_err(|error| SyncError::Invalid(error.to_string()))?;
    let quota = Quota::wanted(&object);
    let kinds: BTreeSet<(String, String)> = quota
        .hard
        .keys()
        .filter_map(|name| quota::kind_of(name))
        .collect();
    let mut used: ResourceList = quota
        .hard
        .keys()
        .map(|name| (name.clone(), Quantity::ZERO))
        .collect();
    for (group, plural) in &kinds {
        used.extend(count(ctx, &quota, &key.namespace, (group, plural)).await?);
    }
    let mut wanted = live.clone();
    let status = wanted.status.get_or_insert_default();
    let first = status.hard.is_none();
    status.hard = live.spec.as_ref().and_then(|spec| spec.hard.clone());
    status.used = Some(
        used.iter()
            .map(|(name, amount)| (name.clone(), corten_api::quantity::to_api(amount)))
            .collect(),
    );
    if wanted.status == live.status {
        return Ok(None);
    }
    let doing = || format!("write what {} {key} counts", target.kind);
    let written = ctx.api.replace_status(&wanted).await.doing(doing)?;
    writes.wrote(&ctx.quotas, written.revision);
    // Bookings begin with the first status: what came while it was counted is found by counting again.
    Ok(first.then_some(SETTLE))
}

/// What the objects of one kind use of what the quota bounds.
async fn count(
    ctx: &Ctx,
    quota: &Quota,
    namespace: &str,
    (group, plural): (&str, &str),
) -> Result<ResourceList, SyncError> {
    let monitor = ctx
        .monitors
        .watched
        .iter()
        .find(|monitor| monitor.target.group == group && monitor.target.plural == plural);
    let Some(monitor) = monitor else {
        return Ok(ResourceList::new());
    };
    if !(group.is_empty() && MEASURED.contains(&plural)) {
        let nothing = Value::Null;
        let objects = monitor.cache.list_namespace(namespace);
        return Ok(quota::total(
            quota,
            (group, plural),
            objects.iter().map(|_| &nothing),
            Timestamp::now(),
        ));
    }
    let selection = Selection {
        namespace: namespace.to_owned(),
        ..Selection::default()
    };
    let objects: Vec<Value> = ctx
        .api
        .list_target(&monitor.target, &selection)
        .await
        .doing(|| format!("list {plural} in {namespace}"))?;
    Ok(quota::total(quota, (group, plural), &objects, Timestamp::now()))
}
