//! Custom resources, served live: from the definition to its objects and back to nothing.

mod common;

use std::time::Duration;

use common::World;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "required": ["image"], "properties": {
                            "image": {"type": "string", "pattern": "^[a-z]+$"},
                            "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
                            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                                "items": {"type": "object", "required": ["port"], "properties": {
                                    "port": {"type": "integer"}, "name": {"type": "string"}}}},
                            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                            "either": {"x-kubernetes-int-or-string": true}}},
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}}}}},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                    "additionalPrinterColumns": [
                        {"name": "Image", "type": "string", "jsonPath": ".spec.image"},
                        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
                    "selectableFields": [{"jsonPath": ".spec.image"}]},
                {"name": "v1beta1", "served": true, "storage": false,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn tab(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"image": "cron"}})
}

fn is(definition: &Value, kind: &str) -> bool {
    let all = definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    all.into_iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

/// Waits until the definition says `test`, or is gone when that is what `test` takes for `null`.
async fn until(w: &World, name: &str, test: impl Fn(&Value) -> bool) {
    for _ in 0..500 {
        let got = w.get(&format!("{CRDS}/{name}")).await;
        let value = if got.code == 404 { Value::Null } else { got.json() };
        if test(&value) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", w.get(&format!("{CRDS}/{name}")).await.text);
}

async fn established() -> World {
    let w = World::new().await;
    let made = w.post(CRDS, &definition()).await;
    assert_eq!(made.code, 201, "{}", made.text);
    until(&w, "crontabs.stable.example.com", |d| is(d, "Established")).await;
    w
}

#[tokio::test]
async fn a_definition_gets_its_defaults_and_status() {
    let w = established().await;
    let got = w.get(&format!("{CRDS}/crontabs.stable.example.com")).await.json();
    assert_eq!(got["spec"]["names"]["singular"], "crontab");
    assert_eq!(got["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(got["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(got["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(got["status"]["acceptedNames"], got["spec"]["names"]);
    assert!(is(&got, "NamesAccepted"));
    let resources = w.get("/apis/stable.example.com/v1").await.json();
    let names: Vec<&Value> = resources["resources"]
        .as_array()
        .expect("list")
        .iter()
        .map(|r| &r["name"])
        .collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    let document = w.get("/openapi/v3/apis/stable.example.com/v1").await.json();
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["required"], json!(["image"]));
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    let group = w.get("/apis/stable.example.com").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(group["versions"][1]["version"], "v1beta1");
}

#[tokio::test]
async fn objects_are_defaulted_pruned_and_checked() {
    let w = established().await;
    let mut body = tab("a");
    body["spec"]["unknown"] = 1.into();
    body["spec"]["free"] = json!({"x": {"y": 1}});
    let made = w.post(TABS, &body).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert!(
        made.headers["warning"]
            .to_str()
            .expect("text")
            .contains("unknown field \\\"spec.unknown\\\"")
    );
    let got = made.json();
    assert_eq!(
        got["spec"],
        json!({"image": "cron", "replicas": 1, "free": {"x": {"y": 1}}})
    );
    assert_eq!(got["metadata"]["generation"], 1);
    let strict = w.post(&format!("{TABS}?fieldValidation=Strict"), &body).await;
    assert_eq!(strict.code, 400);
    assert!(
        strict
            .text
            .contains("strict decoding error: unknown field \\\"spec.unknown\\\""),
        "{}",
        strict.text
    );
    let bad = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "b"},
        "spec": {"image": "X", "replicas": 11, "ports": [{"port": 1}, {"port": 1}]}});
    let refused = w.post(TABS, &bad).await.json();
    assert_eq!(refused["code"], 422);
    assert_eq!(
        refused["message"],
        "CronTab.stable.example.com \"b\" is invalid: [spec.image: Invalid value: \"X\": spec.image in body should match '^[a-z]+$', spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10, spec.ports[1]: Duplicate value: {\"port\":1}]"
    );
    let other = w
        .get("/apis/stable.example.com/v1beta1/namespaces/default/crontabs/a")
        .await
        .json();
    assert_eq!(other["apiVersion"], "stable.example.com/v1beta1");
    assert_eq!(other["spec"]["image"], "cron");
    let selected = w
        .get(&format!("{TABS}?fieldSelector=spec.image%3Dnone"))
        .await
        .json();
    assert_eq!(selected["items"], json!([]));
    assert_eq!(selected["kind"], "CronTabList");
    let table = w
        .ask(
            "GET",
            TABS,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            "",
        )
        .await
        .json();
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
    assert_eq!(
        table["rows"][0]["cells"].as_array().expect("cells")[..3],
        [json!("a"), json!("cron"), json!(1)]
    );
}

#[tokio::test]
async fn status_scale_and_patches() {
    let w = established().await;
    assert_eq!(w.post(TABS, &tab("a")).await.code, 201);
    let merge = [("content-type", "application/merge-patch+json")];
    let path = format!("{TABS}/a");
    let got = w
        .ask(
            "PATCH",
            &path,
            &merge,
            r#"{"spec":{"replicas":3},"status":{"phase":"x"}}"#,
        )
        .await
        .json();
    assert_eq!(got["metadata"]["generation"], 2, "{got}");
    assert!(got.get("status").is_none(), "status has its own path");
    let status = r#"{"status":{"replicas":2,"selector":"a=b"},"spec":{"replicas":9}}"#;
    let got = w
        .ask("PATCH", &format!("{path}/status"), &merge, status)
        .await
        .json();
    assert_eq!(
        (&got["spec"]["replicas"], &got["metadata"]["generation"]),
        (&json!(3), &json!(2))
    );
    let scale = w.get(&format!("{path}/scale")).await.json();
    assert_eq!(scale["spec"], json!({"replicas": 3}));
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "a=b"}));
    let scaled = w
        .ask(
            "PATCH",
            &format!("{path}/scale"),
            &merge,
            r#"{"spec":{"replicas":5}}"#,
        )
        .await;
    assert_eq!(scaled.code, 200, "{}", scaled.text);
    assert_eq!(w.get(&path).await.json()["spec"]["replicas"], 5);
    let plain = r#"{"metadata":{"finalizers":["no-domain"]}}"#;
    assert_eq!(w.ask("PATCH", &path, &merge, plain).await.code, 200);
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(w.ask("PATCH", &path, &strategic, "{}").await.code, 415);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let port = |name: &str, port: i64| {
        json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": port, "name": name}]}})
        .to_string()
    };
    for (manager, number) in [("one", 1), ("two", 2)] {
        let url = format!("{path}?fieldManager={manager}");
        let applied = w.ask("PATCH", &url, &apply, port(manager, number)).await;
        assert_eq!(applied.code, 200, "{}", applied.text);
    }
    let got = w.get(&path).await.json();
    assert_eq!(
        got["spec"]["ports"],
        json!([{"port": 1, "name": "one"}, {"port": 2, "name": "two"}])
    );
    let unknown = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, "nope": 1});
    let refused = w
        .ask(
            "PATCH",
            &format!("{path}?fieldManager=x"),
            &apply,
            unknown.to_string(),
        )
        .await;
    assert!(
        refused.text.contains(".nope: field not declared in schema"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn names_are_taken_once_and_come_free_again() {
    let w = established().await;
    let mut second = definition();
    second["metadata"]["name"] = "tabs.stable.example.com".into();
    second["spec"]["names"] = json!({"plural": "tabs", "kind": "Tab", "shortNames": ["ct"]});
    assert_eq!(w.post(CRDS, &second).await.code, 201);
    until(&w, "tabs.stable.example.com", |d| {
        d["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["reason"] == "ShortNamesConflict"))
    })
    .await;
    assert_eq!(w.get("/apis/stable.example.com/v1/tabs").await.code, 404);
    assert_eq!(
        w.ask("DELETE", &format!("{CRDS}/crontabs.stable.example.com"), &[], "")
            .await
            .code,
        200
    );
    until(&w, "tabs.stable.example.com", |d| is(d, "Established")).await;
    assert_eq!(w.get("/apis/stable.example.com/v1/tabs").await.code, 200);
}

#[tokio::test]
async fn a_definition_goes_with_its_objects() {
    let w = established().await;
    assert_eq!(w.post(TABS, &tab("a")).await.code, 201);
    let mut held = tab("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert_eq!(w.post(TABS, &held).await.code, 201);
    let name = "crontabs.stable.example.com";
    let deleted = w.ask("DELETE", &format!("{CRDS}/{name}"), &[], "").await.json();
    assert_eq!(
        deleted["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"]),
        "{deleted}"
    );
    until(&w, name, |d| is(d, "Terminating")).await;
    for _ in 0..500 {
        if w.get(&format!("{TABS}/a")).await.code == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = w.post(TABS, &tab("b")).await;
    assert_eq!(refused.code, 405, "{}", refused.text);
    assert_eq!(
        w.get(&format!("{TABS}/held")).await.code,
        200,
        "a finalizer holds it"
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let freed = w
        .ask(
            "PATCH",
            &format!("{TABS}/held"),
            &merge,
            r#"{"metadata":{"finalizers":null}}"#,
        )
        .await;
    assert_eq!(freed.code, 200, "{}", freed.text);
    until(&w, name, Value::is_null).await;
    for _ in 0..500 {
        if w.get(TABS).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still served");
}

#[tokio::test]
async fn a_version_only_a_webhook_could_serve_says_so() {
    let w = World::new().await;
    let mut body = definition();
    body["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/convert"}}});
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.replicas < 5"}]);
    let made = w.post(CRDS, &body).await;
    assert_eq!(made.code, 201, "{}", made.text);
    until(&w, "crontabs.stable.example.com", |d| is(d, "Established")).await;
    assert_eq!(w.post(TABS, &tab("a")).await.code, 201);
    let got = w
        .get("/apis/stable.example.com/v1beta1/namespaces/default/crontabs/a")
        .await;
    assert_eq!(got.code, 500);
    assert!(got.text.contains("conversion webhook"), "{}", got.text);
}

#[tokio::test]
async fn rules_are_kept_on_every_way_in() {
    let w = World::new().await;
    let mut own = definition();
    let rules = |expression: &str| json!([{"rule": expression, "message": "the rule says no"}]);
    let version = &mut own["spec"]["versions"][0];
    let schema = &mut version["schema"]["openAPIV3Schema"]["properties"];
    schema["spec"]["properties"]["image"]["x-kubernetes-validations"] = rules("self.startsWith(");
    let refused = w.post(CRDS, &own).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.text.contains("compilation failed: ERROR: <input>:1:17"),
        "{}",
        refused.text
    );
    let schema = &mut own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    schema["spec"]["properties"]["image"]["x-kubernetes-validations"] = rules("self == oldSelf");
    schema["spec"]["x-kubernetes-validations"] = rules("self.replicas < 5");
    schema["status"]["x-kubernetes-validations"] = rules("!has(self.phase) || self.phase in ['Up', 'Down']");
    let made = w.post(CRDS, &own).await;
    assert_eq!(made.code, 201, "{}", made.text);
    until(&w, "crontabs.stable.example.com", |d| is(d, "Established")).await;
    assert_eq!(w.post(TABS, &tab("a")).await.code, 201);
    let mut big = tab("b");
    big["spec"]["replicas"] = 7.into();
    let merge = "application/merge-patch+json";
    let one = format!("{TABS}/a");
    let image = json!({"spec": {"image": "other"}});
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let refused = [
        w.post(TABS, &big).await,
        w.patch(&one, merge, &image).await,
        w.patch(&format!("{one}/scale"), merge, &json!({"spec": {"replicas": 6}}))
            .await,
        w.patch(&format!("{one}/status"), merge, &phase("Odd")).await,
        w.patch(
            &format!("{TABS}/c?fieldManager=m"),
            "application/apply-patch+yaml",
            &{
                let mut body = big.clone();
                body["metadata"]["name"] = "c".into();
                body
            },
        )
        .await,
    ];
    for answer in refused {
        assert_eq!(answer.code, 422, "{}", answer.text);
        assert!(answer.text.contains("the rule says no"), "{}", answer.text);
    }
    assert_eq!(
        w.patch(&format!("{one}/status"), merge, &phase("Up")).await.code,
        200
    );
    let scaled = w
        .patch(&format!("{one}/scale"), merge, &json!({"spec": {"replicas": 4}}))
        .await;
    assert_eq!(scaled.code, 200, "{}", scaled.text);
}
