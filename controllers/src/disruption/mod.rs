//! Disruption: says for each PodDisruptionBudget how many of its Pods may be evicted now.
//!
//! [`plan`] decides; [`scale`] finds how many Pods their owners want; this file fetches and applies. The API server
//! takes from the budget with each eviction and notes the Pod; here the note is dropped once the Pod goes, or has not
//! gone in time. Source of the rules: the disruption controller, Kubernetes 1.36.

mod plan;
mod scale;
mod stale;

use std::sync::Arc;

use corten_api::selector::LabelSelector;
use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, Requeue, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};

use crate::apply;
use crate::context::{Context, Doing, SyncError};

use scale::Scales;

const WORKERS: usize = 2;

const NO_PODS: &str = "NoPods";
const CALCULATE_EXPECTED_POD_COUNT_FAILED: &str = "CalculateExpectedPodCountFailed";
const UNMANAGED_PODS: &str = "UnmanagedPods";
const NOT_DELETED: &str = "NotDeleted";

struct Ctx {
    api: ApiClient,
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    scales: Scales,
    recorder: EventRecorder,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        budgets: context.cache(),
        pods: context.cache(),
        scales: Scales::new(&context),
        recorder: context.recorder("controllermanager"),
    });
    let budgets = ctx.budgets.clone();
    let work = Controller::new("disruption")
        .workers(WORKERS)
        .watch(&ctx.budgets, apply::own_key)
        .watch(&ctx.pods, move |change| concerned(&budgets, change));
    let work = ctx.scales.needed_by(work);
    let sync_budgets = work.run(context.shutdown.clone(), {
        let ctx = ctx.clone();
        move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        }
    });
    tokio::join!(sync_budgets, stale::run(context));
}

/// The budgets that select a Pod, as it is and as it was.
fn concerned(budgets: &Cache<PodDisruptionBudget>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pods: Vec<&Arc<Pod>> = match change {
        Change::Applied { old, new } => old.iter().chain([new]).collect(),
        Change::Deleted(old) => vec![old],
        Change::Resync => vec![],
    };
    let Some(first) = pods.first() else { return vec![] };
    let mut keys: Vec<ObjectKey> = budgets
        .list_namespace(first.namespace())
        .iter()
        .filter(|budget| {
            selector(budget).is_ok_and(|s| pods.iter().any(|pod| s.matches(&pod.metadata.labels)))
        })
        .map(|budget| budget.key())
        .collect();
    keys.dedup();
    keys
}

fn selector(budget: &PodDisruptionBudget) -> Result<LabelSelector, String> {
    match budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) {
        Some(selector) => LabelSelector::from_api(selector),
        None => Ok(LabelSelector::nothing()),
    }
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(budget) = ctx.budgets.get(key) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    match look(ctx, &budget, now).await {
        Ok(plan) => {
            for name in &plan.not_deleted {
                let pod = ObjectKey::new(&*key.namespace, name.as_str());
                if let Some(pod) = ctx.pods.get(&pod) {
                    let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
                    ctx.recorder
                        .event(&*pod, EventType::Warning, NOT_DELETED, message);
                }
            }
            report(ctx, &budget, plan.status, writes).await?;
            let wait = plan.recheck_at.map(|at| at.duration_since(now));
            // One second more: the times in a budget have whole seconds.
            Ok(wait
                .and_then(|wait| std::time::Duration::try_from(wait).ok())
                .map(|wait| wait + ONE_SECOND))
        }
        Err(why) => {
            report(ctx, &budget, plan::failed(&budget, &why.to_string(), now), writes).await?;
            Err(why)
        }
    }
}

const ONE_SECOND: std::time::Duration = std::time::Duration::from_secs(1);

async fn look(ctx: &Ctx, budget: &PodDisruptionBudget, now: Timestamp) -> Result<plan::Plan, SyncError> {
    let selector = selector(budget).map_err(SyncError::Invalid)?;
    let mut pods = ctx.pods.list_namespace(budget.namespace());
    pods.retain(|pod| selector.matches(&pod.metadata.labels));
    if pods.is_empty() {
        ctx.recorder
            .event(budget, EventType::Normal, NO_PODS, "No matching pods found");
    }
    let count = if plan::counts_scale(budget) {
        let scale = ctx.scales.of_owners(&ctx.api, &pods).await;
        let scale = scale.inspect_err(|why| {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            ctx.recorder.event(
                budget,
                EventType::Warning,
                CALCULATE_EXPECTED_POD_COUNT_FAILED,
                message,
            );
        })?;
        if scale.unmanaged {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            ctx.recorder
                .event(budget, EventType::Warning, UNMANAGED_PODS, message);
        }
        scale.total
    } else {
        i32::try_from(pods.len()).unwrap_or(i32::MAX)
    };
    let expected = plan::expected(budget, count).map_err(SyncError::Invalid)?;
    Ok(plan::plan(budget, &pods, expected, now))
}

/// Writes the status if it says something new. The object's `resourceVersion` goes along, so an eviction that was
/// granted meanwhile is not overwritten: the conflict brings the budget back.
async fn report(
    ctx: &Ctx,
    budget: &PodDisruptionBudget,
    status: PodDisruptionBudgetStatus,
    writes: &Writes,
) -> Result<(), SyncError> {
    if plan::same(budget.status.as_ref(), &status) {
        return Ok(());
    }
    let mut next = budget.clone();
    next.status = Some(status);
    let written = ctx
        .api
        .replace_status(&next)
        .await
        .doing(|| format!("report the status of PodDisruptionBudget {}", budget.key()))?;
    writes.wrote(&ctx.budgets, written.revision);
    Ok(())
}
