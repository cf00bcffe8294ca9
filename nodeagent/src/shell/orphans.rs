//! Ends what belongs to Pods that are no longer bound to this node: sandboxes, directories, cgroups, state.
//!
//! Runs once, after the first full list of Pods: by then everything else on the node has a worker, and whatever comes
//! later gets one before it starts anything.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::Shared;
use crate::pod::containers::is_running;
use crate::runtime::Sandbox;
use crate::volume::mount::{PodDirectory, remove_all};

/// Grace period for containers whose Pod, and with it its own grace period, is gone. Source: the Pod default.
const GRACE: Duration = Duration::from_secs(30);

/// `known`: uids of all Pods bound to this node.
pub async fn sweep(shared: Arc<Shared>, known: BTreeSet<String>) {
    let sandboxes = match shared.runtime.list().await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return tracing::warn!(%error, "orphans are not looked for: no list from the runtime"),
    };
    let orphans = sandboxes
        .iter()
        .filter(|sandbox| !known.contains(&sandbox.pod.uid));
    join_all(orphans.map(|sandbox| end(&shared, sandbox))).await;
    let pods = shared.pods.clone();
    let cgroups = shared.cgroups.clone();
    let root = shared.place.cgroup_root.clone();
    let logs = shared.place.logs.clone();
    let swept = tokio::task::spawn_blocking(move || {
        for entry in fs::read_dir(&pods).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path() != logs && !known.contains(&name) {
                report(remove_all(&PodDirectory::new(&pods, &name)), &name);
            }
        }
        for entry in fs::read_dir(&logs).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.rsplit('_').next().is_some_and(|uid| known.contains(uid)) {
                report(fs::remove_dir_all(entry.path()), &name);
            }
        }
        let Some(cgroups) = cgroups else { return };
        for class in ["", "/burstable", "/besteffort"] {
            let parent = format!("{root}/kubepods{class}");
            for child in cgroups.children(&parent) {
                if child.strip_prefix("pod").is_some_and(|uid| !known.contains(uid)) {
                    report(cgroups.remove(&format!("{parent}/{child}")), &child);
                }
            }
        }
    });
    if let Err(error) = swept.await {
        tracing::error!(%error, "orphan clean-up ended early");
    }
}

async fn end(shared: &Shared, sandbox: &Sandbox) {
    tracing::info!(
        pod = sandbox.pod.name,
        uid = sandbox.pod.uid,
        "ending an orphaned Pod"
    );
    let running = sandbox
        .containers
        .iter()
        .filter(|container| is_running(container));
    let stops = running.map(|container| {
        let named = container
            .annotations
            .get("io.kubernetes.pod.terminationGracePeriod");
        let grace = named
            .and_then(|text| text.parse().ok())
            .map_or(GRACE, Duration::from_secs);
        shared.runtime.stop_container(&container.id, grace)
    });
    for result in join_all(stops).await {
        if let Err(error) = result {
            tracing::warn!(%error, "stop an orphaned container");
        }
    }
    for result in [
        shared.runtime.stop_sandbox(&sandbox.id).await,
        shared.runtime.remove_sandbox(&sandbox.id).await,
    ] {
        if let Err(error) = result {
            tracing::warn!(%error, "remove an orphaned sandbox");
        }
    }
    shared.state.remove(&sandbox.pod.uid);
}

fn report(result: std::io::Result<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, what, "remove what an old Pod left behind");
    }
}
