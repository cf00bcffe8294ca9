//! Evictions: what a PodDisruptionBudget lets through, and what it remembers.

mod common;

use common::{Got, PODS, World, pod};
use serde_json::{Value, json};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

/// A Pod of the app `web` on a node, in this phase, ready or not.
async fn running(w: &World, name: &str, phase: &str, ready: bool) {
    let mut object = pod(name);
    object["metadata"]["labels"] = json!({ "app": "web" });
    object["spec"]["nodeName"] = "n1".into();
    check(&w.post(PODS, &object).await, "201");
    let ready = if ready { "True" } else { "False" };
    let status =
        json!({ "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] } });
    check(
        &w.patch(&format!("{PODS}/{name}/status"), "merge", &status).await,
        "200",
    );
}

/// A budget for the app `web`, as its controller has left it.
async fn budget(w: &World, name: &str, spec: Value, status: Value) {
    let mut object =
        json!({ "metadata": { "name": name }, "spec": { "selector": { "matchLabels": { "app": "web" } } } });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    check(&w.post(BUDGETS, &object).await, "201");
    let mut status = status;
    status["observedGeneration"] = 1.into();
    let patch = json!({ "status": status });
    check(
        &w.patch(&format!("{BUDGETS}/{name}/status"), "merge", &patch)
            .await,
        "200",
    );
}

fn eviction(name: &str) -> Value {
    json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name, "namespace": "default" } })
}

async fn evict(w: &World, name: &str) -> Got {
    w.post(&format!("{PODS}/{name}/eviction"), &eviction(name)).await
}

fn allows(number: i64) -> Value {
    json!({ "disruptionsAllowed": number, "currentHealthy": 3, "desiredHealthy": (3 - number).max(0), "expectedPods": 3 })
}

#[tokio::test]
async fn a_budget_is_charged_in_the_transaction_of_the_deletion() {
    let w = World::new().await;
    for name in ["a", "b"] {
        running(&w, name, "Running", true).await;
    }
    budget(&w, "web", json!({ "minAvailable": 2 }), allows(1)).await;
    let done = check(&evict(&w, "a").await, "201 Success");
    assert_eq!(done["code"], 201);
    let gone = check(&w.get(&format!("{PODS}/a")).await, "200");
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    let condition = gone["status"]["conditions"]
        .as_array()
        .and_then(|list| list.iter().find(|c| c["type"] == "DisruptionTarget"))
        .expect("the Pod says why");
    assert_eq!(condition["reason"], "EvictionByEvictionAPI");
    let left = check(&w.get(&format!("{BUDGETS}/web")).await, "200");
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    assert!(left["status"]["disruptedPods"]["a"].is_string());
    assert_eq!(left["status"]["conditions"][0]["reason"], "InsufficientPods");

    let refused = evict(&w, "b").await;
    let status = check(
        &refused,
        "429 Cannot evict pod as it would violate the pod's disruption budget.",
    );
    assert_eq!(status["details"]["causes"][0]["reason"], "DisruptionBudget");
    assert!(!refused.headers.contains_key("retry-after"));
    // One that is going already needs nobody's leave.
    check(&evict(&w, "a").await, "201");
}

