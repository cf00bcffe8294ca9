//! `corten server`: one store member, the front end over it, and the components that share its process.

mod about;
mod audit;
mod birth;
mod components;
mod guard;
mod peers;
mod witness;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use corten_apiserver::admission_config::AdmissionConfig;
use corten_apiserver::members::{self, AdmitError, Record};
use corten_apiserver::pki::peers::PeerTls;
use corten_apiserver::pki::{self, ServerNames};
use corten_apiserver::tokens::{self, oidc};
use corten_apiserver::{ApiServer, sealing};
use corten_client::join::JoinToken;
use corten_store::Store;
use corten_store::peers::Peers;
use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use about::about;
use birth::{Joining, born};
use components::Components;
use peers::Dialler;

use crate::certificates::{Certificates, Settings};

/// The file the admin's credentials are written to, in the data folder.
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";
/// The operator's way in, in the data folder.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// Where a hardened server records, in the data folder.
const AUDIT_LOG: &str = "audit/audit.log";
/// How long the components may take to end.
const COMPONENTS_LIMIT: Duration = Duration::from_secs(5);
/// How long a server that was removed goes on voting for those who do not know it yet.
const DISMISSAL_LIMIT: Duration = Duration::from_secs(30);
/// A server that stops has answered its clients when it had nothing to answer at so many looks, with this between them.
const IDLE_LOOKS: u32 = 2;
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries of a server that starts while others are not there yet.
const READY_PAUSE: Duration = Duration::from_millis(100);

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
    /// The port other servers reach this one at; 0: any
    #[arg(long, default_value_t = 6444)]
    peer_port: u16,
    /// A server of the cluster to join, such as https://192.0.2.10:6443; only looked at with an empty data folder
    #[arg(long, requires = "token")]
    join: Option<String>,
    /// What is encrypted before it is stored, as an EncryptionConfiguration of Kubernetes [default: Secrets, with a key
    /// made by the first server]
    #[arg(long)]
    encryption_provider_config: Option<PathBuf>,
    /// What to join with; see `corten token create --server`
    #[arg(long)]
    token: Option<JoinToken>,
    /// Join as a witness: it votes and keeps the newest part of the log, but no objects, and serves no API. Two servers
    /// and a witness survive the loss of any one of the three
    #[arg(long)]
    witness: bool,
    /// How long certificates of this server and of nodes live, such as 24h; they renew themselves
    /// [default: 365d; hardened: 24h]
    #[arg(long, value_parser = crate::duration::parse)]
    certificate_lifetime: Option<Duration>,
    /// A file with an AuthenticationConfiguration: other issuers of tokens that are believed
    #[arg(long)]
    authentication_config: Option<PathBuf>,
    /// A file with an AdmissionConfiguration: of its plug-ins EventRateLimit and PodSecurity have something to configure
    #[arg(long)]
    admission_control_config_file: Option<PathBuf>,
    /// A name that the server's certificate is valid for beside its own, such as a load balancer's; may be given several
    /// times
    #[arg(long)]
    tls_san: Vec<String>,
    #[command(flatten)]
    guard: guard::Args,
    #[command(flatten)]
    audit: audit::Args,
    #[command(flatten)]
    backups: crate::backup::schedule::Args,
}

