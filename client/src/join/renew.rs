//! Keeps a node's identity alive: a new key and certificate well before the old one ends.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::request::{certificate, new_key, until};
use crate::backoff::Backoff;
use crate::remote::Remote;
use crate::runner::chain;

/// First and longest wait after a renewal that failed.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// Nodes renew within so long when the cluster's authorities change, not all at once.
const SPREAD: Duration = Duration::from_secs(5);

/// What is kept up to date.
pub struct Renewal {
    pub node: String,
    pub remote: Remote,
    /// The authorities that servers are believed by, PEM; asked for anew with every certificate, for they change too.
    pub ca_pem: String,
    /// What names the authorities that are in force; when it is not what we have, all is asked for anew at once.
    pub authorities: watch::Receiver<Option<String>>,
    /// Where the identity and the authorities are kept.
    pub file: PathBuf,
    pub ca_file: PathBuf,
}

/// Runs until `shutdown`.
pub async fn keep(mut renewal: Renewal, mut identity: Identity, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    let mut due = identity.facts().renew_at(Timestamp::now(), rand::random());
    loop {
        tracing::debug!(at = %due, "the certificate will be renewed");
        let mut authorities = renewal.authorities.clone();
        let own = hash(&renewal.ca_pem);
        let others = async {
            let other = |named: &Option<String>| named.as_ref().is_some_and(|named| *named != own);
            authorities.wait_for(other).await.is_ok()
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(until(due, Timestamp::now())) => {}
            // Nobody tells any more: the rest of the process is ending.
            true = others, if backoff.failures() == 0 => {
                tracing::info!("the cluster's authorities have changed");
                tokio::time::sleep(SPREAD.mul_f64(rand::random())).await;
            }
        }
        match once(&mut renewal, &shutdown).await {
            Ok(new) => {
                identity = new;
                backoff.reset();
                due = identity.facts().renew_at(Timestamp::now(), rand::random());
                if !identity.is_of_first(&renewal.ca_pem) {
                    // Whoever signed does not know the new authority yet.
                    due = Timestamp::now()
                        .checked_add(backoff.next(rand::random()))
                        .unwrap_or(due);
                }
                tracing::info!(until = %identity.facts().not_after, "the node's certificate was renewed");
            }
            Err(error) => {
                let left = until(identity.facts().not_after, Timestamp::now());
                tracing::warn!(
                    error = chain(error.as_ref()),
                    ?left,
                    "the node's certificate was not renewed"
                );
                due = Timestamp::now()
                    .checked_add(backoff.next(rand::random()))
                    .unwrap_or(due);
            }
        }
    }
}

/// As servers name the authorities they trust.
fn hash(ca_pem: &str) -> String {
    let digest = Sha256::digest(ca_pem.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn once(
    renewal: &mut Renewal,
    shutdown: &CancellationToken,
) -> Result<Identity, Box<dyn std::error::Error + Send + Sync>> {
    let key = new_key()?;
    let client = renewal.remote.client();
    let new = certificate(&client, &renewal.node, &key, shutdown).await?;
    let authorities = client
        .request_text(http::Request::get(super::pin::CA_PATH).body(Vec::new())?)
        .await?;
    // Said by a server that the old authorities vouch for.
    let tls = new.tls(&authorities)?;
    new.store(&renewal.file)?;
    if authorities != renewal.ca_pem {
        crate::file::replace(&renewal.ca_file, authorities.as_bytes(), 0o644)?;
        renewal.ca_pem = authorities;
    }
    renewal.remote.set_tls(tls);
    Ok(new)
}
