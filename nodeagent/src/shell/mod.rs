//! Performs what the machines decide: reads the API and the runtime, feeds events in, carries actions out.
//!
//! - [`agent`]: which Pods there are, one worker each; runtime events to workers; orphans.
//! - [`worker`]: one Pod: machine, actions under way, status.
//! - [`io`], [`mod@start`], [`hooks`], [`pull`], [`drain`]: the actions.
//! - [`objects`]: ConfigMaps and Secrets that Pods use, each under its own watch; [`tokens`]: of their ServiceAccounts.
//! - [`patch`]: which part of a status has to be sent (pure).
//! - [`state`]: what outlives the process.
//! - [`handlers`]: what the tunnel asks for.

pub mod agent;
pub mod config;
pub mod drain;
pub mod handlers;
pub mod hooks;
pub mod io;
pub mod objects;
pub mod orphans;
pub mod patch;
pub mod pull;
pub mod start;
pub mod state;
pub mod tokens;
pub mod worker;

pub use agent::{AgentError, Running, run, start};

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_api::quantity::ResourceList;
use corten_client::object::object_reference;
use corten_client::{ApiClient, Cache, EventRecorder, EventType};
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::sync::Semaphore;

use crate::logs::rotate::Rotator;
use crate::pod::action::PodEvent;
use crate::pod::containers::{Kind, find};
use crate::pod::status::NodeFacts;
use crate::runtime::Runtime;
use crate::runtime::cgroup::Cgroups;
use crate::spec::sandbox::Place;

/// Sandboxes and containers being started at once on this node; more wait. Each costs several processes of the runtime.
pub const PARALLEL_STARTS: usize = 16;
/// Images being pulled at once. Source: kubelet's `maxParallelImagePulls` is unset (no bound); this one is ours.
pub const PARALLEL_PULLS: usize = 8;

/// What all workers share.
pub struct Shared {
    pub api: ApiClient,
    pub runtime: Arc<dyn Runtime>,
    pub recorder: EventRecorder,
    pub objects: objects::ObjectCache,
    pub tokens: tokens::TokenCache,
    pub services: Cache<Service>,
    pub state: state::State,
    pub rotator: Rotator,
    /// `None` where there are no real cgroups (hollow nodes).
    pub cgroups: Option<Cgroups>,
    pub place: Place,
    pub facts: NodeFacts,
    pub node_ips: Vec<IpAddr>,
    pub allocatable: ResourceList,
    /// Bytes.
    pub node_memory: i64,
    /// `{data}/pods`.
    pub pods: PathBuf,
    /// The node's `/etc/hosts`.
    pub hosts: String,
    pub starts: Semaphore,
    pub pulls: Semaphore,
    readings: AtomicU64,
    pub owners: agent::Owners,
}

impl Shared {
    /// A number higher than all before: readings are ordered by it.
    pub fn next_reading(&self) -> u64 {
        self.readings.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Reports about a Pod, or about one of its containers by field path.
    pub fn record(&self, pod: &Pod, event: &PodEvent) {
        let kind = if event.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let mut about = object_reference(pod);
        if let Some(name) = &event.container {
            let list = match find(pod, name) {
                Some((_, Kind::Main)) | None => "containers",
                Some(_) => "initContainers",
            };
            about.field_path = Some(format!("spec.{list}{{{name}}}"));
        }
        self.recorder
            .event_about(about, kind, event.reason.as_ref(), event.message.clone());
    }
}
