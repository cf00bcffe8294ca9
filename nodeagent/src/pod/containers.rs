//! The containers of a Pod by kind, and their counterparts in the runtime.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, EphemeralContainer, Pod, PodSpec};
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
    /// Added to a Pod that runs, to look into it; starts once and never again.
    Ephemeral,
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

/// Init containers first, in order; no ephemeral ones.
pub fn all(pod: &Pod) -> impl Iterator<Item = (&Container, Kind)> {
    init(pod).chain(mains(pod).map(|container| (container, Kind::Main)))
}

pub fn ephemeral(pod: &Pod) -> impl Iterator<Item = Container> {
    spec(pod).ephemeral_containers.iter().flatten().map(as_container)
}

/// [`all`], then ephemeral ones.
pub fn every(pod: &Pod) -> impl Iterator<Item = (Cow<'_, Container>, Kind)> {
    let lasting = all(pod).map(|(container, kind)| (Cow::Borrowed(container), kind));
    lasting.chain(ephemeral(pod).map(|container| (Cow::Owned(container), Kind::Ephemeral)))
}

pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<(Cow<'a, Container>, Kind)> {
    every(pod).find(|(container, _)| container.name == name)
}

/// The container whose processes an ephemeral container of this name is to see.
pub fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let containers = spec(pod).ephemeral_containers.iter().flatten();
    let found = containers.into_iter().find(|container| container.name == name)?;
    found
        .target_container_name
        .as_deref()
        .filter(|target| !target.is_empty())
}

/// An ephemeral container has a container's fields, but for the one that names its target.
fn as_container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        lifecycle: from.lifecycle,
        liveness_probe: from.liveness_probe,
        name: from.name,
        ports: from.ports,
        readiness_probe: from.readiness_probe,
        resize_policy: from.resize_policy,
        resources: from.resources,
        restart_policy: from.restart_policy,
        restart_policy_rules: from.restart_policy_rules,
        security_context: from.security_context,
        startup_probe: from.startup_probe,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
    }
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
        .chain(status.ephemeral_container_statuses.iter().flatten())
        .find(|entry| entry.name == name)
}

pub fn is_terminal_phase(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}
