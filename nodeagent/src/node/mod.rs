//! The node itself: registers its Node object, keeps its status true and its Lease fresh.
//!
//! [`status`] and [`lease`] say what is written (pure), [`machine`] reads the machine. The loop here writes a status when
//! it differs from what the API has, and every five minutes; whoever marks the node otherwise in the meantime (after a
//! cut, say) is corrected at once.

pub mod floors;
pub mod lease;
pub mod machine;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use corten_client::{ApiError, Cache, Informers, ObjectKey, Patch, Selection};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub use status::Identity;

use self::machine::Machine;
use self::status::Health;
use crate::events;
use crate::pod::backoff::Pace;
use crate::runtime::RuntimeEvent;
use crate::shell::Shared;
use corten_client::EventType;

/// A status that has not changed is written this often. Source: kubelet configuration, `nodeStatusReportFrequency`.
const REPORT_EVERY: Duration = Duration::from_secs(300);
/// How often machine and runtime are asked how they are; the Lease is renewed at the same beat.
const LOOK_EVERY: Duration = lease::RENEW_EVERY;
/// While the node is not ready it is looked at more often.
const LOOK_SOON: Pace = Pace::new(50, 5_000);
const RETRY: Pace = Pace::new(200, 7_000);
/// Image events come in bursts: one pull or import makes several.
const IMAGES_SETTLE: Duration = Duration::from_millis(200);

/// The one Node of this name.
pub fn selection(name: &str) -> Selection {
    Selection::fields(format!("metadata.name={name}"))
}

/// Starts registration, status and Lease, until `shutdown`.
pub fn start(
    identity: Identity,
    machine: Machine,
    shared: Arc<Shared>,
    informers: &Informers,
    shutdown: CancellationToken,
) {
    let own = informers.informer::<Node>(selection(&identity.name));
    let name = identity.name.clone();
    let keeper = Keeper {
        identity,
        machine,
        shared: shared.clone(),
        own: own.clone(),
        ready: None,
    };
    let status_stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = keeper.run() => {}
            () = status_stop.cancelled() => {}
        }
    });
    tokio::spawn(async move {
        tokio::select! {
            () = keep_lease(&shared, &own, &name) => {}
            () = shutdown.cancelled() => {}
        }
    });
}

async fn keep_lease(shared: &Shared, own: &Cache<Node>, name: &str) {
    let key = ObjectKey::cluster(name);
    let mut changes = own.subscribe();
    let mut last = None;
    let mut delay = None;
    own.wait_synced().await;
    loop {
        let Some(uid) = own.get(&key).and_then(|node| node.metadata.uid.clone()) else {
            // Registered by the keeper; the cache tells when.
            if changes.recv().await.is_none() {
                return;
            }
            continue;
        };
        let due = match lease::renew(&shared.api, name, &uid, &mut last, Timestamp::now()).await {
            Ok(()) => {
                delay = None;
                lease::RENEW_EVERY
            }
            Err(error) => {
                tracing::debug!(%error, "renew the node's Lease");
                *delay.insert(RETRY.after(delay))
            }
        };
        sleep(due).await;
    }
}

struct Keeper {
    identity: Identity,
    machine: Machine,
    shared: Arc<Shared>,
    own: Cache<Node>,
    /// As last told in an Event.
    ready: Option<bool>,
}

