//! What a cluster has from its first moment to tell how it serves, and rules that need more than the object.

mod common;

use common::World;
use serde_json::{Value, json};

const FLOW_CONTROL: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

async fn items(world: &World, path: &str) -> Vec<Value> {
    world.get(path).await.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_new_cluster_has_upstreams_flow_control_and_its_own_apiservices() {
    let world = World::new().await;
    assert_eq!(
        items(&world, &format!("{FLOW_CONTROL}/flowschemas")).await.len(),
        11
    );
    assert_eq!(
        items(&world, &format!("{FLOW_CONTROL}/prioritylevelconfigurations"))
            .await
            .len(),
        8
    );
    let services = items(&world, SERVICES).await;
    assert!(services.len() >= 20, "{}", services.len());
    for service in &services {
        assert_eq!(service["status"]["conditions"][0]["reason"], "Local", "{service}");
    }
}

#[tokio::test]
async fn what_was_changed_stays_and_what_was_deleted_comes_back() {
    let world = World::new().await;
    let level = format!("{FLOW_CONTROL}/prioritylevelconfigurations/workload-low");
    let patch = json!({"spec": {"limited": {"nominalConcurrencyShares": 7}}});
    assert_eq!(world.patch(&level, "merge", &patch).await.code, 200);
    let gone = format!("{SERVICES}/v1.apps");
    assert_eq!(world.delete(&gone, &json!({})).await.code, 200);
    world.server.bootstrap().await.expect("a second start");
    let kept = world.get(&level).await.json();
    assert_eq!(kept["spec"]["limited"]["nominalConcurrencyShares"], 7);
    assert_eq!(world.get(&gone).await.code, 200);
    let fixed = format!("{FLOW_CONTROL}/flowschemas/catch-all");
    let patch = json!({"spec": {"matchingPrecedence": 9000}});
    assert_eq!(world.patch(&fixed, "merge", &patch).await.code, 422);
}

#[tokio::test]
async fn administrative_access_needs_a_labelled_namespace() {
    let world = World::new().await;
    let claim = |admin: bool| {
        json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": admin}},
        ]}}})
    };
    const TEXT: &str = "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    let refused = world.post(CLAIMS, &claim(true)).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let cause = &refused.json()["details"]["causes"][0];
    assert_eq!(
        (&cause["field"], &cause["message"]),
        (&json!("spec.devices.requests[0].adminAccess"), &json!(TEXT))
    );
    assert_eq!(world.post(CLAIMS, &claim(false)).await.code, 201);
    let granted = json!({"status": {"allocation": {"devices": {"results": [
        {"request": "r", "driver": "d.io", "pool": "p", "device": "d", "adminAccess": true},
    ]}}}});
    let status = format!("{CLAIMS}/a/status");
    let refused = world.patch(&status, "merge", &granted).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    assert_eq!(
        world
            .patch("/api/v1/namespaces/default", "merge", &label)
            .await
            .code,
        200
    );
    let allowed = world.patch(&status, "merge", &granted).await;
    assert_eq!(allowed.code, 200, "{}", allowed.text);
}
