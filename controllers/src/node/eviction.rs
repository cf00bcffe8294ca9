//! Taint eviction: Pods leave a node whose NoExecute taints they do not tolerate, at once or after a while.
//!
//! [`fate`] decides; deadlines are timers in the queue. Source of the rules: the taint eviction controller,
//! Kubernetes 1.36.

use std::collections::HashMap;
use std::sync::Arc;

use corten_api::pod::condition;
use corten_api::scheduling::{NO_EXECUTE, tolerates};
use corten_client::cache::index;
use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, QueueHandle,
    Requeue, Writes,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use parking_lot::Mutex;
use serde_json::json;

use crate::apply;
use crate::context::{Context, SyncError, time};
use crate::pod::node_name;

/// Source: the taint eviction controller's `UpdateWorkerSize`.
const WORKERS: usize = 8;
const TAINT_MANAGER_EVICTION: &str = "TaintManagerEviction";

struct Ctx {
    api: ApiClient,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// Since when a Pod stands under eviction; holds only Pods that do.
    since: Mutex<HashMap<ObjectKey, Timestamp>>,
    recorder: EventRecorder,
}

/// What a node's taints mean for one Pod.
#[derive(Debug, PartialEq)]
enum Fate {
    Stay,
    LeaveAt(Timestamp),
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        nodes: context.cache(),
        pods: context.cache::<Pod>().with_index(index::NODE, index::node),
        since: Mutex::default(),
        recorder: context.recorder("taint-eviction-controller"),
    });
    let controller = Controller::new("tainteviction").workers(WORKERS);
    let queue = controller.handle();
    let (for_nodes, for_pods) = (ctx.clone(), ctx.clone());
    controller
        .watch(&ctx.nodes, move |change| {
            node_changed(&for_nodes, &queue, change);
            vec![]
        })
        .watch(&ctx.pods, move |change| pod_changed(&for_pods, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn node_changed(ctx: &Ctx, queue: &QueueHandle, change: &Change<Node>) {
    let Change::Applied { old, new } = change else {
        return;
    };
    let before = old.as_ref().map(|old| evicting(old)).unwrap_or_default();
    if before != evicting(new) {
        ctx.pods
            .by_index(index::NODE, new.name())
            .iter()
            .for_each(|pod| queue.add(pod.key()));
    }
}

fn pod_changed(ctx: &Ctx, change: &Change<Pod>) -> Vec<ObjectKey> {
    match change {
        Change::Applied { old, new } => {
            let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            let differs = |old: &Arc<Pod>| {
                old.uid() != new.uid()
                    || node_name(old) != node_name(new)
                    || old.is_terminating() != new.is_terminating()
                    || tolerations(old) != tolerations(new)
            };
            let relevant = old.as_ref().is_none_or(differs);
            let tainted = || {
                ctx.nodes
                    .get(&ObjectKey::cluster(node_name(new)))
                    .is_some_and(|n| !evicting(&n).is_empty())
            };
            if relevant && (tainted() || ctx.since.lock().contains_key(&new.key())) {
                vec![new.key()]
            } else {
                vec![]
            }
        }
        Change::Deleted(old) => {
            ctx.since.lock().remove(&old.key());
            vec![]
        }
        Change::Resync => vec![],
    }
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let pod = ctx.pods.get(key).filter(|pod| !pod.is_terminating());
    let node = pod
        .as_ref()
        .and_then(|pod| ctx.nodes.get(&ObjectKey::cluster(node_name(pod))));
    let (Some(pod), Some(node)) = (pod, node) else {
        ctx.since.lock().remove(key);
        return Ok(None);
    };
    let now = Timestamp::now();
    let since = ctx.since.lock().get(key).copied().unwrap_or(now);
    let tolerations = pod
        .spec
        .iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
        .cloned()
        .collect::<Vec<_>>();
    match fate(&tolerations, &evicting(&node), placed(&pod), since) {
        Fate::Stay => {
            if ctx.since.lock().remove(key).is_some() {
                let message = format!("Cancelling deletion of Pod {key}");
                ctx.recorder
                    .event(&*pod, EventType::Normal, TAINT_MANAGER_EVICTION, message);
            }
            Ok(None)
        }
        Fate::LeaveAt(at) if at > now => {
            ctx.since.lock().insert(key.clone(), since);
            Ok(std::time::Duration::try_from(at.duration_since(now)).ok())
        }
        Fate::LeaveAt(_) => {
            let message = format!("Marking for deletion Pod {key}");
            ctx.recorder
                .event(&*pod, EventType::Normal, TAINT_MANAGER_EVICTION, message);
            evict(ctx, &pod, writes).await?;
            ctx.since.lock().remove(key);
            Ok(None)
        }
    }
}

async fn evict(ctx: &Ctx, pod: &Pod, writes: &Writes) -> Result<(), SyncError> {
    let status = json!({ "conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": time(Timestamp::now()),
    }]});
    if apply::patch_pod_status(&ctx.api, &ctx.pods, pod, status, writes).await? {
        apply::delete(&ctx.api, &ctx.pods, pod, None, writes).await?;
    }
    Ok(())
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| taint.effect == NO_EXECUTE)
        .cloned()
        .collect()
}

