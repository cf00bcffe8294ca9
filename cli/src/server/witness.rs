//! A witness: the member of the store and the peers' port, nothing else. It has no objects, so it serves no API and knows
//! no records: where the others are it was told when it joined, and is told by everyone who connects to it. It keeps that in
//! a file, so that it finds them after a restart, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use corten_apiserver::authorities;
use corten_apiserver::members::{self, AdmitError};
use corten_apiserver::pki::{self, peers::PeerTls, rollover};
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
/// Where the others are, in the data folder: addresses by id.
const PEERS_FILE: &str = "peers.json";

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
    let book = data_dir.join(PEERS_FILE);
    let mut addresses = read(&book);
    addresses.extend(born.addresses);
    others.set_addresses(addresses);
    let mut config = corten_store::Config::new(data_dir.join("store"));
    config.birth = born.birth;
    config.image = INTERVAL;
    config.peers = Some(Arc::new(others.clone()));
    let store = Store::open(config).await.context("open the store")?;
    let member = store.identity().member;
    let (renewed, pki_dir) = (tls.clone(), data_dir.join("pki"));
    let renew = move || renewed.renew(&pki_dir, member, time::OffsetDateTime::now_utc());
    rollover::recover(&data_dir.join("pki")).context("finish a change of authorities")?;
    renew().context("open the peers' certificates")?;
    others.set_take(authorities::taking(data_dir.join("pki"), renew.clone()));
    let stop = shutdown.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            if let Err(error) = renew() {
                tracing::error!(%error, "the witness's certificate was not renewed");
            }
        }
    });
    // It serves no requests.
    let drained = Arc::new(true.into());
    others.set_about(about(store.clone(), host_name(), data_dir.to_owned(), drained));
    tracing::info!(%address, member = format!("{member:x}"), "a witness: votes, and serves no API");
    let closed = CancellationToken::new();
    let keeping = tokio::spawn(keep(others.clone(), book, closed.clone()));
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
    let _ = keeping.await;
    ended
}

/// Nothing when there is no such file, or it makes no sense: then the others tell.
fn read(book: &Path) -> BTreeMap<u64, String> {
    let text = std::fs::read_to_string(book).unwrap_or_default();
    let named: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    let known = named
        .into_iter()
        .filter_map(|(id, address)| Some((u64::from_str_radix(&id, 16).ok()?, address)));
    known.collect()
}

fn encode(addresses: &BTreeMap<u64, String>) -> Vec<u8> {
    let named = addresses
        .iter()
        .map(|(id, address)| (format!("{id:016x}"), address.as_str().into()));
    serde_json::Value::Object(named.collect())
        .to_string()
        .into_bytes()
}

/// Writes down where the others are, now and whenever that changes, until `stop`.
async fn keep(others: Peers, book: PathBuf, stop: CancellationToken) {
    let mut moved = others.moved();
    loop {
        moved.mark_unchanged();
        let bytes = encode(&others.addresses());
        if let Err(error) = pki::write_private(&book, &bytes) {
            tracing::warn!(%error, "where the other members are was not written down");
        }
        tokio::select! {
            changed = moved.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let book = std::env::temp_dir().join(format!("corten-peers-{}.json", std::process::id()));
        assert!(read(&book).is_empty(), "no file is no news");
        let addresses = BTreeMap::from([
            (1, "192.0.2.1:6444".to_owned()),
            (u64::MAX, "192.0.2.2:6444".to_owned()),
        ]);
        pki::write_private(&book, &encode(&addresses)).expect("a file");
        let read_again = read(&book);
        std::fs::write(&book, b"{").expect("a file");
        let torn = read(&book);
        std::fs::remove_file(&book).expect("remove");
        assert_eq!(read_again, addresses);
        assert!(torn.is_empty());
    }
}
