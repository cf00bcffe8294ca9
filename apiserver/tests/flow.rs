//! Priority and fairness: who waits, who is refused, and that changes of its objects are in force.

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{CONFIG_MAPS, World};
use corten_apiserver::{Config, User};
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const FLOW_CONTROL: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

fn level(response: Value) -> Value {
    json!({
        "metadata": { "name": "narrow" },
        "spec": { "type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response,
        }},
    })
}

fn schema(level: &str) -> Value {
    json!({
        "metadata": { "name": "janes" },
        "spec": {
            "priorityLevelConfiguration": { "name": level },
            "matchingPrecedence": 50,
            "distinguisherMethod": { "type": "ByUser" },
            "rules": [{
                "subjects": [{ "kind": "User", "user": { "name": "jane" } }],
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true }],
            }],
        },
    })
}

/// A server with few seats: one share of it is one seat.
async fn world() -> World {
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.seats = 40;
    let world = World::with(config).await;
    let value = "x".repeat(8 * 1024);
    for number in 0..20 {
        let map = json!({ "metadata": { "name": format!("m{number}") }, "data": { "a": value } });
        assert_eq!(world.post(CONFIG_MAPS, &map).await.code, 201);
    }
    let role = json!({
        "metadata": { "name": "jane" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(world.post(bindings, &role).await.code, 201);
    world
}

/// Asks until the answer is as wanted: what is written here is in force a moment later.
async fn until<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F, good: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it does not become so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn uid(world: &World, path: &str) -> String {
    world.get(path).await.json()["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned()
}

/// A list whose answer nobody reads: it keeps its seats.
async fn unread(world: &World) -> http::Response<corten_apiserver::body::Body> {
    let request = Request::get(CONFIG_MAPS)
        .body(Full::<Bytes>::default())
        .expect("a request");
    let answer = world.send(request).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.body().as_bytes().is_none(), "it is a stream");
    answer
}

#[tokio::test]
async fn answers_tell_of_which_flow_they_are() {
    let world = World::new().await;
    let got = world.get(CONFIG_MAPS).await;
    assert_eq!(
        got.headers["x-kubernetes-pf-flowschema-uid"],
        uid(&world, &format!("{SCHEMAS}/exempt")).await
    );
    assert_eq!(
        got.headers["x-kubernetes-pf-prioritylevel-uid"],
        uid(&world, &format!("{LEVELS}/exempt")).await
    );
    let jane = world.by(User::new("jane", &[]));
    let got = jane.get("/api").await;
    let own = uid(&world, &format!("{LEVELS}/global-default")).await;
    assert_eq!(got.headers["x-kubernetes-pf-prioritylevel-uid"], own);
}

#[tokio::test]
async fn who_finds_no_seat_is_refused_or_waits_as_the_level_says() {
    let world = world().await;
    let jane = world.by(User::new("jane", &[]));
    assert_eq!(
        world.post(LEVELS, &level(json!({ "type": "Reject" }))).await.code,
        201
    );
    assert_eq!(world.post(SCHEMAS, &schema("narrow")).await.code, 201);
    let narrow = uid(&world, &format!("{LEVELS}/narrow")).await;
    let is_narrow = |got: &common::Got| got.headers["x-kubernetes-pf-prioritylevel-uid"] == narrow.as_str();
    until(|| jane.get(CONFIG_MAPS), is_narrow).await;

    let held = unread(&jane).await;
    let refused = jane.get(&format!("{CONFIG_MAPS}/m1")).await;
    assert_eq!(refused.code, 429, "{}", refused.text);
    assert_eq!(refused.text, "Too many requests, please try again later.\n");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        refused.headers["x-kubernetes-pf-prioritylevel-uid"],
        narrow.as_str()
    );
    assert_eq!(world.get(CONFIG_MAPS).await.code, 200, "others are not concerned");
    assert_eq!(world.by(User::new("joe", &[])).get("/api").await.code, 200);
    let metrics = world.get("/metrics").await.text;
    let line = "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"janes\",priority_level=\"narrow\",reason=\"concurrency-limit\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    assert!(metrics.contains("apiserver_flowcontrol_current_executing_seats{priority_level=\"narrow\"} 1"));
    drop(held);
    assert_eq!(jane.get(&format!("{CONFIG_MAPS}/m1")).await.code, 200);

    let queue = json!({ "type": "Queue", "queuing": { "queues": 2, "handSize": 1, "queueLengthLimit": 2 } });
    let patch = json!({ "spec": { "limited": { "limitResponse": queue } } });
    let changed = world.patch(&format!("{LEVELS}/narrow"), "merge", &patch).await;
    assert_eq!(changed.code, 200, "{}", changed.text);
    let held = unread(&jane).await;
    let waiting = |number: u32| {
        let jane = world.by(User::new("jane", &[]));
        tokio::spawn(async move { jane.get(&format!("{CONFIG_MAPS}/m{number}")).await.code })
    };
    // Until the change is in force the first ones are refused.
    let mut first = waiting(1);
    let queued = async || {
        let text = world.get("/metrics").await.text;
        text.contains("apiserver_flowcontrol_current_inqueue_requests{priority_level=\"narrow\"} 1")
    };
    let start = Instant::now();
    while !queued().await {
        if first.is_finished() {
            assert_eq!(first.await.expect("an answer"), 429);
            first = waiting(1);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = waiting(2);
    until(
        || async { world.get("/metrics").await.text },
        |text| text.contains("apiserver_flowcontrol_current_inqueue_requests{priority_level=\"narrow\"} 2"),
    )
    .await;
    assert_eq!(waiting(3).await.expect("an answer"), 429, "the queue is full");
    assert!(!first.is_finished() && !second.is_finished());
    let bytes = held.into_body().collect().await.expect("the list").to_bytes();
    assert!(bytes.len() > 160 * 1024, "it was complete");
    assert_eq!(
        (first.await.expect("an answer"), second.await.expect("an answer")),
        (200, 200)
    );
}

#[tokio::test]
async fn a_watch_has_a_seat_only_while_it_begins() {
    let world = world().await;
    let jane = world.by(User::new("jane", &[]));
    world.post(LEVELS, &level(json!({ "type": "Reject" }))).await;
    world.post(SCHEMAS, &schema("narrow")).await;
    let narrow = uid(&world, &format!("{LEVELS}/narrow")).await;
    until(|| jane.get("/api"), |got| got.code == 200).await;
    until(
        || jane.get(CONFIG_MAPS),
        |got| got.headers["x-kubernetes-pf-prioritylevel-uid"] == narrow.as_str(),
    )
    .await;
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(jane.watch(&format!("{CONFIG_MAPS}?watch=1")).await);
    }
}

#[tokio::test]
async fn schemas_tell_whether_their_level_exists_and_the_mandatory_objects_stay() {
    let world = World::new().await;
    let condition = async |name: &str| {
        let object = world.get(&format!("{SCHEMAS}/{name}")).await.json();
        object["status"]["conditions"][0].clone()
    };
    let of_service = condition("service-accounts").await;
    assert_eq!(
        (&of_service["type"], &of_service["status"]),
        (&json!("Dangling"), &json!("False"))
    );
    assert_eq!(
        of_service["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"workload-low\" and it exists"
    );
    assert_eq!(world.post(SCHEMAS, &schema("narrow")).await.code, 201);
    let dangling = until(|| condition("janes"), |condition| condition["status"] == "True").await;
    assert_eq!(dangling["reason"], "NotFound");
    world.post(LEVELS, &level(json!({ "type": "Reject" }))).await;
    until(|| condition("janes"), |condition| condition["status"] == "False").await;

    for gone in [format!("{SCHEMAS}/catch-all"), format!("{LEVELS}/exempt")] {
        assert_eq!(world.delete(&gone, &json!({})).await.code, 200);
        until(|| world.get(&gone), |got| got.code == 200).await;
    }
    assert_eq!(world.get(&format!("{FLOW_CONTROL}/")).await.code, 200);
}
