//! What an update of a Pod may change. Source: `pkg/apis/core/validation`, `ValidatePodUpdate`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, items};
use crate::kinds::common::difference::difference;
use crate::resource::Subresource;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub fn main(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (at, before) = (
        At::root(new, super::TYPE).at("spec"),
        At::root(old, super::TYPE).at("spec"),
    );
    let counted = errors.len();
    for field in ["containers", "initContainers"] {
        if at.count(field) != before.count(field) {
            errors.forbidden(at.path(field), "pod updates may not add or remove containers");
        }
    }
    if errors.len() > counted {
        return;
    }
    deadline(&at, &before, errors);
    gates(&at, &before, errors);
    tolerations(&at, &before, errors);
    let grace = before
        .opt_int("terminationGracePeriodSeconds")
        .unwrap_or_default();
    let mut wanted = new["spec"].clone();
    munge(&mut wanted, &old["spec"], grace);
    if wanted != old["spec"] {
        errors.forbidden(
            at.here(),
            &format!(
                "{UPDATABLE}\n{}",
                difference("core.PodSpec", &old["spec"], &wanted)
            ),
        );
    }
}

/// An update of one part: everything else is the stored object's.
pub fn take_part(part: Subresource, new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let wanted = std::mem::replace(new, old.clone());
    if let Some(metadata) = wanted.get("metadata") {
        new.insert("metadata".into(), metadata.clone());
    }
    let (Some(wanted), Some(spec)) = (wanted.get("spec"), child(new, "spec")) else {
        return;
    };
    match part {
        Subresource::EphemeralContainers => match wanted.get("ephemeralContainers") {
            Some(list) => drop(spec.insert("ephemeralContainers".into(), list.clone())),
            None => drop(spec.remove("ephemeralContainers")),
        },
        _ => {
            take(spec, wanted, "resources");
            for list in ["containers", "initContainers"] {
                for container in items(spec, list) {
                    let mut all = wanted[list].as_array().into_iter().flatten();
                    if let Some(same) = all.find(|c| c["name"] == container["name"]) {
                        take(container, same, "resources");
                        take(container, same, "resizePolicy");
                    }
                }
            }
        }
    }
}

/// One field as the client wants it, also when it wants none.
fn take(map: &mut Map<String, Value>, wanted: &Value, field: &str) {
    match wanted.get(field) {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

/// Ephemeral containers are only ever added.
pub fn ephemeral(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (at, before) = (
        At::root(new, super::TYPE).at("spec"),
        At::root(old, super::TYPE).at("spec"),
    );
    let list = at.path("ephemeralContainers");
    for kept in before.items("ephemeralContainers") {
        let name = kept.str("name");
        match at.items("ephemeralContainers").find(|c| c.str("name") == name) {
            None => errors.forbidden(
                list,
                &format!("existing ephemeral containers \"{name}\" may not be removed\n"),
            ),
            Some(same) if same.value != kept.value => errors.forbidden(
                list,
                &format!("existing ephemeral containers \"{name}\" may not be changed\n"),
            ),
            Some(_) => {}
        }
    }
}

/// Puts back what may change, so that any difference left is a forbidden one.
fn munge(wanted: &mut Value, old: &Value, grace: i64) {
    for field in ["containers", "initContainers"] {
        let list = wanted
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for (container, before) in list.zip(old[field].as_array().into_iter().flatten()) {
            restore(container, before, "image");
        }
    }
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if grace < 0 && wanted["terminationGracePeriodSeconds"] == 1 {
        fields.push("terminationGracePeriodSeconds");
    }
    if old["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        // Until the scheduler may look at it, where a Pod goes can still be narrowed.
        fields.extend(["nodeSelector", "affinity"]);
    }
    for field in fields {
        restore(wanted, old, field);
    }
}

fn restore(wanted: &mut Value, old: &Value, field: &str) {
    let Some(map) = wanted.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

fn deadline(at: &At<'_>, before: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path("activeDeadlineSeconds");
    match (
        at.opt_int("activeDeadlineSeconds"),
        before.opt_int("activeDeadlineSeconds"),
    ) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        _ => {}
    }
}

fn gates(at: &At<'_>, before: &At<'_>, errors: &mut FieldErrors) {
    let known: Vec<&str> = before.items("schedulingGates").map(|g| g.str("name")).collect();
    let fresh: Vec<&str> = at
        .items("schedulingGates")
        .map(|g| g.str("name"))
        .filter(|g| !known.contains(g))
        .collect();
    if !fresh.is_empty() {
        errors.forbidden(
            at.path("schedulingGates"),
            &format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                fresh.join("', '")
            ),
        );
    }
}

fn tolerations(at: &At<'_>, before: &At<'_>, errors: &mut FieldErrors) {
    let same = |a: &Map<String, Value>, b: &Map<String, Value>| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|f| a.get(*f) == b.get(*f))
    };
    let all: Vec<&Map<String, Value>> = at
        .items("tolerations")
        .filter_map(|t| t.value.as_object())
        .collect();
    let kept = before
        .items("tolerations")
        .filter_map(|t| t.value.as_object())
        .all(|t| all.iter().any(|n| same(n, t)));
    if !kept {
        errors.forbidden(
            at.path("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

/// What a status update may not do.
pub fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (at, before) = (
        At::root(new, super::TYPE).at("status"),
        At::root(old, super::TYPE).at("status"),
    );
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or_default();
    if policy == "Always" {
        return;
    }
    for (field, list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
    ] {
        for container in at.items(field) {
            let name = container.str("name");
            let sidecar = old["spec"][list]
                .as_array()
                .into_iter()
                .flatten()
                .any(|c| c["name"] == name && c["restartPolicy"].is_string());
            let was = before
                .items(field)
                .find(|c| c.str("name") == name)
                .map(|c| c.at("state"));
            let Some(ended) = was.and_then(|s| s.opt("terminated")) else {
                continue;
            };
            let failed_may_retry = ended.int("exitCode") != 0 && policy == "OnFailure";
            if sidecar || failed_may_retry || container.at("state").has("terminated") {
                continue;
            }
            errors.forbidden(
                container.path("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}
