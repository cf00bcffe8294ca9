//! The agent: which Pods are bound here, one worker for each, and the runtime's events to the worker they concern.
//!
//! A Pod's identity is its uid. A new Pod of a name whose old one is still being ended here waits until that is over.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_client::object::ObjectKey;
use corten_client::{ApiClient, Cache, Change, EventRecorder, Informers, ObjectExt, Selection};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::{AgentConfig, ContainerdMode};
use super::handlers::Handlers;
use super::objects::{ObjectCache, OnChange};
use super::state::State;
use super::tokens::TokenCache;
use super::worker::{self, INBOX, Message, Snapshot};
use super::{PARALLEL_PULLS, PARALLEL_STARTS, Shared, orphans};
use crate::logs::rotate::Rotator;
use crate::node;
use crate::pod::action::{Event, Memory, PodEvent, Verdict};
use crate::pod::admission::{NODE_AFFINITY, admit};
use crate::pod::containers::is_terminal_phase;
use crate::pod::machine::PodMachine;
use crate::pod::status::NodeFacts;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::containerd::{Containerd, Layout, StartError};
use crate::runtime::cri::CriRuntime;
use crate::runtime::{Runtime, RuntimeError, RuntimeEvent, Sandbox};
use crate::spec::sandbox::Place;
use crate::spec::security::SecurityDefaults;
use crate::tunnel;

