//! Bootstrap tokens are deleted when they have expired.
//!
//! Source: Kubernetes `pkg/controller/bootstrap`, `TokenCleaner`.

use std::sync::Arc;
use std::time::Duration;

use corten_client::{ApiClient, Cache, Controller, ObjectKey, Requeue, Selection, Writes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::context::{Context, SyncError};

const WORKERS: usize = 1;
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

struct Ctx {
    api: ApiClient,
    secrets: Cache<Secret>,
}

pub async fn run(context: Context) {
    let selection = Selection {
        fields: format!("type={TYPE}"),
        ..Selection::namespace(NAMESPACE)
    };
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        secrets: context.informers.informer(selection),
    });
    Controller::new("tokencleaner")
        .workers(WORKERS)
        .watch(&ctx.secrets, crate::apply::own_key)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(secret) = ctx.secrets.get(key) else {
        return Ok(None);
    };
    match expiry(&secret, Timestamp::now()) {
        Expiry::Never => Ok(None),
        Expiry::In(wait) => Ok(Some(wait)),
        Expiry::Now => {
            crate::apply::delete(&ctx.api, &ctx.secrets, &*secret, None, writes).await?;
            Ok(None)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    In(Duration),
    Now,
}

/// A time that cannot be read counts as over, as for who authenticates by the token.
fn expiry(secret: &Secret, now: Timestamp) -> Expiry {
    let Some(text) = secret.data.as_ref().and_then(|data| data.get("expiration")) else {
        return Expiry::Never;
    };
    if text.0.is_empty() {
        return Expiry::Never;
    }
    let at = std::str::from_utf8(&text.0)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok());
    match at.map(|at| at.duration_since(now)) {
        // A moment later than the token stops to be good, so that who comes too late is told so.
        Some(left) if left.is_positive() => Expiry::In(left.unsigned_abs() + GRACE),
        Some(left) if left.unsigned_abs() < GRACE => Expiry::In(GRACE),
        _ => Expiry::Now,
    }
}

/// How long an expired token stays, to be named as expired.
const GRACE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[track_caller]
    fn check(expiration: Option<&str>, want: Expiry) {
        let data = expiration.map(|text| [("expiration".to_owned(), ByteString(text.into()))].into());
        let secret = Secret {
            data,
            ..Secret::default()
        };
        let now = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(expiry(&secret, now), want);
    }

    #[test]
    fn tokens_go_a_minute_after_their_end() {
        check(None, Expiry::Never);
        check(Some(""), Expiry::Never);
        check(Some("2026-01-02T03:04:15Z"), Expiry::In(Duration::from_secs(70)));
        check(Some("2026-01-02T03:04:00Z"), Expiry::In(GRACE));
        check(Some("2026-01-02T03:03:00Z"), Expiry::Now);
        check(Some("tomorrow"), Expiry::Now);
    }
}
