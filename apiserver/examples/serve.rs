//! Opens a store in a directory and serves the API on it, for development.
//!
//! `cargo run -p corten-apiserver --example serve -- DIR [PORT]` (port 0: any). Prints the kubeconfig's path; runs until
//! interrupted. No controllers, no scheduler, no nodes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use corten_apiserver::pki::{Pki, ServerNames, write_kubeconfig};
use corten_apiserver::{ApiServer, Config};
use corten_store::Store;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve DIR [PORT]")?);
    let port: u16 = arguments.next().map_or(Ok(6443), |text| text.parse())?;
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);

    let listener = tokio::net::TcpListener::bind((address, port)).await?;
    let port = listener.local_addr()?.port();
    std::fs::create_dir_all(&dir)?;
    let names = ServerNames::new("cluster.local", IpAddr::from([10, 96, 0, 1]), [address]);
    let pki = Pki::open(&dir.join("pki"), &names, time::OffsetDateTime::now_utc())?;
    let mut store = corten_store::Config::new(dir.join("store"));
    store.tagger = Some(corten_apiserver::tag);
    let store = Store::open(store).await?;
    let config = Config {
        port,
        ..Config::new(address, pki.ca.cert_pem())
    };
    let server = ApiServer::new(store.clone(), config);
    server.bootstrap().await?;

    let kubeconfig = dir.join("admin.kubeconfig");
    write_kubeconfig(
        &kubeconfig,
        "corten",
        &format!("https://{address}:{port}"),
        pki.ca.cert_pem(),
        &pki.admin,
    )?;
    println!("{}", kubeconfig.display());

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let serving = tokio::spawn(async move {
        server
            .serve(listener, pki.server_tls()?, stop)
            .await
            .map_err(Failure::from)
    });
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    serving.await??;
    store.close().await;
    Ok(())
}
