//! The API front end: durable creates, GET and LIST, against the same TLS stack serving a static body.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;

use crate::figures::{self, Samples};
use crate::http::{Connection, Endpoint};
use crate::processes::Server;

const PODS: usize = 10_000;
const CLIENTS: usize = 64;
const GETS: usize = 20_000;
const LISTS: usize = 10;
const ROUNDS: usize = 5;

pub async fn run() -> Result<()> {
    let server = Server::start()?;
    let client = server.client().await?;
    let endpoint = Endpoint::from_kubeconfig(&server.kubeconfig(), server.port)?;
    let fsyncs_before = fsyncs(&client).await?;
    let (rate, latency) = create(&endpoint).await?;
    let synced = fsyncs(&client).await? - fsyncs_before;
    println!(
        "{PODS} Pods created by {CLIENTS} clients (durable): {rate:.0} per second, {:.3} fsyncs a write",
        synced / PODS as f64
    );
    figures::print("create", &latency);

    let peer = StaticPeer::start(&server)?;
    let still = endpoint.at(peer.port);
    let mut api = endpoint.connect().await?;
    let one = api
        .request("GET", "/api/v1/namespaces/default/pods/p-0", Bytes::new())
        .await?
        .len();
    let all = api
        .request("GET", "/api/v1/namespaces/default/pods", Bytes::new())
        .await?
        .len();
    println!("one Pod is {one} bytes, the list {:.1} MB", all as f64 / 1e6);
    compare(
        "GET one Pod",
        &endpoint,
        &still,
        "/api/v1/namespaces/default/pods/p-0",
        one,
        GETS,
        16,
    )
    .await?;
    compare(
        "LIST 10,000 Pods",
        &endpoint,
        &still,
        "/api/v1/namespaces/default/pods",
        all,
        LISTS,
        1,
    )
    .await
}

async fn create(endpoint: &Endpoint) -> Result<(f64, Samples)> {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = endpoint.connect().await?;
        tasks.push(tokio::spawn(async move {
            let mut samples = Samples::default();
            for number in (client..PODS).step_by(CLIENTS) {
                let begun = Instant::now();
                connection
                    .request("POST", "/api/v1/namespaces/default/pods", pod(number))
                    .await?;
                samples.push(begun.elapsed());
            }
            anyhow::Ok(samples)
        }));
    }
    let mut all = Samples::default();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok((PODS as f64 / started.elapsed().as_secs_f64(), all))
}

/// A Pod nobody schedules (a gate holds it), so that only the create is measured.
fn pod(number: usize) -> Bytes {
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

/// Interleaved rounds of the same requests against both; prints the share of the static peer's rate.
async fn compare(
    name: &str,
    api: &Endpoint,
    still: &Endpoint,
    path: &str,
    size: usize,
    requests: usize,
    clients: usize,
) -> Result<()> {
    let mut shares = Vec::new();
    let (mut ours, mut theirs) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        ours = rate(api, path, requests / ROUNDS, clients).await?;
        theirs = rate(still, &format!("/{size}"), requests / ROUNDS, clients).await?;
        shares.push(ours / theirs * 100.0);
    }
    shares.sort_by(f64::total_cmp);
    println!("{name:<44} {ours:>8.1} a second, static body {theirs:.1} a second");
    figures::ratio(
        &format!("{name}: share of a static body, %"),
        shares[ROUNDS / 2],
        "at least 50",
    );
    Ok(())
}

async fn rate(endpoint: &Endpoint, path: &str, requests: usize, clients: usize) -> Result<f64> {
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..clients {
        connections.push(endpoint.connect().await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let path = path.to_string();
            tokio::spawn(async move {
                for _ in 0..requests / clients {
                    connection.request("GET", &path, Bytes::new()).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok((requests / clients * clients) as f64 / started.elapsed().as_secs_f64())
}

/// The store's fsync counter, from `/metrics`.
async fn fsyncs(client: &kube::Client) -> Result<f64> {
    let text = client
        .request_text(::http::Request::get("/metrics").body(Vec::new())?)
        .await?;
    text.lines()
        .find(|line| line.starts_with("corten_store_fsyncs_total"))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .context("corten_store_fsyncs_total is in /metrics")
}

/// The static server in a process of its own, with the server's certificate.
struct StaticPeer {
    child: Child,
    port: u16,
}

impl StaticPeer {
    fn start(server: &Server) -> Result<StaticPeer> {
        use std::io::BufRead;
        let pki = server.directory.path().join("data/pki");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("static-server")
            .arg(pki.join("server.crt"))
            .arg(pki.join("server.key"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        Ok(StaticPeer {
            child,
            port: line.trim().parse()?,
        })
    }
}

impl Drop for StaticPeer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
