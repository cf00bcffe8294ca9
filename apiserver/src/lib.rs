//! The stateless front end: TLS, authentication, verbs, watch, discovery, over one `Store`.
//!
//! Knows requests and the registry of kinds. Must not know what controllers, the scheduler or nodes do
//! with objects, and keeps nothing that another front end would need.
//!
//! A request walks: `serve` (TLS, identity) → `service` (route, authorize, count) → `dispatch` (which verb on which
//! resource) → `read` or `write` → `respond`. Decisions are plain functions; `dispatch`, `serve` and
//! `write::transact` are the only places that wait.

pub mod admission_config;
mod aggregate;
pub mod audit;
pub mod authorities;
pub mod authorize;
pub mod backup;
pub mod body;
pub mod bootstrap;
mod connect;
mod convert;
mod custom;
mod deadline;
mod discovery;
mod dispatch;
pub mod event_rate_limit;
mod fence;
pub mod flow;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod health;
pub mod identity;
mod impersonate;
mod in_process;
pub mod join;
mod key;
mod limits;
pub mod local;
pub mod members;
mod metrics;
mod negotiate;
pub(crate) mod node;
mod openapi;
#[doc(hidden)]
pub use openapi::names as openapi_names;
mod outbound;
pub mod pki;
mod policies;
mod pretty;
mod proxy;
mod query;
pub(crate) mod rbac;
mod read;
mod respond;
mod review;
mod revoked;
mod route;
pub mod sealing;
mod serve;
mod service;
mod stored;
pub mod streaming;
pub mod strict;
pub mod tokens;
pub mod tunnel;
mod types;
mod webhooks;
mod write;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corten_api::Status;
use corten_store::{Store, StoreError};
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

pub use fence::Fence;
pub use identity::User;
pub use in_process::InProcess;
pub use key::VITAL_PREFIXES;
pub use outbound::tls::{bundle_trust, host_trust};
pub use read::filter::tag;
pub use write::admission::pod_security::Settings as PodSecurity;

/// The Kubernetes version this server speaks, as clients read it.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// What a server has to know about its cluster. The same on every server but for `advertise_address` and `port`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where Service addresses come from; its first address is the Service `kubernetes`.
    pub service_cidr: Ipv4Net,
    pub node_ports: RangeInclusive<u16>,
    /// Where Pods reach this server: the endpoint of the Service `kubernetes`.
    pub advertise_address: IpAddr,
    /// The TLS port.
    pub port: u16,
    /// The cluster's CA certificates, published in every namespace.
    pub ca: authorities::Authorities,
    /// Where they are kept, with their keys; `None`: they never change.
    pub pki_dir: Option<std::path::PathBuf>,
    /// Makes and checks the tokens of ServiceAccounts; `None`: there are none.
    pub tokens: Option<Arc<tokens::Issuer>>,
    /// Other issuers of tokens that are believed.
    pub providers: Vec<Arc<tokens::oidc::Provider>>,
    /// How many Events are taken in; `None`: all.
    pub event_rate_limit: Option<Arc<event_rate_limit::EventRateLimit>>,
    /// The Pod Security Standard of namespaces that name none, and who is exempt; `None`: anything is allowed there.
    pub pod_security: Option<Arc<PodSecurity>>,
    /// Whether Services are denied addresses that are not the cluster's (plug-in DenyServiceExternalIPs).
    pub deny_external_ips: bool,
    /// What is asked beyond Kubernetes' defaults.
    pub strict: strict::Strict,
    /// Services that this server reaches at an address instead of through the tunnel of a Pod's node, by
    /// `NAMESPACE/NAME`. Empty but in tests; nothing in an object gets here.
    pub service_addresses: std::collections::BTreeMap<String, SocketAddr>,
    /// How aggregated API servers know this one; `None`: they are shown no certificate.
    pub front_proxy: Option<pki::CurrentFrontProxy>,
    /// Takes joining servers in; `None`: this server does not.
    pub cluster: Option<Arc<dyn join::Cluster>>,
    /// The way to the other members of the store; `None`: there will never be any.
    pub peers: Option<corten_store::peers::Peers>,
    /// How that way is secured, and what the others have shown on it.
    pub peer_tls: pki::peers::PeerTls,
    /// Who asks for what is recorded here; `None`: nowhere.
    pub audit: Option<Arc<audit::Audit>>,
    /// Requests that run at once, counted in seats.
    pub seats: u32,
    /// Requests without credentials are those of `system:anonymous`; else they are refused.
    pub anonymous: bool,
}

impl Config {
    /// The defaults of a cluster: Services in 10.96.0.0/16, node ports 30000-32767, port 6443.
    #[must_use]
    pub fn new(advertise_address: IpAddr, ca_pem: impl Into<String>) -> Config {
        Config {
            service_cidr: "10.96.0.0/16".parse().expect("a CIDR"),
            node_ports: 30_000..=32_767,
            advertise_address,
            port: 6443,
            ca: authorities::Authorities::new(ca_pem.into()),
            pki_dir: None,
            tokens: None,
            providers: Vec::new(),
            event_rate_limit: None,
            pod_security: None,
            deny_external_ips: false,
            strict: strict::Strict::default(),
            service_addresses: std::collections::BTreeMap::new(),
            front_proxy: None,
            cluster: None,
            peers: None,
            peer_tls: pki::peers::PeerTls::default(),
            audit: None,
            seats: flow::DEFAULT_SEATS,
            anonymous: true,
        }
    }

