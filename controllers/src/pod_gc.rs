//! Pod garbage collection: Pods no node will ever report on again.
//!
//! [`fate`] and [`surplus`] decide; this file waits and deletes. Source of the rules: the Pod garbage collector,
//! Kubernetes 1.36.

use std::sync::Arc;
use std::time::Duration;

use corten_api::pod::is_terminal;
use corten_client::cache::index;
use corten_client::{
    ApiClient, Cache, Change, Controller, ObjectExt, ObjectKey, QueueHandle, Requeue, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::apply;
use crate::context::{Context, Doing, SyncError, time};
use crate::pod::node_name;

const WORKERS: usize = 5;
/// How long a Node must be gone before its Pods count as lost. Source: the Pod garbage collector's quarantine.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Index of finished Pods, all under one value.
const TERMINAL: &str = "terminal";

struct Ctx {
    api: ApiClient,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    threshold: usize,
}

#[derive(Debug, PartialEq)]
enum Fate {
    Keep,
    /// Its Node does not exist, as far as the cache shows.
    Orphaned,
    /// Deleted before it ever got a Node: nobody will confirm it.
    NeverPlaced,
}

pub async fn run(context: Context, threshold: usize) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        nodes: context.cache(),
        pods: context
            .cache::<Pod>()
            .with_index(index::NODE, index::node)
            .with_index(TERMINAL, |pod| {
                if is_terminal(pod) {
                    vec![String::new()]
                } else {
                    vec![]
                }
            }),
        threshold,
    });
    let controller = Controller::new("podgc").workers(WORKERS);
    let queue = controller.handle();
    let (for_nodes, node_queue, for_pods) = (ctx.clone(), queue.clone(), ctx.clone());
    controller
        .watch(&ctx.nodes, move |change| {
            if let Change::Deleted(node) = change {
                let pods = for_nodes.pods.by_index(index::NODE, node.name());
                pods.iter()
                    .for_each(|pod| node_queue.add_after(pod.key(), QUARANTINE));
            }
            vec![]
        })
        .watch(&ctx.pods, move |change| pod_changed(&for_pods, &queue, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn pod_changed(ctx: &Ctx, queue: &QueueHandle, change: &Change<Pod>) -> Vec<ObjectKey> {
    let Change::Applied { old, new } = change else {
        return vec![];
    };
    match fate(new, node_exists(ctx, new)) {
        Fate::NeverPlaced => return vec![new.key()],
        // During the first list Nodes may simply not be known yet; after the quarantine they are.
        Fate::Orphaned if old.as_ref().is_none_or(|old| node_name(old) != node_name(new)) => {
            queue.add_after(new.key(), QUARANTINE);
        }
        _ => {}
    }
    let finished = is_terminal(new) && old.as_ref().is_none_or(|old| !is_terminal(old));
    if finished && ctx.pods.index_len(TERMINAL, "") > ctx.threshold {
        vec![new.key()]
    } else {
        vec![]
    }
}

fn node_exists(ctx: &Ctx, pod: &Pod) -> bool {
    ctx.nodes.get(&ObjectKey::cluster(node_name(pod))).is_some()
}

fn fate(pod: &Pod, node_exists: bool) -> Fate {
    match (node_name(pod).is_empty(), pod.is_terminating()) {
        (true, true) => Fate::NeverPlaced,
        (false, _) if !node_exists => Fate::Orphaned,
        _ => Fate::Keep,
    }
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    if let Some(pod) = ctx.pods.get(key) {
        match fate(&pod, node_exists(ctx, &pod)) {
            Fate::Keep => {}
            Fate::NeverPlaced => delete(ctx, &pod, writes).await?,
            Fate::Orphaned => {
                let node = ObjectKey::cluster(node_name(&pod));
                // The cache is no proof.
                let live = ctx
                    .api
                    .get::<Node>(&node)
                    .await
                    .doing(|| format!("look for node {node}"))?;
                if live.is_none() {
                    fail(ctx, &pod, writes).await?;
                    delete(ctx, &pod, writes).await?;
                }
            }
        }
    }
    if ctx.pods.index_len(TERMINAL, "") > ctx.threshold {
        for pod in surplus(ctx.pods.by_index(TERMINAL, ""), ctx.threshold) {
            delete(ctx, &pod, writes).await?;
        }
    }
    Ok(None)
}

/// Finished Pods beyond the threshold, oldest first. Pods already being deleted count but need nothing more.
fn surplus(mut terminal: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    terminal.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    terminal.truncate(terminal.len().saturating_sub(threshold));
    terminal.retain(|pod| !pod.is_terminating());
    terminal
}

/// A Pod whose node is gone did not succeed.
async fn fail(ctx: &Ctx, pod: &Pod, writes: &Writes) -> Result<(), SyncError> {
    if is_terminal(pod) {
        return Ok(());
    }
    let status = json!({
        "phase": "Failed",
        "conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": time(Timestamp::now()),
        }],
    });
    apply::patch_pod_status(&ctx.api, &ctx.pods, pod, status, writes)
        .await
        .map(drop)
}

/// At once: there is no node that could end it in good order.
async fn delete(ctx: &Ctx, pod: &Pod, writes: &Writes) -> Result<(), SyncError> {
    apply::delete(&ctx.api, &ctx.pods, pod, Some(0), writes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    fn pod(name: &str, node: &str, dying: bool, age: i64) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                creation_timestamp: Some(Time(Timestamp::from_second(1_000 - age).expect("a time"))),
                deletion_timestamp: dying.then_some(Time(Timestamp::UNIX_EPOCH)),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: Some(node.into()),
                ..Default::default()
            }),
            status: None,
        })
    }

    #[track_caller]
    fn check(node: &str, dying: bool, node_exists: bool, wanted: Fate) {
        assert_eq!(fate(&pod("a", node, dying, 0), node_exists), wanted);
    }

    #[test]
    fn only_pods_nobody_answers_for_go() {
        check("n", false, true, Fate::Keep);
        check("n", true, true, Fate::Keep);
        check("n", false, false, Fate::Orphaned);
        check("n", true, false, Fate::Orphaned);
        check("", true, false, Fate::NeverPlaced);
        check("", false, false, Fate::Keep);
    }

    #[test]
    fn finished_pods_beyond_the_threshold_go_oldest_first() {
        let pods = vec![
            pod("young", "n", false, 1),
            pod("old", "n", false, 9),
            pod("dying", "n", true, 5),
        ];
        let names = |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(surplus(pods.clone(), 2)), ["old"]);
        assert_eq!(names(surplus(pods.clone(), 1)), ["old"]);
        assert_eq!(names(surplus(pods.clone(), 0)), ["old", "young"]);
        assert!(surplus(pods, 3).is_empty());
    }
}
