//! Every kind the server has, watched by metadata only: what the garbage collector and Namespace deletion look at.
//!
//! Knows discovery. Must not know what is done with what it sees.

use std::time::Duration;

use corten_client::backoff::Backoff;
use corten_client::discovery::{Discovered, discover};
use corten_client::runner::chain;
use corten_client::{Cache, PartialObject, Target};
use tracing::warn;

use crate::context::Context;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// What defines kinds: a change of one of these can change what the server has.
const DEFINITIONS: [&str; 2] = ["CustomResourceDefinition", "APIService"];
/// Definitions come in bursts; the server is asked once for all that come within this time.
const SETTLE: Duration = Duration::from_millis(500);

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
}

impl Monitors {
    /// Asks until the server tells; `None` at shutdown.
    pub async fn start(context: &Context) -> Option<Monitors> {
        let kinds = deletable(context).await?;
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
        Some(Monitors { kinds, watched })
    }

    /// Returns when the server has other kinds than these, or at shutdown.
    pub async fn outdated(&self, context: &Context) {
        let (changed, mut changes) = tokio::sync::watch::channel(());
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
        loop {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                // The sender lives as long as this function.
                _ = changes.changed() => {}
            }
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = tokio::time::sleep(SETTLE) => {}
            }
            changes.mark_unchanged();
            match deletable(context).await {
                Some(kinds) if kinds == self.kinds => {}
                _ => return,
            }
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

async fn deletable(context: &Context) -> Option<Vec<Discovered>> {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        match discover(&context.api).await {
            Ok(mut kinds) => {
                kinds.retain(|kind| kind.can("delete"));
                return Some(kinds);
            }
            Err(error) => warn!(error = %chain(&error), "cannot discover the server's kinds, will try again"),
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return None,
            () = tokio::time::sleep(backoff.next(0.0)) => {}
        }
    }
}
