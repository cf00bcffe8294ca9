//! Keeps each container's log within bounds: at 10 MiB the file is renamed away and the runtime opens a new one;
//! five files are kept. Source: kubelet configuration, `containerLogMaxSize` and `containerLogMaxFiles`.
//!
//! A file is looked at when the kernel says it was written to, and at most once in [`CHECK_PAUSE`]: an idle log costs
//! nothing, a busy one next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::inotify::Inotify;
use crate::runtime::Runtime;

pub const MAX_BYTES: u64 = 10 << 20;
/// The current file counts.
pub const MAX_FILES: usize = 5;
/// Source: kubelet configuration, `containerLogMonitorInterval`.
pub const CHECK_PAUSE: Duration = Duration::from_secs(10);
/// Requests waiting to be taken; more than containers that can start at once.
const QUEUE: usize = 1024;

/// Tells the rotator which containers there are.
#[derive(Clone)]
pub struct Rotator {
    commands: mpsc::Sender<(String, Option<PathBuf>)>,
}

impl Rotator {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// inotify is not to be had.
    pub fn start(runtime: Arc<dyn Runtime>, shutdown: CancellationToken) -> io::Result<Rotator> {
        let (commands, receive) = mpsc::channel(QUEUE);
        let inotify = Inotify::new()?;
        tokio::spawn(async move {
            tokio::select! {
                () = watch(inotify, receive, runtime) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(Rotator { commands })
    }

    /// A container runs and writes to `path`.
    pub fn add(&self, container_id: &str, path: &Path) {
        self.send(container_id, Some(path.to_owned()));
    }

    pub fn remove(&self, container_id: &str) {
        self.send(container_id, None);
    }

    fn send(&self, container_id: &str, path: Option<PathBuf>) {
        if self.commands.try_send((container_id.to_owned(), path)).is_err() {
            tracing::warn!(
                container_id,
                "log rotation is overloaded; this log is not watched"
            );
        }
    }
}

async fn watch(
    inotify: Inotify,
    mut commands: mpsc::Receiver<(String, Option<PathBuf>)>,
    runtime: Arc<dyn Runtime>,
) {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut watched: BTreeMap<i32, String> = BTreeMap::new();
    let mut pauses: BTreeMap<String, Instant> = BTreeMap::new();
    // One event and the kernel drops the watch: it is set again after the pause.
    let arm = |path: &Path| inotify.add(path, libc::IN_MODIFY | libc::IN_ONESHOT);
    loop {
        let next = pauses.values().min().copied();
        let touched: Vec<String> = tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some((id, None)) => {
                    paths.remove(&id);
                    continue;
                }
                Some((id, Some(path))) => {
                    paths.insert(id.clone(), path);
                    vec![id]
                }
            },
            numbers = inotify.next() => match numbers {
                Ok(numbers) => {
                    for id in numbers.iter().filter_map(|number| watched.remove(number)) {
                        if paths.contains_key(&id) {
                            pauses.insert(id, Instant::now() + CHECK_PAUSE);
                        }
                    }
                    continue;
                }
                Err(error) => return tracing::error!(%error, "log rotation ends"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let now = Instant::now();
                pauses.extract_if(.., |_, due| *due <= now).map(|(id, _)| id).collect()
            }
        };
        for id in touched {
            let Some(path) = paths.get(&id) else { continue };
            if let Err(error) = check(path, &id, &*runtime).await {
                tracing::warn!(%error, path = %path.display(), "rotate log");
            }
            match arm(path) {
                Ok(number) => {
                    watched.insert(number, id);
                }
                Err(error) => tracing::warn!(%error, path = %path.display(), "watch log"),
            }
        }
    }
}

async fn check(path: &Path, container_id: &str, runtime: &dyn Runtime) -> io::Result<()> {
    if tokio::fs::metadata(path).await?.len() < MAX_BYTES {
        return Ok(());
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = PathBuf::from(format!("{}.{stamp}", path.display()));
    tokio::fs::rename(path, &rotated).await?;
    if let Err(error) = runtime.reopen_log(container_id).await {
        // The runtime still writes to the old file: put it back, so that nothing is lost.
        tokio::fs::rename(&rotated, path).await?;
        return Err(io::Error::other(error));
    }
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || prune(&path))
        .await
        .map_err(io::Error::other)?
}

/// Removes the oldest rotated files of one log. Names sort by time.
fn prune(path: &Path) -> io::Result<()> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut rotated: Vec<PathBuf> = fs::read_dir(path.parent().unwrap_or(path))?
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{name}."))
        })
        .map(|entry| entry.path())
        .collect();
    rotated.sort();
    let surplus = rotated.len().saturating_sub(MAX_FILES - 1);
    rotated[..surplus].iter().try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], left: &[&str]) {
        let directory = tempfile::tempdir().expect("a directory");
        for file in files {
            fs::write(directory.path().join(file), "x").expect("written");
        }
        prune(&directory.path().join("0.log")).expect("pruned");
        let mut seen: Vec<String> = fs::read_dir(directory.path())
            .expect("listed")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        seen.sort();
        assert_eq!(seen, left);
    }

    #[test]
    fn the_oldest_go_first() {
        check(&["0.log", "0.log.1", "0.log.2"], &["0.log", "0.log.1", "0.log.2"]);
        check(
            &[
                "0.log", "0.log.1", "0.log.2", "0.log.3", "0.log.4", "0.log.5", "1.log",
            ],
            &["0.log", "0.log.2", "0.log.3", "0.log.4", "0.log.5", "1.log"],
        );
    }
}