    /// The address of the Service `kubernetes`: the first of the range.
    #[must_use]
    pub fn kubernetes_service_ip(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from(u32::from(self.service_cidr.network()).saturating_add(1))
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// `None`: no usable client certificate.
    pub user: Option<User>,
    /// The client certificate, if there is one that can be read: an open connection prolongs none.
    pub certificate: Option<identity::Certificate>,
    /// `None`: in this process.
    pub address: Option<SocketAddr>,
    /// Of a component in this process that was elected.
    pub fence: Option<Fence>,
}

impl Peer {
    /// Who signed the client certificate, DER.
    #[must_use]
    pub fn issuer(&self) -> Option<&[u8]> {
        let certificate = self.certificate.as_ref()?;
        Some(&certificate.issuer)
    }
}

/// A cheap handle on one front end.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

pub(crate) struct Inner {
    /// For what outlives a request.
    pub me: std::sync::Weak<Inner>,
    pub store: Store,
    pub config: Config,
    pub metrics: metrics::Metrics,
    pub encodings: read::shared::Encodings,
    /// Ends all watches at shutdown.
    pub closing: CancellationToken,
    /// The nodes' tunnels to this server.
    pub tunnels: tunnel::Registry,
    /// What is served; swapped as a whole when a custom resource comes, changes or goes.
    pub types: types::Current,
    pub definitions: custom::Definitions,
    /// The webhooks that convert custom resources.
    pub conversions: Arc<convert::Targets>,
    /// Groups that aggregated API servers serve.
    pub remotes: aggregate::Current,
    /// What is configured about admission.
    pub hooks: webhooks::compiled::Cache,
    /// Calls of webhooks under way.
    pub calls: outbound::Calls,
    /// Roles and bindings as they are in force.
    pub rules: rbac::follow::Current,
    /// What belongs to which node.
    pub nodes: node::Nodes,
    /// Who acted as another user, and how that was allowed.
    pub acting: impersonate::Last,
    /// Certificates that are refused before their end.
    pub revoked: revoked::Current,
    /// How many requests run at once.
    pub flow: flow::Flow,
    /// What authorization rests on is followed.
    pub following: AtomicBool,
    /// Writers that contend for one object.
    pub lanes: write::lanes::Lanes,
    /// The bootstrap objects exist.
    pub bootstrapped: AtomicBool,
}

impl ApiServer {
    #[must_use]
    pub fn new(store: Store, config: Config) -> ApiServer {
        ApiServer(Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            store,
            config,
            metrics: metrics::Metrics::default(),
            encodings: read::shared::Encodings::default(),
            closing: CancellationToken::new(),
            tunnels: tunnel::Registry::default(),
            types: types::Current::default(),
            definitions: custom::Definitions::default(),
            conversions: Arc::default(),
            remotes: aggregate::Current::default(),
            hooks: webhooks::compiled::Cache::default(),
            calls: outbound::Calls::default(),
            rules: rbac::follow::Current::default(),
            nodes: node::Nodes::default(),
            acting: impersonate::Last::default(),
            revoked: revoked::Current::default(),
            flow: flow::Flow::default(),
            following: AtomicBool::new(false),
            lanes: write::lanes::Lanes::default(),
            bootstrapped: AtomicBool::new(false),
        }))
    }

    /// Whether no request is being answered, but for those about members and what goes on for hours.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let metrics = &self.inner().metrics;
        metrics.inflight.load(Ordering::Relaxed) <= metrics.member_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// A tower service that acts as `user` in this process: same admission, same answers, no sockets. It fits
    /// `kube::Client::new`.
    #[must_use]
    pub fn in_process(&self, user: User) -> InProcess {
        InProcess::new(self.clone(), Some(user))
    }

    /// As [`ApiServer::in_process`], but a request is from whom its own credentials say, as over the network without
    /// a client certificate.
    #[must_use]
    pub fn in_process_by_credentials(&self) -> InProcess {
        InProcess::new(self.clone(), None)
    }
}

/// What a failing store means to a client.
fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Overloaded { .. } => {
            Status::too_many_requests("The server is overloaded, please try again later", 1)
        }
        StoreError::LogFull { .. } => {
            Status::too_many_requests("The server's disk cannot keep up, please try again later", 1)
        }
        StoreError::DiskFull { .. } => Status::insufficient_storage(error.to_string()),
        StoreError::TooLarge { max, .. } => Status::too_large(*max),
        StoreError::NotLeader { .. } | StoreError::Unavailable(_) | StoreError::Closed => {
            Status::service_unavailable(error.to_string())
        }
        StoreError::Ambiguous(_) => {
            Status::timeout("request did not complete within the allotted timeout", 1)
        }
        StoreError::Invalid(_) | StoreError::Future { .. } => {
            tracing::error!(%error, "store refused a request of ours");
            Status::internal(error)
        }
    }
}

fn damaged(damaged: stored::Damaged) -> Status {
    tracing::error!("a stored object is damaged");
    Status::internal(damaged)
}