/// When the Pod came to its node, as far as its object tells.
fn placed(pod: &Pod) -> Option<Timestamp> {
    let scheduled =
        condition(pod, "PodScheduled").and_then(|condition| condition.last_transition_time.as_ref());
    scheduled
        .or(pod.metadata.creation_timestamp.as_ref())
        .map(|time| time.0)
}

/// A toleration's time runs from when both the taint and the Pod were there; where the taint does not tell, from
/// `since`, when we first saw them together. So a restart of ours does not start it anew.
fn fate(tolerations: &[Toleration], taints: &[Taint], placed: Option<Timestamp>, since: Timestamp) -> Fate {
    let mut leave_at: Option<Timestamp> = None;
    for taint in taints {
        let mut matching = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if matching.peek().is_none() {
            return Fate::LeaveAt(since);
        }
        // Of several tolerations for one taint the shortest counts; one without a time means for ever.
        let Some(seconds) = matching
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()
        else {
            continue;
        };
        let added = taint.time_added.as_ref().map(|time| time.0);
        let start = added.map_or(since, |added| {
            placed.map_or(added, |placed| placed.max(added)).min(since)
        });
        let at = start
            .checked_add(SignedDuration::from_secs(seconds.max(0)))
            .unwrap_or(Timestamp::MAX);
        leave_at = Some(leave_at.map_or(at, |earlier| earlier.min(at)));
    }
    leave_at.map_or(Fate::Stay, Fate::LeaveAt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// Tolerations are `key[=seconds]`, taints `key[@second added]`; the Pod came at 70 and is first seen
    /// under them at 100.
    #[track_caller]
    fn check(tolerations: &str, taints: &str, wanted: &str) {
        let second = |text: &str| Timestamp::from_second(text.parse().expect("seconds")).expect("a time");
        let tolerations: Vec<Toleration> = tolerations
            .split_whitespace()
            .map(|word| {
                let (key, seconds) = word
                    .split_once('=')
                    .map_or((word, None), |(key, s)| (key, Some(s)));
                Toleration {
                    key: Some(key.into()),
                    operator: Some("Exists".into()),
                    toleration_seconds: seconds.map(|seconds| seconds.parse().expect("seconds")),
                    ..Default::default()
                }
            })
            .collect();
        let taints: Vec<Taint> = taints
            .split_whitespace()
            .map(|word| {
                let (key, added) = word
                    .split_once('@')
                    .map_or((word, None), |(key, at)| (key, Some(at)));
                Taint {
                    key: key.into(),
                    effect: NO_EXECUTE.into(),
                    time_added: added.map(|at| Time(second(at))),
                    value: None,
                }
            })
            .collect();
        let text = match fate(&tolerations, &taints, Some(second("70")), second("100")) {
            Fate::Stay => "stay".to_owned(),
            Fate::LeaveAt(at) => at.as_second().to_string(),
        };
        assert_eq!(text, wanted);
    }

    #[test]
    fn an_untolerated_taint_evicts_at_once() {
        check("", "lost", "100");
        check("other", "lost", "100");
        check("lost=300", "lost other", "100");
        check("", "", "stay");
    }

    #[test]
    fn a_toleration_lasts_from_when_the_taint_was_added() {
        check("lost=300", "lost", "400");
        check("lost=300", "lost@90", "390");
        check("lost=0", "lost@90", "90");
        check("lost", "lost@50", "stay");
    }

    #[test]
    fn a_pod_that_came_after_the_taint_has_its_full_time() {
        check("lost=300", "lost@50", "370");
    }

    #[test]
    fn the_shortest_time_counts() {
        check("a=300 b=60", "a@100 b@100", "160");
        check("a=300 a=10", "a@100", "110");
    }
}
