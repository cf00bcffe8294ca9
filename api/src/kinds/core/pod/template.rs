//! Pod templates: a Pod without identity, inside workloads.

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{Object, child_or_new};
use crate::kinds::common::{metadata, selector};

use super::{defaults, validate, warnings};

/// Defaults of `spec.template`.
pub fn set_defaults(template: &mut Object) {
    child_or_new(template, "metadata");
    defaults::pod_spec(child_or_new(template, "spec"));
}

/// Checks `spec.template`.
pub fn validate(at: &At<'_>, errors: &mut FieldErrors) {
    let meta = at.at("metadata");
    selector::labels(meta.path("labels"), meta.get("labels"), errors);
    metadata::annotations(&meta, errors);
    pod_annotations(at, errors);
    let spec = at.at("spec");
    validate::spec(&spec, errors);
    if spec.count("ephemeralContainers") > 0 {
        errors.forbidden(
            spec.path("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// What to tell a client about a valid template.
pub fn warnings(at: &At<'_>) -> Vec<String> {
    warnings::of(at, true)
}

/// Annotations that mean something to Pods.
pub fn pod_annotations(at: &At<'_>, errors: &mut FieldErrors) {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let cost = at
        .at("metadata")
        .get("annotations")
        .get(COST)
        .and_then(|v| v.as_str());
    if let Some(text) = cost
        && !valid_cost(text)
    {
        errors.invalid(
            at.at("metadata").path("annotations").key(COST),
            text,
            "must be a 32bit integer",
        );
    }
}

fn valid_cost(text: &str) -> bool {
    let padded = text.starts_with('+') || (text.len() > 1 && text.starts_with('0')) || text.starts_with("-0");
    !padded && text.parse::<i32>().is_ok()
}
