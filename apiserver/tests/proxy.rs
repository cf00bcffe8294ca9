//! What a proxied request is answered before any byte leaves the server.

mod common;

use common::{Got, PODS, World, pod};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

#[tokio::test]
async fn only_pods_are_reached_and_only_through_their_node() {
    let w = World::new().await;
    check(&w.post(PODS, &pod("p")).await, "201");
    let at = |path: &str| format!("{PODS}/{path}");
    let moved = w.get(&at("p/proxy?a=b")).await;
    check(&moved, "301");
    assert_eq!(moved.headers["location"], at("p/proxy/?a=b").as_str());
    check(&w.get(&at("no/proxy/")).await, "404 pods \\\"no\\\" not found");
    check(&w.get(&at("ftp:p:80/proxy/")).await, "400 invalid pod request");
    check(&w.get(&at("p/proxy/")).await, "400 address not allowed");
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n1" } });
    check(&w.post(&at("p/binding"), &binding).await, "201");
    let status = json!({ "status": { "podIP": "10.1.0.5", "podIPs": [{ "ip": "10.1.0.5" }] } });
    check(&w.patch(&at("p/status"), "merge", &status).await, "200");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let got = w.ask(method, &at("p:8080/proxy/x//y/%2F?z"), &[], "").await;
        check(&got, "503 node \\\"n1\\\" has no tunnel to this server");
    }

    let service =
        json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "name": "web", "port": 80 }] } });
    check(&w.post(SERVICES, &service).await, "201");
    let at = |path: &str| format!("{SERVICES}/{path}");
    check(
        &w.get(&at("s:81/proxy/")).await,
        "503 no service port 81 found for service \\\"s\\\"",
    );
    let endpoints = |addresses: Value| {
        json!({ "metadata": { "name": "s" },
            "subsets": [{ "addresses": addresses, "ports": [{ "name": "web", "port": 8080 }] }] })
    };
    // An address alone is nothing: it could be anybody's.
    let path = "/api/v1/namespaces/default/endpoints";
    check(
        &w.post(path, &endpoints(json!([{ "ip": "192.0.2.7" }]))).await,
        "201",
    );
    check(
        &w.get(&at("s:web/proxy/")).await,
        "503 no endpoints available for service \\\"s:web\\\"",
    );
    let of =
        |ip: &str| json!([{ "ip": ip, "targetRef": { "kind": "Pod", "namespace": "default", "name": "p" } }]);
    check(
        &w.put(&format!("{path}/s"), &endpoints(of("192.0.2.7"))).await,
        "200",
    );
    check(&w.get(&at("s:web/proxy/")).await, "503 no endpoints available");
    check(
        &w.put(&format!("{path}/s"), &endpoints(of("10.1.0.5"))).await,
        "200",
    );
    for name in ["s:web", "s:80", "https:s:web"] {
        check(
            &w.get(&at(&format!("{name}/proxy/"))).await,
            "503 node \\\"n1\\\" has no tunnel",
        );
    }
    check(&w.get(&at("s:other/proxy/")).await, "503 no endpoints available");
    check(
        &w.get("/api/v1/nodes/n1/proxy/healthz").await,
        "503 which serves no kubelet API",
    );
}
