//! Cgroups of Pods: made before the sandbox, limited, and removed after it, on cgroup v1, hybrid and v2.
//!
//! Knows cgroup file systems. Must not know Pods or QoS classes: callers hand in a path and limits.
//! Runtimes create what is missing below `cgroup_parent` but never remove it, hence [`Cgroups::remove`].
//! All calls block for microseconds, `remove` for up to [`REMOVE_ATTEMPTS`] × [`REMOVE_PAUSE`].

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Processes that were killed just now keep their cgroup busy until they are reaped.
pub const REMOVE_ATTEMPTS: u32 = 10;
pub const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// Controllers that Pod limits are written to.
const LIMITED: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers handed down on v2, as far as the kernel has them.
const DELEGATED: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// 100 ms, as in Kubernetes (`cpuCFSQuotaPeriod`).
pub const DEFAULT_CPU_PERIOD_US: u64 = 100_000;

/// Limits of one cgroup. `None` leaves the kernel's default (no limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// As in cgroup v1: 1024 is one CPU, at least 2. Converted to a weight on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds in each [`DEFAULT_CPU_PERIOD_US`].
    pub cpu_quota_us: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub pids: Option<i64>,
}

/// The cgroup file systems of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// v1 hierarchies with their controllers; empty on a pure v2 host.
    v1: Vec<Hierarchy>,
    /// On a hybrid host it holds no controllers, but runtimes may leave directories in it.
    v2: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    controllers: BTreeSet<String>,
}

impl Cgroups {
    /// # Errors
    /// `NotFound` if no cgroup file system is mounted in this process's mount namespace.
    pub fn detect() -> io::Result<Cgroups> {
        let found = Cgroups::parse(&std::fs::read_to_string("/proc/self/mountinfo")?);
        if found.v1.is_empty() && found.v2.is_none() {
            let message = "no cgroup file system is mounted (looked in /proc/self/mountinfo)";
            return Err(io::Error::new(ErrorKind::NotFound, message));
        }
        Ok(found)
    }

    /// Reads `/proc/self/mountinfo`. The same hierarchy mounted twice is taken once, its last mount.
    fn parse(mountinfo: &str) -> Cgroups {
        let mut found = Cgroups {
            v1: Vec::new(),
            v2: None,
        };
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => found.v2 = Some(mount),
                (Some("cgroup"), Some(options)) => {
                    let controllers: BTreeSet<String> = options
                        .split(',')
                        .filter(|o| *o != "rw" && *o != "ro")
                        .map(String::from)
                        .collect();
                    found.v1.retain(|h| h.controllers != controllers);
                    found.v1.push(Hierarchy { mount, controllers });
                }
                _ => {}
            }
        }
        found
    }

    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// Makes the cgroup with all its parents and sets its limits. One that exists gets the limits only.
    ///
    /// # Errors
    /// What the kernel says, with the file's name.
    pub fn create(&self, path: &str, limits: &Limits) -> io::Result<()> {
        let relative = relative(path)?;
        if self.is_v2() {
            let root = self.v2.as_ref().expect("detect() found at least one hierarchy");
            delegate(root, relative)?;
            let dir = root.join(relative);
            std::fs::create_dir_all(&dir).map_err(|e| named(e, &dir))?;
            return write_all(&dir, &v2_files(limits));
        }
        for (controller, hierarchy) in self.limited() {
            let dir = hierarchy.mount.join(relative);
            std::fs::create_dir_all(&dir).map_err(|e| named(e, &dir))?;
            write_all(&dir, &v1_files(controller, limits))?;
        }
        Ok(())
    }

    pub fn exists(&self, path: &str) -> bool {
        let Ok(relative) = relative(path) else {
            return false;
        };
        self.mounts().any(|mount| mount.join(relative).is_dir())
    }

    /// Names of the cgroups directly below `path`, in any hierarchy.
    pub fn children(&self, path: &str) -> BTreeSet<String> {
        let Ok(relative) = relative(path) else {
            return BTreeSet::new();
        };
        let dirs = self
            .mounts()
            .filter_map(|mount| std::fs::read_dir(mount.join(relative)).ok());
        let entries = dirs
            .flatten()
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }

    /// Removes the cgroup with everything below it, in every hierarchy. Processes left in it are killed.
    /// One that is not there is fine.
    ///
    /// # Errors
    /// The last failure, after [`REMOVE_ATTEMPTS`].
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let relative = relative(path)?;
        let mut last = Ok(());
        for attempt in 0..REMOVE_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(REMOVE_PAUSE);
            }
            last = self
                .mounts()
                .try_for_each(|mount| remove_tree(&mount.join(relative)));
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn mounts(&self) -> impl Iterator<Item = &Path> {
        self.v1
            .iter()
            .map(|h| h.mount.as_path())
            .chain(self.v2.as_deref())
    }

    fn limited(&self) -> impl Iterator<Item = (&'static str, &Hierarchy)> {
        LIMITED.into_iter().filter_map(|controller| {
            self.v1
                .iter()
                .find(|h| h.controllers.contains(controller))
                .map(|h| (controller, h))
        })
    }
}

/// Weight of v2 for shares of v1. Source: KEP-2254 (cgroup v2), the mapping that runc and the kubelet share.
pub fn cpu_weight(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9_999) / 262_142
}

fn v1_files(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    match controller {
        "cpu" => {
            files.extend(limits.cpu_shares.map(|n| ("cpu.shares", n.max(2).to_string())));
            if let Some(quota) = limits.cpu_quota_us {
                files.push(("cpu.cfs_period_us", DEFAULT_CPU_PERIOD_US.to_string()));
                files.push(("cpu.cfs_quota_us", quota.to_string()));
            }
        }
        "memory" => files.extend(
            limits
                .memory_bytes
                .map(|n| ("memory.limit_in_bytes", n.to_string())),
        ),
        "pids" => files.extend(limits.pids.map(|n| ("pids.max", n.to_string()))),
        _ => {}
    }
    files
}

