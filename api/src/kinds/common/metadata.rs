//! Validation of `metadata`, for every kind. Source: `k8s.io/apimachinery/pkg/api/validation/objectmeta.go`.

use serde_json::Value;

use super::rules::{self, named};
use super::selector;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::names;
use crate::resource::ResourceType;

/// Bytes of all annotations together.
pub const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Finalizers without a domain that upstream knows.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Groups besides those of custom resources whose finalizers need no domain: upstream checks them as any object's, and only
/// those it got from the core API more strictly.
const PLAIN_FINALIZERS: [&str; 5] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
];

/// Checks the metadata of a new or changed object of `ty`.
pub fn validate(ty: &ResourceType, object: &Value, errors: &mut FieldErrors) {
    let (namespaced, rule) = (ty.namespaced, ty.behaviour.name_rule());
    let at = At::root(object, "").at("metadata");
    let generate = at.str("generateName");
    if !generate.is_empty() {
        for text in rule(&names::mask_trailing_dash(generate)) {
            errors.invalid(at.path("generateName"), generate, &text);
        }
    }
    match at.str("name") {
        "" => errors.required(at.path("name"), "name or generateName is required"),
        name => named(at.path("name"), name, rule, errors),
    }
    match (namespaced, at.str("namespace")) {
        (true, "") => errors.required(at.path("namespace"), ""),
        (true, namespace) => named(at.path("namespace"), namespace, names::dns_label, errors),
        (false, "") => {}
        (false, _) => errors.forbidden(at.path("namespace"), "not allowed on this type"),
    }
    rules::not_negative(&at, "generation", errors);
    selector::labels(at.path("labels"), at.get("labels"), errors);
    annotations(&at, errors);
    owner_references(&at, errors);
    finalizers(&at, errors);
    if ty.as_custom().is_none() && !PLAIN_FINALIZERS.contains(&&*ty.group) {
        standard_finalizers(&at, errors);
    }
    crate::apply::managers::validate(&at, errors);
}

/// Annotations of an object or of a Pod template.
pub fn annotations(at: &At<'_>, errors: &mut FieldErrors) {
    let mut total = 0;
    for (key, value) in at.entries("annotations") {
        // Keys of annotations may be upper case in the prefix.
        for text in names::qualified_name(&key.to_lowercase()) {
            errors.invalid(at.path("annotations"), key, &text);
        }
        total += key.len() + value.text().len();
    }
    if total > MAX_ANNOTATIONS {
        errors.too_long(at.path("annotations"), MAX_ANNOTATIONS);
    }
}

fn owner_references(at: &At<'_>, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for owner in at.items("ownerReferences") {
        let api_version = owner.str("apiVersion");
        if api_version.rsplit('/').next().unwrap_or_default().is_empty() {
            errors.invalid(owner.path("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.str(field).is_empty() {
                errors.invalid(owner.path(field), "", "must not be empty");
            }
        }
        if (api_version, owner.str("kind")) == ("v1", "Event") {
            errors.invalid(
                at.path("ownerReferences"),
                owner.value.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if owner.bool("controller") {
            let name = owner.str("name");
            match &controller {
                None => controller = Some(name.into()),
                Some(first) => errors.invalid(
                    at.path("ownerReferences"),
                    at.get("ownerReferences").clone(),
                    &format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"),
                ),
            }
        }
    }
}

fn finalizers(at: &At<'_>, errors: &mut FieldErrors) {
    let all: Vec<&str> = at.strings("finalizers").collect();
    for finalizer in &all {
        named(at.path("finalizers"), finalizer, names::qualified_name, errors);
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        errors.invalid(
            at.path("finalizers"),
            at.get("finalizers").clone(),
            "finalizer foregroundDeletion and orphan cannot be both set",
        );
    }
}

/// Source: `pkg/apis/core/validation`, `validateKubeFinalizerName`.
fn standard_finalizers(at: &At<'_>, errors: &mut FieldErrors) {
    for (index, finalizer) in at.strings("finalizers").enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            errors.invalid(
                format!("{}[{index}]", at.path("finalizers")),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

/// Checks what of the metadata an update may not change.
pub fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (At::root(new, "").at("metadata"), At::root(old, "").at("metadata"));
    let known: Vec<&str> = old.strings("finalizers").collect();
    let fresh: Vec<&str> = new.strings("finalizers").filter(|f| !known.contains(f)).collect();
    if old.has("deletionTimestamp") && !fresh.is_empty() {
        let list: Vec<String> = fresh.iter().map(|f| crate::field::quoted(f)).collect();
        errors.forbidden(
            new.path("finalizers"),
            &format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            ),
        );
    }
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        rules::immutable(new.path(field), new.get(field), old.get(field), errors);
    }
}
