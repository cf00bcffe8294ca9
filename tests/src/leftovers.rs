//! What is on this machine: the lists that must be the same before a cluster is made and after it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::STATE;
use crate::command;

/// Shim sockets and CNI's notes are named by hashes, so nothing tells whose they are: compared only while no other
/// cluster runs.
const HASHED: &str = "files named by hashes";

type Lists = BTreeMap<&'static str, BTreeSet<String>>;

/// Every list, as lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(Lists);

impl Machine {
    pub fn look() -> Machine {
        let mut lists = Lists::new();
        lists.insert("network namespaces", folder("/run/netns", 1));
        lists.insert("links", output(&["ip", "-brief", "link"], first_word));
        lists.insert(
            "addresses",
            output(&["ip", "-brief", "-4", "address"], str::to_owned),
        );
        lists.insert(
            "routes",
            output(&["ip", "route", "show", "table", "all"], str::to_owned),
        );
        lists.insert("rules", output(&["ip", "rule"], str::to_owned));
        lists.insert("iptables", output(&["iptables-save"], without_counters));
        lists.insert("nftables", output(&["nft", "list", "tables"], str::to_owned));
        lists.insert("mounts", mounts());
        lists.insert("cgroups", cgroups());
        lists.insert("processes", processes());
        let mut files = folder("/var/lib/corten", 3);
        files.extend(folder("/run/corten", 3));
        files.extend(folder("/run/containerd/runc", 2));
        files.extend(folder("/etc/cni", 2));
        files.extend(
            folder("/tmp", 1)
                .into_iter()
                .filter(|path| path.contains("corten")),
        );
        lists.insert("files", files);
        let mut hashed = folder("/run/containerd/s", 1);
        hashed.extend(folder("/var/lib/cni", 2));
        lists.insert(HASHED, hashed);
        Machine(lists)
    }

    /// What is here and was not there `before`, except what belongs to `others`: clusters that run beside.
    pub fn added_since(&self, before: &Machine, others: &[String]) -> Vec<String> {
        let foreign = |list: &str, line: &str| {
            let shared = !others.is_empty() && (list == HASHED || STATE.starts_with(line));
            shared || others.iter().any(|name| line.contains(name.as_str()))
        };
        let empty = BTreeSet::new();
        let added = self.0.iter().flat_map(|(list, lines)| {
            let new = lines.difference(before.0.get(list).unwrap_or(&empty));
            new.filter(|line| !foreign(list, line))
                .map(move |line| format!("{list}: {line}"))
        });
        added.collect()
    }
}

fn first_word(line: &str) -> String {
    // The peer's index after `@` changes with its namespace.
    line.split_whitespace()
        .next()
        .unwrap_or_default()
        .split('@')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn without_counters(line: &str) -> String {
    if line.starts_with('#') {
        String::new()
    } else {
        line.split(" [").next().unwrap_or_default().to_owned()
    }
}

fn output(words: &[&str], clean: fn(&str) -> String) -> BTreeSet<String> {
    let Some(program) = xtask::prerequisites::find(words[0]) else {
        return BTreeSet::new();
    };
    let finished = command::run(
        Command::new(program).args(&words[1..]),
        "",
        Duration::from_secs(20),
    );
    finished
        .stdout
        .lines()
        .map(clean)
        .filter(|line| !line.is_empty())
        .collect()
}

fn folder(path: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(Path::new(path), depth, &mut found, |_| true);
    found
}

fn walk(path: &Path, depth: usize, found: &mut BTreeSet<String>, wanted: fn(&Path) -> bool) {
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if wanted(&path) {
            found.insert(path.display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, depth - 1, found, wanted);
        }
    }
}

fn mounts() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(str::to_owned)
        .collect()
}

fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), 8, &mut found, Path::is_dir);
    found
}

/// Those that may belong to a cluster, with their cgroup; everything else on a machine comes and goes.
fn processes() -> BTreeSet<String> {
    let cgroup = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .find(|line| line.contains("corten-"))
            .unwrap_or_default()
            .to_owned()
    };
    ["corten", "containerd", "/pause"]
        .into_iter()
        .flat_map(crate::faults::processes_with)
        .filter(|(_, line)| {
            !["cargo", "rustc", "/deps/"]
                .iter()
                .any(|tool| line.contains(tool))
        })
        .map(|(pid, line)| format!("{pid} {line} {}", cgroup(pid)))
        .collect()
}
