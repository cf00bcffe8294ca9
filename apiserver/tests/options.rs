//! Options of writes, and what Kubernetes says when they cannot be.

mod common;

use common::{CONFIG_MAPS, Got, PODS, World, config_map, deployment, pod};
use serde_json::{Value, json};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

/// A request without a body.
async fn bare(w: &World, method: &str, path: &str) -> Got {
    w.ask(method, path, &[], "").await
}

#[tokio::test]
async fn options_are_checked_in_upstreams_words() {
    let w = World::new().await;
    check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let invalid = |kind: &str, what: &str| format!("422 {kind}.meta.k8s.io \\\"\\\" is invalid: {what}");
    let run = "dryRun: Unsupported value: [\\\"some\\\"]: supported values: \\\"All\\\"";
    check(
        &w.post(&format!("{CONFIG_MAPS}?dryRun=some"), &config_map("d"))
            .await,
        &invalid("CreateOptions", run),
    );
    check(
        &w.put(&format!("{path}?dryRun=some"), &config_map("c")).await,
        &invalid("UpdateOptions", run),
    );
    check(
        &w.patch(&format!("{path}?dryRun=some"), "merge", &json!({})).await,
        &invalid("PatchOptions", run),
    );
    check(
        &bare(&w, "DELETE", &format!("{path}?dryRun=some")).await,
        &invalid("DeleteOptions", run),
    );
    check(
        &w.post(&format!("{CONFIG_MAPS}?fieldValidation=Maybe"), &config_map("d"))
            .await,
        &invalid(
            "CreateOptions",
            "fieldValidation: Unsupported value: \\\"Maybe\\\": supported values: \\\"\\\", \\\"Ignore\\\", \\\"Strict\\\", \\\"Warn\\\"",
        ),
    );
    check(
        &w.patch(&format!("{path}?force=true"), "merge", &json!({})).await,
        &invalid(
            "PatchOptions",
            "force: Forbidden: may not be specified for non-apply patch",
        ),
    );
    check(
        &bare(&w, "DELETE", &format!("{path}?gracePeriodSeconds=x")).await,
        "400 strconv.ParseInt: parsing \\\"x\\\": invalid syntax",
    );
    check(
        &w.delete(
            &path,
            &json!({ "propagationPolicy": "Orphan", "orphanDependents": false }),
        )
        .await,
        &invalid(
            "DeleteOptions",
            "propagationPolicy: Invalid value: \\\"Orphan\\\": orphanDependents and deletionPropagation cannot be both set",
        ),
    );
    check(
        &w.delete(&path, &json!({ "kind": "Pod", "apiVersion": "v1" }))
            .await,
        "400",
    );
}

#[tokio::test]
async fn dry_runs_change_nothing_and_show_what_would_be() {
    let w = World::new().await;
    let made = check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let before = w.store.snapshot().revision();
    let dry = |path: &str| format!("{path}?dryRun=All");
    let got = check(&w.post(&dry(CONFIG_MAPS), &config_map("d")).await, "201");
    assert!(got["metadata"]["uid"].is_string() && got["metadata"]["resourceVersion"].is_null());
    check(
        &w.post(&dry(CONFIG_MAPS), &config_map("c")).await,
        "409 already exists",
    );
    let mut changed = config_map("c");
    changed["data"]["a"] = "2".into();
    let got = check(&w.put(&dry(&path), &changed).await, "200");
    assert_eq!(got["data"]["a"], "2");
    assert_eq!(
        got["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let got = check(
        &w.patch(&dry(&path), "merge", &json!({ "data": { "b": "3" } }))
            .await,
        "200",
    );
    assert_eq!(got["data"], json!({ "a": "1", "b": "3" }));
    check(&bare(&w, "DELETE", &dry(&path)).await, "200");
    check(&w.delete(&path, &json!({ "dryRun": ["All"] })).await, "200");
    check(&bare(&w, "DELETE", &dry(CONFIG_MAPS)).await, "200");
    check(
        &w.post(
            "/api/v1/namespaces?dryRun=All",
            &json!({ "metadata": { "name": "n" } }),
        )
        .await,
        "201",
    );
    let service =
        json!({ "metadata": { "name": "s" }, "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
    check(
        &w.post("/api/v1/namespaces/default/services?dryRun=All", &service)
            .await,
        "201",
    );
    check(
        &w.post(
            "/apis/apps/v1/namespaces/default/deployments?dryRun=All",
            &deployment("d"),
        )
        .await,
        "201",
    );
    assert_eq!(w.store.snapshot().revision(), before);
}

#[tokio::test]
async fn names_and_namespaces_in_body_and_url() {
    let w = World::new().await;
    check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let mut nameless = config_map("c");
    nameless["metadata"] = json!({});
    check(
        &w.put(&path, &nameless).await,
        "400 the name of the object (c based on URL) was undeterminable: name must be provided",
    );
    check(
        &w.put(&path, &config_map("d")).await,
        "400 the name of the object (d) does not match the name on the URL (c)",
    );
    let mut elsewhere = config_map("c");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    check(
        &w.put(&path, &elsewhere).await,
        "400 the namespace of the object (kube-system) does not match the namespace on the request (default)",
    );
    check(
        &w.post(CONFIG_MAPS, &elsewhere).await,
        "400 the namespace of the provided object does not match the namespace sent on the request",
    );
    let mut other = config_map("c");
    other["metadata"]["uid"] = "x".into();
    check(
        &w.put(&path, &other).await,
        "409 StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/c, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta:",
    );
    let wrong = json!({ "preconditions": { "resourceVersion": "1" } });
    check(
        &w.delete(&path, &wrong).await,
        "409 on ConfigMap \\\"c\\\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record",
    );
}

#[tokio::test]
async fn few_kinds_are_made_by_an_update() {
    let w = World::new().await;
    let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "h" } });
    check(&w.put(&format!("{LEASES}/l"), &lease).await, "201");
    check(
        &w.put(&format!("{LEASES}/l"), &lease).await,
        "422 metadata.resourceVersion: Invalid value: 0: must be specified for an update",
    );
    let endpoints = json!({ "metadata": { "name": "e" } });
    check(
        &w.put("/api/v1/namespaces/default/endpoints/e", &endpoints).await,
        "201",
    );
    check(
        &w.put(&format!("{CONFIG_MAPS}/no"), &config_map("no")).await,
        "404",
    );
    check(&w.put(&format!("{PODS}/no"), &pod("no")).await, "404");
}

