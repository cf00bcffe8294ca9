//! What a resize of a Pod may change. Source: `pkg/apis/core/validation`, `ValidatePodResize`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::meta;

use super::TYPE;
use super::defaults::qos_class;

const MUTABLE: [&str; 2] = ["cpu", "memory"];
const LISTS: [&str; 2] = ["containers", "initContainers"];

pub fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        errors.forbidden("", "static pods cannot be resized");
        return;
    }
    if old["spec"]["os"]["name"] == "windows" {
        errors.forbidden("", "windows pods cannot be resized");
        return;
    }
    let (at, before) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
    let counted = errors.len();
    if class(old) != class_of_spec(new) {
        let class = new["status"]["qosClass"].as_str().unwrap_or_default();
        errors.invalid(
            at.here(),
            class,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    if !node_supports(old) {
        errors.forbidden(at.here(), "Pod running on node without support for resize");
    }
    let claims = &old["status"]["nodeAllocatableResourceClaimStatuses"];
    if claims.as_array().is_some_and(|claims| !claims.is_empty()) {
        errors.forbidden(
            at.here(),
            "pods with node allocatable resource claims cannot be resized",
        );
    }
    whole_pod(&at, &before, errors);
    for list in LISTS {
        for (new, old) in at.items(list).zip(before.items(list)) {
            nothing_removed(&new, &old, "resource", errors);
        }
    }
    for (new, old) in at.items("containers").zip(before.items("containers")) {
        if differs(new.value, old.value) {
            errors.forbidden(at.here(), "only cpu and memory resources are mutable");
        }
    }
    for (new, old) in at.items("initContainers").zip(before.items("initContainers")) {
        if differs(new.value, old.value) {
            errors.forbidden(
                &new,
                "only cpu and memory resources for init or sidecar containers are mutable",
            );
        }
        let sidecar = new.str("restartPolicy") == "Always";
        let restarts = new
            .items("resizePolicy")
            .any(|policy| policy.str("restartPolicy") == "RestartContainer");
        if new.value != old.value && !sidecar && restarts {
            errors.forbidden(
                &new,
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
            );
        }
    }
    if errors.len() == counted && spec_differs(&new["spec"], &old["spec"]) {
        errors.forbidden(at.here(), "only cpu and memory resources are mutable");
    }
}

/// The class the Pod reports, or would.
fn class(pod: &Value) -> &str {
    match pod["status"]["qosClass"].as_str() {
        Some(class) if !class.is_empty() => class,
        _ => class_of_spec(pod),
    }
}

fn class_of_spec(pod: &Value) -> &'static str {
    pod.as_object().map_or("", qos_class)
}

/// A node that resizes reports what its running containers have.
fn node_supports(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let mut running = statuses.filter(|status| status["state"]["running"].is_object());
    running
        .next()
        .is_none_or(|status| status["resources"].is_object())
}

/// Resources of the Pod as a whole.
fn whole_pod(at: &At<'_>, before: &At<'_>, errors: &mut FieldErrors) {
    let set = |spec: &At<'_>| {
        let resources = spec.at("resources");
        resources.count("requests") + resources.count("limits") > 0
    };
    if !set(at) && !set(before) {
        return;
    }
    if before.has("resources") && !at.has("resources") {
        errors.forbidden(at.path("resources"), "pod-level resources cannot be removed");
        return;
    }
    nothing_removed(at, before, "pod-level resource", errors);
    let (new, old) = (at.get("resources"), before.get("resources"));
    if normal(&put_back(new, old)) != normal(old) {
        errors.forbidden(
            at.here(),
            "only cpu and memory resources are mutable at pod-level",
        );
    }
}

fn nothing_removed(new: &At<'_>, old: &At<'_>, what: &str, errors: &mut FieldErrors) {
    let (resources, before) = (new.at("resources"), old.at("resources"));
    for list in ["requests", "limits"] {
        if before
            .keys(list)
            .any(|name| resources.keys(list).all(|own| own != name))
        {
            errors.forbidden(resources.path(list), &format!("{what} {list} cannot be removed"));
        }
    }
}

/// Whether anything but CPU and memory of the container changed.
fn differs(new: &Value, old: &Value) -> bool {
    let mut new = new.clone();
    if let Some(container) = new.as_object_mut() {
        let resources = put_back(
            container.get("resources").unwrap_or(&Value::Null),
            &old["resources"],
        );
        container.insert("resources".into(), resources);
    }
    normal(&new) != normal(old)
}

/// Whether anything but resources of containers and of the Pod changed.
fn spec_differs(new: &Value, old: &Value) -> bool {
    let mut new = new.clone();
    if let Some(spec) = new.as_object_mut() {
        for field in LISTS.into_iter().chain(["resources"]) {
            match old.get(field) {
                Some(value) => spec.insert(field.into(), value.clone()),
                None => spec.remove(field),
            };
        }
    }
    normal(&new) != normal(old)
}

/// `new` with CPU and memory as in `old`.
fn put_back(new: &Value, old: &Value) -> Value {
    let mut out = new.as_object().cloned().unwrap_or_default();
    for list in ["requests", "limits"] {
        let mut amounts = out
            .get(list)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        for name in MUTABLE {
            match old[list].get(name) {
                Some(amount) => amounts.insert(name.into(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        out.insert(list.into(), Value::Object(amounts));
    }
    Value::Object(out)
}

/// Without empty maps and lists, which mean the same as none.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), normal(value)));
            let kept: Map<String, Value> = kept.filter(|(_, value)| !is_empty(value)).collect();
            Value::Object(kept)
        }
        Value::Array(list) => list.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
