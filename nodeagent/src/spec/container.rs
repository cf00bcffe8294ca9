//! A container of a Pod as the runtime's container.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::expand::expand;
use super::security::SecurityDefaults;
use super::{ConfigError, resources, security};
use crate::pod::action::ImageReady;
use crate::pod::containers::{HASH_ANNOTATION, hash, spec};
use crate::runtime::{ContainerSpec, Mount};

/// What the shell has prepared for one start of a container.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    pub attempt: u32,
    pub image: ImageReady,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// Host file for the termination message.
    pub termination_log: PathBuf,
    pub node_memory: i64,
    pub defaults: SecurityDefaults,
    /// For an ephemeral container with a target: the id of the target's running container.
    pub target: Option<String>,
}

/// # Errors
/// See [`security::of_container`].
pub fn container(pod: &Pod, container: &Container, prepared: Prepared) -> Result<ContainerSpec, ConfigError> {
    let lookup = |name: &str| {
        prepared
            .env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, lookup)).collect()
    };
    let mut security = security::of_container(pod, container, &prepared.image, &prepared.defaults)?;
    security.pid_of = prepared.target.clone();
    let termination_path = container
        .termination_message_path
        .clone()
        .filter(|path| !path.is_empty());
    let mut mounts = prepared.mounts.clone();
    if let Some(path) = termination_path {
        mounts.push(Mount {
            container_path: path,
            host_path: prepared.termination_log.clone(),
            ..Mount::default()
        });
    }
    let grace = spec(pod).termination_grace_period_seconds.unwrap_or(30);
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt: prepared.attempt,
        image: prepared.image.id.clone(),
        user_image: container.image.clone().unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        devices: Vec::new(),
        labels: Default::default(),
        annotations: [
            (HASH_ANNOTATION.to_owned(), hash(container)),
            (
                "io.kubernetes.container.restartCount".to_owned(),
                prepared.attempt.to_string(),
            ),
            (
                "io.kubernetes.container.terminationMessagePath".to_owned(),
                container.termination_message_path.clone().unwrap_or_default(),
            ),
            (
                "io.kubernetes.container.terminationMessagePolicy".to_owned(),
                container.termination_message_policy.clone().unwrap_or_default(),
            ),
            (
                "io.kubernetes.pod.terminationGracePeriod".to_owned(),
                grace.to_string(),
            ),
        ]
        .into(),
        log_path: format!("{}/{}.log", container.name, prepared.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        resources: resources::of_container(pod, container, prepared.node_memory),
        security,
        env: prepared.env,
    })
}
