//! Backups a server makes by itself: the leader of the store writes one every so often and keeps the newest. When the
//! next is due follows from the newest one there, so a restart neither skips nor repeats one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use corten_store::{Snapshot, Store, backup};
use tokio_util::sync::CancellationToken;

use super::place::Place;

/// After a failure, and before a server that has just started looks for the first time.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Between two backups of the cluster's objects; 0: none
    #[arg(long, default_value = "6h", value_parser = crate::duration::parse)]
    backup_interval: Duration,
    /// How many of them are kept
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    backup_keep: u32,
    /// Where they are kept, a folder or s3://BUCKET/PREFIX [default: `backups` in the data folder]
    #[arg(long)]
    backup_dir: Option<String>,
}

/// Makes backups until `shutdown`. Only the leader does; who leads later goes on with its own folder.
pub async fn run(args: &Args, data_dir: &std::path::Path, store: Store, shutdown: CancellationToken) {
    if args.backup_interval.is_zero() {
        return;
    }
    let place = match args.backup_dir.as_deref().map(Place::parse) {
        Some(Ok(place)) => place,
        Some(Err(error)) => {
            return tracing::error!(
                error = format!("{error:#}"),
                "no backups are made: --backup-dir cannot be used"
            );
        }
        None => Place::Folder(data_dir.join("backups")),
    };
    let (interval, keep) = (args.backup_interval, args.backup_keep as usize);
    let task = async move {
        let mut wait = PAUSE.min(interval);
        loop {
            tokio::time::sleep(wait).await;
            let leads = store.standing().borrow().leads;
            if !leads {
                // Whoever loses the lead may get it again: the standing says when.
                let mut standing = store.standing();
                if standing.wait_for(|standing| standing.leads).await.is_err() {
                    return;
                }
            }
            wait = match once(&place, store.snapshot(), store.identity(), interval, keep).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "no backup could be made");
                    PAUSE.min(interval)
                }
            };
        }
    };
    tokio::select! {
        () = task => (),
        () = shutdown.cancelled() => (),
    }
}

/// Makes a backup if one is due; how long to wait for the next.
async fn once(
    place: &Place,
    state: Snapshot,
    identity: corten_store::Identity,
    interval: Duration,
    keep: usize,
) -> Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut newest = None;
    for kept in place.list().await?.iter().rev() {
        if let Ok(about) = place.about(kept).await {
            newest = Some(Duration::from_secs(about.taken_at));
            break;
        }
    }
    if let Some(left) = left(newest, now, interval) {
        return Ok(left);
    }
    let mut partial = place.begin()?;
    let write = move || {
        for chunk in backup::chunks(identity, &state, now.as_secs()) {
            partial.write(&chunk)?;
        }
        anyhow::Ok(partial)
    };
    let partial = tokio::task::spawn_blocking(write).await??;
    let (at, about) = place.keep(partial).await?;
    let gone = place.thin_out(keep).await?;
    tracing::info!(
        at,
        revision = about.revision.0,
        objects = about.keys,
        gone,
        "backup was made"
    );
    Ok(interval)
}

/// How long until the next backup; `None`: now. A clock that was set back delays it by one interval at most.
fn left(newest: Option<Duration>, now: Duration, interval: Duration) -> Option<Duration> {
    let age = now.saturating_sub(newest?);
    interval.checked_sub(age).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_backup_says_when_the_next_is_due() {
        let seconds = Duration::from_secs;
        let check = |newest: Option<u64>, now, expected: Option<u64>| {
            let found = left(newest.map(seconds), seconds(now), seconds(100));
            assert_eq!(found, expected.map(seconds));
        };
        check(None, 1000, None);
        check(Some(1000), 1000, Some(100));
        check(Some(1000), 1040, Some(60));
        check(Some(1000), 1100, None);
        check(Some(1000), 9000, None);
        check(Some(1000), 10, Some(100));
    }
}
