//! The connection of a node to its cluster: one client for all of the process, whatever happens to single servers and to
//! certificates.
//!
//! Knows a list of servers and an identity, both of which may change at any time: new requests go over new connections,
//! open ones end on the old. A server that dies is noticed by the broken connection or, when it goes without a word, by
//! pings; they are sent only where there is another server to go to. Must not know who issues identities (`join`).

mod dial;
pub mod servers;
mod stream;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::client::{Body, ClientBuilder};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};

use crate::informers::{Informers, Selection};
pub use servers::Server;

/// Silence after which a server is asked whether it is there, and how long it may take to say so, where there is another.
const PING_INTERVAL: Duration = Duration::from_millis(350);
const PING_TIMEOUT: Duration = Duration::from_millis(400);
/// The same where there is no other server: only to notice a dead connection at all.
const LONE_PING_INTERVAL: Duration = Duration::from_secs(15);
const LONE_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// On the slices of the Service `kubernetes`: the SHA-256, in hexadecimal, of the authorities that servers trust.
const AUTHORITIES: &str = "corten.dev/authorities";
/// Flow control: a list runs at the speed of the network, and one watch that is not read does not stop the others.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Where to go and as whom.
#[derive(Clone)]
pub struct Route {
    /// In order of preference; never empty.
    pub servers: Arc<[Server]>,
    /// Shows the node's certificate; without ALPN.
    pub tls: Arc<rustls::ClientConfig>,
}

/// Cheap to clone; every clone is the same connection.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

struct Shared {
    /// Decides this node's order of servers.
    name: String,
    seed: Server,
    route: watch::Sender<Route>,
    http: RwLock<Http>,
}

type Http = HttpClient<Dialer, Body>;

/// The node's program, as the managed fields of what it writes name it.
const PROGRAM: &str = "kubelet";

impl Remote {
    /// Does not connect yet. `name` is the node's own: it decides which server is first. `seed` is what the node was told
    /// at its start, maybe a load balancer: it is tried when no known server answers.
    #[must_use]
    pub fn new(name: &str, seed: Server, known: Vec<Server>, tls: rustls::ClientConfig) -> Remote {
        let route = Route {
            servers: ordered(known, name, &seed),
            tls: Arc::new(tls),
        };
        Remote {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                seed,
                http: RwLock::new(http(&route)),
                route: watch::Sender::new(route),
            }),
        }
    }

    /// The client of this connection; clients made before follow every change too.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        ClientBuilder::new(Front(self.shared.clone()), "default").build()
    }

    /// What is used now, and every change of it.
    #[must_use]
    pub fn route(&self) -> watch::Receiver<Route> {
        self.shared.route.subscribe()
    }

    /// From now on as somebody else, or trusting others.
    pub fn set_tls(&self, tls: rustls::ClientConfig) {
        let tls = Arc::new(tls);
        self.change(|route| {
            route.tls = tls;
            true
        });
    }

    /// From now on to these; an empty list changes nothing.
    pub fn set_servers(&self, servers: Vec<Server>) {
        if servers.is_empty() {
            return;
        }
        let servers = ordered(servers, &self.shared.name, &self.shared.seed);
        self.change(|route| {
            let other = route.servers != servers;
            route.servers = servers;
            other
        });
    }

    fn change(&self, change: impl FnOnce(&mut Route) -> bool) {
        self.shared.route.send_if_modified(|route| {
            let changed = change(route);
            if changed {
                *self.shared.http.write() = http(route);
            }
            changed
        });
    }
}

fn ordered(known: Vec<Server>, name: &str, seed: &Server) -> Arc<[Server]> {
    let mut servers = servers::order(known, name);
    if !servers.contains(seed) {
        servers.push(seed.clone());
    }
    servers.into()
}

fn http(route: &Route) -> Http {
    let alone = route.servers.len() < 2;
    let mut tls = rustls::ClientConfig::clone(&route.tls);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let dialer = Dialer {
        servers: route.servers.clone(),
        tls: Arc::new(tls),
    };
    HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(if alone { LONE_PING_INTERVAL } else { PING_INTERVAL })
        .http2_keep_alive_timeout(if alone { LONE_PING_TIMEOUT } else { PING_TIMEOUT })
        .build(dialer)
}

/// Opens connections for one pool.
#[derive(Clone)]
struct Dialer {
    servers: Arc<[Server]>,
    tls: Arc<rustls::ClientConfig>,
}

impl Service<Uri> for Dialer {
    type Response = stream::Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (servers, tls) = (self.servers.clone(), self.tls.clone());
        Box::pin(async move {
            let (stream, server) = dial::any(&servers, &tls).await?;
            tracing::debug!(%server, "connected");
            Ok(stream::Stream::new(stream))
        })
    }
}

/// Hands each request to the newest pool.
#[derive(Clone)]
struct Front(Arc<Shared>);

impl Service<Request<Body>> for Front {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let http = self.0.http.read().clone();
        // Which server it will be is the dialer's to say; every one of them answers to this name.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(Authority::from_static("kubernetes.default.svc"));
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        let headers = request.headers_mut();
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(PROGRAM));
        Box::pin(async move {
            *request.uri_mut() = Uri::from_parts(parts)?;
            Ok(http.request(request).await?)
        })
    }
}

/// Follows the servers behind the Service `kubernetes`, and keeps their list in `file` for the next start. Must be called
/// within a tokio runtime; runs until `shutdown`. Returns what names the authorities that the servers trust, once they say so.
pub fn follow(
    remote: &Remote,
    file: PathBuf,
    shutdown: CancellationToken,
) -> watch::Receiver<Option<String>> {
    let selection = Selection {
        labels: "kubernetes.io/service-name=kubernetes".into(),
        ..Selection::namespace("default")
    };
    let cache = Informers::new(remote.client(), shutdown).informer::<EndpointSlice>(selection);
    let (remote, slices) = (remote.clone(), cache.clone());
    let (authorities, seen) = watch::channel(None);
    let kept: Mutex<Option<Vec<Server>>> = Mutex::default();
    cache.on_change(move |_| {
        let named = slices.list().iter().find_map(|slice| {
            let annotations = slice.metadata.annotations.as_ref()?;
            annotations.get(AUTHORITIES).cloned()
        });
        authorities.send_if_modified(|known| {
            let changed = *known != named;
            *known = named;
            changed
        });
        let found = servers::of_slices(slices.list().iter().map(Arc::as_ref));
        if found.is_empty() || kept.lock().as_ref() == Some(&found) {
            return;
        }
        remote.set_servers(found.clone());
        tracing::info!(servers = ?found, "the cluster's servers");
        if let Err(error) = servers::store(&file, &found) {
            tracing::warn!(file = %file.display(), %error, "the list of servers was not kept");
        }
        *kept.lock() = Some(found);
    });
    seen
}

/// A connection to one server for something else than requests, such as a tunnel; HTTP/1.1.
///
/// # Errors
/// What TCP or TLS reports.
pub async fn connect(
    server: &Server,
    tls: &Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut tls = rustls::ClientConfig::clone(tls);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    dial::one(server, &Arc::new(tls)).await
}
