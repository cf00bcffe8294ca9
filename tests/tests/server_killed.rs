//! kill -9 of the server during 10,000 writes: every acknowledged write is there after the restart, and Services
//! answer meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corten_tests::api::Api;
use corten_tests::load::Load;
use corten_tests::wait::expect;
use corten_tests::{Cluster, eventually, manifests};
use serde_json::json;

const WRITES: usize = 10_000;
const WRITERS: usize = 8;
const KILLS: usize = 3;

#[test]
fn no_acknowledged_write_is_lost() {
    let cluster = Cluster::with_images("crash", 1);
    let kubectl = cluster.kubectl();
    kubectl.apply(&manifests::list(&[
        manifests::web("web", 2),
        manifests::service("web"),
    ]));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let addresses = cluster.node_ports("web");
    kubectl.ok("create namespace writes");

    let load = Load::start(&addresses, 2, Duration::from_millis(20));
    let api = Api::admin(&cluster);
    let next = Arc::new(AtomicUsize::new(0));
    // By name: the resourceVersion the server acknowledged.
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (api, next, acknowledged) = (api.clone(), Arc::clone(&next), Arc::clone(&acknowledged));
            thread::spawn(move || write(&api, &next, &acknowledged))
        })
        .collect();
    for kill in 1..=KILLS {
        eventually("the writes go on", Duration::from_secs(120), || {
            let done = acknowledged.lock().expect("no writer panics with the lock").len();
            expect(done >= kill * WRITES / (KILLS + 1), || format!("{done} written"))
        });
        cluster.fault("kill", "server-0");
        cluster.fault("start", "server-0");
    }
    for writer in writers {
        writer.join().expect("a writer panicked");
    }
    let acknowledged = acknowledged.lock().expect("all writers are done").clone();
    println!(
        "{} writes acknowledged in {:?} with {KILLS} kills",
        acknowledged.len(),
        started.elapsed()
    );
    assert!(
        acknowledged.len() >= WRITES - KILLS * WRITERS,
        "{} acknowledged",
        acknowledged.len()
    );

    let list = api.get("/api/v1/namespaces/writes/configmaps?labelSelector=written");
    assert_eq!(list.code, 200);
    let list = list.json();
    let items = list["items"].as_array().expect("items");
    let found: BTreeMap<&str, &str> = items
        .iter()
        .map(|item| {
            let text = |field: &str| item["metadata"][field].as_str().expect("a text");
            assert_eq!(
                item["data"]["name"], item["metadata"]["name"],
                "a value belongs to its key"
            );
            (text("name"), text("resourceVersion"))
        })
        .collect();
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|(name, version)| found.get(name.as_str()) != Some(&version.as_str()))
        .map(|(name, _)| name)
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} lost or changed: {:?}",
        lost.len(),
        acknowledged.len(),
        &lost[..1]
    );

    let mut versions: Vec<&str> = found.values().copied().collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), found.len(), "a revision was used twice");

    let report = load.stop();
    println!(
        "{} requests to the Service, slowest {:?}",
        report.total(),
        report.slowest
    );
    assert!(
        report.failures.is_empty(),
        "of {}: {:?}",
        report.total(),
        report.failures.first()
    );
    // The cluster works on: a change still reaches the node.
    kubectl.ok("scale deployment/web --replicas=3");
    kubectl.ok("rollout status deployment/web --timeout=60s");
}

/// Creates ConfigMaps until all are done. What was not acknowledged does not count, whether it is there or not.
fn write(api: &Api, next: &AtomicUsize, acknowledged: &Mutex<BTreeMap<String, String>>) {
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut connection = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= WRITES {
            return;
        }
        let name = format!("write-{number}");
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"written": "here"}},
            "data": {"name": name, "filler": "x".repeat(200)},
        });
        loop {
            assert!(Instant::now() < deadline, "the server did not come back");
            let Some(open) = connection.as_mut() else {
                match api.connect() {
                    Ok(open) => connection = Some(open),
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
                continue;
            };
            let path = "/api/v1/namespaces/writes/configmaps";
            match open.send("POST", path, "application/json", object.to_string().as_bytes()) {
                Ok(answer) if answer.code == 201 => {
                    let version = answer.json()["metadata"]["resourceVersion"]
                        .as_str()
                        .expect("a version")
                        .to_owned();
                    acknowledged
                        .lock()
                        .expect("no writer panics with the lock")
                        .insert(name, version);
                    break;
                }
                // An earlier try, whose answer was lost, had been carried out.
                Ok(answer) if answer.code == 409 => break,
                Ok(answer) if answer.code >= 500 || answer.code == 429 => {
                    thread::sleep(Duration::from_millis(50))
                }
                Ok(answer) => panic!(
                    "{name}: {} {}",
                    answer.code,
                    String::from_utf8_lossy(&answer.body)
                ),
                Err(_) => connection = None,
            }
        }
    }
}
