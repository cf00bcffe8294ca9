//! CRI's clients, and the readings that take several of its calls.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_proto::cri;
use corten_proto::cri::image_service_client::ImageServiceClient;
use corten_proto::cri::runtime_service_client::RuntimeServiceClient;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{CALL_LIMIT, Container, ContainerState, MESSAGE_LIMIT, PARALLEL, Result, RuntimeError, Sandbox};
use super::{SandboxState, convert};

/// The raw clients; cheap to clone.
#[derive(Clone)]
pub struct Clients {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

/// Runs one call with a time limit and turns its error into ours.
pub async fn call<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(convert::error(&status)),
        Err(_) => Err(RuntimeError::DeadlineExceeded(format!(
            "{what} took longer than {}s",
            limit.as_secs()
        ))),
    }
}

/// For calls where "gone already" is what was wanted.
pub fn gone_is_fine<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(RuntimeError::NotFound(_)) => Ok(T::default()),
        other => other,
    }
}

pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(RuntimeError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Clients {
    pub fn new(channel: Channel) -> Clients {
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        Clients {
            runtime: runtime.max_encoding_message_size(MESSAGE_LIMIT),
            images: images.max_encoding_message_size(MESSAGE_LIMIT),
        }
    }

    pub async fn list(&self, label_selector: BTreeMap<String, String>) -> Result<Vec<Sandbox>> {
        let mut runtime = self.runtime.clone();
        let filter = cri::PodSandboxFilter {
            label_selector: label_selector.clone(),
            ..Default::default()
        };
        let sandboxes = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) });
        let sandboxes = call(CALL_LIMIT, "ListPodSandbox", sandboxes).await?.items;
        let filter = cri::ContainerFilter {
            label_selector,
            ..Default::default()
        };
        let containers = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) });
        let containers = call(CALL_LIMIT, "ListContainers", containers).await?.containers;
        // What disappears between the listing and its status is simply not there.
        let mut found: BTreeMap<String, Sandbox> = futures::stream::iter(sandboxes)
            .map(|s| async move { self.bare_sandbox(&s.id).await })
            .buffer_unordered(PARALLEL)
            .try_filter_map(|s| async move { Ok(s.map(|s| (s.id.clone(), s))) })
            .try_collect()
            .await?;
        let containers: Vec<Container> = futures::stream::iter(containers)
            .map(|c| async move { self.container_in(&c.id, &c.pod_sandbox_id).await })
            .buffer_unordered(PARALLEL)
            .try_filter_map(|c| async move { Ok(c) })
            .try_collect()
            .await?;
        for container in containers {
            if let Some(sandbox) = found.get_mut(&container.sandbox_id) {
                sandbox.containers.push(container);
            }
        }
        for sandbox in found.values_mut() {
            sandbox
                .containers
                .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        }
        Ok(found.into_values().collect())
    }

    /// With its containers.
    pub async fn sandbox(&self, id: &str) -> Result<Option<Sandbox>> {
        let Some(mut sandbox) = self.bare_sandbox(id).await? else {
            return Ok(None);
        };
        let filter = cri::ContainerFilter {
            pod_sandbox_id: id.to_string(),
            ..Default::default()
        };
        let mut runtime = self.runtime.clone();
        let containers = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) });
        let containers = call(CALL_LIMIT, "ListContainers", containers).await?.containers;
        for container in containers {
            sandbox
                .containers
                .extend(self.container_in(&container.id, id).await?);
        }
        sandbox
            .containers
            .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(Some(sandbox))
    }

    pub async fn bare_sandbox(&self, id: &str) -> Result<Option<Sandbox>> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_string(),
            verbose: false,
        };
        let mut runtime = self.runtime.clone();
        let status = call(
            CALL_LIMIT,
            "PodSandboxStatus",
            runtime.pod_sandbox_status(request),
        )
        .await;
        Ok(optional(status)?
            .and_then(|r| r.status)
            .and_then(convert::sandbox))
    }

    pub async fn container_in(&self, id: &str, sandbox_id: &str) -> Result<Option<Container>> {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_string(),
            verbose: false,
        };
        let mut runtime = self.runtime.clone();
        let status = call(CALL_LIMIT, "ContainerStatus", runtime.container_status(request)).await;
        Ok(optional(status)?
            .and_then(|r| r.status)
            .map(|s| convert::container(sandbox_id, s)))
    }

    pub async fn container(&self, id: &str) -> Result<Option<Container>> {
        match self.sandbox_of_container(id).await? {
            Some(sandbox_id) => self.container_in(id, &sandbox_id).await,
            None => Ok(None),
        }
    }

    /// CRI's status of a container does not name its sandbox; its listing does.
    pub async fn sandbox_of_container(&self, id: &str) -> Result<Option<String>> {
        let filter = cri::ContainerFilter {
            id: id.to_string(),
            ..Default::default()
        };
        let mut runtime = self.runtime.clone();
        let listed = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) });
        let listed = call(CALL_LIMIT, "ListContainers", listed).await?.containers;
        Ok(listed.into_iter().find(|c| c.id == id).map(|c| c.pod_sandbox_id))
    }

    /// The sandbox that an id belongs to: its own if it is one.
    pub async fn look_up_owner(&self, id: &str) -> Result<Option<String>> {
        match self.sandbox_of_container(id).await? {
            Some(sandbox_id) => Ok(Some(sandbox_id)),
            None => Ok(self.bare_sandbox(id).await?.map(|s| s.id)),
        }
    }

    pub async fn sandbox_has_ended(&self, id: &str) -> bool {
        let sandbox = self.bare_sandbox(id).await;
        !matches!(
            sandbox,
            Ok(Some(Sandbox {
                state: SandboxState::Ready,
                ..
            }))
        )
    }

    pub async fn container_has_ended(&self, id: &str) -> bool {
        let container = self.container_in(id, "").await;
        !matches!(container, Ok(Some(c)) if matches!(c.state, ContainerState::Running { .. } | ContainerState::Created))
    }
}
