//! The components of the control plane: each runs on one server at a time, the one that holds its Lease, behind a fence.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use corten_apiserver::{ApiServer, User};
use corten_client::decode::Omit;
use corten_client::decoded::Decoded;
use corten_client::elect::{Candidate, Gone, Term};
use corten_controllers::Clients;
use corten_store::{Standing, Store};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where upstream keeps the Leases of its components.
const NAMESPACE: &str = "kube-system";
/// A holder whose server the store's leader has not heard for so long is taken for dead. Taking over early is safe, for the
/// old holder's writes are fenced off; the time keeps a server that only stalled in office.
const SILENCE: Duration = Duration::from_millis(700);

/// What neither the controllers nor the scheduler read of a Pod.
static OF_NEITHER: LazyLock<Omit> =
    LazyLock::new(|| corten_controllers::NOT_OF_PODS.and(corten_scheduler::OMIT));

/// What the components need.
#[derive(Clone)]
pub struct Components {
    pub store: Store,
    pub api: ApiServer,
    /// This server among candidates.
    pub identity: String,
    pub controllers: corten_controllers::Config,
    pub scheduler: corten_scheduler::Config,
}

/// The identity of a server's components: for people, and for others to know whose it is.
#[must_use]
pub fn identity(name: &str, member: u64) -> String {
    format!("{name}_{member:016x}")
}

fn member_of(identity: &str) -> Option<u64> {
    u64::from_str_radix(identity.rsplit_once('_')?.1, 16).ok()
}

impl Components {
    /// Runs them whenever this server is elected, until `shutdown`; then gives the Leases back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let pods = Arc::new(Decoded::new(&OF_NEITHER));
        self.controllers.pods = Some(pods.clone());
        self.scheduler.pods = Some(pods);
        let controllers = self.candidate("kube-controller-manager").run(
            |term| {
                self.lead("kube-controller-manager", term, |clients, stop| {
                    let config = self.controllers.clone();
                    async move {
                        if let Err(error) = corten_controllers::run(clients, config, stop).await {
                            tracing::error!(%error, "the controllers cannot run");
                        }
                    }
                })
            },
            shutdown.clone(),
        );
        let scheduler = self.candidate("kube-scheduler").run(
            |term| {
                self.lead("kube-scheduler", term, |clients, stop| {
                    corten_scheduler::run(clients(""), self.scheduler.clone(), stop)
                })
            },
            shutdown.clone(),
        );
        tokio::join!(controllers, scheduler);
    }

    fn candidate(&self, name: &str) -> Candidate<ByStore> {
        Candidate {
            client: self.client(name),
            namespace: NAMESPACE.into(),
            name: name.into(),
            identity: self.identity.clone(),
            gone: ByStore::new(&self.store),
        }
    }

    fn user(name: &str) -> User {
        User::new(format!("system:{name}"), &[])
    }

    fn client(&self, name: &str) -> kube::Client {
        kube::Client::new(self.api.in_process(Self::user(name)).named(name), "default")
    }

    async fn lead<Fut: Future<Output = ()>>(
        &self,
        name: &str,
        term: Term,
        run: impl FnOnce(Clients, CancellationToken) -> Fut,
    ) {
        let fence = self
            .api
            .fence(NAMESPACE, name, term.resource_version, &self.identity)
            .await;
        match fence {
            Ok(fence) => {
                let (api, own, program) = (self.api.clone(), Self::user(name), name.to_owned());
                let clients = move |controller: &str| {
                    let user = match controller {
                        "" => own.clone(),
                        name => User::service_account(NAMESPACE, name),
                    };
                    let service = api.in_process(user).named(&program).fenced(fence.clone());
                    kube::Client::new(service, "default")
                };
                run(Arc::new(clients), term.stop).await;
            }
            Err(status) => {
                tracing::warn!(
                    name,
                    reason = status.message.as_ref() as &str,
                    "elected, but without a fence"
                );
            }
        }
    }
}

/// Knows from the store's leader whose server is dead.
struct ByStore {
    store: Store,
    standing: tokio::sync::Mutex<watch::Receiver<Standing>>,
    /// Since when members have been silent, as this server saw it.
    silent: Mutex<BTreeMap<u64, Instant>>,
}

impl ByStore {
    fn new(store: &Store) -> ByStore {
        ByStore {
            store: store.clone(),
            standing: tokio::sync::Mutex::new(store.standing()),
            silent: Mutex::default(),
        }
    }
}

/// Whether the store's leader, and only it, can say that a member is not there. Pure.
fn is_silent(standing: &Standing, member: u64) -> bool {
    standing.leads
        && member != standing.member
        && standing
            .progress
            .iter()
            .find(|progress| progress.member == member)
            .is_none_or(|progress| !progress.alive)
}

impl Gone for ByStore {
    fn is_gone(&self, holder: &str) -> bool {
        let Some(member) = member_of(holder) else {
            return false;
        };
        let mut silent = self.silent.lock();
        if !is_silent(&self.store.standing().borrow(), member) {
            silent.clear();
            return false;
        }
        let since = *silent.entry(member).or_insert_with(Instant::now);
        since.elapsed() >= SILENCE
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        async {
            let waits = self.silent.lock().values().any(|since| since.elapsed() < SILENCE);
            let mut standing = self.standing.lock().await;
            if waits {
                tokio::time::sleep(SILENCE / 4).await;
            } else if standing.changed().await.is_err() {
                // The store is closed; so is everything else, soon.
                std::future::pending().await
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_store::Progress;

    #[test]
    fn an_identity_names_its_member() {
        assert_eq!(member_of(&identity("a_b", 0xab)), Some(0xab));
        assert_eq!(member_of("somebody else"), None);
    }

    #[test]
    fn only_the_leader_of_the_store_says_who_is_silent() {
        let standing = |leads| Standing {
            member: 1,
            leads,
            progress: vec![
                Progress {
                    member: 1,
                    matched: 9,
                    alive: true,
                },
                Progress {
                    member: 2,
                    matched: 9,
                    alive: true,
                },
                Progress {
                    member: 3,
                    matched: 9,
                    alive: false,
                },
            ],
            ..Standing::default()
        };
        assert!(!is_silent(&standing(true), 1) && !is_silent(&standing(true), 2));
        assert!(is_silent(&standing(true), 3));
        assert!(is_silent(&standing(true), 4), "it is no member any more");
        assert!(!is_silent(&standing(false), 3));
    }
}
