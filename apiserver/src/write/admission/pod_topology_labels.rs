//! PodTopologyLabels: a Pod has the zone and region of its node, as labels that it can read through the downward API. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/podtopologylabels`, on by default since v1.35.

use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::damaged;
use crate::read::filter::keys;
use crate::stored::Stored;

const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// A Binding carries them to its Pod. The node's labels are in the head of its stored bytes: nothing is parsed.
///
/// # Errors
/// Only for a damaged Node.
pub fn mutate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &mut Value) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    if !ty.group.is_empty() || ty.plural != "pods" || attributes.operation != Operation::Create {
        return Ok(());
    }
    let node = match attributes.subresource {
        "" => object["spec"]["nodeName"].as_str(),
        "binding" if object["target"]["kind"] == "Node" => object["target"]["name"].as_str(),
        _ => None,
    };
    let Some(node) = node.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let nodes = registry().lookup("", "v1", "nodes").expect("built in");
    let Some(entry) = snapshot.get(&keys(nodes).object(None, node)) else {
        return Ok(());
    };
    let stored = Stored::new(&entry.value).map_err(damaged)?;
    let head = stored.head().map_err(damaged)?;
    for label in COPIED {
        if let Some(value) = head.label(label) {
            set(object, label, value);
        }
    }
    Ok(())
}

fn set(object: &mut Value, label: &str, value: &str) {
    let labels = meta::metadata_mut(object)
        .entry("labels")
        .or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(label.to_owned(), value.into());
    }
}
