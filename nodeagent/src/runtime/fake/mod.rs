//! A runtime in memory: no processes, no disk, no clock of its own. For unit tests and hollow nodes.
//!
//! Knows the contract in [`super`]. Two runs with the same calls give the same ids, addresses and times.
//! Failures, exits and exec results are scripted from outside: [`FakeRuntime::fail_next`],
//! [`FakeRuntime::on_start`], [`FakeRuntime::exit`], [`FakeRuntime::on_exec`].

mod calls;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::*;

/// Events kept for a consumer that does not read; beyond it, it gets `Reconnected`.
pub const EVENT_BUFFER: usize = 4096;
/// Calls remembered for [`FakeRuntime::calls`]; the oldest are dropped.
pub const CALL_LOG: usize = 10_000;

/// A call that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    RunSandbox,
    StopSandbox,
    RemoveSandbox,
    List,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ExecSync,
    PullImage,
    ImageStatus,
}

/// What a container does once started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until stopped, then ends with this exit code.
    Run { exit_code_on_stop: i32 },
    /// Ends at once.
    Exit(i32),
}

type OnStart = Arc<dyn Fn(&ContainerSpec) -> Behaviour + Send + Sync>;
type OnExec = Arc<dyn Fn(&Container, &[String]) -> Result<ExecOutput> + Send + Sync>;
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Cheap to clone; all clones are one runtime.
#[derive(Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<RuntimeEvent>,
}

struct State {
    clock: Clock,
    next_id: u64,
    sandboxes: BTreeMap<String, Sandbox>,
    specs: HashMap<String, ContainerSpec>,
    behaviour: HashMap<String, Behaviour>,
    images: BTreeMap<String, Image>,
    /// Images that a pull would find.
    registry: BTreeMap<String, Image>,
    failures: HashMap<Call, VecDeque<RuntimeError>>,
    on_start: OnStart,
    on_exec: OnExec,
    calls: VecDeque<String>,
}

impl Default for FakeRuntime {
    fn default() -> FakeRuntime {
        FakeRuntime::new()
    }
}

impl FakeRuntime {
    /// With a logical clock: 2026-01-01 plus one millisecond for each time it is read.
    pub fn new() -> FakeRuntime {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a constant");
        let ticks = std::sync::atomic::AtomicI64::new(0);
        FakeRuntime::with_clock(Arc::new(move || {
            start + SignedDuration::from_millis(ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }))
    }

    pub fn with_clock(clock: Clock) -> FakeRuntime {
        let state = State {
            clock,
            next_id: 1,
            sandboxes: BTreeMap::new(),
            specs: HashMap::new(),
            behaviour: HashMap::new(),
            images: BTreeMap::new(),
            registry: BTreeMap::new(),
            failures: HashMap::new(),
            on_start: Arc::new(|_| Behaviour::Run { exit_code_on_stop: 0 }),
            on_exec: Arc::new(|_, _| {
                Ok(ExecOutput {
                    exit_code: 0,
                    stdout: vec![],
                    stderr: vec![],
                })
            }),
            calls: VecDeque::new(),
        };
        FakeRuntime {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::channel(EVENT_BUFFER).0,
        }
    }

    /// The next call of this kind returns `error` and does nothing. Several add up, in order.
    pub fn fail_next(&self, call: Call, error: RuntimeError) {
        self.state
            .lock()
            .failures
            .entry(call)
            .or_default()
            .push_back(error);
    }

    /// Makes an image present, as if imported.
    pub fn add_image(&self, name: &str) -> Image {
        let image = fake_image(name);
        self.state.lock().images.insert(name.to_string(), image.clone());
        image
    }

    /// Makes an image one that a pull finds.
    pub fn publish_image(&self, name: &str) {
        self.state
            .lock()
            .registry
            .insert(name.to_string(), fake_image(name));
    }

    /// Decides what containers do when started. Default: run until stopped, then exit code 0.
    pub fn on_start(&self, decide: impl Fn(&ContainerSpec) -> Behaviour + Send + Sync + 'static) {
        self.state.lock().on_start = Arc::new(decide);
    }

    /// Answers exec calls. Default: exit code 0, no output.
    pub fn on_exec(
        &self,
        answer: impl Fn(&Container, &[String]) -> Result<ExecOutput> + Send + Sync + 'static,
    ) {
        self.state.lock().on_exec = Arc::new(answer);
    }

    /// Ends a running container from outside, as a crash or a kill would.
    pub fn exit(&self, container_id: &str, exit_code: i32) {
        self.end(container_id, exit_code, None);
    }

    pub fn oom_kill(&self, container_id: &str) {
        self.end(container_id, 137, Some("OOMKilled"));
    }

    /// The sandbox's process dies.
    pub fn kill_sandbox(&self, sandbox_id: &str) {
        let known = match self.state.lock().sandboxes.get_mut(sandbox_id) {
            Some(sandbox) => {
                sandbox.state = SandboxState::NotReady;
                sandbox.ips.clear();
                true
            }
            None => false,
        };
        if known {
            self.emit(RuntimeEvent::SandboxExited {
                sandbox_id: sandbox_id.to_string(),
            });
        }
    }

    /// All consumers are told that events may have been lost.
    pub fn reconnect(&self) {
        self.emit(RuntimeEvent::Reconnected);
    }

    /// State-changing calls so far, oldest first: `run_sandbox ns/pod/0`, `start_container name/1`, ...
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.iter().cloned().collect()
    }

