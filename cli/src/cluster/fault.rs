//! Faults on demand: a host cut off, a server or agent killed and started again.

use anyhow::{Context, Result};

use super::state::Cluster;
use super::{create, network, process};

/// Plugs a host's cable out of the switch, or in again.
///
/// # Errors
/// There is no such cluster or host.
pub async fn set_link(name: &str, host: &str, plugged: bool) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    network::set_plugged(&cluster.name, &host.name, plugged).await
}

/// kill -9 of the server or agent, of nothing else: containerd and the containers are other processes.
///
/// # Errors
/// It is not running.
pub fn kill(name: &str, host: &str) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    let running =
        process::running(&cluster, host).with_context(|| format!("{} is not running", host.name))?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(running.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .with_context(|| format!("kill process {}", running.pid))
}

/// Starts the server or agent with the flags it had.
///
/// # Errors
/// It is running.
pub fn start(name: &str, host: &str) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    create::restart(&cluster, host)
}