#[tokio::test]
async fn what_an_eviction_is_answered() {
    let w = World::new().await;
    for (name, phase, ready) in [
        ("pending", "Pending", false),
        ("done", "Succeeded", false),
        ("sick", "Running", false),
        ("well", "Running", true),
    ] {
        running(&w, name, phase, ready).await;
    }
    budget(&w, "web", json!({ "minAvailable": 3 }), allows(0)).await;
    check(&evict(&w, "no").await, "404 pods \\\"no\\\" not found");
    let other = w.post(&format!("{PODS}/well/eviction"), &eviction("sick")).await;
    check(&other, "400 name in URL does not match name in Eviction object");
    let mut wrong = eviction("well");
    wrong["kind"] = "Pod".into();
    check(&w.post(&format!("{PODS}/well/eviction"), &wrong).await, "400");
    let mut uid = eviction("pending");
    uid["deleteOptions"] = json!({ "preconditions": { "uid": "x" } });
    check(
        &w.post(&format!("{PODS}/pending/eviction"), &uid).await,
        "409 does not match the UID in record",
    );
    check(&evict(&w, "pending").await, "201");
    check(&evict(&w, "done").await, "201");
    // Three healthy, three wanted: the sick one is none of them.
    check(&evict(&w, "sick").await, "201");
    check(&evict(&w, "well").await, "429");
    budget(&w, "another", json!({ "maxUnavailable": 1 }), allows(1)).await;
    check(
        &evict(&w, "well").await,
        "500 This pod has more than one PodDisruptionBudget",
    );
    check(&w.delete(&format!("{BUDGETS}/web"), &json!({})).await, "200");
    for dry in [
        w.post(&format!("{PODS}/well/eviction?dryRun=All"), &eviction("well"))
            .await,
        {
            let mut dry = eviction("well");
            dry["deleteOptions"] = json!({ "dryRun": ["All"] });
            w.post(&format!("{PODS}/well/eviction"), &dry).await
        },
    ] {
        check(&dry, "201");
    }
    let kept = check(&w.get(&format!("{PODS}/well")).await, "200");
    assert!(kept["metadata"]["deletionTimestamp"].is_null());
    let spec = json!({ "spec": { "maxUnavailable": 2 } });
    check(
        &w.patch(&format!("{BUDGETS}/another"), "merge", &spec).await,
        "200",
    );
    let early = evict(&w, "well").await;
    check(
        &early,
        "429 The disruption budget another is still being processed by the server.",
    );
    assert_eq!(early.headers["retry-after"], "10");
    check(&w.delete(&format!("{BUDGETS}/another"), &json!({})).await, "200");
    let mut old = eviction("well");
    old["apiVersion"] = "policy/v1beta1".into();
    check(&w.post(&format!("{PODS}/well/eviction"), &old).await, "201");
}

#[tokio::test]
async fn sick_pods_and_the_policy() {
    let w = World::new().await;
    running(&w, "sick", "Running", false).await;
    let short =
        json!({ "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 2, "expectedPods": 3 });
    budget(&w, "web", json!({ "minAvailable": 2 }), short).await;
    check(
        &evict(&w, "sick").await,
        "429 The disruption budget web needs 2 healthy pods and has 1 currently",
    );
    let policy = json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } });
    check(&w.patch(&format!("{BUDGETS}/web"), "merge", &policy).await, "200");
    check(&evict(&w, "sick").await, "201");
}

/// Whatever the race, no more Pods go than the budget allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_side_by_side_never_overdraw() {
    const PODS_IN_ALL: usize = 24;
    for allowed in [0, 1, 5, 24] {
        let w = World::new().await;
        for i in 0..PODS_IN_ALL {
            running(&w, &format!("p{i}"), "Running", true).await;
        }
        budget(&w, "web", json!({ "maxUnavailable": 5 }), allows(allowed)).await;
        let all = (0..PODS_IN_ALL).map(|i| {
            let w = &w;
            async move { evict(w, &format!("p{i}")).await.code }
        });
        let codes = futures::future::join_all(all).await;
        let went = i64::try_from(codes.iter().filter(|code| **code == 201).count()).expect("few");
        assert_eq!(went, allowed, "{codes:?}");
        assert!(codes.iter().all(|code| matches!(code, 201 | 429)));
        let left = check(&w.get(&format!("{BUDGETS}/web")).await, "200");
        assert_eq!(left["status"]["disruptionsAllowed"], 0);
        let remembered = left["status"]["disruptedPods"]
            .as_object()
            .map_or(0, serde_json::Map::len);
        assert_eq!(remembered as i64, allowed);
        let pods = check(&w.get(PODS).await, "200");
        let going = pods["items"].as_array().into_iter().flatten();
        let going = going
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_string())
            .count();
        assert_eq!(going as i64, allowed);
    }
}
