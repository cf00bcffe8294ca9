//! What the cluster's certificates and tokens rest on, and how it is replaced while the cluster runs.
//!
//! The files of all servers are one record in the store, sealed with a key that only servers have. A verb writes the record;
//! every server follows it into its files and takes them over. What a rollover is, file by file, is `pki::rollover`.
//! Must not know what a server does with new files: the caller of [`follow`] does.

mod witness;

pub use witness::taking;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::Status;
use corten_store::{Op, Precondition, Revision, Snapshot, Txn, WatchItem};
use futures::StreamExt;
use http::{Method, StatusCode};
use parking_lot::RwLock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::key::{Keys, prefix_range};
use crate::pki::{self, rollover};
use crate::query::Query;
use crate::respond::{self, Answer};
use crate::{ApiServer, members, sealing, store_status};

/// Where nodes see, on the EndpointSlice `kubernetes`, that other authorities are in force: [`Authorities::hash`].
pub const ANNOTATION: &str = "corten.dev/authorities";
const KEY: &str = "/corten.dev.internal/authorities";
/// How long a new key for tokens is shown before it signs, unless another time is asked for.
const OVERLAP: Duration = Duration::from_secs(60);
const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an answer waits for this server's own files.
const OWN_LIMIT: Duration = Duration::from_secs(10);
/// After files that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// The authorities that this server trusts now. Clones are the same.
#[derive(Clone)]
pub struct Authorities(Arc<Shared>);

struct Shared {
    bundle: watch::Sender<Arc<str>>,
    /// Names of authorities that were trusted since this server started, and are no more.
    retired: RwLock<Vec<Vec<u8>>>,
    /// The record that the files are of.
    revision: watch::Sender<u64>,
}

impl Authorities {
    /// `bundle`: certificates, PEM, the newest first.
    #[must_use]
    pub fn new(bundle: impl Into<Arc<str>>) -> Authorities {
        Authorities(Arc::new(Shared {
            bundle: watch::Sender::new(bundle.into()),
            retired: RwLock::default(),
            revision: watch::Sender::new(0),
        }))
    }

    /// PEM, the newest first.
    #[must_use]
    pub fn bundle(&self) -> Arc<str> {
        self.0.bundle.borrow().clone()
    }

    /// What is trusted now, and every change of it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<str>> {
        self.0.bundle.subscribe()
    }

    pub fn set(&self, bundle: impl Into<Arc<str>>) {
        let bundle = bundle.into();
        let kept = pki::subjects_of(&bundle);
        {
            let mut retired = self.0.retired.write();
            retired.extend(pki::subjects_of(&self.bundle()));
            retired.retain(|subject| !kept.contains(subject));
        }
        self.0.bundle.send_if_modified(|now| {
            let changed = *now != bundle;
            *now = bundle;
            changed
        });
    }

    /// Whether certificates of this issuer were good once and are no more.
    #[must_use]
    pub fn is_retired(&self, issuer: &[u8]) -> bool {
        self.0.retired.read().iter().any(|subject| subject == issuer)
    }

    /// Names what is trusted: two servers that trust the same have the same.
    #[must_use]
    pub fn hash(&self) -> String {
        let digest = Sha256::digest(self.bundle().as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authorities").field(&self.bundle()).finish()
    }
}

/// What is asked of the authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Show,
    RotateCa,
    FinishCa,
    RotateAccountKey,
    FinishAccountKey,
}

impl Call {
    /// From what follows `/corten/v1/authorities` in the path; `None`: there is no such path. `Err`: not with this method.
    #[must_use]
    pub fn of(method: &Method, rest: &[&str]) -> Option<Result<Call, ()>> {
        let (wanted, call) = match rest {
            [] => (Method::GET, Call::Show),
            ["ca", "rotate"] => (Method::POST, Call::RotateCa),
            ["ca", "finish"] => (Method::POST, Call::FinishCa),
            ["account-key", "rotate"] => (Method::POST, Call::RotateAccountKey),
            ["account-key", "finish"] => (Method::POST, Call::FinishAccountKey),
            _ => return None,
        };
        Some(if *method == wanted { Ok(call) } else { Err(()) })
    }
}

