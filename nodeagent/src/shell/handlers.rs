//! What the tunnel asks for: which container or sandbox is meant, and logs.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ContainerState;
use tokio::sync::watch;

use super::agent::Directory;
use super::worker::Snapshot;
use crate::logs::reader;
use crate::pod::containers::{find, is_running};
use crate::tunnel::{ContainerRef, HandlerError, LogOptions, NodeHandlers};

pub struct Handlers {
    pods: Directory,
}

impl Handlers {
    pub fn new(pods: Directory) -> Handlers {
        Handlers { pods }
    }

    fn pod(&self, wanted: &ContainerRef) -> Result<watch::Receiver<Snapshot>, HandlerError> {
        let found = self.pods.lock().get(&wanted.uid).cloned();
        found.ok_or_else(|| {
            HandlerError::NotFound(format!(
                "pod {:?} not found on this node",
                format!("{}/{}", wanted.namespace, wanted.pod)
            ))
        })
    }
}

fn unknown_container(wanted: &ContainerRef) -> HandlerError {
    HandlerError::BadRequest(format!(
        "container {} is not valid for pod {}",
        wanted.container, wanted.pod
    ))
}

#[async_trait]
impl NodeHandlers for Handlers {
    async fn container_id(&self, wanted: &ContainerRef) -> Result<String, HandlerError> {
        let pod = self.pod(wanted)?;
        let snapshot = pod.borrow();
        if find(&snapshot.pod, &wanted.container).is_none() {
            return Err(unknown_container(wanted));
        }
        let newest = snapshot
            .observed
            .newest(&wanted.container)
            .filter(|newest| is_running(newest));
        newest
            .map(|newest| newest.id.clone())
            .ok_or_else(|| HandlerError::NotFound(format!("container not found ({:?})", wanted.container)))
    }

    async fn sandbox_id(&self, wanted: &ContainerRef) -> Result<String, HandlerError> {
        let pod = self.pod(wanted)?;
        let id = pod.borrow().observed.ready().map(|sandbox| sandbox.id.clone());
        id.ok_or_else(|| HandlerError::NotFound(format!("pod {} has no running sandbox", wanted.pod)))
    }

    async fn logs(
        &self,
        wanted: &ContainerRef,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, HandlerError> {
        let mut pod = self.pod(wanted)?;
        let (id, path) = {
            let snapshot = pod.borrow();
            log_of(&snapshot, wanted, options.previous)?
        };
        let (over, ended) = watch::channel(false);
        if options.follow {
            tokio::spawn(async move {
                let is_over =
                    |snapshot: &Snapshot| !snapshot.observed.running().any(|container| container.id == id);
                tokio::select! {
                    // An error means the Pod is gone, which is an end as well.
                    _ = pod.wait_for(is_over) => {}
                    () = over.closed() => {}
                }
                let _ = over.send(true);
                over.closed().await;
            });
        }
        Ok(reader::read(path, options.clone(), ended))
    }
}

/// Id and log file of the attempt that is meant. Messages are the kubelet's.
fn log_of(
    snapshot: &Snapshot,
    wanted: &ContainerRef,
    previous: bool,
) -> Result<(String, std::path::PathBuf), HandlerError> {
    let (name, pod) = (&wanted.container, &wanted.pod);
    if find(&snapshot.pod, name).is_none() {
        return Err(unknown_container(wanted));
    }
    let began = |found: &&crate::runtime::Container| found.state != crate::runtime::ContainerState::Created;
    let attempts: Vec<_> = snapshot
        .observed
        .attempts(name)
        .into_iter()
        .filter(began)
        .collect();
    if let Some(found) = attempts.get(usize::from(previous)) {
        return Ok((found.id.clone(), found.log_path.clone()));
    }
    if previous {
        return Err(HandlerError::BadRequest(format!(
            "previous terminated container {name:?} in pod {pod:?} not found"
        )));
    }
    let statuses = snapshot
        .status
        .container_statuses
        .iter()
        .chain(&snapshot.status.init_container_statuses)
        .flatten();
    let state: Option<ContainerState> = statuses
        .into_iter()
        .find(|entry| entry.name == *name)
        .and_then(|entry| entry.state.clone());
    let reason = state
        .and_then(|state| state.waiting)
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default();
    let text = match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            format!("container {name:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
        }
        "" => format!("container {name:?} in pod {pod:?} is not available"),
        reason => format!("container {name:?} in pod {pod:?} is waiting to start: {reason}"),
    };
    Err(HandlerError::BadRequest(text))
}
