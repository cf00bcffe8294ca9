//! A client for a server elsewhere: kubeconfig, TLS, and sockets that notice a dead peer.
//!
//! Knows sockets. Must not know what is asked over them.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// Idle time before the kernel asks whether the peer is still there. A watch only receives, so without this
/// a cut connection would look alive until the watch's own end.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Between the kernel's questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered questions until the connection counts as dead: 15 s + 3 * 5 s = 30 s.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connect may take, TLS not included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept per server.
const POOL_SIZE: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("read the kubeconfig {path}")]
    Kubeconfig {
        path: String,
        source: kube::config::KubeconfigError,
    },
    #[error("{url} is no https://HOST:PORT")]
    Url { url: String },
    #[error("build the client for {server}")]
    Client { server: String, source: kube::Error },
}

/// A client from a kubeconfig file and its current context. Does not connect yet.
///
/// # Errors
/// The file cannot be read or names no usable server, or its certificates are not valid.
pub async fn remote(kubeconfig: &Path) -> Result<Client, ConnectError> {
    from_config(read(kubeconfig).await?)
}

/// The current context of a kubeconfig file.
async fn read(kubeconfig: &Path) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig {
        path: kubeconfig.display().to_string(),
        source,
    };
    let file = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}

/// As [`remote`], from a configuration already in memory.
pub fn from_config(config: Config) -> Result<Client, ConnectError> {
    let failed = |source| ConnectError::Client {
        server: config.cluster_url.to_string(),
        source,
    };
    let connector = config
        .rustls_https_connector_with_connector(connector())
        .map_err(failed)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(POOL_SIZE)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// A server to be reached without the client of this crate: a tunnel needs the bare connection.
#[derive(Clone)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// The name that the server's certificate must be valid for; the host unless the kubeconfig says otherwise.
    pub server_name: String,
    /// With the client's certificate.
    pub tls: std::sync::Arc<rustls::ClientConfig>,
}

/// Where and how a kubeconfig's current context connects.
///
/// # Errors
/// As [`remote`].
pub async fn endpoint(kubeconfig: &Path) -> Result<Endpoint, ConnectError> {
    let config = read(kubeconfig).await?;
    let tls = config
        .rustls_client_config()
        .map_err(|source| ConnectError::Client {
            server: config.cluster_url.to_string(),
            source,
        })?;
    // IPv6 addresses stand in brackets in a URL only.
    let host = config
        .cluster_url
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_string();
    Ok(Endpoint {
        port: config.cluster_url.port_u16().unwrap_or(443),
        server_name: config.tls_server_name.clone().unwrap_or_else(|| host.clone()),
        host,
        tls: std::sync::Arc::new(tls),
    })
}

/// What a kubeconfig says about a node.
pub struct OfNode {
    pub server: crate::remote::Server,
    pub tls: rustls::ClientConfig,
    /// The authorities that the server is believed by, PEM; empty if the kubeconfig names none.
    pub ca_pem: String,
    /// `None` without an inline certificate: then there is nothing that could be renewed.
    pub identity: Option<crate::join::Identity>,
}

/// The parts of a kubeconfig's current context that make a [`crate::remote::Remote`].
///
/// # Errors
/// As [`remote`].
pub async fn of_node(kubeconfig: &Path) -> Result<OfNode, ConnectError> {
    let config = read(kubeconfig).await?;
    let url = config.cluster_url.to_string();
    let failed = |source| ConnectError::Client {
        server: url.clone(),
        source,
    };
    let mut tls = config.rustls_client_config().map_err(failed)?;
    tls.resumption = rustls::client::Resumption::disabled();
    let file = Kubeconfig::read_from(kubeconfig).map_err(|source| ConnectError::Kubeconfig {
        path: kubeconfig.display().to_string(),
        source,
    })?;
    let file = serde_json::to_value(&file).unwrap_or_default();
    let inline = |list: &str, entry: &str, field: &str| {
        let text = file[list][0][entry][field].as_str()?;
        let bytes = STANDARD.decode(text).ok()?;
        String::from_utf8(bytes).ok()
    };
    let certificate = inline("users", "user", "client-certificate-data");
    let key = inline("users", "user", "client-key-data");
    let identity = certificate.zip(key);
    Ok(OfNode {
        server: crate::remote::Server::from_url(&url)
            .ok_or_else(|| ConnectError::Url { url: url.clone() })?,
        tls,
        ca_pem: inline("clusters", "cluster", "certificate-authority-data").unwrap_or_default(),
        identity: identity.and_then(|(certificate, key)| crate::join::Identity::new(certificate, key).ok()),
    })
}

/// Sockets that notice a dead peer.
pub(crate) fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE_IDLE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    connector
}
