//! What happens in the runtime, without asking it again and again.
//!
//! containerd's own events service comes first, for containerd 1.6 has no CRI event stream; other runtimes are
//! asked for CRI's GetContainerEvents. containerd's CRI plug-in learns of an exit from the same events as we do
//! and updates its records a moment later, hence [`settle`]: an event is passed on only once the state it tells
//! of can be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_proto::containerd::services::events::v1 as ctr;
use corten_proto::containerd::services::events::v1::events_client::EventsClient;
use corten_proto::cri;
use futures::StreamExt as _;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::RuntimeEvent;
use super::clients::Clients;
use crate::runtime::ContainerState;

/// Where CRI keeps its containers in containerd.
pub const NAMESPACE: &str = "k8s.io";
/// Waits between attempts to subscribe: the first, doubled up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Our own event, published to see that the subscription is live: a gRPC server in Go sends no response headers
/// before the first message.
const HELLO_TOPIC: &str = "/corten/hello";
const HELLO_EVERY: Duration = Duration::from_millis(20);
/// A subscription that has not shown our own event by then is tried anew.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// CRI records lag behind containerd's events by milliseconds; after this long the event is passed on anyway.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
const SETTLE_FIRST: Duration = Duration::from_millis(1);
/// Exits that settle at the same time.
const SETTLING: usize = 64;
/// Ids remembered as sandbox or container; beyond it they are looked up anew.
const KNOWN_IDS: usize = 16_384;

/// Which sandbox an id belongs to; a sandbox belongs to itself.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<HashMap<String, String>>>);

impl Owners {
    pub fn learn(&self, id: &str, sandbox_id: &str) {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_IDS {
            known.clear();
        }
        known.insert(id.to_string(), sandbox_id.to_string());
    }

    pub fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }

    fn get(&self, id: &str) -> Option<String> {
        self.0.lock().get(id).cloned()
    }

    pub async fn get_or_look_up(&self, clients: &Clients, id: &str) -> Option<String> {
        if let Some(owner) = self.get(id) {
            return Some(owner);
        }
        let owner = clients.look_up_owner(id).await.ok().flatten()?;
        self.learn(id, &owner);
        Some(owner)
    }
}

pub struct Watcher {
    pub clients: Clients,
    pub channel: Channel,
    pub owners: Owners,
    pub sender: broadcast::Sender<RuntimeEvent>,
}

