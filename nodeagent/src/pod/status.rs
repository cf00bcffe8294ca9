//! What the API is told about a Pod: a pure function of the Pod, the runtime's state and the machine's notes.
//!
//! Field by field as the kubelet fills them. Must not know how or when the status is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::action::{Observed, Verdict};
use super::conditions::{self, Readiness};
use super::containers::{self, Kind, every, spec};
use super::due::LOST_EXIT_CODE;
use super::machine::{PodMachine, Waiting};
use super::restart::should_restart;
use crate::events;
use crate::runtime::{self, ContainerState, Exit};

/// What the node adds to a Pod's status.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Primary first.
    pub host_ips: Vec<IpAddr>,
    /// For ids: `containerd`.
    pub runtime_name: String,
}

/// Everything the status is made from.
pub struct View<'a> {
    pub pod: &'a Pod,
    pub observed: &'a Observed,
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// By id of a running container: (started, ready).
    pub running: BTreeMap<String, (bool, bool)>,
    pub verdict: Option<&'a Verdict>,
    /// The node never took the Pod.
    pub rejected: bool,
    /// Nothing of the Pod starts again: it is being deleted or has run its course.
    pub over: bool,
}

impl PodMachine {
    /// `None` until the runtime was read once: before that the API's own status is the better one.
    pub fn status(&self, node: &NodeFacts, now: Timestamp) -> Option<PodStatus> {
        let observed = self.observed()?;
        let running = observed
            .running()
            .map(|found| {
                let started = self.is_started(&found.name, &found.id);
                (found.id.clone(), (started, self.is_ready(&found.name, &found.id)))
            })
            .collect();
        let over = self.pod().metadata.deletion_timestamp.is_some() || self.is_gone() || self.is_finished();
        let view = View {
            pod: self.pod(),
            observed,
            waiting: self.waiting(),
            running,
            verdict: self.verdict(),
            rejected: self.verdict().is_some() && !self.memory().admitted,
            over,
        };
        Some(pod_status(&view, node, now))
    }
}

pub fn pod_status(view: &View<'_>, node: &NodeFacts, now: Timestamp) -> PodStatus {
    let pod = view.pod;
    let previous = pod.status.clone().unwrap_or_default();
    let rejected = view.rejected;
    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        qos_class: previous
            .qos_class
            .clone()
            .or_else(|| Some(corten_api::pod::qos_class(spec(pod)).as_str().to_owned())),
        start_time: previous.start_time.clone().or(Some(Time(whole_second(now)))),
        ..PodStatus::default()
    };
    let host_network = spec(pod).host_network == Some(true);
    status.host_ip = node.host_ips.first().map(ToString::to_string);
    status.host_ips = Some(
        node.host_ips
            .iter()
            .map(|ip| HostIP { ip: ip.to_string() })
            .collect(),
    );
    let sandbox = view.observed.ready();
    let ips: Vec<String> = match sandbox {
        _ if host_network => node.host_ips.iter().map(ToString::to_string).collect(),
        Some(sandbox) => sandbox.ips.iter().map(ToString::to_string).collect(),
        // The address is kept once the sandbox is gone, as long as the Pod is not given another.
        None => previous
            .pod_ips
            .iter()
            .flatten()
            .map(|entry| entry.ip.clone())
            .collect(),
    };
    if !ips.is_empty() && !rejected {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
    if !rejected {
        let of = |wanted: fn(Kind) -> bool| -> Vec<ContainerStatus> {
            every(pod)
                .filter(|(_, kind)| wanted(*kind))
                .map(|(container, kind)| container_status(view, &container, kind, node))
                .collect()
        };
        let init = of(|kind| matches!(kind, Kind::Init | Kind::Sidecar));
        let ephemeral = of(|kind| kind == Kind::Ephemeral);
        status.container_statuses = Some(of(|kind| kind == Kind::Main));
        status.init_container_statuses = (!init.is_empty()).then_some(init);
        status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    }
    status.phase = Some(phase(view, &status, previous.phase.as_deref()).to_owned());
    match view.verdict {
        Some(verdict) => {
            status.reason = Some(verdict.reason.clone());
            let prefix = if rejected { "Pod was rejected: " } else { "" };
            status.message = Some(format!("{prefix}{}", verdict.message));
        }
        None => {
            status.reason = previous.reason.clone();
            status.message = previous.message.clone();
        }
    }
    let has_address = host_network || sandbox.is_some_and(|sandbox| !sandbox.ips.is_empty());
    let readiness = Readiness {
        sandbox_ready: sandbox.is_some() && has_address,
    };
    status.conditions = Some(conditions::conditions(pod, &status, &readiness, now));
    status
}

