//! What dies comes back, and what must live on does: containers, Pods, the agent, containerd.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_tests::load::Load;
use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Kubectl, eventually, faults, manifests};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn what_dies_comes_back() {
    let cluster = Cluster::with_images("heal", 2);
    let kubectl = cluster.kubectl();
    let mut cases = Cases::new();
    cases.case(
        "kill -9 of a container's process: restarted with back-off",
        || container_killed(&cluster),
    );
    kubectl.apply(&manifests::list(&[
        manifests::web("web", 4),
        manifests::service("web"),
    ]));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    cases.case("a deleted Pod is replaced and the endpoints follow", || {
        pod_deleted(kubectl)
    });
    cases.case("kill -9 of an agent: containers and Services go on", || {
        agent_killed(&cluster)
    });
    cases.case("kill -9 of containerd: containers and Services go on", || {
        containerd_killed(&cluster)
    });
    cases.finish();
}

fn container_killed(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let mut pod = manifests::shell("victim", "sleep 100000");
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    kubectl.apply(&pod);
    kubectl.ok("wait --for=condition=Ready pod/victim --timeout=60s");
    let mut waits = Vec::new();
    for restarts in 1..=3 {
        let before = kubectl.json("pod victim");
        faults::kill_container(cluster, &before);
        let killed = std::time::Instant::now();
        eventually("the container runs again", DEADLINE, || {
            let pod = kubectl.try_json("pod victim")?;
            let status = &pod["status"]["containerStatuses"][0];
            expect(
                status["restartCount"] == restarts && status["state"]["running"].is_object(),
                || status.to_string(),
            )
        });
        waits.push(killed.elapsed());
        let after = kubectl.json("pod victim");
        let last = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["exitCode"], 137, "{last}");
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        assert_ne!(faults::container_id(&after), faults::container_id(&before));
    }
    // The first restart is at once, the second waits 10 s, the third 20 s. Source: Pod lifecycle, restart policy.
    assert!(waits[0] < Duration::from_secs(8), "{waits:?}");
    assert!(
        waits[1] > Duration::from_secs(8) && waits[1] < Duration::from_secs(18),
        "{waits:?}"
    );
    assert!(waits[2] > Duration::from_secs(17), "{waits:?}");
    let events = kubectl.ok("get events --field-selector involvedObject.name=victim");
    assert!(
        events.contains("BackOff") && events.contains("Started"),
        "{events}"
    );
    kubectl.ok("delete pod victim");
}

fn ready_addresses(kubectl: &Kubectl, service: &str) -> Result<Vec<String>, String> {
    let slices = kubectl.try_json(&format!("endpointslices -l kubernetes.io/service-name={service}"))?;
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let mut addresses: Vec<String> = ready
        .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
        .collect();
    addresses.sort();
    Ok(addresses)
}

fn pod_deleted(kubectl: &Kubectl) {
    let pods = kubectl.pods("app=web").expect("listed");
    let name = pods[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let address = pods[0]["status"]["podIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    kubectl.ok(&format!("delete pod {name} --wait=false"));
    eventually(
        "the Pod leaves the endpoints before it is gone",
        Duration::from_secs(3),
        || {
            let addresses = ready_addresses(kubectl, "web")?;
            expect(!addresses.contains(&address), || format!("{addresses:?}"))
        },
    );
    eventually("four Pods are ready and in the endpoints", DEADLINE, || {
        let mut want: Vec<String> = kubectl
            .pods("app=web")?
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| pod["status"]["podIP"].as_str().map(str::to_owned))
            .collect();
        want.sort();
        let addresses = ready_addresses(kubectl, "web")?;
        expect(addresses.len() == 4 && addresses == want, || {
            format!("{addresses:?}, Pods {want:?}")
        })
    });
    let events = kubectl.ok("get events --field-selector reason=SuccessfulCreate");
    assert!(events.contains("Created pod: web-"), "{events}");
}

/// Container id, restarts and pid of every Pod of the Deployment.
fn containers(cluster: &Cluster) -> BTreeMap<String, (String, Value, u32)> {
    let pods = cluster.kubectl().pods("app=web").expect("listed");
    let of = |pod: &Value| {
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
        (
            faults::container_id(pod),
            restarts,
            faults::container_pid(cluster, pod),
        )
    };
    let name = |pod: &Value| pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let stays = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    stays.map(|pod| (name(pod), of(pod))).collect()
}

/// Runs `fault` under load: no request may fail, and every container must be the same afterwards.
fn survives(cluster: &Cluster, fault: impl FnOnce()) {
    let kubectl = cluster.kubectl();
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let addresses = cluster.node_ports("web");
    let before = containers(cluster);
    let load = Load::start(&addresses, 2, Duration::from_millis(50));
    fault();
    // A new Pod on the node proves that the agent and its containerd work again.
    let mut probe = manifests::shell("probe", "sleep 100000");
    probe["spec"]["nodeName"] = "node-0".into();
    kubectl.apply(&probe);
    kubectl.ok("wait --for=condition=Ready pod/probe --timeout=60s");
    assert_eq!(kubectl.ok("exec probe -- echo alive").trim(), "alive");
    kubectl.ok("delete pod probe");
    let report = load.stop();
    assert!(
        report.failures.is_empty(),
        "of {}: {:?}",
        report.total(),
        report.failures.first()
    );
    assert_eq!(containers(cluster), before, "containers changed");
    let nodes = kubectl.ok("get nodes");
    assert!(!nodes.contains("NotReady"), "{nodes}");
}

fn agent_killed(cluster: &Cluster) {
    survives(cluster, || {
        cluster.fault("kill", "node-0");
        cluster.fault("start", "node-0");
    });
}

fn containerd_killed(cluster: &Cluster) {
    survives(cluster, || faults::kill_containerd(cluster, "node-0"));
}
