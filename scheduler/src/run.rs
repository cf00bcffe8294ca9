//! The shell: informers feed the core, and what it decides becomes bindings, conditions and Events.
//!
//! Knows the API. Must not decide where a Pod goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_client::backoff::Backoff;
use corten_client::decoded::Decoded;
use corten_client::{
    ApiClient, ApiError, Cache, Change, EventRecorder, EventType, Informers, KubeKind, ObjectKey, Patch,
    Selection, Subresource,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition};
use kube::Client;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Decision, Event};
use crate::feed::PodFeed;
use crate::pod::{DEFAULT_SCHEDULER, Uid};

/// Bindings and condition updates under way at once. Enough to fill one group commit of the store after the other.
pub const MAX_IN_FLIGHT: usize = 128;
/// First and longest wait before a binding whose fate is unknown is asked for again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are placed; it also signs the Events. Default `default-scheduler`.
    pub scheduler_name: String,
    /// Decides between nodes of equal score.
    pub seed: u64,
    /// What this process's controllers decode, too; it must leave out no more than [`OMIT`](crate::OMIT). Default none.
    pub pods: Option<Arc<Decoded<Pod>>>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scheduler_name: DEFAULT_SCHEDULER.to_owned(),
            seed: 0,
            pods: None,
        }
    }
}

/// Places Pods until `shutdown` is cancelled; bindings under way are finished first.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let informers = Informers::new(client.clone(), shutdown.clone());
    let shell = Shell {
        core: Arc::new(Mutex::new(Core::new(&config.scheduler_name, config.seed))),
        changed: Arc::new(Notify::new()),
        started: Instant::now(),
        api: ApiClient::new(client.clone()),
        recorder: EventRecorder::new(client, &config.scheduler_name, "", shutdown.clone()),
        shutdown,
    };
    let nodes = informers.informer::<Node>(Selection::all());
    let namespaces = informers.informer::<Namespace>(Selection::all());
    shell.feed(&nodes, Event::Node, Event::NodeDeleted);
    shell.feed(&namespaces, Event::Namespace, Event::NamespaceDeleted);
    nodes.wait_synced().await;
    namespaces.wait_synced().await;
    let tell = {
        let shell = shell.clone();
        move |event| shell.tell(event)
    };
    let (pods, listed) = PodFeed::new(config.pods, tell);
    informers.follow::<Pod>(Selection::all(), pods);
    // An error means the feed is gone: the scheduler is shutting down.
    let _ = listed.await;
    shell.schedule().await;
}

#[derive(Clone)]
struct Shell {
    core: Arc<Mutex<Core>>,
    /// The core was told something.
    changed: Arc<Notify>,
    started: Instant,
    api: ApiClient,
    recorder: EventRecorder,
    shutdown: CancellationToken,
}

impl Shell {
    fn feed<K: KubeKind>(
        &self,
        cache: &Cache<K>,
        applied: fn(Arc<K>) -> Event,
        deleted: fn(Arc<K>) -> Event,
    ) {
        let shell = self.clone();
        cache.on_change(move |change| match change {
            Change::Applied { new, .. } => shell.tell(applied(Arc::clone(new))),
            Change::Deleted(last) => shell.tell(deleted(Arc::clone(last))),
            Change::Resync => {}
        });
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell(&self, event: Event) {
        self.core.lock().observe(self.now(), event);
        self.changed.notify_one();
    }

    async fn schedule(&self) {
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        while let Some(slot) = self.free_slot(&slots).await {
            let Some(decision) = self.next_decision().await else {
                break;
            };
            tokio::spawn(self.clone().perform(decision, slot));
        }
        // Every task holds a slot until it is done.
        let _ = slots.acquire_many(MAX_IN_FLIGHT as u32).await;
    }

    /// `None` at shutdown.
    async fn free_slot(&self, slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            slot = Arc::clone(slots).acquire_owned() => slot.ok(),
            () = self.shutdown.cancelled() => None,
        }
    }

