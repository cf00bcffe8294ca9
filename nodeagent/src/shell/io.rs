//! Carries out the Pod machine's actions. Each ends with an outcome and a fresh reading of the runtime.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Shared, drain, hooks, pull, start};
use crate::events;
use crate::pod::action::{Action, After, Failure, Observed, Outcome, PodEvent};
use crate::pod::containers::{find, spec};
use crate::probe::ProbeResult;
use crate::probe::prober::{self, Target};
use crate::runtime::{self, ContainerState, RuntimeError};
use crate::spec::fields::Runtime as FieldRuntime;
use crate::spec::sandbox::{log_directory, pod_ref, sandbox};
use crate::spec::security::supported;
use crate::spec::{Objects, resources};
use crate::volume::mount::{self, PodDirectory};

/// Of a termination message. Source: kubelet, `MaxPodTerminationMessageLogLength` and its siblings for log fallback.
const MESSAGE_LIMIT: u64 = 4096;
const FALLBACK_LIMIT: u64 = 2048;
const FALLBACK_LINES: usize = 80;
/// A stop below this leaves no time for the runtime to ask first. Source: kubelet, `minimumGracePeriodInSeconds`.
const GRACE_AFTER_HOOK: Duration = Duration::from_secs(2);

/// One action's surroundings, as they were when it was asked for.
#[derive(Clone)]
pub struct Context {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    /// Of the ready sandbox; the node's own on the host network.
    pub ips: Vec<IpAddr>,
}

impl Context {
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn directory(&self) -> PodDirectory {
        PodDirectory::new(&self.shared.pods, self.uid())
    }

    pub fn record(&self, event: &PodEvent) {
        self.shared.record(&self.pod, event);
    }

    pub fn field_runtime(&self) -> FieldRuntime {
        let text = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect();
        FieldRuntime {
            host_ips: text(&self.shared.node_ips),
            pod_ips: text(&self.ips),
            allocatable: self.shared.allocatable.clone(),
        }
    }

    pub async fn objects(&self) -> Result<Objects, String> {
        let found = self.shared.objects.get(&self.pod).await?;
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut services = self.shared.services.list_namespace(namespace);
        if namespace != "default" {
            services.extend(
                self.shared
                    .services
                    .get(&corten_client::ObjectKey::new("default", "kubernetes")),
            );
        }
        Ok(Objects {
            config_maps: found.config_maps,
            secrets: found.secrets,
            services,
            tokens: BTreeMap::new(),
        })
    }

    /// [`objects`](Self::objects) with what only volumes need.
    async fn volume_objects(&self) -> Result<Objects, String> {
        let (objects, tokens) = tokio::join!(self.objects(), self.shared.tokens.get(&self.pod));
        Ok(Objects { tokens, ..objects? })
    }
}

