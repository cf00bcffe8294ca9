//! What the init of a machine does for its server or agent: starts it, and starts it again when it has stopped itself.
//!
//! Knows how processes end. A server that cannot trust its disk any more aborts and counts on this
//! (`packaging/systemd/corten-server.service` says the same to systemd); who was told to end, or was killed on purpose,
//! stays down.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::process;
use super::state::Cluster;
use crate::process::USELESS;

/// Before the first start after a failure, and at most: doubles between them.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Who has lived for so long begins anew with the shortest pause.
const STABLE: Duration = Duration::from_secs(60);
/// Said on standard output once the process of the host is there.
pub const STARTED: &str = "started";

/// Runs the server or agent of a host until it ends for good.
///
/// # Errors
/// There is no such cluster or host any more, or its program cannot be started.
pub fn keep(name: &str, host: &str) -> Result<()> {
    let mut pause = None;
    loop {
        let cluster = Cluster::open(name)?;
        let host = cluster.host(host)?;
        if pause.is_some() && process::is_running(&cluster, host) {
            // Somebody was faster.
            return Ok(());
        }
        let started = Instant::now();
        let mut child = process::spawn(&cluster, host)?;
        if pause.is_none() {
            println!("{STARTED}");
        }
        let status = child.wait()?;
        pause = again(status, started.elapsed(), pause);
        let Some(pause) = pause else { return Ok(()) };
        eprintln!(
            "corten: {} ended with {status}; it is started again in {pause:?}",
            host.name
        );
        std::thread::sleep(pause);
    }
}

/// How long to wait before the next start of a process that ended so, `lived` so long, and was started after the pause
/// `before`; none when it is not started again.
fn again(status: ExitStatus, lived: Duration, before: Option<Duration>) -> Option<Duration> {
    let asked = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT].map(|signal| signal as i32);
    let for_good = status.success()
        || status.code() == Some(i32::from(USELESS))
        || status.signal().is_some_and(|signal| asked.contains(&signal));
    let longer = before
        .filter(|_| lived < STABLE)
        .map_or(BACKOFF.0, |before| (before * 2).min(BACKOFF.1));
    (!for_good).then_some(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stopped_itself_is_started_again() {
        let (exit, signal) = (
            |code: i32| ExitStatus::from_raw(code << 8),
            |signal: Signal| ExitStatus::from_raw(signal as i32),
        );
        let short = Duration::from_secs(1);
        assert_eq!(again(signal(Signal::SIGABRT), short, None), Some(BACKOFF.0));
        assert_eq!(again(exit(1), short, Some(BACKOFF.0)), Some(BACKOFF.0 * 2));
        assert_eq!(again(exit(1), short, Some(BACKOFF.1)), Some(BACKOFF.1));
        assert_eq!(again(exit(1), STABLE, Some(BACKOFF.1)), Some(BACKOFF.0));
        for ended in [
            exit(0),
            exit(USELESS.into()),
            signal(Signal::SIGKILL),
            signal(Signal::SIGTERM),
        ] {
            assert_eq!(again(ended, short, None), None, "{ended:?}");
        }
    }
}
