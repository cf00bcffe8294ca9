//! Pod start: from the create call to Running seen by a watcher, against the bare CRI calls.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corten_proto::cri;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::figures::{self, Samples};
use crate::processes::{Cluster, IMAGE};

const ROUNDS: usize = 30;

pub async fn run() -> Result<()> {
    let cluster = Cluster::create(1)?;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client().await?);
    let socket = cluster
        .host_directory("node-0")
        .join("containerd/containerd.sock");
    let mut raw = RawCri::connect(&socket).await?;
    let (mut corten, mut bare) = (Samples::default(), Samples::default());
    // One uncounted round of each warms caches for both.
    for round in 0..=ROUNDS {
        let ours = create_and_wait(&pods, &format!("bench-{round}")).await?;
        let theirs = raw.start(round).await?;
        if round > 0 {
            corten.push(ours);
            bare.push(theirs);
        }
        pods.delete(
            &format!("bench-{round}"),
            &DeleteParams::default().grace_period(0),
        )
        .await?;
        raw.remove().await?;
    }
    figures::print("Pod: create -> Running seen by a watcher", &corten);
    figures::print("raw CRI: RunPodSandbox, Create, Start", &bare);
    let ratio = corten.percentile(0.5).as_secs_f64() / bare.percentile(0.5).as_secs_f64();
    figures::ratio("Pod start / raw CRI (p50)", ratio, "at most 1.5");
    Ok(())
}

/// Creates a Pod that sleeps; returns how long it took until a watcher saw it Running.
pub async fn create_and_wait(pods: &Api<Pod>, name: &str) -> Result<Duration> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": IMAGE, "command": ["/bin/sleep", "3600"] }],
        },
    }))?;
    let list = pods.list_metadata(&Default::default()).await?;
    let version = list.metadata.resource_version.context("a list has a version")?;
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(60);
    let mut watch = std::pin::pin!(pods.watch(&params, &version).await?);
    let started = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    while let Some(event) = watch.next().await {
        if let WatchEvent::Modified(pod) | WatchEvent::Added(pod) = event? {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            match phase {
                Some("Running") => return Ok(started.elapsed()),
                Some("Failed") => bail!("Pod {name} failed: {:?}", pod.status),
                _ => {}
            }
        }
    }
    bail!("Pod {name} is not Running after 60 s")
}

/// The same container without Corten: the three calls any kubelet must make.
struct RawCri {
    client: cri::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>,
    sandbox: String,
}

impl RawCri {
    async fn connect(socket: &std::path::Path) -> Result<RawCri> {
        let path = socket.to_path_buf();
        let connector = tower::service_fn(move |_: ::http::Uri| {
            let path = path.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let channel = tonic::transport::Endpoint::from_static("http://containerd")
            .connect_with_connector(connector)
            .await?;
        Ok(RawCri {
            client: cri::runtime_service_client::RuntimeServiceClient::new(channel),
            sandbox: String::new(),
        })
    }

    async fn start(&mut self, round: usize) -> Result<Duration> {
        let name = format!("raw-{round}");
        let config = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "raw".into(),
                attempt: 0,
            }),
            hostname: name,
            log_directory: "/tmp".into(),
            linux: Some(cri::LinuxPodSandboxConfig::default()),
            ..Default::default()
        };
        let started = Instant::now();
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        self.sandbox = self
            .client
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id;
        let container = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: "main".into(),
                attempt: 0,
            }),
            image: Some(cri::ImageSpec {
                image: IMAGE.into(),
                ..Default::default()
            }),
            command: vec!["/bin/sleep".into(), "3600".into()],
            linux: Some(cri::LinuxContainerConfig::default()),
            ..Default::default()
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let container_id = self
            .client
            .create_container(request)
            .await?
            .into_inner()
            .container_id;
        self.client
            .start_container(cri::StartContainerRequest { container_id })
            .await?;
        Ok(started.elapsed())
    }

    async fn remove(&mut self) -> Result<()> {
        let pod_sandbox_id = std::mem::take(&mut self.sandbox);
        self.client
            .stop_pod_sandbox(cri::StopPodSandboxRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
            })
            .await?;
        self.client
            .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id })
            .await?;
        Ok(())
    }
}
