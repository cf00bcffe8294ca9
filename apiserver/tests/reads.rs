//! Lists, pages, forms and watches.

mod common;

use common::{CONFIG_MAPS, DEPLOYMENTS, PODS, World, config_map, deployment, pod};
use corten_store::Revision;
use serde_json::{Value, json};

async fn fill(w: &World, count: usize) {
    for i in 0..count {
        let mut object = config_map(&format!("c{i:03}"));
        object["metadata"]["labels"] = json!({ "half": if i % 2 == 0 { "even" } else { "odd" } });
        assert_eq!(w.post(CONFIG_MAPS, &object).await.code, 201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().expect("name"))
        .collect()
}

#[tokio::test]
async fn pages_are_one_consistent_list() {
    let w = World::new().await;
    fill(&w, 10).await;
    let base = format!("{CONFIG_MAPS}?labelSelector=half&limit=4");
    let first = w.get(&base).await.json();
    assert_eq!(names(&first), ["c000", "c001", "c002", "c003"]);
    let token = first["metadata"]["continue"].as_str().expect("more");
    // What happens between pages is not seen by the later ones.
    w.delete(&format!("{CONFIG_MAPS}/c005"), &json!({})).await;
    w.post(CONFIG_MAPS, &config_map("c0045")).await;
    let second = w.get(&format!("{base}&continue={token}")).await.json();
    assert_eq!(names(&second), ["c004", "c005", "c006", "c007"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let last = second["metadata"]["continue"].as_str().expect("more");
    let third = w.get(&format!("{base}&continue={last}")).await.json();
    assert_eq!(names(&third), ["c008", "c009"]);
    assert!(third["metadata"]["continue"].is_null());

    let all = w.get(&format!("{CONFIG_MAPS}?limit=4")).await.json();
    assert_eq!(all["metadata"]["remainingItemCount"], 11 - 4);
    // A page from a compacted revision is 410 with a token to go on.
    w.store
        .compact(w.store.snapshot().revision())
        .await
        .expect("compact");
    let expired = w.get(&format!("{base}&continue={token}")).await;
    assert_eq!(expired.code, 410);
    let expired = expired.json();
    assert_eq!(expired["reason"], "Expired");
    let fresh = expired["metadata"]["continue"]
        .as_str()
        .expect("a token to go on with");
    let rest = w.get(&format!("{base}&continue={fresh}")).await.json();
    assert_eq!(names(&rest), ["c004", "c006", "c007", "c008"]);
}

#[tokio::test]
async fn resource_versions() {
    let w = World::new().await;
    fill(&w, 3).await;
    let list = w.get(CONFIG_MAPS).await.json();
    let revision = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("revision")
        .to_owned();
    w.delete(&format!("{CONFIG_MAPS}/c000"), &json!({})).await;
    let exact = w
        .get(&format!(
            "{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"
        ))
        .await
        .json();
    assert_eq!(names(&exact), names(&list));
    let newer = w
        .get(&format!("{CONFIG_MAPS}?resourceVersion={revision}"))
        .await
        .json();
    assert_eq!(names(&newer).len(), names(&list).len() - 1);
    let future = w.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!(future.code, 504);
    assert!(
        future.text.contains("Too large resource version: 999999"),
        "{}",
        future.text
    );
    w.store
        .compact(w.store.snapshot().revision())
        .await
        .expect("compact");
    let old = w
        .get(&format!(
            "{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"
        ))
        .await;
    assert_eq!(old.code, 410);
}

#[tokio::test]
async fn selectors_and_forms() {
    let w = World::new().await;
    fill(&w, 5).await;
    let odd = w
        .get(&format!("{CONFIG_MAPS}?labelSelector=half+in+%28odd%29"))
        .await
        .json();
    assert_eq!(names(&odd), ["c001", "c003"]);
    let one = w
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Dc002")
        .await
        .json();
    assert_eq!(names(&one), ["c002"]);
    let one = w
        .get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc002"))
        .await
        .json();
    assert_eq!(names(&one), ["c002"]);
    assert_eq!(one["kind"], "ConfigMapList");
    assert!(
        one["items"][0]["kind"].is_null(),
        "items carry no type, as upstream"
    );

    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let got = w.ask("GET", CONFIG_MAPS, &table, "").await.json();
    assert_eq!(got["kind"], "Table");
    assert_eq!(got["columnDefinitions"][0]["name"], "Name");
    assert_eq!(got["rows"][0]["cells"][0], "c000");
    assert_eq!(got["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let got = w
        .ask("GET", &format!("{CONFIG_MAPS}?includeObject=Object"), &table, "")
        .await
        .json();
    assert_eq!(got["rows"][0]["object"]["kind"], "ConfigMap");
    let partial = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let got = w.ask("GET", CONFIG_MAPS, &partial, "").await.json();
    assert_eq!(got["kind"], "PartialObjectMetadataList");
    assert!(got["items"][0]["data"].is_null() && got["items"][0]["metadata"]["uid"].is_string());
}

#[tokio::test]
async fn long_lists_are_streamed_whole() {
    let w = World::new().await;
    let mut big = config_map("");
    big["data"]["a"] = "x".repeat(20_000).into();
    for i in 0..20 {
        big["metadata"]["name"] = format!("big{i:02}").into();
        assert_eq!(w.post(CONFIG_MAPS, &big).await.code, 201);
    }
    let list = w.get(CONFIG_MAPS).await.json();
    assert_eq!(names(&list).len(), 21);
}

#[tokio::test]
async fn a_watch_follows_a_list() {
    let w = World::new().await;
    let list = w.get(CONFIG_MAPS).await.json();
    let revision = list["metadata"]["resourceVersion"].as_str().expect("revision");
    w.post(CONFIG_MAPS, &config_map("a")).await;
    let mut events = w
        .watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    assert_eq!(events.next_line().await, "ADDED a");
    w.patch(
        &format!("{CONFIG_MAPS}/a"),
        "merge",
        &json!({ "data": { "b": "2" } }),
    )
    .await;
    let event = events.next().await.expect("event");
    assert_eq!(
        (event["type"].as_str(), event["object"]["data"]["b"].as_str()),
        (Some("MODIFIED"), Some("2"))
    );
    assert_eq!(event["object"]["kind"], "ConfigMap");
    w.post(DEPLOYMENTS, &deployment("other")).await;
    w.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await;
    let event = events.next().await.expect("event");
    assert_eq!(event["type"], "DELETED");
    let deleted: u64 = event["object"]["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|rv| rv.parse().ok())
        .expect("rv");
    assert_eq!(
        Revision(deleted),
        w.store.snapshot().revision(),
        "the deletion's own revision"
    );
}

#[tokio::test]
async fn selectors_turn_changes_into_additions_and_deletions() {
    let w = World::new().await;
    let mut events = w.watch(&format!("{PODS}?watch=1&labelSelector=app%3Dx")).await;
    w.post(PODS, &pod("p")).await;
    let label = async |value: &str| {
        w.patch(
            &format!("{PODS}/p"),
            "merge",
            &json!({ "metadata": { "labels": { "app": value } } }),
        )
        .await;
    };
    label("x").await;
    assert_eq!(events.next_line().await, "ADDED p");
    w.patch(
        &format!("{PODS}/p"),
        "merge",
        &json!({ "metadata": { "annotations": { "n": "1" } } }),
    )
    .await;
    assert_eq!(events.next_line().await, "MODIFIED p");
    label("y").await;
    let gone = events.next().await.expect("event");
    assert_eq!(
        (
            gone["type"].as_str(),
            gone["object"]["metadata"]["labels"]["app"].as_str()
        ),
        (Some("DELETED"), Some("x"))
    );
    label("x").await;
    assert_eq!(events.next_line().await, "ADDED p");
    w.delete(&format!("{PODS}/p"), &json!({})).await;
    assert_eq!(events.next_line().await, "DELETED p");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let w = World::new().await;
    fill(&w, 2).await;
    let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&labelSelector=half";
    let mut events = w.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(events.next_line().await, "ADDED c000");
    assert_eq!(events.next_line().await, "ADDED c001");
    let end = events.next().await.expect("bookmark");
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(
        end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let revision = w.store.snapshot().revision().to_string();
    assert_eq!(end["object"]["metadata"]["resourceVersion"], revision);
    w.patch(
        &format!("{CONFIG_MAPS}/c001"),
        "merge",
        &json!({ "data": { "b": "2" } }),
    )
    .await;
    assert_eq!(events.next_line().await, "MODIFIED c001");
}

#[tokio::test]
async fn a_watch_that_cannot_resume_says_so() {
    let w = World::new().await;
    fill(&w, 3).await;
    w.store
        .compact(w.store.snapshot().revision())
        .await
        .expect("compact");
    let mut events = w.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=2")).await;
    let event = events.next().await.expect("event");
    assert_eq!(event["type"], "ERROR");
    assert_eq!(
        (
            event["object"]["code"].as_u64(),
            event["object"]["reason"].as_str()
        ),
        (Some(410), Some("Expired"))
    );
    assert!(
        event["object"]["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("too old resource version: 2 ("))
    );
    assert_eq!(events.next_line().await, "end");
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let w = World::new().await;
    let list = w.get(CONFIG_MAPS).await.json();
    let revision = list["metadata"]["resourceVersion"].as_str().expect("revision");
    w.post(DEPLOYMENTS, &deployment("other")).await;
    let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={revision}");
    let mut events = w.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    let bookmark = events.next().await.expect("bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_ne!(bookmark["object"]["metadata"]["resourceVersion"], revision);
    assert_eq!(events.next_line().await, "end");
}

#[tokio::test]
async fn a_table_watch_names_its_columns_once() {
    let w = World::new().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut events = w
        .watch_as(&format!("{CONFIG_MAPS}?watch=1&labelSelector=half"), accept)
        .await;
    fill(&w, 2).await;
    let first = events.next().await.expect("event");
    assert_eq!(first["object"]["kind"], "Table");
    assert!(first["object"]["columnDefinitions"].is_array());
    assert_eq!(first["object"]["rows"][0]["cells"][0], "c000");
    let second = events.next().await.expect("event");
    assert!(second["object"]["columnDefinitions"].is_null());
}

#[tokio::test]
async fn a_node_hears_of_its_own_pods_only() {
    let w = World::new().await;
    let of = |node: &str, from: &str| format!("{PODS}?watch=1&fieldSelector=spec.nodeName%3D{node}{from}");
    let start = w.store.snapshot().revision();
    let mut one = w.watch(&of("n1", "")).await;
    let mut two = w
        .watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn2")
        .await;
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
        w.post(PODS, &pod(name)).await;
        let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node });
        let binding = json!({ "metadata": { "name": name }, "target": target });
        assert_eq!(
            w.post(&format!("{PODS}/{name}/binding"), &binding).await.code,
            201
        );
    }
    let patch = json!({ "metadata": { "labels": { "x": "y" } } });
    w.patch(&format!("{PODS}/a"), "merge", &patch).await;
    w.delete(&format!("{PODS}/b"), &json!({ "gracePeriodSeconds": 0 }))
        .await;
    w.delete(&format!("{PODS}/a"), &json!({ "gracePeriodSeconds": 0 }))
        .await;
    let mut again = w.watch(&of("n1", &format!("&resourceVersion={start}"))).await;
    for events in [&mut one, &mut again] {
        for want in ["ADDED a", "ADDED c", "MODIFIED a", "DELETED a"] {
            assert_eq!(events.next_line().await, want);
        }
    }
    for want in ["ADDED b", "DELETED b"] {
        assert_eq!(two.next_line().await, want);
    }
}
