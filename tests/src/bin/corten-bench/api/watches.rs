//! A thousand watchers of one kind: memory while idle, deliveries a second, time from the write to the watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;

use super::{Cpu, SETTLE, scaled};
use crate::figures::{self, Samples};
use crate::http::{Connection, Endpoint};
use crate::processes::{self, Server};

const WATCHERS: usize = 1_000;
/// Writes by many clients as fast as they are taken.
const BURST: usize = 3_000;
const WRITERS: usize = 16;
/// Writes one after the other, to see how long each takes to reach everyone.
const SINGLE: usize = 300;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(30);
/// Longest wait for deliveries that must come.
const PATIENCE: Duration = Duration::from_secs(120);
const PATH: &str = "/api/v1/namespaces/watched/configmaps";

pub async fn run(server: &Server, endpoint: &Endpoint) -> Result<()> {
    let mut writer = endpoint.connect().await?;
    let namespace = json!({ "metadata": { "name": "watched" } }).to_string();
    writer
        .request("POST", "/api/v1/namespaces", namespace.into())
        .await?;
    let watchers = scaled(WATCHERS);
    let mut connections = Vec::new();
    for mut connection in endpoint.connect_many(watchers).await? {
        connection.drain("/version").await?;
        connections.push(connection);
    }
    tokio::time::sleep(SETTLE).await;
    let connected = processes::rss_kib(server.child.id());
    let fleet = Fleet::start(&mut writer, connections).await?;
    tokio::time::sleep(SETTLE).await;
    let watching = processes::rss_kib(server.child.id());
    figures::ratio(
        &format!("memory of an idle watch, KiB ({watchers} of them)"),
        watching.saturating_sub(connected) as f64 / watchers as f64,
        "at most 8",
    );
    let idle = Cpu::of(server.child.id());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "  {:.1} % of a core while nothing happens",
        idle.used().as_secs_f64() / 5.0 * 100.0
    );
    burst(server, endpoint, &fleet).await?;
    single(&mut writer, &fleet).await
}

/// All watchers; each is its own connection, drained by a task.
struct Fleet {
    watchers: usize,
    counts: Arc<Counts>,
}

struct Counts {
    started: Instant,
    events: AtomicUsize,
    bytes: AtomicU64,
    /// Microseconds since `started` at which each watcher's latest event came.
    latest: Vec<AtomicU64>,
}

impl Fleet {
    async fn start(writer: &mut Connection, connections: Vec<Connection>) -> Result<Fleet> {
        let list = writer.request("GET", PATH, Bytes::new()).await?;
        let list: serde_json::Value = serde_json::from_slice(&list)?;
        let revision = list["metadata"]["resourceVersion"]
            .as_str()
            .context("a revision")?;
        let path = format!("{PATH}?watch=1&resourceVersion={revision}");
        let counts = Arc::new(Counts {
            started: Instant::now(),
            events: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            latest: connections.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let watchers = connections.len();
        for (number, mut connection) in connections.into_iter().enumerate() {
            let answer = connection.open("GET", &path, Bytes::new()).await?;
            anyhow::ensure!(answer.status().is_success(), "watch: {}", answer.status());
            let counts = counts.clone();
            tokio::spawn(async move {
                let _open = connection;
                let mut body = answer.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let Some(data) = frame.data_ref() else { continue };
                    let now = u64::try_from(counts.started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    counts.latest[number].store(now, Ordering::Relaxed);
                    counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    let lines = data.iter().filter(|byte| **byte == b'\n').count();
                    counts.events.fetch_add(lines, Ordering::Release);
                }
            });
        }
        Ok(Fleet { watchers, counts })
    }

    /// Until `count` events were delivered in all.
    async fn wait(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.counts.events.load(Ordering::Acquire) < count {
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} of {count} events were delivered in {PATIENCE:?}",
                self.counts.events.load(Ordering::Acquire)
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(())
    }

    fn delivered(&self) -> usize {
        self.counts.events.load(Ordering::Acquire)
    }
}

fn map(name: &str) -> Bytes {
    let data = "x".repeat(300);
    json!({ "metadata": { "name": name }, "data": { "a": data } })
        .to_string()
        .into()
}

async fn burst(server: &Server, endpoint: &Endpoint, fleet: &Fleet) -> Result<()> {
    let before = fleet.delivered();
    let writes = scaled(BURST);
    let (cpu, own) = (Cpu::of(server.child.id()), Cpu::of(std::process::id()));
    let started = Instant::now();
    let mut writers = Vec::new();
    for (number, mut connection) in endpoint.connect_many(WRITERS).await?.into_iter().enumerate() {
        writers.push(tokio::spawn(async move {
            for write in (number..writes).step_by(WRITERS) {
                connection
                    .request("POST", PATH, map(&format!("burst-{write}")))
                    .await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let written = started.elapsed();
    fleet.wait(before + writes * fleet.watchers).await?;
    let took = started.elapsed();
    let deliveries = writes * fleet.watchers;
    let used = cpu.used().as_secs_f64();
    println!(
        "{deliveries} deliveries of {writes} writes in {:.2} s (written after {:.2} s): {:.0} a second",
        took.as_secs_f64(),
        written.as_secs_f64(),
        deliveries as f64 / took.as_secs_f64()
    );
    println!(
        "{:<44} {:>8.0}  ({:.2} us each; clients took {:.1} s of CPU)",
        "deliveries a second and core of the server",
        deliveries as f64 / used,
        used * 1e6 / deliveries as f64,
        own.used().as_secs_f64()
    );
    Ok(())
}

async fn single(writer: &mut Connection, fleet: &Fleet) -> Result<()> {
    let (mut answered, mut delivered) = (Samples::default(), Samples::default());
    let mut after_answer = Samples::default();
    for write in 0..scaled(SINGLE) {
        let before = fleet.delivered();
        let begun = fleet.counts.started.elapsed();
        writer
            .request("POST", PATH, map(&format!("single-{write}")))
            .await?;
        let answer = fleet.counts.started.elapsed();
        answered.push(answer - begun);
        fleet.wait(before + fleet.watchers).await?;
        for latest in &fleet.counts.latest {
            let at = Duration::from_micros(latest.load(Ordering::Relaxed));
            delivered.push(at.saturating_sub(begun));
            after_answer.push(at.saturating_sub(answer));
        }
        tokio::time::sleep(PAUSE).await;
    }
    figures::print("one write at a time: answer", &answered);
    figures::print("  write sent -> each watcher has it", &delivered);
    figures::print("  write answered -> each watcher has it", &after_answer);
    Ok(())
}
