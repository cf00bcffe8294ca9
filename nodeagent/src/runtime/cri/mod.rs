//! A runtime behind a CRI v1 socket: containerd (our own or a given one), CRI-O, any other.
//!
//! Knows CRI. Must not know how the runtime was started. What CRI lacks comes from containerd's own services on
//! the same socket: events and image import.

mod clients;
mod convert;
mod events;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use corten_proto::cri;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};

use self::clients::{Clients, call, gone_is_fine, optional};
pub use self::events::NAMESPACE;
use super::*;

/// Largest message either way, CRI's own bound (an exec's output may take all of it).
const MESSAGE_LIMIT: usize = 16 << 20;
/// Kubernetes' `runtimeRequestTimeout`.
const CALL_LIMIT: Duration = Duration::from_secs(120);
/// Making a sandbox includes the CNI plug-ins' work; as in the kubelet, twice the usual.
const SANDBOX_LIMIT: Duration = Duration::from_secs(240);
/// A pull moves data for as long as it takes; this only frees what hangs for ever.
const PULL_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Added to what the runtime itself enforces, so that its own answer comes first.
const SLACK: Duration = Duration::from_secs(5);
/// Status calls under way at once in a listing.
const PARALLEL: usize = 16;
/// Events kept for a consumer that does not read; beyond it, it gets `Reconnected`.
const EVENT_BUFFER: usize = 4096;

/// A CRI runtime. Connects by itself, again and again; calls fail with `Unavailable` meanwhile.
pub struct CriRuntime {
    clients: Clients,
    channel: Channel,
    owners: events::Owners,
    events: broadcast::Sender<RuntimeEvent>,
    pinned: String,
    _watching: DropGuard,
}

impl CriRuntime {
    /// Needs a running tokio runtime: the watch on events is a task that ends with this object.
    /// `pinned` is the full name of the sandbox image.
    pub fn connect(socket: &Path, pinned: &str) -> Result<CriRuntime> {
        let channel = channel(socket)?;
        let clients = Clients::new(channel.clone());
        let (events, _) = broadcast::channel(EVENT_BUFFER);
        let owners = events::Owners::default();
        let stop = CancellationToken::new();
        let watcher = events::Watcher {
            clients: clients.clone(),
            channel: channel.clone(),
            owners: owners.clone(),
            sender: events.clone(),
        };
        tokio::spawn(watcher.run(stop.clone()));
        let pinned = pinned.to_string();
        Ok(CriRuntime {
            clients,
            channel,
            owners,
            events,
            pinned,
            _watching: stop.drop_guard(),
        })
    }

    fn emit(&self, event: RuntimeEvent) {
        let _ = self.events.send(event); // nobody listens: fine
    }

    async fn list_matching(&self, labels: BTreeMap<String, String>) -> Result<Vec<Sandbox>> {
        let mut found = self.clients.list(labels).await?;
        for sandbox in &found {
            self.owners.learn(&sandbox.id, &sandbox.id);
            sandbox
                .containers
                .iter()
                .for_each(|c| self.owners.learn(&c.id, &sandbox.id));
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }
}

/// A lazily connected channel to a unix socket.
pub(super) fn channel(socket: &Path) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
    let endpoint = endpoint.map_err(|e| RuntimeError::Invalid(format!("{}: {e}", socket.display())))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(10)).connect_lazy())
}

