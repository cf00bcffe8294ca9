//! Custom resources whose versions a webhook converts: read, written, watched, upgraded with what is stored, deleted.

mod common;
#[path = "common/https.rs"]
mod https;

use std::time::{Duration, Instant};

use common::{Got, World};
use https::{Https, Reply};
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "gadgets.example.com";
const V1: &str = "/apis/example.com/v1/namespaces/default/gadgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/gadgets";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

/// `v1` has `spec.size: "3"`, `v2` has `spec.width: 3`.
fn converted(object: &Value, desired: &str) -> Value {
    let mut new = object.clone();
    new["apiVersion"] = desired.into();
    let spec = &object["spec"];
    new["spec"] = if desired.ends_with("v2") {
        let size = spec["size"].as_str().unwrap_or("0");
        json!({ "width": size.parse::<i64>().unwrap_or_default(), "junk": true })
    } else {
        json!({ "size": spec["width"].as_i64().unwrap_or_default().to_string() })
    };
    new["metadata"]["annotations"]["from"] = object["apiVersion"].clone();
    new
}

fn convert(body: &Value) -> Reply {
    let request = &body["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().cloned().unwrap_or_default();
    let done: Vec<Value> = objects.iter().map(|object| converted(object, desired)).collect();
    answer(
        body,
        &json!({ "result": { "status": "Success" }, "convertedObjects": done }),
    )
}

fn answer(body: &Value, response: &Value) -> Reply {
    let mut response = response.clone();
    response["uid"] = body["request"]["uid"].clone();
    Reply::Json(
        200,
        json!({ "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response }),
    )
}

fn definition(client: &Value, storage: &str) -> Value {
    let version = |name: &str, field: &str, kind: &str| {
        json!({
            "name": name, "served": true, "storage": name == storage,
            "subresources": { "status": {}, "scale": { "specReplicasPath": ".spec.width", "statusReplicasPath": ".status.width" } },
            "selectableFields": [{ "jsonPath": format!(".spec.{field}") }],
            "additionalPrinterColumns": [{ "name": "Size", "type": "string", "jsonPath": format!(".spec.{field}") }],
            "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                "spec": { "type": "object", "required": [field],
                    "properties": { field: { "type": kind }, "colour": { "type": "string", "default": format!("grey-{name}") } } },
                "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            } } },
        })
    };
    let mut v1 = version("v1", "size", "string");
    v1["subresources"] = json!({ "status": {} });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": NAME },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList" },
            "versions": [v1, version("v2", "width", "integer")],
            "conversion": { "strategy": "Webhook",
                "webhook": { "conversionReviewVersions": ["v1"], "clientConfig": client } },
        },
    })
}

async fn define(w: &World, client: &Value) {
    check(&w.post(CRDS, &definition(client, "v1")).await, "201");
    until(w, |d| {
        d["status"]["conditions"].as_array().is_some_and(|list| {
            list.iter()
                .any(|c| c["type"] == "Established" && c["status"] == "True")
        })
    })
    .await;
}

