//! Faults on demand: a host cut off, a server or agent killed and started again.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::state::Cluster;
use super::{create, network, process};

/// Milliseconds a process may take to end.
const END_TIMEOUT_MS: i32 = 20_000;

/// Plugs a host's cable out of the switch, or in again.
///
/// # Errors
/// There is no such cluster or host.
pub async fn set_link(name: &str, host: &str, plugged: bool) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    network::set_plugged(&cluster.name, &host.name, plugged).await
}

/// Ends the server or agent, nothing else: containerd and the containers are other processes. Returns once it has ended, so
/// that it can be started again at once.
///
/// # Errors
/// It is not running, or does not end within [`END_TIMEOUT_MS`].
pub fn end(name: &str, host: &str, with: Signal) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    let running =
        process::running(&cluster, host).with_context(|| format!("{} is not running", host.name))?;
    let ended = pidfd(running.pid).with_context(|| format!("watch process {}", running.pid))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid), with)
        .with_context(|| format!("end process {}", running.pid))?;
    let mut poll = libc::pollfd {
        fd: ended.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, END_TIMEOUT_MS) };
    ensure!(
        ready == 1,
        "process {} of {} does not end",
        running.pid,
        host.name
    );
    Ok(())
}

/// Sends a signal to the server or agent of a host.
///
/// # Errors
/// It is not running.
pub fn signal(name: &str, host: &str, signal: Signal) -> Result<()> {
    let cluster = Cluster::open(name)?;
    let host = cluster.host(host)?;
    let running =
        process::running(&cluster, host).with_context(|| format!("{} is not running", host.name))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid), signal)
        .with_context(|| format!("signal process {}", running.pid))
}

/// A descriptor that is readable once the process has ended.
fn pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: a plain system call; on success it returns a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
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
