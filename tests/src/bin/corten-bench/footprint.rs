//! Start-up, memory, idle CPU and size: what a cluster costs before it does anything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, PostParams};

use crate::figures::{self, Samples};
use crate::processes::{self, Cluster, Server};

const STARTS: usize = 10;
const IDLE: Duration = Duration::from_secs(60);

/// From exec of the server to the first write it acknowledged, on an empty folder and on a used one.
pub async fn start() -> Result<()> {
    let mut fresh = Samples::default();
    for _ in 0..STARTS {
        let server = Server::start()?;
        write_once(&server).await?;
        fresh.push(server.started.elapsed());
    }
    figures::print("exec -> first acknowledged write", &fresh);

    let started = Instant::now();
    let cluster = Cluster::create(1)?;
    let created = started.elapsed();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client().await?);
    crate::pods::create_and_wait(&pods, "first").await?;
    println!(
        "cluster create (1 server, 1 node, image loaded)  {:.2} s; first Pod Running after {:.2} s",
        created.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn write_once(server: &Server) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client().await?);
    let map: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {"name": "first"}}))?;
    maps.create(&PostParams::default(), &map).await?;
    Ok(())
}

/// Memory and CPU of an idle cluster, and the size of the binary.
pub async fn idle() -> Result<()> {
    let cluster = Cluster::create(1)?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client().await?);
    crate::pods::create_and_wait(&pods, "resident").await?;
    let server = *processes::find("server", &cluster.name)
        .first()
        .context("the server runs")?;
    let agent = *processes::find("agent", &cluster.name)
        .first()
        .context("the agent runs")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = (processes::cpu(server), processes::cpu(agent));
    tokio::time::sleep(IDLE).await;
    for (name, pid, before) in [("server", server, before.0), ("agent", agent, before.1)] {
        let used = processes::cpu(pid).saturating_sub(before);
        println!(
            "{name:<8} RSS {:>7.1} MiB   idle CPU {:>6.3} % of a core over {} s  (goal: under 0.5 %)",
            processes::rss_kib(pid) as f64 / 1024.0,
            used.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
            IDLE.as_secs()
        );
    }
    let size = std::fs::metadata(processes::corten()?)?.len();
    println!("binary   {:.1} MiB", size as f64 / 1048576.0);
    Ok(())
}