/// As the `source.component` of its events.
const COMPONENT: &str = "kubelet";
/// Commands of watch handlers to the agent's loop; more than Pods fit a node several times over.
const COMMANDS: usize = 4096;
/// How long the server may take to tell of this node once more.
const READ_NODE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("start the container runtime")]
    Containerd(#[from] StartError),
    #[error("reach the container runtime")]
    Runtime(#[from] RuntimeError),
    #[error("prepare {path}")]
    Directory { path: String, source: io::Error },
    #[error("find the cgroups of this host")]
    Cgroups(#[source] io::Error),
    #[error("read the machine's properties")]
    Machine(#[source] io::Error),
    #[error("watch files")]
    Inotify(#[source] io::Error),
}

/// Which Pod a sandbox or container id belongs to.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<HashMap<String, String>>>);

impl Owners {
    pub fn learn(&self, uid: &str, sandboxes: &[Sandbox]) {
        let mut owners = self.0.lock();
        for sandbox in sandboxes {
            owners.insert(sandbox.id.clone(), uid.to_owned());
            for container in &sandbox.containers {
                owners.insert(container.id.clone(), uid.to_owned());
            }
        }
    }

    pub fn learn_one(&self, uid: &str, id: &str) {
        self.0.lock().insert(id.to_owned(), uid.to_owned());
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().retain(|_, owner| owner != uid);
    }

    fn of(&self, id: &str) -> Option<String> {
        self.0.lock().get(id).cloned()
    }
}

enum Command {
    /// ConfigMaps or Secrets of these Pods changed.
    ResourcesChanged(Vec<String>),
    Forgotten(String),
}

/// Pods as others may see them, by uid.
pub type Directory = Arc<Mutex<BTreeMap<String, watch::Receiver<Snapshot>>>>;

struct Entry {
    key: ObjectKey,
    /// The newest object; of one that has gone, the last.
    pod: Arc<Pod>,
    inbox: mpsc::Sender<Message>,
    /// Counts against the node's resources.
    admitted: bool,
}

struct Agent {
    shared: Arc<Shared>,
    /// What this agent says of its node: until the server's word is there.
    node: Node,
    /// The node as the server has it.
    own: Cache<Node>,
    commands: mpsc::Sender<Command>,
    entries: BTreeMap<String, Entry>,
    names: BTreeMap<ObjectKey, String>,
    /// Pods that wait for the end of their namesake, newest only.
    parked: BTreeMap<ObjectKey, Arc<Pod>>,
    memories: BTreeMap<String, Memory>,
    directory: Directory,
}

/// A running agent.
pub struct Running {
    /// For the tunnel.
    pub handlers: Arc<Handlers>,
    pub runtime: Arc<dyn Runtime>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Ends when `shutdown` was cancelled. Containers run on.
    pub async fn wait(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the agent ended");
        }
    }
}

/// Runs the agent with its own containerd, or the endpoint it is given, until `shutdown`.
///
/// # Errors
/// What keeps it from starting. Later trouble is retried for as long as it runs.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let (runtime, containerd): (Arc<dyn Runtime>, _) = match &config.containerd {
        ContainerdMode::Managed => {
            let layout = Layout {
                dir: config.data_dir.join("containerd"),
                cni_bin_dir: config.data_dir.join("cni/bin"),
                cni_conf_dir: config.data_dir.join("cni/conf"),
            };
            let containerd = Containerd::start(layout, shutdown.clone()).await?;
            (containerd.runtime(), Some(containerd))
        }
        ContainerdMode::Endpoint(socket) => (
            Arc::new(CriRuntime::connect(socket, crate::runtime::import::PAUSE_IMAGE)?),
            None,
        ),
    };
    let (node_name, remote) = (config.node_name.clone(), config.remote.clone());
    let running = start(config, runtime.clone(), shutdown.clone()).await?;
    let handlers = running.handlers.clone();
    tokio::spawn(async move { tunnel::run(&node_name, &remote, handlers, runtime, shutdown).await });
    running.wait().await;
    drop(containerd);
    Ok(())
}

/// Starts the agent over any runtime; used by [`run`], by tests and by hollow nodes.
///
/// # Errors
/// As [`run`].
pub async fn start(
    config: AgentConfig,
    runtime: Arc<dyn Runtime>,
    shutdown: CancellationToken,
) -> Result<Running, AgentError> {
    let made = |path: &Path| -> Result<(), AgentError> {
        let failed = |source| AgentError::Directory {
            path: path.display().to_string(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)
    };
    let pods = config.data_dir.join("pods");
    made(&pods)?;
    let machine =
        node::machine::Machine::read(&config.data_dir, config.floors).map_err(AgentError::Machine)?;
    let resources = node::machine::resources(&machine, &config.capacity, &config.reserved);
    let state_directory = config.data_dir.join("state");
    let (state, memories) =
        State::open(&state_directory, &machine.boot_id).map_err(|source| AgentError::Directory {
            path: state_directory.display().to_string(),
            source,
        })?;
    let version = runtime.version().await?;
    let client = config.client.clone();
    let informers = Informers::new(client.clone(), shutdown.clone());
    let api = ApiClient::new(client.clone());
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let told = commands.clone();
    let on_change: OnChange = Arc::new(move |uids| {
        if told.try_send(Command::ResourcesChanged(uids)).is_err() {
            tracing::warn!("the agent is overloaded; a change of a ConfigMap or Secret is taken up later");
        }
    });
    let shared = Arc::new(Shared {
        objects: ObjectCache::new(api.clone(), on_change.clone(), shutdown.clone()),
        tokens: TokenCache::new(api.clone(), on_change),
        services: informers.informer::<Service>(Selection::all()),
        recorder: EventRecorder::new(client, COMPONENT, &config.node_name, shutdown.clone()),
        api,
        state,
        rotator: Rotator::start(runtime.clone(), shutdown.clone()).map_err(AgentError::Inotify)?,
        cgroups: if config.cgroup_root.is_empty() {
            None
        } else {
            Some(Cgroups::detect().map_err(AgentError::Cgroups)?)
        },
        place: Place {
            logs: pods.join("logs"),
            cgroup_root: config.cgroup_root.clone(),
            defaults: SecurityDefaults {
                root: config.data_dir.join("seccomp").display().to_string(),
                by_default: config.seccomp_default,
                drops_net_raw: config.drop_net_raw,
                no_new_privileges: config.no_new_privileges,
            },
            dns: config.dns.clone(),
            resolv_conf: fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        },
        facts: NodeFacts {
            host_ips: config.node_ips.clone(),
            runtime_name: version.runtime_name.clone(),
        },
        node_ips: config.node_ips.clone(),
        allocatable: resources.allocatable.clone(),
        node_memory: resources
            .capacity
            .get("memory")
            .map_or(0, |memory| memory.value()),
        hosts: fs::read_to_string("/etc/hosts").unwrap_or_default(),
        pods,
        starts: Semaphore::new(PARALLEL_STARTS),
        pulls: Semaphore::new(PARALLEL_PULLS),
        readings: Default::default(),
        owners: Owners::default(),
        runtime: runtime.clone(),
    });
    let identity = node::Identity::new(&config, &machine, &resources, &version);
    let directory = Directory::default();
    let agent = Agent {
        node: identity.object(),
        own: informers.informer(node::selection(&config.node_name)),
        shared: shared.clone(),
        commands,
        entries: BTreeMap::new(),
        names: BTreeMap::new(),
        parked: BTreeMap::new(),
        memories,
        directory: directory.clone(),
    };
    node::start(identity, machine, shared.clone(), &informers, shutdown.clone());
    let bound = informers.informer::<Pod>(Selection::fields(format!("spec.nodeName={}", config.node_name)));
    let task = tokio::spawn(async move {
        tokio::select! {
            () = agent.run(bound, command_queue) => {}
            () = shutdown.cancelled() => {}
        }
    });
    Ok(Running {
        handlers: Arc::new(Handlers::new(directory)),
        runtime,
        task,
    })
}

impl Agent {
    async fn run(mut self, bound: Cache<Pod>, mut commands: mpsc::Receiver<Command>) {
        let mut changes = bound.subscribe();
        // Nothing is judged by a list that never came.
        bound.wait_synced().await;
        self.shared.services.wait_synced().await;
        let mut events = self.shared.runtime.events();
        let mut swept = false;
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(Change::Applied { new, .. }) => self.desired(new).await,
                    Some(Change::Deleted(pod)) => self.gone(pod.metadata.uid.as_deref().unwrap_or_default()).await,
                    Some(Change::Resync) => {
                        self.resync(&bound).await;
                        if !std::mem::replace(&mut swept, true) {
                            let known = self.entries.keys().cloned().collect();
                            tokio::spawn(orphans::sweep(self.shared.clone(), known));
                            self.memories.clear();
                        }
                    }
                    None => return,
                },
                Some(event) = events.next() => self.runtime_event(event).await,
                Some(command) = commands.recv() => match command {
                    Command::ResourcesChanged(uids) => {
                        for uid in uids {
                            self.tell(&uid, Message::event(Event::ResourcesChanged)).await;
                        }
                    }
                    Command::Forgotten(uid) => self.forgotten(&uid).await,
                },
            }
        }
    }

    /// Compares the whole cache with what runs: the oldest Pods first, those that ran before this agent before all.
    async fn resync(&mut self, bound: &corten_client::Cache<Pod>) {
        let mut pods = bound.list();
        let is_known = |pod: &Pod, memories: &BTreeMap<String, Memory>| {
            pod.metadata
                .uid
                .as_ref()
                .and_then(|uid| memories.get(uid))
                .is_some_and(|memory| memory.admitted)
        };
        pods.sort_by_key(|pod| {
            (
                !is_known(pod, &self.memories),
                pod.metadata.creation_timestamp.clone(),
            )
        });
        let present: std::collections::BTreeSet<String> =
            pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let missing: Vec<String> = self
            .entries
            .keys()
            .filter(|uid| !present.contains(*uid))
            .cloned()
            .collect();
        for uid in missing {
            self.gone(&uid).await;
        }
        self.parked
            .retain(|_, pod| pod.metadata.uid.as_ref().is_some_and(|uid| present.contains(uid)));
        for pod in pods {
            self.desired(pod).await;
        }
    }

    async fn desired(&mut self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod.clone();
            return self.tell(&uid, Message::event(Event::Desired(pod))).await;
        }
        let key = ObjectKey::of(&pod.metadata);
        if self.names.contains_key(&key) {
            self.parked.insert(key, pod);
            return;
        }
        self.begin(pod, key).await;
    }

    async fn begin(&mut self, pod: Arc<Pod>, key: ObjectKey) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let memory = self.memories.remove(&uid).unwrap_or_default();
        let known = memory.admitted || memory.verdict.is_some();
        let mut machine = PodMachine::new(pod.clone(), memory);
        let judged = known || is_terminal_phase(&pod) || pod.metadata.deletion_timestamp.is_some();
        let verdict = if judged { Ok(()) } else { self.admit(&pod).await };
        if verdict.is_ok() {
            machine.mark_admitted();
        }
        let admitted = verdict.is_ok() && machine.verdict().is_none();
        let (inbox, receive) = mpsc::channel(INBOX);
        let (snapshot, seen) = watch::channel(Snapshot {
            pod: pod.clone(),
            status: pod.status.clone().unwrap_or_default(),
            ..Snapshot::default()
        });
        self.directory.lock().insert(uid.clone(), seen);
        self.names.insert(key.clone(), uid.clone());
        self.entries.insert(
            uid.clone(),
            Entry {
                key,
                pod: pod.clone(),
                inbox,
                admitted,
            },
        );
        if let Err(verdict) = verdict {
            self.shared.record(
                &pod,
                &PodEvent::warning(verdict.reason.clone(), verdict.message.clone()),
            );
            self.tell(&uid, Message::event(Event::Rejected(verdict))).await;
        }
        let (shared, commands) = (self.shared.clone(), self.commands.clone());
        tokio::spawn(async move {
            worker::run(shared, machine, receive, snapshot).await;
            // An agent that has ended needs no word.
            let _ = commands.send(Command::Forgotten(uid)).await;
        });
    }

    /// Labels that the scheduler knew may not have come here yet: before a Pod fails for them the node is read once more.
    async fn admit(&self, pod: &Pod) -> Result<(), Verdict> {
        let known = self.own.list().into_iter().next();
        let verdict = self.judge(pod, known.as_deref().unwrap_or(&self.node));
        if !verdict
            .as_ref()
            .is_err_and(|verdict| verdict.reason == NODE_AFFINITY)
        {
            return verdict;
        }
        let name = ObjectKey::cluster(self.node.name());
        match tokio::time::timeout(READ_NODE, self.shared.api.get::<Node>(&name)).await {
            Ok(Ok(Some(node))) => self.judge(pod, &node),
            _ => verdict,
        }
    }

    fn judge(&self, pod: &Pod, node: &Node) -> Result<(), Verdict> {
        let others: Vec<&Pod> = self
            .entries
            .values()
            .filter(|entry| entry.admitted)
            .map(|entry| &*entry.pod)
            .collect();
        admit(pod, &others, &self.shared.allocatable, node)
    }

    async fn gone(&mut self, uid: &str) {
        self.parked
            .retain(|_, pod| pod.metadata.uid.as_deref() != Some(uid));
        self.tell(uid, Message::event(Event::Gone)).await;
    }

    async fn forgotten(&mut self, uid: &str) {
        self.directory.lock().remove(uid);
        let Some(entry) = self.entries.remove(uid) else {
            return;
        };
        self.names.remove(&entry.key);
        if let Some(next) = self.parked.remove(&entry.key) {
            self.begin(next, entry.key).await;
        }
    }

    async fn tell(&self, uid: &str, message: Message) {
        if let Some(entry) = self.entries.get(uid) {
            // A worker that has just ended is told nothing more.
            let _ = entry.inbox.send(message).await;
        }
    }

    async fn runtime_event(&mut self, event: RuntimeEvent) {
        let id = match event {
            RuntimeEvent::Reconnected => return self.tell_all(|| Message::event(Event::RuntimeBack)).await,
            RuntimeEvent::ImageChanged { .. } => {
                return self.tell_all(|| Message::event(Event::ImagesChanged)).await;
            }
            RuntimeEvent::Disconnected
            | RuntimeEvent::SandboxReady { .. }
            | RuntimeEvent::ContainerStarted { .. } => return,
            RuntimeEvent::ContainerExited { container_id, .. }
            | RuntimeEvent::ContainerOom { container_id, .. } => container_id,
            RuntimeEvent::SandboxExited { sandbox_id } => sandbox_id,
            RuntimeEvent::Removed { id } => id,
        };
        if let Some(uid) = self.shared.owners.of(&id) {
            self.tell(&uid, Message::Look).await;
        }
    }

    async fn tell_all(&self, message: impl Fn() -> Message) {
        for entry in self.entries.values() {
            let _ = entry.inbox.send(message()).await;
        }
    }
}
