//! What the status path keeps of an object's metadata, for the kinds whose status must not touch it.

use serde_json::{Map, Value};

use super::defaults::child_or_new;
use crate::resource::keep;

/// Keeps `spec`, labels, annotations, finalizers and owners of `old`.
/// Source: `k8s.io/apimachinery/pkg/apis/meta/v1`, `ResetObjectMetaForStatus`.
pub fn only_status(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    keep(new, old, "spec");
    let none = Map::new();
    let before = old.get("metadata").and_then(Value::as_object).unwrap_or(&none);
    let metadata = child_or_new(new, "metadata");
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        keep(metadata, before, field);
    }
}