impl Watcher {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let watcher = Arc::new(self);
        let mut wait = RETRY_FIRST;
        loop {
            let mut connected = false;
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = watcher.clone().subscription(&mut connected) => ended,
            };
            if connected {
                watcher.emit(RuntimeEvent::Disconnected);
                wait = RETRY_FIRST;
            }
            tracing::debug!(reason = %ended, "the runtime's event stream ended");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_LAST),
            }
        }
    }

    fn emit(&self, event: RuntimeEvent) {
        let _ = self.sender.send(event); // nobody listens: fine
    }

    /// One life of a stream. Returns why it ended.
    async fn subscription(self: Arc<Self>, connected: &mut bool) -> Status {
        match self.clone().containerd(connected).await {
            status if status.code() == Code::Unimplemented => self.cri(connected).await,
            status => status,
        }
    }

    async fn containerd(self: Arc<Self>, connected: &mut bool) -> Status {
        let mut client = EventsClient::new(self.channel.clone());
        let filter = |topic: &str| format!("namespace=={NAMESPACE},topic~=\"^{topic}\"");
        let topics = [
            "/tasks/(start|exit|oom)$",
            "/images/",
            "/containers/delete$",
            HELLO_TOPIC,
        ];
        let request = ctr::SubscribeRequest {
            filters: topics.map(filter).to_vec(),
        };
        let subscribe = client.subscribe(Request::new(request));
        let hello = greet(EventsClient::new(self.channel.clone()));
        tokio::pin!(subscribe, hello);
        let stream = tokio::select! {
            stream = &mut subscribe => stream,
            status = &mut hello => return status,
        };
        let mut stream = match stream {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        // containerd serves events a moment before its CRI part takes calls.
        if let Err(status) = self.takes_calls().await {
            return status;
        }
        // The first message is here, so the subscription is live, and nothing later can be missed.
        *connected = true;
        self.emit(RuntimeEvent::Reconnected);
        let settling = Arc::new(Semaphore::new(SETTLING));
        loop {
            match stream.next().await {
                Some(Ok(envelope)) => self.clone().envelope(envelope, &settling).await,
                Some(Err(status)) => return status,
                None => return Status::unavailable("the stream was closed"),
            }
        }
    }

    async fn envelope(self: Arc<Self>, envelope: ctr::Envelope, settling: &Arc<Semaphore>) {
        let bytes = envelope.event.map(|event| event.value).unwrap_or_default();
        match envelope.topic.as_str() {
            "/tasks/exit" => {
                let Ok(exit) = ctr::TaskExit::decode(&bytes[..]) else {
                    return;
                };
                if exit.id != exit.container_id {
                    return; // the end of an exec
                }
                let Ok(permit) = settling.clone().acquire_owned().await else {
                    return;
                };
                tokio::spawn(async move {
                    if let Some(event) = self.exited(&exit.container_id).await {
                        self.emit(event);
                    }
                    drop(permit);
                });
            }
            "/tasks/oom" => {
                let Ok(oom) = ctr::TaskOom::decode(&bytes[..]) else {
                    return;
                };
                if let Some(sandbox_id) = self.owner(&oom.container_id).await {
                    self.emit(RuntimeEvent::ContainerOom {
                        sandbox_id,
                        container_id: oom.container_id,
                    });
                }
            }
            "/containers/delete" => {
                let Ok(delete) = ctr::ContainerDelete::decode(&bytes[..]) else {
                    return;
                };
                self.owners.forget(&delete.id);
                self.emit(RuntimeEvent::Removed { id: delete.id });
            }
            "/images/create" | "/images/update" | "/images/delete" => {
                let Ok(change) = ctr::ImageChange::decode(&bytes[..]) else {
                    return;
                };
                if !change.name.starts_with("sha256:") {
                    self.emit(RuntimeEvent::ImageChanged { name: change.name });
                }
            }
            // Starts are told by our own calls, once CRI has recorded them; greetings are only ours.
            _ => {}
        }
    }

    async fn takes_calls(&self) -> Result<(), Status> {
        let none = cri::PodSandboxFilter {
            id: "none".into(),
            ..cri::PodSandboxFilter::default()
        };
        let request = cri::ListPodSandboxRequest { filter: Some(none) };
        self.clients.runtime.clone().list_pod_sandbox(request).await?;
        Ok(())
    }

    /// The event for an ended task, or `None` if it is no Pod's.
    async fn exited(&self, id: &str) -> Option<RuntimeEvent> {
        let sandbox_id = self.owner(id).await?;
        if sandbox_id == id {
            settle(|| self.clients.sandbox_has_ended(id)).await;
            return Some(RuntimeEvent::SandboxExited { sandbox_id });
        }
        settle(|| self.clients.container_has_ended(id)).await;
        let container = self.clients.container(id).await.ok().flatten();
        let (exit_code, oom_killed) = match container.map(|c| c.state) {
            Some(ContainerState::Exited(exit)) => (exit.exit_code, exit.reason == "OOMKilled"),
            _ => (UNKNOWN_EXIT_CODE, false), // removed meanwhile
        };
        Some(RuntimeEvent::ContainerExited {
            sandbox_id,
            container_id: id.to_string(),
            exit_code,
            oom_killed,
        })
    }

    async fn owner(&self, id: &str) -> Option<String> {
        self.owners.get_or_look_up(&self.clients, id).await
    }

    /// For runtimes that are not containerd.
    async fn cri(self: Arc<Self>, connected: &mut bool) -> Status {
        let mut client = self.clients.runtime.clone();
        let subscribe = client.get_container_events(cri::GetEventsRequest {});
        tokio::pin!(subscribe);
        // Headers may come only with the first event: one that has not failed by now is taken as live.
        let early = tokio::time::timeout(Duration::from_millis(500), &mut subscribe).await;
        if let Ok(Err(status)) = early {
            if status.code() == Code::Unimplemented {
                tracing::error!(
                    "the container runtime has neither containerd's events nor GetContainerEvents; exits are \
                     noticed only when the agent starts"
                );
            }
            return status;
        }
        *connected = true;
        self.emit(RuntimeEvent::Reconnected);
        let stream = match early {
            Ok(stream) => stream,
            Err(_) => subscribe.await,
        };
        let mut stream = match stream {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        loop {
            match stream.next().await {
                Some(Ok(event)) => self.cri_event(event),
                Some(Err(status)) => return status,
                None => return Status::unavailable("the stream was closed"),
            }
        }
    }

    fn cri_event(&self, event: cri::ContainerEventResponse) {
        let sandbox_id = event
            .pod_sandbox_status
            .as_ref()
            .map(|s| s.id.clone())
            .unwrap_or_default();
        let kind = event.container_event_type();
        let id = event.container_id;
        let is_sandbox = sandbox_id == id;
        self.emit(match kind {
            cri::ContainerEventType::ContainerDeletedEvent => RuntimeEvent::Removed { id },
            cri::ContainerEventType::ContainerStoppedEvent if is_sandbox => {
                RuntimeEvent::SandboxExited { sandbox_id }
            }
            cri::ContainerEventType::ContainerStoppedEvent => {
                let status = event.containers_statuses.into_iter().find(|s| s.id == id);
                RuntimeEvent::ContainerExited {
                    sandbox_id,
                    container_id: id,
                    exit_code: status.as_ref().map_or(UNKNOWN_EXIT_CODE, |s| s.exit_code),
                    oom_killed: status.is_some_and(|s| s.reason == "OOMKilled"),
                }
            }
            // Told by our own calls.
            cri::ContainerEventType::ContainerCreatedEvent
            | cri::ContainerEventType::ContainerStartedEvent => return,
        });
    }
}

/// What Kubernetes shows for a container whose end nobody saw.
const UNKNOWN_EXIT_CODE: i32 = 137;

/// Publishes our own event until this future is dropped. Returns only on failure.
async fn greet(mut client: EventsClient<Channel>) -> Status {
    let deadline = tokio::time::Instant::now() + HELLO_LIMIT;
    while tokio::time::Instant::now() < deadline {
        let event = prost_types::Any {
            type_url: "types.corten.dev/Hello".into(),
            value: Vec::new(),
        };
        let mut request = Request::new(ctr::PublishRequest {
            topic: HELLO_TOPIC.into(),
            event: Some(event),
        });
        request
            .metadata_mut()
            .insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        if let Err(status) = client.publish(request).await {
            return status;
        }
        tokio::time::sleep(HELLO_EVERY).await;
    }
    Status::deadline_exceeded("containerd does not deliver events")
}

/// Asks `done` until it says yes, in growing steps up to [`SETTLE_LIMIT`].
async fn settle<F: Future<Output = bool>>(done: impl Fn() -> F) {
    let mut wait = SETTLE_FIRST;
    let mut waited = Duration::ZERO;
    while !done().await && waited < SETTLE_LIMIT {
        tokio::time::sleep(wait).await;
        waited += wait;
        wait *= 2;
    }
}
