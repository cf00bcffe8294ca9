//! Sets the volumes of a Pod up below `{pods}/{uid}` and takes them down. Blocking file system calls: run it on a
//! blocking thread.
//!
//! Everything here may be done twice: after a restart of the agent the same calls adopt what is there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use corten_api::quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::payload::payload;
use super::{VolumeError, atomic, subpath};
use crate::pod::containers::spec;
use crate::runtime::{Mount, MountPropagation};
use crate::spec::expand::expand;
use crate::spec::fields::Runtime;
use crate::spec::{ConfigError, Objects};

/// The directories of one Pod: `{data}/pods/{uid}`.
#[derive(Debug, Clone)]
pub struct PodDirectory(pub PathBuf);

impl PodDirectory {
    pub fn new(pods: &Path, uid: &str) -> PodDirectory {
        PodDirectory(pods.join(uid))
    }

    pub fn hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// Host side of a container's `terminationMessagePath`.
    pub fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.0
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }

    fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.0
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"))
            .join(name)
    }

    fn subpath(&self, volume: &str, container: &str, place: usize) -> PathBuf {
        self.0
            .join("volume-subpaths")
            .join(volume)
            .join(container)
            .join(place.to_string())
    }
}

enum Kind<'a> {
    EmptyDir {
        memory: bool,
        size: Option<i64>,
    },
    HostPath(&'a HostPathVolumeSource),
    /// Files made from objects; `memory`: never written to a disk.
    Files {
        plugin: &'static str,
        memory: bool,
    },
    Unsupported(String),
}

fn kind(volume: &Volume) -> Kind<'_> {
    if let Some(source) = &volume.empty_dir {
        let size = source
            .size_limit
            .as_ref()
            .map(|limit| quantity::from_api(limit).value())
            .filter(|size| *size > 0);
        return match source.medium.as_deref().unwrap_or_default() {
            "" => Kind::EmptyDir { memory: false, size },
            "Memory" => Kind::EmptyDir { memory: true, size },
            other => Kind::Unsupported(format!("emptyDir medium {other:?} is not supported by this node")),
        };
    }
    if let Some(source) = &volume.host_path {
        return Kind::HostPath(source);
    }
    if volume.config_map.is_some() {
        return Kind::Files {
            plugin: "configmap",
            memory: false,
        };
    }
    if volume.secret.is_some() {
        return Kind::Files {
            plugin: "secret",
            memory: true,
        };
    }
    if volume.projected.is_some() {
        return Kind::Files {
            plugin: "projected",
            memory: true,
        };
    }
    if volume.downward_api.is_some() {
        return Kind::Files {
            plugin: "downward-api",
            memory: false,
        };
    }
    // What is left is one of the many network and driver volumes; its field name says which.
    let name = serde_json::to_value(volume)
        .ok()
        .and_then(|value| value.as_object()?.keys().find(|key| *key != "name").cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    Kind::Unsupported(format!("volume type {name} is not supported by this node"))
}

fn host_path(directory: &PodDirectory, volume: &Volume) -> PathBuf {
    match kind(volume) {
        Kind::EmptyDir { .. } => directory.volume("empty-dir", &volume.name),
        Kind::HostPath(source) => PathBuf::from(&source.path),
        Kind::Files { plugin, .. } => directory.volume(plugin, &volume.name),
        Kind::Unsupported(_) => directory.volume("unsupported", &volume.name),
    }
}

