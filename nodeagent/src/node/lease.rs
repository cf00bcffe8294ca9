//! The node's heartbeat: its Lease in `kube-node-lease`.

use std::time::Duration;

use corten_client::{ApiClient, ApiError, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

pub const NAMESPACE: &str = "kube-node-lease";
/// Source: kubelet configuration, `nodeLeaseDurationSeconds`.
pub const DURATION_SECONDS: i32 = 40;
/// A quarter of the duration, as the kubelet does it.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The Lease to write at `now`. `old`: as the API has it. Pure.
pub fn lease(node: &str, node_uid: &str, old: Option<Lease>, now: Timestamp) -> Lease {
    let mut lease = old.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    lease.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    }]);
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(node.to_owned());
    spec.lease_duration_seconds = Some(DURATION_SECONDS);
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Renews the Lease, or makes it. `last`: as it was written last time; kept up to date.
///
/// # Errors
/// From the API; try again soon.
pub async fn renew(
    api: &ApiClient,
    node: &str,
    node_uid: &str,
    last: &mut Option<Lease>,
    now: Timestamp,
) -> Result<(), ApiError> {
    if last.is_none() {
        *last = api.get::<Lease>(&ObjectKey::new(NAMESPACE, node)).await?;
    }
    let wanted = lease(node, node_uid, last.clone(), now);
    let written = match last {
        Some(_) => api.replace(&wanted).await,
        None => api.create(&wanted).await,
    };
    match written {
        Ok(written) => {
            let mut now = wanted;
            now.metadata.resource_version = Some(written.revision.to_string());
            *last = Some(now);
            Ok(())
        }
        Err(error) => {
            *last = None;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: Option<Lease>, wanted_version: Option<&str>) {
        let now = Timestamp::from_second(100).expect("in range");
        let made = lease("n", "u", old, now);
        assert_eq!(made.metadata.resource_version.as_deref(), wanted_version);
        let owner = &made.metadata.owner_references.expect("set")[0];
        assert_eq!(
            (
                owner.api_version.as_str(),
                owner.kind.as_str(),
                owner.uid.as_str()
            ),
            ("v1", "Node", "u")
        );
        assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
        let spec = made.spec.expect("set");
        assert_eq!(
            (spec.holder_identity.as_deref(), spec.lease_duration_seconds),
            (Some("n"), Some(40))
        );
        assert_eq!(spec.renew_time, Some(MicroTime(now)));
    }

    #[test]
    fn made_and_renewed() {
        check(None, None);
        let metadata = ObjectMeta {
            resource_version: Some("7".into()),
            ..ObjectMeta::default()
        };
        check(Some(Lease { metadata, spec: None }), Some("7"));
    }
}
