//! `corten agent`: the node agent and the network daemon of one host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use corten_nodeagent::node::floors::Floors;
use corten_nodeagent::shell::config::{AgentConfig, ContainerdMode};

#[derive(clap::Args)]
pub struct Args {
    /// Keeps containers, images, volumes, logs and the node's own state
    #[arg(long, default_value = "/var/lib/corten/agent")]
    data_dir: PathBuf,
    /// Credentials and address of the API server
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The Node's name; unique in the cluster
    #[arg(long)]
    node_name: String,
    /// An address of this host that the other nodes reach; more than one for dual stack
    #[arg(long, required = true)]
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
    /// What must be left before the node is under pressure and takes no new Pods, as signal<floor with a quantity or a
    /// share [default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%]
    #[arg(long, default_value = "", hide_default_value = true)]
    eviction_hard: Floors,
}

pub async fn run(args: Args) -> Result<()> {
    let shutdown = crate::process::shutdown()?;
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("make {}", args.data_dir.display()))?;
    let data_dir = args.data_dir.canonicalize()?;
    let client = corten_client::remote(&args.kubeconfig)
        .await
        .with_context(|| format!("use {}", args.kubeconfig.display()))?;
    let network = tokio::spawn(corten_netd::run(
        corten_netd::Config {
            client: client.clone(),
            node_name: args.node_name.clone(),
            data_dir: data_dir.clone(),
            plugin: std::env::current_exe().context("find this program's file")?,
        },
        shutdown.clone(),
    ));
    let agent = corten_nodeagent::shell::agent::run(
        AgentConfig {
            node_name: args.node_name,
            node_ips: args.node_ip,
            client,
            kubeconfig: args.kubeconfig,
            data_dir,
            cgroup_root: args.cgroup_root,
            labels: BTreeMap::from_iter(args.node_labels),
            taints: Vec::new(),
            capacity: Default::default(),
            reserved: Default::default(),
            dns: Default::default(),
            floors: args.eviction_hard,
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

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not key=value"))?;
    Ok((key.to_string(), value.to_string()))
}
