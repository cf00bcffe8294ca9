//! TaintNodesByCondition: a new node takes no Pods until it is known to be ready. Pure.

use corten_api::Status;
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::default_toleration_seconds::NOT_READY;
use super::{Attributes, Operation};

/// # Errors
/// None; the signature is that of a plug-in.
pub fn mutate(attributes: &Attributes<'_>, _: &Snapshot, object: &mut Value) -> Result<(), Status> {
    if attributes.operation == Operation::Create && attributes.is("", "nodes") {
        mutate_node(object);
    }
    Ok(())
}

fn mutate_node(object: &mut Value) {
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    if let Some(list) = taints.as_array_mut()
        && !list
            .iter()
            .any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule")
    {
        list.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
    }
}
