//! What is written down about a cluster: `cluster.json`, its folder, its names. Knows files only.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use corten_netd::node::as_text;
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::subnet;

/// All clusters of this machine.
const CLUSTERS: &str = "/var/lib/corten/clusters";
/// Keeps paths of sockets below the kernel's 107 bytes.
const MAX_NAME: usize = 40;
/// Port of the API server on its host.
pub const API_PORT: u16 = 6443;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Creating,
    Running,
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Server,
    /// Votes, and holds no objects: `corten server --witness`.
    Witness,
    Node,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// `server-0`, `witness`, `node-1`; a node's name in the cluster too.
    pub name: String,
    pub role: Role,
    pub ip: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub phase: Phase,
    #[serde(with = "as_text")]
    pub subnet: Ipv4Net,
    #[serde(with = "as_text")]
    pub service_cidr: Ipv4Net,
    #[serde(with = "as_text")]
    pub cluster_cidr: Ipv4Net,
    pub hosts: Vec<Host>,
    /// Flags of its servers beside those of the testbed.
    #[serde(default)]
    pub server_args: Vec<String>,
}

/// The folder of all clusters.
pub fn clusters_dir() -> PathBuf {
    PathBuf::from(CLUSTERS)
}

/// The folder of one cluster.
pub fn cluster_dir(name: &str) -> PathBuf {
    clusters_dir().join(name)
}

/// Credentials of the cluster's administrator, mode 0600.
pub fn kubeconfig_path(name: &str) -> PathBuf {
    cluster_dir(name).join("kubeconfig")
}

impl Cluster {
    pub fn new(
        name: &str,
        servers: u32,
        nodes: u32,
        subnet: Ipv4Net,
        service: Ipv4Net,
        pods: Ipv4Net,
    ) -> Cluster {
        let named =
            |role, prefix: &'static str, count| (0..count).map(move |idx| (role, format!("{prefix}-{idx}")));
        let hosts = named(Role::Server, "server", servers)
            .chain(named(Role::Node, "node", nodes))
            .zip(2..)
            .map(|((role, name), number)| Host {
                name,
                role,
                ip: subnet::address(subnet, number),
            })
            .collect();
        Cluster {
            name: name.to_string(),
            phase: Phase::Creating,
            subnet,
            service_cidr: service,
            cluster_cidr: pods,
            hosts,
            server_args: Vec::new(),
        }
    }

    /// The same, with one more host for a witness.
    #[must_use]
    pub fn with_witness(mut self) -> Cluster {
        let number = self.hosts.len() as u32 + 2;
        self.hosts.push(Host {
            name: WITNESS.to_string(),
            role: Role::Witness,
            ip: subnet::address(self.subnet, number),
        });
        self
    }

    /// Reads an existing cluster.
    pub fn open(name: &str) -> Result<Cluster> {
        check_name(name)?;
        match Cluster::read(&cluster_dir(name)) {
            Ok(cluster) => Ok(cluster),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no cluster {name}"),
            Err(error) => Err(error).with_context(|| format!("read the state of cluster {name}")),
        }
    }

    fn read(dir: &Path) -> io::Result<Cluster> {
        let bytes = std::fs::read(dir.join("cluster.json"))?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    pub fn save(&self) -> Result<()> {
        let (dir, bytes) = (cluster_dir(&self.name), serde_json::to_vec_pretty(self)?);
        let temporary = dir.join("cluster.json.tmp");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, dir.join("cluster.json")).context("write the cluster's state")
    }

    pub fn dir(&self) -> PathBuf {
        cluster_dir(&self.name)
    }

    pub fn host(&self, name: &str) -> Result<&Host> {
        let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        let found = self.hosts.iter().find(|host| host.name == name);
        found.with_context(|| {
            format!(
                "cluster {} has no host {name}, only {}",
                self.name,
                names.join(", ")
            )
        })
    }

    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.role == role)
    }

    /// The address of the root namespace in the cluster's subnet.
    pub fn root_ip(&self) -> Ipv4Addr {
        subnet::address(self.subnet, 1)
    }

    /// Data folder of a host's server or agent.
    pub fn data_dir(&self, host: &Host) -> PathBuf {
        self.dir().join(&host.name)
    }

    /// What servers join with, mode 0600.
    pub fn server_token_path(&self) -> PathBuf {
        self.dir().join("server-token")
    }

    /// What nodes join with, mode 0600.
    pub fn node_token_path(&self) -> PathBuf {
        self.dir().join("node-token")
    }

    /// Whether a server of this host has been part of the cluster.
    pub fn has_store(&self, host: &Host) -> bool {
        let log = self.data_dir(host).join("store").join("log");
        std::fs::read_dir(log).is_ok_and(|mut files| files.next().is_some())
    }

    pub fn log_path(&self, host: &Host) -> PathBuf {
        self.dir().join(format!("{}.log", host.name))
    }

    /// Where agents and users reach the first server.
    pub fn server_url(&self) -> Result<String> {
        let server = self
            .with_role(Role::Server)
            .next()
            .context("the cluster has no server")?;
        Ok(format!("https://{}:{API_PORT}", server.ip))
    }
}

/// Name of the network namespace of a host, or of the switch that joins them.
pub fn namespace(cluster: &str, host: &str) -> String {
    format!("corten-{cluster}-{host}")
}

/// The name of the host that runs a witness.
pub const WITNESS: &str = "witness";

/// The host-like name of the switch.
pub const SWITCH: &str = "switch";

/// Name of the one link in the root namespace; at most 15 bytes, whatever the cluster is called.
pub fn root_link(cluster: &str) -> String {
    format!("ctn{:012x}", subnet::fingerprint(cluster) >> 16)
}

/// The cgroup that holds everything of a cluster, as an absolute cgroup path.
pub fn cgroup(cluster: &str) -> String {
    format!("/corten-{cluster}")
}

pub fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        (1..=MAX_NAME).contains(&name.len())
            && name.chars().all(fits)
            && !name.starts_with('-')
            && !name.ends_with('-'),
        "{name:?} is no cluster name: lower-case letters, digits and '-' between them, at most {MAX_NAME}"
    );
    Ok(())
}

/// Every cluster that has a readable state, by name.
pub fn list() -> Result<Vec<Cluster>> {
    let entries = match std::fs::read_dir(clusters_dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("read the folder of clusters"),
    };
    let mut clusters: Vec<Cluster> = entries
        .filter_map(|entry| Cluster::read(&entry.ok()?.path()).ok())
        .collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(clusters)
}

/// A lock on a folder that may be removed by its holder.
pub struct DirLock {
    _lock: Flock<File>,
}

impl DirLock {
    /// Makes the folder if `create`, waits for its lock; `None` if it is not there.
    pub fn take(dir: &Path, create: bool) -> Result<Option<DirLock>> {
        loop {
            if create {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(dir)?;
            }
            let file = match File::open(dir) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && create => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).with_context(|| format!("open {}", dir.display())),
            };
            let inode = file.metadata()?.ino();
            let lock = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| io::Error::from(errno))
                .with_context(|| format!("lock {}", dir.display()))?;
            // Its last holder may have removed it while we waited.
            if std::fs::metadata(dir).is_ok_and(|now| now.ino() == inode) {
                return Ok(Some(DirLock { _lock: lock }));
            }
        }
    }
}
