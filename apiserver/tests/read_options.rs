//! What every combination of list and watch options answers: code, reason and upstream's text, over HTTP.

mod common;

use common::{CONFIG_MAPS, Got, PODS, World, config_map, pod};
use serde_json::{Value, json};

/// `want`: the names of a 200, or `CODE Reason: start of the message`.
#[track_caller]
fn check(path: &str, got: &Got, want: &str) {
    let body = got.json();
    let text = match got.code {
        200 => {
            let items = body["items"].as_array().expect("items").iter();
            let names: Vec<&str> = items
                .map(|item| item["metadata"]["name"].as_str().expect("name"))
                .collect();
            names.join(" ")
        }
        code => {
            let (reason, message) = (&body["reason"], &body["message"]);
            format!(
                "{code} {}: {}",
                reason.as_str().unwrap_or_default(),
                message.as_str().unwrap_or_default()
            )
        }
    };
    if got.code == 200 {
        assert_eq!(text, want, "{path}");
    } else {
        assert!(text.starts_with(want), "{path}\n got {text}\nwant {want}");
    }
}

#[tokio::test]
async fn lists_by_resource_version_and_match() {
    let w = World::new().await;
    let bare = "/api/v1/namespaces/empty/configmaps";
    w.post("/api/v1/namespaces", &json!({ "metadata": { "name": "empty" } }))
        .await;
    w.delete(&format!("{bare}/kube-root-ca.crt"), &json!({})).await;
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let made = w.post(bare, &config_map(name)).await.json();
        revisions.push(
            made["metadata"]["resourceVersion"]
                .as_str()
                .expect("revision")
                .to_owned(),
        );
    }
    // What is at the second revision: a and b. At the newest: all.
    let second = &revisions[1];
    for (query, want) in [
        ("".to_owned(), "a b c d"),
        ("limit=2".to_owned(), "a b"),
        ("limit=-2".to_owned(), "a b c d"),
        ("resourceVersion=".to_owned(), "a b c d"),
        ("resourceVersion=0".to_owned(), "a b c d"),
        ("resourceVersion=0&limit=2".to_owned(), "a b c d"),
        (
            "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=2".to_owned(),
            "a b c d",
        ),
        (format!("resourceVersion={second}"), "a b c d"),
        (
            format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan"),
            "a b c d",
        ),
        (
            format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan&limit=3"),
            "a b c",
        ),
        (
            format!("resourceVersion={second}&resourceVersionMatch=Exact"),
            "a b",
        ),
        (
            format!("resourceVersion={second}&resourceVersionMatch=Exact&limit=1"),
            "a",
        ),
        (format!("resourceVersion={second}&limit=500"), "a b"),
        (
            "resourceVersionMatch=Exact".to_owned(),
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact".to_owned(),
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            format!("resourceVersion={second}&resourceVersionMatch=Oldest"),
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Oldest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "sendInitialEvents=true".to_owned(),
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "resourceVersion=abc".to_owned(),
            "400 BadRequest: invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "limit=x".to_owned(),
            "400 BadRequest: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "continue=%25".to_owned(),
            "400 BadRequest: invalid continue token: continue key is not valid: illegal base64 data at input byte 0",
        ),
        (
            "resourceVersion=99999999".to_owned(),
            "504 Timeout: Timeout: Too large resource version: 99999999, current: ",
        ),
        (
            "resourceVersion=99999999&resourceVersionMatch=Exact".to_owned(),
            "504 Timeout: Timeout: Too large resource version: 99999999, current: ",
        ),
    ] {
        let path = format!("{bare}?{query}");
        check(&path, &w.get(&path).await, want);
    }
    let first = w.get(&format!("{bare}?limit=2")).await.json();
    let token = first["metadata"]["continue"].as_str().expect("more");
    for (query, want) in [
        (String::new(), "c d"),
        ("&limit=1".into(), "c"),
        ("&resourceVersion=0&limit=1".into(), "c"),
        // The token says where, the selector what: a changed one is the client's business.
        ("&fieldSelector=metadata.name%3Dd".into(), "d"),
        ("&fieldSelector=metadata.name%3Da".into(), ""),
        (
            format!("&resourceVersion={second}"),
            "400 BadRequest: specifying resource version is not allowed when using continue",
        ),
        (
            format!("&resourceVersion={second}&resourceVersionMatch=Exact"),
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ] {
        let path = format!("{bare}?continue={token}{query}");
        check(&path, &w.get(&path).await, want);
    }
    w.store
        .compact(w.store.snapshot().revision())
        .await
        .expect("compact");
    let path = format!("{bare}?resourceVersion={second}&resourceVersionMatch=Exact");
    check(
        &path,
        &w.get(&path).await,
        "410 Expired: The resourceVersion for the provided list is too old.",
    );
    let path = format!("{bare}?resourceVersion={second}");
    check(&path, &w.get(&path).await, "a b c d");
}

