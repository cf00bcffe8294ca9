//! Every verb by its HTTP semantics: the code, the reason, and what is stored afterwards.

mod common;

use common::{CONFIG_MAPS, DEPLOYMENTS, Got, PODS, World, config_map, deployment, pod};
use serde_json::{Value, json};

/// `want` is `CODE` or `CODE text`, the text being part of the body.
#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

#[tokio::test]
async fn create_get_update_delete() {
    let w = World::new().await;
    let made = check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());
    assert_eq!(made["metadata"]["namespace"], "default");
    check(
        &w.post(CONFIG_MAPS, &config_map("c")).await,
        r#"409 configmaps \"c\" already exists"#,
    );
    let path = format!("{CONFIG_MAPS}/c");
    assert_eq!(check(&w.get(&path).await, "200"), made);
    check(
        &w.get(&format!("{CONFIG_MAPS}/d")).await,
        r#"404 configmaps \"d\" not found"#,
    );

    let mut changed = made.clone();
    changed["data"]["a"] = "2".into();
    let updated = check(&w.put(&path, &changed).await, "200");
    assert_ne!(
        updated["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    check(
        &w.put(&path, &changed).await,
        "409 please apply your changes to the latest version and try again",
    );
    assert_eq!(
        check(&w.put(&path, &updated).await, "200"),
        updated,
        "no change, no write"
    );
    changed["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("resourceVersion");
    check(&w.put(&path, &changed).await, "200");
    changed["metadata"]["uid"] = "other".into();
    check(
        &w.put(&path, &changed).await,
        "409 Precondition failed: UID in precondition: other",
    );
    check(
        &w.put(&format!("{CONFIG_MAPS}/d"), &config_map("c")).await,
        "400 does not match the name on the URL",
    );
    check(&w.put(&format!("{CONFIG_MAPS}/d"), &config_map("d")).await, "404");

    let wrong = json!({ "preconditions": { "uid": "x" } });
    check(
        &w.delete(&path, &wrong).await,
        r#"409 Operation cannot be fulfilled on ConfigMap \"c\": the UID in the precondition (x) does not match the UID in record"#,
    );
    let gone = check(&w.delete(&path, &json!({})).await, "200 Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    check(&w.delete(&path, &json!({})).await, "404");
}

#[tokio::test]
async fn names_namespaces_and_dry_runs() {
    let w = World::new().await;
    let mut generated = config_map("");
    generated["metadata"] = json!({ "generateName": "x-" });
    for _ in 0..3 {
        let made = check(&w.post(CONFIG_MAPS, &generated).await, "201");
        assert_eq!(made["metadata"]["name"].as_str().map(str::len), Some(7));
    }
    check(
        &w.post("/api/v1/namespaces/no/configmaps", &config_map("c")).await,
        r#"404 namespaces \"no\" not found"#,
    );
    let mut elsewhere = config_map("c");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    check(
        &w.post(CONFIG_MAPS, &elsewhere).await,
        "400 does not match the namespace sent on the request",
    );
    let mut versioned = config_map("c");
    versioned["metadata"]["resourceVersion"] = "3".into();
    check(
        &w.post(CONFIG_MAPS, &versioned).await,
        "400 resourceVersion should not be set on objects to be created",
    );

    check(
        &w.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("dry"))
            .await,
        "201",
    );
    check(&w.get(&format!("{CONFIG_MAPS}/dry")).await, "404");
    check(
        &w.post(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("dry"))
            .await,
        "422",
    );

    let namespace = json!({ "metadata": { "name": "n" } });
    let made = check(&w.post("/api/v1/namespaces", &namespace).await, "201");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    check(
        &w.get("/api/v1/namespaces/n/serviceaccounts/default").await,
        "200",
    );
    let ca = check(
        &w.get("/api/v1/namespaces/n/configmaps/kube-root-ca.crt").await,
        "200",
    );
    assert_eq!(ca["data"]["ca.crt"], "test CA");

    let terminating = check(&w.delete("/api/v1/namespaces/n", &json!({})).await, "200");
    assert_eq!(terminating["status"]["phase"], "Terminating");
    let refused = w.post("/api/v1/namespaces/n/configmaps", &config_map("c")).await;
    let refused = check(&refused, "403 because it is being terminated");
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut finalized = terminating;
    finalized["spec"]["finalizers"] = json!([]);
    check(&w.put("/api/v1/namespaces/n/finalize", &finalized).await, "200");
    check(&w.get("/api/v1/namespaces/n").await, "404");
    check(
        &w.delete("/api/v1/namespaces/kube-system", &json!({})).await,
        "403 this namespace may not be deleted",
    );
}

#[tokio::test]
async fn patches() {
    let w = World::new().await;
    check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let got = check(
        &w.patch(&path, "merge", &json!({ "data": { "b": "2", "a": null } }))
            .await,
        "200",
    );
    assert_eq!(got["data"], json!({ "b": "2" }));
    let got = check(
        &w.patch(
            &path,
            "json",
            &json!([{ "op": "add", "path": "/data/c", "value": "3" }]),
        )
        .await,
        "200",
    );
    assert_eq!(got["data"], json!({ "b": "2", "c": "3" }));
    let got = check(
        &w.patch(
            &path,
            "strategic",
            &json!({ "metadata": { "labels": { "l": "1" } } }),
        )
        .await,
        "200",
    );
    assert_eq!(got["metadata"]["labels"], json!({ "l": "1" }));
    let version = got["metadata"]["resourceVersion"].clone();
    check(
        &w.patch(
            &path,
            "merge",
            &json!({ "metadata": { "resourceVersion": version } }),
        )
        .await,
        "200",
    );
    check(
        &w.patch(
            &path,
            "merge",
            &json!({ "data": { "z": "1" }, "metadata": { "resourceVersion": "2" } }),
        )
        .await,
        "409",
    );
    check(
        &w.patch(&path, "application/apply-patch+cbor", &json!({})).await,
        "415",
    );
    check(&w.patch(&path, "application/json", &json!({})).await, "415");
    check(&w.patch(&path, "merge", &json!([])).await, "400");
    check(
        &w.patch(&format!("{CONFIG_MAPS}/no"), "merge", &json!({})).await,
        "404",
    );
}

#[tokio::test]
async fn concurrent_patches_all_take_effect() {
    let w = World::new().await;
    check(&w.post(CONFIG_MAPS, &config_map("c")).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let patches = (0..16).map(|i| {
        let (w, path) = (&w, &path);
        async move {
            w.patch(path, "merge", &json!({ "data": { format!("k{i}"): "v" } }))
                .await
        }
    });
    for got in futures::future::join_all(patches).await {
        check(&got, "200");
    }
    let got = check(&w.get(&path).await, "200");
    assert_eq!(got["data"].as_object().map(serde_json::Map::len), Some(17));
}

#[tokio::test]
async fn status_and_scale() {
    let w = World::new().await;
    check(&w.post(DEPLOYMENTS, &deployment("d")).await, "201");
    let path = format!("{DEPLOYMENTS}/d");
    let got = check(
        &w.patch(
            &format!("{path}/status"),
            "merge",
            &json!({ "status": { "replicas": 1 }, "spec": { "replicas": 9 } }),
        )
        .await,
        "200",
    );
    assert_eq!(
        (
            got["status"]["replicas"].as_i64(),
            got["spec"]["replicas"].as_i64()
        ),
        (Some(1), Some(2))
    );
    let got = check(
        &w.patch(&path, "merge", &json!({ "status": { "replicas": 7 } }))
            .await,
        "200",
    );
    assert_eq!(got["status"]["replicas"], 1, "the main path keeps the status");
    let scale = check(&w.get(&format!("{path}/scale")).await, "200");
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"], json!({ "replicas": 1, "selector": "app=d" }));
    let mut more = scale.clone();
    more["spec"]["replicas"] = 5.into();
    let scaled = check(&w.put(&format!("{path}/scale"), &more).await, "200");
    assert_eq!(scaled["spec"]["replicas"], 5);
    check(
        &w.put(&format!("{path}/scale"), &more).await,
        "409 please apply your changes",
    );
    let scaled = check(
        &w.patch(
            &format!("{path}/scale"),
            "merge",
            &json!({ "spec": { "replicas": 3 } }),
        )
        .await,
        "200",
    );
    assert_eq!(scaled["spec"]["replicas"], 3);
    more["spec"]["replicas"] = (-1).into();
    more["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("resourceVersion");
    check(
        &w.put(&format!("{path}/scale"), &more).await,
        "422 must be greater than or equal to 0",
    );
    assert_eq!(check(&w.get(&path).await, "200")["spec"]["replicas"], 3);
}

#[tokio::test]
async fn pods_are_bound_once_and_go_gracefully() {
    let w = World::new().await;
    let made = check(&w.post(PODS, &pod("p")).await, "201");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n1" } });
    let path = format!("{PODS}/p");
    check(&w.post(&format!("{path}/binding"), &binding).await, "201 Success");
    check(
        &w.post(&format!("{path}/binding"), &binding).await,
        r#"409 pod p is already assigned to node \"n1\""#,
    );
    let bound = check(&w.get(&path).await, "200");
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(bound["status"]["conditions"][0]["status"], "True");

    let going = check(
        &w.delete(&path, &json!({ "gracePeriodSeconds": 20 })).await,
        "200",
    );
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 20);
    check(
        &w.post(&format!("{path}/binding"), &binding).await,
        "409 is being deleted",
    );
    let again = check(&w.delete(&path, &json!({})).await, "200");
    assert_eq!(
        again["metadata"]["deletionTimestamp"],
        going["metadata"]["deletionTimestamp"]
    );
    check(
        &w.ask("DELETE", &format!("{path}?gracePeriodSeconds=0"), &[], "")
            .await,
        "200",
    );
    check(&w.get(&path).await, "404");
    check(&w.post(PODS, &pod("q")).await, "201");
    check(&w.delete(&format!("{PODS}/q"), &json!({})).await, "200");
    check(&w.get(&format!("{PODS}/q")).await, "404 not found");
    let mut homeless = pod("h");
    homeless["spec"]["serviceAccountName"] = "nobody".into();
    check(
        &w.post(PODS, &homeless).await,
        "403 error looking up service account default/nobody",
    );
}

#[tokio::test]
async fn finalizers_and_propagation() {
    let w = World::new().await;
    let mut held = config_map("c");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    check(&w.post(CONFIG_MAPS, &held).await, "201");
    let path = format!("{CONFIG_MAPS}/c");
    let going = check(&w.delete(&path, &json!({})).await, "200");
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    check(&w.get(&path).await, "200");
    check(
        &w.patch(&path, "merge", &json!({ "metadata": { "finalizers": null } }))
            .await,
        "200",
    );
    check(&w.get(&path).await, "404");

    check(&w.post(DEPLOYMENTS, &deployment("d")).await, "201");
    let path = format!("{DEPLOYMENTS}/d");
    let going = check(
        &w.delete(&path, &json!({ "propagationPolicy": "Foreground" }))
            .await,
        "200",
    );
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let going = check(
        &w.ask("DELETE", &format!("{path}?propagationPolicy=Orphan"), &[], "")
            .await,
        "200",
    );
    assert_eq!(going["metadata"]["finalizers"], json!(["orphan"]));
    check(
        &w.delete(&path, &json!({ "propagationPolicy": "Sometimes" }))
            .await,
        "422",
    );
    check(
        &w.delete(&path, &json!({ "propagationPolicy": "Background" }))
            .await,
        "200",
    );
    check(&w.get(&path).await, "404");
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let w = World::new().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "l": label });
        check(&w.post(CONFIG_MAPS, &object).await, "201");
    }
    let gone = check(
        &w.delete(&format!("{CONFIG_MAPS}?labelSelector=l%3Dx"), &json!({}))
            .await,
        "200",
    );
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    let left = check(&w.get(&format!("{CONFIG_MAPS}?labelSelector=l")).await, "200");
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    check(&w.delete("/api/v1/configmaps", &json!({})).await, "405");
}

