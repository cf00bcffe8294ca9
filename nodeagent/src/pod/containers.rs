//! The containers of a Pod by kind, and their counterparts in the runtime.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use sha2::{Digest, Sha256};

use super::action::Observed;
use crate::runtime::{self, ContainerState, Sandbox, SandboxState};

/// Annotation on a runtime container: digest of the fields whose change means "start it anew".
pub const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    Main,
}

pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec
        .as_ref()
        .unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}

pub fn init(pod: &Pod) -> impl DoubleEndedIterator<Item = (&Container, Kind)> {
    spec(pod)
        .init_containers
        .iter()
        .flatten()
        .map(|container| (container, init_kind(container)))
}

pub fn mains(pod: &Pod) -> impl DoubleEndedIterator<Item = &Container> {
    spec(pod).containers.iter()
}

/// Init containers first, in order.
pub fn all(pod: &Pod) -> impl Iterator<Item = (&Container, Kind)> {
    init(pod).chain(mains(pod).map(|container| (container, Kind::Main)))
}

pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<(&'a Container, Kind)> {
    all(pod).find(|(container, _)| container.name == name)
}

fn init_kind(container: &Container) -> Kind {
    if container.restart_policy.as_deref() == Some("Always") {
        Kind::Sidecar
    } else {
        Kind::Init
    }
}

/// Digest of name and image, as the kubelet compares them: other fields of a container cannot change in place.
pub fn hash(container: &Container) -> String {
    let mut digest = Sha256::new();
    digest.update(container.name.as_bytes());
    digest.update([0]);
    digest.update(container.image.as_deref().unwrap_or_default().as_bytes());
    digest.finalize()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Observed {
    /// The sandbox that counts: the newest ready one, else the newest.
    pub fn current(&self) -> Option<&Sandbox> {
        self.sandboxes
            .iter()
            .find(|sandbox| sandbox.state == SandboxState::Ready)
            .or_else(|| self.sandboxes.first())
    }

    pub fn ready(&self) -> Option<&Sandbox> {
        self.current()
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    pub fn containers(&self) -> impl Iterator<Item = &runtime::Container> {
        self.sandboxes
            .iter()
            .flat_map(|sandbox| sandbox.containers.iter())
    }

    /// All attempts of one container, newest first.
    pub fn attempts(&self, name: &str) -> Vec<&runtime::Container> {
        let mut attempts: Vec<_> = self
            .containers()
            .filter(|container| container.name == name)
            .collect();
        attempts.sort_by(|a, b| b.attempt.cmp(&a.attempt).then(b.created_at.cmp(&a.created_at)));
        attempts
    }

    pub fn newest(&self, name: &str) -> Option<&runtime::Container> {
        self.containers()
            .filter(|container| container.name == name)
            .max_by(|a, b| a.attempt.cmp(&b.attempt).then(a.created_at.cmp(&b.created_at)))
    }

    pub fn running(&self) -> impl Iterator<Item = &runtime::Container> {
        self.containers().filter(|container| is_running(container))
    }
}

pub fn is_running(container: &runtime::Container) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

/// The container's entry in the status that the API last had.
pub fn reported<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten())
        .find(|entry| entry.name == name)
}

pub fn is_terminal_phase(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}
