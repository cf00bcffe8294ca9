//! The API front end over HTTP/2 and TLS: creates, reads, lists, watches, and what they take of CPU and memory.
//!
//! The server keeps its data on tmpfs, so that the figures show the server and not a disk. `CORTEN_BENCH_SCALE=0.1` runs
//! everything with a tenth of the objects, to try the bench itself.

mod pods;
mod reads;
mod steps;
mod watches;

use std::time::Duration;

use anyhow::Result;

use crate::http::Endpoint;
use crate::processes::{self, Server};

/// Pods in the server while reads are measured.
const PODS: usize = 50_000;
/// Of these, in the namespace that is listed alone.
const LISTED: usize = 10_000;

/// How long informers and the state image may take to come to rest before memory is read.
const SETTLE: Duration = Duration::from_secs(10);

pub async fn run() -> Result<()> {
    steps::run().await?;
    let server = Server::start_in("/dev/shm")?;
    server.client().await?;
    let endpoint = Endpoint::from_kubeconfig(&server.kubeconfig(), server.port)?;
    tokio::time::sleep(SETTLE).await;
    let empty = processes::rss_kib(server.child.id());
    pods::create(&server, &endpoint).await?;
    tokio::time::sleep(SETTLE).await;
    let full = processes::rss_kib(server.child.id());
    println!(
        "memory: {:.1} MiB empty, {:.1} MiB with {} Pods",
        mib(empty),
        mib(full),
        pods()
    );
    crate::figures::ratio(
        "RSS a Pod, KB over the whole server process",
        (full.saturating_sub(empty)) as f64 * 1.024 / pods() as f64,
        "at most 12",
    );
    reads::run(&server, &endpoint).await?;
    drop(server);
    // One that has read nothing yet: memory that lists have let go of would hide what watches take.
    let server = Server::start_in("/dev/shm")?;
    server.client().await?;
    let endpoint = Endpoint::from_kubeconfig(&server.kubeconfig(), server.port)?;
    watches::run(&server, &endpoint).await
}

/// `count` times what `CORTEN_BENCH_SCALE` says, at least one.
fn scaled(count: usize) -> usize {
    let scale = std::env::var("CORTEN_BENCH_SCALE")
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    // Counts are small, so the casts lose nothing that matters.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let scaled = (count as f64 * scale.unwrap_or(1.0)).round() as usize;
    scaled.max(1)
}

fn pods() -> usize {
    scaled(PODS)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// CPU time of a process over a piece of work.
struct Cpu {
    pid: u32,
    before: Duration,
}

impl Cpu {
    fn of(pid: u32) -> Cpu {
        Cpu {
            pid,
            before: processes::cpu(pid),
        }
    }

    fn used(&self) -> Duration {
        processes::cpu(self.pid).saturating_sub(self.before)
    }

    fn micros_each(&self, count: usize) -> f64 {
        self.used().as_secs_f64() * 1e6 / count as f64
    }
}

/// The highest memory of a process while something runs.
struct Peak {
    highest: tokio::task::JoinHandle<u64>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Peak {
    fn of(pid: u32) -> Peak {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let highest = tokio::spawn(async move {
            let mut highest = 0;
            while matches!(
                stopped.try_recv(),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty)
            ) {
                highest = highest.max(processes::rss_kib(pid));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            highest
        });
        Peak { highest, stop }
    }

    async fn kib(self) -> Result<u64> {
        drop(self.stop);
        Ok(self.highest.await?)
    }
}
