//! The binary `corten`: server, agent, testbed clusters and, for containerd, the CNI plug-in.
//!
//! Parses flags, builds the parts, runs them. Decides nothing.

mod admin;
mod agent;
mod audit;
mod authority;
mod backup;
mod certificates;
mod cluster;
mod duration;
mod join;
mod kubeconfig;
mod member;
mod node_identity;
mod node_kubeconfig;
mod process;
mod reset;
mod server;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A write makes and drops some two thousand small values, on whichever thread its request and its watchers run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "corten",
    version,
    about = "A Kubernetes-compatible container orchestrator in one binary"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server: API, store, controllers and scheduler
    Server(Box<server::Args>),
    /// Run a node: Pods through containerd, routes and Service NAT
    Agent(agent::Args),
    /// Create, list, load and delete clusters made of network namespaces on this machine
    Cluster(cluster::Args),
    /// Save and list backups of a cluster's objects, and make a new cluster from one
    Backup(backup::Args),
    /// List, remove and promote the servers of a cluster, or make one lead
    Member(member::Args),
    /// Make, list and delete the tokens that machines join with
    Token(token::Args),
    /// Get in as administrator, on a server's machine
    Admin(admin::Args),
    /// Check audit logs
    Audit(audit::Args),
    /// Replace the cluster's certificate authority, or the key of ServiceAccounts' tokens, while it runs
    Certificate(authority::Args),
    /// Take everything off this host that an agent or a server has left
    Reset(reset::Args),
    /// Issue the kubeconfig an agent needs, with the cluster's CA (on the server's machine)
    NodeKubeconfig(node_kubeconfig::Args),
}

fn main() -> ExitCode {
    // containerd runs this binary as its CNI plug-in; the environment says so, as the CNI specification asks.
    if corten_netd::cni::is_invoked() {
        return corten_netd::cni::main();
    }
    let cli = Cli::parse();
    process::init();
    let result = match cli.command {
        Command::Server(args) => process::block_on(server::run(*args)),
        Command::Agent(args) => process::block_on(agent::run(args)),
        Command::Cluster(args) => args
            .keep()
            .unwrap_or_else(|| process::block_on(cluster::run(args))),
        Command::Backup(args) => process::block_on(backup::run(args)),
        Command::Member(args) => process::block_on(member::run(args)),
        Command::Token(args) => process::block_on(token::run(args)),
        Command::Admin(args) => admin::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Certificate(args) => process::block_on(authority::run(args)),
        Command::Reset(args) => process::block_on(reset::run(args)),
        Command::NodeKubeconfig(args) => node_kubeconfig::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            process::exit_code(&error)
        }
    }
}
