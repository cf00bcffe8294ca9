//! The TLS front door: accepts connections, reads the client's certificate, speaks HTTP/1.1 and HTTP/2.
//!
//! Knows sockets and their limits. Must not know paths, verbs or objects (`service`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::ReadToEnd;
use crate::identity::{Certificate, User};
use crate::limits::{GivenUp, LOOK_EVERY, Places, Readers, steady_millis};
use crate::pki::ServerTls;
use crate::revoked::Cut;
use crate::{ApiServer, Peer};

/// Most connections at once; more wait in the kernel's accept queue.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Time for a TLS handshake, and for the headers of an HTTP/1.1 request.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of all headers of one request.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
pub const MAX_HEADERS: usize = 128;
/// HTTP/2 streams one connection may have open: one client's watches plus its requests. Source: kube-apiserver
/// default of `--http2-max-streams-per-connection`, 100, raised for in-house informers.
pub const MAX_STREAMS: u32 = 250;
/// HTTP/2 streams reset before they were accepted. Bounds the rapid-reset attack (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 50;
/// Flow-control windows: large enough for a list to run at loopback speed, small enough that 100 streams are bounded.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes buffered for one stream before its producer waits.
const SEND_BUFFER: usize = 64 * 1024;
/// A client that is silent this long is asked for a sign of life, and dropped when it gives none.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long open requests may take to end after shutdown began.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Pause after an accept error that concerns the process (too many open files), not one connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl ApiServer {
    /// Serves until `shutdown`, then lets open requests end for at most [`SHUTDOWN_GRACE`].
    ///
    /// # Errors
    /// The listener is unusable.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: impl Into<ServerTls>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let tls = tls.into();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let places = Arc::new(Places::default());
        let connections = TaskTracker::new();
        loop {
            let permit = slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let (tcp, address) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Some(place) = places.take(address.ip()) else {
                tracing::debug!(%address, "a client has all the connections it may have");
                continue;
            };
            let acceptor = TlsAcceptor::from(tls.current());
            let (server, shutdown) = (self.clone(), shutdown.clone());
            connections.spawn(async move {
                let _held = (permit, place);
                connection(server, acceptor, tcp, address, shutdown).await;
            });
        }
        // Whoever the kernel has let in already is served too: to them the server was there.
        let waiting = listener.into_std()?;
        while let Ok((tcp, address)) = waiting.accept() {
            tcp.set_nonblocking(true)?;
            let acceptor = TlsAcceptor::from(tls.current());
            let (server, shutdown) = (self.clone(), shutdown.clone());
            connections.spawn(connection(
                server,
                acceptor,
                TcpStream::from_std(tcp)?,
                address,
                shutdown,
            ));
        }
        drop(waiting);
        self.inner().closing.cancel();
        connections.close();
        if timeout(SHUTDOWN_GRACE, connections.wait()).await.is_err() {
            tracing::info!(open = connections.len(), "connections cut at shutdown");
        }
        Ok(())
    }
}

async fn connection(
    server: ApiServer,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    let _ = tcp.set_nodelay(true); // only speed: a socket that refuses it still works
    let tls = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake"),
        Err(_) => return tracing::debug!(%address, "TLS handshake timed out"),
    };
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let peer = Peer {
        // One without a usable name is as good as none.
        user: certificate.and_then(|der| User::from_certificate(der)),
        certificate: certificate.and_then(|der| Certificate::of(der)),
        address: Some(address),
        fence: None,
    };
    let tls = server.inner().revoked.connections.enter(&peer, tls);
    let client = Arc::new(Client {
        peer,
        readers: Readers::default(),
        given_up: GivenUp::new(steady_millis()),
        cut: CancellationToken::new(),
    });
    let ended = if http2 {
        serve_http2(server, client, tls, shutdown).await
    } else {
        serve_http1(server, client, tls, shutdown).await
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// What the server remembers of a client for as long as its connection lasts.
struct Client {
    peer: Peer,
    readers: Readers,
    given_up: GivenUp,
    cut: CancellationToken,
}

impl Client {
    /// Until the connection has to be cut; says why.
    async fn abuses(&self) -> &'static str {
        loop {
            tokio::select! {
                () = self.cut.cancelled() => return "it gives up too many requests",
                () = self.readers.opened() => {}
            }
            while self.readers.any() {
                tokio::select! {
                    () = self.cut.cancelled() => return "it gives up too many requests",
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                if self.readers.stalled(steady_millis()) {
                    return "it does not read its answers";
                }
            }
        }
    }
}

/// A request that is being worked on: dropped before its answer was there, its client has given it up.
struct Asked(Option<Arc<Client>>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(client) = self.0.take()
            && !client.given_up.count(steady_millis())
        {
            client.cut.cancel();
        }
    }
}

macro_rules! service {
    ($server:expr, $client:expr) => {{
        let (server, client) = ($server, $client);
        service_fn(move |request: http::Request<Incoming>| {
            let (server, client) = (server.clone(), client.clone());
            async move {
                let request = request.map(|body| ReadToEnd::from(body).boxed_unsync());
                let mut asked = Asked(Some(client.clone()));
                // Boxed: a stream keeps room for this future as long as its body lives, and a watch lives for hours.
                let mut answer = Box::pin(server.handle(&client.peer, request)).await;
                asked.0 = None;
                answer.body_mut().read_by(&client.readers);
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    }};
}

async fn serve_http1(
    server: ApiServer,
    client: Arc<Client>,
    tls: Cut<TlsStream<TcpStream>>,
    shutdown: CancellationToken,
) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES.max(SEND_BUFFER))
        .half_close(false);
    let connection = builder
        .serve_connection(TokioIo::new(tls), service!(server, client.clone()))
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        why = client.abuses() => {
            tracing::info!(address = ?client.peer.address, why, "a client is cut off");
            return Ok(());
        }
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2(
    server: ApiServer,
    client: Arc<Client>,
    tls: Cut<TlsStream<TcpStream>>,
    shutdown: CancellationToken,
) -> hyper::Result<()> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(tls), service!(server, client.clone()));
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        why = client.abuses() => {
            tracing::info!(address = ?client.peer.address, why, "a client is cut off");
            return Ok(());
        }
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
