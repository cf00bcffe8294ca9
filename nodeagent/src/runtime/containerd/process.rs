//! One containerd process: found again, started, waited for, stopped.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::config::Layout;

/// A log that has grown beyond this is set aside at the next start, one generation.
const LOG_LIMIT: u64 = 8 << 20;
/// Time between SIGTERM and SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running process, ours or one that an earlier agent started.
pub struct Process {
    pub pid: i32,
    kind: Kind,
}

enum Kind {
    /// Must be waited for, or it stays as a zombie.
    Child(Child),
    /// A pidfd, readable once the process has ended.
    Adopted(AsyncFd<OwnedFd>),
}

impl Process {
    /// Starts containerd in a session of its own, so that it outlives us and our terminal.
    pub fn spawn(binary: &Path, layout: &Layout) -> io::Result<Process> {
        let log = open_log(&layout.log_file())?;
        let mut command = std::process::Command::new(binary);
        command.arg("--config").arg(layout.config_file());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid is async-signal-safe, and the closure touches no memory.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from)) };
        let child = Command::from(command).kill_on_drop(false).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("containerd ended at once"))?;
        let identity = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
        std::fs::write(layout.pid_file(), identity)?;
        Ok(Process {
            pid,
            kind: Kind::Child(child),
        })
    }

    /// Finds the containerd that listens on the socket or, without one, that the pid file names.
    pub async fn find(layout: &Layout) -> Option<Process> {
        let listening = match UnixStream::connect(layout.socket()).await {
            Ok(stream) => stream.peer_cred().ok().and_then(|peer| peer.pid()),
            Err(_) => None,
        };
        let pid = listening.or_else(|| recorded(&layout.pid_file()))?;
        let fd = pidfd(pid).ok()?;
        // Asked after the pidfd was opened, so that it is this very process.
        if !is_containerd(pid) {
            return None;
        }
        // SAFETY: the descriptor is owned by what is registered, and so stays open as long.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()?;
        Some(Process {
            pid,
            kind: Kind::Adopted(fd),
        })
    }

    /// Until it has ended.
    pub async fn ended(&mut self) {
        match &mut self.kind {
            Kind::Child(child) => {
                if let Err(error) = child.wait().await {
                    tracing::warn!(pid = self.pid, %error, "cannot wait for containerd");
                }
            }
            Kind::Adopted(fd) => {
                if let Err(error) = fd.readable().await {
                    tracing::warn!(pid = self.pid, %error, "cannot wait for containerd");
                }
            }
        }
    }

    /// SIGTERM, and SIGKILL if that does not help in [`STOP_LIMIT`]. Containers run on.
    pub async fn stop(&mut self) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // It may have ended by itself, which is as good.
            let _ = kill(Pid::from_raw(self.pid), signal);
            if tokio::time::timeout(STOP_LIMIT, self.ended()).await.is_ok() {
                return;
            }
        }
        tracing::error!(pid = self.pid, "containerd does not end");
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_LIMIT) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The pid in the file, if the process that has it now started at the recorded time.
fn recorded(path: &Path) -> Option<i32> {
    let content = std::fs::read_to_string(path).ok()?;
    let (pid, started) = content.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
}

/// Field 22 of `/proc/PID/stat`, in clock ticks since boot. The second field may hold anything, in parentheses.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_containerd(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == "containerd"
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the result is checked before it becomes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A program in PATH, or where distributions put system programs that a user's PATH lacks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    let dirs = std::env::split_paths(&path).chain(more.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}