impl Keeper {
    async fn run(mut self) {
        let mut changes = self.own.subscribe();
        let mut events = self.shared.runtime.events();
        self.own.wait_synced().await;
        self.record(EventType::Normal, events::STARTING, "Starting kubelet.");
        let mut health = self.look(None).await;
        let mut labelled = false;
        let (mut delay, mut soon) = (None, None);
        let mut reported = Instant::now();
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut fresh_images = None;
        loop {
            let heartbeat = reported.elapsed() >= REPORT_EVERY;
            let retry = match self.write(&health, heartbeat, &mut labelled).await {
                Ok(written) => {
                    if written {
                        reported = Instant::now();
                    }
                    delay = None;
                    None
                }
                Err(error) => {
                    tracing::debug!(%error, "write the Node");
                    delay = Some(RETRY.after(delay));
                    delay.map(|delay| Instant::now() + delay)
                }
            };
            if health.ready().is_err() {
                soon = Some(LOOK_SOON.after(soon));
                look_at = look_at.min(Instant::now() + soon.unwrap_or(LOOK_EVERY));
            } else {
                soon = None;
            }
            let images_at: Option<Instant> = fresh_images;
            tokio::select! {
                change = changes.recv() => if change.is_none() { return },
                Some(event) = events.next() => match event {
                    RuntimeEvent::Reconnected | RuntimeEvent::Disconnected => health = self.look(None).await,
                    RuntimeEvent::ImageChanged { .. } => fresh_images = Some(Instant::now() + IMAGES_SETTLE),
                    _ => {}
                },
                () = sleep_until(images_at.unwrap_or_else(Instant::now)), if images_at.is_some() => {
                    fresh_images = None;
                    health = self.look(None).await;
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
                () = sleep_until(look_at) => {
                    health = self.look(Some(&health)).await;
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// `known`: images are taken over from it; events tell when they change.
    async fn look(&self, known: Option<&Health>) -> Health {
        let runtime = self.shared.runtime.status().await.ok();
        let images = match known {
            Some(known) => known.images.clone(),
            None => self.shared.runtime.list_images().await.unwrap_or_default(),
        };
        let pressure = self.machine.pressure();
        Health {
            pressure,
            runtime,
            images,
        }
    }

    /// Makes the API's Node what it should be. Returns whether a status was written.
    async fn write(
        &mut self,
        health: &Health,
        heartbeat: bool,
        labelled: &mut bool,
    ) -> Result<bool, ApiError> {
        let key = ObjectKey::cluster(&self.identity.name);
        let now = Timestamp::now();
        let Some(node) = self.own.get(&key) else {
            let mut node = self.identity.object();
            node.status = Some(self.identity.status(health, None, now));
            return match self.shared.api.create(&node).await {
                Ok(_) => {
                    *labelled = true;
                    self.tell(health);
                    Ok(true)
                }
                // The cache has not seen it yet and will tell.
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        if !std::mem::replace(labelled, true) {
            let missing = self.identity.labels.iter().any(|(name, value)| {
                node.metadata.labels.as_ref().and_then(|labels| labels.get(name)) != Some(value)
            });
            if missing {
                let labels = json!({"metadata": {"labels": self.identity.labels}});
                self.shared
                    .api
                    .patch::<Node>(&key, &Patch::Merge(labels))
                    .await
                    .inspect_err(|_| *labelled = false)?;
            }
        }
        let old = node.status.clone().unwrap_or_default();
        let new = self.identity.status(health, Some(&old), now);
        let Some(change) = status::patch(&old, &new, heartbeat) else {
            return Ok(false);
        };
        self.shared
            .api
            .patch_status::<Node>(&key, &Patch::Strategic(change))
            .await?;
        self.tell(health);
        Ok(true)
    }

    fn tell(&mut self, health: &Health) {
        let ready = health.ready().is_ok();
        if self.ready.replace(ready) == Some(ready) {
            return;
        }
        let reason = if ready {
            events::NODE_READY
        } else {
            events::NODE_NOT_READY
        };
        let message = format!("Node {} status is now: {reason}", self.identity.name);
        self.record(EventType::Normal, reason, &message);
    }

    /// Events about a Node carry its name as uid, as the kubelet's do; `kubectl describe node` looks for that.
    fn record(&self, kind: EventType, reason: &str, message: &str) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.identity.name.clone()),
            uid: Some(self.identity.name.clone()),
            ..ObjectReference::default()
        };
        self.shared.recorder.event_about(about, kind, reason, message);
    }
}
