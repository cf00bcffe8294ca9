//! Dialling out: TCP, TLS with the node's certificate, `Upgrade`, and then HTTP/2 with the roles turned round.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_client::remote::{self, Route, Server as RemoteServer};
use corten_proto::tunnel::{HEADER_LIMIT, PROTOCOL, path};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::serve::Server;

/// Waits between attempts: the first, doubled up to the last, each with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);
/// A tunnel that lived so long was a good one: the next attempt comes at once.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// For each step of connecting together.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Silence after which the server is asked whether it is still there, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no connection in {}s", CONNECT_LIMIT.as_secs())]
    TimedOut,
    #[error("connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("the server answered {0}")]
    Refused(StatusCode),
}

/// Keeps one tunnel to one server until `shutdown`. When the node's identity changes, a new tunnel is opened and the old
/// one ends with its last stream: the server closes it.
pub async fn keep(
    node: &str,
    to: &RemoteServer,
    mut route: watch::Receiver<Route>,
    server: Arc<Server>,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    // Ends what is still open on the old tunnels.
    let _ends = shutdown.clone().drop_guard();
    loop {
        let tls = route.borrow_and_update().tls.clone();
        let started = tokio::time::Instant::now();
        let mut tunnel = tokio::spawn({
            let (node, to, tls) = (node.to_owned(), to.clone(), tls.clone());
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => Ok(()),
                    ended = once(&node, &to, &tls, server) => ended,
                }
            }
        });
        let ended = loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                ended = &mut tunnel => break Some(ended),
                changed = route.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !Arc::ptr_eq(&route.borrow_and_update().tls, &tls) {
                        break None;
                    }
                }
            }
        };
        let Some(ended) = ended else {
            tracing::info!(server = %to, "a new tunnel for the new certificate");
            failures = 0;
            continue;
        };
        failures = if started.elapsed() >= GOOD_LIFE {
            0
        } else {
            failures + 1
        };
        let wait = delay(failures, rand::random());
        match ended {
            Ok(Ok(())) => tracing::info!(server = %to, "the tunnel was closed; dialling again in {wait:?}"),
            Ok(Err(error)) => tracing::info!(server = %to, %error, "no tunnel; dialling again in {wait:?}"),
            Err(error) => {
                tracing::error!(server = %to, %error, "the tunnel failed; dialling again in {wait:?}")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Between half and all of the doubled wait, so that agents do not come back in step. `random` is in `0..1`.
fn delay(failures: u32, random: f64) -> Duration {
    let doubled = RETRY_FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(RETRY_LAST);
    doubled.mul_f64(0.5 + random / 2.0)
}

/// From the first packet to the end of the tunnel.
async fn once(
    node: &str,
    to: &RemoteServer,
    tls: &Arc<rustls::ClientConfig>,
    server: Arc<Server>,
) -> Result<(), DialError> {
    let io = tokio::time::timeout(CONNECT_LIMIT, upgraded(node, to, tls));
    let io = io.await.map_err(|_| DialError::TimedOut)??;
    tracing::info!(server = %to, "the tunnel is open");
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, std::convert::Infallible>(server.serve(request).await) }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(HEADER_LIMIT)
        .serve_connection(io, service)
        .await?;
    Ok(())
}

async fn upgraded(
    node: &str,
    to: &RemoteServer,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<hyper::upgrade::Upgraded, DialError> {
    let tls = remote::connect(to, tls).await?; // HTTP/1.1: there is no Upgrade in HTTP/2
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(tls)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the tunnel's connection ended");
        }
    });
    let request = Request::post(path(node))
        .header(header::HOST, &to.host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Empty::new())
        .expect("node names are DNS names, so this is a path");
    let response = sender.send_request(request).await?;
    let upgrade = response.headers().get(header::UPGRADE);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS || upgrade.is_none_or(|u| u != PROTOCOL) {
        return Err(DialError::Refused(response.status()));
    }
    Ok(hyper::upgrade::on(response).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failures: u32, random: f64, expected_ms: u64) {
        assert_eq!(delay(failures, random).as_millis() as u64, expected_ms);
    }

    #[test]
    fn waits_grow_to_a_bound() {
        check(0, 0.0, 50);
        check(1, 1.0, 100);
        check(2, 0.0, 100);
        check(5, 1.0, 1600);
        check(1000, 1.0, 10_000);
    }
}