pub async fn perform(context: Context, action: Action) -> (Action, Outcome, After) {
    let outcome = match &action {
        Action::Observe => Ok(()),
        Action::StartSandbox { attempt } => start_sandbox(&context, *attempt).await,
        Action::StopSandbox { id } => runtime_call(&context, context.shared.runtime.stop_sandbox(id).await),
        Action::RemoveSandbox { id } => {
            runtime_call(&context, context.shared.runtime.remove_sandbox(id).await)
        }
        Action::RemoveContainer { id } => {
            runtime_call(&context, context.shared.runtime.remove_container(id).await)
        }
        Action::MountVolumes | Action::RefreshVolumes => volumes(&context).await,
        Action::EnsureImage { container } => {
            return match pull::ensure(&context, container).await {
                Ok(image) => (action, Outcome::Image(image), After::NotNeeded),
                Err(failure) => (action, Outcome::Failed(failure), After::NotNeeded),
            };
        }
        Action::StartContainer {
            container,
            attempt,
            sandbox_id,
            image,
        } => start::container(&context, container, *attempt, sandbox_id, image).await,
        Action::PostStart { container, id } => hooks::post_start(&context, container, id).await,
        Action::Drain => {
            drain::wait(&context).await;
            Ok(())
        }
        Action::StopContainer { container, id, grace } => {
            stop_container(&context, container, id, *grace).await
        }
        Action::Probe { container, id, kind } => {
            let result = match find(&context.pod, container)
                .and_then(|(spec, _)| Some((kind.spec(&spec)?.clone(), spec)))
            {
                Some((probe, container)) => {
                    let target = Target {
                        container: &container,
                        container_id: id,
                        pod_ip: context.ips.first().copied(),
                    };
                    prober::probe(&context.shared.runtime, &target, &probe).await
                }
                None => ProbeResult::Error("the container has no such probe".to_owned()),
            };
            return (action, Outcome::Probed(result), After::NotNeeded);
        }
        Action::TearDown => tear_down(&context).await,
        Action::RemoveData => remove_data(&context).await,
        // The worker does these itself.
        Action::DeleteObject
        | Action::Record(_)
        | Action::Remember(_)
        | Action::WakeAt(_)
        | Action::Forget => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) => Outcome::Done,
        Err(failure) => Outcome::Failed(failure),
    };
    let after = match &action {
        Action::MountVolumes
        | Action::RefreshVolumes
        | Action::PostStart { .. }
        | Action::Drain
        | Action::TearDown
        | Action::RemoveData => After::NotNeeded,
        _ => read(&context.shared, &context.pod).await,
    };
    // A reading that was the whole action and failed has to be tried again.
    let outcome = match (&action, &after) {
        (Action::Observe, After::Unread { .. }) => Outcome::Failed(Failure::new(
            "RuntimeUnavailable",
            "the container runtime does not answer",
        )),
        _ => outcome,
    };
    (action, outcome, after)
}

/// Reads the Pod's sandboxes and the termination messages of what has ended.
pub async fn read(shared: &Shared, pod: &Pod) -> After {
    let reading = shared.next_reading();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match shared.runtime.sandboxes_of(uid).await {
        Ok(sandboxes) => {
            shared.owners.learn(uid, &sandboxes);
            let mut observed = Observed {
                reading,
                sandboxes,
                ..Observed::default()
            };
            let directory = PodDirectory::new(&shared.pods, uid);
            for container in observed.sandboxes.iter().flat_map(|sandbox| &sandbox.containers) {
                if let Some(message) = message(pod, container, &directory).await {
                    observed.messages.insert(container.id.clone(), message);
                }
            }
            After::Read(observed)
        }
        Err(error) => {
            tracing::debug!(%error, uid, "read the Pod's state");
            After::Unread { reading }
        }
    }
}

/// The container's last words: its termination log, or, if asked for, the end of its log.
async fn message(pod: &Pod, container: &runtime::Container, directory: &PodDirectory) -> Option<String> {
    let ContainerState::Exited(exit) = &container.state else {
        return None;
    };
    let (spec, _) = find(pod, &container.name)?;
    let path = directory.termination_log(&container.name, container.attempt);
    let text = read_end(&path, MESSAGE_LIMIT).await;
    if text.as_ref().is_some_and(|text| !text.is_empty()) {
        return text;
    }
    let fall_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !fall_back || exit.exit_code == 0 {
        return None;
    }
    let log = read_end(&container.log_path, FALLBACK_LIMIT * 4).await?;
    let mut lines: Vec<u8> = Vec::new();
    let mut formatter = crate::logs::format::Formatter::new(Default::default());
    let all: Vec<&str> = log.lines().collect();
    for line in &all[all.len().saturating_sub(FALLBACK_LINES)..] {
        formatter.feed(line.as_bytes(), &mut lines);
    }
    let start = lines.len().saturating_sub(FALLBACK_LIMIT as usize);
    Some(String::from_utf8_lossy(&lines[start..]).into_owned())
}

async fn read_end(path: &Path, limit: u64) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let mut file = tokio::fs::File::open(path).await.ok()?;
    let length = file.metadata().await.ok()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(limit)))
        .await
        .ok()?;
    let mut data = Vec::new();
    file.take(limit).read_to_end(&mut data).await.ok()?;
    Some(String::from_utf8_lossy(&data).into_owned())
}

