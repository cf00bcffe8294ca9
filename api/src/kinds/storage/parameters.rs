//! What the classes of the storage group share: a driver's name and its parameters.

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::names;

/// Parameters of one class.
const MAX_COUNT: usize = 512;
/// Bytes of all keys and values together.
const MAX_BYTES: usize = 256 * 1024;

/// A provisioner or driver: a qualified name in any case.
pub fn driver(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    match at.str(field) {
        "" => errors.required(at.path(field), ""),
        name => named(
            at.path(field),
            &name.to_lowercase(),
            names::qualified_name,
            errors,
        ),
    }
}

pub fn parameters(at: &At<'_>, required: bool, errors: &mut FieldErrors) {
    let path = at.path("parameters");
    if at.count("parameters") > MAX_COUNT {
        errors.too_long(path, MAX_COUNT);
        return;
    }
    let mut bytes = 0;
    for (key, value) in at.entries("parameters") {
        if key.is_empty() {
            errors.invalid(path, key, "field can not be empty.");
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > MAX_BYTES {
        errors.too_long(path, MAX_BYTES);
    }
    if required && at.count("parameters") == 0 {
        errors.required(path, "must contain at least one key/value pair");
    }
}

/// Refuses a change of the driver (`field`) or of the parameters.
pub fn unchanged(new: &At<'_>, old: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    for field in ["parameters", field] {
        if new.get(field) != old.get(field) {
            errors.forbidden(new.path(field), &format!("updates to {field} are forbidden."));
        }
    }
}

/// The name with a mark when an annotation makes the class the default.
pub fn shown_name(object: &serde_json::Value, annotations: &[&str]) -> String {
    let name = crate::meta::name(object);
    let is_default = |key: &&str| crate::meta::annotation(object, key) == Some("true");
    if annotations.iter().any(is_default) {
        format!("{name} (default)")
    } else {
        name.to_string()
    }
}
