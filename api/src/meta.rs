//! Accessors for the metadata of an object in JSON form. A missing field reads as Go's zero value.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::key::ObjectKey;
use crate::time;

static NULL: Value = Value::Null;

fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get("metadata").and_then(|m| m.get(name)).unwrap_or(&NULL)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).as_str().unwrap_or_default()
}

/// The metadata map, created if absent or no object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = object
        .as_object_mut()
        .expect("made an object above")
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

/// Sets a metadata field, or removes it when `value` is `null`.
pub fn set(object: &mut Value, name: &str, value: Value) {
    let metadata = metadata_mut(object);
    match value {
        Value::Null => metadata.remove(name),
        value => metadata.insert(name.into(), value),
    };
}

pub fn api_version(object: &Value) -> &str {
    object
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// Empty for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn key(object: &Value) -> ObjectKey {
    ObjectKey::new(namespace(object), name(object))
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// As sent; empty when absent.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn generation(object: &Value) -> i64 {
    field(object, "generation").as_i64().unwrap_or_default()
}

/// The labels map, `null` when absent; implements [`Labels`](crate::selector::label::Labels).
pub fn labels(object: &Value) -> &Value {
    field(object, "labels")
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object).get(key)?.as_str()
}

/// The annotations map, `null` when absent.
pub fn annotations(object: &Value) -> &Value {
    field(object, "annotations")
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object).get(key)?.as_str()
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    field(object, "finalizers")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).any(|f| f == finalizer)
}

/// Replaces the finalizers; an empty list removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let list: Vec<Value> = finalizers.into_iter().map(Value::String).collect();
    set(
        object,
        "finalizers",
        if list.is_empty() {
            Value::Null
        } else {
            Value::Array(list)
        },
    );
}

/// One entry of `ownerReferences`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerRef<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerRef<'_>> {
    let list = field(object, "ownerReferences").as_array().into_iter().flatten();
    list.map(|o| OwnerRef {
        api_version: api_version(o),
        kind: kind(o),
        name: o["name"].as_str().unwrap_or_default(),
        uid: o["uid"].as_str().unwrap_or_default(),
        controller: o["controller"].as_bool().unwrap_or_default(),
        block_owner_deletion: o["blockOwnerDeletion"].as_bool().unwrap_or_default(),
    })
}

/// The owner with `controller: true`.
pub fn controller_of(object: &Value) -> Option<OwnerRef<'_>> {
    owner_references(object).find(|o| o.controller)
}

/// Removes owners that are named twice, with the text of a warning if there were any. Source: Kubernetes
/// `dedupOwnerReferencesAndAddWarning`.
pub fn dedup_owners(object: &mut Value) -> Option<String> {
    let owners = object
        .get_mut("metadata")?
        .get_mut("ownerReferences")?
        .as_array_mut()?;
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice: Vec<String> = Vec::new();
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            let uid = owner["uid"].as_str().unwrap_or_default().to_string();
            if !twice.contains(&uid) {
                twice.push(uid);
            }
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    time::parse(text(object, "creationTimestamp"))
}

pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    time::parse(text(object, "deletionTimestamp"))
}

/// True once a graceful deletion began.
pub fn is_deleting(object: &Value) -> bool {
    field(object, "deletionTimestamp").is_string()
}

pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    field(object, "deletionGracePeriodSeconds").as_i64()
}

/// Marks the object as being deleted.
pub fn set_deletion(object: &mut Value, at: Timestamp, grace_period_seconds: i64) {
    set(object, "deletionTimestamp", time::format_time(at).into());
    set(object, "deletionGracePeriodSeconds", grace_period_seconds.into());
}

/// Turns every label into a pair, for a parsed head.
pub fn label_pairs(object: &Value) -> Vec<(String, String)> {
    let map = labels(object).as_object().into_iter().flatten();
    map.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())))
        .collect()
}

/// Just the metadata of an object (`meta.k8s.io/v1` PartialObjectMetadata).
pub fn partial(object: &Value) -> Value {
    let metadata = object
        .get("metadata")
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    serde_json::json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_fields_read_as_zero() {
        let empty = json!({});
        assert_eq!(
            (name(&empty), namespace(&empty), uid(&empty), generation(&empty)),
            ("", "", "", 0)
        );
        assert!(!is_deleting(&empty) && owner_references(&empty).next().is_none());
        let pod = json!({"metadata": {"name": "a", "namespace": "b", "finalizers": ["x"],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]}});
        assert_eq!(key(&pod).to_string(), "b/a");
        assert!(has_finalizer(&pod, "x"));
        assert_eq!(controller_of(&pod).map(|o| o.uid), Some("u"));
    }

    #[test]
    fn setting_null_removes() {
        let mut object = json!({"metadata": {"name": "a"}});
        set(&mut object, "uid", "u".into());
        set(&mut object, "name", Value::Null);
        assert_eq!(object, json!({"metadata": {"uid": "u"}}));
        set_finalizers(&mut object, vec!["f".into()]);
        set_finalizers(&mut object, vec![]);
        assert_eq!(object, json!({"metadata": {"uid": "u"}}));
        assert_eq!(partial(&object)["metadata"], json!({"uid": "u"}));
    }
}
