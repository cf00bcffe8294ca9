//! `corten agent`: the node agent and the network daemon of one host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use corten_client::remote::Server;
use corten_nodeagent::node::floors::Floors;
use corten_nodeagent::shell::config::{AgentConfig, ContainerdMode};

use crate::node_identity::{self, Source};

#[derive(clap::Args)]
pub struct Args {
    /// Keeps containers, images, volumes, logs and the node's own state
    #[arg(long, default_value = "/var/lib/corten/agent")]
    data_dir: PathBuf,
    /// A server to join, such as https://192.0.2.10:6443; the others are learned from it
    #[arg(long, conflicts_with = "kubeconfig", required_unless_present = "kubeconfig")]
    server: Option<String>,
    /// The token to join with, as `corten token create` prints it; not needed any more once the node has joined. Also taken
    /// from the variable CORTEN_TOKEN
    #[arg(long, requires = "server")]
    token: Option<String>,
    /// Get the node's identity and stop: the node then starts without a token
    #[arg(long, requires = "server")]
    only_join: bool,
    /// Credentials and address of the API server, instead of joining
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The Node's name; unique in the cluster [default: the host's name]
    #[arg(long)]
    node_name: Option<String>,
    /// An address of this host that the other nodes reach; more than one for dual stack [default: the one it reaches the
    /// server from]
    #[arg(long)]
    node_ip: Vec<IpAddr>,
    /// The cgroup below which all Pods of this node live
    #[arg(long, default_value = "/corten")]
    cgroup_root: String,
    /// A label of the Node, as key=value; may be given several times
    #[arg(long = "node-label", value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// The CRI socket of a container runtime that somebody else runs; without it the agent starts containerd itself
    #[arg(long)]
    container_runtime_endpoint: Option<PathBuf>,
    /// Containers that name no seccomp profile get the container runtime's, instead of none [default: false; hardened: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    seccomp_default: Option<bool>,
    /// Containers do not have the capability NET_RAW unless they add it [default: false; hardened: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    drop_net_raw: Option<bool>,
    /// Containers that do not say allowPrivilegeEscalation gain no privileges [default: false; hardened: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    no_new_privileges: Option<bool>,
    /// A set of stricter defaults than Kubernetes'. hardened: --seccomp-default, --drop-net-raw, --no-new-privileges
    #[arg(long, value_parser = ["kubernetes", "hardened"], default_value = "kubernetes")]
    profile: String,
    /// What must be left before the node is under pressure and takes no new Pods, as signal<floor with a quantity or a
    /// share [default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%]
    #[arg(long, default_value = "", hide_default_value = true)]
    eviction_hard: Floors,
}

pub async fn run(args: Args) -> Result<()> {
    let shutdown = crate::process::shutdown()?;
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("make {}", args.data_dir.display()))?;
    let data_dir = args.data_dir.canonicalize()?;
    let node_name = match args.node_name {
        Some(name) => name,
        None => host_name()?,
    };
    let source = match (args.kubeconfig, args.server) {
        (Some(path), _) => Source::Kubeconfig(path),
        (None, Some(server)) => Source::Join {
            server,
            token: args.token.or_else(|| std::env::var("CORTEN_TOKEN").ok()),
        },
        (None, None) => anyhow::bail!("--server or --kubeconfig is needed"),
    };
    if let (true, Source::Join { server, token }) = (args.only_join, &source) {
        return node_identity::only_join(&node_name, server, token.as_deref(), &data_dir, &shutdown).await;
    }
    let connected = tokio::select! {
        connected = node_identity::connect(&node_name, &source, &data_dir, &shutdown) => connected?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let node_ips = match args.node_ip.is_empty() {
        false => args.node_ip,
        true => vec![own_address(&connected.seed)?],
    };
    let remote = connected.remote;
    let client = remote.client();
    let network = tokio::spawn(corten_netd::run(
        corten_netd::Config {
            client: client.clone(),
            node_name: node_name.clone(),
            data_dir: data_dir.clone(),
            plugin: std::env::current_exe().context("find this program's file")?,
        },
        shutdown.clone(),
    ));
    let hardened = args.profile == "hardened";
    let agent = corten_nodeagent::shell::agent::run(
        AgentConfig {
            node_name,
            node_ips,
            client,
            remote,
            data_dir,
            cgroup_root: args.cgroup_root,
            labels: BTreeMap::from_iter(args.node_labels),
            taints: Vec::new(),
            capacity: Default::default(),
            reserved: Default::default(),
            dns: Default::default(),
            floors: args.eviction_hard,
            seccomp_default: args.seccomp_default.unwrap_or(hardened),
            drop_net_raw: args.drop_net_raw.unwrap_or(hardened),
            no_new_privileges: args.no_new_privileges.unwrap_or(hardened),
            containerd: args
                .container_runtime_endpoint
                .map_or(ContainerdMode::Managed, ContainerdMode::Endpoint),
        },
        shutdown.clone(),
    );
    tokio::select! {
        ended = agent => ended.context("node agent")?,
        ended = network => ended.context("network daemon")?.context("network daemon")?,
    }
    anyhow::ensure!(shutdown.is_cancelled(), "a part of the agent ended by itself");
    Ok(())
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("ask for the host's name")?;
    let name = name.to_string_lossy().to_ascii_lowercase();
    anyhow::ensure!(!name.is_empty(), "this host has no name: pass --node-name");
    Ok(name)
}

/// The address this host reaches a server from. Nothing is sent.
fn own_address(server: &Server) -> Result<IpAddr> {
    let find = || -> std::io::Result<IpAddr> {
        let any: IpAddr = match server.host.contains(':') {
            true => std::net::Ipv6Addr::UNSPECIFIED.into(),
            false => std::net::Ipv4Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect((server.host.as_str(), server.port))?;
        Ok(socket.local_addr()?.ip())
    };
    find().with_context(|| format!("find the address that this host reaches {server} from: pass --node-ip"))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not key=value"))?;
    Ok((key.to_string(), value.to_string()))
}
