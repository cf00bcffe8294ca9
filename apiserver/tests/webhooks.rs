//! Admission webhooks as their users see them: what they are sent, what their answers do, and that none of them can hold
//! a request longer than its policy lets it.

mod common;
#[path = "common/https.rs"]
mod https;

use std::time::{Duration, Instant};

use base64::Engine as _;
use common::{CONFIG_MAPS, DEPLOYMENTS, Got, PODS, World, config_map, deployment, pod};
use corten_apiserver::Config;
use https::{Https, Reply};
use serde_json::{Value, json};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

fn review(body: &Value, more: Value) -> Reply {
    let mut response = json!({ "uid": body["request"]["uid"], "allowed": true });
    for (key, value) in more.as_object().into_iter().flatten() {
        response[key] = value.clone();
    }
    let answer =
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response });
    Reply::Json(200, answer)
}

fn patch(body: &Value, operations: &Value) -> Reply {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    review(body, json!({ "patchType": "JSONPatch", "patch": patch }))
}

/// A webhook about every kind of write of ConfigMaps, with `more` beside.
fn hook(name: &str, client: &Value, more: &Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"),
        "clientConfig": client,
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"] }],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        hook[key] = value.clone();
    }
    hook
}

async fn configure(w: &World, path: &str, name: &str, hooks: Value) {
    let kind = if path == MUTATING {
        "Mutating"
    } else {
        "Validating"
    };
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": { "name": name },
        "webhooks": hooks,
    });
    check(&w.post(path, &object).await, "201");
}

#[tokio::test]
async fn a_validating_webhook_sees_every_write_and_may_refuse_it() {
    let w = World::new().await;
    let server = Https::start(|_, body| {
        let object = match &body["request"]["object"] {
            Value::Null => &body["request"]["oldObject"],
            object => object,
        };
        match object["data"]["bad"].as_str() {
            Some("plain") => review(body, json!({ "allowed": false })),
            Some("text") => review(
                body,
                json!({ "allowed": false, "status": { "message": "no such luck", "code": 418, "reason": "Teapot" } }),
            ),
            _ => review(body, json!({ "warnings": ["mind the gap"], "auditAnnotations": { "a": "b" } })),
        }
    })
    .await;
    let client = server.client_config("/validate");
    configure(&w, VALIDATING, "v", json!([hook("v", &client, &json!({}))])).await;

    let made = w.post(CONFIG_MAPS, &config_map("a")).await;
    check(&made, "201");
    assert!(
        made.headers["warning"]
            .to_str()
            .expect("text")
            .contains("mind the gap"),
        "{:?}",
        made.headers
    );
    let calls = server.take();
    let (path, body) = &calls[0];
    assert_eq!((calls.len(), path.as_str()), (1, "/validate"));
    let request = &body["request"];
    assert_eq!(body["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(
        request["kind"],
        json!({ "group": "", "version": "v1", "kind": "ConfigMap" })
    );
    assert_eq!(
        request["resource"],
        json!({ "group": "", "version": "v1", "resource": "configmaps" })
    );
    assert_eq!(
        (&request["name"], &request["namespace"], &request["dryRun"]),
        (&json!("a"), &json!("default"), &json!(false))
    );
    assert_eq!(request["userInfo"]["username"], "test");
    assert_eq!(request["object"]["data"]["a"], "1");
    assert_eq!(request["oldObject"], Value::Null);
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert!(request["object"]["metadata"]["uid"].is_string(), "{request}");

    // Every way to write is asked about, with the old object beside the new.
    let at = format!("{CONFIG_MAPS}/a");
    check(
        &w.patch(&at, "merge", &json!({ "data": { "b": "2" } })).await,
        "200",
    );
    let calls = server.take();
    assert_eq!(calls[0].1["request"]["operation"], "UPDATE");
    assert_eq!(calls[0].1["request"]["oldObject"]["data"], json!({ "a": "1" }));
    assert_eq!(
        calls[0].1["request"]["object"]["data"],
        json!({ "a": "1", "b": "2" })
    );
    let bad = json!({ "data": { "bad": "plain" } });
    let refused = w.patch(&at, "merge", &bad).await;
    check(
        &refused,
        "400 admission webhook \\\"v.example.com\\\" denied the request without explanation",
    );
    let applied = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "b" }, "data": { "bad": "text" } });
    let apply = w
        .ask(
            "PATCH",
            &format!("{CONFIG_MAPS}/b?fieldManager=m"),
            &[("content-type", "application/apply-patch+yaml")],
            applied.to_string(),
        )
        .await;
    let status = check(
        &apply,
        "418 admission webhook \\\"v.example.com\\\" denied the request: no such luck",
    );
    assert_eq!(status["reason"], "Teapot");
    server.take();

    check(&w.delete(&at, &json!({})).await, "200");
    let calls = server.take();
    assert_eq!(
        calls.len(),
        1,
        "asked once, however often the deletion is decided"
    );
    assert_eq!(calls[0].1["request"]["operation"], "DELETE");
    assert_eq!(calls[0].1["request"]["object"], Value::Null);
    assert_eq!(calls[0].1["request"]["oldObject"]["data"]["b"], "2");
    for name in ["x", "y"] {
        check(&w.post(CONFIG_MAPS, &config_map(name)).await, "201");
    }
    server.take();
    check(
        &w.delete(&format!("{CONFIG_MAPS}?labelSelector=a!=b"), &json!({}))
            .await,
        "200",
    );
    let deleted = server.take();
    assert!(deleted.len() >= 2, "{deleted:?}");
    assert!(
        *server.connections.lock().expect("lock") < 8,
        "connections are used again"
    );

    // A dry run is told so.
    check(
        &w.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("dry"))
            .await,
        "201",
    );
    assert_eq!(server.take()[0].1["request"]["dryRun"], true);
    // What decides about admission is never asked about.
    check(&w.delete(&format!("{VALIDATING}/v"), &json!({})).await, "200");
    assert!(server.take().is_empty());
}