    fn emit(&self, event: RuntimeEvent) {
        let _ = self.events.send(event); // nobody listens: fine
    }

    fn end(&self, container_id: &str, exit_code: i32, reason: Option<&str>) {
        let event = self.state.lock().end(container_id, exit_code, reason);
        event.into_iter().for_each(|event| self.emit(event));
    }
}

impl State {
    fn begin(&mut self, call: Call, detail: String) -> Result<()> {
        if self.calls.len() == CALL_LOG {
            self.calls.pop_front();
        }
        self.calls.push_back(detail);
        match self.failures.get_mut(&call).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn id(&mut self, prefix: &str) -> String {
        let id = format!("{prefix}{:08x}", self.next_id);
        self.next_id += 1;
        id
    }

    fn find(&self, container_id: &str) -> Option<&Container> {
        self.sandboxes
            .values()
            .flat_map(|s| &s.containers)
            .find(|c| c.id == container_id)
    }

    fn find_mut(&mut self, container_id: &str) -> Result<&mut Container> {
        let mut all = self.sandboxes.values_mut().flat_map(|s| &mut s.containers);
        all.find(|c| c.id == container_id)
            .ok_or_else(|| not_found("container", container_id))
    }

    fn end(&mut self, container_id: &str, exit_code: i32, reason: Option<&str>) -> Option<RuntimeEvent> {
        let now = self.now();
        let container = self.find_mut(container_id).ok()?;
        let started_at = match &container.state {
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Created => None,
            ContainerState::Exited(_) | ContainerState::Unknown => return None,
        };
        let reason = reason.unwrap_or(if exit_code == 0 { "Completed" } else { "Error" });
        container.state = ContainerState::Exited(Exit {
            exit_code,
            started_at,
            finished_at: now,
            reason: reason.to_string(),
            message: String::new(),
        });
        Some(RuntimeEvent::ContainerExited {
            sandbox_id: container.sandbox_id.clone(),
            container_id: container_id.to_string(),
            exit_code,
            oom_killed: reason == "OOMKilled",
        })
    }

    fn stop(&mut self, container_id: &str) -> Option<RuntimeEvent> {
        let exit_code = match self.behaviour.get(container_id) {
            Some(Behaviour::Run { exit_code_on_stop }) => *exit_code_on_stop,
            _ => 0,
        };
        let running = matches!(self.find(container_id)?.state, ContainerState::Running { .. });
        if running {
            self.end(container_id, exit_code, None)
        } else {
            None
        }
    }

    fn stop_all(&mut self, sandbox_id: &str) -> Vec<RuntimeEvent> {
        let Some(sandbox) = self.sandboxes.get(sandbox_id) else {
            return vec![];
        };
        let ids: Vec<String> = sandbox.containers.iter().map(|c| c.id.clone()).collect();
        let was_ready = sandbox.state == SandboxState::Ready;
        let mut events: Vec<RuntimeEvent> = ids.iter().filter_map(|id| self.stop(id)).collect();
        let sandbox = self.sandboxes.get_mut(sandbox_id).expect("looked up above");
        sandbox.state = SandboxState::NotReady;
        sandbox.ips.clear();
        if was_ready {
            events.push(RuntimeEvent::SandboxExited {
                sandbox_id: sandbox_id.to_string(),
            });
        }
        events
    }
}

fn not_found(kind: &str, id: &str) -> RuntimeError {
    RuntimeError::NotFound(format!("{kind} {id:?} not found"))
}

fn fake_image(name: &str) -> Image {
    use sha2::Digest as _;
    let digest: String = sha2::Sha256::digest(name)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Image {
        id: format!("sha256:{digest}"),
        repo_tags: vec![name.to_string()],
        size_bytes: 1_000_000,
        ..Image::default()
    }
}

fn with_pod_labels(own: &BTreeMap<String, String>, pod: &PodRef) -> BTreeMap<String, String> {
    let mut labels = own.clone();
    labels.insert(labels::POD_NAME.into(), pod.name.clone());
    labels.insert(labels::POD_NAMESPACE.into(), pod.namespace.clone());
    labels.insert(labels::POD_UID.into(), pod.uid.clone());
    labels
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt as _;

    use super::*;

    /// Runs one container in one sandbox under `script`, stops it, and compares the events.
    #[track_caller]
    fn check(script: impl FnOnce(&FakeRuntime), expected: &str) {
        let runtime = FakeRuntime::new();
        runtime.add_image("app");
        script(&runtime);
        let local = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let events = local.block_on(async {
            let events = runtime.events();
            let pod = PodRef {
                uid: "u".into(),
                name: "p".into(),
                namespace: "n".into(),
            };
            let sandbox = SandboxSpec {
                pod,
                ..SandboxSpec::default()
            };
            let spec = ContainerSpec {
                name: "c".into(),
                image: "app".into(),
                ..ContainerSpec::default()
            };
            let result = async {
                let id = runtime.run_sandbox(&sandbox).await?;
                let container = runtime.create_container(&id, &sandbox, &spec).await?;
                runtime.start_container(&container).await?;
                runtime.stop_container(&container, Duration::from_secs(1)).await?;
                runtime.remove_sandbox(&id).await
            };
            let ending = result
                .await
                .map_or_else(|e| format!(" error:{e}"), |()| String::new());
            runtime.reconnect();
            let seen = events.skip(1).take_while(|e| {
                let last = *e == RuntimeEvent::Reconnected;
                async move { !last }
            });
            let names: Vec<String> = seen.map(|e| name(&e)).collect().await;
            names.join(" ") + &ending
        });
        assert_eq!(events, expected);
    }

    fn name(event: &RuntimeEvent) -> String {
        match event {
            RuntimeEvent::ContainerExited { exit_code, .. } => format!("exited:{exit_code}"),
            RuntimeEvent::ContainerStarted { .. } => "started".into(),
            RuntimeEvent::SandboxReady { .. } => "ready".into(),
            RuntimeEvent::SandboxExited { .. } => "sandbox-exited".into(),
            RuntimeEvent::Removed { .. } => "removed".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_life_is_told_by_events() {
        check(|_| {}, "ready started exited:0 sandbox-exited removed");
        check(
            |r| r.on_start(|_| Behaviour::Exit(3)),
            "ready started exited:3 sandbox-exited removed",
        );
    }

    #[test]
    fn failures_are_scripted() {
        let error = RuntimeError::Failed("no".into());
        check(
            move |r| r.fail_next(Call::StartContainer, error),
            "ready error:no",
        );
        check(
            |r| r.state.lock().images.clear(),
            "ready error:image \"app\" not found",
        );
    }
}
