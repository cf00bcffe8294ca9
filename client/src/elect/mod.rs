//! One of many: a component runs on the server that holds its Lease, with the semantics of client-go's leader election.
//!
//! Knows Leases. Must not know what the component does, nor how a holder is known to be gone before its time ([`Gone`]).
//! Candidates watch the Lease, so one that is released is taken at once; nobody asks again and again.

mod decide;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use decide::{LEASE_DURATION, Observed, RENEW_DEADLINE, RETRY_PERIOD, Verdict, decide};

use crate::cache::{Cache, Change};
use crate::events::{EventRecorder, EventType};
use crate::informers::{Informers, Selection};
use crate::object::ObjectKey;
use crate::request::ApiClient;

/// Says whether the holder of this identity is known not to run any more. Waits until it may have become so.
pub trait Gone: Send + Sync {
    fn is_gone(&self, holder: &str) -> bool;
    /// Returns when [`Gone::is_gone`] may answer differently.
    fn changed(&self) -> futures::future::BoxFuture<'_, ()>;
}

/// A candidate for one Lease.
pub struct Candidate<G> {
    pub client: Client,
    pub namespace: String,
    /// Of the Lease, e.g. `kube-scheduler`.
    pub name: String,
    /// Who this process is; another one never has the same.
    pub identity: String,
    pub gone: G,
}

/// What the elected is told.
pub struct Term {
    /// The Lease's revision when it was won.
    pub resource_version: u64,
    /// Ends with the term.
    pub stop: CancellationToken,
}

