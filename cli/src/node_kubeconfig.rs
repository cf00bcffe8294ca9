//! `corten node-kubeconfig`: credentials for one node, signed with the CA in a server's data folder.

use std::path::PathBuf;

use anyhow::{Context, Result};
use corten_apiserver::pki::{self, Ca};

#[derive(clap::Args)]
pub struct Args {
    /// The data folder of a server
    #[arg(long)]
    data_dir: PathBuf,
    /// The node's name
    #[arg(long)]
    node_name: String,
    /// The server as the node reaches it, such as https://192.0.2.10:6443
    #[arg(long)]
    server: String,
    /// Where to write the kubeconfig (mode 0600)
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let directory = args.data_dir.join("pki");
    anyhow::ensure!(
        directory.join("ca.key").exists(),
        "no CA in {}",
        directory.display()
    );
    let ca = Ca::open(&directory, time::OffsetDateTime::now_utc()).context("open the CA")?;
    write(&ca, &args.node_name, &args.server, &args.out)
}

/// A kubeconfig for `system:node:NAME` in `system:nodes`.
pub fn write(ca: &Ca, node: &str, server: &str, out: &std::path::Path) -> Result<()> {
    let issued = pki::issue_client(ca, &format!("system:node:{node}"), &["system:nodes"])?;
    pki::write_kubeconfig(out, node, server, &ca.bundle(), &issued)
        .with_context(|| format!("write {}", out.display()))
}
