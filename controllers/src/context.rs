//! What every controller is given: the API, the shared caches, a way to report events, the end of its life.
//!
//! Knows the client crate. Must not know any controller.

use std::any::{Any, TypeId};
use std::sync::Arc;

use corten_client::cache::Decoding;
use corten_client::decode::{self, Omit};
use corten_client::decoded::Decoded;
use corten_client::{ApiClient, ApiError, Cache, EventRecorder, Informers, KubeKind, Selection};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralVolumeSource, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;

/// Gives the client of the controller of this name, or for "" the one of the caches they share.
pub type Clients = Arc<dyn Fn(&str) -> kube::Client + Send + Sync>;

/// Cheap to clone; one per process.
#[derive(Clone)]
pub struct Context {
    clients: Clients,
    /// With the identity of the controller that holds it.
    pub api: ApiClient,
    pub informers: Informers,
    /// Where the scheduler of the same process takes its Pods from, if it has one.
    pub pods: Option<Arc<Decoded<Pod>>>,
    pub shutdown: CancellationToken,
}

impl Context {
    pub fn new(clients: Clients, shutdown: CancellationToken) -> Self {
        let client = clients("");
        Context {
            clients,
            api: ApiClient::new(client.clone()),
            informers: Informers::new(client, shutdown.clone()),
            pods: None,
            shutdown,
        }
    }

    /// The same, acting as the controller of this name.
    pub fn of(&self, controller: &str) -> Self {
        Context {
            api: ApiClient::new((self.clients)(controller)),
            ..self.clone()
        }
    }

    /// The same with caches of its own, which end with `shutdown`.
    pub fn anew(&self, shutdown: CancellationToken) -> Self {
        Context {
            informers: self.informers.beside((self.clients)(""), shutdown.clone()),
            shutdown,
            ..self.clone()
        }
    }

    /// The cache of all objects of a kind, shared by all controllers. A Pod in it lacks what no controller reads.
    pub fn cache<K: KubeKind>(&self) -> Cache<K> {
        let omit = match TypeId::of::<K>() == TypeId::of::<Pod>() {
            true => &NOT_OF_PODS,
            false => &decode::MANAGED,
        };
        let strip = |object: &mut K| {
            if let Some(pod) = (object as &mut dyn Any).downcast_mut::<Pod>() {
                strip_pod(pod);
            }
        };
        let pods: Option<Box<dyn Any>> = self.pods.clone().map(|pods| Box::new(pods.decoding()) as _);
        let events = pods.and_then(|pods| pods.downcast::<Decoding<K>>().ok());
        self.informers
            .informer_stripped(Selection::all(), omit, events.map(|events| *events), strip)
    }

    pub fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(self.api.kube().clone(), component, "", self.shutdown.clone())
    }
}

/// What controllers do not read of a container.
static NOT_OF_CONTAINERS: [(&str, Omit); 12] = [
    ("args", Omit::All),
    ("command", Omit::All),
    ("env", Omit::All),
    ("envFrom", Omit::All),
    ("image", Omit::All),
    ("lifecycle", Omit::All),
    ("livenessProbe", Omit::All),
    ("readinessProbe", Omit::All),
    ("resources", Omit::All),
    ("securityContext", Omit::All),
    ("startupProbe", Omit::All),
    ("volumeMounts", Omit::All),
];

/// What controllers do not read of a Pod, and most Pods have or some have much of: it is not decoded. [`strip_pod`] takes
/// the rest.
pub static NOT_OF_PODS: Omit = Omit::Of(&[
    ("metadata", Omit::Of(&[decode::MANAGED_FIELDS])),
    (
        "spec",
        Omit::Of(&[
            ("affinity", Omit::All),
            ("containers", Omit::Of(&NOT_OF_CONTAINERS)),
            ("ephemeralContainers", Omit::All),
            ("initContainers", Omit::Of(&NOT_OF_CONTAINERS)),
            ("securityContext", Omit::All),
            ("topologySpreadConstraints", Omit::All),
            (
                "volumes",
                Omit::Of(&[
                    ("configMap", Omit::All),
                    ("csi", Omit::All),
                    ("downwardAPI", Omit::All),
                    ("emptyDir", Omit::All),
                    ("hostPath", Omit::All),
                    ("projected", Omit::All),
                    ("secret", Omit::All),
                ]),
            ),
        ]),
    ),
]);

/// Leaves of a Pod what controllers look at: annotations meant for them, where it runs, what it tolerates, the ports of its
/// containers and which of them are sidecars. A Pod's containers are most of it, and there are more Pods than all else.
fn strip_pod(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.starts_with("controller.kubernetes.io/"));
    }
    if let Some(conditions) = pod.status.as_mut().and_then(|status| status.conditions.as_mut()) {
        conditions.shrink_to_fit();
    }
    let Some(spec) = &mut pod.spec else { return };
    let old = std::mem::take(spec);
    let ports = |container: &Container| container.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let slim = |container: Container| Container {
        name: container.name,
        ports: container.ports,
        restart_policy: container.restart_policy,
        ..Container::default()
    };
    // The list is made in the old one's memory, and a container is 2 KB.
    let mut containers: Vec<Container> = old.containers.into_iter().filter(ports).map(slim).collect();
    containers.shrink_to_fit();
    *spec = PodSpec {
        containers,
        init_containers: old
            .init_containers
            .map(|containers| containers.into_iter().map(slim).collect()),
        volumes: claims_of(old.volumes),
        node_name: old.node_name,
        tolerations: old.tolerations.map(|mut tolerations| {
            tolerations.shrink_to_fit();
            tolerations
        }),
        priority: old.priority,
        host_network: old.host_network,
        hostname: old.hostname,
        subdomain: old.subdomain,
        restart_policy: old.restart_policy,
        readiness_gates: old.readiness_gates,
        ..PodSpec::default()
    };
}

/// Of volumes, those that name claims, and no more of them than that.
fn claims_of(volumes: Option<Vec<Volume>>) -> Option<Vec<Volume>> {
    let slim = |volume: Volume| {
        let ephemeral = volume.ephemeral.map(|_| EphemeralVolumeSource::default());
        (volume.persistent_volume_claim.is_some() || ephemeral.is_some()).then(|| Volume {
            name: volume.name,
            persistent_volume_claim: volume.persistent_volume_claim,
            ephemeral,
            ..Volume::default()
        })
    };
    let claims: Vec<Volume> = volumes?.into_iter().filter_map(slim).collect();
    (!claims.is_empty()).then_some(claims)
}

/// A sync that could not finish. It is tried again with back-off, so one variant serves all.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("{doing}")]
    Api { doing: String, source: ApiError },
    /// The object asks for something that no retry can give.
    #[error("{0}")]
    Invalid(String),
}

/// Says what was being done when the API refused.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SyncError>;
}

impl<T> Doing<T> for Result<T, ApiError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SyncError> {
        self.map_err(|source| SyncError::Api {
            doing: what(),
            source,
        })
    }
}

/// The API's times have whole seconds.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