impl<G: Gone> Candidate<G> {
    /// Runs `lead` whenever this candidate is elected, until `shutdown`; then gives the Lease back. `lead` ends when its
    /// term's token is cancelled; a term that ends by itself begins anew after [`RETRY_PERIOD`].
    pub async fn run<F, Fut>(self, lead: F, shutdown: CancellationToken)
    where
        F: Fn(Term) -> Fut,
        Fut: Future<Output = ()>,
    {
        let watching = CancellationToken::new();
        let _stops = watching.clone().drop_guard();
        let seen = Seen::start(&self, watching.clone()).await;
        let recorder = EventRecorder::new(self.client.clone(), &self.name, "", watching);
        while let Some(won) = self.win(&seen, &shutdown).await {
            tracing::info!(lease = self.name, identity = self.identity, "became leader");
            recorder.event(
                &won,
                EventType::Normal,
                "LeaderElection",
                format!("{} became leader", self.identity),
            );
            let stop = CancellationToken::new();
            let term = Term {
                resource_version: crate::object::revision_of(&won.metadata),
                stop: stop.clone(),
            };
            let leading = lead(term);
            tokio::pin!(leading);
            let ended = tokio::select! {
                () = &mut leading => true,
                () = self.hold(won, &seen, &shutdown) => false,
            };
            stop.cancel();
            if !ended {
                leading.await;
            }
            tracing::info!(lease = self.name, identity = self.identity, "stopped leading");
            if shutdown.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.release(&seen).await;
    }

    /// Waits until this candidate has the Lease; `None` at shutdown.
    async fn win(&self, seen: &Seen, shutdown: &CancellationToken) -> Option<Lease> {
        loop {
            let observed = seen.observed();
            let holder = observed
                .as_ref()
                .and_then(|observed| observed.spec.holder_identity.clone());
            let gone = holder.as_deref().is_some_and(|holder| self.gone.is_gone(holder));
            let verdict = decide(observed.as_ref(), &self.identity, gone, Instant::now());
            let until = match verdict {
                Verdict::Take | Verdict::Ours => {
                    if let Some(lease) = self.write(seen).await {
                        return Some(lease);
                    }
                    Instant::now() + RETRY_PERIOD
                }
                Verdict::HeldUntil(until) => until,
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = seen.changed.notified() => {}
                () = self.gone.changed() => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    /// Renews the Lease until it cannot any more, somebody else has it, or shutdown.
    async fn hold(&self, won: Lease, seen: &Seen, shutdown: &CancellationToken) {
        let mut renewed = Instant::now();
        seen.note(won);
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                () = seen.changed.notified() => {
                    let holder = seen.observed().and_then(|observed| observed.spec.holder_identity);
                    if holder.as_deref() == Some(&self.identity) {
                        continue;
                    }
                    tracing::warn!(lease = self.name, ?holder, "the Lease was taken");
                    return;
                }
                () = shutdown.cancelled() => return,
            }
            let write = tokio::time::timeout(RENEW_DEADLINE, self.write(seen)).await;
            match write {
                Ok(Some(_)) => renewed = Instant::now(),
                _ if renewed.elapsed() >= RENEW_DEADLINE => {
                    tracing::warn!(lease = self.name, "the Lease could not be renewed in time");
                    return;
                }
                _ => {}
            }
        }
    }

    /// Takes or renews the Lease, as it was seen last.
    async fn write(&self, seen: &Seen) -> Option<Lease> {
        let api = ApiClient::new(self.client.clone());
        let old = seen.lease();
        let lease = decide::held(
            old.as_deref(),
            &self.namespace,
            &self.name,
            &self.identity,
            Timestamp::now(),
        );
        let written = match old {
            Some(_) => api.replace(&lease).await,
            None => api.create(&lease).await,
        };
        match written {
            Ok(written) => {
                let mut lease = lease;
                lease.metadata.resource_version = Some(written.revision.to_string());
                seen.note(lease.clone());
                Some(lease)
            }
            Err(error) => {
                tracing::debug!(lease = self.name, %error, "the Lease was not written");
                // What was seen may be old, or the write may have happened: the next try rests on what there is.
                if let Ok(Some(now)) = api.get::<Lease>(&seen.key).await {
                    seen.note(now);
                }
                None
            }
        }
    }

    async fn release(&self, seen: &Seen) {
        let Some(lease) = seen.lease() else { return };
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(&self.identity) {
            return;
        }
        let api = ApiClient::new(self.client.clone());
        let released = decide::released(&lease, Timestamp::now());
        match tokio::time::timeout(RELEASE_LIMIT, api.replace(&released)).await {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "released the Lease"),
            _ => tracing::warn!(
                lease = self.name,
                "the Lease was not released: others wait for its end"
            ),
        }
    }
}

/// How long giving a Lease back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// A state of the Lease, and when it was first seen here.
type Newest = Option<(Arc<Lease>, Instant)>;

/// The newest state of the Lease.
struct Seen {
    key: ObjectKey,
    newest: Arc<Mutex<Newest>>,
    changed: Arc<Notify>,
}

impl Seen {
    async fn start<G>(candidate: &Candidate<G>, stop: CancellationToken) -> Seen {
        let selection = Selection {
            fields: format!("metadata.name={}", candidate.name),
            ..Selection::namespace(&candidate.namespace)
        };
        let cache: Cache<Lease> = Informers::new(candidate.client.clone(), stop).informer(selection);
        let seen = Seen {
            key: ObjectKey::new(&candidate.namespace, &candidate.name),
            newest: Arc::default(),
            changed: Arc::default(),
        };
        let (newest, changed) = (seen.newest.clone(), seen.changed.clone());
        cache.on_change(move |change| {
            let news = match change {
                Change::Applied { new, .. } => note(&newest, Arc::clone(new)),
                Change::Deleted(_) => newest.lock().take().is_some(),
                Change::Resync => false,
            };
            if news {
                changed.notify_one();
            }
        });
        cache.wait_synced().await;
        if let Some(lease) = cache.get(&seen.key) {
            note(&seen.newest, lease);
        }
        seen
    }

    fn note(&self, lease: Lease) {
        note(&self.newest, Arc::new(lease));
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        self.newest.lock().as_ref().map(|(lease, _)| Arc::clone(lease))
    }

    fn observed(&self) -> Option<Observed> {
        let newest = self.newest.lock();
        let (lease, at) = newest.as_ref()?;
        Some(Observed {
            spec: lease.spec.clone().unwrap_or_default(),
            at: *at,
        })
    }
}

/// Keeps the newer of two; whether it was news.
fn note(newest: &Mutex<Newest>, lease: Arc<Lease>) -> bool {
    let mut newest = newest.lock();
    let revision = |lease: &Lease| crate::object::revision_of(&lease.metadata);
    let news = newest
        .as_ref()
        .is_none_or(|(held, _)| revision(held) < revision(&lease));
    if news {
        *newest = Some((lease, Instant::now()));
    }
    news
}
