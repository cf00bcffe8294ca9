//! The peers' port: mutual TLS around the connections between members. Knows sockets and certificates; what travels on
//! them is the store's business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::pki::peers::{PeerTls, member_of, server_name};
use corten_store::Store;
use corten_store::peers::{Dial, Io, Peers};
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

/// Connections of peers at once: each has one for messages, and now and then one for a state or a question.
const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Pause after an accept error that concerns the process (too many open files), not one connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens connections once this member knows who it is.
#[derive(Clone)]
pub struct Dialler(pub PeerTls);

impl Dial for Dialler {
    fn dial(&self, member: u64, address: String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let own = self.0.clone();
        Box::pin(async move {
            let connector = TlsConnector::from(own.client().ok_or(io::ErrorKind::NotConnected)?);
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(server_name(member), tcp).await?;
            if let Some([shown, ..]) = tls.get_ref().1.peer_certificates() {
                own.note(member, shown);
            }
            Ok(Box::new(tls) as Box<dyn Io>)
        })
    }
}

/// Takes peers' connections until `stop`.
///
/// # Errors
/// None: it ends with `stop`.
pub async fn listen(
    listener: TcpListener,
    tls: PeerTls,
    store: Store,
    peers: Peers,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "accept a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!("too many connections of peers");
            continue;
        };
        let Some(acceptor) = tls.server().map(TlsAcceptor::from) else {
            continue;
        };
        let (store, peers, stop) = (store.clone(), peers.clone(), stop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection(acceptor, tcp, store, peers) => if let Err(error) = ended {
                    tracing::debug!(%error, "a peer's connection ended");
                },
            }
        });
    }
}

async fn connection(acceptor: TlsAcceptor, tcp: TcpStream, store: Store, peers: Peers) -> anyhow::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await??;
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let from = certificates
        .first()
        .and_then(member_of)
        .ok_or_else(|| anyhow::anyhow!("its certificate names no member"))?;
    peers.serve(&store, from, tls).await?;
    Ok(())
}