/// Source: Pod lifecycle, "Pod phase". A terminal phase never changes again.
fn phase<'a>(view: &View<'_>, status: &PodStatus, previous: Option<&'a str>) -> &'a str {
    if let Some(phase @ ("Succeeded" | "Failed")) = previous {
        return phase;
    }
    if view.verdict.is_some() {
        return "Failed";
    }
    let pod = view.pod;
    let by_name = |name: &str, list: &Option<Vec<ContainerStatus>>| -> Option<ContainerStatus> {
        list.iter().flatten().find(|entry| entry.name == name).cloned()
    };
    let ended = |entry: &ContainerStatus| -> Option<i32> {
        let now = entry.state.as_ref().and_then(|state| state.terminated.as_ref());
        let last = entry
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let waits = entry.state.as_ref().is_some_and(|state| state.waiting.is_some());
        now.or(last.filter(|_| waits)).map(|end| end.exit_code)
    };
    let is_up = |entry: &ContainerStatus| entry.state.as_ref().is_some_and(|state| state.running.is_some());
    let mains_begun = containers::mains(pod).any(|container| {
        by_name(&container.name, &status.container_statuses)
            .is_some_and(|entry| is_up(&entry) || ended(&entry).is_some())
    });
    for (container, kind) in containers::init(pod) {
        let Some(entry) = by_name(&container.name, &status.init_container_statuses) else {
            continue;
        };
        let code = ended(&entry);
        let failed = kind == Kind::Init
            && code
                .is_some_and(|code| code != 0 && (view.over || !should_restart(pod, container, kind, code)));
        if failed && !mains_begun {
            return "Failed";
        }
        let done = match kind {
            Kind::Sidecar => entry.started == Some(true) || mains_begun,
            _ => code == Some(0) || mains_begun,
        };
        if !done && !view.over {
            return "Pending";
        }
    }
    let (mut up, mut stopped, mut succeeded, mut waiting) = (0, 0, 0, 0);
    for container in containers::mains(pod) {
        match by_name(&container.name, &status.container_statuses) {
            Some(entry) if is_up(&entry) => up += 1,
            Some(entry) => match ended(&entry) {
                Some(code) => {
                    stopped += 1;
                    succeeded += usize::from(code == 0);
                }
                None => waiting += 1,
            },
            None => waiting += 1,
        }
    }
    if view.over && up == 0 && stopped > 0 {
        return if waiting == 0 && stopped == succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if waiting > 0 {
        return "Pending";
    }
    if up + stopped > 0 { "Running" } else { "Pending" }
}

fn container_status(view: &View<'_>, container: &Container, kind: Kind, node: &NodeFacts) -> ContainerStatus {
    let name = &container.name;
    let attempts = view.observed.attempts(name);
    let previous = containers::reported(view.pod, name);
    let mut status = ContainerStatus {
        name: name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        resources: container
            .resources
            .clone()
            .filter(|resources| resources.requests.is_some() || resources.limits.is_some()),
        allocated_resources: container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.clone()),
        volume_mounts: mounts(container),
        ..ContainerStatus::default()
    };
    let waiting = view.waiting.get(name).filter(|_| !view.over);
    let Some(newest) = attempts
        .iter()
        .copied()
        .find(|found| found.state != ContainerState::Created)
    else {
        lost_or_new(view, &mut status, previous, waiting);
        return status;
    };
    let id = |found: &runtime::Container| format!("{}://{}", node.runtime_name, found.id);
    status.container_id = Some(id(newest));
    status.image_id = newest.image_ref.clone();
    if !newest.image.is_empty() && !newest.image.starts_with("sha256:") {
        status.image = newest.image.clone();
    }
    status.restart_count = newest.attempt.min(i32::MAX as u32) as i32;
    let older = attempts.iter().find(|found| found.attempt < newest.attempt);
    status.last_state = older
        .and_then(|older| terminated(view, older, id(older)))
        .or_else(|| previous_end(previous, &id(newest)));
    match &newest.state {
        ContainerState::Running { started_at } => {
            let (started, ready) = view.running.get(&newest.id).copied().unwrap_or_default();
            status.started = Some(started);
            status.ready = ready && matches!(kind, Kind::Main | Kind::Sidecar);
            let running = ContainerStateRunning {
                started_at: Some(Time(*started_at)),
            };
            status.state = Some(ApiState {
                running: Some(running),
                ..ApiState::default()
            });
        }
        _ => {
            let end = terminated(view, newest, id(newest));
            let succeeded = end
                .as_ref()
                .and_then(|state| state.terminated.as_ref())
                .is_some_and(|end| end.exit_code == 0);
            status.ready = kind == Kind::Init && succeeded;
            match waiting {
                Some(waiting) => {
                    status.last_state = end;
                    status.state = Some(waiting_state(&waiting.reason, &waiting.message));
                }
                None => status.state = end,
            }
        }
    }
    status
}

