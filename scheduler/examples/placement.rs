//! How fast the pure core places: `cargo run --release -p corten-scheduler --example placement [nodes] [pods]`.
//!
//! Identical Pods first (one class), then ten kinds of Pods in turn, each over a fresh cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_scheduler::core::{Core, Decision, Event};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .map(|word| word.parse::<usize>().expect("a number"));
    let nodes = sizes.next().unwrap_or(5_000);
    let pods = sizes.next().unwrap_or(50_000);
    for kinds in [1, 10] {
        let mut core = Core::new("default-scheduler", 1);
        for number in 0..nodes {
            core.observe(Duration::ZERO, Event::Node(Arc::new(node(number))));
        }
        let waiting: Vec<Arc<Pod>> = (0..pods)
            .map(|number| Arc::new(pod(number, number % kinds)))
            .collect();
        let seen = Instant::now();
        for pod in waiting {
            core.observe(Duration::ZERO, Event::Pod(pod));
        }
        let seen = seen.elapsed();
        let started = Instant::now();
        let mut placed = 0;
        while let Some(decision) = core.next(Duration::ZERO) {
            if let Decision::Bind { uid, .. } = decision {
                placed += 1;
                core.observe(Duration::ZERO, Event::Bound { uid, written: true });
            }
        }
        let took = started.elapsed();
        println!(
            "{nodes} nodes, {pods} pods of {kinds} kinds: {placed} placed in {took:.2?}, {:.0} pods/s, \
             {:.1} us each; {:.1} us each to take in",
            placed as f64 / took.as_secs_f64(),
            took.as_secs_f64() * 1e6 / placed as f64,
            seen.as_secs_f64() * 1e6 / pods as f64,
        );
    }
}

fn node(number: usize) -> Node {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("node-{number}"),
            "uid": format!("node-{number}"),
            "labels": {"kubernetes.io/hostname": format!("node-{number}"), "zone": format!("z{}", number % 3)},
        },
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"}},
    }))
    .expect("a Node")
}

fn pod(number: usize, kind: usize) -> Pod {
    let requests = json!({"cpu": format!("{}m", 100 + 10 * kind), "memory": "200Mi"});
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": format!("pod-{number}"), "uid": format!("pod-{number}")},
        "spec": {"containers": [{"name": "c", "image": "web:1", "resources": {"requests": requests}}]},
    }))
    .expect("a Pod")
}
