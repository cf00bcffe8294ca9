//! Which objects belong to an owner: the controller reference decides, the selector adopts and releases.
//!
//! Knows owner references and selectors. Must not know the kinds on either side.

use std::sync::Arc;

use corten_api::selector::LabelSelector;
use corten_client::object::controller_reference;
use corten_client::{ApiClient, Cache, Change, KubeKind, Object, ObjectExt, ObjectKey, Patch, Writes};
use serde_json::json;

use crate::context::{Doing, SyncError};

/// Index of objects without a controller, by namespace: what a selector may adopt.
pub const ORPHANS: &str = "orphans";

pub fn orphans<K: Object>(object: &K) -> Vec<String> {
    if object.controller().is_some() {
        Vec::new()
    } else {
        vec![object.namespace().to_owned()]
    }
}

/// The owner that manages `object`, if it is of this kind.
pub fn owner_key<K: Object>(object: &K, kind: &str) -> Option<ObjectKey> {
    let reference = object.controller().filter(|reference| reference.kind == kind)?;
    Some(ObjectKey::new(object.namespace(), &reference.name))
}

/// The owners of `kind` that an object's change concerns: the one it has, the one it had, and for an object without
/// one whoever `selecting` names.
pub fn concerned<K: Object>(
    change: &Change<K>,
    kind: &str,
    selecting: impl FnOnce(&K) -> Vec<ObjectKey>,
) -> Vec<ObjectKey> {
    match change {
        Change::Applied { old, new } => {
            let mut keys: Vec<ObjectKey> = owner_key(&**new, kind).into_iter().collect();
            let former = old.as_ref().and_then(|old| owner_key(&**old, kind));
            keys.extend(former.filter(|former| !keys.contains(former)));
            let news = |old: &Arc<K>| old.meta().labels != new.meta().labels || old.controller().is_some();
            if new.controller().is_none() && old.as_ref().is_none_or(news) {
                keys.extend(selecting(new));
            }
            keys
        }
        Change::Deleted(object) => owner_key(&**object, kind).into_iter().collect(),
        Change::Resync => vec![],
    }
}

/// What to do about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, and stays so.
    Keep,
    /// Nobody's, and wanted.
    Adopt,
    /// Ours, but no longer selected.
    Release,
    Ignore,
}

/// An owner that is being deleted takes and gives away nothing. Source: ControllerRefManager.
pub fn claim<O: Object, K: Object>(owner: &O, selector: &LabelSelector, object: &K) -> Claim {
    let selected = selector.matches(&object.meta().labels);
    match object.controller() {
        Some(reference) if reference.uid != owner.uid() => Claim::Ignore,
        Some(_) if selected => Claim::Keep,
        Some(_) if owner.is_terminating() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if selected && !owner.is_terminating() && !object.is_terminating() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The objects of `cache` that belong to `owner` after adopting and releasing. `cache` must have the indexes
/// `index::CONTROLLER` and [`ORPHANS`].
pub async fn claim_all<O: KubeKind, K: KubeKind>(
    api: &ApiClient,
    cache: &Cache<K>,
    owner: &O,
    selector: &LabelSelector,
    writes: &Writes,
) -> Result<Vec<Arc<K>>, SyncError> {
    let mut candidates = cache.by_index(corten_client::cache::index::CONTROLLER, owner.uid());
    candidates.extend(cache.by_index(ORPHANS, owner.namespace()));
    let mut owned = Vec::with_capacity(candidates.len());
    let mut may_adopt = None;
    for object in candidates {
        let patch = match claim(owner, selector, &*object) {
            Claim::Keep => {
                owned.push(object);
                continue;
            }
            Claim::Ignore => continue,
            Claim::Release => json!({ "metadata": {
                "uid": object.uid(),
                "ownerReferences": [{ "$patch": "delete", "uid": owner.uid() }],
            }}),
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(still_there(api, owner).await?);
                }
                if may_adopt == Some(false) {
                    continue;
                }
                json!({ "metadata": {
                    "uid": object.uid(),
                    "ownerReferences": [controller_reference(owner)],
                }})
            }
        };
        let adopted = object.controller().is_none();
        match api.patch::<K>(&object.key(), &Patch::Strategic(patch)).await {
            Ok(written) => writes.wrote(cache, written.revision),
            // Gone or replaced meanwhile: not ours any more.
            Err(error) if error.is_not_found() || error.is_invalid() || error.is_conflict() => continue,
            Err(source) => {
                let doing = format!("{} {}", if adopted { "adopt" } else { "release" }, object.key());
                return Err(SyncError::Api { doing, source });
            }
        }
        if adopted {
            owned.push(object);
        }
    }
    Ok(owned)
}

/// Asks the server, not the cache: an owner deleted a moment ago must not adopt.
async fn still_there<O: KubeKind>(api: &ApiClient, owner: &O) -> Result<bool, SyncError> {
    let live = api
        .get_metadata(&O::target(), &owner.key())
        .await
        .doing(|| format!("read {}", owner.key()))?;
    Ok(live.is_some_and(|live| live.uid() == owner.uid() && !live.is_terminating()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

    fn meta(uid: &str, words: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("a".into()),
            labels: words
                .contains("web")
                .then(|| [("app".to_owned(), "web".to_owned())].into()),
            deletion_timestamp: words
                .contains("dying")
                .then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            owner_references: words
                .split_whitespace()
                .find_map(|word| word.strip_prefix("of-"))
                .map(|uid| {
                    vec![OwnerReference {
                        uid: uid.into(),
                        controller: Some(true),
                        ..Default::default()
                    }]
                }),
            ..Default::default()
        }
    }

    #[track_caller]
    fn check(owner: &str, pod: &str, claimed: Claim) {
        let owner = ReplicaSet {
            metadata: meta("rs", owner),
            ..Default::default()
        };
        let pod = Pod {
            metadata: meta("pod", pod),
            ..Default::default()
        };
        let selector = LabelSelector::exact([("app", "web")]);
        assert_eq!(claim(&owner, &selector, &pod), claimed);
    }

    #[test]
    fn the_controller_reference_decides_before_the_selector() {
        check("", "web of-rs", Claim::Keep);
        check("", "of-rs", Claim::Release);
        check("", "web of-other", Claim::Ignore);
        check("", "web", Claim::Adopt);
        check("", "", Claim::Ignore);
    }

    #[test]
    fn nothing_dying_adopts_or_is_adopted() {
        check("dying", "web", Claim::Ignore);
        check("dying", "of-rs", Claim::Ignore);
        check("dying", "web of-rs", Claim::Keep);
        check("", "web dying", Claim::Ignore);
    }
}
