//! What every controller is given: the API, the shared caches, a way to report events, the end of its life.
//!
//! Knows the client crate. Must not know any controller.

use corten_client::{ApiClient, ApiError, Cache, EventRecorder, Informers, KubeKind, Selection};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;

/// Cheap to clone; one per process.
#[derive(Clone)]
pub struct Context {
    pub api: ApiClient,
    pub informers: Informers,
    pub shutdown: CancellationToken,
}

impl Context {
    pub fn new(client: kube::Client, shutdown: CancellationToken) -> Self {
        let api = ApiClient::new(client.clone());
        Context {
            api,
            informers: Informers::new(client, shutdown.clone()),
            shutdown,
        }
    }

    /// The cache of all objects of a kind, shared by all controllers.
    pub fn cache<K: KubeKind>(&self) -> Cache<K> {
        self.informers.informer(Selection::all())
    }

    pub fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(self.api.kube().clone(), component, "", self.shutdown.clone())
    }
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
