//! POST of Pods by many clients at once, each acknowledged when it is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;

use super::{Cpu, LISTED, pods, scaled};
use crate::figures::{self, Samples};
use crate::http::Endpoint;
use crate::processes::Server;

const CLIENTS: usize = 64;
/// HTTP/2 connections they share, as the clients of one process do. The machine's cores are the server's too.
const CONNECTIONS: usize = 8;
/// The namespace with [`LISTED`] of the Pods; the others are in `default`.
pub const NAMESPACE: &str = "listed";

pub async fn create(server: &Server, endpoint: &Endpoint) -> Result<()> {
    let namespace = json!({ "metadata": { "name": NAMESPACE } }).to_string();
    endpoint
        .connect()
        .await?
        .request("POST", "/api/v1/namespaces", namespace.into())
        .await?;
    let fsyncs_before = fsyncs(server).await?;
    let connections = endpoint.connect_many(CONNECTIONS).await?;
    let listed = scaled(LISTED);
    let bodies: Vec<Bytes> = (0..pods()).map(pod).collect();
    let bodies = Arc::new(bodies);
    let cpu = Cpu::of(server.child.id());
    let own = Cpu::of(std::process::id());
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = connections[client % CONNECTIONS].clone();
        let bodies = bodies.clone();
        tasks.push(tokio::spawn(async move {
            let mut samples = Samples::default();
            for number in (client..pods()).step_by(CLIENTS) {
                let namespace = if number < listed { NAMESPACE } else { "default" };
                let path = format!("/api/v1/namespaces/{namespace}/pods");
                let begun = Instant::now();
                connection.request("POST", &path, bodies[number].clone()).await?;
                samples.push(begun.elapsed());
            }
            anyhow::Ok(samples)
        }));
    }
    let mut latency = Samples::default();
    for task in tasks {
        latency.extend(task.await??);
    }
    let took = started.elapsed();
    let synced = fsyncs(server).await? - fsyncs_before;
    figures::ratio(
        &format!("POST Pod, {CLIENTS} clients on {CONNECTIONS} connections, durable, a second"),
        pods() as f64 / took.as_secs_f64(),
        "at least 5000",
    );
    figures::print("POST Pod", &latency);
    println!(
        "  {:.3} fsyncs a write; CPU a write: server {:.0} us, clients {:.0} us; {:.2} of {} cores busy with both",
        synced / pods() as f64,
        cpu.micros_each(pods()),
        own.micros_each(pods()),
        (cpu.used() + own.used()).as_secs_f64() / took.as_secs_f64(),
        std::thread::available_parallelism()?,
    );
    // Controllers and the scheduler hear of every Pod, too; what they need beyond the writes shows here.
    let rest = Cpu::of(server.child.id());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "  {:.0} us a Pod of CPU after the last answer",
        rest.micros_each(pods())
    );
    Ok(())
}

/// A Pod nobody schedules (a gate holds it), so that only the create is measured.
pub fn pod(number: usize) -> Bytes {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p-{number}"), "labels": { "app": "bench", "number": number.to_string() } },
        "spec": {
            "schedulingGates": [{ "name": "corten.dev/bench" }],
            "containers": [{
                "name": "main", "image": "corten.dev/busybox:1", "command": ["/bin/sleep", "3600"],
                "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
            }],
        },
    });
    Bytes::from(pod.to_string())
}

/// The store's fsync counter, from `/metrics`.
async fn fsyncs(server: &Server) -> Result<f64> {
    let request = ::http::Request::get("/metrics").body(Vec::new())?;
    let text = server.client().await?.request_text(request).await?;
    text.lines()
        .find(|line| line.starts_with("corten_store_fsyncs_total"))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .context("corten_store_fsyncs_total is in /metrics")
}
