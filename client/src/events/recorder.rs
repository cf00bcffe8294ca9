//! Sends events without ever holding up the component that reports them.
//!
//! Knows the Event object. Must not know what the events are about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::EventType;
use super::correlate::{Correlator, Occurrence, Verdict};
use crate::backoff::Backoff;
use crate::error::ApiError;
use crate::object::{KubeKind, ObjectKey, object_reference};
use crate::request::{ApiClient, Patch};

/// Events waiting to be sent; more are dropped and counted. Source: client-go `maxQueuedEvents`.
pub const QUEUE_CAPACITY: usize = 1000;
/// Attempts to send one event while the server cannot be reached. Source: client-go `maxTriesPerEvent`.
pub const MAX_TRIES: u32 = 12;
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Source: client-go `defaultSleepDuration`.
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// The longest message; the rest is cut. Source: Event validation, `note` of at most 1 kB.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Reports what a component does. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Occurrence>,
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// `component` is for instance `replicaset-controller`; `host` is the node for agents and empty elsewhere.
    /// Must be called within a tokio runtime.
    pub fn new(client: Client, component: &str, host: &str, shutdown: CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_CAPACITY);
        let sender = Sender {
            api: ApiClient::new(client),
            component: component.to_owned(),
            host: host.to_owned(),
            correlator: Correlator::default(),
        };
        tokio::spawn(sender.run(waiting, shutdown));
        EventRecorder {
            queue,
            dropped: Arc::default(),
        }
    }

    /// Says that `reason` happened to `object`.
    pub fn event<K: KubeKind>(
        &self,
        object: &K,
        kind: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.event_about(object_reference(object), kind, reason, message);
    }

    /// As [`event`](Self::event), for instance with a `fieldPath` that names a container.
    pub fn event_about(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        }
        let at = Timestamp::now();
        let occurrence = Occurrence {
            about,
            kind,
            reason: reason.into(),
            message,
            at,
        };
        if self.queue.try_send(occurrence).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that found the queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Sender {
    api: ApiClient,
    component: String,
    host: String,
    correlator: Correlator,
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Occurrence>, shutdown: CancellationToken) {
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = waiting.recv() => event,
            };
            let Some(event) = event else { return };
            let verdict = self.correlator.judge(&event);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.deliver(&event, &verdict) => {}
            }
        }
    }

    /// Tries until the server answered, at most [`MAX_TRIES`] times. An answer that refuses the event ends it.
    async fn deliver(&self, event: &Occurrence, verdict: &Verdict) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
        for _ in 0..MAX_TRIES {
            match self.send(event, verdict).await {
                Ok(()) => return,
                Err(error @ ApiError::Status(_)) if error.code() < 500 && error.code() != 429 => {
                    debug!(reason = event.reason, %error, "the server refused an event");
                    return;
                }
                Err(_) => tokio::time::sleep(backoff.next(rand::random())).await,
            }
        }
        debug!(reason = event.reason, "gave up sending an event");
    }

    async fn send(&self, event: &Occurrence, verdict: &Verdict) -> Result<(), ApiError> {
        match verdict {
            Verdict::Drop => Ok(()),
            Verdict::Create { name, message } => self
                .api
                .create(&self.object(event, name, message, 1, event.at))
                .await
                .map(drop),
            Verdict::Count {
                name,
                message,
                count,
                first,
            } => {
                let patch = Patch::Merge(serde_json::json!({
                    "count": count,
                    "lastTimestamp": Time(event.at),
                    "message": message,
                }));
                let key = ObjectKey::new(namespace(&event.about), name);
                match self.api.patch::<Event>(&key, &patch).await {
                    // It expired meanwhile.
                    Err(error) if error.is_not_found() => self
                        .api
                        .create(&self.object(event, name, message, *count, *first))
                        .await
                        .map(drop),
                    result => result.map(drop),
                }
            }
        }
    }

    fn object(&self, event: &Occurrence, name: &str, message: &str, count: i32, first: Timestamp) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace(&event.about)),
                ..Default::default()
            },
            involved_object: event.about.clone(),
            reason: Some(event.reason.clone()),
            message: Some(message.to_owned()),
            type_: Some(event.kind.as_str().to_owned()),
            count: Some(count),
            first_timestamp: Some(Time(first)),
            last_timestamp: Some(Time(event.at)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Default::default()
        }
    }
}

/// Events about cluster-wide objects live in `default`. Source: client-go's recorder.
fn namespace(about: &ObjectReference) -> String {
    about
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}
