//! The daemon: what the API says about Nodes, Services and EndpointSlices becomes files, routes and rules of this host.
//!
//! A thin shell around [`crate::routes::plan`] and [`crate::service::compile`]. Everything is level-driven: any change
//! wakes one loop, which looks at the caches, compares with what is in place and applies the difference at once. Changes
//! that arrive while an apply runs are taken together by the next one; nothing else is delayed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_client::{Cache, Informers, KubeKind, Selection};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cni;
use crate::conntrack;
use crate::ipam::{LedgerFile, uptime_seconds};
use crate::iptables::{self, IptablesError};
use crate::netlink::{self, Netlink, NetlinkError};
use crate::node::{LocalNode, NodeFacts, write_atomically};
use crate::paths::{NETWORK, Paths};
use crate::routes::{self, NODE_ROUTE_PROTOCOL};
use crate::service::compile::{Input, compile};
use crate::service::host_ports;
use crate::service::model::{ServicePort, service_ports};
use crate::service::rule::Ruleset;
use crate::sysctl;

/// Wait after a failed apply; doubles up to [`RETRY_LIMIT`]. A change in between is applied at once.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// Bytes, where the link that carries the node's address cannot be found.
const DEFAULT_MTU: u32 = 1500;

pub struct Config {
    pub client: kube::Client,
    pub node_name: String,
    /// The node's data folder; netd uses `netd/` and `cni/` below it.
    pub data_dir: PathBuf,
    /// The executable that [`cni::main`] answers in, installed by symbolic links; usually this process's own.
    pub plugin: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("prepare the node's network")]
    Prepare(#[source] std::io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("{0}")]
    Routes(#[from] NetlinkError),
    #[error("{0}")]
    Rules(#[from] IptablesError),
    #[error("{0}")]
    Files(#[from] std::io::Error),
}

/// Runs until `shutdown`; rules and routes stay in place then, so traffic goes on while the agent restarts.
///
/// # Errors
/// The host cannot be prepared at all. Later failures are logged and tried again.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let paths = Paths::new(&config.data_dir);
    prepare(&paths, &config.plugin).map_err(RunError::Prepare)?;
    collect_addresses(&paths).map_err(RunError::Prepare)?;
    let mut kernel = netlink::changes(NODE_ROUTE_PROTOCOL)?;

    let informers = Informers::new(config.client.clone(), shutdown.clone());
    let wake = Arc::new(Notify::new());
    let caches = Caches {
        nodes: watch(&informers, &wake),
        services: watch(&informers, &wake),
        slices: watch(&informers, &wake),
    };
    let mut host = Host {
        node_name: config.node_name,
        paths,
        netlink: Netlink::open()?,
        in_place: None,
        ports: Vec::new(),
    };
    // Until the caches are full, rules of an earlier run stay as they are: better old than missing.
    tokio::select! {
        () = caches.wait_synced() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut retry = RETRY_FIRST;
    let mut due = Due::Everything;
    loop {
        let wait = match host.apply(&caches, due).await {
            Ok(()) => {
                retry = RETRY_FIRST;
                None
            }
            Err(error) => {
                tracing::warn!(%error, retry_in = ?retry, "cannot bring the node's network up to date");
                let wait = retry;
                retry = (retry * 2).min(RETRY_LIMIT);
                Some(wait)
            }
        };
        // A change during the apply left a permit in `wake`, so none is missed.
        due = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = wake.notified() => Due::Everything,
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => Due::Everything,
            Some(()) = kernel.next() => if wait.is_none() { Due::Routes } else { Due::Everything },
        };
    }
}

/// What may differ from what is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Everything,
    /// Only the kernel changed: a link or an address that took routes with it.
    Routes,
}

struct Caches {
    nodes: Cache<Node>,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
}

impl Caches {
    async fn wait_synced(&self) {
        self.nodes.wait_synced().await;
        self.services.wait_synced().await;
        self.slices.wait_synced().await;
    }
}

fn watch<K: KubeKind>(informers: &Informers, wake: &Arc<Notify>) -> Cache<K> {
    let cache = informers.informer::<K>(Selection::all());
    let wake = wake.clone();
    cache.on_change(move |_| wake.notify_one());
    cache
}

/// What this host has, and how it gets what it should have.
struct Host {
    node_name: String,
    paths: Paths,
    netlink: Netlink,
    /// The rules the last successful apply left; `None`: unknown, everything is written.
    in_place: Option<Ruleset>,
    ports: Vec<ServicePort>,
}

impl Host {
    async fn apply(&mut self, caches: &Caches, due: Due) -> Result<(), ApplyError> {
        let nodes = self.nodes(caches);
        let routes = self.apply_routes(&nodes).await;
        if due == Due::Routes {
            return Ok(routes?);
        }
        self.apply_rules(caches, &nodes).await?;
        // Only now may the runtime start Pods: their first packet already finds Services.
        if let Some(own) = nodes.iter().find(|node| node.name == self.node_name) {
            self.publish(own).await?;
        }
        Ok(routes?)
    }

    /// Every node. Its own is known from the file too: Pods go on while their Node object is missing.
    fn nodes(&self, caches: &Caches) -> Vec<NodeFacts> {
        let mut nodes: Vec<NodeFacts> = caches
            .nodes
            .list()
            .iter()
            .map(|node| NodeFacts::of(node))
            .collect();
        let own = nodes.iter_mut().find(|node| node.name == self.node_name);
        if own.as_ref().is_some_and(|own| !own.pod_cidrs.is_empty()) {
            return nodes;
        }
        let Ok(known) = LocalNode::read(&self.paths.netd()) else {
            return nodes;
        };
        match own {
            Some(own) => own.pod_cidrs = vec![known.pod_cidr],
            None => nodes.push(NodeFacts {
                name: self.node_name.clone(),
                internal_ip: known.node_ip,
                pod_cidrs: vec![known.pod_cidr],
            }),
        }
        nodes
    }

    async fn apply_routes(&self, nodes: &[NodeFacts]) -> Result<(), NetlinkError> {
        let present = self.netlink.routes().await?;
        let changes = routes::plan(nodes, &self.node_name, &present);
        for change in &changes {
            tracing::debug!(?change, "route");
        }
        routes::apply(&self.netlink, &changes).await
    }

    async fn apply_rules(&mut self, caches: &Caches, nodes: &[NodeFacts]) -> Result<(), ApplyError> {
        let (services, slices) = (caches.services.list(), caches.slices.list());
        let ports = service_ports(
            services.iter().map(Arc::as_ref),
            slices.iter().map(Arc::as_ref),
            &self.node_name,
        );
        let wanted = compile(&Input {
            ports: &ports,
            nodes,
            node_name: &self.node_name,
        });
        let applied = match &self.in_place {
            Some(in_place) => match iptables::delta_text(in_place, &wanted) {
                Some(text) => iptables::restore(&text).await,
                None => Ok(()),
            },
            None => self.write_all(&wanted).await,
        };
        if let Err(error) = applied {
            self.in_place = None;
            return Err(error.into());
        }
        self.in_place = Some(wanted);
        let flushes = conntrack::stale(&std::mem::replace(&mut self.ports, ports), &self.ports);
        conntrack::flush(&flushes).await;
        Ok(())
    }

    /// Everything, from an unknown state. The host ports are the plug-in's; its lock keeps it out meanwhile.
    async fn write_all(&self, wanted: &Ruleset) -> Result<(), IptablesError> {
        let run = |source| IptablesError::Run {
            program: "iptables-restore",
            source,
        };
        let netd_dir = self.paths.netd();
        let file = tokio::task::spawn_blocking(move || LedgerFile::open(&netd_dir))
            .await
            .map_err(|error| run(std::io::Error::other(error)))?
            .map_err(run)?;
        let mut wanted = wanted.clone();
        wanted.nat.insert(
            host_ports::CHAIN.to_string(),
            host_ports::rules(file.ledger.attachments()),
        );
        let text = iptables::full_text(&iptables::present().await?, &wanted);
        iptables::restore(&text).await
    }

    /// Tells the plug-in and the container runtime that Pods can have addresses.
    async fn publish(&self, own: &NodeFacts) -> Result<(), ApplyError> {
        let Some(pod_cidr) = own.pod_cidrs.first().copied() else {
            return Ok(());
        };
        let mtu = match own.internal_ip {
            Some(ip) => self.mtu_of(ip).await?,
            None => DEFAULT_MTU,
        };
        LocalNode {
            pod_cidr,
            node_ip: own.internal_ip,
            mtu,
        }
        .write(&self.paths.netd())?;
        publish_conflist(&self.paths)?;
        Ok(())
    }

    async fn mtu_of(&self, ip: std::net::Ipv4Addr) -> Result<u32, NetlinkError> {
        let addresses = self.netlink.addresses().await?;
        let index = addresses
            .iter()
            .find(|(_, net)| net.addr() == ip)
            .map(|(index, _)| *index);
        let links = self.netlink.links().await?;
        Ok(links
            .iter()
            .find(|link| Some(link.index) == index)
            .map_or(DEFAULT_MTU, |link| link.mtu))
    }
}

/// Folders, the plug-in's links and the kernel's settings.
fn prepare(paths: &Paths, plugin: &Path) -> std::io::Result<()> {
    sysctl::prepare_node()?;
    for folder in [paths.netd(), paths.cni_bin(), paths.cni_conf()] {
        std::fs::create_dir_all(folder)?;
    }
    for name in cni::PLUGIN_NAMES {
        link_atomically(plugin, &paths.cni_bin().join(name))?;
    }
    Ok(())
}

/// A link that exists at every moment, so that a running container runtime never misses it.
fn link_atomically(target: &Path, link: &Path) -> std::io::Result<()> {
    if std::fs::read_link(link).is_ok_and(|present| present == target) {
        return Ok(());
    }
    let temporary = link.with_extension(format!("{}.tmp", std::process::id()));
    std::os::unix::fs::symlink(target, &temporary)?;
    std::fs::rename(&temporary, link)
}

fn publish_conflist(paths: &Paths) -> std::io::Result<()> {
    let conflist = json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [{
            "type": NETWORK,
            "dataDir": paths.netd(),
            "capabilities": {"portMappings": true},
        }],
    });
    let bytes = serde_json::to_vec_pretty(&conflist).map_err(std::io::Error::other)?;
    let path = paths.conflist();
    if std::fs::read(&path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    // The name it is first written under must not look like a configuration to the runtime.
    write_atomically(&path, &bytes)
}

/// Gives back addresses of sandboxes that died without being detached.
fn collect_addresses(paths: &Paths) -> std::io::Result<()> {
    let mut file = LedgerFile::open(&paths.netd())?;
    let now = uptime_seconds()?;
    let freed = file
        .ledger
        .collect(|attachment| cni::is_alive(attachment, now), now);
    if freed > 0 {
        tracing::info!(freed, "gave back addresses of sandboxes that are gone");
        file.save()?;
    }
    Ok(())
}

/// Removes what [`run`] leaves in this namespace: routes and rules, ours only. Files go with the data folder.
///
/// # Errors
/// The first thing that could not be removed, after the rest was tried.
pub async fn cleanup() -> Result<(), CleanupError> {
    let netlink = Netlink::open()?;
    let ours = netlink
        .routes()
        .await?
        .into_iter()
        .filter(|route| route.protocol == NODE_ROUTE_PROTOCOL);
    let changes: Vec<_> = ours.map(routes::RouteChange::Delete).collect();
    let routes = routes::apply(&netlink, &changes).await;
    iptables::cleanup().await?;
    Ok(routes?)
}

#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Iptables(#[from] IptablesError),
}
