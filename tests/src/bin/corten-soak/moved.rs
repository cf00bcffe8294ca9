//! Ten thousand watches on a server that is killed: all go on at the others where they were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use corten_tests::servers::{NAMESPACE, Servers};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use serde_json::{Value, json};

use crate::world::{HEAL, bare};

/// Watches of one connection; the server allows 250.
const PER_CONNECTION: usize = 200;
/// Events each watch has to see, before and after the move.
const EVENTS: usize = 5;
/// Everything must have happened within this.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Tally {
    open: AtomicU64,
    moved: AtomicU64,
    relists: AtomicU64,
    /// Events that came twice or out of order.
    wrong: AtomicU64,
    /// Of each watch: the newest revision it has seen.
    seen: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Tally {
    /// Waits until all watches have seen `revision`.
    async fn seen(&self, what: &str, watches: usize, revision: u64) -> Result<()> {
        let start = Instant::now();
        loop {
            let current = {
                let all = self.seen.lock().expect("no holder panics");
                all.iter()
                    .filter(|seen| seen.load(Ordering::SeqCst) >= revision)
                    .count()
            };
            if current == watches {
                return Ok(());
            }
            ensure!(
                start.elapsed() < LIMIT,
                "{what}: {current} of {watches} are current"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub async fn run(watches: usize) -> Result<()> {
    let (cluster, servers) = bare("soak-watches").await?;
    servers.healthy(3, HEAL).await?;
    let from = write(&servers, "first").await?;
    let tally = Arc::new(Tally::default());
    let victim = servers.healthy(3, HEAL).await?;
    let first = servers
        .names
        .iter()
        .position(|name| *name == victim)
        .context("the leader is one of ours")?;
    let mut tasks = Vec::new();
    for start in (0..watches).step_by(PER_CONNECTION) {
        let count = PER_CONNECTION.min(watches - start);
        tasks.push(tokio::spawn(connection(
            servers.clone(),
            first,
            count,
            from,
            tally.clone(),
        )));
    }
    wait("open", watches, &tally.open).await?;
    let newest = write_some(&servers, "before").await?;
    tally.seen("before the kill", watches, newest).await?;
    println!("{watches} watches are open on {victim} and current");
    let rest = servers.without(&victim);
    let killed = Instant::now();
    cluster.fault("kill", &victim);
    // Some of these happen before the watches are open again: they must be seen too.
    let newest = write_some(&rest, "after").await?;
    wait("moved", watches, &tally.moved).await?;
    println!(
        "all are open again {} ms after the kill",
        killed.elapsed().as_millis()
    );
    tally.seen("after the kill", watches, newest).await?;
    println!(
        "all are current {} ms after the kill",
        killed.elapsed().as_millis()
    );
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let (relists, wrong) = (
        tally.relists.load(Ordering::SeqCst),
        tally.wrong.load(Ordering::SeqCst),
    );
    println!("relists: {relists}; events twice or out of order: {wrong}");
    ensure!(
        relists == 0 && wrong == 0,
        "{relists} relists, {wrong} wrong events"
    );
    cluster.fault("start", &victim);
    Ok(())
}

async fn wait(what: &str, count: usize, tally: &AtomicU64) -> Result<()> {
    let start = Instant::now();
    while tally.load(Ordering::SeqCst) < count as u64 {
        ensure!(
            start.elapsed() < LIMIT,
            "{what}: {} of {count}",
            tally.load(Ordering::SeqCst)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The revision of the last of a few new objects.
async fn write_some(servers: &Servers, name: &str) -> Result<u64> {
    let mut newest = 0;
    for event in 0..EVENTS {
        newest = write(servers, &format!("{name}-{event}")).await?;
    }
    Ok(newest)
}

/// Writes an object; its revision.
async fn write(servers: &Servers, name: &str) -> Result<u64> {
    let object = json!({ "metadata": { "name": name, "labels": { "soak": "yes" } } }).to_string();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let answer = servers.client(0).send("POST", &path, &object).await;
    let Ok((201, body)) = answer else {
        anyhow::bail!("{name} was not written: {answer:?}")
    };
    let value: Value = serde_json::from_slice(&body)?;
    Ok(value["metadata"]["resourceVersion"]
        .as_str()
        .context("a revision")?
        .parse()?)
}

/// `count` watches over one connection, and over another one when that is gone.
async fn connection(servers: Servers, first: usize, count: usize, from: u64, tally: Arc<Tally>) {
    let seen: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::new(AtomicU64::new(from))).collect();
    tally
        .seen
        .lock()
        .expect("no holder panics")
        .extend(seen.iter().cloned());
    let mut number = first;
    let mut moved = false;
    loop {
        let Ok(sender) = servers.connect(number % servers.addresses.len()).await else {
            number += 1;
            continue;
        };
        let streams = seen.iter().map(|seen| {
            let tally = tally.clone();
            watch(
                &servers.addresses[number % servers.addresses.len()],
                sender.clone(),
                seen.clone(),
                moved,
                tally,
            )
        });
        futures::future::join_all(streams).await;
        number += 1;
        moved = true;
    }
}

async fn watch(
    address: &str,
    mut sender: SendRequest<Full<Bytes>>,
    seen: Arc<AtomicU64>,
    moved: bool,
    tally: Arc<Tally>,
) {
    let from = seen.load(Ordering::SeqCst);
    let path = format!(
        "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&labelSelector=soak&resourceVersion={from}"
    );
    let answer = loop {
        let request = http::Request::get(format!("https://{address}{path}")).body(Full::default());
        let Ok(request) = request else { return };
        if sender.ready().await.is_err() {
            return;
        }
        match sender.send_request(request).await {
            Ok(answer) if answer.status() == 200 => break answer,
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => return,
        }
    };
    tally.open.fetch_add(1, Ordering::SeqCst);
    if moved {
        tally.moved.fetch_add(1, Ordering::SeqCst);
    }
    let (mut body, mut rest) = (answer.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        rest.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte: &u8| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            if event["type"] == "ERROR" {
                tally.relists.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let at = event["object"]["metadata"]["resourceVersion"].as_str();
            let at: u64 = at.and_then(|text| text.parse().ok()).unwrap_or(0);
            let before = seen.swap(at, Ordering::SeqCst);
            if at <= before {
                tally.wrong.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}