#[tokio::test]
async fn mutating_webhooks_change_objects_one_after_the_other_and_see_each_others_work() {
    let w = World::new().await;
    let server = Https::start(|path, body| {
        let data = &body["request"]["object"]["data"];
        match path {
            "/first" if data["second"].is_string() && data["again"].is_null() => patch(
                body,
                &json!([{ "op": "add", "path": "/data/again", "value": "yes" }]),
            ),
            "/first" if data["first"].is_null() => patch(
                body,
                &json!([{ "op": "add", "path": "/data/first", "value": "1" }]),
            ),
            "/second" if data["second"].is_null() => patch(
                body,
                &json!([{ "op": "add", "path": "/data/second", "value": data["first"] }]),
            ),
            _ => review(body, json!({})),
        }
    })
    .await;
    let hooks = json!([
        hook(
            "first",
            &server.client_config("/first"),
            &json!({ "reinvocationPolicy": "IfNeeded" })
        ),
        hook("second", &server.client_config("/second"), &json!({})),
    ]);
    configure(&w, MUTATING, "m", hooks).await;
    let made = check(&w.post(CONFIG_MAPS, &config_map("a")).await, "201");
    assert_eq!(
        made["data"],
        json!({ "a": "1", "first": "1", "second": "1", "again": "yes" })
    );
    let paths: Vec<String> = server.take().into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        ["/first", "/second", "/first"],
        "called again, but only who asked for it"
    );
    let stored = w.get(&format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(stored["data"], made["data"]);
    // What webhooks set belongs to nobody: the client may set it without a conflict.
    let owners = stored["metadata"]["managedFields"].to_string();
    assert!(!owners.contains("f:second"), "{owners}");
}