pub async fn run(args: Args) -> Result<()> {
    let shutdown = crate::process::shutdown()?;
    let advertise = advertise_address(&args)?;
    std::fs::create_dir_all(&args.data_dir).with_context(|| format!("make {}", args.data_dir.display()))?;
    let peer_listener = listen_on(SocketAddr::new(args.bind_address, args.peer_port)).await?;
    let peer_address = SocketAddr::new(advertise, peer_listener.local_addr()?.port());
    let joining = args
        .join
        .as_deref()
        .zip(args.token.as_ref())
        .map(|(url, token)| Joining {
            url,
            token,
            peer: peer_address,
            api: SocketAddr::new(advertise, args.port),
            witness: args.witness,
        });
    let born = born(&args.data_dir, joining, args.witness).await?;
    if born.witness {
        return witness::run(&args.data_dir, born, peer_listener, peer_address, shutdown).await;
    }
    let share = born.share.as_ref();
    let service_cidr = share.map_or(args.service_cidr, |share| share.service_cidr);
    let cluster_cidr = share.map_or(args.cluster_cidr, |share| share.cluster_cidr);

    let mut config = corten_apiserver::Config::new(advertise, String::new());
    let always = args.data_dir.join(AUDIT_LOG);
    config.audit = args
        .audit
        .open(args.guard.is_hardened().then_some(always.as_path()))?;
    config.anonymous = args.guard.anonymous();
    config.seats = args.guard.seats();
    config.service_cidr = service_cidr;
    config.port = args.port;
    let pki_dir = args.data_dir.join("pki");
    let service_ip = config.kubernetes_service_ip().into();
    let (ips, names): (Vec<_>, Vec<_>) = args
        .tls_san
        .iter()
        .partition(|name| name.parse::<IpAddr>().is_ok());
    let ips = ips.into_iter().filter_map(|ip| ip.parse().ok());
    let mut names_of_server = ServerNames::new(
        "cluster.local",
        service_ip,
        [advertise, args.bind_address].into_iter().chain(ips),
    );
    names_of_server.dns.extend(names.into_iter().cloned());
    let server_url = format!("https://{}", SocketAddr::new(advertise, args.port));
    let certificates = Certificates::open(Settings {
        dir: pki_dir.clone(),
        names: names_of_server,
        life: args
            .certificate_lifetime
            .unwrap_or_else(|| args.guard.certificate_lifetime()),
        kubeconfig: args.data_dir.join(ADMIN_KUBECONFIG),
        server_url,
        profile: args.guard.tls()?,
    })?;
    config.ca = certificates.authorities();
    config.pki_dir = Some(pki_dir.clone());
    config.tokens = Some(certificates.issuer());
    if let Some(path) = &args.authentication_config {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let read = oidc::Configuration::parse(&text, tokens::DEFAULT_ISSUER)
            .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        config.providers = read
            .jwt
            .into_iter()
            .map(|jwt| Arc::new(oidc::Provider::new(jwt)))
            .collect();
    }
    if let Some(path) = &args.admission_control_config_file {
        let given = admission_config(path)?;
        config.event_rate_limit = given.event_rate_limit.map(Arc::new);
        config.pod_security = given.pod_security.map(Arc::new);
    }
    if config.pod_security.is_none() {
        config.pod_security = args.guard.pod_security().map(Arc::new);
    }
    config.deny_external_ips = args.guard.deny_external_ips();
    config.strict = args.guard.strict(cluster_cidr);
    config.front_proxy = Some(certificates.front_proxy());
    let sharing = Arc::new(crate::join::Sharing {
        pki: pki_dir.clone(),
        service_cidr,
        cluster_cidr,
        store: OnceLock::new(),
    });
    config.cluster = Some(sharing.clone());

    install_encryption(&args, &pki_dir)?;

    let peer_tls = PeerTls::default();
    config.peer_tls = peer_tls.clone();
    let dialler = Dialler(peer_tls.clone());
    let peers = Peers::new(dialler, Handle::current(), peer_address.to_string());
    peers.set_addresses(born.addresses);
    config.peers = Some(peers.clone());
    let mut store_config = corten_store::Config::new(args.data_dir.join("store"));
    store_config.tagger = Some(corten_apiserver::tag);
    store_config.vital = corten_apiserver::VITAL_PREFIXES;
    store_config.birth = born.birth;
    store_config.peers = Some(Arc::new(peers.clone()));
    let store = Store::open(store_config).await.context("open the store")?;
    let member = store.identity().member;
    let _ = sharing.store.set(crate::join::StoreHandle(store.clone()));
    certificates
        .secure_peers(peer_tls.clone(), member)
        .context("open the peers' certificates")?;
    let name = host_name();
    let drained = Arc::new(AtomicBool::new(false));
    peers.set_about(about(
        store.clone(),
        name.clone(),
        args.data_dir.clone(),
        drained.clone(),
    ));
    // Members talk until the very end: a server that stops still hands over.
    let closed = CancellationToken::new();
    let listening = tokio::spawn(peers::listen(
        peer_listener,
        peer_tls,
        store.clone(),
        peers.clone(),
        closed.clone(),
    ));
    tokio::spawn(members::follow(store.clone(), peers.clone(), closed.clone()));
    let record = Record {
        id: member,
        name,
        peer: peer_address.to_string(),
        api: SocketAddr::new(advertise, args.port).to_string(),
        witness: false,
        removed: false,
        left: false,
    };
    let served = serve(
        &args,
        &certificates,
        config,
        cluster_cidr,
        (&store, peers.clone()),
        (&record, drained),
        shutdown,
    )
    .await;
    if members::is_leaving(&store) {
        // Those who stay may count on its vote until they know of its end.
        let told = tokio::time::timeout(DISMISSAL_LIMIT, members::removed(store.clone(), peers)).await;
        tracing::info!(told = told.is_ok(), "this server has left the cluster");
    }
    closed.cancel();
    store.close().await;
    let _ = listening.await;
    served
}

