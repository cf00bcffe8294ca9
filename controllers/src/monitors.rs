//! Every kind the server has, watched by metadata only: what the garbage collector and Namespace deletion look at.
//!
//! Knows discovery. Must not know what is done with what it sees.

use std::time::Duration;

use corten_client::backoff::Backoff;
use corten_client::discovery::{Discovered, Discovery, discover};
use corten_client::runner::chain;
use corten_client::{Cache, PartialObject, Target};
use tokio::sync::watch;
use tracing::warn;

use crate::context::Context;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// What defines kinds: a change of one of these can change what the server has.
const DEFINITIONS: [&str; 2] = ["CustomResourceDefinition", "APIService"];
/// Definitions come in bursts; the server is asked once for all that come within this time.
const SETTLE: Duration = Duration::from_millis(500);
/// While an aggregated server does not tell what it has, the server is asked again after at most so long: nothing announces
/// that it has begun to tell.
const STALE_LIMIT: Duration = Duration::from_secs(30);

/// One watched kind.
#[derive(Clone)]
pub struct Monitor {
    pub target: Target,
    pub cache: Cache<PartialObject>,
}

#[derive(Clone)]
pub struct Monitors {
    /// All kinds whose objects can be deleted.
    pub kinds: Vec<Discovered>,
    /// Those of them that are watched: Events come and go too often and own nothing.
    pub watched: Vec<Monitor>,
    /// Why kinds may be missing, in the words of client-go, and how many groups; `None`: none is. Changes without a new set
    /// of kinds, too.
    pub unknown: watch::Receiver<Option<Unknown>>,
    discovered: watch::Sender<Option<Unknown>>,
}

/// Groups of aggregated servers that do not answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    pub groups: usize,
    pub why: String,
}

impl Unknown {
    fn of(found: &Discovery) -> Option<Unknown> {
        Some(Unknown {
            groups: found.stale.len(),
            why: found.failure()?,
        })
    }
}

impl Monitors {
    /// Asks until the server tells; `None` at shutdown.
    pub async fn start(context: &Context) -> Option<Monitors> {
        let found = deletable(context).await?;
        let unknown = Unknown::of(&found);
        let kinds = found.kinds;
        let watched = kinds
            .iter()
            .filter(|kind| kind.target.kind != "Event" && kind.can("list") && kind.can("watch"))
            .map(|kind| Monitor {
                target: kind.target.clone(),
                cache: context
                    .informers
                    .metadata(kind.target.clone(), context.shutdown.clone()),
            })
            .collect();
        let (discovered, unknown) = watch::channel(unknown);
        Some(Monitors {
            kinds,
            watched,
            unknown,
            discovered,
        })
    }

    /// Returns when the server has other kinds than these, or at shutdown. Meanwhile [`Self::unknown`] is kept.
    pub async fn outdated(&self, context: &Context) {
        let (changed, mut changes) = watch::channel(());
        for definitions in self
            .watched
            .iter()
            .filter(|monitor| defines_kinds(&monitor.target))
        {
            let changed = changed.clone();
            definitions.cache.on_change(move |_| {
                changed.send_replace(());
            });
        }
        let mut backoff = Backoff::new(SETTLE, STALE_LIMIT);
        loop {
            let again = async {
                if self.unknown.borrow().is_none() {
                    return std::future::pending().await;
                }
                tokio::time::sleep(backoff.next(0.0)).await;
            };
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                // The sender lives as long as this function.
                _ = changes.changed() => {
                    tokio::select! {
                        () = context.shutdown.cancelled() => return,
                        () = tokio::time::sleep(SETTLE) => {}
                    }
                }
                () = again => {}
            }
            changes.mark_unchanged();
            let Some(found) = deletable(context).await else {
                return;
            };
            if found.kinds != self.kinds {
                return;
            }
            let unknown = Unknown::of(&found);
            if unknown.is_none() {
                backoff.reset();
            }
            self.discovered.send_if_modified(|now| {
                let other = *now != unknown;
                *now = unknown;
                other
            });
        }
    }

    /// The kind an owner reference names, whatever its version.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Target> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds
            .iter()
            .map(|known| &known.target)
            .find(|target| target.group == group && target.kind == kind)
    }
}

fn defines_kinds(target: &Target) -> bool {
    DEFINITIONS.contains(&&*target.kind)
}

/// The kinds whose objects can be deleted; `None` at shutdown.
async fn deletable(context: &Context) -> Option<Discovery> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        match discover(&context.api).await {
            Ok(mut found) => {
                found.kinds.retain(|kind| kind.can("delete"));
                return Some(found);
            }
            Err(error) => warn!(error = %chain(&error), "cannot discover the server's kinds, will try again"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return None,
            () = tokio::time::sleep(backoff.next(0.0)) => {}
        }
    }
}
