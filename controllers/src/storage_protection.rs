//! A PersistentVolumeClaim stays while a Pod uses it, a PersistentVolume while it is bound, a VolumeAttributesClass while a
//! claim or volume names it: their finalizers go when nobody needs them any more, and come where admission has not put them.
//!
//! [`due`] decides; this file fetches and applies. Source: Kubernetes `pkg/controller/volume/pvcprotection`, `pvprotection`
//! and `vacprotection`.

use std::sync::Arc;

use corten_client::{
    ApiClient, Cache, Change, Controller, KubeKind, ObjectExt, ObjectKey, Requeue, Selection, Writes,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::serde::Serialize;

use crate::apply;
use crate::context::{Context, Doing, SyncError};

const WORKERS: usize = 2;
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";
/// Index of Pods by the claims they name, `NAMESPACE/NAME`.
const BY_CLAIM: &str = "claim";
/// Index of claims and volumes by the classes they name.
const BY_CLASS: &str = "class";

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Add,
    /// If nobody uses it.
    Remove,
}

/// What the finalizer asks for, given the object alone. Pure.
fn due<K: ObjectExt>(object: &K, finalizer: &str) -> Due {
    let finalizers = object.meta().finalizers.iter().flatten();
    let held = finalizers.into_iter().any(|known| known == finalizer);
    match (object.is_terminating(), held) {
        (true, true) => Due::Remove,
        (false, false) => Due::Add,
        _ => Due::Nothing,
    }
}

/// The names of claims in a Pod's volumes; those of its own ephemeral volumes are told apart.
fn claims(pod: &Pod) -> impl Iterator<Item = (String, bool)> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(
        |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some((source.claim_name.clone(), false)),
            (None, Some(_)) => Some((format!("{}-{}", pod.name(), volume.name), true)),
            _ => None,
        },
    )
}

/// Whether a Pod keeps the claim. One without a node does not: a node refuses to start a Pod whose claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let placed = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .is_some_and(|node| !node.is_empty());
    // Its node is done with it.
    let shut_down = pod.is_terminating() && pod.metadata.deletion_grace_period_seconds == Some(0);
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_own = || {
        owners
            .clone()
            .any(|owner| owner.controller == Some(true) && owner.uid == pod.uid())
    };
    placed
        && claims(pod)
            .any(|(name, ephemeral)| name == claim.name() && (!ephemeral || (!shut_down && is_own())))
}

struct Claims {
    api: ApiClient,
    claims: Cache<PersistentVolumeClaim>,
    pods: Cache<Pod>,
}

