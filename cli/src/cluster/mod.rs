//! Testbeds: whole clusters on one machine, whose hosts are network namespaces joined by a bridge.
//!
//! Knows hosts, processes and files of a cluster. Must not know what the processes do: each host runs the real
//! `corten server` or `corten agent`, started with the flags anyone could give.
//!
//! Every host is a namespace `corten-CLUSTER-HOST` with one link, `eth0`, to a bridge in a namespace of its own
//! (`corten-CLUSTER-switch`): the root namespace's firewall never sees their traffic, and its bridge settings do not
//! matter. One link with the cluster's first address joins the root namespace, so `kubectl` and NodePorts work from there.
//! Everything a cluster is made of can be found again by its name, so [`delete`] works on half-made and crashed ones.

pub(crate) mod cgroups;
mod create;
pub(crate) mod delete;
mod fault;
mod keeper;
mod load;
mod network;
pub(crate) mod process;
mod progress;
mod state;
mod subnet;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use nix::sys::signal::Signal;

pub use create::create;
pub use delete::delete;
pub use load::load;
pub use state::{Cluster, kubeconfig_path, list};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

impl Args {
    /// The part of a keeper, which lives as long as its host and needs no runtime for it; `None` for every other verb.
    pub fn keep(&self) -> Option<Result<()>> {
        match &self.verb {
            Verb::Keep(args) => Some(keeper::keep(&args.name, &args.host)),
            _ => None,
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Create a cluster and wait until its nodes are ready
    Create(CreateArgs),
    /// List the clusters of this machine
    List,
    /// Print the path of a cluster's kubeconfig (or its content)
    Kubeconfig(KubeconfigArgs),
    /// Give an image (a tar of `docker save` or an OCI layout) to every node of a cluster
    Load(LoadArgs),
    /// Delete a cluster and everything that belongs to it; may be run twice
    Delete(DeleteArgs),
    /// Cut a host off the network
    Cut(HostArgs),
    /// Join a host that was cut off
    Heal(HostArgs),
    /// kill -9 the server or agent of a host; its containers go on
    Kill(HostArgs),
    /// Start the server or agent of a host that was killed or stopped
    Start(HostArgs),
    /// Ask the server or agent of a host to end (SIGTERM), and wait until it has
    Stop(HostArgs),
    /// Stop the server or agent of a host in its tracks (SIGSTOP)
    Pause(HostArgs),
    /// Let the server or agent of a host go on
    Resume(HostArgs),
    /// Run the server or agent of a host, as its init would; what creates and starts hosts uses it
    #[command(hide = true)]
    Keep(HostArgs),
}

#[derive(clap::Args, Debug, Clone)]
pub struct CreateArgs {
    /// Name of the cluster: lower-case letters, digits and `-`, at most 40
    pub name: String,
    /// Hosts that run a server: 1, 3 or 5
    #[arg(long, default_value_t = 1)]
    pub servers: u32,
    /// One more host that runs a witness: it votes, and holds no objects. Two servers and a witness survive the loss of any one
    #[arg(long)]
    pub witness: bool,
    /// Hosts that run an agent
    #[arg(long, default_value_t = 2)]
    pub nodes: u32,
    /// Addresses of Services
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: ipnet::Ipv4Net,
    /// Addresses of Pods
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: ipnet::Ipv4Net,
    /// A flag for its servers, such as --server-arg=--certificate-lifetime=10m; may be given several times
    #[arg(long, allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Seconds until a cluster that is not ready is given up and removed
    #[arg(long, default_value_t = 120)]
    pub timeout: u64,
    /// Keep what was made when creation fails, to look at it; `delete` removes it
    #[arg(long)]
    pub keep: bool,
}

impl CreateArgs {
    fn deadline(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(clap::Args, Debug, Clone)]
pub struct KubeconfigArgs {
    pub name: String,
    /// Print the content instead of the path
    #[arg(long)]
    pub raw: bool,
}

#[derive(clap::Args, Debug, Clone)]
pub struct LoadArgs {
    pub name: String,
    /// The image as a tar file
    pub image: PathBuf,
}

#[derive(clap::Args, Debug, Clone)]
pub struct DeleteArgs {
    pub name: String,
}

#[derive(clap::Args, Debug, Clone)]
pub struct HostArgs {
    pub name: String,
    /// Such as `node-0`
    pub host: String,
}

/// Runs one verb of `corten cluster`.
///
/// # Errors
/// In words for the user.
pub async fn run(args: Args) -> Result<()> {
    match args.verb {
        Verb::Create(args) => {
            let cluster = create(&args).await?;
            println!("export KUBECONFIG={}", kubeconfig_path(&cluster.name).display());
            Ok(())
        }
        Verb::List => print_list(),
        Verb::Kubeconfig(args) => kubeconfig(&args).map(|text| println!("{text}")),
        Verb::Load(args) => load(&args.name, &args.image).await,
        Verb::Delete(args) => delete(&args.name).await,
        Verb::Cut(args) => fault::set_link(&args.name, &args.host, false).await,
        Verb::Heal(args) => fault::set_link(&args.name, &args.host, true).await,
        Verb::Kill(args) => fault::end(&args.name, &args.host, Signal::SIGKILL),
        Verb::Start(args) => fault::start(&args.name, &args.host),
        Verb::Stop(args) => fault::end(&args.name, &args.host, Signal::SIGTERM),
        Verb::Pause(args) => fault::signal(&args.name, &args.host, Signal::SIGSTOP),
        Verb::Keep(args) => keeper::keep(&args.name, &args.host),
        Verb::Resume(args) => fault::signal(&args.name, &args.host, Signal::SIGCONT),
    }
}

/// The path of a cluster's kubeconfig, or its content.
///
/// # Errors
/// There is no such cluster, or it never came so far.
pub fn kubeconfig(args: &KubeconfigArgs) -> Result<String> {
    let cluster = Cluster::open(&args.name)?;
    let path = kubeconfig_path(&cluster.name);
    let content = std::fs::read_to_string(&path)
        .map_err(|error| anyhow::anyhow!("cluster {} has no kubeconfig yet: {error}", cluster.name))?;
    Ok(if args.raw {
        content.trim_end().to_string()
    } else {
        path.display().to_string()
    })
}

fn print_list() -> Result<()> {
    println!(
        "{:<20} {:<10} {:<18} {:<8} HOSTS",
        "NAME", "PHASE", "SUBNET", "RUNNING"
    );
    for cluster in list()? {
        let running = cluster
            .hosts
            .iter()
            .filter(|host| process::is_running(&cluster, host))
            .count();
        let hosts: Vec<String> = cluster
            .hosts
            .iter()
            .map(|host| format!("{}={}", host.name, host.ip))
            .collect();
        let ready = format!("{running}/{}", cluster.hosts.len());
        let phase = format!("{:?}", cluster.phase);
        println!(
            "{:<20} {:<10} {:<18} {:<8} {}",
            cluster.name,
            phase,
            cluster.subnet,
            ready,
            hosts.join(" ")
        );
    }
    Ok(())
}
