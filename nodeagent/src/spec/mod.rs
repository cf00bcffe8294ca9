//! From a Pod's spec to what the runtime is asked for. Pure: objects, addresses and paths are passed in.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod container;
pub mod dns;
pub mod env;
pub mod expand;
pub mod fields;
pub mod resources;
pub mod sandbox;
pub mod security;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccountTokenProjection};

/// The API objects a Pod refers to, as far as they exist.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Of the Pod's namespace, and `default/kubernetes`.
    pub services: Vec<Arc<Service>>,
    /// Of the Pod's account, or why there is none.
    pub tokens: BTreeMap<TokenSpec, Result<Arc<str>, String>>,
}

/// What a volume asks of a ServiceAccount's token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenSpec {
    /// Who the token is for; empty: the API server.
    pub audience: String,
    /// Seconds.
    pub life: i64,
}

impl TokenSpec {
    pub fn of(source: &ServiceAccountTokenProjection) -> TokenSpec {
        TokenSpec {
            audience: source.audience.clone().unwrap_or_default(),
            life: source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_LIFE),
        }
    }
}

/// Seconds. Source: Pod v1 API reference, `serviceAccountToken.expirationSeconds`.
const DEFAULT_TOKEN_LIFE: i64 = 60 * 60;

/// A container that cannot be made from its spec as things are: reason `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
