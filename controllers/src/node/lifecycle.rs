//! Node lifecycle: a silent node becomes unknown, its Pods leave the endpoints, taints follow the conditions.
//!
//! [`plan`] decides from what [`health`](super::health) heard; this file listens and applies. Nothing polls: each
//! node has one timer, set to when its silence would become too long.
//! Source of the rules: the node lifecycle controller, Kubernetes 1.36.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_api::pod::is_ready;
use corten_client::cache::index;
use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, Patch, QueueHandle,
    Requeue, Selection, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use parking_lot::Mutex;
use serde_json::json;

use super::health::{self, Heartbeats, ready_status};
use super::taints;
use crate::apply;
use crate::context::{Context, Doing, SyncError, time};

const WORKERS: usize = 8;
/// Where nodes keep their Leases.
const LEASES: &str = "kube-node-lease";

const NODE_NOT_READY: &str = "NodeNotReady";
const REGISTERED_NODE: &str = "RegisteredNode";

struct Ctx {
    api: ApiClient,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    heartbeats: Mutex<Heartbeats>,
    grace_period: Duration,
    recorder: EventRecorder,
}

/// What one look at a node asks for.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    conditions: Vec<NodeCondition>,
    taints: Option<Vec<Taint>>,
    /// The node is unknown: whatever its Pods last said of themselves does not count any more.
    pods_not_ready: bool,
    look_again: Option<Duration>,
}

pub async fn run(context: Context, grace_period: Duration) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        nodes: context.cache(),
        pods: context.cache::<Pod>().with_index(index::NODE, index::node),
        heartbeats: Mutex::default(),
        grace_period,
        recorder: context.recorder("node-controller"),
    });
    let leases: Cache<Lease> = context.informers.informer(Selection::namespace(LEASES));
    let controller = Controller::new("nodelifecycle").workers(WORKERS);
    let queue = controller.handle();
    let (for_nodes, for_leases, for_pods) = (ctx.clone(), ctx.clone(), ctx.clone());
    controller
        .watch(&ctx.nodes, move |change| node_changed(&for_nodes, &queue, change))
        .watch(&leases, move |change| lease_changed(&for_leases, change))
        .watch(&ctx.pods, move |change| pod_changed(&for_pods, change))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn node_changed(ctx: &Ctx, queue: &QueueHandle, change: &Change<Node>) -> Vec<ObjectKey> {
    match change {
        Change::Applied { old, new } => {
            if ctx.heartbeats.lock().status(new, Instant::now()) {
                let message = format!("Node {0} event: Registered Node {0} in Controller", new.name());
                ctx.recorder
                    .event(&**new, EventType::Normal, REGISTERED_NODE, message);
            }
            // While no node was ready, nothing was evicted; now that one is, the others must be looked at again.
            let recovers = |old: &Arc<Node>| ready_status(old) != "True" && ready_status(new) == "True";
            if old.as_ref().is_some_and(recovers) {
                ctx.nodes.list().iter().for_each(|node| queue.add(node.key()));
            }
            vec![new.key()]
        }
        Change::Deleted(old) => {
            ctx.heartbeats.lock().forget(old.name());
            vec![]
        }
        Change::Resync => vec![],
    }
}

/// A renewal is only noted; the node's timer sees it. Nothing else happens for the many renewals of healthy nodes.
fn lease_changed(ctx: &Ctx, change: &Change<Lease>) -> Vec<ObjectKey> {
    if let Change::Applied { new, .. } = change {
        let renewed = new
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref())
            .map(|time| time.0);
        if ctx.nodes.get(&ObjectKey::cluster(new.name())).is_some() {
            ctx.heartbeats.lock().lease(new.name(), renewed, Instant::now());
        }
    }
    vec![]
}

/// A Pod that shows up ready on an unknown node is late news.
fn pod_changed(ctx: &Ctx, change: &Change<Pod>) -> Vec<ObjectKey> {
    let Change::Applied { new, .. } = change else {
        return vec![];
    };
    let key = ObjectKey::cluster(crate::pod::node_name(new));
    if key.name.is_empty() || !is_ready(new) {
        return vec![];
    }
    ctx.nodes
        .get(&key)
        .filter(|node| is_unknown(node))
        .map(|_| key)
        .into_iter()
        .collect()
}

