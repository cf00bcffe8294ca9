//! Scale (autoscaling/v1): the view of a workload that `kubectl scale` and autoscalers use.

use serde_json::{Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules;
use crate::selector::LabelSelector;
use crate::status::Qualified;
use crate::{Status, meta};

/// The Scale of a workload.
pub fn of(workload: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = workload["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": workload["status"]["replicas"].as_i64().unwrap_or_default()});
    let text = selector(workload).to_string();
    if !text.is_empty() {
        status["selector"] = text.into();
    }
    let mut spec = json!({});
    let replicas = workload["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas != 0 {
        spec["replicas"] = replicas.into();
    }
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status})
}

/// A ReplicationController selects by a plain map of labels, all others by a LabelSelector.
fn selector(workload: &Value) -> LabelSelector {
    let selector = &workload["spec"]["selector"];
    if meta::kind(workload) == "ReplicationController" {
        let labels = selector.as_object().into_iter().flatten();
        return LabelSelector::exact(labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))));
    }
    LabelSelector::from_value(selector).unwrap_or_default()
}

/// Sets the workload's replicas from a Scale. A `resourceVersion` or uid the Scale names becomes the workload's, so
/// that its update refuses another state or incarnation.
///
/// # Errors
/// 422 for negative replicas.
pub fn apply(workload: &mut Value, scale: &Value) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let at = At::root(scale, "autoscaling.v1.Scale");
    rules::not_negative(&at.at("spec"), "replicas", &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(
            Qualified::new("autoscaling", "Scale"),
            meta::name(scale),
            &errors,
        ));
    }
    workload["spec"]["replicas"] = at.at("spec").int("replicas").into();
    for field in ["resourceVersion", "uid"] {
        let wanted = &scale["metadata"][field];
        if wanted.as_str().is_some_and(|text| !text.is_empty()) {
            workload["metadata"][field] = wanted.clone();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replication_controller_selects_by_a_map() {
        let controller = json!({"kind": "ReplicationController", "metadata": {"name": "a"},
            "spec": {"replicas": 1, "selector": {"b": "2", "a": "1"}}});
        assert_eq!(of(&controller)["status"]["selector"], "a=1,b=2");
    }

    #[test]
    fn scale_goes_there_and_back() {
        let mut workload = json!({"metadata": {"name": "a", "namespace": "d", "uid": "u"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 1}});
        let mut scale = of(&workload);
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
        assert_eq!(scale["spec"], json!({"replicas": 2}));
        scale["spec"]["replicas"] = 5.into();
        apply(&mut workload, &scale).unwrap();
        assert_eq!(workload["spec"]["replicas"], 5);
        scale["spec"]["replicas"] = (-1).into();
        assert_eq!(
            apply(&mut workload, &scale).unwrap_err().message,
            "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
