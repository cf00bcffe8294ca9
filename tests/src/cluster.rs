//! A cluster for the length of a test, made with the commands any user has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{self, Finished};
use crate::kubectl::{self, Kubectl};
use crate::load;
use crate::manifests::{BUSYBOX, WEB_1, WEB_2};
use crate::wait::eventually;

/// A cluster must be there within this, images not counted.
const CREATE_LIMIT: Duration = Duration::from_secs(180);
const DELETE_LIMIT: Duration = Duration::from_secs(120);
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// The rules of all nodes must have followed a rollout within this.
const NODE_PORT_LIMIT: Duration = Duration::from_secs(20);
/// Where the testbed keeps its state and each host's files.
pub const STATE: &str = "/var/lib/corten/clusters";

pub struct Cluster {
    pub name: String,
    /// Every host, by name: its address in the cluster's subnet.
    pub hosts: Vec<(String, String)>,
    /// One per version under test; the newest is last.
    pub kubectls: Vec<Kubectl>,
    program: PathBuf,
    /// How much its processes say, as `CORTEN_LOG` has it; `None`: as usual.
    level: Option<&'static str>,
}

impl Cluster {
    /// One server and `nodes` nodes; `purpose` becomes part of the name.
    #[track_caller]
    pub fn create(purpose: &str, nodes: u32) -> Cluster {
        Cluster::create_with(purpose, 1, nodes, &[])
    }

    /// As [`Cluster::create`], of `servers` servers, with more flags for `corten cluster create`.
    #[track_caller]
    pub fn create_with(purpose: &str, servers: u32, nodes: u32, flags: &[&str]) -> Cluster {
        Cluster::create_saying(None, purpose, servers, nodes, flags)
    }

