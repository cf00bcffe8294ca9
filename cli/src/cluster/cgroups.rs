//! The cgroups of a cluster in every hierarchy of this machine (v1, v2 or both): making, finding processes, removing.
//!
//! Knows cgroup file systems. Must not know hosts. What is left of a cluster is found through these, whoever started it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// A killed process keeps its cgroup busy until it is reaped: this often, with this pause.
const REMOVE_ATTEMPTS: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// Mount points of all hierarchies. `cpuset` comes apart: a v1 cpuset takes no process before it has been set up.
fn hierarchies() -> Result<Vec<(PathBuf, bool)>> {
    let mut found: Vec<(PathBuf, bool)> = Vec::new();
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = left.split(' ').nth(4) else {
            continue;
        };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
        if (kind == "cgroup" || kind == "cgroup2") && !found.iter().any(|(path, _)| path == Path::new(point))
        {
            let takes_processes = kind == "cgroup2" || !options.split(',').any(|option| option == "cpuset");
            found.push((PathBuf::from(point), takes_processes));
        }
    }
    Ok(found)
}

/// Makes `cgroup` everywhere and opens the files through which a process joins it.
pub fn prepare(cgroup: &str) -> Result<Vec<File>> {
    let mut doors = Vec::new();
    for (mount, takes_processes) in hierarchies()? {
        if !takes_processes {
            continue;
        }
        let dir = mount.join(cgroup.trim_start_matches('/'));
        std::fs::create_dir_all(&dir).with_context(|| format!("make cgroup {}", dir.display()))?;
        let door = File::options().write(true).open(dir.join("cgroup.procs"));
        doors.push(door.with_context(|| format!("open cgroup {}", dir.display()))?);
    }
    Ok(doors)
}

/// Every process in `cgroup` and below, in any hierarchy.
pub fn processes(cgroup: &str) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for dir in folders(cgroup)? {
        let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) else {
            continue;
        };
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        );
    }
    Ok(pids)
}

/// Lets frozen processes run, so that they can die: a v1 freezer keeps even SIGKILL waiting.
pub fn thaw(cgroup: &str) -> Result<()> {
    for dir in folders(cgroup)? {
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let path = dir.join(file);
            if path.exists() {
                std::fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Folders of `cgroup` and everything below it in all hierarchies, children before parents.
fn folders(cgroup: &str) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for (mount, _) in hierarchies()? {
        collect(&mount.join(cgroup.trim_start_matches('/')), &mut all);
    }
    Ok(all)
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        collect(&entry.path(), into);
    }
    into.push(dir.to_path_buf());
}

/// Removes `cgroup` with everything below it, everywhere. Its processes must be dead.
pub async fn remove(cgroup: &str) -> Result<()> {
    let mut last = None;
    for _ in 0..REMOVE_ATTEMPTS {
        last = None;
        for dir in folders(cgroup)? {
            match std::fs::remove_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => last = Some((dir, error)),
            }
        }
        if last.is_none() {
            break;
        }
        tokio::time::sleep(REMOVE_PAUSE).await;
    }
    match last {
        None => Ok(()),
        Some((dir, error)) => Err(error).with_context(|| format!("remove cgroup {}", dir.display())),
    }
}
