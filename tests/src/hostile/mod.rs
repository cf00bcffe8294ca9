//! Hostile clients against a real server, and what system traffic notices of them.
//!
//! The clients' threads have a lower priority than the server's and the measuring ones: they stand for other machines, whose
//! processors are not this one's.

mod clients;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use clients::KINDS;
use server::{Server, Session, Target};

/// Connections of system traffic, and the pause between two requests of one.
const MEASURED: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of one object that is there to be listed.
const OBJECT_BYTES: usize = 4 * 1024;

#[derive(Clone, Copy)]
pub struct Options {
    pub clients: usize,
    pub time: Duration,
    /// Objects that are there to be listed, of 4 KiB each.
    pub objects: usize,
}

/// What was seen.
pub struct Report {
    /// Of system traffic, before the attack and during it.
    pub quiet: Latencies,
    pub attacked: Latencies,
    /// Requests of system traffic that were not answered as they should be.
    pub failed: u64,
    pub rss_before: u64,
    pub rss_most: u64,
    /// What each kind of client did, by its name.
    pub done: Vec<(&'static str, u64)>,
}

pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// `part` of 1.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |part| self.quantile(part).as_secs_f64() * 1e3;
        let (half, most) = (ms(0.5), ms(0.99));
        write!(
            f,
            "p50 {half:.1} ms, p99 {most:.1} ms, max {:.1} ms of {}",
            ms(1.0),
            self.0.len()
        )
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / 1048576.0;
        writeln!(f, "system traffic, quiet:    {}", self.quiet)?;
        writeln!(
            f,
            "system traffic, attacked: {}, {} failed",
            self.attacked, self.failed
        )?;
        writeln!(
            f,
            "RSS: {:.0} MiB before, {:.0} MiB at most",
            mib(self.rss_before),
            mib(self.rss_most)
        )?;
        for (kind, count) in &self.done {
            writeln!(f, "  {kind}: {count}")?;
        }
        Ok(())
    }
}

/// Runs the attack on a server of its own.
///
/// # Errors
/// The server does not start, or it is gone afterwards.
pub fn run(options: Options) -> Result<Report> {
    let calm = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let wild = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(|| {
            // SAFETY: no memory is passed; 0 is the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
        })
        .build()?;
    let report = calm.block_on(attack(options, wild.handle()));
    wild.shutdown_background();
    report
}

async fn attack(options: Options, wild: &tokio::runtime::Handle) -> Result<Report> {
    let server = Server::start().await?;
    let token = prepare(&server, options.objects).await?;
    let quiet = measure(&server, options.time.min(Duration::from_secs(5)) / 2, None).await?;
    let rss_before = server.rss()?;
    let over = Arc::new(AtomicBool::new(false));
    let done: Vec<Arc<AtomicU64>> = KINDS.iter().map(|_| Arc::default()).collect();
    for number in 0..options.clients {
        let kind = number % KINDS.len();
        let (target, token) = (server.target(), token.clone());
        let (over, count) = (over.clone(), done[kind].clone());
        wild.spawn(async move { clients::run(kind, &target, &token, &over, &count).await });
    }
    let most = Arc::new(AtomicU64::new(rss_before));
    let watched = measure(&server, options.time, Some(&most)).await;
    over.store(true, Ordering::SeqCst);
    let attacked = watched?;
    ensure!(server.lives(), "the server has died: {}", server.log());
    ensure!(
        !server.log().contains("panicked"),
        "something panicked: {}",
        server.log()
    );
    Ok(Report {
        failed: attacked.1,
        quiet: quiet.0,
        attacked: attacked.0,
        rss_before,
        rss_most: most.load(Ordering::SeqCst),
        done: KINDS
            .iter()
            .copied()
            .zip(done.iter().map(|count| count.load(Ordering::SeqCst)))
            .collect(),
    })
}

/// Objects to list, an account that may list them, and its token.
async fn prepare(server: &Target, objects: usize) -> Result<String> {
    let mut admin = server.connect(server.admin()).await?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let text = "x".repeat(OBJECT_BYTES);
    for number in 0..objects {
        let map = json!({ "metadata": { "name": format!("m{number}") }, "data": { "text": text } });
        admin.send("POST", maps, &map, None).await?;
    }
    let account = json!({ "metadata": { "name": "mallory" } });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.send("POST", accounts, &account, None).await?;
    let binding = json!({
        "metadata": { "name": "mallory" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "mallory", "namespace": "default" }],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    admin.send("POST", bindings, &binding, None).await?;
    let node = json!({ "metadata": { "name": "n1" } });
    admin.send("POST", "/api/v1/nodes", &node, None).await?;
    let (code, token) = admin
        .send(
            "POST",
            &format!("{accounts}/mallory/token"),
            &json!({ "spec": {} }),
            None,
        )
        .await?;
    ensure!(code == 201, "no token: {code} {token}");
    Ok(token["status"]["token"].as_str().context("a token")?.to_owned())
}

/// A node's traffic: it writes and reads its own object.
async fn measure(server: &Server, time: Duration, most: Option<&Arc<AtomicU64>>) -> Result<(Latencies, u64)> {
    let end = Instant::now() + time;
    let tasks = (0..MEASURED)
        .map(|number| tokio::spawn(node(server.target(), number, end)))
        .collect::<Vec<_>>();
    while Instant::now() < end {
        if let Some(most) = most {
            most.fetch_max(server.rss()?, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut all, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (latencies, wrong) = task.await??;
        all.extend(latencies);
        failed += wrong;
    }
    all.sort_unstable();
    ensure!(!all.is_empty(), "no request of system traffic was answered");
    Ok((Latencies(all), failed))
}

async fn node(server: Arc<Target>, number: usize, end: Instant) -> Result<(Vec<Duration>, u64)> {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    let mut session: Session = server.connect(server.node()).await?;
    for turn in 0.. {
        if Instant::now() >= end {
            break;
        }
        let started = Instant::now();
        let patch = json!({ "metadata": { "labels": { format!("t{number}"): turn.to_string() } } });
        let sent = match turn % 2 {
            0 => {
                session
                    .send(
                        "PATCH",
                        "/api/v1/nodes/n1",
                        &patch,
                        Some("application/merge-patch+json"),
                    )
                    .await
            }
            _ => session.send("GET", "/api/v1/nodes/n1", &json!(null), None).await,
        };
        match sent {
            Ok((200, _)) => latencies.push(started.elapsed()),
            _ => {
                failed += 1;
                latencies.push(started.elapsed());
                session = server.connect(server.node()).await?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((latencies, failed))
}