#[tokio::test]
async fn services_get_addresses() {
    let w = World::new().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let kubernetes = check(&w.get(&format!("{services}/kubernetes")).await, "200");
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let ports = json!([{ "port": 80 }]);
    let made = check(
        &w.post(
            services,
            &service("s", json!({ "type": "NodePort", "ports": ports })),
        )
        .await,
        "201",
    );
    let (ip, port) = (
        made["spec"]["clusterIP"].clone(),
        made["spec"]["ports"][0]["nodePort"].clone(),
    );
    assert!(ip.as_str().is_some_and(|ip| ip.starts_with("10.96.")) && port.is_u64());
    let same_ip = service("t", json!({ "ports": ports, "clusterIP": ip }));
    check(
        &w.post(services, &same_ip).await,
        "422 provided IP is already allocated",
    );
    let same_port = service(
        "t",
        json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] }),
    );
    check(
        &w.post(services, &same_port).await,
        "422 provided port is already allocated",
    );
    let updated = check(
        &w.patch(
            &format!("{services}/s"),
            "merge",
            &json!({ "spec": { "type": "ClusterIP" } }),
        )
        .await,
        "200",
    );
    assert_eq!(updated["spec"]["clusterIP"], ip);
    assert!(updated["spec"]["ports"][0]["nodePort"].is_null());
    check(&w.post(services, &same_port).await, "201");
    check(&w.delete(&format!("{services}/s"), &json!({})).await, "200");
    let reuse = service("u", json!({ "ports": ports, "clusterIP": ip }));
    check(&w.post(services, &reuse).await, "201");
    let headless = check(
        &w.post(
            services,
            &service("h", json!({ "clusterIP": "None", "ports": ports })),
        )
        .await,
        "201",
    );
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn bad_input_gets_kubernetes_own_errors() {
    let w = World::new().await;
    let json_type = [("content-type", "application/json")];
    let yaml_type = [("content-type", "application/yaml")];
    let ask = async |headers: &[(&str, &str)], body: String| w.ask("POST", DEPLOYMENTS, headers, body).await;
    let mut unknown = deployment("d");
    unknown["spec"]["replicaz"] = 1.into();
    let strict = w
        .post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &unknown)
        .await;
    check(
        &strict,
        r#"400 strict decoding error: unknown field \"spec.replicaz\""#,
    );
    let warned = w.post(&format!("{DEPLOYMENTS}?dryRun=All"), &unknown).await;
    check(&warned, "201");
    assert_eq!(
        warned.headers["warning"],
        r#"299 - "unknown field \"spec.replicaz\"""#
    );
    let mut wrong = deployment("d");
    wrong["spec"]["replicas"] = "two".into();
    check(
        &w.post(DEPLOYMENTS, &wrong).await,
        "400 cannot be handled as a Deployment",
    );
    check(&ask(&json_type, "[]".into()).await, "400");
    check(&ask(&json_type, "{".into()).await, "400");
    check(&ask(&yaml_type, "just text".into()).await, "400");
    check(&ask(&yaml_type, "a: [".into()).await, "400");
    check(
        &ask(&json_type, "x".repeat(10 << 20)).await,
        "413 RequestEntityTooLarge",
    );
    let deep = format!(
        "{{\"metadata\":{}{}}}",
        "{\"a\":".repeat(10_000),
        "1".to_owned() + &"}".repeat(10_000)
    );
    check(&ask(&json_type, deep).await, "400");
    check(&ask(&yaml_type, "[".repeat(10_000)).await, "400");
    check(
        &ask(&[("content-type", "application/cbor")], "x".into()).await,
        "415",
    );
    check(
        &ask(
            &[("content-type", "application/vnd.kubernetes.protobuf")],
            "x".into(),
        )
        .await,
        "400",
    );
    check(&w.get(&format!("{PODS}?labelSelector=a%3D%3D%3Db")).await, "400");
    check(
        &w.get(&format!("{PODS}?fieldSelector=x%3Dy")).await,
        "400 field label not supported: x",
    );
    check(&w.get(&format!("{PODS}?limit=many")).await, "400");
    check(
        &w.ask("GET", PODS, &[("accept", "application/cbor")], "").await,
        "406 NotAcceptable",
    );
    check(
        &w.get("/api/v1/namespaces/default/nothings").await,
        "404 404 page not found",
    );
    check(
        &w.ask("PUT", PODS, &json_type, "{}").await,
        "405 does not allow this method",
    );
    check(&w.get("/livez").await, "200 ok");
}

#[tokio::test]
async fn yaml_in_and_out() {
    let w = World::new().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: \"1\"\n";
    check(
        &w.ask("POST", CONFIG_MAPS, &[("content-type", "application/yaml")], body)
            .await,
        "201",
    );
    let got = w
        .ask(
            "GET",
            &format!("{CONFIG_MAPS}/yaml"),
            &[("accept", "application/yaml")],
            "",
        )
        .await;
    assert_eq!(got.headers["content-type"], "application/yaml");
    assert!(got.text.contains("\n  name: yaml\n"), "{}", got.text);
}
