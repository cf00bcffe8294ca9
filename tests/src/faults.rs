//! Breaking things the way the world does: processes that die at once.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Cluster;
use crate::command;

/// Processes whose command line holds `text`, by pid.
pub fn processes_with(text: &str) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (pid != std::process::id() && line.contains(text)).then(|| (pid, line.trim().to_owned()))
    })
    .collect()
}

/// kill -9 of the containerd of a host.
#[track_caller]
pub fn kill_containerd(cluster: &Cluster, host: &str) {
    let dir = cluster.host_dir(host);
    let found: Vec<(u32, String)> = processes_with(&dir.to_string_lossy())
        .into_iter()
        .filter(|(_, line)| {
            line.split(' ')
                .next()
                .is_some_and(|program| program.ends_with("containerd"))
        })
        .collect();
    assert_eq!(found.len(), 1, "one containerd on {host}: {found:?}");
    command::kill(found[0].0);
}

/// The runtime's name for the first container of a Pod, without its scheme.
#[track_caller]
pub fn container_id(pod: &Value) -> String {
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap_or_default();
    id.split_once("://")
        .unwrap_or_else(|| panic!("no containerID in {}", pod["status"]))
        .1
        .to_owned()
}

/// The pid of a container's first process, as its host's containerd knows it.
#[track_caller]
pub fn container_pid(cluster: &Cluster, pod: &Value) -> u32 {
    let host = pod["spec"]["nodeName"].as_str().expect("the Pod has a node");
    let socket = cluster.host_dir(host).join("containerd/containerd.sock");
    let mut ctr = Command::new("ctr");
    ctr.arg("--address")
        .arg(&socket)
        .args(["--namespace", "k8s.io", "tasks", "ls"]);
    let tasks = command::run(&mut ctr, "", Duration::from_secs(20)).ok();
    let id = container_id(pod);
    let pid = tasks
        .lines()
        .find_map(|line| line.strip_prefix(&id)?.split_whitespace().next()?.parse().ok());
    pid.unwrap_or_else(|| panic!("no task {id} in {tasks}"))
}

/// kill -9 of a container's first process, behind the back of everyone.
#[track_caller]
pub fn kill_container(cluster: &Cluster, pod: &Value) {
    command::kill(container_pid(cluster, pod));
}
