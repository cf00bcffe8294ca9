//! The processes of a cluster: starting one on a host, detached; finding and killing all.
//!
//! Knows processes, namespaces and mounts. Must not know what `corten server` and `corten agent` do.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::network::namespace_path;
use super::state::{API_PORT, Cluster, Host, Role, cgroup};
use super::{cgroups, state};

/// How long processes may take to die of SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 20;
/// Bytes read from the end of a log for them.
const TAIL_BYTES: u64 = 16 << 10;

/// Which process serves a host: number and start time, since numbers are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub pid: i32,
    /// Clock ticks since boot. Source: proc(5), field 22 of `stat`.
    pub start_time: u64,
}

fn pid_path(cluster: &Cluster, host: &Host) -> PathBuf {
    cluster.dir().join(format!("{}.pid", host.name))
}

/// The process a host was last given, if it is still that one.
pub fn running(cluster: &Cluster, host: &Host) -> Option<Running> {
    let bytes = std::fs::read(pid_path(cluster, host)).ok()?;
    let noted: Running = serde_json::from_slice(&bytes).ok()?;
    (start_time(noted.pid) == Some(noted.start_time)).then_some(noted)
}

pub fn is_running(cluster: &Cluster, host: &Host) -> bool {
    running(cluster, host).is_some()
}

/// `None` for a process that is gone or only waits to be reaped.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The flags of a host's process.
fn arguments(cluster: &Cluster, host: &Host) -> Vec<String> {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut pairs = vec![("--data-dir", path(cluster.data_dir(host)))];
    let verb = match host.role {
        Role::Server | Role::Witness => {
            pairs.extend([
                ("--bind-address", host.ip.to_string()),
                ("--advertise-address", host.ip.to_string()),
                ("--port", API_PORT.to_string()),
                ("--service-cidr", cluster.service_cidr.to_string()),
                ("--cluster-cidr", cluster.cluster_cidr.to_string()),
            ]);
            pairs.extend(join_arguments(cluster, host));
            "server"
        }
        Role::Node => {
            pairs.extend([
                ("--node-name", host.name.clone()),
                ("--node-ip", host.ip.to_string()),
                (
                    "--cgroup-root",
                    format!("{}/{}", cgroup(&cluster.name), host.name),
                ),
                // A throw-away cluster shares its disk with everything else on this machine.
                (
                    "--eviction-hard",
                    "memory.available<0%,nodefs.available<0%,nodefs.inodesFree<0%".to_string(),
                ),
            ]);
            pairs.extend(node_arguments(cluster));
            "agent"
        }
    };
    let flags = pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_string(), value]);
    let more = match host.role {
        Role::Server => cluster.server_args.clone(),
        Role::Witness => vec!["--witness".to_string()],
        Role::Node => Vec::new(),
    };
    std::iter::once(verb.to_string())
        .chain(flags)
        .chain(more)
        .collect()
}

/// A server with an empty folder joins another one that has a store, best one that runs.
fn join_arguments(cluster: &Cluster, host: &Host) -> Vec<(&'static str, String)> {
    let Ok(token) = std::fs::read_to_string(cluster.server_token_path()) else {
        return Vec::new();
    };
    let others = cluster
        .with_role(Role::Server)
        .filter(|other| other.name != host.name && cluster.has_store(other));
    let best = others.max_by_key(|other| is_running(cluster, other));
    match best.filter(|_| !cluster.has_store(host)) {
        Some(other) => vec![
            ("--join", format!("https://{}:{API_PORT}", other.ip)),
            ("--token", token.trim().to_string()),
        ],
        None => Vec::new(),
    }
}

/// Where a node finds the cluster; the token counts at its first start only.
fn node_arguments(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let server = cluster.with_role(Role::Server).next();
    let token = std::fs::read_to_string(cluster.node_token_path()).ok();
    let url = server.map(|server| format!("https://{}:{API_PORT}", server.ip));
    let token = token.map(|token| ("--token", token.trim().to_string()));
    url.map(|url| ("--server", url))
        .into_iter()
        .chain(token)
        .collect()
}