#[tokio::test]
async fn what_a_webhook_makes_of_an_object_is_checked_like_any_other() {
    let w = World::new().await;
    let server = Https::start(|path, body| match path {
        "/name" => patch(body, &json!([{ "op": "add", "path": "/metadata/labels", "value": { "a b": "c" } }])),
        "/kind" => patch(body, &json!([{ "op": "replace", "path": "/kind", "value": "Secret" }])),
        "/type" => patch(body, &json!([{ "op": "add", "path": "/data", "value": 5 }])),
        "/path" => patch(body, &json!([{ "op": "remove", "path": "/no/such/thing" }])),
        "/large" => patch(
            body,
            &json!([{ "op": "add", "path": "/data/large", "value": "a".repeat(1_200_000) }]),
        ),
        "/managers" => patch(
            body,
            &json!([{ "op": "add", "path": "/metadata/managedFields/0/fieldsV1", "value": { "x": {} } }]),
        ),
        _ => patch(body, &json!([{ "op": "add", "path": "/data/extra", "value": "1" }, { "op": "add", "path": "/unknown", "value": 1 }])),
    })
    .await;
    for (path, want) in [
        ("/name", "422 metadata.labels"),
        ("/kind", "500 no kind"),
        ("/type", "500 Internal error occurred"),
        ("/path", "500 Internal error occurred"),
        ("/large", "422 Too long: may not be more than 1048576 bytes"),
        ("/managers", "201"),
        ("/fine", "201 \"extra\":\"1\""),
    ] {
        configure(
            &w,
            MUTATING,
            "m",
            json!([hook(
                "m",
                &server.client_config(path),
                &json!({ "timeoutSeconds": 30 })
            )]),
        )
        .await;
        let name = path.trim_start_matches('/');
        let got = w.post(CONFIG_MAPS, &config_map(name)).await;
        check(&got, want);
        assert!(!got.text.contains("unknown\":1"), "{}", got.text);
        if path == "/managers" {
            assert!(got.headers.contains_key("warning"), "{:?}", got.headers);
        }
        check(&w.delete(&format!("{MUTATING}/m"), &json!({})).await, "200");
    }
    // What may not change may not be changed by a webhook.
    let mut fixed = config_map("fixed");
    fixed["immutable"] = true.into();
    check(&w.post(CONFIG_MAPS, &fixed).await, "201");
    configure(
        &w,
        MUTATING,
        "m",
        json!([hook("m", &server.client_config("/fine"), &json!({}))]),
    )
    .await;
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    check(
        &w.patch(&format!("{CONFIG_MAPS}/fixed"), "merge", &labels).await,
        "422 field is immutable when `immutable` is set",
    );
    check(&w.delete(&format!("{MUTATING}/m"), &json!({})).await, "200");
    // An object without an object cannot be changed.
    check(&w.post(CONFIG_MAPS, &config_map("gone")).await, "201");
    configure(
        &w,
        MUTATING,
        "m",
        json!([hook("m", &server.client_config("/fine"), &json!({}))]),
    )
    .await;
    check(
        &w.delete(&format!("{CONFIG_MAPS}/gone"), &json!({})).await,
        "500 attempted to modify the object, which is not supported for this operation",
    );
}