/// Sets every volume up, or brings the files of mounted ones up to date.
///
/// # Errors
/// One per volume that failed; the others are set up.
pub fn set_up(
    directory: &PodDirectory,
    pod: &Pod,
    objects: &Objects,
    runtime: &Runtime,
    now: Timestamp,
) -> Result<(), Vec<VolumeError>> {
    let group = spec(pod)
        .security_context
        .as_ref()
        .and_then(|security| security.fs_group)
        .and_then(|group| u32::try_from(group).ok());
    let mut failed = Vec::new();
    for volume in spec(pod).volumes.iter().flatten() {
        let made = match kind(volume) {
            Kind::EmptyDir { memory, size } => empty_dir(&host_path(directory, volume), memory, size, group)
                .map_err(|error| error.to_string()),
            Kind::HostPath(source) => check_host_path(source),
            Kind::Files { memory, .. } => {
                let target = host_path(directory, volume);
                payload(pod, volume, objects, runtime)
                    .unwrap_or_else(|| Ok(Default::default()))
                    .and_then(|files| {
                        let ready = if memory {
                            tmpfs(&target, None, 0o755)
                        } else {
                            fs::create_dir_all(&target)
                        };
                        ready
                            .and_then(|()| atomic::write(&target, &files, group, now))
                            .map(|_| ())
                            .map_err(|error| error.to_string())
                    })
            }
            Kind::Unsupported(message) => Err(message),
        };
        if let Err(message) = made {
            failed.push(VolumeError {
                volume: volume.name.clone(),
                message,
            });
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

fn empty_dir(path: &Path, memory: bool, size: Option<i64>, group: Option<u32>) -> io::Result<()> {
    if path.exists() && (!memory || is_mounted(path)?) {
        return Ok(());
    }
    if memory {
        tmpfs(path, size, 0o777)?;
    } else {
        fs::create_dir_all(path)?;
    }
    let mut mode = 0o777;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        mode |= 0o2000;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn tmpfs(path: &Path, size: Option<i64>, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?)
}

/// A directory is a mount point when it is on another device than its parent, which holds for every tmpfs.
fn is_mounted(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Source: Volumes, `hostPath` types. Types that create do so with 0755 for directories and 0644 for files.
fn check_host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let found = fs::metadata(path);
    let is = |wanted: &str, matches: fn(&fs::FileType) -> bool| match &found {
        Ok(found) if matches(&found.file_type()) => Ok(()),
        _ => Err(format!(
            "hostPath type check failed: {} is not a {wanted}",
            source.path
        )),
    };
    match source.type_.as_deref().unwrap_or_default() {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_err() => fs::create_dir_all(path).map_err(|error| error.to_string()),
        "Directory" | "DirectoryOrCreate" => is("directory", |kind| kind.is_dir()),
        "FileOrCreate" if found.is_err() => fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        "File" | "FileOrCreate" => is("file", |kind| kind.is_file()),
        "Socket" => is("socket file", |kind| kind.is_socket()),
        "CharDevice" => is("character device", |kind| kind.is_char_device()),
        "BlockDevice" => is("block device", |kind| kind.is_block_device()),
        other => Err(format!("hostPath type {other:?} is not known")),
    }
}

/// The mounts of one container, `subPath`s resolved. Order is that of the spec.
///
/// # Errors
/// A mount that names no volume, or a subPath that cannot be used.
pub fn mounts(
    directory: &PodDirectory,
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
) -> Result<Vec<Mount>, ConfigError> {
    let mut made = Vec::new();
    for (place, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = spec(pod)
            .volumes
            .iter()
            .flatten()
            .find(|volume| volume.name == wanted.name)
            .ok_or_else(|| {
                ConfigError(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    wanted.name, container.name
                ))
            })?;
        let root = host_path(directory, volume);
        let lookup = |name: &str| {
            env.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(expression)) if !expression.is_empty() => Some(expand(expression, lookup)),
            _ => None,
        };
        let host_path = match sub_path {
            None => root,
            Some(path) => {
                let target = directory.subpath(&volume.name, &container.name, place);
                bind_subpath(&root, &path, &target).map_err(|error| {
                    ConfigError(format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                        wanted.name, container.name
                    ))
                })?;
                target
            }
        };
        made.push(Mount {
            container_path: wanted.mount_path.clone(),
            host_path,
            read_only: wanted.read_only == Some(true),
            propagation: match wanted.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::HostToContainer,
                Some("Bidirectional") => MountPropagation::Bidirectional,
                _ => MountPropagation::None,
            },
        });
    }
    Ok(made)
}

