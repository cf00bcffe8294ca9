//! Asking for a certificate: a CertificateSigningRequest, and the wait until somebody has decided it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::identity::{Identity, IdentityError};
use crate::error::ApiError;
use crate::informers::{Informers, Selection};
use crate::object::ObjectKey;
use crate::request::ApiClient;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODES: &str = "system:nodes";
/// A request that nobody has decided for so long is told about.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("make a key")]
    Key(#[from] rcgen::Error),
    #[error("ask for a certificate")]
    Api(#[source] ApiError),
    #[error("the cluster refused a certificate for node {node:?}: {reason}")]
    Denied { node: String, reason: String },
    #[error("the cluster could not sign the certificate of node {node:?}: {reason}")]
    Failed { node: String, reason: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("stopped while waiting for a certificate")]
    Stopped,
}

/// The user that a node acts as.
#[must_use]
pub fn user_of_node(node: &str) -> String {
    format!("system:node:{node}")
}

/// A certificate for node `node` and the key `key_pem`, asked for as whoever `client` is. Waits for as long as nobody has
/// decided: a person may have to.
///
/// # Errors
/// A refusal is final; of the others, those of the API may pass.
pub async fn certificate(
    client: &kube::Client,
    node: &str,
    key_pem: &str,
    shutdown: &CancellationToken,
) -> Result<Identity, RequestError> {
    let key = KeyPair::from_pem(key_pem)?;
    let request = request(node, &key)?;
    let name = request.metadata.name.clone().unwrap_or_default();
    let api = ApiClient::new(client.clone());
    match api.create(&request).await {
        Ok(_) => {}
        // Of an attempt before a crash: the name says the key, so it is ours.
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(RequestError::Api(error)),
    }
    let stop = shutdown.child_token();
    let _stops = stop.clone().drop_guard();
    let decided = Arc::new(Notify::new());
    let wake = decided.clone();
    let cache = Informers::new(client.clone(), stop)
        .informer::<CertificateSigningRequest>(Selection::fields(format!("metadata.name={name}")));
    cache.on_change(move |_| wake.notify_one());
    let mut told = false;
    loop {
        if let Some(outcome) = cache
            .get(&ObjectKey::cluster(&name))
            .and_then(|found| outcome(&found, node))
        {
            return Ok(Identity::new(outcome?, key_pem.to_owned())?);
        }
        tokio::select! {
            () = decided.notified() => {}
            () = shutdown.cancelled() => return Err(RequestError::Stopped),
            () = tokio::time::sleep(PATIENCE), if !told => {
                told = true;
                tracing::warn!(request = name, "the certificate request waits for approval: kubectl certificate approve {name}");
            }
        }
    }
}

/// A new key, PEM.
///
/// # Errors
/// Only without randomness.
pub fn new_key() -> Result<String, RequestError> {
    Ok(KeyPair::generate()?.serialize_pem())
}

fn request(node: &str, key: &KeyPair) -> Result<CertificateSigningRequest, RequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, NODES);
    params
        .distinguished_name
        .push(DnType::CommonName, user_of_node(node));
    let text = params.serialize_request(key)?.pem()?;
    // From what must not change between two attempts: the signature differs each time.
    let digest = Sha256::new()
        .chain_update(node)
        .chain_update([0])
        .chain_update(key.subject_public_key_info())
        .finalize();
    let hash: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(format!("node-csr-{hash}")),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(text.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["digital signature".into(), "client auth".into()]),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    })
}

/// The certificate or the refusal; `None` while nobody has decided.
fn outcome(found: &CertificateSigningRequest, node: &str) -> Option<Result<String, RequestError>> {
    let status = found.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        let node = node.to_owned();
        let reason = condition
            .message
            .clone()
            .filter(|text| !text.is_empty())
            .or_else(|| condition.reason.clone())
            .unwrap_or_default();
        match condition.type_.as_str() {
            "Denied" => return Some(Err(RequestError::Denied { node, reason })),
            "Failed" => return Some(Err(RequestError::Failed { node, reason })),
            _ => {}
        }
    }
    let certificate = status.certificate.as_ref().filter(|bytes| !bytes.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

/// Seconds from now until `at`; none if it is over.
pub(super) fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.duration_since(now).try_into().unwrap_or_default()
}
