//! Built-in admission through the front door: what namespaces ask of their objects.

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use common::World;
use corten_apiserver::{Config, PodSecurity};
use serde_json::{Value, json};

async fn namespace(world: &World, name: &str, labels: Value) {
    let body =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    assert_eq!(world.post("/api/v1/namespaces", &body).await.code, 201);
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    corten_api::patch::merge_patch(&mut pod, &more);
    pod
}

#[tokio::test]
async fn pod_security_refuses_warns_and_judges_namespaces() {
    let world = World::new().await;
    let enforce = "pod-security.kubernetes.io/enforce";
    namespace(
        &world,
        "safe",
        json!({ enforce: "baseline", "pod-security.kubernetes.io/warn": "restricted" }),
    )
    .await;
    let pods = "/api/v1/namespaces/safe/pods";
    let refused = world
        .post(pods, &pod("a", json!({ "spec": { "hostNetwork": true } })))
        .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.json()["message"],
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let warned = world.post(pods, &pod("b", json!({}))).await;
    assert_eq!(warned.code, 201, "{}", warned.text);
    let warning = warned
        .headers
        .get("warning")
        .expect("a warning")
        .to_str()
        .expect("text");
    assert!(
        warning.contains(
            "would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false"
        ),
        "{warning}"
    );
    // A template is warned about, never refused.
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": {
        "selector": { "matchLabels": { "a": "b" } }, "template": { "metadata": { "labels": { "a": "b" } },
            "spec": { "hostPID": true, "containers": [{ "name": "c", "image": "i" }] } } } });
    let made = world
        .post("/apis/apps/v1/namespaces/safe/deployments", &deployment)
        .await;
    assert_eq!(made.code, 201);
    assert!(made.headers.contains_key("warning"));
    // A stricter level names the Pods it would not allow.
    let stricter = json!({ "metadata": { "labels": { enforce: "restricted" } } });
    let told = world.patch("/api/v1/namespaces/safe", "merge", &stricter).await;
    assert_eq!(told.code, 200, "{}", told.text);
    let warnings: Vec<&str> = told
        .headers
        .get_all("warning")
        .iter()
        .filter_map(|w| w.to_str().ok())
        .collect();
    assert!(
        warnings[0]
            .contains("existing pods in namespace \\\"safe\\\" violate the new PodSecurity enforce level"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("b: allowPrivilegeEscalation != false, unrestricted capabilities"),
        "{warnings:?}"
    );
    let wrong = json!({ "metadata": { "labels": { enforce: "loose" } } });
    let refused = world.patch("/api/v1/namespaces/safe", "merge", &wrong).await;
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.json()["details"]["causes"][0]["field"],
        format!("metadata.labels[{enforce}]")
    );
}

