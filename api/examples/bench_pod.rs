//! What one Pod costs on its way into the store: decode, own, default, validate, encode.
//!
//! `cargo run --release -p corten-api --example bench_pod`

use std::time::{Duration, Instant};

use corten_api::resource::{By, CreateContext, Subresource};
use corten_api::{FieldValidation, json, registry};
use serde_json::json;

const ROUNDS: u32 = 20_000;

fn main() {
    let pods = registry().lookup("", "v1", "pods").expect("Pods are built in");
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/app:1.2.3", "args": ["--port", "8080"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "A", "value": "1"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "tmp", "mountPath": "/tmp"}],
        })
    };
    let body = serde_json::to_vec(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "labels": {"app": "web", "tier": "front"}, "annotations": {"a/b": "c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]},
        "spec": {
            "containers": [container("app"), container("side")],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}, {"name": "tmp", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
    }))
    .expect("a JSON value always serialises");
    let ctx = CreateContext {
        namespace: "default",
        uid: "0e9a1a8e-6f0f-4d43-8a54-0d3c5b3f7c11",
        now: jiff::Timestamp::UNIX_EPOCH,
        name_suffix: "abcde",
    };
    let by = By {
        manager: "bench",
        subresource: None,
        now: ctx.now,
    };
    let mut steps: [Vec<Duration>; 7] = Default::default();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut pod = pods
            .decode(&body, FieldValidation::Strict)
            .expect("a good Pod")
            .value;
        let decoded = Instant::now();
        pods.set_defaults(&mut pod);
        let managers = pods.managers_of_new(&mut pod, by).expect("told at once");
        let owned = Instant::now();
        pods.prepare_create(&mut pod, &ctx).expect("a valid Pod");
        let prepared = Instant::now();
        let mut stored = Vec::with_capacity(8192);
        json::write(&mut stored, &pod);
        stored.extend_from_slice(managers.as_bytes());
        bytes = stored.len();
        let encoded = Instant::now();
        pod["metadata"]["managedFields"] = serde_json::from_str(&managers).expect("JSON");
        let mut new = pod.clone();
        new["status"]["phase"] = "Running".into();
        let changed = Instant::now();
        pods.track(Some(&pod), &mut new, by, Subresource::Status);
        let owned_again = Instant::now();
        pods.prepare_update(&mut new, &pod, Subresource::Status)
            .expect("a valid status");
        let updated = Instant::now();
        let took = [
            decoded - start,
            owned - decoded,
            prepared - owned,
            encoded - prepared,
            encoded - start,
            owned_again - changed,
            updated - owned_again,
        ];
        for (step, time) in steps.iter_mut().zip(took) {
            step.push(time);
        }
    }
    println!("body {} bytes, stored {bytes} bytes, {ROUNDS} rounds", body.len());
    println!("{:20} {:>10} {:>10}", "microseconds", "median", "p99");
    let names = [
        "decode",
        "own its fields",
        "default + validate",
        "encode",
        "whole create",
        "own a status",
        "status update",
    ];
    for (name, step) in names.iter().zip(&mut steps) {
        step.sort_unstable();
        let at = |share: f64| step[(step.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        println!("{name:20} {:10.1} {:10.1}", at(0.5), at(0.99));
    }
}