#[tokio::test]
async fn answers_of_deletes() {
    let w = World::new().await;
    let made = check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let gone = check(&bare(&w, "DELETE", &format!("{CONFIG_MAPS}/c")).await, "200");
    assert_eq!(
        gone,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": { "name": "c", "kind": "configmaps", "uid": made["metadata"]["uid"] } })
    );
    let mut held = config_map("h");
    held["metadata"]["finalizers"] = json!(["x.example/y"]);
    check(&w.post(CONFIG_MAPS, &held).await, "201");
    let path = format!("{CONFIG_MAPS}/h");
    check(
        &w.delete(&path, &json!({ "orphanDependents": false })).await,
        "202",
    );
    let more = json!({ "metadata": { "finalizers": ["x.example/y", "x.example/z"] } });
    check(
        &w.patch(&path, "merge", &more).await,
        "422 no new finalizers can be added if the object is being deleted",
    );
    // A body is all that counts.
    check(&w.post(PODS, &pod("p")).await, "201");
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    check(&w.post(&format!("{PODS}/p/binding"), &binding).await, "201");
    let going = w
        .delete(
            &format!("{PODS}/p?gracePeriodSeconds=1"),
            &json!({ "gracePeriodSeconds": 9 }),
        )
        .await;
    assert_eq!(check(&going, "200")["metadata"]["deletionGracePeriodSeconds"], 9);
}

#[tokio::test]
async fn a_collection_is_deleted_page_by_page() {
    let w = World::new().await;
    for i in 0..5 {
        let mut object = config_map(&format!("c{i}"));
        object["metadata"]["labels"] = json!({ "l": "x" });
        check(&w.post(CONFIG_MAPS, &object).await, "201");
    }
    let page = check(
        &bare(&w, "DELETE", &format!("{CONFIG_MAPS}?labelSelector=l&limit=2")).await,
        "200",
    );
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert!(page["metadata"]["continue"].is_string());
    let left = check(&w.get(&format!("{CONFIG_MAPS}?labelSelector=l")).await, "200");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(3));
    let wrong = json!({ "preconditions": { "uid": "x" } });
    check(
        &w.delete(&format!("{CONFIG_MAPS}?labelSelector=l"), &wrong).await,
        "409",
    );
    let one = bare(
        &w,
        "DELETE",
        &format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc4"),
    )
    .await;
    assert_eq!(check(&one, "200")["items"].as_array().map(Vec::len), Some(1));
    check(
        &bare(&w, "DELETE", &format!("{CONFIG_MAPS}?labelSelector=l")).await,
        "200",
    );
    let left = check(&w.get(&format!("{CONFIG_MAPS}?labelSelector=l")).await, "200");
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn warnings_are_told_once_and_within_bounds() {
    let w = World::new().await;
    let warnings = |got: &Got| -> Vec<String> {
        let values = got.headers.get_all("warning").iter();
        values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    };
    let mut object = config_map("c");
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1" });
    object["metadata"]["ownerReferences"] = json!([owner, owner]);
    object["extra"] = 1.into();
    let got = w.post(CONFIG_MAPS, &object).await;
    let made = check(&got, "201");
    assert_eq!(
        made["metadata"]["ownerReferences"].as_array().map(Vec::len),
        Some(1)
    );
    let told = warnings(&got);
    assert_eq!(told[0], r#"299 - "unknown field \"extra\"""#);
    assert!(told[1].contains("duplicate UID(s) observed: u1"), "{told:?}");
    let patch = json!({ "more": 1, "metadata": { "ownerReferences": [owner, owner] } });
    let got = w.patch(&format!("{CONFIG_MAPS}/c"), "merge", &patch).await;
    assert_eq!(warnings(&got).len(), 2, "{:?}", warnings(&got));
    for i in 0..40 {
        object[format!("{i}{}", "x".repeat(300))] = 1.into();
    }
    let got = w.post(&format!("{CONFIG_MAPS}?dryRun=All"), &object).await;
    check(&got, "409");
    object["metadata"]["name"] = "d".into();
    let got = w.post(&format!("{CONFIG_MAPS}?dryRun=All"), &object).await;
    check(&got, "201");
    let told = warnings(&got);
    let total: usize = told.iter().map(String::len).sum();
    assert!(
        told.len() > 10 && total < 5000,
        "{} warnings, {total} bytes",
        told.len()
    );
    let ignored = w
        .post(
            &format!("{CONFIG_MAPS}?dryRun=All&fieldValidation=Ignore"),
            &object,
        )
        .await;
    assert_eq!(warnings(&ignored).len(), 1, "owners only");
    check(
        &w.post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &object)
            .await,
        "400 strict decoding error",
    );
}
