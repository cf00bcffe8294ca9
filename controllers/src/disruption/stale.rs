//! A Pod that says it is about to be disrupted, and is not: the condition is taken back after a while.
//!
//! Source of the rules: `syncStalePodDisruption` of the disruption controller, Kubernetes 1.36.

use std::sync::Arc;
use std::time::Duration;

use corten_api::pod::{condition, is_terminal};
use corten_client::{
    ApiClient, Cache, Change, Controller, ObjectExt, ObjectKey, QueueHandle, Requeue, Writes,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::apply;
use crate::context::{Context, SyncError, time};

const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// The node's own reason: it may take any time until such a Pod is gone.
const TERMINATION_BY_KUBELET: &str = "TerminationByKubelet";
/// Source: `stalePodDisruptionTimeout`.
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(2 * 60);

struct Ctx {
    api: ApiClient,
    pods: Cache<Pod>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        pods: context.cache(),
    });
    let controller = Controller::new("stale-disruption");
    let queue = controller.handle();
    controller
        .watch(&ctx.pods, move |change| {
            changed(&queue, change);
            vec![]
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn changed(queue: &QueueHandle, change: &Change<Pod>) {
    let Change::Applied { old, new } = change else {
        return;
    };
    let Some(at) = stale_at(new) else { return };
    if old.as_ref().and_then(|old| stale_at(old)) != Some(at) {
        let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
        queue.add_after(new.key(), wait);
    }
}

/// When the Pod's word of a disruption has become stale; `None` if it has not given it or is keeping it.
fn stale_at(pod: &Pod) -> Option<Timestamp> {
    let said = condition(pod, DISRUPTION_TARGET).filter(|c| c.status == "True")?;
    if pod.is_terminating() || is_terminal(pod) || said.reason.as_deref() == Some(TERMINATION_BY_KUBELET) {
        return None;
    }
    let since = said
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    since.checked_add(STALE_AFTER).ok()
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(pod) = ctx.pods.get(key) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    match stale_at(&pod) {
        None => Ok(None),
        Some(at) if at > now => Ok(Duration::try_from(at.duration_since(now)).ok()),
        Some(_) => {
            let status = json!({ "conditions": [{
                "type": DISRUPTION_TARGET,
                "status": "False",
                "reason": null,
                "message": null,
                "observedGeneration": pod.metadata.generation,
                "lastTransitionTime": time(now),
            }] });
            apply::patch_pod_status(&ctx.api, &ctx.pods, &pod, status, writes).await?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(condition: serde_json::Value, phase: &str, want: Option<&str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
            "status": {"phase": phase, "conditions": [condition]}}))
        .expect("Pod");
        assert_eq!(stale_at(&pod).map(|at| at.to_string()).as_deref(), want);
    }

    #[test]
    fn only_a_word_not_kept_is_stale() {
        let said = |status: &str, reason: &str| {
            json!({"type": DISRUPTION_TARGET, "status": status, "reason": reason,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        check(
            said("True", "EvictionByEvictionAPI"),
            "Running",
            Some("2026-01-01T00:02:00Z"),
        );
        check(said("False", ""), "Running", None);
        check(said("True", TERMINATION_BY_KUBELET), "Running", None);
        check(said("True", "EvictionByEvictionAPI"), "Failed", None);
        check(json!({"type": "Ready", "status": "True"}), "Running", None);
    }
}
