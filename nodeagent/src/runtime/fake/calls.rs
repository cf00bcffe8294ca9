//! The [`Runtime`] trait over the fake's state.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_stream::wrappers::BroadcastStream;

use super::*;

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<Version> {
        Ok(Version {
            runtime_name: "fake".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        let ready = Condition {
            ready: true,
            ..Condition::default()
        };
        Ok(RuntimeStatus {
            runtime_ready: ready.clone(),
            network_ready: ready,
        })
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        let id = {
            let mut state = self.state.lock();
            let name = format!("{}/{}/{}", spec.pod.namespace, spec.pod.name, spec.attempt);
            state.begin(Call::RunSandbox, format!("run_sandbox {name}"))?;
            let taken =
                |s: &&Sandbox| s.pod.uid == spec.pod.uid && s.attempt == spec.attempt && s.pod == spec.pod;
            if let Some(other) = state.sandboxes.values().find(taken) {
                return Err(RuntimeError::AlreadyExists(format!(
                    "{name} is reserved for {:?}",
                    other.id
                )));
            }
            let id = state.id("sandbox");
            let host_network = spec.namespaces.network == NamespaceMode::Node;
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 88, 0, 1)) + state.next_id as u32);
            let created_at = state.now();
            let sandbox = Sandbox {
                id: id.clone(),
                pod: spec.pod.clone(),
                attempt: spec.attempt,
                state: SandboxState::Ready,
                created_at,
                ips: if host_network {
                    vec![]
                } else {
                    vec![IpAddr::V4(address)]
                },
                host_network,
                labels: with_pod_labels(&spec.labels, &spec.pod),
                annotations: spec.annotations.clone(),
                containers: vec![],
            };
            state.sandboxes.insert(id.clone(), sandbox);
            id
        };
        self.emit(RuntimeEvent::SandboxReady {
            sandbox_id: id.clone(),
        });
        Ok(id)
    }

    async fn stop_sandbox(&self, sandbox_id: &str) -> Result<()> {
        let events = {
            let mut state = self.state.lock();
            state.begin(Call::StopSandbox, format!("stop_sandbox {sandbox_id}"))?;
            state.stop_all(sandbox_id)
        };
        events.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }

    async fn remove_sandbox(&self, sandbox_id: &str) -> Result<()> {
        let mut events = {
            let mut state = self.state.lock();
            state.begin(Call::RemoveSandbox, format!("remove_sandbox {sandbox_id}"))?;
            let events = state.stop_all(sandbox_id);
            if let Some(sandbox) = state.sandboxes.remove(sandbox_id) {
                for container in sandbox.containers {
                    state.specs.remove(&container.id);
                    state.behaviour.remove(&container.id);
                }
            }
            events
        };
        events.push(RuntimeEvent::Removed {
            id: sandbox_id.to_string(),
        });
        events.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }

    async fn sandbox(&self, sandbox_id: &str) -> Result<Option<Sandbox>> {
        Ok(self.state.lock().sandboxes.get(sandbox_id).cloned())
    }

    async fn list(&self) -> Result<Vec<Sandbox>> {
        let mut state = self.state.lock();
        state.begin(Call::List, "list".into())?;
        Ok(state.sandboxes.values().cloned().collect())
    }

    async fn sandboxes_of(&self, pod_uid: &str) -> Result<Vec<Sandbox>> {
        let state = self.state.lock();
        Ok(state
            .sandboxes
            .values()
            .rev()
            .filter(|s| s.pod.uid == pod_uid)
            .cloned()
            .collect())
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String> {
        let mut state = self.state.lock();
        state.begin(
            Call::CreateContainer,
            format!("create_container {}/{}", spec.name, spec.attempt),
        )?;
        let image = state
            .images
            .values()
            .find(|i| i.id == spec.image || i.repo_tags.contains(&spec.image));
        let Some(image) = image.cloned() else {
            return Err(not_found("image", &spec.image));
        };
        let (id, created_at) = (state.id("container"), state.now());
        let host = state
            .sandboxes
            .get_mut(sandbox_id)
            .ok_or_else(|| not_found("sandbox", sandbox_id))?;
        if host.state != SandboxState::Ready {
            return Err(RuntimeError::Failed(format!(
                "sandbox {sandbox_id:?} is not running"
            )));
        }
        if host
            .containers
            .iter()
            .any(|c| c.name == spec.name && c.attempt == spec.attempt)
        {
            let message = format!("name {}/{} is reserved", spec.name, spec.attempt);
            return Err(RuntimeError::AlreadyExists(message));
        }
        let mut labels = with_pod_labels(&spec.labels, &sandbox.pod);
        labels.insert(labels::CONTAINER_NAME.into(), spec.name.clone());
        host.containers.push(Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_string(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            state: ContainerState::Created,
            created_at,
            image: spec.image.clone(),
            image_ref: image.id,
            log_path: sandbox.log_directory.join(&spec.log_path),
            labels,
            annotations: spec.annotations.clone(),
        });
        state.specs.insert(id.clone(), spec.clone());
        Ok(id)
    }

    async fn start_container(&self, container_id: &str) -> Result<()> {
        let events = {
            let mut state = self.state.lock();
            let name = state
                .find(container_id)
                .map(|c| format!("{}/{}", c.name, c.attempt));
            let name = name.ok_or_else(|| not_found("container", container_id))?;
            state.begin(Call::StartContainer, format!("start_container {name}"))?;
            let started_at = state.now();
            let container = state.find_mut(container_id)?;
            if container.state != ContainerState::Created {
                return Err(RuntimeError::Failed(format!(
                    "container {container_id:?} is not in created state"
                )));
            }
            container.state = ContainerState::Running { started_at };
            let sandbox_id = container.sandbox_id.clone();
            let behaviour = (state.on_start.clone())(&state.specs[container_id]);
            state.behaviour.insert(container_id.to_string(), behaviour);
            let container_id = container_id.to_string();
            let started = RuntimeEvent::ContainerStarted {
                sandbox_id,
                container_id: container_id.clone(),
            };
            let ended = match behaviour {
                Behaviour::Exit(code) => state.end(&container_id, code, None),
                Behaviour::Run { .. } => None,
            };
            [Some(started), ended]
        };
        events.into_iter().flatten().for_each(|event| self.emit(event));
        Ok(())
    }

    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()> {
        let event = {
            let mut state = self.state.lock();
            let name = state
                .find(container_id)
                .map(|c| format!("{}/{}", c.name, c.attempt));
            let name = name.unwrap_or_else(|| container_id.to_string());
            state.begin(
                Call::StopContainer,
                format!("stop_container {name} {}s", grace.as_secs()),
            )?;
            state.stop(container_id)
        };
        event.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }

    async fn remove_container(&self, container_id: &str) -> Result<()> {
        let event = {
            let mut state = self.state.lock();
            state.begin(Call::RemoveContainer, format!("remove_container {container_id}"))?;
            let event = state.stop(container_id);
            for sandbox in state.sandboxes.values_mut() {
                sandbox.containers.retain(|c| c.id != container_id);
            }
            state.specs.remove(container_id);
            state.behaviour.remove(container_id);
            event
        };
        event.into_iter().for_each(|event| self.emit(event));
        self.emit(RuntimeEvent::Removed {
            id: container_id.to_string(),
        });
        Ok(())
    }

    async fn container(&self, container_id: &str) -> Result<Option<Container>> {
        Ok(self.state.lock().find(container_id).cloned())
    }

    async fn update_resources(&self, container_id: &str, resources: &LinuxResources) -> Result<()> {
        let mut state = self.state.lock();
        let spec = state
            .specs
            .get_mut(container_id)
            .ok_or_else(|| not_found("container", container_id))?;
        spec.resources = resources.clone();
        Ok(())
    }

    async fn reopen_log(&self, container_id: &str) -> Result<()> {
        self.state.lock().find_mut(container_id).map(|_| ())
    }

    async fn exec_sync(&self, container_id: &str, cmd: &[String], _timeout: Duration) -> Result<ExecOutput> {
        let (answer, container) = {
            let mut state = self.state.lock();
            state.begin(Call::ExecSync, format!("exec_sync {}", cmd.join(" ")))?;
            let container = state.find_mut(container_id)?.clone();
            (state.on_exec.clone(), container)
        };
        match container.state {
            ContainerState::Running { .. } => answer(&container, cmd),
            _ => Err(RuntimeError::Failed(format!(
                "container {container_id:?} is not running"
            ))),
        }
    }

    async fn exec_url(&self, _request: &ExecRequest) -> Result<String> {
        Err(no_streams())
    }

    async fn attach_url(&self, _request: &AttachRequest) -> Result<String> {
        Err(no_streams())
    }

    async fn port_forward_url(&self, _sandbox_id: &str, _ports: &[u16]) -> Result<String> {
        Err(no_streams())
    }

    async fn stats(&self, container_id: &str) -> Result<Option<ContainerStats>> {
        Ok(self
            .list_stats()
            .await?
            .into_iter()
            .find(|s| s.container_id == container_id))
    }

    async fn list_stats(&self) -> Result<Vec<ContainerStats>> {
        let state = self.state.lock();
        let timestamp = state.now();
        let containers = state.sandboxes.values().flat_map(|s| &s.containers);
        let running = containers.filter_map(|c| match c.state {
            ContainerState::Running { started_at } => Some((c, started_at)),
            _ => None,
        });
        let stats = running.map(|(c, started_at)| ContainerStats {
            container_id: c.id.clone(),
            labels: c.labels.clone(),
            timestamp,
            // One hundredth of a core since the start.
            cpu_usage_nanoseconds: (timestamp.duration_since(started_at).as_nanos() / 100).max(0) as u64,
            memory_working_set_bytes: 10 << 20,
            memory_usage_bytes: 12 << 20,
            memory_rss_bytes: 8 << 20,
            fs_used_bytes: 4096,
        });
        Ok(stats.collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let mut state = self.state.lock();
        state.begin(Call::ImageStatus, format!("image_status {image}"))?;
        Ok(state
            .images
            .values()
            .find(|i| i.id == image || i.repo_tags.iter().any(|t| t == image))
            .cloned())
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn pull_image(&self, image: &str, _auth: Option<&RegistryAuth>) -> Result<String> {
        let found = {
            let mut state = self.state.lock();
            state.begin(Call::PullImage, format!("pull_image {image}"))?;
            let found = state
                .registry
                .get(image)
                .cloned()
                .ok_or_else(|| not_found("image", image))?;
            state.images.insert(image.to_string(), found.clone());
            found
        };
        self.emit(RuntimeEvent::ImageChanged {
            name: image.to_string(),
        });
        Ok(found.id)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.state
            .lock()
            .images
            .retain(|name, i| name != image && i.id != image);
        self.emit(RuntimeEvent::ImageChanged {
            name: image.to_string(),
        });
        Ok(())
    }

    /// Reads nothing: the file's stem becomes the image's name, `docker.io/library/<stem>:latest`.
    async fn import_image(&self, tar: &Path) -> Result<Vec<String>> {
        let stem = tar.file_stem().and_then(|s| s.to_str());
        let stem = stem.ok_or_else(|| RuntimeError::Invalid(format!("{} has no name", tar.display())))?;
        let name = format!("docker.io/library/{stem}:latest");
        self.add_image(&name);
        self.emit(RuntimeEvent::ImageChanged { name: name.clone() });
        Ok(vec![name])
    }

    async fn image_fs(&self) -> Result<FsUsage> {
        let state = self.state.lock();
        let used_bytes = state.images.values().map(|i| i.size_bytes).sum();
        Ok(FsUsage {
            mountpoint: PathBuf::from("/"),
            used_bytes,
            used_inodes: state.images.len() as u64,
        })
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let live = BroadcastStream::new(self.events.subscribe());
        let live = live.map(|event| event.unwrap_or(RuntimeEvent::Reconnected)); // it lagged behind
        futures::stream::iter([RuntimeEvent::Reconnected])
            .chain(live)
            .boxed()
    }
}

fn no_streams() -> RuntimeError {
    RuntimeError::Unsupported("the fake runtime has no streaming server".into())
}
