//! Approves nodes' requests for client certificates: their first with a bootstrap token, later ones with the last one.
//!
//! Who may is a SubjectAccessReview, as upstream; on top, a living node's name is refused to another machine, and a token
//! for one use to a second one. Source: Kubernetes `pkg/controller/certificates/approver`.

use std::sync::Arc;

use corten_api::kinds::certificates::request::{self, Names};
use corten_client::{
    ApiClient, ApiError, Cache, Change, Controller, KubeKind, ObjectExt, ObjectKey, Patch, Requeue,
    Subresource, Writes,
};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::names::{Alive, Given};
use super::{condition, has_condition, is_issued, pem, rules};
use crate::context::{Context, Doing, SyncError};

/// One: who gets a name first is decided here.
const WORKERS: usize = 1;
const TOKEN_NAMESPACE: &str = "kube-system";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const LEASES: &str = "kube-node-lease";
const BOOTSTRAP_USER: &str = "system:bootstrap:";
/// In a token's Secret: it is for one machine only, and for which one it was.
const SINGLE_USE: &str = "corten-single-use";
const USED_BY: &str = "corten-used-by";

struct Ctx {
    api: ApiClient,
    requests: Cache<CertificateSigningRequest>,
    given: Mutex<Given>,
}

/// Which of the two requests of a node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recognized {
    /// With the certificate it has.
    Own,
    /// For a node, by somebody else.
    Other,
}

impl Recognized {
    fn subresource(self) -> &'static str {
        match self {
            Recognized::Own => "selfnodeclient",
            Recognized::Other => "nodeclient",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Recognized::Own => "Auto approving self kubelet client certificate after SubjectAccessReview.",
            Recognized::Other => "Auto approving kubelet client certificate after SubjectAccessReview.",
        }
    }
}