/// Everything over an open store, until `shutdown`.
async fn serve(
    args: &Args,
    certificates: &Certificates,
    config: corten_apiserver::Config,
    cluster_cidr: Ipv4Net,
    (store, peers): (&Store, Peers),
    (record, drained): (&Record, Arc<AtomicBool>),
    shutdown: CancellationToken,
) -> Result<()> {
    let api = ApiServer::new(store.clone(), config);
    let mut dismissed = peers.dismissed();
    tokio::select! {
        ready = ready(store, &api, record) => ready?,
        Ok(_) = dismissed.wait_for(|told| *told) => return Err(AdmitError::Removed { id: record.id }.into()),
        () = shutdown.cancelled() => return Ok(()),
    }
    tokio::spawn(members::keep(api.clone(), shutdown.clone()));
    let leaves = (store.clone(), shutdown.clone(), peers);
    tokio::spawn(async move {
        // While it is still a member: clients go elsewhere, and the Leases are given back.
        members::leaving(&leaves.0).await;
        tracing::error!("this server was removed from the cluster: it stops");
        leaves.1.cancel();
        // Whoever asked this server to leave is answered when the others know.
        members::removed(leaves.0, leaves.2).await;
    });

    let rewriting = api.clone();
    tokio::spawn(async move {
        match rewriting.rewrite_sealed().await {
            Ok(done) if done.rewritten > 0 => {
                tracing::info!(?done, "stored objects follow the encryption configuration")
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "stored objects could not all be rewritten; a restart goes on")
            }
        }
    });

    let listener = listen_on(SocketAddr::new(args.bind_address, args.port)).await?;
    let address = listener.local_addr()?;
    certificates.write_kubeconfig()?;
    let (tls, kubeconfig) = (certificates.tls(), args.data_dir.join(ADMIN_KUBECONFIG));
    tokio::spawn(certificates.clone().keep(shutdown.clone()));
    tokio::spawn(certificates.clone().follow(api.clone(), shutdown.clone()));
    tracing::info!(%address, kubeconfig = %kubeconfig.display(), "serving the Kubernetes API");

    let (local, socket, stop) = (api.clone(), args.data_dir.join(ADMIN_SOCKET), shutdown.clone());
    tokio::spawn(async move {
        if let Err(error) = local.serve_local(&socket, stop).await {
            tracing::error!(%error, socket = %socket.display(), "there is no break-glass socket");
        }
    });

    // Components use the same API as everyone, through their own identity, without sockets.
    let root_ca = certificates.authorities().subscribe();
    let mut controllers = corten_controllers::Config::new(cluster_cidr.into(), root_ca);
    controllers.signer = Some(certificates.signer());
    let components = Components {
        store: store.clone(),
        api: api.clone(),
        identity: components::identity(&record.name, record.id),
        controllers,
        scheduler: corten_scheduler::Config::default(),
    };
    let components = tokio::spawn(components.run(shutdown.clone()));
    let backups =
        crate::backup::schedule::run(&args.backups, &args.data_dir, store.clone(), shutdown.clone());
    // Clients are served until somebody else leads: to them a restart is a closed connection and no more.
    let stop_serving = CancellationToken::new();
    let handing_over = {
        let (store, shutdown, stop_serving) = (store.clone(), shutdown.clone(), stop_serving.clone());
        let api = api.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            // First, so that the Leases are free for others at once; a hung component must not keep the server.
            if tokio::time::timeout(COMPONENTS_LIMIT, components).await.is_err() {
                tracing::warn!("the components do not end in time");
            }
            members::leave(&store).await;
            stop_serving.cancel();
            // Requests that were on their way arrive between two looks; the others wait with a removal until then.
            let idle = async {
                let mut looks = 0;
                while looks < IDLE_LOOKS {
                    tokio::time::sleep(IDLE_PAUSE).await;
                    looks = if api.is_idle() { looks + 1 } else { 0 };
                }
            };
            if tokio::time::timeout(COMPONENTS_LIMIT, idle).await.is_err() {
                tracing::warn!("requests are not answered in time");
            }
            drained.store(true, Ordering::Relaxed);
        })
    };
    let served = api.serve(listener, tls, stop_serving);
    let (served, ()) = tokio::join!(
        async {
            let served = served.await.context("serve");
            shutdown.cancel();
            served
        },
        backups
    );
    let _ = handing_over.await;
    served
}

/// An AdmissionConfiguration. The files it names are below its own folder.
fn admission_config(path: &Path) -> Result<AdmissionConfig> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = read(path).map_err(anyhow::Error::msg)?;
    AdmissionConfig::parse(&text, |named| read(&folder.join(named)))
        .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
}

/// Puts the keys in force that what is stored is encrypted with: the given configuration, or the cluster's own.
fn install_encryption(args: &Args, pki_dir: &Path) -> Result<()> {
    let own = pki_dir.join(pki::ENCRYPTION);
    let path = match &args.encryption_provider_config {
        Some(path) => path,
        None => {
            if !own.exists() {
                pki::write_private(&own, sealing::generate().as_bytes())?;
            }
            &own
        }
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let ring = sealing::Ring::parse(&text).with_context(|| format!("use {}", path.display()))?;
    sealing::install(ring);
    Ok(())
}

/// Waits for a leader, then makes what every cluster has, and says where this member is.
async fn ready(store: &Store, api: &ApiServer, record: &Record) -> Result<()> {
    loop {
        let done = async {
            store.read_barrier().await?;
            api.bootstrap().await.context("write the bootstrap objects")?;
            members::announce(store, record).await?;
            anyhow::Ok(())
        };
        let Err(error) = done.await else { return Ok(()) };
        let removed = matches!(error.downcast_ref(), Some(AdmitError::Removed { .. }));
        if removed || store.standing().borrow().leader == Some(record.id) {
            return Err(error);
        }
        tracing::info!(error = format!("{error:#}"), "waiting for the other members");
        tokio::time::sleep(READY_PAUSE).await;
    }
}

async fn listen_on(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
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
