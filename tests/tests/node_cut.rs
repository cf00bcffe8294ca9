//! A node that is cut off becomes NotReady, its Pods leave the endpoints, and it comes back without a restart.

use std::time::Duration;

use corten_tests::wait::expect;
use corten_tests::{Cluster, eventually, load, manifests, within};
use serde_json::Value;

fn ready(node: &Value) -> String {
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("missing")
        .to_owned()
}

#[test]
fn a_node_that_is_cut_off_leaves_and_comes_back() {
    let cluster = Cluster::with_images("cut", 2);
    let kubectl = cluster.kubectl();
    kubectl.apply(&manifests::list(&[
        manifests::web("web", 4),
        manifests::service("web"),
    ]));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let on_node = |node: &str| -> Vec<Value> {
        let pods = kubectl.pods("app=web").expect("listed");
        pods.into_iter()
            .filter(|pod| pod["spec"]["nodeName"] == node)
            .collect()
    };
    let lost = on_node("node-1");
    assert!(!lost.is_empty(), "no Pod on node-1");
    let addresses: Vec<String> = lost
        .iter()
        .map(|pod| pod["status"]["podIP"].as_str().expect("an address").to_owned())
        .collect();

    let node_ports = cluster.node_ports("web");
    let there = &node_ports[0];

    cluster.fault("cut", "node-1");
    let took = within("node-1 is NotReady", Duration::from_secs(70), || {
        let status = ready(&kubectl.try_json("node node-1")?);
        expect(status == "Unknown", || format!("Ready is {status}"))
    });
    println!("NotReady after {took:?}");
    // 40 s without a sign of life, as with kube-controller-manager's default; checked every 5 s there.
    assert!(
        took > Duration::from_secs(28) && took < Duration::from_secs(55),
        "{took:?}"
    );
    eventually("its Pods leave the endpoints", Duration::from_secs(15), || {
        let slices = kubectl
            .try_json("endpointslices -l kubernetes.io/service-name=web")?
            .to_string();
        let slices: Value = serde_json::from_str(&slices).map_err(|error| error.to_string())?;
        let items = slices["items"].as_array().cloned().unwrap_or_default();
        let endpoints = items
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let still = endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter(|endpoint| {
                addresses
                    .iter()
                    .any(|address| endpoint["addresses"][0] == **address)
            })
            .count();
        expect(still == 0, || format!("{still} of them are still ready"))
    });
    eventually("the rules follow", Duration::from_secs(10), || load::get(there));
    for _ in 0..30 {
        load::get(there).expect("only Pods that are there are asked");
    }
    let taints = kubectl.json("node node-1")["spec"]["taints"].to_string();
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");

    cluster.fault("heal", "node-1");
    eventually("node-1 is Ready again", Duration::from_secs(60), || {
        let status = ready(&kubectl.try_json("node node-1")?);
        expect(status == "True", || format!("Ready is {status}"))
    });
    eventually("its Pods are ready again", Duration::from_secs(60), || {
        let now = kubectl.pods("app=web")?;
        let again = lost.iter().filter(|old| {
            now.iter().any(|pod| {
                pod["metadata"]["uid"] == old["metadata"]["uid"]
                    && pod["status"]["containerStatuses"][0]["ready"] == true
                    && pod["status"]["conditions"].as_array().is_some_and(|conditions| {
                        conditions
                            .iter()
                            .any(|c| c["type"] == "Ready" && c["status"] == "True")
                    })
            })
        });
        expect(again.count() == lost.len(), || "not all".to_owned())
    });
    for (old, now) in lost.iter().zip(on_node("node-1")) {
        assert_eq!(now["status"]["containerStatuses"][0]["restartCount"], 0, "{now}");
        let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        assert_eq!(id(&now), id(old), "the container was started anew");
    }
    let taints = kubectl.json("node node-1")["spec"]["taints"].to_string();
    assert!(!taints.contains("unreachable"), "{taints}");
}