#[tokio::test]
async fn selectors_and_what_is_wrong_with_them() {
    let w = World::new().await;
    for (name, labels) in [
        ("a", json!({ "tier": "web", "size": "5" })),
        ("b", json!({ "tier": "db" })),
        ("c", json!({})),
    ] {
        let mut object = pod(name);
        object["metadata"]["labels"] = labels;
        assert_eq!(w.post(PODS, &object).await.code, 201);
    }
    for (query, want) in [
        ("labelSelector=", "a b c"),
        ("labelSelector=tier", "a b"),
        ("labelSelector=%21tier", "c"),
        ("labelSelector=tier%3D%3Dweb", "a"),
        ("labelSelector=tier%21%3Dweb", "b c"),
        ("labelSelector=tier+in+%28web%2Cdb%29%2Csize", "a"),
        ("labelSelector=tier+notin+%28web%29", "b c"),
        ("labelSelector=size%3E4", "a"),
        ("fieldSelector=metadata.name%21%3Da", "b c"),
        (
            "fieldSelector=metadata.name%3Da%2Cmetadata.namespace%3Ddefault",
            "a",
        ),
        ("fieldSelector=metadata.name%3Da%2Cmetadata.namespace%3Dother", ""),
        ("fieldSelector=metadata.name%3Da%2Cmetadata.name%3Db", ""),
        ("fieldSelector=spec.nodeName%3D", "a b c"),
        ("fieldSelector=status.phase%3DPending&labelSelector=tier", "a b"),
        (
            "labelSelector=a+b",
            "400 BadRequest: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, >, <",
        ),
        (
            "labelSelector=%2C",
            "400 BadRequest: found ',', expected: !, identifier, or 'end of string'",
        ),
        (
            "labelSelector=x%3Da%2C",
            "400 BadRequest: found '', expected: identifier after ','",
        ),
        (
            "labelSelector=-x",
            "400 BadRequest: unable to parse requirement: <nil>: Invalid value: \"-x\": ",
        ),
        (
            "fieldSelector=x",
            "400 BadRequest: invalid selector: 'x'; can't understand 'x'",
        ),
        (
            "fieldSelector=spec.no%3Da",
            "400 BadRequest: field label not supported: spec.no",
        ),
    ] {
        for base in [PODS, "/api/v1/pods"] {
            let path = format!("{base}?{query}");
            check(&path, &w.get(&path).await, want);
        }
    }
    let path = format!("{CONFIG_MAPS}?fieldSelector=data.x%3Da");
    let text = "400 BadRequest: \"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    check(&path, &w.get(&path).await, text);
}