    /// As [`Cluster::create_with`], of processes that say as much as `level`, as `CORTEN_LOG` has it.
    #[track_caller]
    pub fn create_saying(
        level: Option<&'static str>,
        purpose: &str,
        servers: u32,
        nodes: u32,
        flags: &[&str],
    ) -> Cluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            xtask::prerequisites::is_root(),
            "clusters are made of namespaces and containers: run as root"
        );
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{purpose}-{}-{number}", std::process::id());
        let mut cluster = Cluster {
            name,
            hosts: Vec::new(),
            kubectls: Vec::new(),
            program: binary(),
            level,
        };
        let started = Instant::now();
        let (servers, nodes) = (servers.to_string(), nodes.to_string());
        let words = [
            "cluster",
            "create",
            &cluster.name,
            "--servers",
            &servers,
            "--nodes",
            &nodes,
        ];
        cluster.corten(&[&words[..], flags].concat(), CREATE_LIMIT).ok();
        println!(
            "cluster {} in {:.1} s",
            cluster.name,
            started.elapsed().as_secs_f32()
        );
        let state =
            std::fs::read(cluster.dir().join("cluster.json")).expect("the cluster's state is readable");
        let state: Value = serde_json::from_slice(&state).expect("the cluster's state is JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let hosts = state["hosts"].as_array().expect("hosts");
        cluster.hosts = hosts
            .iter()
            .map(|host| (text(&host["name"]), text(&host["ip"])))
            .collect();
        cluster.kubectls = kubectl::all(&cluster.kubeconfig());
        cluster
    }

    /// As [`Cluster::create`], with the test images on every node.
    #[track_caller]
    pub fn with_images(purpose: &str, nodes: u32) -> Cluster {
        let cluster = Cluster::create(purpose, nodes);
        cluster.load_images();
        cluster
    }

    /// Puts the test images on every node.
    #[track_caller]
    pub fn load_images(&self) {
        for (reference, version) in [(WEB_1, "v1"), (WEB_2, "v2")] {
            self.load(&xtask::image::web(reference, version).expect("make the web image"));
        }
        self.load(&xtask::image::busybox(BUSYBOX).expect("make the busybox image"));
    }

    #[track_caller]
    fn load(&self, archive: &[u8]) {
        let path = self.dir().join("test-image.tar");
        std::fs::write(&path, archive).expect("write the image");
        self.corten(
            &["cluster", "load", &self.name, &path.to_string_lossy()],
            LOAD_LIMIT,
        )
        .ok();
        std::fs::remove_file(path).expect("remove the image");
    }

    /// The newest kubectl, in namespace `default`.
    pub fn kubectl(&self) -> &Kubectl {
        self.kubectls.last().expect("there is always one")
    }

    pub fn dir(&self) -> PathBuf {
        Path::new(STATE).join(&self.name)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    pub fn host_dir(&self, host: &str) -> PathBuf {
        self.dir().join(host)
    }

    #[track_caller]
    pub fn ip(&self, host: &str) -> &str {
        let found = self.hosts.iter().find(|(name, _)| name == host);
        found
            .map(|(_, ip)| ip.as_str())
            .unwrap_or_else(|| panic!("no host {host} in {:?}", self.hosts))
    }

    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.hosts
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("node-"))
    }

    /// The NodePort of a Service in namespace `default` on every node, once each of them answers.
    #[track_caller]
    pub fn node_ports(&self, service: &str) -> Vec<String> {
        let service = self.kubectl().json(&format!("service {service}"));
        let port = service["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .expect("a nodePort");
        let addresses: Vec<String> = self
            .nodes()
            .map(|node| format!("{}:{port}", self.ip(node)))
            .collect();
        for address in &addresses {
            eventually("the NodePort answers", NODE_PORT_LIMIT, || load::get(address));
        }
        addresses
    }

    /// Runs the binary under test.
    #[track_caller]
    pub fn corten(&self, words: &[&str], limit: Duration) -> Finished {
        // What it starts inherits how much it is to say.
        let mut command = Command::new(&self.program);
        command.args(words);
        if let Some(level) = self.level {
            command.env("CORTEN_LOG", level);
        }
        command::run(&mut command, "", limit)
    }

    /// A verb of `corten cluster` about one host: `cut`, `heal`, `kill`, `stop`, `start`, `pause`, `resume`.
    #[track_caller]
    pub fn fault(&self, verb: &str, host: &str) {
        self.corten(&["cluster", verb, &self.name, host], Duration::from_secs(60))
            .ok();
    }

    #[track_caller]
    pub fn delete(&self) {
        self.corten(&["cluster", "delete", &self.name], DELETE_LIMIT).ok();
    }

    /// What one wants to read after a failure.
    fn describe(&self) {
        if let Some(kubectl) = self.kubectls.last() {
            for line in [
                "get nodes,pods,services,endpointslices -A -o wide",
                "get events -A",
            ] {
                println!(
                    "--- kubectl {line}\n{}",
                    command::run(
                        &mut kubectl.command(&line.split_whitespace().collect::<Vec<_>>()),
                        "",
                        Duration::from_secs(10),
                    )
                );
            }
        }
        for (host, _) in &self.hosts {
            let log = std::fs::read(self.dir().join(format!("{host}.log"))).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            println!(
                "--- end of {host}.log\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.describe();
            if std::env::var_os("CORTEN_KEEP").is_some() {
                println!(
                    "cluster {} is kept; `corten cluster delete {}` removes it",
                    self.name, self.name
                );
                return;
            }
        }
        let finished = self.corten(&["cluster", "delete", &self.name], DELETE_LIMIT);
        if !finished.succeeded() {
            // A second panic while unwinding would end the whole run.
            println!("{finished}");
            assert!(std::thread::panicking(), "{finished}");
        }
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CORTEN_BIN") {
        return path.into();
    }
    // target/debug/deps/e2e-... lies beside target/debug/corten.
    let me = std::env::current_exe().expect("a test program has a path");
    let path = me
        .parent()
        .and_then(Path::parent)
        .expect("in a target folder")
        .join("corten");
    assert!(
        path.exists(),
        "{} is not there: run `cargo build` or set CORTEN_BIN",
        path.display()
    );
    path
}