/// A container without a trace in the runtime: not made yet, or lost after the API had heard of it.
fn lost_or_new(
    view: &View<'_>,
    status: &mut ContainerStatus,
    previous: Option<&ContainerStatus>,
    waiting: Option<&Waiting>,
) {
    if let Some(known) = previous.filter(|known| known.container_id.is_some()) {
        let mut end = known.state.clone().unwrap_or_default();
        if end.terminated.is_none() {
            let gone = if view.over { "deleted" } else { "terminated" };
            end = ApiState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: LOST_EXIT_CODE,
                    reason: Some(events::CONTAINER_STATUS_UNKNOWN.to_owned()),
                    message: Some(format!(
                        "The container could not be located when the pod was {gone}"
                    )),
                    container_id: known.container_id.clone(),
                    ..ContainerStateTerminated::default()
                }),
                ..ApiState::default()
            };
        }
        *status = ContainerStatus {
            ready: false,
            started: Some(false),
            ..known.clone()
        };
        match waiting {
            Some(waiting) => {
                status.last_state = Some(end);
                status.state = Some(waiting_state(&waiting.reason, &waiting.message));
            }
            None => status.state = Some(end),
        }
        return;
    }
    let initializing = containers::init(view.pod).next().is_some();
    let default = if initializing {
        events::POD_INITIALIZING
    } else {
        events::CONTAINER_CREATING
    };
    status.state = Some(match waiting {
        Some(waiting) => waiting_state(&waiting.reason, &waiting.message),
        None => waiting_state(default, ""),
    });
}

/// The end of the attempt before, as the API has it, for when the runtime no longer keeps that container.
fn previous_end(previous: Option<&ContainerStatus>, newest_id: &str) -> Option<ApiState> {
    let previous = previous?;
    let state = previous.state.clone().filter(|state| state.terminated.is_some());
    if previous.container_id.as_deref() == Some(newest_id) {
        previous.last_state.clone()
    } else {
        state
    }
}

fn waiting_state(reason: &str, message: &str) -> ApiState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
    };
    ApiState {
        waiting: Some(waiting),
        ..ApiState::default()
    }
}

fn terminated(view: &View<'_>, found: &runtime::Container, id: String) -> Option<ApiState> {
    let unknown = Exit {
        exit_code: LOST_EXIT_CODE,
        started_at: None,
        finished_at: found.created_at,
        reason: events::CONTAINER_STATUS_UNKNOWN.to_owned(),
        message: "The container could not be located when the pod was terminated".to_owned(),
    };
    let exit = match &found.state {
        ContainerState::Exited(exit) => exit,
        ContainerState::Unknown => &unknown,
        ContainerState::Created | ContainerState::Running { .. } => return None,
    };
    let reason = match exit.reason.as_str() {
        "" if exit.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    // A container's own words (its termination log) win over the runtime's.
    let message = view.observed.messages.get(&found.id).unwrap_or(&exit.message);
    let end = ContainerStateTerminated {
        container_id: Some(id),
        exit_code: exit.exit_code,
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then(|| message.clone()),
        started_at: exit.started_at.map(Time),
        finished_at: Some(Time(exit.finished_at)),
        signal: None,
    };
    Some(ApiState {
        terminated: Some(end),
        ..ApiState::default()
    })
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let of = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(of).collect())
}

/// API times have whole seconds; a finer one would look changed after every round trip.
pub fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