async fn until(w: &World, holds: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let got = w.get(&format!("{CRDS}/{NAME}")).await;
        if got.code == 404 && holds(&Value::Null) || got.code == 200 && holds(&got.json()) {
            return;
        }
        assert!(Instant::now() < deadline, "{}", got.text);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn gadget(version: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": format!("example.com/{version}"), "kind": "Gadget", "metadata": { "name": name }, "spec": spec })
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn each_version_selects_by_fields_of_its_own() {
    let w = World::new().await;
    let server = Https::start(|_, body| convert(body)).await;
    define(&w, &server.client_config("/convert")).await;
    let mut sevens = w
        .watch(&format!("{V2}?watch=true&fieldSelector=spec.width%3D7"))
        .await;
    let mut threes = w
        .watch(&format!("{V1}?watch=true&fieldSelector=spec.size%3D3"))
        .await;
    check(
        &w.post(V1, &gadget("v1", "a", &json!({ "size": "3" }))).await,
        "201",
    );
    for (name, width) in [("b", 7), ("c", 3)] {
        check(
            &w.post(V2, &gadget("v2", name, &json!({ "width": width }))).await,
            "201",
        );
    }
    for (list, want) in [
        (format!("{V2}?fieldSelector=spec.width%3D3"), vec!["a", "c"]),
        (format!("{V2}?fieldSelector=spec.width%21%3D3"), vec!["b"]),
        (format!("{V1}?fieldSelector=spec.size%3D3"), vec!["a", "c"]),
        (format!("{V1}?fieldSelector=spec.size%3D7"), vec!["b"]),
    ] {
        let got = check(&w.get(&list).await, "200");
        assert_eq!(names(&got), want, "{list}");
    }
    let mut next = async |own: &str| {
        let events = if own == "sevens" { &mut sevens } else { &mut threes };
        let event = events.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap_or_default())
    };
    assert_eq!(next("sevens").await, "ADDED b");
    assert_eq!(next("threes").await, "ADDED a");
    assert_eq!(next("threes").await, "ADDED c");
    // Who changes in the one version comes and goes in the other.
    check(
        &w.patch(&format!("{V1}/a"), "merge", &json!({ "spec": { "size": "7" } }))
            .await,
        "200",
    );
    assert_eq!(next("sevens").await, "ADDED a");
    assert_eq!(next("threes").await, "DELETED a");
    let gone = check(
        &w.delete(&format!("{V2}?fieldSelector=spec.width%3D7"), &json!({}))
            .await,
        "200",
    );
    assert_eq!(names(&gone), ["a", "b"]);
    assert_eq!(names(&check(&w.get(V1).await, "200")), ["c"]);
}

#[tokio::test]
async fn a_definition_with_two_versions_from_its_beginning_to_its_end() {
    let w = World::new().await;
    let server = Https::start(|_, body| convert(body)).await;
    let client = server.client_config("/convert");
    define(&w, &client).await;

    // The stored version costs no call, however it is used.
    for name in ["a", "b", "c"] {
        check(
            &w.post(V1, &gadget("v1", name, &json!({ "size": "3" }))).await,
            "201",
        );
    }
    check(
        &w.patch(
            &format!("{V1}/a"),
            "merge",
            &json!({ "metadata": { "labels": { "l": "x" } } }),
        )
        .await,
        "200",
    );
    check(&w.get(V1).await, "200");
    assert!(server.take().is_empty());

    // The other one is converted, pruned, and has its own defaults.
    let got = check(&w.get(&format!("{V2}/a")).await, "200");
    assert_eq!(got["apiVersion"], "example.com/v2");
    assert_eq!(got["spec"], json!({ "width": 3, "colour": "grey-v2" }));
    assert_eq!(got["metadata"]["labels"], json!({ "l": "x" }));
    assert_eq!(got["metadata"]["annotations"]["from"], "example.com/v1");
    assert_eq!(server.take().len(), 1);
    let list = check(&w.get(V2).await, "200");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    assert!(
        list["items"]
            .as_array()
            .is_some_and(|items| items.iter().all(|i| i["spec"]["width"] == 3))
    );
    let calls = server.take();
    assert_eq!(calls.len(), 1, "one call for the whole list");
    assert_eq!(calls[0].1["request"]["objects"].as_array().map(Vec::len), Some(3));
    assert_eq!(calls[0].1["request"]["desiredAPIVersion"], "example.com/v2");
    let table = w
        .ask(
            "GET",
            &format!("{V2}/a"),
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            "",
        )
        .await;
    assert_eq!(check(&table, "200")["rows"][0]["cells"], json!(["a", "3"]));

    // Written in the other version, stored in its own.
    let made = check(
        &w.post(V2, &gadget("v2", "d", &json!({ "width": 7 }))).await,
        "201",
    );
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["width"]),
        (&json!("example.com/v2"), &json!(7))
    );
    server.take();
    let stored = check(&w.get(&format!("{V1}/d")).await, "200");
    assert_eq!(stored["spec"]["size"], "7");
    assert!(server.take().is_empty(), "it is stored in v1");
    let mut changed = made.clone();
    changed["spec"]["width"] = 8.into();
    changed["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
    let put = check(&w.put(&format!("{V2}/d"), &changed).await, "200");
    assert_eq!(
        (&put["spec"]["width"], &put["metadata"]["generation"]),
        (&json!(8), &json!(2))
    );
    check(
        &w.patch(&format!("{V2}/d"), "merge", &json!({ "spec": { "width": 9 } }))
            .await,
        "200 \"width\":9",
    );
    let applied = w
        .ask(
            "PATCH",
            &format!("{V2}/d?fieldManager=me&force=true"),
            &[("content-type", "application/apply-patch+yaml")],
            gadget("v2", "d", &json!({ "width": 10 })).to_string(),
        )
        .await;
    check(&applied, "200 \"width\":10");
    check(
        &w.patch(
            &format!("{V2}/d/scale"),
            "merge",
            &json!({ "spec": { "replicas": 12 } }),
        )
        .await,
        "200",
    );
    let bad = gadget("v2", "bad", &json!({ "width": "wide" }));
    check(&w.post(V2, &bad).await, "422 spec.width");
    check(&w.get(&format!("{V1}/d")).await, "200 \"size\":\"12\"");

    // A watch shows each event in the version it was asked for.
    let mut events = w
        .watch(&format!(
            "{V2}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ))
        .await;
    for _ in 0..4 {
        let event = events.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["apiVersion"]),
            (&json!("ADDED"), &json!("example.com/v2"))
        );
    }
    assert_eq!(events.next().await.expect("a bookmark")["type"], "BOOKMARK");
    check(
        &w.post(V1, &gadget("v1", "e", &json!({ "size": "5" }))).await,
        "201",
    );
    let event = events.next().await.expect("an event");
    assert_eq!(
        (
            &event["object"]["metadata"]["name"],
            &event["object"]["spec"]["width"]
        ),
        (&json!("e"), &json!(5))
    );
    check(&w.delete(&format!("{V2}/e"), &json!({})).await, "200");
    let event = events.next().await.expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["width"]),
        (&json!("DELETED"), &json!(5))
    );

    // The upgrade: what is written from now on is v2, and what is stored is rewritten by writing it again.
    let mut next = check(&w.get(&format!("{CRDS}/{NAME}")).await, "200");
    for version in next["spec"]["versions"].as_array_mut().expect("versions") {
        version["storage"] = (version["name"] == "v2").into();
    }
    let put = check(&w.put(&format!("{CRDS}/{NAME}"), &next).await, "200");
    assert_eq!(put["status"]["storedVersions"], json!(["v1", "v2"]));
    until_served_as(&w, &server).await;
    check(
        &w.post(V2, &gadget("v2", "new", &json!({ "width": 1 }))).await,
        "201",
    );
    server.take();
    check(&w.get(&format!("{V2}/new")).await, "200");
    assert!(server.take().is_empty(), "new objects are stored in v2");
    check(&w.get(&format!("{V2}/a")).await, "200");
    assert_eq!(server.take().len(), 1, "old ones still in v1");
    let mut early = check(&w.get(&format!("{CRDS}/{NAME}")).await, "200");
    early["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .remove(0);
    check(
        &w.put(&format!("{CRDS}/{NAME}"), &early).await,
        "422 status.storedVersions",
    );
    let all = check(&w.get(V2).await, "200");
    for item in all["items"].as_array().expect("items") {
        let mut item = item.clone();
        item["apiVersion"] = "example.com/v2".into();
        item["kind"] = "Gadget".into();
        let name = item["metadata"]["name"].as_str().expect("a name").to_owned();
        check(&w.put(&format!("{V2}/{name}"), &item).await, "200");
    }
    server.take();
    check(&w.get(V2).await, "200");
    assert!(server.take().is_empty(), "everything is stored in v2 now");
    let done = json!({ "status": { "storedVersions": ["v2"] } });
    check(
        &w.patch(&format!("{CRDS}/{NAME}/status"), "merge", &done).await,
        "200",
    );
    let mut last = check(&w.get(&format!("{CRDS}/{NAME}")).await, "200");
    last["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .remove(0);
    check(&w.put(&format!("{CRDS}/{NAME}"), &last).await, "200");
    until(&w, |_| true).await;
    check(&w.get(&format!("{V2}/a")).await, "200 \"width\":3");

    check(&w.delete(&format!("{CRDS}/{NAME}"), &json!({})).await, "200");
    until(&w, Value::is_null).await;
    assert!(server.take().is_empty());
}

/// Waits until a new v2 object costs no call: the new storage version is in force.
async fn until_served_as(w: &World, server: &Https) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        server.take();
        let probe = w
            .post(
                &format!("{V2}?dryRun=All"),
                &gadget("v2", "probe", &json!({ "width": 1 })),
            )
            .await;
        check(&probe, "201");
        let stored = w.post(V2, &gadget("v2", "probe", &json!({ "width": 1 }))).await;
        check(&stored, "201");
        let calls = server.take().len();
        check(&w.delete(&format!("{V2}/probe"), &json!({})).await, "200");
        if calls == 0 {
            return;
        }
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test]
async fn webhooks_that_convert_badly_are_told_of_and_keep_nothing_from_being_deleted() {
    let w = World::new().await;
    let server = Https::start(|path, body| match path {
        "/fewer" => answer(
            body,
            &json!({ "result": { "status": "Success" }, "convertedObjects": [] }),
        ),
        "/refuse" => answer(
            body,
            &json!({ "result": { "status": "Failed", "message": "not today" } }),
        ),
        "/rename" => {
            let mut object = converted(&body["request"]["objects"][0], "example.com/v2");
            object["metadata"]["name"] = "other".into();
            answer(
                body,
                &json!({ "result": { "status": "Success" }, "convertedObjects": [object] }),
            )
        }
        "/text" => Reply::Text(200, "hm".into()),
        "/500" => Reply::Text(500, "boom".into()),
        "/die" => Reply::Die,
        _ => convert(body),
    })
    .await;
    define(&w, &server.client_config("/die")).await;
    check(
        &w.post(V1, &gadget("v1", "a", &json!({ "size": "3" }))).await,
        "201",
    );
    let mut events = w.watch(&format!("{V2}?watch=true")).await;
    assert_eq!(w.get(V2).await.code, 500);
    let from = "conversion webhook for example.com/v1, Kind=Gadget failed: ";
    for (path, want) in [
        ("/fewer", "webhook returned 0 objects, expected 1"),
        ("/refuse", "not today"),
        ("/rename", "metadata.name was changed"),
        ("/text", "couldn't get version/kind"),
        ("/500", "an error on the server"),
        ("/die", "Post"),
    ] {
        let mut now = check(&w.get(&format!("{CRDS}/{NAME}")).await, "200");
        now["spec"]["conversion"]["webhook"]["clientConfig"] = server.client_config(path);
        check(&w.put(&format!("{CRDS}/{NAME}"), &now).await, "200");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let got = w.get(&format!("{V2}/a")).await;
            assert_eq!(got.code, 500, "{}", got.text);
            assert!(got.text.contains(from), "{}", got.text);
            if got.text.contains(want) {
                break;
            }
            assert!(Instant::now() < deadline, "{want:?} is not in {}", got.text);
        }
        let patched = w
            .patch(&format!("{V2}/a"), "merge", &json!({ "spec": { "width": 1 } }))
            .await;
        assert_eq!(patched.code, 500, "{}", patched.text);
    }
    check(
        &w.post(V2, &gadget("v2", "b", &json!({ "width": 3 }))).await,
        "500 Kind=Gadget failed",
    );
    check(&w.get(&format!("{V1}/b")).await, "404");
    check(
        &w.patch(&format!("{V1}/a"), "merge", &json!({ "spec": { "size": "4" } }))
            .await,
        "200",
    );
    assert_eq!(events.next().await.expect("an error")["type"], "ERROR");
    assert!(events.next().await.is_none(), "the watch ends with it");
    check(&w.delete(&format!("{CRDS}/{NAME}"), &json!({})).await, "200");
    until(&w, Value::is_null).await;
}