/// Whether a key of the store is that of the record: it belongs to one cluster's servers and to no backup of it.
#[must_use]
pub fn is_record(key: &[u8]) -> bool {
    key == KEY.as_bytes()
}

fn range() -> Range<Bytes> {
    prefix_range(KEY)
}

/// The record and its revision; `None`: there is none, or one of another cluster's servers.
fn record(snapshot: &Snapshot, secrets: &[Vec<u8>]) -> Option<(Revision, Option<rollover::Files>)> {
    let entry = snapshot.get(&Bytes::from_static(KEY.as_bytes()))?;
    let mut opened = Err("there is no secret".to_owned());
    for secret in secrets {
        opened = sealing::open_with(secret, &entry.value).map_err(|error| error.to_string());
        if opened.is_ok() {
            break;
        }
    }
    let files = opened.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    if let Err(error) = &files {
        tracing::error!(
            error,
            "the record of the authorities cannot be read: it is passed over"
        );
    }
    Some((entry.mod_revision, files.ok()))
}

fn conflict(error: rollover::RolloverError) -> Status {
    match error {
        rollover::RolloverError::Pki(error) => Status::internal(error),
        error => Status::failure(409, "Conflict", error.to_string()),
    }
}

/// # Errors
/// `Conflict` for what cannot be done now, `ServiceUnavailable` without files.
pub async fn answer(server: &ApiServer, call: Call, query: &Query) -> Result<Answer, Status> {
    let inner = server.inner();
    let Some(dir) = &inner.config.pki_dir else {
        return Err(Status::service_unavailable("this server keeps no authorities"));
    };
    let answer = |value: Value| Ok(respond::json(StatusCode::OK, value.to_string()));
    if call == Call::Show {
        return answer(show(&rollover::read(dir).map_err(Status::internal)?, inner));
    }
    inner
        .store
        .read_barrier()
        .await
        .map_err(|error| store_status(&error))?;
    let secrets = rollover::secrets(dir).map_err(Status::internal)?;
    let snapshot = inner.store.snapshot();
    let stored = record(&snapshot, &secrets);
    let own = rollover::read(dir).map_err(Status::internal)?;
    let current = stored
        .as_ref()
        .and_then(|(_, files)| files.clone())
        .unwrap_or(own);
    let wanted = decide(server, call, query, &current, &snapshot).await?;
    let text = serde_json::to_vec(&wanted).map_err(Status::internal)?;
    let value = sealing::seal_with(&secrets[0], KEY.as_bytes(), &text)
        .ok_or_else(|| Status::internal("the record cannot be sealed"))?;
    let key = Bytes::from_static(KEY.as_bytes());
    let unchanged = match stored {
        Some((revision, _)) => Precondition::ModRevision(key.clone(), revision),
        None => Precondition::Absent(key.clone()),
    };
    let txn = Txn {
        preconditions: vec![unchanged],
        ops: vec![Op::Put {
            key,
            value: value.into(),
        }],
    };
    let written = inner.store.txn(txn).await.map_err(|error| store_status(&error))?;
    let corten_store::TxnOutcome::Committed { revision, .. } = written else {
        return Err(Status::failure(
            409,
            "Conflict",
            "somebody else changes the authorities at this moment",
        ));
    };
    tracing::info!(?call, "the authorities change");
    let mut applied = inner.config.ca.0.revision.subscribe();
    let own = applied.wait_for(|applied| *applied >= revision.0);
    if !matches!(tokio::time::timeout(OWN_LIMIT, own).await, Ok(Ok(_))) {
        return Err(Status::failure(
            504,
            "Timeout",
            "the change is decided, but this server has not taken it over yet",
        ));
    }
    answer(show(&wanted, inner))
}

