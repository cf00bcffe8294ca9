//! One stored object in several forms: what is written in one is read, selected and watched in the other.

mod common;

use common::{Got, World};
use serde_json::{Value, json};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

#[tokio::test]
async fn an_autoscaler_is_the_same_in_both_versions() {
    let w = World::new().await;
    let old = json!({ "metadata": { "name": "a" }, "spec": { "maxReplicas": 5, "targetCPUUtilizationPercentage": 70,
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" } } });
    let mut one = w.watch(&format!("{V1}?watch=1")).await;
    let mut two = w.watch(&format!("{V2}?watch=1")).await;
    let made = check(&w.post(V1, &old).await, "201");
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70);
    let new = check(&w.get(&format!("{V2}/a")).await, "200");
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(
        new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    assert_eq!(new["metadata"]["uid"], made["metadata"]["uid"]);
    for (events, version) in [(&mut one, "autoscaling/v1"), (&mut two, "autoscaling/v2")] {
        let event = events.next().await.expect("an event");
        assert_eq!(event["object"]["apiVersion"], version);
        assert_eq!(
            event["object"]["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"]
        );
    }
    let more = json!({ "spec": { "metrics": [
        { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } },
        { "type": "Pods", "pods": { "metric": { "name": "q" }, "target": { "type": "AverageValue", "averageValue": "1" } } }] } });
    check(&w.patch(&format!("{V2}/a"), "merge", &more).await, "200");
    // A client of the old version changes what it knows and loses nothing of the rest.
    let change = json!({ "spec": { "maxReplicas": 9 } });
    let changed = check(&w.patch(&format!("{V1}/a"), "merge", &change).await, "200");
    assert_eq!(changed["spec"]["targetCPUUtilizationPercentage"], 50);
    let new = check(&w.get(&format!("{V2}/a")).await, "200");
    assert_eq!(new["spec"]["maxReplicas"], 9);
    assert_eq!(new["spec"]["metrics"].as_array().map(Vec::len), Some(2));
    let again = check(&w.put(&format!("{V1}/a"), &changed).await, "200");
    assert_eq!(
        again["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"],
        "no change, no write"
    );
    let list = check(&w.get(V1).await, "200 HorizontalPodAutoscalerList");
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 50);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = check(&w.ask("GET", V1, &[("accept", table)], "").await, "200");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    check(&w.delete(&format!("{V1}/a"), &json!({})).await, "200");
    check(&w.get(&format!("{V2}/a")).await, "404");
}

#[tokio::test]
async fn an_event_is_the_same_in_both_groups() {
    let w = World::new().await;
    let event = json!({ "metadata": { "name": "e" }, "reason": "R", "message": "m", "type": "Normal",
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        "source": { "component": "c" }, "count": 2 });
    let made = check(&w.post(CORE, &event).await, "201");
    let seen = check(&w.get(&format!("{EVENTS}/e")).await, "200");
    assert_eq!(seen["apiVersion"], "events.k8s.io/v1");
    assert_eq!(seen["regarding"]["name"], "p");
    assert_eq!(seen["note"], "m");
    assert_eq!(seen["metadata"]["uid"], made["metadata"]["uid"]);
    for (path, selector) in [(CORE, "involvedObject.name%3Dp"), (EVENTS, "regarding.name%3Dp")] {
        let list = check(&w.get(&format!("{path}?fieldSelector={selector}")).await, "200");
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{path}");
        let other = selector.replace("%3Dp", "%3Dq");
        let list = check(&w.get(&format!("{path}?fieldSelector={other}")).await, "200");
        assert_eq!(list["items"], json!([]), "{path}");
    }
    check(&w.delete(&format!("{EVENTS}/e"), &json!({})).await, "200");
    check(&w.get(&format!("{CORE}/e")).await, "404");
}
