//! GET and LIST against the same TLS and HTTP/2 stack that serves a static body, and the memory of many long lists.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;

use super::pods::NAMESPACE;
use super::{Cpu, LISTED, Peak, mib, pods, scaled};
use crate::figures;
use crate::http::Endpoint;
use crate::processes::{self, Server};

const GETS: usize = 40_000;
const GET_CLIENTS: usize = 16;
const LISTS: usize = 40;
const LIST_CLIENTS: usize = 2;
const ROUNDS: usize = 5;
/// Lists of all Pods that run at once.
const AT_ONCE: usize = 100;

pub async fn run(server: &Server, endpoint: &Endpoint) -> Result<()> {
    let peer = StaticPeer::start(server)?;
    let bench = Bench {
        api: endpoint.clone(),
        still: endpoint.at(peer.port),
        pids: (server.child.id(), peer.child.id()),
    };
    let mut api = endpoint.connect().await?;
    let name = format!("/api/v1/namespaces/{NAMESPACE}/pods/p-0");
    let one = api.request("GET", &name, Bytes::new()).await?.len();
    bench
        .compare("GET one Pod", &name, one, scaled(GETS), GET_CLIENTS)
        .await?;
    let list = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let all = api.drain(&list).await?;
    println!("one Pod is {one} bytes, the list {:.1} MB", all as f64 / 1e6);
    let title = format!("LIST {} Pods", scaled(LISTED));
    bench.compare(&title, &list, all, LISTS, LIST_CLIENTS).await?;
    drop(peer);
    at_once(server, endpoint).await
}

async fn at_once(server: &Server, endpoint: &Endpoint) -> Result<()> {
    let connections = endpoint.connect_many(AT_ONCE).await?;
    let mut warm = Vec::new();
    for mut connection in connections {
        // The connection's own buffers are there before the lists begin.
        connection.drain("/version").await?;
        warm.push(connection);
    }
    let before = processes::rss_kib(server.child.id());
    let peak = Peak::of(server.child.id());
    let started = Instant::now();
    let mut lists = Vec::new();
    for mut connection in warm {
        lists.push(tokio::spawn(
            async move { connection.drain("/api/v1/pods").await },
        ));
    }
    let mut bytes = 0;
    for list in lists {
        bytes += list.await??;
    }
    let took = started.elapsed();
    let added = peak.kib().await?.saturating_sub(before);
    println!(
        "{AT_ONCE} lists of {} Pods at once: {:.1} GB in {:.1} s",
        pods(),
        bytes as f64 / 1e9,
        took.as_secs_f64()
    );
    figures::ratio("memory they add, MiB", mib(added), "at most 64");
    Ok(())
}

struct Bench {
    api: Endpoint,
    still: Endpoint,
    /// Of the server and the static peer.
    pids: (u32, u32),
}

impl Bench {
    /// Interleaved rounds of the same requests against both; prints the share of the static peer's rate, and the same by
    /// CPU time of the two servers, which a busy machine does not change.
    async fn compare(
        &self,
        name: &str,
        path: &str,
        size: usize,
        requests: usize,
        clients: usize,
    ) -> Result<()> {
        let mut rates = Vec::new();
        let (ours, theirs) = (Cpu::of(self.pids.0), Cpu::of(self.pids.1));
        let each = (requests / ROUNDS).max(clients);
        for _ in 0..ROUNDS {
            let ours = rate(&self.api, path, each, clients).await?;
            let theirs = rate(&self.still, &format!("/{size}"), each, clients).await?;
            rates.push((ours, theirs));
        }
        let (cpu, still_cpu) = (ours.micros_each(each * ROUNDS), theirs.micros_each(each * ROUNDS));
        rates.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (ours, theirs) = rates[ROUNDS / 2];
        println!("{name:<44} {ours:>8.1} a second, static body {theirs:.1} a second");
        figures::ratio(
            &format!("{name}: share of a static body, %"),
            ours / theirs * 100.0,
            "at least 60",
        );
        println!(
            "  server CPU each: {cpu:.0} us, static {still_cpu:.0} us ({:.0} %)",
            still_cpu / cpu * 100.0
        );
        Ok(())
    }
}

async fn rate(endpoint: &Endpoint, path: &str, requests: usize, clients: usize) -> Result<f64> {
    let connections = endpoint.connect_many(clients).await?;
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let path = path.to_string();
            tokio::spawn(async move {
                for _ in 0..requests / clients {
                    connection.drain(&path).await?;
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