/// In the order they are tried.
fn recognize(spec: &CertificateSigningRequestSpec, names: &Names) -> &'static [Recognized] {
    let usages = spec.usages.clone().unwrap_or_default();
    if spec.signer_name != rules::KUBELET_CLIENT || rules::kubelet_client(names, &usages).is_err() {
        return &[];
    }
    match spec.username.as_deref() == Some(names.common_name.as_str()) {
        true => &[Recognized::Own, Recognized::Other],
        false => &[Recognized::Other],
    }
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        requests: context.cache(),
        given: Mutex::default(),
    });
    Controller::new("csrapproving")
        .workers(WORKERS)
        .watch(&ctx.requests, |change| match change {
            Change::Applied { new, .. } if !is_decided(new) => vec![new.key()],
            _ => vec![],
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    is_issued(request) || has_condition(request, "Approved") || has_condition(request, "Denied")
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(asked) = ctx.requests.get(key) else {
        return Ok(None);
    };
    if is_decided(&asked) {
        return Ok(None);
    }
    let names = match request::names(&pem(&asked)) {
        Ok(names) => names,
        Err(why) => {
            tracing::debug!(%key, why, "a certificate request cannot be read");
            return Ok(None); // it will never change
        }
    };
    for recognized in recognize(&asked.spec, &names) {
        if !allowed(ctx, &asked.spec, recognized.subresource())
            .await
            .doing(|| format!("ask whether {key} is allowed"))?
        {
            continue;
        }
        let verdict = match recognized {
            Recognized::Own => Ok(()),
            Recognized::Other => may_have_name(ctx, &asked.spec, &names).await?,
        };
        let patch = match &verdict {
            Ok(()) => condition(&asked, "Approved", "AutoApproved", recognized.message()),
            Err((reason, why)) => condition(&asked, "Denied", reason, why),
        };
        return write(ctx, &asked, patch, writes).await.map(|()| None);
    }
    Ok(None)
}

async fn allowed(
    ctx: &Ctx,
    spec: &CertificateSigningRequestSpec,
    subresource: &str,
) -> Result<bool, ApiError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                subresource: Some(subresource.into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer: Value = ctx.api.ask(REVIEWS, &review).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// The reason and text of a refusal.
type Verdict = Result<(), (&'static str, String)>;

async fn may_have_name(
    ctx: &Ctx,
    spec: &CertificateSigningRequestSpec,
    names: &Names,
) -> Result<Verdict, SyncError> {
    let node = names
        .common_name
        .strip_prefix(rules::NODE_PREFIX)
        .unwrap_or_default();
    let lease = ctx
        .api
        .get::<Lease>(&ObjectKey::new(LEASES, node))
        .await
        .doing(|| format!("look for the lease of node {node}"))?;
    let alive = lease.and_then(|lease| lease.spec).and_then(|spec| {
        Some(Alive {
            renewed: spec.renew_time?.0,
            seconds: spec.lease_duration_seconds,
        })
    });
    let given = ctx
        .given
        .lock()
        .give(node, &names.public_key, alive, Timestamp::now());
    if let Err(why) = given {
        return Ok(Err(("NodeNameTaken", why)));
    }
    let Some(id) = spec
        .username
        .as_deref()
        .and_then(|user| user.strip_prefix(BOOTSTRAP_USER))
    else {
        return Ok(Ok(()));
    };
    spend(ctx, id, node).await
}

/// Notes on a token for one use whose it was.
async fn spend(ctx: &Ctx, id: &str, node: &str) -> Result<Verdict, SyncError> {
    let doing = || format!("note that the token {id} is used");
    let key = ObjectKey::new(TOKEN_NAMESPACE, format!("bootstrap-token-{id}"));
    let Some(secret) = ctx.api.get::<Secret>(&key).await.doing(doing)? else {
        return Ok(Err(("TokenGone", format!("the token {id} was deleted"))));
    };
    let datum = |key: &str| -> Option<&[u8]> { Some(secret.data.as_ref()?.get(key)?.0.as_slice()) };
    if datum(SINGLE_USE) != Some(b"true") {
        return Ok(Ok(()));
    }
    match datum(USED_BY) {
        Some(holder) if holder == node.as_bytes() => Ok(Ok(())),
        Some(holder) => Ok(Err((
            "TokenUsed",
            format!(
                "the token {id} is good for one machine and {:?} has joined with it: make another with `corten token create`",
                String::from_utf8_lossy(holder)
            ),
        ))),
        None => {
            let used_by = serde_json::to_value(ByteString(node.as_bytes().to_vec())).unwrap_or_default();
            let patch = json!({
                "metadata": { "resourceVersion": secret.metadata.resource_version },
                "data": { USED_BY: used_by },
            });
            ctx.api
                .patch::<Secret>(&key, &Patch::Merge(patch))
                .await
                .doing(doing)?;
            Ok(Ok(()))
        }
    }
}

async fn write(
    ctx: &Ctx,
    asked: &CertificateSigningRequest,
    mut patch: Value,
    writes: &Writes,
) -> Result<(), SyncError> {
    patch["metadata"]["uid"] = asked.uid().into();
    let (key, target) = (asked.key(), CertificateSigningRequest::target());
    let written = ctx
        .api
        .patch_target(&target, &key, Subresource::Approval, &Patch::Merge(patch))
        .await;
    match written {
        Ok(written) => {
            writes.wrote(&ctx.requests, written.revision);
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(source) => Err(SyncError::Api {
            doing: format!("approve {key}"),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: &str, common_name: &str, signer: &str, want: &[Recognized]) {
        let spec = CertificateSigningRequestSpec {
            signer_name: signer.into(),
            username: Some(user.into()),
            usages: Some(vec!["client auth".into(), "digital signature".into()]),
            ..Default::default()
        };
        let names = Names {
            common_name: common_name.into(),
            organizations: vec![rules::NODES.into()],
            ..Names::default()
        };
        assert_eq!(recognize(&spec, &names), want);
    }

    #[test]
    fn only_nodes_requests_are_recognized() {
        use Recognized::{Other, Own};
        let bootstrap = "system:bootstrap:abcdef";
        check(bootstrap, "system:node:a", rules::KUBELET_CLIENT, &[Other]);
        check(
            "system:node:a",
            "system:node:a",
            rules::KUBELET_CLIENT,
            &[Own, Other],
        );
        check("system:node:b", "system:node:a", rules::KUBELET_CLIENT, &[Other]);
        check(bootstrap, "admin", rules::KUBELET_CLIENT, &[]);
        check(bootstrap, "system:node:a", rules::CLIENT, &[]);
    }
}
