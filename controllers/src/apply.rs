//! The writes many controllers make, with the outcomes none of them minds.
//!
//! Knows the API client. Must not know why something is written.

use corten_client::{
    ApiClient, Cache, Change, DeleteOptions, KubeKind, Object, ObjectExt, ObjectKey, Patch, Writes,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::context::SyncError;

/// The changed object's own key.
pub fn own_key<K: Object>(change: &Change<K>) -> Vec<ObjectKey> {
    match change {
        Change::Applied { new: object, .. } | Change::Deleted(object) => vec![object.key()],
        Change::Resync => vec![],
    }
}

/// Deletes this very object. That it is gone already, or another of its name is there, is as good.
pub async fn delete<K: KubeKind>(
    api: &ApiClient,
    cache: &Cache<K>,
    object: &K,
    grace_period_seconds: Option<i64>,
    writes: &Writes,
) -> Result<(), SyncError> {
    let options = DeleteOptions {
        grace_period_seconds,
        ..DeleteOptions::uid(object.uid())
    };
    match api.delete::<K>(&object.key(), &options).await {
        Ok(written) => writes.wrote(cache, written.revision),
        Err(error) if error.is_not_found() || error.is_conflict() => {}
        Err(source) => {
            let doing = format!("delete {} {}", K::target().kind, object.key());
            return Err(SyncError::Api { doing, source });
        }
    }
    Ok(())
}

/// Merges into this very Pod's status; `false` if it is gone or another of its name is there.
pub async fn patch_pod_status(
    api: &ApiClient,
    cache: &Cache<Pod>,
    pod: &Pod,
    status: Value,
    writes: &Writes,
) -> Result<bool, SyncError> {
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid() }, "status": status }));
    match api.patch_status::<Pod>(&pod.key(), &patch).await {
        Ok(written) => {
            writes.wrote(cache, written.revision);
            Ok(true)
        }
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(source) => Err(SyncError::Api {
            doing: format!("report the status of Pod {}", pod.key()),
            source,
        }),
    }
}
