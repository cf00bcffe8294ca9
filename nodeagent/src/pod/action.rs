//! What the Pod machine may ask for, and what comes back: plain data, so that tests compare it and logs print it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::probe::{ProbeKind, ProbeResult};
use crate::runtime::Sandbox;

/// One thing to do for one Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read the Pod's sandboxes from the runtime.
    Observe,
    StartSandbox {
        attempt: u32,
    },
    /// Gives the network back; whatever still runs in it is killed.
    StopSandbox {
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
    MountVolumes,
    /// A ConfigMap or Secret changed: write its volumes again.
    RefreshVolumes,
    /// Make the container's image present, by its pull policy.
    EnsureImage {
        container: String,
    },
    StartContainer {
        container: String,
        attempt: u32,
        sandbox_id: String,
        image: ImageReady,
    },
    PostStart {
        container: String,
        id: String,
    },
    /// The Pod is being deleted: wait until no Service sends it traffic any more.
    Drain,
    /// Runs the preStop hook and stops the container within `grace`.
    StopContainer {
        container: String,
        id: String,
        grace: Duration,
    },
    RemoveContainer {
        id: String,
    },
    Probe {
        container: String,
        id: String,
        kind: ProbeKind,
    },
    /// Unmounts volumes and removes the Pod's cgroup; logs stay.
    TearDown,
    /// Delete the API object with grace 0 and this Pod's uid as precondition.
    DeleteObject,
    /// Removes the Pod's directories, logs included.
    RemoveData,
    Record(PodEvent),
    Remember(Memory),
    WakeAt(Timestamp),
    /// Nothing is left of this Pod here.
    Forget,
}

/// Which action this is: at most one of a key is under way, and a failure holds back its key only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Observe,
    StartSandbox,
    StopSandbox(String),
    RemoveSandbox(String),
    Volumes,
    Image(String),
    Start(String),
    PostStart(String),
    Drain,
    Stop(String),
    Remove(String),
    Probe(String, ProbeKind),
    TearDown,
    DeleteObject,
    RemoveData,
}

impl Action {
    /// `None` for what is done at once and has no end to wait for.
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Action::Observe => Key::Observe,
            Action::StartSandbox { .. } => Key::StartSandbox,
            Action::StopSandbox { id } => Key::StopSandbox(id.clone()),
            Action::RemoveSandbox { id } => Key::RemoveSandbox(id.clone()),
            Action::MountVolumes | Action::RefreshVolumes => Key::Volumes,
            Action::EnsureImage { container } => Key::Image(container.clone()),
            Action::StartContainer { container, .. } => Key::Start(container.clone()),
            Action::PostStart { id, .. } => Key::PostStart(id.clone()),
            Action::Drain => Key::Drain,
            Action::StopContainer { id, .. } => Key::Stop(id.clone()),
            Action::RemoveContainer { id } => Key::Remove(id.clone()),
            Action::Probe { id, kind, .. } => Key::Probe(id.clone(), *kind),
            Action::TearDown => Key::TearDown,
            Action::DeleteObject => Key::DeleteObject,
            Action::RemoveData => Key::RemoveData,
            Action::Record(_) | Action::Remember(_) | Action::WakeAt(_) | Action::Forget => return None,
        })
    }
}

/// What the machine is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// The Pod as the API has it now.
    Desired(std::sync::Arc<k8s_openapi::api::core::v1::Pod>),
    /// The API no longer has this Pod.
    Gone,
    /// A reading of the runtime; an older one than the newest is ignored.
    Observed(Observed),
    /// An action ended.
    Finished {
        action: Action,
        outcome: Outcome,
        after: After,
    },
    /// A ConfigMap, Secret or Service that this Pod uses changed.
    ResourcesChanged,
    /// Images were added or removed: an image that was missing may be there.
    ImagesChanged,
    /// The runtime answers again after it was away.
    RuntimeBack,
    /// The node does not take this Pod.
    Rejected(Verdict),
    /// A timer asked for by `WakeAt` went off.
    Woke,
}

/// The reading made once an action had ended.
#[derive(Debug, Clone, PartialEq)]
pub enum After {
    Read(Observed),
    /// The runtime did not answer; `reading` was drawn after the action's end.
    Unread {
        reading: u64,
    },
    /// The action does not touch the runtime.
    NotNeeded,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done,
    Image(ImageReady),
    Probed(ProbeResult),
    Failed(Failure),
}

/// A failure with Kubernetes' own reason (`ErrImagePull`, `CreateContainerConfigError`, ...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

impl Failure {
    pub fn new(reason: &str, message: impl Into<String>) -> Failure {
        Failure {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Why a Pod ends as Failed without its containers having decided so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// An image that may be started now, with what user checks need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageReady {
    pub id: String,
    pub uid: Option<i64>,
    pub username: String,
}

/// The runtime's state of one Pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Drawn from a counter before the reading began: the higher, the later.
    pub reading: u64,
    /// Newest attempt first.
    pub sandboxes: Vec<Sandbox>,
    /// Termination message by id of an exited container.
    pub messages: BTreeMap<String, String>,
}

/// A Kubernetes Event about the Pod or one of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    pub warning: bool,
    pub reason: Cow<'static, str>,
    pub message: String,
    pub container: Option<String>,
}

impl PodEvent {
    pub fn normal(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> PodEvent {
        PodEvent {
            warning: false,
            reason: reason.into(),
            message: message.into(),
            container: None,
        }
    }

    pub fn warning(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> PodEvent {
        PodEvent {
            warning: true,
            ..PodEvent::normal(reason, message)
        }
    }

    pub fn of(mut self, container: &str) -> PodEvent {
        self.container = Some(container.to_owned());
        self
    }
}

/// What must outlive the agent's process (not the machine's boot).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Number of the next sandbox.
    pub sandbox_attempt: u32,
    /// Highest attempt of each container so far.
    pub attempts: BTreeMap<String, u32>,
    /// Restart back-off of each container.
    pub restarts: BTreeMap<String, super::backoff::Backoff>,
    /// Id of the ended container whose back-off has been served, by container name: its restart is free to go.
    pub served: BTreeMap<String, String>,
    pub verdict: Option<Verdict>,
    /// The node took this Pod: it is not judged again after a restart of the agent.
    pub admitted: bool,
}
