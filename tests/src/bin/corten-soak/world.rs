//! The cluster under test, with load on it, and the verbs that break it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use corten_tests::Cluster;
use corten_tests::servers::{Load, NAMESPACE, Servers, Watchers};
use serde_json::json;

const WRITERS: usize = 6;
const READERS: usize = 4;
const WATCHERS: usize = 24;
/// Everything must be well again within this.
pub const HEAL: Duration = Duration::from_secs(60);

pub struct World {
    pub cluster: Cluster,
    pub servers: Servers,
    pub load: Load,
    watchers: Watchers,
}

impl World {
    /// # Errors
    /// The cluster does not take the first write.
    pub async fn new(purpose: &str) -> Result<World> {
        Ok(World::over(bare(purpose).await?))
    }

    /// As [`World::new`], of two servers and a witness.
    ///
    /// # Errors
    /// As [`World::new`].
    pub async fn with_witness(purpose: &str) -> Result<World> {
        Ok(World::over(bare_with(purpose, 2, &["--witness"]).await?))
    }

    fn over((cluster, servers): (Cluster, Servers)) -> World {
        World {
            load: Load::start(&servers, WRITERS, READERS),
            watchers: Watchers::start(&servers, WATCHERS),
            cluster,
            servers,
        }
    }

    pub fn fault(&self, verb: &str, host: &str) {
        self.cluster.fault(verb, host);
    }

    /// Starts a server that ended, of another build.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(&self, program: &Path, host: &str) -> Result<()> {
        let started = Command::new(program)
            .args(["cluster", "start", &self.cluster.name, host])
            .output()?;
        ensure!(
            started.status.success(),
            "{} does not start {host}: {}",
            program.display(),
            String::from_utf8_lossy(&started.stderr)
        );
        Ok(())
    }

    /// Waits until the server of a host has ended by itself.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn ended(&self, host: &str) -> Result<()> {
        let (start, dir) = (Instant::now(), self.cluster.host_dir(host));
        while !corten_tests::faults::processes_with(&format!("server --data-dir {}", dir.display()))
            .is_empty()
        {
            ensure!(start.elapsed() < HEAL, "the server of {host} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The leader, once all servers are well.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn healthy(&self) -> Result<String> {
        self.servers.healthy(self.servers.names.len(), HEAL).await
    }

    /// Waits until writes are acknowledged again.
    ///
    /// # Errors
    /// None is in time.
    pub async fn writing(&self) -> Result<()> {
        let (start, before) = (Instant::now(), self.load.writes());
        while self.load.writes() < before + 10 {
            ensure!(start.elapsed() < HEAL, "no write for {HEAL:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends the load and looks at everything once more.
    ///
    /// # Errors
    /// Something was seen that must not be.
    pub async fn finish(self) -> Result<()> {
        self.healthy().await?;
        let report = self.load.finish().await;
        let (mut broken, moves) = self.watchers.finish().await;
        println!(
            "{} writes, {} reads, {} lists, {} unknown, {} refused; {WATCHERS} watchers moved {moves} times",
            report.writes, report.reads, report.lists, report.unknown, report.refused
        );
        broken.extend(report.broken);
        ensure!(
            broken.is_empty(),
            "{} things are broken, the first: {}",
            broken.len(),
            broken[0]
        );
        Ok(())
    }
}

/// Three servers and the namespace for the load.
///
/// # Errors
/// The cluster does not take the first write.
pub async fn bare(purpose: &str) -> Result<(Cluster, Servers)> {
    bare_with(purpose, 3, &[]).await
}

async fn bare_with(purpose: &str, count: u32, flags: &[&str]) -> Result<(Cluster, Servers)> {
    let cluster = Cluster::create_with(purpose, count, 0, flags);
    let servers = Servers::of(&cluster)?;
    let namespace = json!({ "metadata": { "name": NAMESPACE } }).to_string();
    let made = servers
        .client(0)
        .send("POST", "/api/v1/namespaces", &namespace)
        .await;
    ensure!(
        matches!(made, Ok((201, _))),
        "the namespace is not made: {made:?}"
    );
    Ok((cluster, servers))
}
