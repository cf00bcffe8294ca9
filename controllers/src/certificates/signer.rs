//! Signs approved requests of the four built-in signers.
//!
//! Source: Kubernetes `pkg/controller/certificates/signer`.

use std::sync::Arc;

use corten_api::kinds::certificates::request;
use corten_client::{ApiClient, Cache, Change, Controller, ObjectExt, ObjectKey, Patch, Requeue, Writes};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use super::{Signer, ToSign, condition, has_condition, is_issued, pem, rules};
use crate::context::{Context, SyncError};

const WORKERS: usize = 2;
/// Least life of a certificate that a request can have, in seconds. Source: upstream's sanity check.
const MIN_SECONDS: u64 = 600;

struct Ctx {
    api: ApiClient,
    requests: Cache<CertificateSigningRequest>,
    signer: Signer,
}

pub async fn run(context: Context, signer: Signer) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        requests: context.cache(),
        signer,
    });
    Controller::new("csrsigning")
        .workers(WORKERS)
        .watch(&ctx.requests, |change| match change {
            Change::Applied { new, .. } if is_due(new) => vec![new.key()],
            _ => vec![],
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

/// Approved for one of our signers, and neither signed nor refused yet.
fn is_due(asked: &CertificateSigningRequest) -> bool {
    rules::is_ours(&asked.spec.signer_name)
        && has_condition(asked, "Approved")
        && !has_condition(asked, "Denied")
        && !has_condition(asked, "Failed")
        && !is_issued(asked)
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(asked) = ctx.requests.get(key).filter(|asked| is_due(asked)) else {
        return Ok(None);
    };
    let mut patch = decide(&asked, &ctx.signer)?;
    patch["metadata"]["uid"] = asked.uid().into();
    let written = ctx
        .api
        .patch_status::<CertificateSigningRequest>(key, &Patch::Merge(patch))
        .await;
    match written {
        Ok(written) => writes.wrote(&ctx.requests, written.revision),
        Err(error) if error.is_not_found() => {}
        Err(source) => {
            let doing = format!("sign {key}");
            return Err(SyncError::Api { doing, source });
        }
    }
    Ok(None)
}

/// The certificate, or the condition that says why there will be none.
///
/// # Errors
/// The signer failed; that may pass.
fn decide(asked: &CertificateSigningRequest, signer: &Signer) -> Result<Value, SyncError> {
    let (text, usages) = (pem(asked), asked.spec.usages.clone().unwrap_or_default());
    let checked =
        request::names(&text).and_then(|names| rules::check(&asked.spec.signer_name, &names, &usages));
    if let Err(why) = checked {
        return Ok(condition(asked, "Failed", "SignerValidationFailure", &why));
    }
    let seconds = asked.spec.expiration_seconds;
    let made = (signer.0)(ToSign {
        request_pem: text,
        usages,
        seconds: seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0).max(MIN_SECONDS)),
    });
    let certificate = made.map_err(|why| SyncError::Invalid(format!("error auto signing csr: {why}")))?;
    let certificate = serde_json::to_value(ByteString(certificate.into_bytes())).unwrap_or_default();
    Ok(json!({ "status": { "certificate": certificate } }))
}
