//! Our own containerd: configured, started, adopted, restarted.
//!
//! Knows containerd as a program. Must not know what runs in it. It outlives the agent, and containers outlive
//! it: each has a shim process of its own, which the next containerd finds again.

mod config;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::config::{Layout, SOCKET_PATH_LIMIT};
use self::process::{Process, find_program};
use super::cri::CriRuntime;
use super::import::{PAUSE_IMAGE, pause_image};
use super::{Runtime as _, RuntimeError};

/// Time for containerd to answer after its start; it loads all containers first.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time for one that is running already.
const ADOPT_LIMIT: Duration = Duration::from_secs(10);
/// Wait before a restart: the first, doubled up to the last; starts anew after a life of [`LONG_LIFE`].
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_LAST: Duration = Duration::from_secs(10);
const LONG_LIFE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "{program} was not found; install the packages {packages} or point the agent to a runtime's socket"
    )]
    Missing {
        program: &'static str,
        packages: &'static str,
    },
    #[error(
        "the path of socket {path} has more than {SOCKET_PATH_LIMIT} bytes; choose a shorter data directory"
    )]
    SocketPath { path: PathBuf },
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("start {binary}")]
    Spawn { binary: PathBuf, source: io::Error },
    #[error("containerd does not answer; the end of {log} is: {tail}")]
    NotReady { log: PathBuf, tail: String },
    #[error("import the sandbox image")]
    PauseImage { source: RuntimeError },
    #[error("the built-in sandbox image")]
    NoPauseImage { source: io::Error },
}

/// A supervised containerd. Dropping it leaves the process running, as a kill of the agent would.
pub struct Containerd {
    layout: Layout,
    pid: watch::Receiver<i32>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    runtime: Arc<CriRuntime>,
}

impl Containerd {
    /// Adopts a running containerd or starts one, waits until it answers and has the sandbox image, and
    /// restarts it from then on whenever it ends, until `shutdown`. It is left running then.
    pub async fn start(layout: Layout, shutdown: CancellationToken) -> Result<Containerd, StartError> {
        let binary = program("containerd", "containerd")?;
        program("containerd-shim-runc-v2", "containerd")?;
        let runc = program("runc", "runc")?;
        if let Some(path) = layout.too_long() {
            return Err(StartError::SocketPath { path });
        }
        prepare(&layout)?;
        let wanted = config::render(&layout, PAUSE_IMAGE, &runc);
        let runtime = CriRuntime::connect(&layout.socket(), PAUSE_IMAGE)
            .map_err(|source| StartError::PauseImage { source })?;
        let runtime = Arc::new(runtime);
        let process = match adopt(&layout, &wanted, &runtime).await {
            Some(process) => process,
            None => {
                write(&layout.config_file(), &wanted)?;
                let mut process = spawn(&binary, &layout)?;
                let ready = tokio::select! {
                    ready = answers(&runtime, READY_LIMIT) => ready,
                    () = process.ended() => false,
                };
                if !ready {
                    process.stop().await;
                    let log = layout.log_file();
                    return Err(StartError::NotReady {
                        tail: tail(&log),
                        log,
                    });
                }
                process
            }
        };
        ensure_pause_image(&runtime).await?;
        let (pid_sender, pid) = watch::channel(process.pid);
        let (stop, stops) = mpsc::channel(1);
        let supervisor = Supervisor {
            binary,
            layout: layout.clone(),
            pid: pid_sender,
            shutdown,
        };
        tokio::spawn(supervisor.run(process, stops));
        Ok(Containerd {
            layout,
            pid,
            stop,
            runtime,
        })
    }

    /// Already connected; the same object for all callers.
    pub fn runtime(&self) -> Arc<CriRuntime> {
        self.runtime.clone()
    }

    pub fn socket(&self) -> PathBuf {
        self.layout.socket()
    }

    /// Of the current process; changes with every restart.
    pub fn pid(&self) -> i32 {
        *self.pid.borrow()
    }

    /// Ends containerd itself; containers run on.
    pub async fn stop(self) {
        let (done, wait) = oneshot::channel();
        // A supervisor that is gone (shut down) has left the process to run: then it is not ours any more.
        if self.stop.send(done).await.is_ok() {
            let _ = wait.await;
        }
    }
}

struct Supervisor {
    binary: PathBuf,
    layout: Layout,
    pid: watch::Sender<i32>,
    shutdown: CancellationToken,
}