/// Failures of webhooks: what is told, and that it takes no longer than the webhook's time.
#[tokio::test]
async fn webhooks_that_fail_are_treated_as_their_policy_says() {
    let server = Https::start(|path, body| match path {
        "/hang" => Reply::Hang,
        "/die" => Reply::Die,
        "/500" => Reply::Text(500, "boom".into()),
        "/404" => Reply::Text(404, "nope".into()),
        "/redirect" => Reply::Redirect("https://127.0.0.1:1/".into()),
        "/nonsense" => Reply::Text(200, "this is not JSON".into()),
        "/empty" => Reply::Json(200, json!({})),
        "/list" => Reply::Json(200, json!([1, 2, 3])),
        "/endless" => Reply::Endless,
        "/uid" => review(body, json!({ "uid": "other" })),
        "/types" => review(body, json!({ "allowed": "yes" })),
        "/patch" => review(body, json!({ "patchType": "JSONPatch", "patch": "!!!" })),
        "/kinds" => Reply::Json(
            200,
            json!({ "kind": "Pod", "apiVersion": "v1", "response": { "allowed": true } }),
        ),
        "/absent" => Reply::Json(
            200,
            json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1" }),
        ),
        _ => review(body, json!({})),
    })
    .await;
    let silent = https::silent().await;
    let url = |port: u16, path: &str| json!({ "url": format!("https://127.0.0.1:{port}{path}"), "caBundle": server.bundle });
    let other = Https::start(|_, body| review(body, json!({}))).await;
    let timeout = "context deadline exceeded";
    let cases = [
        ("hang", server.client_config("/hang"), timeout),
        (
            "die",
            server.client_config("/die"),
            "failed to call webhook: Post",
        ),
        (
            "e500",
            server.client_config("/500"),
            "an error on the server (\\\"boom\\\") has prevented the request",
        ),
        (
            "e404",
            server.client_config("/404"),
            "the server could not find the requested resource",
        ),
        ("redirect", server.client_config("/redirect"), "status code 307"),
        (
            "nonsense",
            server.client_config("/nonsense"),
            "couldn't get version/kind; json parse error",
        ),
        (
            "empty",
            server.client_config("/empty"),
            "Object 'Kind' is missing",
        ),
        ("list", server.client_config("/list"), "Object 'Kind' is missing"),
        (
            "endless",
            server.client_config("/endless"),
            "failed calling webhook",
        ),
        ("uid", server.client_config("/uid"), "expected response.uid="),
        (
            "types",
            server.client_config("/types"),
            "cannot unmarshal response.allowed",
        ),
        (
            "patch",
            server.client_config("/patch"),
            "received undecodable patch in webhook response",
        ),
        (
            "kinds",
            server.client_config("/kinds"),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod",
        ),
        (
            "absent",
            server.client_config("/absent"),
            "received invalid webhook response: webhook response was absent",
        ),
        (
            "name",
            json!({ "url": format!("https://127.0.0.2:{}/", server.port), "caBundle": server.bundle }),
            "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, 10.96.0.1, not 127.0.0.2",
        ),
        ("silent", url(silent, "/"), timeout),
        (
            "refused",
            url(1, "/"),
            "dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            "stranger",
            url(other.port, "/"),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            "metadata",
            json!({ "url": "https://169.254.169.254/" }),
            "address not allowed",
        ),
        (
            "service",
            json!({ "service": { "namespace": "default", "name": "none" } }),
            "Post \\\"https://none.default.svc:443/?timeout=30s\\\": service \\\"none\\\" not found",
        ),
    ];
    // A world for each, side by side: what hangs takes its second.
    let all = cases
        .into_iter()
        .flat_map(|(name, client, want)| [true, false].map(|mutating| (name, client.clone(), want, mutating)))
        // A patch is nothing to a validating webhook.
        .filter(|(name, _, _, mutating)| *name != "patch" || *mutating);
    futures::future::join_all(all.map(|(name, client, want, mutating)| async move {
        let w = World::new().await;
        let path = if mutating { MUTATING } else { VALIDATING };
        // The others are judged by what they say; they may wait for their turn on a busy machine.
        let seconds = if want == timeout { 1 } else { 30 };
        let of = |policy: &str| {
            json!([hook(
                name,
                &client,
                &json!({ "failurePolicy": policy, "timeoutSeconds": seconds })
            )])
        };
        configure(&w, path, "h", of("Fail")).await;
        let started = Instant::now();
        let got = w.post(CONFIG_MAPS, &config_map(name)).await;
        check(&got, "500 Internal error occurred: failed calling webhook");
        assert!(got.text.contains(want), "{name}: {want:?} is not in {}", got.text);
        check(&w.get(&format!("{CONFIG_MAPS}/{name}")).await, "404");
        check(&w.delete(&format!("{path}/h"), &json!({})).await, "200");
        configure(&w, path, "h", of("Ignore")).await;
        check(&w.post(CONFIG_MAPS, &config_map(name)).await, "201");
        let waited = started.elapsed();
        let bound = Duration::from_secs(if want == timeout { 15 } else { 30 });
        assert!(waited < bound, "{name} took {waited:?}");
    }))
    .await;
}

