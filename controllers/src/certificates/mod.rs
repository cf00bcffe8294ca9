//! CertificateSigningRequests: approved for nodes, signed for the built-in signers, removed when they are old.
//!
//! [`rules`] decides what a signer takes, [`names`] who may have a node's name; the three shells beside them fetch and apply.
//! The authority's key is nowhere here: a [`Signer`] is given.
//!
//! Source: Kubernetes `pkg/controller/certificates`.

mod approver;
mod cleaner;
mod names;
mod rules;
mod signer;
mod tokens;

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use crate::context::Context;

/// What the signing controller asks of whoever holds the authority's key.
pub struct ToSign {
    /// The PKCS#10 request, PEM.
    pub request_pem: String,
    pub usages: Vec<String>,
    /// What the request wants, in seconds; `None`: as long as the signer gives.
    pub seconds: Option<u64>,
}

/// Makes a certificate, PEM, or says why not.
#[derive(Clone)]
pub struct Signer(Arc<dyn Fn(ToSign) -> Result<String, String> + Send + Sync>);

impl Signer {
    pub fn new(sign: impl Fn(ToSign) -> Result<String, String> + Send + Sync + 'static) -> Signer {
        Signer(Arc::new(sign))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

pub async fn run(context: Context, signer: Option<Signer>) {
    tokio::join!(
        approver::run(context.clone()),
        async {
            // Without a key nothing is signed; what others sign is not our matter.
            if let Some(signer) = signer {
                signer::run(context.clone(), signer).await;
            }
        },
        cleaner::run(context.clone()),
        tokens::run(context.of("token-cleaner")),
    );
}

fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == kind && condition.status != "False")
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    certificate(request).is_some()
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = &request.status.as_ref()?.certificate.as_ref()?.0;
    (!bytes.is_empty()).then_some(bytes)
}

/// The request's text.
fn pem(request: &CertificateSigningRequest) -> String {
    String::from_utf8_lossy(&request.spec.request.0).into_owned()
}

/// A patch that adds a condition to what the cache shows; one that was made in between is a conflict.
fn condition(request: &CertificateSigningRequest, kind: &str, reason: &str, message: &str) -> Value {
    let status = serde_json::to_value(&request.status).unwrap_or_default();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({ "type": kind, "status": "True", "reason": reason, "message": message }));
    json!({
        "metadata": { "resourceVersion": request.metadata.resource_version },
        "status": { "conditions": conditions },
    })
}