async fn decide(
    server: &ApiServer,
    call: Call,
    query: &Query,
    current: &rollover::Files,
    snapshot: &Snapshot,
) -> Result<rollover::Files, Status> {
    let now = OffsetDateTime::now_utc();
    match call {
        Call::Show => Ok(current.clone()),
        Call::RotateCa => rollover::rotate_authority(current, now).map_err(conflict),
        Call::FinishCa => {
            let files = rollover::finish_authority(current).map_err(conflict)?;
            for (who, behind) in [
                ("nodes", behind(server, snapshot)),
                ("members", members_behind(server, snapshot, current).await),
            ] {
                if !behind.is_empty() && query.get("force") != Some("true") {
                    let names = behind.join(", ");
                    return Err(Status::failure(
                        409,
                        "Conflict",
                        format!(
                            "these {who} have not shown a certificate of the new authority and would have to join again: {names}; force=true finishes all the same"
                        ),
                    ));
                }
            }
            Ok(files)
        }
        Call::RotateAccountKey => {
            let seconds = query.get("overlap").map(str::parse::<u64>).transpose();
            let seconds = seconds.map_err(|_| Status::bad_request("overlap is a number of seconds"))?;
            let overlap = seconds.map_or(OVERLAP, Duration::from_secs);
            if overlap > MAX_OVERLAP {
                return Err(Status::bad_request("overlap is at most seven days"));
            }
            rollover::rotate_account_key(current, now, now + overlap).map_err(conflict)
        }
        Call::FinishAccountKey => rollover::finish_account_key(current, now).map_err(conflict),
    }
}

/// Nodes that have not come with a certificate of the newest authority.
fn behind(server: &ApiServer, snapshot: &Snapshot) -> Vec<String> {
    const NODES: Keys<'static> = Keys {
        group: "",
        resource: "nodes",
        namespaced: false,
    };
    let inner = server.inner();
    let newest = pki::subjects_of(&inner.config.ca.bundle()).into_iter().next();
    let issuers = inner.tunnels.issuers();
    let names = snapshot.range(NODES.range(None)).filter_map(|entry| {
        let key = std::str::from_utf8(&entry.key).ok()?;
        key.rsplit('/').next().map(str::to_owned)
    });
    names
        .filter(|node| issuers.get(node).is_none_or(|issuer| *issuer != newest))
        .collect()
}

/// Members of the store that do not show a certificate of the newest authority when they are asked now. A witness, which
/// follows no record, is handed it before.
async fn members_behind(server: &ApiServer, snapshot: &Snapshot, current: &rollover::Files) -> Vec<String> {
    let inner = server.inner();
    let Some(peers) = &inner.config.peers else {
        return Vec::new();
    };
    let me = inner.store.identity();
    let others = members::all(snapshot)
        .into_iter()
        .filter(|record| !record.removed && record.id != me.member);
    let words = witness::words(snapshot.revision().0, current);
    let asked = others.map(|record| (record, words.clone()));
    let asked = asked.map(|(record, words)| async move {
        if record.witness {
            witness::hand(peers, me, record.id, words).await;
        }
        // Each question goes over a connection of its own, so what is shown is what is in force there.
        let answered = peers.about(me, record.id).await.is_ok();
        let newest = answered && inner.config.peer_tls.is_newest(record.id);
        (!newest).then(|| match record.name.as_str() {
            "" => format!("{:016x}", record.id),
            name => name.to_owned(),
        })
    });
    let behind = futures::future::join_all(asked).await;
    behind.into_iter().flatten().collect()
}