fn image_spec(image: &str) -> Option<cri::ImageSpec> {
    Some(cri::ImageSpec {
        image: image.to_string(),
        ..Default::default()
    })
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<Version> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::VersionRequest { version: "v1".into() };
        let version = call(CALL_LIMIT, "Version", runtime.version(request)).await?;
        Ok(Version {
            runtime_name: version.runtime_name,
            runtime_version: version.runtime_version,
        })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        let mut runtime = self.clients.runtime.clone();
        let status = call(
            CALL_LIMIT,
            "Status",
            runtime.status(cri::StatusRequest { verbose: false }),
        )
        .await?;
        let conditions = status.status.unwrap_or_default().conditions;
        Ok(RuntimeStatus {
            runtime_ready: convert::condition(&conditions, "RuntimeReady"),
            network_ready: convert::condition(&conditions, "NetworkReady"),
        })
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        let mut runtime = self.clients.runtime.clone();
        let config = Some(convert::sandbox_config(spec));
        let request = cri::RunPodSandboxRequest {
            config,
            runtime_handler: String::new(),
        };
        let id = call(SANDBOX_LIMIT, "RunPodSandbox", runtime.run_pod_sandbox(request))
            .await?
            .pod_sandbox_id;
        self.owners.learn(&id, &id);
        self.emit(RuntimeEvent::SandboxReady {
            sandbox_id: id.clone(),
        });
        Ok(id)
    }

    async fn stop_sandbox(&self, sandbox_id: &str) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: sandbox_id.to_string(),
        };
        gone_is_fine(call(SANDBOX_LIMIT, "StopPodSandbox", runtime.stop_pod_sandbox(request)).await)?;
        Ok(())
    }

    async fn remove_sandbox(&self, sandbox_id: &str) -> Result<()> {
        // Runtimes differ in whether removal stops; stopping twice is fine everywhere.
        self.stop_sandbox(sandbox_id).await?;
        let mut runtime = self.clients.runtime.clone();
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox_id.to_string(),
        };
        gone_is_fine(
            call(
                SANDBOX_LIMIT,
                "RemovePodSandbox",
                runtime.remove_pod_sandbox(request),
            )
            .await,
        )?;
        Ok(())
    }

    async fn sandbox(&self, sandbox_id: &str) -> Result<Option<Sandbox>> {
        self.clients.sandbox(sandbox_id).await
    }

    async fn list(&self) -> Result<Vec<Sandbox>> {
        self.list_matching(BTreeMap::new()).await
    }

    async fn sandboxes_of(&self, pod_uid: &str) -> Result<Vec<Sandbox>> {
        let labels = BTreeMap::from([(labels::POD_UID.to_string(), pod_uid.to_string())]);
        let mut found = self.list_matching(labels).await?;
        found.reverse();
        Ok(found)
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_string(),
            config: Some(convert::container_config(sandbox, spec)),
            sandbox_config: Some(convert::sandbox_config(sandbox)),
        };
        let response = call(CALL_LIMIT, "CreateContainer", runtime.create_container(request)).await?;
        self.owners.learn(&response.container_id, sandbox_id);
        Ok(response.container_id)
    }

    async fn start_container(&self, container_id: &str) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::StartContainerRequest {
            container_id: container_id.to_string(),
        };
        call(CALL_LIMIT, "StartContainer", runtime.start_container(request)).await?;
        if let Some(sandbox_id) = self.owners.get_or_look_up(&self.clients, container_id).await {
            let container_id = container_id.to_string();
            self.emit(RuntimeEvent::ContainerStarted {
                sandbox_id,
                container_id,
            });
        }
        Ok(())
    }

    async fn stop_container(&self, container_id: &str, grace: Duration) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        // Whole seconds are all CRI has; a started second is given in full.
        let timeout = i64::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let request = cri::StopContainerRequest {
            container_id: container_id.to_string(),
            timeout,
        };
        let stop = call(
            CALL_LIMIT.saturating_add(grace),
            "StopContainer",
            runtime.stop_container(request),
        );
        gone_is_fine(stop.await)?;
        Ok(())
    }

    async fn remove_container(&self, container_id: &str) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::RemoveContainerRequest {
            container_id: container_id.to_string(),
        };
        gone_is_fine(call(CALL_LIMIT, "RemoveContainer", runtime.remove_container(request)).await)?;
        Ok(())
    }

    async fn container(&self, container_id: &str) -> Result<Option<Container>> {
        self.clients.container(container_id).await
    }

    async fn update_resources(&self, container_id: &str, resources: &LinuxResources) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container_id.to_string(),
            linux: Some(convert::resources(resources)),
        };
        let update = runtime.update_container_resources(request);
        call(CALL_LIMIT, "UpdateContainerResources", update).await?;
        Ok(())
    }

    async fn reopen_log(&self, container_id: &str) -> Result<()> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::ReopenContainerLogRequest {
            container_id: container_id.to_string(),
        };
        call(
            CALL_LIMIT,
            "ReopenContainerLog",
            runtime.reopen_container_log(request),
        )
        .await?;
        Ok(())
    }

    async fn exec_sync(&self, container_id: &str, cmd: &[String], timeout: Duration) -> Result<ExecOutput> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::ExecSyncRequest {
            container_id: container_id.to_string(),
            cmd: cmd.to_vec(),
            timeout: i64::try_from(timeout.as_millis().div_ceil(1000)).unwrap_or(i64::MAX),
        };
        let limit = match timeout {
            Duration::ZERO => PULL_LIMIT,
            timeout => timeout.saturating_add(SLACK),
        };
        let output = call(limit, "ExecSync", runtime.exec_sync(request)).await?;
        Ok(ExecOutput {
            exit_code: output.exit_code,
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    async fn exec_url(&self, request: &ExecRequest) -> Result<String> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::ExecRequest {
            container_id: request.container_id.clone(),
            cmd: request.cmd.clone(),
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        Ok(call(CALL_LIMIT, "Exec", runtime.exec(request)).await?.url)
    }

    async fn attach_url(&self, request: &AttachRequest) -> Result<String> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::AttachRequest {
            container_id: request.container_id.clone(),
            stdin: request.stdin,
            tty: request.tty,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        Ok(call(CALL_LIMIT, "Attach", runtime.attach(request)).await?.url)
    }

    async fn port_forward_url(&self, sandbox_id: &str, ports: &[u16]) -> Result<String> {
        let mut runtime = self.clients.runtime.clone();
        let port = ports.iter().map(|p| i32::from(*p)).collect();
        let request = cri::PortForwardRequest {
            pod_sandbox_id: sandbox_id.to_string(),
            port,
        };
        Ok(call(CALL_LIMIT, "PortForward", runtime.port_forward(request))
            .await?
            .url)
    }

    async fn stats(&self, container_id: &str) -> Result<Option<ContainerStats>> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::ContainerStatsRequest {
            container_id: container_id.to_string(),
        };
        let stats = call(CALL_LIMIT, "ContainerStats", runtime.container_stats(request)).await;
        Ok(optional(stats)?.and_then(|r| r.stats).and_then(convert::stats))
    }

    async fn list_stats(&self) -> Result<Vec<ContainerStats>> {
        let mut runtime = self.clients.runtime.clone();
        let request = cri::ListContainerStatsRequest { filter: None };
        let stats = call(
            CALL_LIMIT,
            "ListContainerStats",
            runtime.list_container_stats(request),
        )
        .await?;
        Ok(stats.stats.into_iter().filter_map(convert::stats).collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let mut images = self.clients.images.clone();
        let request = cri::ImageStatusRequest {
            image: image_spec(image),
            verbose: false,
        };
        let status = call(CALL_LIMIT, "ImageStatus", images.image_status(request)).await;
        let image = optional(status)?
            .and_then(|r| r.image)
            .filter(|i| !i.id.is_empty());
        Ok(image.map(|i| convert::image(i, &self.pinned)))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let mut images = self.clients.images.clone();
        let list = images.list_images(cri::ListImagesRequest { filter: None });
        let list = call(CALL_LIMIT, "ListImages", list).await?.images;
        Ok(list
            .into_iter()
            .map(|i| convert::image(i, &self.pinned))
            .collect())
    }

    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String> {
        let mut images = self.clients.images.clone();
        let request = cri::PullImageRequest {
            image: image_spec(image),
            auth: auth.map(convert::auth),
            sandbox_config: None,
        };
        Ok(call(PULL_LIMIT, "PullImage", images.pull_image(request))
            .await?
            .image_ref)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let mut images = self.clients.images.clone();
        let request = cri::RemoveImageRequest {
            image: image_spec(image),
        };
        gone_is_fine(call(CALL_LIMIT, "RemoveImage", images.remove_image(request)).await)?;
        Ok(())
    }

    async fn import_image(&self, tar: &Path) -> Result<Vec<String>> {
        let images = super::import::read_archive(tar).await?;
        let mut names = Vec::new();
        for image in images {
            super::import::store(self.channel.clone(), &image).await?;
            for name in &image.names {
                self.wait_for_image(name, &image.id).await?;
                names.push(name.clone());
            }
        }
        Ok(names)
    }

    async fn image_fs(&self) -> Result<FsUsage> {
        let mut images = self.clients.images.clone();
        let info = call(
            CALL_LIMIT,
            "ImageFsInfo",
            images.image_fs_info(cri::ImageFsInfoRequest {}),
        )
        .await?;
        let Some(usage) = info.image_filesystems.into_iter().next() else {
            return Err(RuntimeError::Failed(
                "the runtime reports no image file system".into(),
            ));
        };
        Ok(FsUsage {
            mountpoint: PathBuf::from(usage.fs_id.unwrap_or_default().mountpoint),
            used_bytes: usage.used_bytes.map_or(0, |v| v.value),
            used_inodes: usage.inodes_used.map_or(0, |v| v.value),
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

impl CriRuntime {
    /// Imports an image made in memory, such as the built-in sandbox image.
    pub async fn import(&self, image: &super::import::ImageContent) -> Result<()> {
        super::import::store(self.channel.clone(), image).await?;
        for name in &image.names {
            self.wait_for_image(name, &image.id).await?;
        }
        Ok(())
    }

    /// containerd's CRI plug-in takes up new images through events, a moment after they were stored.
    async fn wait_for_image(&self, name: &str, id: &str) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(10);
        let mut wait = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            if self.image_status(name).await?.is_some_and(|image| image.id == id) {
                return Ok(());
            }
            if waited >= LIMIT {
                let message = format!("image {name} was stored, but the runtime does not show it");
                return Err(RuntimeError::Failed(message));
            }
            tokio::time::sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(200));
        }
    }
}
