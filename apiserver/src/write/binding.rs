//! `pods/binding`: a Pod gets its node, once, in one transaction. Pure.

use corten_api::status::Qualified;
use corten_api::{Status, meta, time};
use corten_store::{Op, Snapshot};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Answered, Decision, Payload, Subject};

const PODS_BINDING: Qualified<'static> = Qualified {
    group: "",
    name: "pods/binding",
};

/// # Errors
/// `NotFound`; `Conflict` when the Pod has a node or is being deleted; `Invalid` for a target that is no Node.
pub fn decide(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    binding: &Value,
    now: Timestamp,
) -> Result<Decision, Status> {
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or_default();
    let mut errors = corten_api::field::FieldErrors::default();
    match target["kind"].as_str().unwrap_or_default() {
        "" | "Node" => {}
        other => errors.not_supported("target.kind", other, &["Node", "<empty>"]),
    }
    if node.is_empty() {
        errors.required("target.name", "");
    }
    if !errors.is_empty() {
        return Err(Status::invalid(Qualified::new("", "Binding"), name, &errors));
    }
    let current = subject.read(snapshot, name)?;
    let conflict = |why: String| Err(Status::conflict(PODS_BINDING, name, why));
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(&current.value) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(&current.value)
        ));
    }
    if meta::is_deleting(&current.value) {
        return conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(own) = current.value["spec"]["nodeName"]
        .as_str()
        .filter(|own| !own.is_empty())
    {
        return conflict(format!("pod {name} is already assigned to node {own:?}"));
    }
    if current.value["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = current.value.clone();
    pod["spec"]["nodeName"] = node.into();
    for part in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][part].as_object().into_iter().flatten() {
            pod["metadata"][part][key] = value.clone();
        }
    }
    set_scheduled(&mut pod, now);
    let ops = vec![Op::Put {
        key: current.key.clone(),
        value: subject.encode(&pod),
    }];
    let mut created = Status::success(Qualified::new("", ""), "", "");
    created.code = 201;
    created.details = None;
    let answer = Answered {
        code: StatusCode::CREATED,
        payload: Payload::Status(created),
        warnings: Vec::new(),
    };
    Ok(Decision::commit(vec![current.unchanged()], ops, answer))
}

/// Sets the `PodScheduled` condition to `True`.
fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time::format_time(now),
    });
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let conditions = pod["status"]["conditions"]
        .as_array_mut()
        .expect("made an array above");
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(own) if own["status"] == "True" => {}
        Some(own) => *own = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_replaces_what_the_scheduler_said_before() {
        let mut pod = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
        set_scheduled(&mut pod, Timestamp::UNIX_EPOCH);
        let conditions = pod["status"]["conditions"].as_array().expect("conditions");
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0]["status"], "True");
        assert!(conditions[0].get("reason").is_none());
    }
}