impl Supervisor {
    async fn run(self, mut process: Process, mut stops: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut wait = RESTART_FIRST;
        // `recv` gives None once the owner has dropped its handle; the process is then supervised all the same.
        let mut stoppable = true;
        loop {
            let born = Instant::now();
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                done = stops.recv(), if stoppable => match done {
                    Some(done) => {
                        process.stop().await;
                        let _ = done.send(()); // the caller may have given up waiting
                        return;
                    }
                    None => {
                        stoppable = false;
                        continue;
                    }
                },
                () = process.ended() => {}
            }
            if born.elapsed() >= LONG_LIFE {
                wait = RESTART_FIRST;
            }
            tracing::warn!(pid = process.pid, "containerd ended; restarting it in {wait:?}");
            process = loop {
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(RESTART_LAST);
                match Process::spawn(&self.binary, &self.layout) {
                    Ok(process) => break process,
                    Err(error) => {
                        tracing::error!(%error, "cannot start containerd; next attempt in {wait:?}")
                    }
                }
            };
            self.pid.send_replace(process.pid);
        }
    }
}

fn program(name: &'static str, packages: &'static str) -> Result<PathBuf, StartError> {
    find_program(name).ok_or(StartError::Missing {
        program: name,
        packages,
    })
}

fn spawn(binary: &Path, layout: &Layout) -> Result<Process, StartError> {
    Process::spawn(binary, layout).map_err(|source| StartError::Spawn {
        binary: binary.to_path_buf(),
        source,
    })
}

/// Makes the directories; after a reboot, what an earlier boot left in the state directory goes.
fn prepare(layout: &Layout) -> Result<(), StartError> {
    for dir in [&layout.dir, &layout.cni_bin_dir, &layout.cni_conf_dir] {
        make_private(dir)?;
    }
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let last = std::fs::read_to_string(layout.boot_file()).unwrap_or_default();
    let state = layout.state();
    // The mounts are looked at too, for the file may have been lost: below them are running containers.
    if last != boot_id && !has_mounts(&state) {
        // Containers' records are under `root`.
        match std::fs::remove_dir_all(&state) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::File { path: state, source });
            }
            _ => write(&layout.boot_file(), &boot_id)?,
        }
    }
    Ok(())
}

fn has_mounts(dir: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|mount| Path::new(mount).starts_with(dir))
}

fn make_private(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir);
    made.map_err(|source| StartError::File {
        path: dir.to_path_buf(),
        source,
    })
}

/// As a whole or not at all.
fn write(path: &Path, content: &str) -> Result<(), StartError> {
    let partial = path.with_extension("new");
    std::fs::write(&partial, content)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|source| StartError::File {
            path: path.to_path_buf(),
            source,
        })
}

/// A running containerd that answers and has the wanted configuration. One that does not is stopped.
async fn adopt(layout: &Layout, wanted: &str, runtime: &CriRuntime) -> Option<Process> {
    let mut process = Process::find(layout).await?;
    let same = std::fs::read_to_string(layout.config_file()).is_ok_and(|current| current == wanted);
    if same && answers(runtime, ADOPT_LIMIT).await {
        tracing::info!(pid = process.pid, "adopted the running containerd");
        return Some(process);
    }
    let why = if same {
        "does not answer"
    } else {
        "has another configuration"
    };
    tracing::info!(pid = process.pid, "replacing the running containerd, which {why}");
    process.stop().await;
    None
}

/// Asks until CRI answers. Connections that fail end at once, so this does not wait for a slow one.
async fn answers(runtime: &CriRuntime, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut wait = Duration::from_millis(5);
    while Instant::now() < deadline {
        match tokio::time::timeout(limit, runtime.status()).await {
            Ok(Ok(_)) => return true,
            // It serves without its CRI plug-in, which will not come later.
            Ok(Err(RuntimeError::Unsupported(_))) => return false,
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(100));
    }
    false
}

async fn ensure_pause_image(runtime: &CriRuntime) -> Result<(), StartError> {
    let image = pause_image().map_err(|source| StartError::NoPauseImage { source })?;
    let failed = |source| StartError::PauseImage { source };
    let present = runtime.image_status(PAUSE_IMAGE).await.map_err(failed)?;
    if present.is_some_and(|present| present.id == image.id) {
        return Ok(());
    }
    runtime.import(&image).await.map_err(failed)
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let content = std::fs::read(log).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = content.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
