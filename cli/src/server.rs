//! `corten server`: one store member, the front end over it, and the components that share its process.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use corten_apiserver::pki::{self, Pki, ServerNames};
use corten_apiserver::tokens::{self, Issuer};
use corten_apiserver::{ApiServer, User};
use corten_store::Store;
use ipnet::Ipv4Net;
use tokio::net::TcpListener;

/// The file the admin's credentials are written to, in the data folder.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

#[derive(clap::Args)]
pub struct Args {
    /// Keeps the store, the CA and the admin's kubeconfig
    #[arg(long, default_value = "/var/lib/corten/server")]
    data_dir: PathBuf,
    /// The address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The address nodes and Pods reach this server at; the bind address unless that is a wildcard
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Where ClusterIPs come from; the first address is the Service `kubernetes`
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,
    /// Where Pod addresses come from; every node gets one /24 of it
    #[arg(long, default_value = "10.244.0.0/16")]
    cluster_cidr: Ipv4Net,
}

pub async fn run(args: Args) -> Result<()> {
    let shutdown = crate::process::shutdown()?;
    let advertise = advertise_address(&args)?;
    let names_of = |service_ip: std::net::Ipv4Addr| {
        ServerNames::new("cluster.local", service_ip.into(), [advertise, args.bind_address])
    };
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("make {}", args.data_dir.display()))?;
    let mut config = corten_apiserver::Config::new(advertise, String::new());
    config.service_cidr = args.service_cidr;
    config.port = args.port;
    let pki = Pki::open(
        &args.data_dir.join("pki"),
        &names_of(config.kubernetes_service_ip()),
        time::OffsetDateTime::now_utc(),
    )
    .context("open the certificates")?;
    config.ca_pem = pki.ca.cert_pem().to_string();
    let issuer =
        Issuer::new(tokens::DEFAULT_ISSUER, &pki.accounts).context("read the key of ServiceAccounts")?;
    config.tokens = Some(Arc::new(issuer));
    config.cluster = Some(Arc::new(crate::join::Sharing {
        pki: args.data_dir.join("pki"),
        service_cidr: args.service_cidr,
        cluster_cidr: args.cluster_cidr,
    }));

    let mut store_config = corten_store::Config::new(args.data_dir.join("store"));
    store_config.tagger = Some(corten_apiserver::tag);
    let store = Store::open(store_config).await.context("open the store")?;
    let api = ApiServer::new(store.clone(), config);
    api.bootstrap().await.context("write the bootstrap objects")?;

    let address = SocketAddr::new(args.bind_address, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))?;
    let kubeconfig = args.data_dir.join(ADMIN_KUBECONFIG);
    let server_url = format!("https://{}", SocketAddr::new(advertise, args.port));
    pki::write_kubeconfig(&kubeconfig, "corten", &server_url, pki.ca.cert_pem(), &pki.admin)
        .with_context(|| format!("write {}", kubeconfig.display()))?;
    tracing::info!(%address, kubeconfig = %kubeconfig.display(), "serving the Kubernetes API");

    // Components use the same API as everyone, through their own identity, without sockets.
    let client = |name: &str| kube::Client::new(api.in_process(User::component(name)), "default");
    let controllers = tokio::spawn(corten_controllers::run(
        client("system:kube-controller-manager"),
        corten_controllers::Config::new(args.cluster_cidr.into(), pki.ca.cert_pem().to_string()),
        shutdown.clone(),
    ));
    let scheduler = tokio::spawn(corten_scheduler::run(
        client("system:kube-scheduler"),
        corten_scheduler::Config::default(),
        shutdown.clone(),
    ));
    api.serve(listener, pki.server_tls()?, shutdown.clone())
        .await
        .context("serve")?;
    shutdown.cancel();
    let _ = tokio::join!(controllers, scheduler);
    store.close().await;
    Ok(())
}

/// # Errors
/// When no address is given that another host could use.
fn advertise_address(args: &Args) -> Result<IpAddr> {
    match args.advertise_address {
        Some(address) => Ok(address),
        None if !args.bind_address.is_unspecified() => Ok(args.bind_address),
        None => anyhow::bail!(
            "--bind-address {} is a wildcard: pass --advertise-address",
            args.bind_address
        ),
    }
}
