//! Aggregated API servers: groups and versions that others serve behind this front end, as APIServices say.
//!
//! Knows which paths are theirs and whether they are available. How they are watched and checked is `follow`'s room, how a
//! request gets there `exchange`'s. Source: Kubernetes `kube-aggregator/pkg/apiserver`.

mod exchange;
pub mod follow;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use corten_api::{meta, registry};
use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use crate::Config;
use crate::outbound::{Place, Trust, tls};

pub use exchange::exchange;

/// One group and version that another server serves.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The APIService's name: `v1.example.com`.
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub place: Place,
    /// `Err`: why no connection can be secure.
    pub tls: Result<Arc<ClientConfig>, String>,
    /// Its stored condition `Available`.
    pub available: bool,
    /// Resources as aggregated discovery shows them; `None` before the first answer.
    pub resources: Option<Arc<Vec<Value>>>,
}

impl Remote {
    /// What an APIService says; `None` for one that this server serves itself.
    pub fn of(service: &Value, config: &Config) -> Option<Remote> {
        let spec = &service["spec"];
        if !spec["service"].is_object() {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, version) = (text(&spec["group"]), text(&spec["version"]));
        // What is built in is served here, whatever an object says.
        let mut built_in = registry().all().iter();
        if group.is_empty() || built_in.any(|ty| ty.group == group && ty.version == version) {
            return None;
        }
        let place = Place::Service {
            namespace: text(&spec["service"]["namespace"]),
            name: text(&spec["service"]["name"]),
            port: u16::try_from(spec["service"]["port"].as_u64().unwrap_or(443)).ok()?,
        };
        Some(Remote {
            name: meta::name(service).to_owned(),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            tls: client_tls(spec, config),
            available: follow::is_available(service),
            resources: None,
            group,
            version,
            place,
        })
    }

    /// `example.com/v1`.
    #[must_use]
    pub fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

fn client_tls(spec: &Value, config: &Config) -> Result<Arc<ClientConfig>, String> {
    let bundle = base64::engine::general_purpose::STANDARD
        .decode(spec["caBundle"].as_str().unwrap_or_default())
        .map_err(|error| format!("caBundle: {error}"))?;
    let trust = match (spec["insecureSkipTLSVerify"] == true, bundle.as_slice()) {
        (true, _) => Trust::Anyone,
        (false, []) => Trust::Host,
        (false, pem) => Trust::Bundle(pem),
    };
    let identity = match config.front_proxy.as_ref().map(|current| current.get()) {
        None => None,
        Some(own) => {
            let unusable = |error: rustls_pki_types::pem::Error| format!("front-proxy certificate: {error}");
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(own.client.cert_pem.as_bytes()).collect();
            Some(tls::Identity {
                chain: chain.map_err(unusable)?,
                key: PrivateKeyDer::from_pem_slice(own.client.key_pem.as_bytes()).map_err(unusable)?,
            })
        }
    };
    tls::client(&trust, identity)
}

/// The groups and versions of others, by group and version.
#[derive(Default)]
pub struct Current(RwLock<Arc<ByGroup>>);

type ByGroup = HashMap<(String, String), Arc<Remote>>;

impl Current {
    /// Who serves this path, if it is one of another server's.
    pub fn of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let all = self.0.read().clone();
        if all.is_empty() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.strip_prefix("/apis/")?.splitn(3, '/');
        let key = (parts.next()?.to_owned(), parts.next()?.to_owned());
        all.get(&key).cloned()
    }

    pub fn set(&self, all: Vec<Arc<Remote>>) {
        let by_group = |remote: Arc<Remote>| ((remote.group.clone(), remote.version.clone()), remote);
        *self.0.write() = Arc::new(all.into_iter().map(by_group).collect());
    }
}
