//! One connection to any of the servers: the first in the list that answers.
//!
//! The next is tried when the one before has failed, or has not answered for [`STAGGER`]; the first finished handshake
//! wins. So a server that is gone without a word costs a fraction of a second.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::servers::Server;
use crate::connect::{CONNECT_TIMEOUT, connector};

/// Head start of each server over the next in the list.
const STAGGER: Duration = Duration::from_millis(150);

/// A connection to `server` alone.
///
/// # Errors
/// What TCP or TLS reports, with the server's address.
pub async fn one(server: &Server, tls: &Arc<rustls::ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{server}: {error}"));
    let name = ServerName::try_from(server.host.clone())
        .map_err(|error| named(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let uri: http::Uri = format!("http://{server}").parse().map_err(io::Error::other)?;
    let connect = async {
        let tcp = connector().call(uri).await.map_err(io::Error::other)?;
        TlsConnector::from(tls.clone())
            .connect(name, tcp.into_inner())
            .await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(connected) => connected.map_err(named),
        Err(_) => Err(named(io::ErrorKind::TimedOut.into())),
    }
}

/// A connection to the first of `servers` that answers, and which one that is.
///
/// # Errors
/// What the first server's failure was, when all failed.
pub async fn any(
    servers: &[Server],
    tls: &Arc<rustls::ClientConfig>,
) -> io::Result<(TlsStream<TcpStream>, Server)> {
    let mut waiting = servers.iter();
    let mut running = FuturesUnordered::new();
    let mut first_error = None;
    let start = |server: Option<&Server>| {
        server.cloned().map(|server| {
            let tls = tls.clone();
            async move { (one(&server, &tls).await, server) }
        })
    };
    running.extend(start(waiting.next()));
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                Some((Ok(stream), server)) => return Ok((stream, server)),
                Some((Err(error), _)) => {
                    first_error.get_or_insert(error);
                    running.extend(start(waiting.next()));
                }
                None => return Err(first_error.unwrap_or_else(|| io::Error::other("no server is known"))),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => running.extend(start(waiting.next())),
        }
    }
}
