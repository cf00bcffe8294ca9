//! Clusters with stand-ins for servers and agents: what `delete` leaves, and who gets which subnet. The namespaces are real
//! and need root; without it those tests say so and pass.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::state::{self, Cluster, DirLock};
use super::{delete, network, process, subnet};

#[test]
fn subnets_avoid_what_is_taken() {
    let net = |text: &str| text.parse::<ipnet::Ipv4Net>().unwrap();
    let first = subnet::pick("a", &[]).unwrap();
    assert_eq!(subnet::pick("a", &[]), Some(first));
    assert_eq!(subnet::pick("a", &[net("0.0.0.0/0")]), Some(first));
    let second = subnet::pick("a", &[first]).unwrap();
    assert_ne!(first, second);
    assert_eq!(subnet::pick("a", &[net("10.160.0.0/11")]), None);
    assert_eq!(subnet::pick("a", &[net("10.0.0.0/8")]), None);
    assert!(!subnet::overlap(first, net("10.244.0.0/16")) && !subnet::overlap(first, net("10.96.0.0/16")));
}

#[test]
fn names_fit_what_they_name() {
    for (name, fits) in [
        ("a", true),
        ("a-1", true),
        ("", false),
        ("-a", false),
        ("a-", false),
        ("A", false),
        ("a/b", false),
    ] {
        assert_eq!(state::check_name(name).is_ok(), fits, "{name:?}");
    }
    let long = "x".repeat(40);
    assert!(state::check_name(&long).is_ok());
    assert!(state::check_name(&format!("{long}x")).is_err());
    assert!(state::root_link(&long).len() <= 15);
    let socket = state::cluster_dir(&long).join("node-249/containerd/containerd.sock.ttrpc");
    assert!(socket.as_os_str().len() <= 107);
}

#[test]
fn deleting_a_cluster_that_never_was_is_fine() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    runtime().block_on(async {
        delete("never-was").await.unwrap();
        assert!(delete("../etc").await.is_err());
    });
}

#[test]
fn delete_leaves_nothing_of_a_cluster_whatever_runs_in_it() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    let name = format!("test-{}", std::process::id());
    let before = snapshot(&name);
    runtime().block_on(async {
        let cluster = make(&name).await;
        let dir = cluster.dir();
        // What a node leaves behind: a mount, a container's process in its own cgroup and session, a shim's socket.
        let mounted = dir.join("node-0/containerd/state/rootfs");
        std::fs::create_dir_all(&mounted).unwrap();
        run("mount", &["-t", "tmpfs", "none", mounted.to_str().unwrap()]);
        run("mount", &["-t", "tmpfs", "none", mounted.to_str().unwrap()]);
        let bundle = dir.join("node-0/containerd/state/io.containerd.runtime.v2.task/k8s.io/testsandbox");
        std::fs::create_dir_all(&bundle).unwrap();
        let socket = format!("/run/containerd/s/{name}");
        std::fs::create_dir_all("/run/containerd/s").unwrap();
        std::fs::write(&socket, "").unwrap();
        std::fs::write(bundle.join("address"), format!("unix://{socket}")).unwrap();
        assert_ne!(snapshot(&name), before, "the snapshot sees a cluster");
        assert!(
            cluster
                .hosts
                .iter()
                .all(|host| process::is_running(&cluster, host))
        );

        delete(&name).await.unwrap();
        delete(&name).await.unwrap();
        assert_eq!(snapshot(&name), before);

        // The same when the state is lost.
        let cluster = make(&name).await;
        std::fs::remove_dir_all(cluster.dir()).unwrap();
        delete(&name).await.unwrap();
        assert_eq!(snapshot(&name), before);
    });
}

#[test]
fn hosts_reach_each_other_until_one_is_cut_off() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    let name = format!("cut-{}", std::process::id());
    runtime().block_on(async {
        let cluster = make(&name).await;
        let ip = cluster.hosts[1].ip.to_string();
        let peer = state::namespace(&name, "server-0");
        let reach = |from: &str| {
            Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    from,
                    "/usr/bin/busybox",
                    "ping",
                    "-c1",
                    "-W1",
                    "-q",
                    &ip,
                ])
                .output()
        };
        assert!(reach(&peer).unwrap().status.success());
        network::set_plugged(&name, "node-0", false).await.unwrap();
        assert!(!reach(&peer).unwrap().status.success());
        network::set_plugged(&name, "node-0", true).await.unwrap();
        assert!(reach(&peer).unwrap().status.success());

        delete(&name).await.unwrap();
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// One server and one node that only sleep.
#[expect(
    clippy::zombie_processes,
    reason = "the cluster's deletion ends them, and this process soon after"
)]
async fn make(name: &str) -> Cluster {
    let all = DirLock::take(&state::clusters_dir(), true).unwrap();
    let mut taken = network::subnets_in_use().await.unwrap();
    taken.extend(state::list().unwrap().iter().map(|cluster| cluster.subnet));
    let subnet = subnet::pick(name, &taken).unwrap();
    let (services, pods) = ("10.96.0.0/16".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
    let cluster = Cluster::new(name, 1, 1, subnet, services, pods);
    std::fs::create_dir_all(cluster.dir()).unwrap();
    cluster.save().unwrap();
    drop(all);
    network::build(&cluster).await.unwrap();
    for host in &cluster.hosts {
        // A child in a session of its own, as a shim is.
        let script = "setsid sleep 1000 & exec sleep 1000".to_string();
        process::start_command(&cluster, host, Path::new("/bin/sh"), &["-c".to_string(), script]).unwrap();
    }
    cluster
}

fn run(program: &str, arguments: &[&str]) {
    assert!(
        Command::new(program).args(arguments).status().unwrap().success(),
        "{program} {arguments:?}"
    );
}

/// Everything of this machine that bears a cluster's name or is kept for it; other tests may run at the same time.
fn snapshot(name: &str) -> BTreeSet<String> {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let link = state::root_link(name);
    let mut found = BTreeSet::new();
    let mut keep = |kind: &str, text: String| {
        let ours = text
            .lines()
            .filter(|line| line.contains(name) || line.contains(&link));
        found.extend(ours.map(|line| format!("{kind}: {line}")));
    };
    keep("netns", output("ip", &["netns", "list"]));
    keep("link", output("ip", &["-o", "link"]));
    keep("route", output("ip", &["route"]));
    keep("mount", std::fs::read_to_string("/proc/self/mountinfo").unwrap());
    keep(
        "cgroup",
        output("find", &["/sys/fs/cgroup", "-maxdepth", "2", "-name", "corten-*"]),
    );
    keep(
        "file",
        output(
            "find",
            &[
                "/var/lib/corten",
                "/run/containerd",
                "/run/netns",
                "-maxdepth",
                "3",
            ],
        ),
    );
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        // Our own dead children wait for us to take note of them.
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if pid.and_then(process::start_time).is_none() {
            continue;
        }
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        keep("process", cgroup.replace('\n', " "));
    }
    found
}