/// Binds the opened file itself, so that nothing can be swapped in between the check and the use.
fn bind_subpath(root: &Path, path: &str, target: &Path) -> io::Result<()> {
    let opened = subpath::open_or_create(root, path)?;
    let source = subpath::through(&opened);
    detach(target)?;
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(target))?;
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    Ok(mount(
        Some(&source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?)
}

fn detach(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Unmounts everything below the Pod's directory and removes its volumes. Twice is fine.
///
/// # Errors
/// A mount that stays; nothing is deleted then, for it could be somebody's data.
pub fn tear_down(directory: &PodDirectory) -> io::Result<()> {
    unmount_below(&directory.0)?;
    for part in ["volumes", "volume-subpaths"] {
        remove(&directory.0.join(part))?;
    }
    Ok(())
}

/// Removes the Pod's directory altogether.
///
/// # Errors
/// As [`tear_down`].
pub fn remove_all(directory: &PodDirectory) -> io::Result<()> {
    unmount_below(&directory.0)?;
    remove(&directory.0)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unmount_below(root: &Path) -> io::Result<()> {
    let points = mount_points(&fs::read_to_string("/proc/self/mountinfo")?, root);
    for point in &points {
        detach(point)?;
    }
    let left = mount_points(&fs::read_to_string("/proc/self/mountinfo")?, root);
    match left.first() {
        None => Ok(()),
        Some(point) => Err(io::Error::other(format!("{} is still mounted", point.display()))),
    }
}

/// Mount points strictly below `root`, deepest first. Pure.
fn mount_points(mountinfo: &str, root: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|text| PathBuf::from(unescape(text)))
        .filter(|point| point.starts_with(root) && point != root)
        .collect();
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, wanted: &[&str]) {
        let points = mount_points(mountinfo, Path::new("/d/pods/u"));
        assert_eq!(points, wanted.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn mounts_below_a_pod_come_deepest_first() {
        let text = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /d/pods/u/v/a rw - tmpfs t rw\n\
                    3 2 0:3 / /d/pods/u/v/a/b\\040c rw - tmpfs t rw\n4 1 0:4 / /d/pods/u2 rw - tmpfs t rw\n";
        check(text, &["/d/pods/u/v/a/b c", "/d/pods/u/v/a"]);
        check("", &[]);
    }

    #[test]
    fn a_pod_without_mounts_is_set_up_and_taken_down() {
        let data = tempfile::tempdir().expect("a directory");
        let directory = PodDirectory::new(data.path(), "u");
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "volumeMounts": [{"name": "e", "mountPath": "/e"}]}], "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "d", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"name": "n", "nfs": {"server": "s", "path": "/"}},
                {"name": "h", "hostPath": {"path": "/proc/self/status", "type": "Directory"}},
            ]},
        }))
        .expect("a Pod");
        let failed = set_up(
            &directory,
            &pod,
            &Objects::default(),
            &Runtime::default(),
            Timestamp::UNIX_EPOCH,
        )
        .expect_err("two cannot be");
        let texts: Vec<String> = failed.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "MountVolume.SetUp failed for volume \"n\" : volume type nfs is not supported by this node",
                "MountVolume.SetUp failed for volume \"h\" : hostPath type check failed: /proc/self/status is not a directory",
            ]
        );
        let made = mounts(&directory, &pod, &spec(&pod).containers[0], &[]).expect("mounts");
        assert_eq!(
            fs::metadata(&made[0].host_path)
                .expect("there")
                .permissions()
                .mode()
                & 0o7777,
            0o777
        );
        let file = directory.volume("downward-api", "d").join("n");
        assert_eq!(fs::read_to_string(file).expect("readable"), "p");
        tear_down(&directory).expect("taken down");
        tear_down(&directory).expect("twice");
        assert!(!made[0].host_path.exists());
    }
}
