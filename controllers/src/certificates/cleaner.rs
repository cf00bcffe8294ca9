//! Removes requests that are over: an hour after they were approved or denied, a day after nobody did either.
//!
//! Source: Kubernetes `pkg/controller/certificates/cleaner`. Where upstream looks at all of them every hour, each one here
//! comes back at its own time.

use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::certificates::request;
use corten_client::{ApiClient, Cache, Controller, ObjectKey, Requeue, Writes};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::certificate;
use crate::context::{Context, SyncError};

const WORKERS: usize = 1;
const DECIDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;

struct Ctx {
    api: ApiClient,
    requests: Cache<CertificateSigningRequest>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        requests: context.cache(),
    });
    Controller::new("csrcleaner")
        .workers(WORKERS)
        .watch(&ctx.requests, crate::apply::own_key)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(asked) = ctx.requests.get(key) else {
        return Ok(None);
    };
    let left = end(&asked).map(|end| end - Timestamp::now().as_second());
    match left {
        None => Ok(None),
        Some(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(_) => {
            crate::apply::delete(&ctx.api, &ctx.requests, &*asked, None, writes).await?;
            Ok(None)
        }
    }
}

/// When the request may go, in seconds since 1970; `None`: not by itself (approved, and still to be signed).
fn end(asked: &CertificateSigningRequest) -> Option<i64> {
    let created = asked.metadata.creation_timestamp.as_ref()?.0.as_second();
    let conditions = asked
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let issued = certificate(asked);
    let mut ends = Vec::new();
    for condition in conditions.into_iter().flatten() {
        let at = condition.last_update_time.as_ref().map(|at| at.0.as_second());
        match condition.type_.as_str() {
            "Denied" => ends.extend(at.map(|at| at + DECIDED)),
            "Approved" if issued.is_some() => {
                ends.extend(at.map(|at| at + DECIDED));
                let text = String::from_utf8_lossy(issued.unwrap_or_default()).into_owned();
                ends.extend(request::end_of_certificate(&text));
            }
            _ => {}
        }
    }
    if conditions.is_none_or(Vec::is_empty) {
        ends.push(created + PENDING);
    }
    ends.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(status: Value, want: Option<i64>) {
        let asked = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "spec": {"request": "", "signerName": "example.com/x"}, "status": status,
        });
        let asked = serde_json::from_value(asked).expect("a request");
        assert_eq!(end(&asked), want);
    }

    #[test]
    fn requests_go_when_they_are_over() {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "r", "lastUpdateTime": "1970-01-01T00:01:40Z"});
        check(json!({}), Some(10 + PENDING));
        check(json!({"conditions": [condition("Approved")]}), None);
        check(json!({"conditions": [condition("Denied")]}), Some(100 + DECIDED));
        check(
            json!({"conditions": [condition("Approved")], "certificate": "eA=="}),
            Some(100 + DECIDED),
        );
        check(json!({"conditions": [condition("Failed")]}), None);
    }
}
