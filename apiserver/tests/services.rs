//! Service addresses and node ports: given once, given back, kept in step with their records.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use common::{Got, World};
use corten_apiserver::Config;
use corten_store::{Op, Txn};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// `want` is `CODE` or `CODE text`, the text being part of the body.
#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

/// A cluster whose default range and node ports are small.
async fn world(cidr: &str) -> World {
    World::with(Config {
        service_cidr: cidr.parse().expect("CIDR"),
        node_ports: 30_000..=30_019,
        ..Config::new(IpAddr::from([192, 0, 2, 1]), "test CA")
    })
    .await
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn plain(name: &str) -> Value {
    service(name, json!({ "ports": [{ "port": 80 }] }))
}

fn at(name: &str, address: &str) -> Value {
    service(name, json!({ "clusterIP": address, "ports": [{ "port": 80 }] }))
}

#[tokio::test]
async fn an_address_has_an_object_while_its_service_lives() {
    let w = world("10.0.0.0/24").await;
    let cidr = check(&w.get(&format!("{CIDRS}/kubernetes")).await, "200");
    assert_eq!(cidr["spec"]["cidrs"], json!(["10.0.0.0/24"]));
    assert_eq!(cidr["status"]["conditions"][0]["status"], "True");
    let own = check(&w.get(&format!("{ADDRESSES}/10.0.0.1")).await, "200");
    assert_eq!(own["spec"]["parentRef"]["name"], "kubernetes");

    let made = check(&w.post(SERVICES, &plain("a")).await, "201");
    let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let path = format!("{ADDRESSES}/{address}");
    let object = check(&w.get(&path).await, "200");
    assert_eq!(
        object["spec"]["parentRef"],
        json!({ "resource": "services", "namespace": "default", "name": "a" })
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({ "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4" })
    );
    let dry = w
        .post(&format!("{SERVICES}?dryRun=All"), &at("b", "10.0.0.77"))
        .await;
    check(&dry, "201");
    check(&w.get(&format!("{ADDRESSES}/10.0.0.77")).await, "404");
    let name = json!({ "spec": { "type": "ExternalName", "externalName": "x.example", "clusterIP": null,
        "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null } });
    let external = w.patch(&format!("{SERVICES}/a"), "merge", &name).await;
    check(&external, "200 x.example");
    check(&w.get(&path).await, "404");
    let back = json!({ "spec": { "type": "ClusterIP", "externalName": null } });
    let back = check(&w.patch(&format!("{SERVICES}/a"), "merge", &back).await, "200");
    let address = back["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    check(&w.get(&format!("{ADDRESSES}/{address}")).await, "200");
    check(&w.delete(&format!("{SERVICES}/a"), &json!({})).await, "200");
    check(&w.get(&format!("{ADDRESSES}/{address}")).await, "404");
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_in_upstreams_words() {
    let w = world("10.0.0.0/24").await;
    check(&w.post(SERVICES, &at("a", "10.0.0.10")).await, "201");
    for (address, want) in [
        (
            "10.0.0.10",
            "422 failed to allocate IP 10.0.0.10: provided IP is already allocated",
        ),
        (
            "10.0.0.0",
            "422 failed to allocate IP 10.0.0.0: the provided network does not match the current range",
        ),
        (
            "10.0.0.255",
            "422 failed to allocate IP 10.0.0.255: the provided network does not match",
        ),
        (
            "192.0.2.1",
            "422 failed to allocate IP 192.0.2.1: the provided network does not match",
        ),
        ("fd00::1", "422 IPv6 is not configured on this cluster"),
    ] {
        check(&w.post(SERVICES, &at("b", address)).await, want);
    }
    // Anyone may keep an address for something else.
    let reserved = json!({ "metadata": { "name": "10.0.0.20" },
        "spec": { "parentRef": { "resource": "gateways", "group": "x.example", "namespace": "default", "name": "g" } } });
    check(&w.post(ADDRESSES, &reserved).await, "201");
    check(
        &w.post(SERVICES, &at("b", "10.0.0.20")).await,
        "422 already allocated",
    );
    let port = |number: u16| {
        service(
            "p",
            json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": number }] }),
        )
    };
    check(
        &w.post(SERVICES, &port(80)).await,
        "422 provided port is not in the valid range. The range of valid ports is 30000-30019",
    );
    check(&w.post(SERVICES, &port(30_005)).await, "201");
    let mut other = port(30_005);
    other["metadata"]["name"] = "q".into();
    check(
        &w.post(SERVICES, &other).await,
        "422 provided port is already allocated",
    );
    let two = service(
        "two",
        json!({ "type": "NodePort", "ports": [
        { "name": "t", "port": 53, "protocol": "TCP" }, { "name": "u", "port": 53, "protocol": "UDP" }] }),
    );
    let two = check(&w.post(SERVICES, &two).await, "201");
    assert_eq!(
        two["spec"]["ports"][0]["nodePort"],
        two["spec"]["ports"][1]["nodePort"]
    );
}

#[tokio::test]
async fn another_range_is_used_as_soon_as_it_is_there() {
    let w = world("10.0.0.0/30").await;
    check(&w.post(SERVICES, &plain("a")).await, "201");
    let full = "500 failed to allocate a serviceIP: range is full";
    check(&w.post(SERVICES, &plain("b")).await, full);
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.1.0.0/28"] } });
    check(&w.post(CIDRS, &more).await, "201");
    let made = check(&w.post(SERVICES, &plain("b")).await, "201");
    assert!(
        made["spec"]["clusterIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.1.0."))
    );
    let not_ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "x", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    check(
        &w.patch(&format!("{CIDRS}/more/status"), "merge", &not_ready)
            .await,
        "200",
    );
    check(&w.post(SERVICES, &plain("c")).await, full);
    check(
        &w.post(SERVICES, &at("c", "10.1.0.9")).await,
        "422 does not match the current range",
    );
    let held =
        json!({ "metadata": { "finalizers": ["networking.k8s.io/service-cidr-finalizer"] }, "status": null });
    let third = json!({ "metadata": { "name": "third", "finalizers": held["metadata"]["finalizers"] },
        "spec": { "cidrs": ["10.2.0.0/28"] } });
    check(&w.post(CIDRS, &third).await, "201");
    check(&w.post(SERVICES, &plain("c")).await, "201");
    check(&w.delete(&format!("{CIDRS}/third"), &json!({})).await, "200");
    check(&w.post(SERVICES, &plain("d")).await, full);
}

/// Everything that is held and everything that is recorded.
async fn audit(w: &World) {
    let services = check(&w.get("/api/v1/services").await, "200");
    let addresses = check(&w.get(ADDRESSES).await, "200");
    let none = Vec::new();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut ports: BTreeMap<u64, String> = BTreeMap::new();
    for service in services["items"].as_array().unwrap_or(&none) {
        let name = service["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let spec = &service["spec"];
        for ip in spec["clusterIPs"]
            .as_array()
            .unwrap_or(&none)
            .iter()
            .filter_map(Value::as_str)
        {
            if ip != "None" {
                assert_eq!(
                    holders.insert(ip.to_owned(), name.clone()),
                    None,
                    "{ip} is given twice"
                );
            }
        }
        let own: BTreeSet<u64> = spec["ports"]
            .as_array()
            .unwrap_or(&none)
            .iter()
            .filter_map(|port| port["nodePort"].as_u64())
            .collect();
        for port in own {
            assert_eq!(
                ports.insert(port, name.clone()),
                None,
                "port {port} is given twice"
            );
        }
    }
    let recorded: BTreeMap<String, String> = addresses["items"]
        .as_array()
        .unwrap_or(&none)
        .iter()
        .map(|object| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&object["metadata"]["name"]),
                text(&object["spec"]["parentRef"]["name"]),
            )
        })
        .collect();
    assert_eq!(recorded, holders);
    assert_eq!(port_records(w), ports.into_keys().collect());
}

const PORT_RECORDS: &str = "/corten.dev.internal/nodeports/";
const OLD_RECORDS: &str = "/corten.dev.internal/serviceips/";

fn records(w: &World, prefix: &str) -> Vec<String> {
    let range = corten_store::prefix_range(prefix.as_bytes());
    let entries = w.store.snapshot().range(range);
    entries
        .map(|entry| String::from_utf8_lossy(&entry.key[prefix.len()..]).into_owned())
        .collect()
}

fn port_records(w: &World) -> BTreeSet<u64> {
    records(w, PORT_RECORDS)
        .iter()
        .map(|port| port.parse().expect("a port"))
        .collect()
}

/// Random writes of many clients: nothing is given twice, nothing leaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_given_twice_and_nothing_leaks() {
    const WRITERS: u64 = 6;
    const WRITES: usize = 40;
    const NAMES: usize = 8;
    for seed in 0..4 {
        let w = world("10.0.0.0/28").await;
        let writers = (0..WRITERS).map(|writer| {
            let (w, mut rng) = (&w, StdRng::seed_from_u64(seed * 100 + writer));
            async move {
                for _ in 0..WRITES {
                    let name = format!("s{}", rng.random_range(0..NAMES));
                    let path = format!("{SERVICES}/{name}");
                    let kind =
                        ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][rng.random_range(0..4)];
                    let mut port = json!({ "port": rng.random_range(1..4) });
                    if kind == "NodePort" && rng.random_bool(0.5) {
                        port["nodePort"] = rng.random_range(29_999..30_021).into();
                    }
                    let mut spec = json!({ "type": kind, "ports": [port] });
                    match kind {
                        "ExternalName" => spec["externalName"] = "x.example".into(),
                        _ if rng.random_bool(0.3) => {
                            spec["clusterIP"] = format!("10.0.0.{}", rng.random_range(0..17)).into();
                        }
                        _ => {}
                    }
                    if kind == "LoadBalancer" {
                        spec["allocateLoadBalancerNodePorts"] = rng.random_bool(0.5).into();
                    }
                    let got = match rng.random_range(0..10) {
                        0..4 => w.post(SERVICES, &service(&name, spec)).await,
                        4..7 => w.put(&path, &service(&name, spec)).await,
                        7 => {
                            w.post(&format!("{SERVICES}?dryRun=All"), &service(&name, spec))
                                .await
                        }
                        _ => w.delete(&path, &json!({})).await,
                    };
                    let refused = got.code == 500 && got.text.contains("range is full");
                    assert!(
                        refused || matches!(got.code, 200 | 201 | 404 | 409 | 422),
                        "{} {}",
                        got.code,
                        got.text
                    );
                }
            }
        });
        futures::future::join_all(writers).await;
        audit(&w).await;
        let mut names = BTreeSet::new();
        let all = check(&w.get(SERVICES).await, "200");
        for service in all["items"].as_array().into_iter().flatten() {
            names.insert(
                service["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        for name in names {
            check(&w.delete(&format!("{SERVICES}/{name}"), &json!({})).await, "200");
        }
        assert_eq!(
            records(&w, "/networking.k8s.io/ipaddresses/"),
            Vec::<String>::new()
        );
        assert_eq!(port_records(&w), BTreeSet::new());
    }
}

#[tokio::test]
async fn a_start_mends_what_is_out_of_step() {
    let w = world("10.0.0.0/24").await;
    let node_port = service(
        "a",
        json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30_007 }], "clusterIP": "10.0.0.9" }),
    );
    check(&w.post(SERVICES, &node_port).await, "201");
    check(&w.post(SERVICES, &at("b", "10.0.0.8")).await, "201");
    let lost = |key: &str| Op::Delete {
        key: Bytes::from(key.to_owned()),
    };
    let stray = |key: String, value: Bytes| Op::Put {
        key: Bytes::from(key),
        value,
    };
    let of_b = w
        .store
        .snapshot()
        .get(b"/networking.k8s.io/ipaddresses/10.0.0.8")
        .expect("the object of b")
        .value
        .clone();
    let txn = Txn::new(
        vec![],
        vec![
            lost("/networking.k8s.io/ipaddresses/10.0.0.9"),
            lost("/corten.dev.internal/nodeports/30007"),
            stray(format!("{PORT_RECORDS}30001"), Bytes::new()),
            stray(format!("{OLD_RECORDS}10.0.0.9"), Bytes::new()),
            // Under another Service's name, and under no Service's address.
            stray("/networking.k8s.io/ipaddresses/10.0.0.1".into(), of_b.clone()),
        ],
    );
    w.store.txn(txn).await.expect("store");
    w.server.bootstrap().await.expect("bootstrap");
    audit(&w).await;
    assert_eq!(records(&w, OLD_RECORDS), Vec::<String>::new());
    let events = check(&w.get("/api/v1/namespaces/default/events").await, "200");
    let reasons: BTreeSet<&str> = events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        BTreeSet::from(["ClusterIPNotAllocated", "PortNotAllocated"])
    );
    let before = w.store.snapshot().revision();
    w.server.bootstrap().await.expect("bootstrap");
    assert_eq!(
        w.store.snapshot().revision(),
        before,
        "a second start changes nothing"
    );
}
