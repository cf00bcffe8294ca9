//! Binding: what the scheduler posts to `pods/binding`, and its effect on the Pod.
//! Source: `pkg/registry/core/pod/storage`, `BindingREST`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::resource::Kind;
use crate::status::Qualified;
use crate::{Status, meta, names, time};

pub struct Binding;

impl Kind for Binding {
    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate(object, errors);
    }
}

/// Checks the target.
pub fn validate(binding: &Value, errors: &mut FieldErrors) {
    let target = At::root(binding, "core.v1.Binding").at("target");
    if !matches!(target.str("kind"), "" | "Node") {
        errors.not_supported(target.path("kind"), target.str("kind"), &["Node", "<empty>"]);
    }
    match target.str("name") {
        "" => errors.required(target.path("name"), ""),
        name => named(target.path("name"), name, names::path_segment, errors),
    }
}

/// Assigns the Pod to the Binding's node and merges the Binding's labels and annotations.
///
/// # Errors
/// 422 for a bad target, 409 when the uid differs, the Pod is being deleted, assigned or gated.
pub fn assign(pod: &mut Value, binding: &Value, now: Timestamp) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    validate(binding, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(
            Qualified::new("", "Binding"),
            meta::name(binding),
            &errors,
        ));
    }
    let name = meta::name(pod).to_string();
    let conflict = |cause: String| Status::conflict(Qualified::new("", "pods/binding"), &name, cause);
    let (wanted, uid) = (meta::uid(binding), meta::uid(pod));
    if !wanted.is_empty() && wanted != uid {
        return Err(conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        )));
    }
    if meta::is_deleting(pod) {
        return Err(conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return Err(conflict(format!(
            "pod {name} is already assigned to node \"{node}\""
        )));
    }
    if pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|g| !g.is_empty())
    {
        return Err(conflict(format!(
            "pod {name} has non-empty .spec.schedulingGates"
        )));
    }
    let generation = meta::generation(pod) + 1;
    meta::set(pod, "generation", generation.into());
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for field in ["labels", "annotations"] {
        if let Some(extra) = binding["metadata"][field].as_object() {
            let metadata = meta::metadata_mut(pod);
            let slot = metadata.entry(field).or_insert_with(|| json!({}));
            if let Some(slot) = slot.as_object_mut() {
                slot.extend(extra.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }
    set_scheduled(pod, generation, now);
    Ok(())
}

/// Condition `PodScheduled` becomes `True`.
fn set_scheduled(pod: &mut Value, generation: i64, now: Timestamp) {
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "observedGeneration": generation,
        "lastProbeTime": null,
        "lastTransitionTime": time::format_time(now),
    });
    if let Some(list) = pod["status"]["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(slot) => *slot = condition,
            None => list.push(condition),
        }
    }
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pod: Value, binding: Value, want: Result<&str, &str>) {
        let mut pod = pod;
        let got = assign(&mut pod, &binding, Timestamp::UNIX_EPOCH).map_err(|s| s.message);
        let got = got.map(|()| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn assigns_once() {
        let pod =
            || json!({"metadata": {"name": "a", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        let to = |node: &str| json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
        check(pod(), to("n"), Ok("n"));
        check(
            pod(),
            to(""),
            Err("Binding \"a\" is invalid: target.name: Required value"),
        );
        let mut bound = pod();
        bound["spec"]["nodeName"] = "m".into();
        check(
            bound,
            to("n"),
            Err(
                "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"m\"",
            ),
        );
        let mut deleting = pod();
        deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        check(
            deleting,
            to("n"),
            Err(
                "Operation cannot be fulfilled on pods/binding \"a\": pod a is being deleted, cannot be assigned to a host",
            ),
        );
        let mut other = to("n");
        other["metadata"]["uid"] = "v".into();
        check(
            pod(),
            other,
            Err(
                "Operation cannot be fulfilled on pods/binding \"a\": Precondition failed: UID in precondition: v, UID in object meta: u",
            ),
        );
    }
}