#[tokio::test]
async fn namespaces_that_name_no_standard_have_the_configured_one() {
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.pod_security = Some(Arc::new(PodSecurity::baseline()));
    let w = World::with(config).await;
    namespace(&w, "plain", json!({})).await;
    namespace(
        &w,
        "free",
        json!({ "pod-security.kubernetes.io/enforce": "privileged" }),
    )
    .await;
    let host = pod("a", json!({ "spec": { "hostNetwork": true } }));
    let refused = w.post("/api/v1/namespaces/plain/pods", &host).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    assert_eq!(
        refused.json()["message"],
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let taken = w.post("/api/v1/namespaces/free/pods", &host).await;
    assert_eq!(taken.code, 201, "{}", taken.text);
    let harmless = w
        .post("/api/v1/namespaces/plain/pods", &pod("b", json!({})))
        .await;
    assert_eq!(harmless.code, 201, "{}", harmless.text);
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let world = World::new().await;
    namespace(&world, "limited", json!({})).await;
    let limits = json!({ "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "500m" }, "defaultRequest": { "cpu": "100m" }, "max": { "cpu": "1" } }] } });
    assert_eq!(
        world
            .post("/api/v1/namespaces/limited/limitranges", &limits)
            .await
            .code,
        201
    );
    let made = world
        .post("/api/v1/namespaces/limited/pods", &pod("a", json!({})))
        .await;
    assert_eq!(
        made.json()["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "500m" }, "requests": { "cpu": "100m" } })
    );
    let big = json!({ "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "cpu": "2" } } }] } });
    let refused = world
        .post("/api/v1/namespaces/limited/pods", &pod("b", big))
        .await;
    assert_eq!(
        refused.json()["message"],
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test]
async fn a_pod_that_goes_to_another_scope_is_charged_there_at_once() {
    let world = World::new().await;
    namespace(&world, "scoped", json!({})).await;
    let quotas = "/api/v1/namespaces/scoped/resourcequotas";
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "q" },
        "spec": { "hard": { "pods": "1" }, "scopes": ["Terminating"] } });
    assert_eq!(world.post(quotas, &quota).await.code, 201);
    let mut counted = world.get(&format!("{quotas}/q")).await.json();
    counted["status"] = json!({ "hard": { "pods": "1" }, "used": { "pods": "0" } });
    assert_eq!(world.put(&format!("{quotas}/q/status"), &counted).await.code, 200);
    let pods = "/api/v1/namespaces/scoped/pods";
    assert_eq!(world.post(pods, &pod("a", json!({}))).await.code, 201);
    let ends = json!({ "spec": { "activeDeadlineSeconds": 3600 } });
    assert_eq!(world.patch(&format!("{pods}/a"), "merge", &ends).await.code, 200);
    let used = world.get(&format!("{quotas}/q")).await.json();
    assert_eq!(used["status"]["used"], json!({ "pods": "1" }));
    let mut second = pod("b", json!({}));
    second["spec"]["activeDeadlineSeconds"] = 3600.into();
    let refused = world.post(pods, &second).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
}

#[tokio::test]
async fn a_quota_is_never_overdrawn_by_writers_at_once() {
    const WRITERS: usize = 48;
    const HARD: usize = 20;
    let world = World::new().await;
    namespace(&world, "full", json!({})).await;
    let quotas = "/api/v1/namespaces/full/resourcequotas";
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "q" },
        "spec": { "hard": { "pods": HARD.to_string(), "count/configmaps": "5" } } });
    assert_eq!(world.post(quotas, &quota).await.code, 201);
    // What its controller does when a quota is new.
    let mut counted = world.get(&format!("{quotas}/q")).await.json();
    counted["status"] =
        json!({ "hard": counted["spec"]["hard"], "used": { "pods": "0", "count/configmaps": "1" } });
    assert_eq!(world.put(&format!("{quotas}/q/status"), &counted).await.code, 200);
    let all = (0..WRITERS).map(|number| {
        let world = &world;
        async move {
            let made = world
                .post(
                    "/api/v1/namespaces/full/pods",
                    &pod(&format!("p{number}"), json!({})),
                )
                .await;
            (made.code, made.text)
        }
    });
    let answers = futures::future::join_all(all).await;
    let made = answers.iter().filter(|(code, _)| *code == 201).count();
    assert_eq!(made, HARD, "{answers:?}");
    for (code, text) in answers.iter().filter(|(code, _)| *code != 201) {
        assert_eq!(*code, 403, "{text}");
        assert!(
            text.contains("exceeded quota: q, requested: pods=1, used: pods=20, limited: pods=20"),
            "{text}"
        );
    }
    let used = world.get(&format!("{quotas}/q")).await.json();
    assert_eq!(
        used["status"]["used"],
        json!({ "pods": "20", "count/configmaps": "1" })
    );
    // A dry run is judged and books nothing.
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } });
    let maps = "/api/v1/namespaces/full/configmaps";
    assert_eq!(world.post(&format!("{maps}?dryRun=All"), &map).await.code, 201);
    assert_eq!(
        world.get(&format!("{quotas}/q")).await.json()["status"]["used"]["count/configmaps"],
        "1"
    );
    assert_eq!(world.post(maps, &map).await.code, 201);
    assert_eq!(
        world.get(&format!("{quotas}/q")).await.json()["status"]["used"]["count/configmaps"],
        "2"
    );
}