async fn start_sandbox(context: &Context, attempt: u32) -> Result<(), Failure> {
    let shared = &context.shared;
    let _permit = shared.starts.acquire().await;
    let wanted = sandbox(&context.pod, attempt, &shared.place);
    let limits = resources::of_pod(&context.pod);
    let (cgroups, parent, logs) = (
        shared.cgroups.clone(),
        wanted.cgroup_parent.clone(),
        wanted.log_directory.clone(),
    );
    let prepare = || {
        blocking(move || {
            std::fs::create_dir_all(&logs)?;
            cgroups.map_or(Ok(()), |cgroups| cgroups.create(&parent, &limits))
        })
    };
    let prepared = match supported(&context.pod) {
        Ok(()) => prepare().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let made = match prepared {
        Ok(()) => shared
            .runtime
            .run_sandbox(&wanted)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    made.map(|_| ()).map_err(|message| {
        let message = format!("Failed to create pod sandbox: {message}");
        context.record(&PodEvent::warning(
            events::FAILED_CREATE_POD_SANDBOX,
            message.clone(),
        ));
        Failure::new(events::FAILED_CREATE_POD_SANDBOX, message)
    })
}

fn runtime_call(context: &Context, result: runtime::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(RuntimeError::NotFound(_)) => Ok(()),
        Err(error) => {
            let failure = Failure::new(events::FAILED_KILL_POD, format!("error killing pod: {error}"));
            if !matches!(error, RuntimeError::Unavailable(_)) {
                context.record(&PodEvent::warning(
                    events::FAILED_KILL_POD,
                    failure.message.clone(),
                ));
            }
            Err(failure)
        }
    }
}

async fn stop_container(context: &Context, name: &str, id: &str, grace: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    hooks::pre_stop(context, name, id, grace).await;
    let left = grace
        .saturating_sub(begun.elapsed())
        .max(GRACE_AFTER_HOOK.min(grace));
    runtime_call(context, context.shared.runtime.stop_container(id, left).await)
}

async fn volumes(context: &Context) -> Result<(), Failure> {
    if spec(&context.pod).volumes.as_ref().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let failed = |messages: Vec<String>| {
        for message in &messages {
            context.record(&PodEvent::warning(events::FAILED_MOUNT, message.clone()));
        }
        Failure::new(events::FAILED_MOUNT, messages.join("; "))
    };
    let objects = context
        .volume_objects()
        .await
        .map_err(|message| failed(vec![message]))?;
    let (directory, pod, fields) = (context.directory(), context.pod.clone(), context.field_runtime());
    let made = tokio::task::spawn_blocking(move || {
        mount::set_up(&directory, &pod, &objects, &fields, Timestamp::now())
    })
    .await
    .map_err(|error| failed(vec![error.to_string()]))?;
    made.map_err(|errors| failed(errors.iter().map(ToString::to_string).collect()))
}

async fn tear_down(context: &Context) -> Result<(), Failure> {
    let shared = &context.shared;
    shared.objects.release(context.uid());
    shared.tokens.release(context.uid());
    let directory = context.directory();
    let cgroup = resources::cgroup(&shared.place.cgroup_root, &context.pod);
    let cgroups = shared.cgroups.clone();
    let done = blocking(move || {
        mount::tear_down(&directory)?;
        cgroups.map_or(Ok(()), |cgroups| cgroups.remove(&cgroup))
    });
    done.await
        .map_err(|error| Failure::new(events::FAILED_KILL_POD, error.to_string()))
}

async fn remove_data(context: &Context) -> Result<(), Failure> {
    let directory = context.directory();
    let logs = log_directory(&context.shared.place, &pod_ref(&context.pod));
    let done = blocking(move || {
        mount::remove_all(&directory)?;
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    });
    done.await
        .map_err(|error| Failure::new(events::FAILED_KILL_POD, error.to_string()))?;
    context.shared.state.remove(context.uid());
    context.shared.owners.forget(context.uid());
    Ok(())
}

/// File system work that may wait for a disk.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
