//! ServiceCIDR: says that a range is ready, and keeps it while addresses depend on it.
//!
//! [`plan`] decides; this file fetches and applies; [`addresses`] watches over the addresses themselves. The API server
//! takes no address from a range that is being deleted (its transactions assert it), so what a read after the deletion
//! shows is final and no time of grace is needed. Source of the rules: the ServiceCIDR controller, Kubernetes 1.36.

mod addresses;
mod plan;

use std::sync::Arc;

use corten_client::{
    ApiClient, Cache, Change, Controller, ObjectExt, ObjectKey, Patch, Requeue, Selection, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};

use crate::context::{Context, Doing, SyncError};

use plan::{FINALIZER, Plan, Ready};

const WORKERS: usize = 2;

struct Ctx {
    api: ApiClient,
    cidrs: Cache<ServiceCIDR>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        cidrs: context.cache(),
    });
    let released: Cache<IPAddress> = context.cache();
    let (for_cidrs, for_addresses) = (ctx.cidrs.clone(), ctx.cidrs.clone());
    let ranges = Controller::new("servicecidrs")
        .workers(WORKERS)
        .watch(&ctx.cidrs, move |change| {
            // Another range may cover what keeps one from going.
            let mut keys = going(&for_cidrs);
            keys.extend(crate::apply::own_key(change));
            keys
        })
        .watch(&released, move |change| match change {
            Change::Deleted(_) => going(&for_addresses),
            _ => vec![],
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        });
    tokio::join!(ranges, addresses::run(context.clone()));
}

/// The ranges that are being deleted.
fn going(cidrs: &Cache<ServiceCIDR>) -> Vec<ObjectKey> {
    let all = cidrs.list();
    all.iter()
        .filter(|cidr| cidr.is_terminating())
        .map(|cidr| cidr.key())
        .collect()
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(cidr) = ctx.cidrs.get(key) else {
        return Ok(None);
    };
    let plan = if cidr.is_terminating() {
        // Not from caches: what is decided here cannot be taken back.
        let doing = || format!("look for addresses of ServiceCIDR {key}");
        let all = ctx
            .api
            .list::<ServiceCIDR>(&Selection::all())
            .await
            .doing(doing)?;
        let addresses = ctx.api.list::<IPAddress>(&Selection::all()).await.doing(doing)?;
        plan::leaving(&cidr, &all, &addresses)
    } else {
        plan::staying(&cidr)
    };
    let Plan { finalizer, ready } = plan;
    if let Some(ready) = ready {
        let status = json!({ "status": condition(&ready, Timestamp::now()) });
        write(ctx, &cidr, true, status, writes).await?;
    }
    match finalizer {
        Some(true) => {
            let add = json!({ "metadata": { "finalizers": [FINALIZER] } });
            write(ctx, &cidr, false, add, writes).await?;
        }
        Some(false) => {
            let remove = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
            write(ctx, &cidr, false, remove, writes).await?;
        }
        None => {}
    }
    Ok(None)
}

fn condition(ready: &Ready, now: Timestamp) -> Value {
    json!({ "conditions": [{
        "type": plan::READY,
        "status": if ready.is_ready { "True" } else { "False" },
        "reason": ready.reason,
        "message": ready.message,
        "lastTransitionTime": crate::context::time(now),
    }] })
}

/// Merges into this very object. That it is gone is as good.
async fn write(
    ctx: &Ctx,
    cidr: &ServiceCIDR,
    status: bool,
    mut patch: Value,
    writes: &Writes,
) -> Result<(), SyncError> {
    patch["metadata"]["uid"] = cidr.uid().into();
    let patch = Patch::Strategic(patch);
    let written = match status {
        true => ctx.api.patch_status::<ServiceCIDR>(&cidr.key(), &patch).await,
        false => ctx.api.patch::<ServiceCIDR>(&cidr.key(), &patch).await,
    };
    match written {
        Ok(written) => {
            writes.wrote(&ctx.cidrs, written.revision);
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(source) => Err(SyncError::Api {
            doing: format!("write ServiceCIDR {}", cidr.key()),
            source,
        }),
    }
}
