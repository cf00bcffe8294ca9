//! DefaultTolerationSeconds: how long a Pod stays on a node that is not ready or unreachable. Pure.

use corten_api::Status;
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::{Attributes, Operation};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Seconds a Pod stays on a node that is not ready or unreachable. Source: DefaultTolerationSeconds admission.
const DEFAULT_TOLERATION_SECONDS: i64 = 300;

/// # Errors
/// None; the signature is that of a plug-in.
pub fn mutate(attributes: &Attributes<'_>, _: &Snapshot, object: &mut Value) -> Result<(), Status> {
    if matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.is("", "pods") {
        tolerate(object);
    }
    Ok(())
}

fn tolerate(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(list) = tolerations.as_array_mut() else {
        return;
    };
    for key in [NOT_READY, "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|t| {
            let effect = t["effect"].as_str().unwrap_or_default();
            let any_key = t["key"].as_str().unwrap_or_default().is_empty() && t["operator"] == "Exists";
            (t["key"] == key || any_key) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tolerations_stand() {
        let mut pod = json!({ "spec": {
            "tolerations": [{ "operator": "Exists", "effect": "NoExecute" }],
        } });
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_pod_gets_two_tolerations_once() {
        let mut pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [] } });
        tolerate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
        let again = pod.clone();
        tolerate(&mut pod);
        assert_eq!(pod, again, "a second time changes nothing");
    }
}
