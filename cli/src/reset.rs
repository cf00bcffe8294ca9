//! `corten reset`: takes everything off this host that an agent or a server has left: processes, mounts, rules, routes,
//! cgroups and files.
//!
//! Must not rely on anything being whole: what is missing is as good as removed, and a second run goes on from there.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use corten_netd::netlink::Netlink;
use corten_netd::routes::NODE_ROUTE_PROTOCOL;

use crate::cluster::{cgroups, delete, process};

/// How long processes may take to die of SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
const KILL_PAUSE: Duration = Duration::from_millis(5);

#[derive(clap::Args)]
pub struct Args {
    /// The agent's data folder
    #[arg(long, default_value = "/var/lib/corten/agent")]
    agent_data_dir: PathBuf,
    /// A server's data folder: the cluster's objects and keys are lost with its last server
    #[arg(long, default_value = "/var/lib/corten/server")]
    server_data_dir: PathBuf,
    /// The cgroup below which the node's Pods live
    #[arg(long, default_value = "/corten")]
    cgroup_root: String,
    /// Do not ask
    #[arg(long, short)]
    force: bool,
}

/// # Errors
/// What could not be removed; running it again goes on from there.
pub async fn run(args: Args) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this needs root");
    let dirs = [&args.agent_data_dir, &args.server_data_dir];
    for dir in dirs {
        ensure!(
            dir.is_absolute() && dir.components().count() > 2,
            "{} is no data folder",
            dir.display()
        );
    }
    if !args.force && !confirmed(&dirs)? {
        bail!("nothing was removed");
    }
    kill(&dirs, &args.cgroup_root).await?;
    for dir in dirs {
        delete::unmount_below(dir)?;
        delete::forget_containers_of(dir)?;
    }
    remove_network().await?;
    cgroups::remove(&args.cgroup_root).await?;
    for dir in dirs {
        delete::remove_folder(dir)?;
    }
    delete::forget_empty_folders(&[Path::new("/var/lib/corten")])?;
    println!("this host is clean; its Node, if it had one, is removed with `kubectl delete node`");
    Ok(())
}

fn confirmed(dirs: &[&PathBuf]) -> Result<bool> {
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        println!(
            "{} and everything that runs from it will be removed",
            dir.display()
        );
    }
    println!("go on? [y/N]");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Kills what lives in the cgroups and what was started with one of the folders, until nothing is left.
async fn kill(dirs: &[&PathBuf], cgroup: &str) -> Result<()> {
    let deadline = Instant::now() + KILL_DEADLINE;
    loop {
        cgroups::thaw(cgroup)?;
        let mut pids = cgroups::processes(cgroup)?;
        pids.extend(started_with(dirs));
        pids.retain(|pid| process::start_time(*pid).is_some() && *pid != std::process::id() as i32);
        if pids.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "processes {pids:?} do not die");
        for pid in &pids {
            // SAFETY: a plain system call; a process that has ended meanwhile is ESRCH.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        tokio::time::sleep(KILL_PAUSE).await;
    }
}

/// Agents, servers, containerd and its shims that were given one of the folders; no others that merely name it.
fn started_with(dirs: &[&PathBuf]) -> BTreeSet<i32> {
    const OURS: [&str; 4] = [
        "corten",
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
    ];
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let name = program
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let name = name.trim_end_matches(" (deleted)");
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            OURS.contains(&name) && dirs.iter().any(|dir| names_folder(&words, dir))
        })
        .collect()
}

/// Whether one of the words of a command line is the folder or below it. A `corten reset` names them too.
fn names_folder(cmdline: &[u8], dir: &Path) -> bool {
    let dir = dir.as_os_str().as_bytes();
    let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    if words.get(1).is_some_and(|verb| *verb == b"reset") {
        return false;
    }
    words.iter().any(|word| {
        let value = word.rsplit(|byte| *byte == b'=').next().unwrap_or_default();
        value
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// The chains and routes of netd; links of Pods went with their namespaces.
async fn remove_network() -> Result<()> {
    corten_netd::iptables::cleanup()
        .await
        .context("remove the rules")?;
    let netlink = Netlink::open().context("open netlink")?;
    for route in netlink.routes().await.context("list the routes")? {
        if route.protocol == NODE_ROUTE_PROTOCOL {
            netlink.delete_route(&route).await.context("remove a route")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, want: bool) {
        let words = line.replace(' ', "\0");
        assert_eq!(
            names_folder(words.as_bytes(), Path::new("/var/lib/corten/agent")),
            want,
            "{line}"
        );
    }

    #[test]
    fn only_what_was_started_with_the_folder_is_killed() {
        check("corten agent --data-dir /var/lib/corten/agent", true);
        check("corten agent --data-dir=/var/lib/corten/agent", true);
        check(
            "containerd --config /var/lib/corten/agent/containerd/config.toml",
            true,
        );
        check("corten agent --data-dir /var/lib/corten/agent2", false);
        check("corten reset --agent-data-dir /var/lib/corten/agent", false);
        check("corten server", false);
    }
}
