//! Pod CIDRs: each Node gets its own part of the cluster's network, once and for good.
//!
//! [`next_free`] decides; one worker at a time, and what is on its way to the API counts as taken.
//! Source of the rules: the node IPAM controller's range allocator, Kubernetes 1.36.

use std::collections::HashMap;
use std::sync::Arc;

use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, Patch, Requeue,
    Writes,
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Doing, SyncError};

const CIDR_NOT_AVAILABLE: &str = "CIDRNotAvailable";

struct Ctx {
    api: ApiClient,
    nodes: Cache<Node>,
    cluster: IpNet,
    mask: u8,
    /// Given out, but not in the cache yet.
    pending: Mutex<HashMap<String, IpNet>>,
    recorder: EventRecorder,
}

pub async fn run(context: Context, cluster: IpNet, mask: u8) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        nodes: context.cache(),
        cluster,
        mask,
        pending: Mutex::default(),
        recorder: context.recorder("cidrAllocator"),
    });
    let controller = Controller::new("podcidr").workers(1);
    let queue = controller.handle();
    let for_nodes = ctx.clone();
    controller
        .watch(&ctx.nodes, move |change| match change {
            Change::Applied { new, .. } if cidr(new).is_none() => vec![new.key()],
            Change::Applied { new, .. } => {
                for_nodes.pending.lock().remove(new.name());
                vec![]
            }
            Change::Deleted(old) => {
                for_nodes.pending.lock().remove(old.name());
                // Its part is free for whoever waits for one.
                let waiting = for_nodes.nodes.list();
                waiting
                    .iter()
                    .filter(|node| cidr(node).is_none())
                    .for_each(|node| queue.add(node.key()));
                vec![]
            }
            Change::Resync => vec![],
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn cidr(node: &Node) -> Option<IpNet> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(node) = ctx
        .nodes
        .get(key)
        .filter(|node| cidr(node).is_none() && !node.is_terminating())
    else {
        return Ok(None);
    };
    let mut taken: Vec<IpNet> = ctx.nodes.list().iter().filter_map(|node| cidr(node)).collect();
    let mine = ctx.pending.lock().get(node.name()).copied();
    taken.extend(
        ctx.pending
            .lock()
            .iter()
            .filter(|(name, _)| *name != node.name())
            .map(|(_, cidr)| *cidr),
    );
    let Some(cidr) = mine.or_else(|| next_free(ctx.cluster, ctx.mask, &taken)) else {
        let message = format!("Node {} status is now: {CIDR_NOT_AVAILABLE}", node.name());
        ctx.recorder
            .event(&*node, EventType::Normal, CIDR_NOT_AVAILABLE, message);
        // The next node that goes brings this one back.
        return Ok(None);
    };
    ctx.pending.lock().insert(node.name().to_owned(), cidr);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": node.uid() },
        "spec": { "podCIDR": cidr.to_string(), "podCIDRs": [cidr.to_string()] },
    }));
    match ctx.api.patch::<Node>(key, &patch).await {
        Err(error) if error.is_not_found() => {
            ctx.pending.lock().remove(node.name());
            Ok(None)
        }
        result => {
            let written = result.doing(|| format!("give node {key} the Pod CIDR {cidr}"))?;
            writes.wrote(&ctx.nodes, written.revision);
            Ok(None)
        }
    }
}

/// The first part of `cluster` with prefix length `mask` that overlaps none in `taken`.
fn next_free(cluster: IpNet, mask: u8, taken: &[IpNet]) -> Option<IpNet> {
    let overlaps = |cidr: &IpNet| {
        taken
            .iter()
            .any(|other| other.contains(cidr) || cidr.contains(other))
    };
    cluster.subnets(mask).ok()?.find(|cidr| !overlaps(cidr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cluster: &str, mask: u8, taken: &str, wanted: &str) {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let taken: Vec<IpNet> = taken.split_whitespace().map(net).collect();
        let free = next_free(net(cluster), mask, &taken);
        assert_eq!(free.map_or("-".into(), |cidr| cidr.to_string()), wanted);
    }

    #[test]
    fn the_first_free_part_is_given() {
        check("10.244.0.0/16", 24, "", "10.244.0.0/24");
        check(
            "10.244.0.0/16",
            24,
            "10.244.0.0/24 10.244.2.0/24",
            "10.244.1.0/24",
        );
        check("10.244.0.0/23", 24, "10.244.0.0/24 10.244.1.0/24", "-");
        check("fd00::/48", 64, "fd00::/64", "fd00:0:0:1::/64");
    }

    #[test]
    fn parts_of_other_sizes_are_not_cut_into() {
        check("10.244.0.0/16", 24, "10.244.0.0/20", "10.244.16.0/24");
        check("10.244.0.0/16", 24, "10.244.0.128/25", "10.244.1.0/24");
    }
}
