//! What an agent is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use corten_api::quantity::ResourceList;
use corten_client::remote::Remote;
use k8s_openapi::api::core::v1::Taint;
use kube::Client;

use crate::node::floors::Floors;
use crate::spec::dns::ClusterDns;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContainerdMode {
    /// Started and supervised by the agent, below its data directory.
    #[default]
    Managed,
    /// A runtime that somebody else runs: its CRI socket.
    Endpoint(PathBuf),
}

#[derive(Clone)]
pub struct AgentConfig {
    /// A DNS subdomain; unique in the cluster.
    pub node_name: String,
    /// The node's own addresses, primary first; at least one.
    pub node_ips: Vec<IpAddr>,
    pub client: Client,
    /// Where the tunnels dial, with the node's own certificate.
    pub remote: Remote,
    /// Absolute. Everything the agent keeps lives below it.
    pub data_dir: PathBuf,
    /// Cgroup below which all Pods live, from the hierarchy's root: `/corten/node-0`. Empty: the runtime makes no real
    /// processes, and no cgroups are made (hollow nodes).
    pub cgroup_root: String,
    /// In addition to `kubernetes.io/{hostname,arch,os}`.
    pub labels: BTreeMap<String, String>,
    /// Taken over only when the Node is made.
    pub taints: Vec<Taint>,
    /// Replaces what the machine is found to have, for several nodes on one machine.
    pub capacity: ResourceList,
    /// Kept back for the system: capacity minus this is allocatable.
    pub reserved: ResourceList,
    pub dns: ClusterDns,
    pub floors: Floors,
    /// Containers that name no seccomp profile get the runtime's; else they get none.
    pub seccomp_default: bool,
    /// Containers have no `NET_RAW` unless they add it.
    pub drop_net_raw: bool,
    /// Containers that do not say `allowPrivilegeEscalation` gain no privileges.
    pub no_new_privileges: bool,
    pub containerd: ContainerdMode,
}
