//! `corten cluster delete`: everything a cluster is made of, found by its name, removed in the order that lets go.
//!
//! Must not rely on the cluster's state being readable, complete or true: it may be half made, or half deleted.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::state::{self, Cluster, DirLock, Phase, cgroup, cluster_dir, clusters_dir};
use super::{cgroups, network, process};

/// Folders of the whole machine in which containerd's shims, runc and libcni keep files by container.
const SHIM_SOCKETS: &str = "/run/containerd/s";
const RUNC_STATE: &str = "/run/containerd/runc/k8s.io";
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// Those folders with their parents, children first; removed once empty.
const SHARED_FOLDERS: [&str; 7] = [
    SHIM_SOCKETS,
    RUNC_STATE,
    "/run/containerd/runc",
    "/run/containerd/fifo",
    "/run/containerd",
    CNI_RESULTS,
    "/var/lib/cni",
];

/// Removes a cluster with its processes, mounts, namespaces, links, cgroups and files. One that is gone is no error.
///
/// # Errors
/// What could not be removed; running it again goes on from there.
pub async fn delete(name: &str) -> Result<()> {
    state::check_name(name)?;
    let lock = DirLock::take(&cluster_dir(name), false)?;
    if let Ok(mut cluster) = Cluster::open(name) {
        cluster.phase = Phase::Deleting;
        cluster.save()?;
    }
    let hosts = hosts(name);
    process::kill_all(name, &hosts).await?;
    unmount_below(&cluster_dir(name))?;
    forget_containers(&cluster_dir(name))?;
    network::remove(name, &hosts).await?;
    cgroups::remove(&cgroup(name)).await?;
    remove_folder(&cluster_dir(name))?;
    drop(lock);
    forget_shared_folders()
}

/// By its state, its namespaces and its folders: any of them may be missing.
fn hosts(name: &str) -> Vec<String> {
    let mut hosts: BTreeSet<String> = network::hosts_by_namespace(name).into_iter().collect();
    if let Ok(cluster) = Cluster::open(name) {
        hosts.extend(cluster.hosts.into_iter().map(|host| host.name));
    }
    hosts.remove(state::SWITCH); // it goes last, with the rest of the network
    hosts.into_iter().collect()
}

/// Unmounts the newest first, until nothing is mounted below `dir`.
pub(crate) fn unmount_below(dir: &Path) -> Result<()> {
    /// One mount can hide another; each round uncovers a layer.
    const ROUNDS: u32 = 16;
    for _ in 0..ROUNDS {
        let below: Vec<PathBuf> = process::mount_points()?
            .into_iter()
            .filter(|point| point.starts_with(dir))
            .collect();
        if below.is_empty() {
            return Ok(());
        }
        for point in below.iter().rev() {
            match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(error).with_context(|| format!("unmount {}", point.display())),
            }
        }
    }
    anyhow::bail!("mounts below {} keep coming back", dir.display())
}

/// Killed shims leave their socket, killed containers runc's state and killed sandboxes libcni's result in folders of the
/// whole machine; the bundles below the hosts' folders say which ones are this cluster's.
fn forget_containers(dir: &Path) -> Result<()> {
    folders_in(dir)
        .iter()
        .try_for_each(|host| forget_containers_of(host))
}

/// As [`forget_containers`], for the data folder of one agent.
pub(crate) fn forget_containers_of(host: &Path) -> Result<()> {
    let mut ids = BTreeSet::new();
    for namespace in folders_in(&host.join("containerd/state/io.containerd.runtime.v2.task")) {
        for bundle in folders_in(&namespace) {
            if let Ok(address) = std::fs::read_to_string(bundle.join("address")) {
                let socket = Path::new(address.trim().trim_start_matches("unix://"));
                if socket.starts_with(SHIM_SOCKETS) {
                    remove_file(socket)?;
                }
            }
            ids.extend(
                bundle
                    .file_name()
                    .and_then(|name| name.to_str())
                    .map(str::to_string),
            );
        }
    }
    for sandbox in folders_in(&host.join("containerd/root/io.containerd.grpc.v1.cri/sandboxes")) {
        ids.extend(
            sandbox
                .file_name()
                .and_then(|name| name.to_str())
                .map(str::to_string),
        );
    }
    for id in &ids {
        remove_folder(&Path::new(RUNC_STATE).join(id))?;
    }
    for result in entries_in(Path::new(CNI_RESULTS)) {
        let name = result
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.split('-').any(|part| ids.contains(part)) {
            remove_file(&result)?;
        }
    }
    Ok(())
}

/// Once the last cluster is gone: folders that are empty then, and the mount of the namespaces' names.
fn forget_shared_folders() -> Result<()> {
    let Some(all) = DirLock::take(&clusters_dir(), false)? else {
        return Ok(());
    };
    if !folders_in(&clusters_dir()).is_empty() {
        return Ok(());
    }
    network::forget_names()?;
    let parents = [
        clusters_dir(),
        clusters_dir().parent().map(Path::to_path_buf).unwrap_or_default(),
    ];
    forget_empty_folders(&[&parents[0], &parents[1]])?;
    drop(all);
    Ok(())
}

/// Removes folders that containerd, runc and libcni share, and then `parents`, as far as they are empty.
pub(crate) fn forget_empty_folders(parents: &[&Path]) -> Result<()> {
    let shared = SHARED_FOLDERS.iter().map(Path::new);
    for folder in shared.chain(parents.iter().copied()) {
        match std::fs::remove_dir(folder) {
            Ok(()) => {}
            // In use by someone else, or never made.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            Err(error) => return Err(error).with_context(|| format!("remove {}", folder.display())),
        }
    }
    Ok(())
}

fn entries_in(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn folders_in(dir: &Path) -> Vec<PathBuf> {
    entries_in(dir)
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir()))
        .collect()
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
