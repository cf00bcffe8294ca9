//! The controllers: each a pure `plan` and a thin `sync`, one file each.
//!
//! Knows API objects. Must not know the store, nodes' runtimes or other components.

mod admission_policy_status;
mod apply;
mod batch;
pub mod certificates;
mod claim;
mod clusterrole_aggregation;
mod context;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoints;
mod garbage;
mod monitors;
mod namespace;
mod node;
mod pod;
mod pod_gc;
mod replica_set;
mod resource_quota;
mod service_account;
mod service_cidr;
mod storage_protection;

use std::sync::Arc;
use std::time::Duration;

use context::Context;
pub use context::{Clients, NOT_OF_PODS};
use corten_client::decoded::Decoded;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use monitors::Monitors;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the controllers cannot learn from the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the nodes' Pod CIDRs come from, for instance `10.244.0.0/16`.
    pub cluster_cidr: IpNet,
    /// Prefix length of one node's Pod CIDR; default 24.
    pub node_cidr_mask: u8,
    /// PEM of the cluster's certificate authorities, published as `kube-root-ca.crt` in every namespace.
    pub root_ca: watch::Receiver<Arc<str>>,
    /// How long a node may be silent; default 40 s.
    pub node_monitor_grace_period: Duration,
    /// Signs certificates for requests; `None`: this process does not hold the authority's key.
    pub signer: Option<certificates::Signer>,
    /// Finished Pods kept in the cluster; default 12,500.
    pub terminated_pod_threshold: usize,
    /// What this process's scheduler decodes, too; it must leave out no more than [`NOT_OF_PODS`]. Default none.
    pub pods: Option<Arc<Decoded<Pod>>>,
}

impl Config {
    /// Kubernetes' defaults.
    pub fn new(cluster_cidr: IpNet, root_ca: watch::Receiver<Arc<str>>) -> Self {
        Config {
            cluster_cidr,
            node_cidr_mask: 24,
            root_ca,
            node_monitor_grace_period: Duration::from_secs(40),
            signer: None,
            terminated_pod_threshold: 12_500,
            pods: None,
        }
    }
}

/// Why the controllers could not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("node CIDR mask /{mask} does not divide the cluster CIDR {cluster_cidr}")]
    NodeCidrMask { cluster_cidr: IpNet, mask: u8 },
}

/// Runs all controllers until `shutdown`. Each acts with the client that `clients` gives for its name, such as
/// `deployment-controller`; what they read is cached by the client of the empty name.
///
/// # Errors
/// The configuration cannot work. Errors of the API never end a controller.
pub async fn run(clients: Clients, config: Config, shutdown: CancellationToken) -> Result<(), ConfigError> {
    if config.node_cidr_mask < config.cluster_cidr.prefix_len()
        || config.node_cidr_mask > config.cluster_cidr.max_prefix_len()
    {
        let (cluster_cidr, mask) = (config.cluster_cidr, config.node_cidr_mask);
        return Err(ConfigError::NodeCidrMask { cluster_cidr, mask });
    }
    let mut context = Context::new(clients, shutdown);
    context.pods = config.pods;
    tokio::join!(
        replica_set::run(context.of("replicaset-controller")),
        replica_set::run_replication(context.of("replication-controller")),
        deployment::run(context.of("deployment-controller")),
        disruption::run(context.of("disruption-controller")),
        endpoint_slice::run(context.of("endpointslice-controller")),
        endpoints::run(context.of("endpoint-controller")),
        node::lifecycle::run(context.of("node-controller"), config.node_monitor_grace_period),
        node::eviction::run(context.of("node-controller")),
        node::pod_cidr::run(
            context.of("node-controller"),
            config.cluster_cidr,
            config.node_cidr_mask
        ),
        pod_gc::run(
            context.of("pod-garbage-collector"),
            config.terminated_pod_threshold
        ),
        service_account::run(context.of("service-account-controller"), config.root_ca),
        service_cidr::run(context.of("service-cidrs-controller")),
        storage_protection::run_claims(context.of("pvc-protection-controller")),
        storage_protection::run_volumes(context.of("pv-protection-controller")),
        storage_protection::run_classes(context.of("volumeattributesclass-protection-controller")),
        clusterrole_aggregation::run(context.of("clusterrole-aggregation-controller")),
        certificates::run(context.of("certificate-controller"), config.signer),
        admission_policy_status::run(context.of("validatingadmissionpolicy-status-controller")),
        all_kinds(context),
    );
    Ok(())
}

/// The controllers that look at every kind the server has. When kinds come or go they start anew, with caches of their
/// own: custom resources come rarely, and a start costs a list of every kind's metadata.
async fn all_kinds(context: Context) {
    while !context.shutdown.is_cancelled() {
        let generation = context.anew(context.shutdown.child_token());
        let Some(monitors) = Monitors::start(&generation).await else {
            return;
        };
        let running = async {
            tokio::join!(
                garbage::run(generation.of("generic-garbage-collector"), monitors.clone()),
                namespace::run(generation.of("namespace-controller"), monitors.clone()),
                resource_quota::run(generation.of("resourcequota-controller"), monitors.clone())
            )
        };
        let followed = async {
            monitors.outdated(&generation).await;
            generation.shutdown.cancel();
        };
        tokio::join!(running, followed);
    }
}