#[tokio::test]
async fn webhooks_that_undo_each_other_come_to_an_end() {
    let w = World::new().await;
    let server = Https::start(|path, body| {
        patch(
            body,
            &json!([{ "op": "add", "path": "/data/owner", "value": path }]),
        )
    })
    .await;
    let again = json!({ "reinvocationPolicy": "IfNeeded" });
    let hooks: Vec<Value> = ["/x", "/y"]
        .iter()
        .map(|path| hook(&path[1..], &server.client_config(path), &again))
        .collect();
    configure(&w, MUTATING, "m", json!(hooks)).await;
    let made = check(&w.post(CONFIG_MAPS, &config_map("a")).await, "201");
    assert_eq!(made["data"]["owner"], "/y");
    let paths: Vec<String> = server.take().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/x", "/y", "/x", "/y"], "one more round, and no third");
}

#[tokio::test]
async fn slow_webhooks_are_asked_side_by_side_and_many_writers_stay_bounded() {
    let w = World::new().await;
    let server = Https::start(|_, _| Reply::Hang).await;
    let hooks: Vec<Value> = (0..5)
        .map(|i| {
            hook(
                &format!("h{i}"),
                &server.client_config("/"),
                &json!({ "failurePolicy": "Ignore" }),
            )
        })
        .collect();
    configure(&w, VALIDATING, "v", json!(hooks)).await;
    let started = Instant::now();
    let names: Vec<String> = (0..10).map(|i| format!("m{i}")).collect();
    let writes = names.iter().map(|name| {
        let w = &w;
        async move { w.post(CONFIG_MAPS, &config_map(name)).await.code }
    });
    let codes = futures::future::join_all(writes).await;
    assert!(codes.iter().all(|code| *code == 201), "{codes:?}");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn what_a_webhook_is_about() {
    let w = World::new().await;
    let server = Https::start(|_, body| review(body, json!({}))).await;
    let client = server.client_config("/");
    let labelled = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "watched", "labels": { "watch": "yes" } } });
    let namespaces = "/api/v1/namespaces";
    check(&w.post(namespaces, &labelled).await, "201");
    let everything =
        json!([{ "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"] }]);
    let hooks = json!([hook(
        "namespaced",
        &client,
        &json!({ "rules": everything, "namespaceSelector": { "matchLabels": { "watch": "yes" } } })
    ),]);
    configure(&w, VALIDATING, "a", hooks).await;
    let asked = |server: &Https| -> Vec<String> {
        let calls = server.take();
        let line = |(_, body): (String, Value)| {
            let request = &body["request"];
            let text = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
            let kind = &request["kind"];
            format!(
                "{} {}/{} {} {}",
                text("operation"),
                request["resource"]["resource"].as_str().unwrap_or_default(),
                text("subResource"),
                kind["kind"].as_str().unwrap_or_default(),
                kind["version"].as_str().unwrap_or_default(),
            )
        };
        calls.into_iter().map(line).collect()
    };
    check(&w.post(CONFIG_MAPS, &config_map("a")).await, "201");
    assert!(asked(&server).is_empty(), "another namespace");
    check(
        &w.post("/api/v1/namespaces/watched/configmaps", &config_map("a"))
            .await,
        "201",
    );
    assert_eq!(asked(&server), ["CREATE configmaps/ ConfigMap v1"]);
    check(&w.delete(&format!("{VALIDATING}/a"), &json!({})).await, "200");

    let hooks = json!([
        hook(
            "all",
            &client,
            &json!({ "rules": everything, "objectSelector": { "matchLabels": { "app": "web" } } })
        ),
        hook(
            "subs",
            &client,
            &json!({ "rules": [{ "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/binding", "*/eviction", "*/status", "*/scale"], "operations": ["*"] }] })
        ),
    ]);
    configure(&w, VALIDATING, "b", hooks).await;
    let mut web = pod("web");
    check(&w.post(PODS, &web).await, "201");
    assert_eq!(asked(&server), ["CREATE pods/ Pod v1"]);
    let binding = json!({ "metadata": { "name": "web" }, "target": { "kind": "Node", "name": "n" } });
    check(&w.post(&format!("{PODS}/web/binding"), &binding).await, "201");
    assert_eq!(asked(&server), ["CREATE pods/binding Binding v1"]);
    web["status"] = json!({ "phase": "Running" });
    check(
        &w.patch(
            &format!("{PODS}/web/status"),
            "merge",
            &json!({ "status": { "phase": "Running" } }),
        )
        .await,
        "200",
    );
    let mut both = asked(&server);
    both.sort();
    assert_eq!(both, ["UPDATE pods/status Pod v1", "UPDATE pods/status Pod v1"]);
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web" } });
    check(&w.post(&format!("{PODS}/web/eviction"), &eviction).await, "201");
    assert_eq!(asked(&server), ["CREATE pods/eviction Eviction v1"]);
    check(&w.post(DEPLOYMENTS, &deployment("d")).await, "201");
    let scale = json!({ "spec": { "replicas": 5 } });
    check(
        &w.patch(&format!("{DEPLOYMENTS}/d/scale"), "merge", &scale).await,
        "200",
    );
    assert_eq!(asked(&server), ["UPDATE deployments/scale Scale v1"]);
    check(&w.delete(&format!("{VALIDATING}/b"), &json!({})).await, "200");

    // A rule about one form of an object is about all of them, unless it says otherwise.
    let rule = |policy: &str| json!({ "matchPolicy": policy, "rules": [{ "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"], "operations": ["*"] }] });
    let hooks = json!([
        hook("equivalent", &client, &rule("Equivalent")),
        hook("exact", &client, &rule("Exact"))
    ]);
    configure(&w, VALIDATING, "c", hooks).await;
    let scaler = json!({ "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "h" },
        "spec": { "maxReplicas": 3, "scaleTargetRef": { "kind": "Deployment", "name": "d" },
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } }] } });
    check(
        &w.post(
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            &scaler,
        )
        .await,
        "201",
    );
    let calls = server.take();
    assert_eq!(calls.len(), 1);
    let request = &calls[0].1["request"];
    assert_eq!(request["requestKind"]["version"], "v2");
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
    check(&w.delete(&format!("{VALIDATING}/c"), &json!({})).await, "200");

    // Side effects forbid dry runs. (Only webhooks stored long ago may have them.)
    assert!(asked(&server).is_empty());
}

