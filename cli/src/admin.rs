//! `corten admin`: for root on a server's machine, when nothing else lets him in.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_apiserver::pki::{self, Ca};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::server::ADMIN_SOCKET;

/// How long the server may take to record the use.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Print a kubeconfig with a new certificate in system:masters, signed with the CA in the data folder. A server that
    /// runs there records it in its audit log
    Kubeconfig {
        /// The data folder of a server
        #[arg(long, default_value = "/var/lib/corten/server")]
        data_dir: PathBuf,
        /// The server as its user reaches it
        #[arg(long, default_value = "https://127.0.0.1:6443")]
        server: String,
        /// How long the certificate lives, such as 1h
        #[arg(long, default_value = "1h", value_parser = crate::duration::parse)]
        lifetime: Duration,
    },
}

/// # Errors
/// There is no CA, or it cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let Verb::Kubeconfig {
        data_dir,
        server,
        lifetime,
    } = &args.verb;
    let dir = data_dir.join("pki");
    ensure!(dir.join("ca.key").exists(), "no CA in {}", dir.display());
    let ca = Ca::open(&dir, OffsetDateTime::now_utc()).context("open the CA")?;
    let life = time::Duration::try_from(*lifetime).context("the life of the certificate")?;
    let issued = pki::issue_client_for(&ca, "kubernetes-admin", &["system:masters"], life)?;
    if let Err(error) = record(&data_dir.join(ADMIN_SOCKET), &issued.cert_pem) {
        eprintln!("no server has recorded this: {error:#}");
    }
    print!("{}", pki::kubeconfig("corten", server, &ca.bundle(), &issued));
    Ok(())
}

/// A request on the break-glass socket is in the audit log whatever its policy says; this one names the certificate.
fn record(socket: &Path, cert_pem: &str) -> Result<()> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(RECORD_LIMIT))?;
    let digest: String = Sha256::digest(cert_pem)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    write!(
        stream,
        "GET /version?issued=admin-kubeconfig&sha256={digest} HTTP/1.1\r\nhost: localhost\r\nuser-agent: corten-admin\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("wait for the server")?;
    ensure!(
        answer.starts_with("HTTP/1.1 200"),
        "the server says {:?}",
        answer.lines().next()
    );
    Ok(())
}