#[tokio::test]
async fn watches_by_options_and_by_path() {
    let w = World::new().await;
    w.post(PODS, &pod("a")).await;
    w.post(PODS, &pod("b")).await;
    for (query, want) in [
        (
            "resourceVersionMatch=NotOlderThan&resourceVersion=1",
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "sendInitialEvents=true",
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=Exact",
            "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ),
        (
            "labelSelector=%2C",
            "400 BadRequest: found ',', expected: !, identifier, or 'end of string'",
        ),
        (
            "timeoutSeconds=1s",
            "400 BadRequest: strconv.ParseInt: parsing \"1s\": invalid syntax",
        ),
    ] {
        let path = format!("{PODS}?watch=true&{query}");
        check(&path, &w.get(&path).await, want);
    }
    let bad = "/api/v1/watch/namespaces/default/pods/a?fieldSelector=metadata.name%3Db";
    let text = "400 BadRequest: fieldSelector metadata.name doesn't match requested name";
    check(bad, &w.get(bad).await, text);
    assert_eq!(w.get("/api/v1/watch/pods/a").await.code, 404);

    let watches = [
        ("/api/v1/watch/pods".to_owned(), "ADDED a, ADDED b"),
        (
            "/api/v1/watch/namespaces/default/pods".to_owned(),
            "ADDED a, ADDED b",
        ),
        (
            "/api/v1/watch/namespaces/default/pods/b?x=y".to_owned(),
            "ADDED b",
        ),
        ("/api/v1/watch/namespaces/default?x=y".to_owned(), "ADDED default"),
        (
            format!("{PODS}?watch=true&fieldSelector=metadata.name%3Da"),
            "ADDED a",
        ),
        (
            format!("{PODS}?watch=true&allowWatchBookmarks=true"),
            "ADDED a, ADDED b, BOOKMARK",
        ),
        (format!("{PODS}?watch=true&resourceVersion=0"), "ADDED a, ADDED b"),
        (
            format!("{PODS}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"),
            "",
        ),
    ];
    let asked = watches.map(async |(path, want)| {
        let join = if path.contains('?') { '&' } else { '?' };
        (w.get(&format!("{path}{join}timeoutSeconds=1")).await, path, want)
    });
    for (got, path, want) in futures::future::join_all(asked).await {
        assert_eq!(got.code, 200, "{path}");
        let lines = got
            .text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("an event"));
        let lines: Vec<String> = lines
            .map(|event| {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                format!("{} {name}", event["type"].as_str().expect("type"))
                    .trim_end()
                    .to_owned()
            })
            .collect();
        assert_eq!(lines.join(", "), want, "{path}");
    }
    // A name in the path makes a get of it, whatever `watch` says.
    assert_eq!(w.get(&format!("{PODS}/a?watch=true")).await.json()["kind"], "Pod");
    // A watch whose time was up before it began ends after the state.
    let over = w.get(&format!("{PODS}?watch=true&timeoutSeconds=-1")).await;
    assert_eq!((over.code, over.text.lines().count()), (200, 2));
}

#[tokio::test]
async fn a_watch_from_a_revision_to_come_waits_for_it() {
    let w = World::new().await;
    let next = w.store.snapshot().revision().0 + 2;
    let mut events = w
        .watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={next}"))
        .await;
    for name in ["a", "b", "c"] {
        w.post(CONFIG_MAPS, &config_map(name)).await;
    }
    assert_eq!(events.next_line().await, "ADDED c");
}

#[tokio::test]
async fn answers_for_people_have_line_breaks() {
    let w = World::new().await;
    w.post(CONFIG_MAPS, &config_map("a")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let plain = w.get(&path).await;
    let pretty = w.get(&format!("{path}?pretty=true")).await;
    assert_eq!(plain.json(), pretty.json());
    assert!(
        pretty.text.starts_with(
            "{\n  \"kind\": \"ConfigMap\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \""
        )
    );
    let curl = w.ask("GET", &path, &[("user-agent", "curl/8.5.0")], "").await;
    assert_eq!(curl.text, pretty.text);
    let list = w.get(&format!("{CONFIG_MAPS}?pretty=1")).await;
    assert!(list.text.contains("\n  \"items\": [\n    {\n"), "{}", list.text);
    let missing = w.get(&format!("{CONFIG_MAPS}/none?pretty=1")).await;
    assert!(
        missing.text.contains("\n  \"reason\": \"NotFound\""),
        "{}",
        missing.text
    );
    let head = w.ask("HEAD", &path, &[], "").await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}