/// A server that hides what is in Secrets shows it to webhooks whose configuration has the label, and to no others.
#[tokio::test]
async fn webhooks_see_secrets_as_they_are_let() {
    let mut config = Config::new(std::net::IpAddr::from([192, 0, 2, 1]), "test CA");
    config.strict.hides_secrets = true;
    let w = World::with(config).await;
    let server = Https::start(|_, body| {
        if body["request"]["operation"] != "CREATE" {
            return review(body, json!({}));
        }
        patch(
            body,
            &json!([{ "op": "add", "path": "/metadata/labels", "value": { "seen": "yes" } }]),
        )
    })
    .await;
    let rules = json!({ "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["*"] }] });
    for (name, sees) in [("closed", "false"), ("open", "true")] {
        let hook = hook(name, &server.client_config(&format!("/{name}")), &rules);
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name, "labels": { "corten.dev/sees-secrets": sees } }, "webhooks": [hook],
        });
        check(&w.post(MUTATING, &object).await, "201");
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "data": { "key": "Q0FOQVJZ" } });
    let made = check(&w.post(secrets, &secret).await, "201");
    assert_eq!(
        (&made["data"]["key"], &made["metadata"]["labels"]["seen"]),
        (&json!("Q0FOQVJZ"), &json!("yes"))
    );
    check(&w.delete(&format!("{secrets}/s"), &json!({})).await, "200");
    let calls = server.take();
    assert_eq!(calls.len(), 4);
    for (path, body) in &calls {
        let request = &body["request"];
        let object = match request["operation"].as_str() {
            Some("DELETE") => &request["oldObject"],
            _ => &request["object"],
        };
        let value = if path == "/open" { "Q0FOQVJZ" } else { "" };
        assert_eq!(object["data"], json!({ "key": value }), "{path}");
        assert_eq!(body.to_string().contains("Q0FOQVJZ"), path == "/open");
    }
}