    /// `None` at shutdown.
    async fn next_decision(&self) -> Option<Decision> {
        loop {
            if self.shutdown.is_cancelled() {
                return None;
            }
            let deadline = {
                let mut core = self.core.lock();
                if let Some(decision) = core.next(self.now()) {
                    return Some(decision);
                }
                core.deadline()
            };
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until((self.started + at).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = due => {}
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    async fn perform(self, decision: Decision, slot: OwnedSemaphorePermit) {
        match decision {
            Decision::Bind { pod, uid, node_name } => self.bind(&pod, uid, &node_name).await,
            Decision::Unschedulable { pod, message } => {
                tracing::debug!(pod = %key(&pod), %message, "no node for pod");
                self.report_failure(&pod, "Unschedulable", &message).await;
            }
        }
        drop(slot);
    }

    async fn bind(&self, pod: &Pod, uid: Uid, node_name: &str) {
        let outcome = self.write_binding(pod, &uid, node_name).await;
        let written = matches!(outcome, Ok(true));
        self.tell(Event::Bound { uid, written });
        let key = key(pod);
        match outcome {
            Ok(true) => {
                let message = format!("Successfully assigned {key} to {node_name}");
                self.recorder.event(pod, EventType::Normal, "Scheduled", message);
            }
            // Somebody else bound the Pod, or it is gone.
            Ok(false) => tracing::debug!(pod = %key, node = node_name, "binding was overtaken"),
            Err(error) => {
                tracing::warn!(pod = %key, node = node_name, %error, "binding refused");
                let message = format!("binding rejected: running Bind plugin \"DefaultBinder\": {error}");
                self.report_failure(pod, "SchedulerError", &message).await;
            }
        }
    }

    /// Asks until the fate of the binding is known: an assumed Pod must not be forgotten while it may be bound.
    ///
    /// # Errors
    /// The server's refusal.
    async fn write_binding(&self, pod: &Pod, uid: &Uid, node_name: &str) -> Result<bool, ApiError> {
        let key = key(pod);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": key.namespace, "name": key.name, "uid": &**uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
        });
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
        loop {
            let answer = self
                .api
                .create_part(&Pod::target(), &key, Subresource::Binding, &binding)
                .await;
            let error = match answer {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            match error.code() {
                404 => return Ok(false),
                // An earlier try may have been the one that bound it.
                409 => match self.api.get::<Pod>(&key).await {
                    Ok(found) => return Ok(found.is_some_and(|found| is_on(&found, uid, node_name))),
                    Err(error) => tracing::debug!(pod = %key, %error, "read pod after a conflict"),
                },
                0 | 429 | 500.. => tracing::debug!(pod = %key, %error, "binding not answered; trying again"),
                _ => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next(0.0)) => {}
                () = self.shutdown.cancelled() => return Err(error),
            }
        }
    }

    /// The Pod's `PodScheduled` condition and a `FailedScheduling` Event.
    async fn report_failure(&self, pod: &Pod, reason: &str, message: &str) {
        self.recorder
            .event(pod, EventType::Warning, "FailedScheduling", message);
        let Some(patch) = condition_patch(pod, reason, message, Timestamp::now()) else {
            return;
        };
        match self
            .api
            .patch_status::<Pod>(&key(pod), &Patch::Strategic(patch))
            .await
        {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod = %key(pod), %error, "update the PodScheduled condition"),
        }
    }
}

/// `None` when the Pod says exactly that already. The uid keeps it from another Pod of the same name.
fn condition_patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<serde_json::Value> {
    let old = corten_api::pod::condition(pod, "PodScheduled");
    let says = |old: &PodCondition| {
        (old.status.as_str(), old.reason.as_deref(), old.message.as_deref())
            == ("False", Some(reason), Some(message))
    };
    if old.is_some_and(says) {
        return None;
    }
    let since = old
        .filter(|old| old.status == "False")
        .and_then(|old| old.last_transition_time.clone());
    let since = since.map_or(now, |since| since.0);
    // Whole seconds, as the API stores times.
    let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": since.to_string(),
    });
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}))
}

fn key(pod: &Pod) -> ObjectKey {
    ObjectKey::of(&pod.metadata)
}

fn is_on(pod: &Pod, uid: &Uid, node_name: &str) -> bool {
    pod.metadata.uid.as_deref() == Some(uid)
        && pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(conditions: serde_json::Value, want: Option<(&str, &str)>) {
        let pod = json!({
            "metadata": {"name": "a", "uid": "1", "generation": 3},
            "status": {"conditions": conditions},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        let patch = condition_patch(&pod, "Unschedulable", "full", now);
        let got = patch.as_ref().map(|patch| {
            let condition = &patch["status"]["conditions"][0];
            assert_eq!(condition["observedGeneration"], 3);
            let text = |field: &str| condition[field].as_str().expect("text");
            (text("message"), text("lastTransitionTime"))
        });
        assert_eq!(got, want);
    }

    #[test]
    fn the_condition_is_written_only_when_it_changes() {
        let scheduled = |status: &str, message: &str| {
            json!([{"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        check(json!([]), Some(("full", "2026-01-02T03:04:05Z")));
        check(scheduled("False", "full"), None);
        check(
            scheduled("False", "other"),
            Some(("full", "2026-01-01T00:00:00Z")),
        );
        check(scheduled("True", "full"), Some(("full", "2026-01-02T03:04:05Z")));
    }
}