fn v2_files(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    files.extend(
        limits
            .cpu_shares
            .map(|n| ("cpu.weight", cpu_weight(n).to_string())),
    );
    files.extend(limits.cpu_quota_us.map(|quota| {
        let max = if quota < 0 {
            "max".to_string()
        } else {
            quota.to_string()
        };
        ("cpu.max", format!("{max} {DEFAULT_CPU_PERIOD_US}"))
    }));
    files.extend(limits.memory_bytes.map(|n| ("memory.max", n.to_string())));
    files.extend(limits.pids.map(|n| ("pids.max", n.to_string())));
    files
}

/// On v2 a cgroup has only those controllers that each of its parents passes on.
fn delegate(root: &Path, relative: &Path) -> io::Result<()> {
    let available = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<String> = DELEGATED
        .into_iter()
        .filter(|c| available.split_whitespace().any(|a| a == *c))
        .map(|c| format!("+{c}"))
        .collect();
    let mut dir = root.to_path_buf();
    for part in relative.parent().unwrap_or(Path::new("")) {
        write_all(&dir, &[("cgroup.subtree_control", wanted.join(" "))])?;
        dir.push(part);
        std::fs::create_dir_all(&dir).map_err(|e| named(e, &dir))?;
    }
    write_all(&dir, &[("cgroup.subtree_control", wanted.join(" "))])
}

fn write_all(dir: &Path, files: &[(&'static str, String)]) -> io::Result<()> {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::write(&path, content).map_err(|e| named(e, &path))?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| named(e, dir))?,
    };
    for entry in entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        remove_tree(&entry.path())?;
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => {
            kill_members(dir);
            Err(named(e, dir))
        }
        Ok(()) => Ok(()),
    }
}

fn kill_members(dir: &Path) {
    let Ok(members) = std::fs::read_to_string(dir.join("cgroup.procs")) else {
        return;
    };
    for pid in members
        .lines()
        .filter_map(|l| l.parse::<i32>().ok())
        .filter(|pid| *pid > 1)
    {
        tracing::warn!(pid, cgroup = %dir.display(), "killing a process left behind in a Pod's cgroup");
        // It may have ended meanwhile, which is as good.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Never the root itself, never out of it.
fn relative(path: &str) -> io::Result<&Path> {
    let relative = Path::new(path.trim_matches('/'));
    let plain = relative
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    if relative.as_os_str().is_empty() || !plain {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("{path:?} is no cgroup path"),
        ));
    }
    Ok(relative)
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
36 25 0:30 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
37 36 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
38 36 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 36 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
40 36 0:34 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    #[track_caller]
    fn check(v2: bool, limits: Limits, expected: &[(&str, &str)]) {
        let root = tempfile::tempdir().unwrap();
        let cgroups = if v2 {
            std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
            Cgroups {
                v1: vec![],
                v2: Some(root.path().into()),
            }
        } else {
            let hierarchy = |name: &str| Hierarchy {
                mount: root.path().join(name),
                controllers: [name.to_string()].into(),
            };
            Cgroups {
                v1: vec![hierarchy("cpu"), hierarchy("memory"), hierarchy("freezer")],
                v2: None,
            }
        };
        cgroups.create("/corten/kubepods/pod1", &limits).unwrap();
        assert!(cgroups.exists("corten/kubepods/pod1"));
        assert_eq!(cgroups.children("/corten/kubepods"), ["pod1".to_string()].into());
        for (file, content) in expected {
            let path = root.path().join(file);
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                *content,
                "{}",
                path.display()
            );
            std::fs::remove_file(path).unwrap(); // in a real cgroup, files go with their directory
        }
        if v2 {
            for dir in ["corten", "corten/kubepods"] {
                std::fs::remove_file(root.path().join(dir).join("cgroup.subtree_control")).unwrap();
            }
        }
        cgroups.remove("/corten").unwrap();
        assert!(!cgroups.exists("/corten"));
    }

    #[test]
    fn limits_reach_the_files_of_each_version() {
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            memory_bytes: Some(64 << 20),
            pids: None,
        };
        let v1 = [
            ("cpu/corten/kubepods/pod1/cpu.shares", "512"),
            ("cpu/corten/kubepods/pod1/cpu.cfs_period_us", "100000"),
            ("cpu/corten/kubepods/pod1/cpu.cfs_quota_us", "50000"),
            ("memory/corten/kubepods/pod1/memory.limit_in_bytes", "67108864"),
        ];
        check(false, limits, &v1);
        let v2 = [
            ("corten/kubepods/pod1/cpu.weight", "20"),
            ("corten/kubepods/pod1/cpu.max", "50000 100000"),
            ("corten/kubepods/pod1/memory.max", "67108864"),
            ("cgroup.subtree_control", "+cpu +memory +pids"),
        ];
        check(true, limits, &v2);
        check(false, Limits::default(), &[]);
    }

    #[test]
    fn hybrid_hosts_are_v1_with_a_v2_mount_to_clean() {
        let found = Cgroups::parse(HYBRID);
        assert!(!found.is_v2());
        assert_eq!(
            found.limited().map(|(c, _)| c).collect::<Vec<_>>(),
            ["cpu", "memory"]
        );
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn the_root_and_what_lies_outside_are_refused() {
        for path in ["", "/", "/../x", "a/../../b"] {
            assert!(relative(path).is_err(), "{path}");
        }
    }

    #[test]
    fn weights_span_the_whole_range() {
        assert_eq!([2, 1024, 262_144].map(cpu_weight), [1, 39, 10_000]);
    }
}
