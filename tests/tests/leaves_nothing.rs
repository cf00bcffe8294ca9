//! After `cluster delete` the machine is as it was before `cluster create`.

use std::time::Duration;

use corten_tests::leftovers::Machine;
use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, eventually, manifests};

/// The kernel takes namespaces and their links down in the background.
const DEADLINE: Duration = Duration::from_secs(30);

/// Clusters of somebody else that run beside this test.
fn others() -> Vec<String> {
    let folder = std::fs::read_dir(corten_tests::cluster::STATE)
        .into_iter()
        .flatten()
        .flatten();
    folder
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.contains("gone"))
        .collect()
}

#[track_caller]
fn check(before: &Machine) {
    eventually("nothing is left", DEADLINE, || {
        let added = Machine::look().added_since(before, &others());
        expect(added.is_empty(), || format!("left behind:\n{}", added.join("\n")))
    });
}

#[test]
fn deleting_a_cluster_leaves_nothing() {
    let mut cases = Cases::new();
    let before = Machine::look();
    cases.case("with Pods, Services and volumes", || {
        let cluster = Cluster::with_images("gone", 2);
        let kubectl = cluster.kubectl();
        let mut shell = manifests::shell("shell", "echo hello > /scratch/file; sleep 100000");
        shell["spec"]["volumes"] = serde_json::json!([{"name": "scratch", "emptyDir": {}}]);
        let mount = serde_json::json!([{"name": "scratch", "mountPath": "/scratch"}]);
        shell["spec"]["containers"][0]["volumeMounts"] = mount;
        kubectl.apply(&manifests::list(&[
            manifests::web("web", 3),
            manifests::service("web"),
            shell,
        ]));
        kubectl.ok("rollout status deployment/web --timeout=60s");
        kubectl.ok("wait --for=condition=Ready pod/shell --timeout=60s");
        cluster.delete();
        check(&before);
        // A second delete of nothing is no error.
        cluster.delete();
        check(&before);
    });
    cases.case("after agent, server and containerd were killed", || {
        let cluster = Cluster::with_images("gone", 1);
        cluster.kubectl().apply(&manifests::web("web", 2));
        cluster
            .kubectl()
            .ok("rollout status deployment/web --timeout=60s");
        cluster.fault("kill", "node-0");
        corten_tests::faults::kill_containerd(&cluster, "node-0");
        cluster.fault("kill", "server-0");
        cluster.delete();
        check(&before);
    });
    cases.finish();
}