/// Of claims.
pub async fn run_claims(context: Context) {
    let pods = context.cache::<Pod>().with_index(BY_CLAIM, |pod: &Pod| {
        claims(pod)
            .map(|(name, _)| format!("{}/{name}", pod.namespace()))
            .collect()
    });
    let ctx = Arc::new(Claims {
        api: context.api.clone(),
        claims: context.cache(),
        pods,
    });
    Controller::new("pvcprotection")
        .workers(WORKERS)
        .watch(&ctx.claims, apply::own_key)
        .watch(&ctx.pods, |change| {
            let of = |pod: &Pod| -> Vec<ObjectKey> {
                claims(pod)
                    .map(|(name, _)| ObjectKey::new(pod.namespace(), name))
                    .collect()
            };
            match change {
                Change::Deleted(pod) => of(pod),
                // A new Pod of the name of an old one may have come in between.
                Change::Applied { old: Some(old), new } if old.uid() != new.uid() => of(old),
                Change::Applied { new, .. } if new.is_terminating() => of(new),
                _ => vec![],
            }
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync_claim(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync_claim(ctx: &Claims, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(claim) = ctx.claims.get(key) else {
        return Ok(None);
    };
    let due = due(&*claim, CLAIM_FINALIZER);
    if due == Due::Remove {
        let cached = ctx
            .pods
            .by_index(BY_CLAIM, &format!("{}/{}", key.namespace, key.name));
        if cached.iter().any(|pod| uses(pod, &claim)) {
            return Ok(None);
        }
        // The cache is no proof.
        let live = ctx.api.list::<Pod>(&Selection::namespace(&key.namespace)).await;
        let live = live.doing(|| format!("look for Pods that use PersistentVolumeClaim {key}"))?;
        if live.iter().any(|pod| uses(pod, &claim)) {
            return Ok(None);
        }
    }
    write(&ctx.api, &ctx.claims, &claim, due, CLAIM_FINALIZER, writes).await
}

struct Volumes {
    api: ApiClient,
    volumes: Cache<PersistentVolume>,
}

/// Of volumes.
pub async fn run_volumes(context: Context) {
    let ctx = Arc::new(Volumes {
        api: context.api.clone(),
        volumes: context.cache(),
    });
    Controller::new("pvprotection")
        .workers(WORKERS)
        .watch(&ctx.volumes, apply::own_key)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync_volume(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync_volume(ctx: &Volumes, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(volume) = ctx.volumes.get(key) else {
        return Ok(None);
    };
    let due = due(&*volume, VOLUME_FINALIZER);
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if due == Due::Remove && phase == Some("Bound") {
        return Ok(None);
    }
    write(&ctx.api, &ctx.volumes, &volume, due, VOLUME_FINALIZER, writes).await
}

struct Classes {
    api: ApiClient,
    classes: Cache<VolumeAttributesClass>,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
}

/// Of classes of volumes' attributes.
pub async fn run_classes(context: Context) {
    let ctx = Arc::new(Classes {
        api: context.api.clone(),
        classes: context.cache(),
        claims: context.cache().with_index(BY_CLASS, classes_of_claim),
        volumes: context.cache().with_index(BY_CLASS, classes_of_volume),
    });
    Controller::new("vacprotection")
        .workers(WORKERS)
        .watch(&ctx.classes, apply::own_key)
        .watch(&ctx.claims, |change| no_longer_named(change, classes_of_claim))
        .watch(&ctx.volumes, |change| no_longer_named(change, classes_of_volume))
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync_class(&ctx, &key, &writes).await }
        })
        .await;
}

/// The classes that a claim asks for, has, or is being given.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim
        .spec
        .iter()
        .flat_map(|spec| &spec.volume_attributes_class_name);
    let status = claim.status.iter();
    let held = status.flat_map(|status| &status.current_volume_attributes_class_name);
    let changes = claim
        .status
        .iter()
        .flat_map(|status| &status.modify_volume_status);
    let coming = changes.flat_map(|change| &change.target_volume_attributes_class_name);
    let mut names: Vec<String> = wanted.chain(held).chain(coming).cloned().collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

fn classes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    let named = volume
        .spec
        .iter()
        .flat_map(|spec| &spec.volume_attributes_class_name);
    named.filter(|name| !name.is_empty()).cloned().collect()
}

/// The classes that a change has let go of.
fn no_longer_named<K>(change: &Change<K>, classes: fn(&K) -> Vec<String>) -> Vec<ObjectKey> {
    let (old, new) = match change {
        Change::Applied { old: Some(old), new } => (classes(old), classes(new)),
        Change::Deleted(old) => (classes(old), vec![]),
        _ => return vec![],
    };
    old.into_iter()
        .filter(|class| !new.contains(class))
        .map(|class| ObjectKey::new("", class))
        .collect()
}

async fn sync_class(ctx: &Classes, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(class) = ctx.classes.get(key) else {
        return Ok(None);
    };
    let due = due(&*class, CLASS_FINALIZER);
    let named = || ctx.claims.index_len(BY_CLASS, &key.name) + ctx.volumes.index_len(BY_CLASS, &key.name);
    if due == Due::Remove && named() > 0 {
        return Ok(None);
    }
    write(&ctx.api, &ctx.classes, &class, due, CLASS_FINALIZER, writes).await
}

async fn write<K: KubeKind + ObjectExt + Serialize + Clone>(
    api: &ApiClient,
    cache: &Cache<K>,
    object: &K,
    due: Due,
    finalizer: &str,
    writes: &Writes,
) -> Result<Requeue, SyncError> {
    let mut wanted = object.clone();
    let finalizers = wanted.meta_mut().finalizers.get_or_insert_default();
    match due {
        Due::Nothing => return Ok(None),
        Due::Add => finalizers.push(finalizer.to_owned()),
        Due::Remove => finalizers.retain(|known| known != finalizer),
    }
    match api.replace(&wanted).await {
        Ok(written) => writes.wrote(cache, written.revision),
        Err(error) if error.is_not_found() => {}
        Err(source) => {
            let doing = format!("change the finalizers of {} {}", K::target().kind, object.key());
            return Err(SyncError::Api { doing, source });
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<K: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn finalizers_come_and_go() {
        let check = |metadata: Value, wanted: Due| {
            let claim: PersistentVolumeClaim = read(json!({"metadata": metadata}));
            assert_eq!(due(&claim, CLAIM_FINALIZER), wanted);
        };
        let time = "2026-01-01T00:00:00Z";
        check(json!({}), Due::Add);
        check(json!({"finalizers": [CLAIM_FINALIZER]}), Due::Nothing);
        check(
            json!({"finalizers": [CLAIM_FINALIZER], "deletionTimestamp": time}),
            Due::Remove,
        );
        check(
            json!({"finalizers": ["a/b"], "deletionTimestamp": time}),
            Due::Nothing,
        );
    }

    #[test]
    fn who_names_a_class() {
        let check = |claim: Value, wanted: &[&str]| {
            let claim: PersistentVolumeClaim = read(claim);
            assert_eq!(classes_of_claim(&claim), wanted);
        };
        check(json!({"metadata": {}}), &[]);
        check(
            json!({"metadata": {}, "spec": {"volumeAttributesClassName": ""}}),
            &[],
        );
        check(
            json!({"metadata": {}, "spec": {"volumeAttributesClassName": "gold"}, "status": {
                "currentVolumeAttributesClassName": "tin", "modifyVolumeStatus": {
                    "status": "Pending", "targetVolumeAttributesClassName": "gold"}}}),
            &["gold", "tin"],
        );
        let volume = |class: &str| -> Arc<PersistentVolume> {
            Arc::new(read(
                json!({"metadata": {}, "spec": {"volumeAttributesClassName": class}}),
            ))
        };
        let changed = |old: &str, new: &str| Change::Applied {
            old: Some(volume(old)),
            new: volume(new),
        };
        let gold = [ObjectKey::new("", "gold")];
        assert_eq!(no_longer_named(&changed("gold", "tin"), classes_of_volume), gold);
        assert_eq!(no_longer_named(&changed("gold", "gold"), classes_of_volume), []);
        assert_eq!(no_longer_named(&changed("", "gold"), classes_of_volume), []);
        let deleted = Change::Deleted(volume("gold"));
        assert_eq!(no_longer_named(&deleted, classes_of_volume), gold);
    }

    #[test]
    fn who_keeps_a_claim() {
        let claim: PersistentVolumeClaim = read(json!({"metadata": {"name": "p-v", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]}}));
        let check = |spec: Value, wanted: bool| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod = read(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}));
            assert_eq!(uses(&pod, &claim), wanted, "{spec}");
        };
        let named = json!([{"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}}]);
        check(json!({"nodeName": "n", "volumes": named}), true);
        check(json!({"volumes": named}), false);
        check(json!({"nodeName": "n"}), false);
        let own = json!([{"name": "v", "ephemeral": {}}]);
        check(json!({"nodeName": "n", "volumes": own}), true);
        check(
            json!({"nodeName": "n", "volumes": [{"name": "w", "ephemeral": {}}]}),
            false,
        );
    }
}
