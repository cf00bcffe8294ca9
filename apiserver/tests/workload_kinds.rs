//! The workload and storage kinds through the whole server: created, read in every form, warned about.

mod common;

use common::{Got, World};
use serde_json::{Value, json};

#[track_caller]
fn check(got: &Got, code: u16) -> Value {
    assert_eq!(got.code, code, "{}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

/// Paths of the collections, with a body for each.
fn kinds() -> Vec<(&'static str, Value)> {
    let selected = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template()});
    let mut job = json!({"template": template()});
    job["template"]["spec"]["restartPolicy"] = "Never".into();
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume =
        json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/d"}});
    let scaler = json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"}});
    let of = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    vec![
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            of(selected.clone()),
        ),
        ("/apis/apps/v1/namespaces/default/daemonsets", of(selected)),
        (
            "/apis/apps/v1/namespaces/default/controllerrevisions",
            json!({"metadata": {"name": "a"}, "data": {"x": 1}, "revision": 1}),
        ),
        ("/apis/batch/v1/namespaces/default/jobs", of(job.clone())),
        (
            "/apis/batch/v1/namespaces/default/cronjobs",
            of(json!({"schedule": "0 * * * *", "jobTemplate": {"spec": job}})),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            of(scaler),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            of(json!({"minAvailable": 1})),
        ),
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            of(json!({"template": template()})),
        ),
        (
            "/api/v1/namespaces/default/podtemplates",
            json!({"metadata": {"name": "a"}, "template": template()}),
        ),
        ("/api/v1/namespaces/default/persistentvolumeclaims", of(claim)),
        ("/api/v1/persistentvolumes", of(volume)),
        (
            "/api/v1/namespaces/default/resourcequotas",
            of(json!({"hard": {"pods": "10"}})),
        ),
        (
            "/api/v1/namespaces/default/limitranges",
            of(json!({"limits": [{"type": "Container", "max": {"cpu": "1"}}]})),
        ),
    ]
}

#[tokio::test]
async fn every_kind_is_created_read_changed_and_deleted() {
    let w = World::new().await;
    for (path, body) in kinds() {
        let made = check(&w.post(path, &body).await, 201);
        let one = format!("{path}/a");
        assert_eq!(check(&w.get(&one).await, 200), made, "{path}");
        let list = check(&w.get(path).await, 200);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{path}");
        let patch = json!({"metadata": {"labels": {"x": "y"}}});
        let changed = check(&w.patch(&one, "merge", &patch).await, 200);
        assert_eq!(changed["metadata"]["labels"]["x"], "y", "{path}");
        if !path.ends_with("podtemplates") && !made["status"].is_null() {
            let mut status = changed.clone();
            status["metadata"]["labels"]["x"] = "z".into();
            check(&w.put(&format!("{one}/status"), &status).await, 200);
        }
        check(&w.put(&one, &check(&w.get(&one).await, 200)).await, 200);
        check(
            &w.delete(&one, &json!({"propagationPolicy": "Background"})).await,
            200,
        );
        if path.contains("persistentvolume") {
            // It waits for a controller to see that nobody uses it.
            let held = check(&w.get(&one).await, 200);
            assert!(held["metadata"]["deletionTimestamp"].is_string(), "{path}");
            let free = json!({"metadata": {"finalizers": []}});
            check(&w.patch(&one, "merge", &free).await, 200);
        }
        check(&w.get(&one).await, 404);
    }
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let w = World::new().await;
    let (one, two) = (
        "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
        "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    );
    let target = json!({"kind": "Deployment", "name": "a"});
    let body = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}});
    let made = check(&w.post(one, &body).await, 201);
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 80);
    let mut seen = check(&w.get(&format!("{two}/a")).await, 200);
    assert_eq!(
        (
            &seen["apiVersion"],
            &seen["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
        ),
        (&json!("autoscaling/v2"), &json!(80))
    );
    seen["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    check(&w.put(&format!("{two}/a"), &seen).await, 200);
    // A client of v1 changes its part and keeps the rest.
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 50}});
    check(&w.patch(&format!("{one}/a"), "merge", &patch).await, 200);
    let seen = check(&w.get(&format!("{two}/a")).await, 200);
    assert_eq!(
        seen["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        5
    );
    assert_eq!(
        seen["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    let listed = check(&w.get(one).await, 200);
    assert_eq!(listed["items"][0]["spec"]["targetCPUUtilizationPercentage"], 50);
}

#[tokio::test]
async fn deprecated_kinds_say_so_in_every_answer() {
    let w = World::new().await;
    let told = |got: &Got| -> Vec<String> {
        let values = got.headers.get_all("warning").iter();
        values.map(|v| v.to_str().expect("text").to_owned()).collect()
    };
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let text = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(told(&w.get(endpoints).await), [text]);
    let got = w.post(endpoints, &json!({"metadata": {"name": "a"}})).await;
    assert_eq!((got.code, told(&got)), (201, vec![text.to_string()]));
    let got = w.get("/api/v1/componentstatuses").await;
    assert_eq!(
        told(&got),
        ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]
    );
    assert!(told(&w.get("/api/v1/namespaces/default/pods").await).is_empty());
}