/// Starts the server or agent of a host under a keeper of its own ([`super::keeper`]); both outlive this process. Returns
/// once it is there.
pub fn start(cluster: &Cluster, host: &Host) -> Result<()> {
    use std::io::BufRead;
    std::fs::create_dir_all(cluster.data_dir(host))?;
    let executable = std::env::current_exe().context("find this executable")?;
    let doors = cgroups::prepare(&system_cgroup(cluster, host))?;
    let mut command = std::process::Command::new(&executable);
    command
        .args(["cluster", "keep", &cluster.name, &host.name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(open_log(cluster, host)?);
    // SAFETY: `detach` allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(move || detach(&doors)) };
    let mut keeper = command
        .spawn()
        .with_context(|| format!("start {} for {}", executable.display(), host.name))?;
    let mut line = String::new();
    if let Some(said) = keeper.stdout.take() {
        io::BufReader::new(said).read_line(&mut line)?;
    }
    if line.trim() != super::keeper::STARTED {
        let log = cluster.log_path(host);
        bail!(
            "{} was not started; the end of its log:\n{}",
            host.name,
            log_tail(&log)
        );
    }
    Ok(())
}

fn open_log(cluster: &Cluster, host: &Host) -> io::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(cluster.log_path(host))
}

/// A leaf of its own: v2 allows no processes in a cgroup whose children have controllers.
fn system_cgroup(cluster: &Cluster, host: &Host) -> String {
    format!("{}/{}/system", cgroup(&cluster.name), host.name)
}

/// A session of its own, and the cgroups behind these doors. Async-signal-safe.
fn detach(doors: &[File]) -> io::Result<()> {
    // SAFETY: setsid and write are async-signal-safe and get valid arguments.
    unsafe {
        check(libc::setsid())?;
        for door in doors {
            if libc::write(door.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// The server or agent of a host itself: in its network namespace, with its name as host name, in its cgroup, in a session
/// of its own, with its output in a file.
pub(super) fn spawn(cluster: &Cluster, host: &Host) -> Result<Child> {
    let executable = std::env::current_exe().context("find this executable")?;
    start_command(cluster, host, &executable, &arguments(cluster, host))
}

pub(super) fn start_command(
    cluster: &Cluster,
    host: &Host,
    executable: &Path,
    arguments: &[String],
) -> Result<Child> {
    std::fs::create_dir_all(cluster.data_dir(host))?;
    let log = open_log(cluster, host)?;
    let path = namespace_path(&cluster.name, &host.name);
    let namespace = File::open(&path).with_context(|| format!("open namespace {}", path.display()))?;
    let doors = cgroups::prepare(&system_cgroup(cluster, host))?;
    let hostname = host.name.clone();
    let mut command = std::process::Command::new(executable);
    command
        .args(arguments)
        .current_dir("/")
        // The legacy iptables lock lives in a file of the whole machine by default.
        .env("XTABLES_LOCKFILE", cluster.data_dir(host).join("xtables.lock"))
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let enter = move || -> io::Result<()> {
        // SAFETY: setns, unshare and sethostname are async-signal-safe and get valid arguments.
        unsafe {
            check(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET))?;
            check(libc::unshare(libc::CLONE_NEWUTS))?;
            check(libc::sethostname(hostname.as_ptr().cast(), hostname.len()))?;
        }
        detach(&doors)
    };
    // SAFETY: `enter` allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(enter) };
    let child = command
        .spawn()
        .with_context(|| format!("start {} on {}", executable.display(), host.name))?;
    let pid = i32::try_from(child.id())?;
    let running = Running {
        pid,
        start_time: start_time(pid).unwrap_or_default(),
    };
    std::fs::write(pid_path(cluster, host), serde_json::to_vec(&running)?)?;
    Ok(child)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The last lines a host wrote.
pub fn log_tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if tail.is_empty() {
        "  (empty)".to_string()
    } else {
        tail.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// Kills every process of a cluster: those in its cgroups, those noted, and those inside its namespaces.
pub async fn kill_all(name: &str, hosts: &[String]) -> Result<()> {
    let namespaces: BTreeSet<u64> = hosts
        .iter()
        .map(String::as_str)
        .chain([state::SWITCH])
        .map(|host| namespace_path(name, host))
        .filter(|path| corten_netd::netns::is_namespace(path))
        .filter_map(|path| std::fs::metadata(path).ok().map(|found| found.ino()))
        .collect();
    let noted = noted(name);
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        cgroups::thaw(&cgroup(name))?;
        let mut pids = cgroups::processes(&cgroup(name))?;
        pids.extend(
            noted
                .iter()
                .filter(|one| start_time(one.pid) == Some(one.start_time))
                .map(|one| one.pid),
        );
        pids.extend(inside(&namespaces));
        pids.retain(|pid| start_time(*pid).is_some() && *pid != std::process::id() as i32);
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {pids:?} of cluster {name} do not die");
        }
        for pid in &pids {
            // SAFETY: a plain system call; a process that has ended meanwhile is ESRCH.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn noted(name: &str) -> Vec<Running> {
    let entries = std::fs::read_dir(state::cluster_dir(name))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "pid")
        })
        .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
        .collect()
}

/// Processes whose network namespace is one of these.
fn inside(namespaces: &BTreeSet<u64>) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|found| namespaces.contains(&found.ino()))
        })
        .collect()
}

/// Every mount point of this mount namespace, in the order of mounting.
pub fn mount_points() -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .collect())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\' && tail.len() >= 3)
            .then(|| {
                std::str::from_utf8(&tail[..3])
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            })
            .flatten();
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c\01"), r"/a b\c\01");
    }

    #[test]
    fn a_process_is_told_by_its_start_time() {
        let own = std::process::id() as i32;
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(i32::MAX), None);
    }
}