fn show(files: &rollover::Files, inner: &crate::Inner) -> Value {
    let [cluster, peers, front_proxy] = rollover::trusted(files).map(|pem| pki::describe(&pem));
    let keys = inner.config.tokens.as_ref().map(|issuer| issuer.jwks());
    json!({
        "certificateAuthorities": cluster,
        "peerAuthorities": peers,
        "frontProxyAuthorities": front_proxy,
        "serviceAccountKeys": keys.map(|keys| keys["keys"].clone()).unwrap_or_default(),
    })
}

/// Follows the record into the files below `dir`, until `stop`. `take_over` is called after every change of files, before
/// anybody is answered.
pub async fn follow(
    server: ApiServer,
    dir: PathBuf,
    take_over: impl Fn() -> Result<(), String> + Send + 'static,
    stop: CancellationToken,
) {
    let store = server.inner().store.clone();
    while !stop.is_cancelled() {
        let snapshot = store.snapshot();
        let done = apply(&server, &snapshot, &dir, &take_over).await;
        let Ok(mut watch) = store.watch(range(), snapshot.revision()) else {
            continue; // compacted in between: read again
        };
        let words = match done {
            Ok(words) => words,
            Err(error) => {
                tracing::error!(error, "the authorities were not taken over");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    () = stop.cancelled() => return,
                }
            }
        };
        let handing = async {
            if let Some(words) = words {
                witness::hand_to_all(&server, words).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(handing);
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                () = &mut handing => return,
                () = stop.cancelled() => return,
            };
            match item {
                Some(Ok(WatchItem::Event(_))) => break,
                Some(Ok(_)) => {}
                Some(Err(corten_store::WatchError::Closed)) | None => return,
                // A whole state took the place of events.
                Some(Err(_)) => break,
            }
        }
    }
}

/// Returns what witnesses are to be told; `None`: there is no record.
async fn apply(
    server: &ApiServer,
    snapshot: &Snapshot,
    dir: &Path,
    take_over: &impl Fn() -> Result<(), String>,
) -> Result<Option<Bytes>, String> {
    let secrets = rollover::secrets(dir).map_err(|error| error.to_string())?;
    let (revision, wanted) = match record(snapshot, &secrets) {
        Some((revision, Some(files))) => (revision.0, Some(files)),
        _ => (0, None),
    };
    if let Some(wanted) = &wanted
        && rollover::write(dir, wanted).map_err(|error| error.to_string())?
    {
        take_over()?;
    }
    server.inner().config.ca.0.revision.send_replace(revision);
    server
        .publish_authorities()
        .await
        .map_err(|error| error.to_string())?;
    Ok(wanted.map(|files| witness::words(revision, &files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        assert_eq!(Call::of(&Method::GET, &[]), Some(Ok(Call::Show)));
        assert_eq!(
            Call::of(&Method::POST, &["ca", "rotate"]),
            Some(Ok(Call::RotateCa))
        );
        assert_eq!(Call::of(&Method::GET, &["ca", "rotate"]), Some(Err(())));
        assert_eq!(Call::of(&Method::POST, &["ca", "burn"]), None);
    }

    #[test]
    fn who_was_trusted_once_is_known() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        let dir = tempfile::tempdir().expect("a folder");
        let first = pki::Ca::open(dir.path(), at(1_000_000)).expect("an authority");
        let authorities = Authorities::new(first.bundle());
        let old = pki::subjects_of(&first.bundle()).remove(0);
        let before = authorities.hash();
        let files = rollover::read(dir.path()).expect("read");
        let rotated = rollover::rotate_authority(&files, at(2_000_000)).expect("rotated");
        let bundle = format!("{}{}", rotated["ca.crt"], rotated["ca-old.crt"]);
        authorities.set(bundle);
        assert!(!authorities.is_retired(&old));
        authorities.set(rotated["ca.crt"].as_str());
        assert!(authorities.is_retired(&old));
        let new = pki::subjects_of(&rotated["ca.crt"]).remove(0);
        assert!(!authorities.is_retired(&new));
        assert_ne!(authorities.hash(), before);
    }
}