fn is_unknown(node: &Node) -> bool {
    health::ready(node).is_some_and(|condition| condition.status == "Unknown")
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(node) = ctx.nodes.get(key) else {
        return Ok(None);
    };
    let silence = ctx.heartbeats.lock().silence(&key.name, Instant::now());
    let any_ready = ctx.nodes.list().iter().any(|node| ready_status(node) == "True");
    let plan = plan(&node, silence, ctx.grace_period, any_ready, Timestamp::now());
    if !plan.conditions.is_empty() {
        let patch = json!({ "metadata": { "uid": node.uid() }, "status": { "conditions": plan.conditions } });
        let written = ctx.api.patch_status::<Node>(key, &Patch::Strategic(patch)).await;
        if written.as_ref().is_err_and(|error| error.code() == 0) {
            ctx.heartbeats.lock().deaf(Instant::now());
        }
        writes.wrote(
            &ctx.nodes,
            written
                .doing(|| format!("report node {key} as unknown"))?
                .revision,
        );
        let message = format!("Node {} status is now: {NODE_NOT_READY}", node.name());
        ctx.recorder
            .event(&*node, EventType::Normal, NODE_NOT_READY, message);
        // The next sync sees the conditions and does the rest.
        return Ok(None);
    }
    if let Some(taints) = &plan.taints {
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        }));
        let written = ctx
            .api
            .patch::<Node>(key, &patch)
            .await
            .doing(|| format!("taint node {key}"))?;
        writes.wrote(&ctx.nodes, written.revision);
    }
    if plan.pods_not_ready {
        for pod in ctx
            .pods
            .by_index(index::NODE, &key.name)
            .iter()
            .filter(|pod| is_ready(pod))
        {
            mark_not_ready(ctx, pod, writes).await?;
        }
    }
    if let Some(wait) = plan.look_again {
        ctx.heartbeats.lock().will_look(&key.name, Instant::now() + wait);
    }
    Ok(plan.look_again)
}

fn plan(node: &Node, silence: Duration, grace_period: Duration, any_ready: bool, now: Timestamp) -> Plan {
    let grace = health::grace(node, grace_period);
    let silent = silence >= grace;
    Plan {
        conditions: if silent {
            health::unknown(node, now)
        } else {
            Vec::new()
        },
        taints: taints::wanted(node, any_ready, now),
        pods_not_ready: is_unknown(node),
        look_again: (!silent).then(|| grace - silence),
    }
}

async fn mark_not_ready(ctx: &Ctx, pod: &Pod, writes: &Writes) -> Result<(), SyncError> {
    let status = json!({ "conditions": [
        { "type": "Ready", "status": "False", "lastTransitionTime": time(Timestamp::now()) },
    ]});
    if apply::patch_pod_status(&ctx.api, &ctx.pods, pod, status, writes).await? {
        ctx.recorder
            .event(pod, EventType::Warning, NODE_NOT_READY, "Node is not ready");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeStatus;

    /// A node with condition Ready of `status` (none if empty), silent for so many seconds.
    #[track_caller]
    fn check(status: &str, silent: u64, wanted: &str) {
        let mut node = Node::default();
        if !status.is_empty() {
            let ready = NodeCondition {
                type_: "Ready".into(),
                status: status.into(),
                ..Default::default()
            };
            node.status = Some(NodeStatus {
                conditions: Some(vec![ready]),
                ..Default::default()
            });
        }
        let grace = Duration::from_secs(40);
        let plan = plan(
            &node,
            Duration::from_secs(silent),
            grace,
            true,
            Timestamp::UNIX_EPOCH,
        );
        let ready = plan
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let text = format!(
            "{} {} {} {}",
            ready.map_or("-", |condition| condition.reason.as_deref().unwrap_or_default()),
            plan.taints.map_or("-".into(), |taints| taints.len().to_string()),
            if plan.pods_not_ready { "pods" } else { "-" },
            plan.look_again
                .map_or("-".into(), |wait| wait.as_secs().to_string()),
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_node_is_unknown_after_the_grace_period() {
        check("True", 10, "- - - 30");
        check("True", 40, "NodeStatusUnknown - - -");
        check("Unknown", 50, "- 2 pods -");
    }

    #[test]
    fn a_node_that_never_reported_gets_longer() {
        check("", 50, "- 1 - 10");
        check("", 60, "NodeStatusNeverUpdated 1 - -");
    }

    #[test]
    fn a_node_that_speaks_again_is_only_waited_for() {
        check("Unknown", 1, "- 2 pods 39");
    }
}
