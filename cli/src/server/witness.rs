//! A witness: the member of the store and the peers' port, nothing else. It has no objects, so it serves no API and knows
//! no records: where the others are it was told when it joined, and is told by everyone who connects to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use corten_apiserver::members::{self, AdmitError};
use corten_apiserver::pki::peers::PeerTls;
use corten_store::Store;
use corten_store::peers::Peers;
use corten_store::witness::INTERVAL;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::about::about;
use super::birth::Born;
use super::host_name;
use super::peers::{self, Dialler};

/// How often its certificate is looked at.
const LOOK: Duration = Duration::from_secs(3600);

/// Until `shutdown`, or until it was removed.
///
/// # Errors
/// Its disk or its credentials are not usable; it was removed before.
pub async fn run(
    data_dir: &Path,
    born: Born,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> Result<()> {
    let tls = PeerTls::default();
    let others = Peers::new(Dialler(tls.clone()), Handle::current(), address.to_string());
    others.set_addresses(born.addresses);
    let mut config = corten_store::Config::new(data_dir.join("store"));
    config.birth = born.birth;
    config.image = INTERVAL;
    config.peers = Some(Arc::new(others.clone()));
    let store = Store::open(config).await.context("open the store")?;
    let member = store.identity().member;
    let (renewed, pki_dir) = (tls.clone(), data_dir.join("pki"));
    let renew = move || renewed.renew(&pki_dir, member, time::OffsetDateTime::now_utc());
    renew().context("open the peers' certificates")?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            if let Err(error) = renew() {
                tracing::error!(%error, "the witness's certificate was not renewed");
            }
        }
    });
    others.set_about(about(store.clone(), host_name(), data_dir.to_owned()));
    tracing::info!(%address, member = format!("{member:x}"), "a witness: votes, and serves no API");
    let closed = CancellationToken::new();
    let listening = tokio::spawn(peers::listen(
        listener,
        tls,
        store.clone(),
        others.clone(),
        closed.clone(),
    ));
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = members::removed(store.clone(), others) => Err(AdmitError::Removed { id: member }.into()),
    };
    closed.cancel();
    store.close().await;
    let _ = listening.await;
    ended
}
