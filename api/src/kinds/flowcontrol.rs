//! Kinds of the flowcontrol.apiserver.k8s.io group.

pub mod flow_schema;
pub mod priority_level;
pub mod suggested;

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::resource::{ResourceType, SubresourceType, keep};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        [GROUP, "v1", "FlowSchema", "flowschemas"],
        "flowschema",
        "flowcontrol.v1.FlowSchema",
        &flow_schema::FlowSchema,
    )
    .cluster()
    .subresources(&[SubresourceType::status("FlowSchema")]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
        ],
        "prioritylevelconfiguration",
        "flowcontrol.v1.PriorityLevelConfiguration",
        &priority_level::PriorityLevelConfiguration,
    )
    .cluster()
    .subresources(&[SubresourceType::status("PriorityLevelConfiguration")]),
];

/// A status update of these kinds changes nothing of the metadata but who manages which field.
fn only_conditions(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    keep(new, old, "spec");
    let mut metadata = old
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    if let Some(given) = new.get("metadata").and_then(Value::as_object) {
        for field in ["managedFields", "resourceVersion"] {
            keep(&mut metadata, given, field);
        }
    }
    new.insert("metadata".into(), Value::Object(metadata));
}

/// Conditions with a type each, none twice.
fn conditions(status: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = std::collections::BTreeSet::new();
    for condition in status.items("conditions") {
        let kind = condition.str("type");
        if !seen.insert(kind) {
            errors.duplicate(condition.path("type"), kind);
        }
        if kind.is_empty() {
            errors.required(condition.path("type"), "must not be empty");
        }
    }
}
