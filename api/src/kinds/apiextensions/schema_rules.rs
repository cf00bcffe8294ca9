//! A schema of a definition as JSON: its canonical form, the walk over its parts, and the form of its CEL rules.

use serde_json::{Map, Value};

use crate::field::FieldErrors;
use crate::schema::{Type, decode, schema};

/// Members that hold one schema.
pub const ONE: [&str; 4] = ["items", "additionalProperties", "additionalItems", "not"];
/// Members that hold a list of schemas.
pub const MANY: [&str; 3] = ["allOf", "oneOf", "anyOf"];
/// Members that hold schemas by name.
pub const NAMED: [&str; 3] = ["properties", "patternProperties", "definitions"];

fn facts() -> &'static Type {
    schema()
        .find("apiextensions.v1.JSONSchemaProps")
        .expect("a test checks that it is in the table")
}

/// Drops unknown fields in the parts the table of facts calls free: `items` and the like are a schema or something
/// else.
pub fn canonical(own: &mut Value) {
    let Some(map) = own.as_object_mut() else { return };
    for field in ["items", "additionalProperties", "additionalItems"] {
        if let Some(part @ Value::Object(_)) = map.get_mut(field) {
            if let Ok(bytes) = serde_json::to_vec(part)
                && let Ok(read) = decode::read(facts(), &bytes)
                && read.value.is_object()
            {
                *part = read.value;
            }
            canonical(part);
        }
    }
    if let Some(not) = map.get_mut("not") {
        canonical(not);
    }
    for field in MANY {
        for part in map
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            canonical(part);
        }
    }
    for field in NAMED {
        let parts: Option<&mut Map<String, Value>> = map.get_mut(field).and_then(Value::as_object_mut);
        for (_, part) in parts.into_iter().flatten() {
            canonical(part);
        }
    }
}

/// Every schema directly below, with its path relative to `base`.
pub fn parts<'a>(own: &'a Value, base: &str) -> Vec<(String, &'a str, &'a Value)> {
    let mut out = Vec::new();
    for field in NAMED {
        for (name, part) in own[field].as_object().into_iter().flatten() {
            out.push((format!("{base}.{field}[{name}]"), name.as_str(), part));
        }
    }
    for field in ONE {
        if own[field].is_object() {
            out.push((format!("{base}.{field}"), "", &own[field]));
        }
    }
    for field in MANY {
        for (idx, part) in own[field].as_array().into_iter().flatten().enumerate() {
            out.push((format!("{base}.{field}[{idx}]"), "", part));
        }
    }
    out
}

/// True when a schema or one below uses a keyword that no structural schema can hold.
pub fn has_unsupported(own: &Value) -> bool {
    let keywords = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ];
    keywords.iter().any(|field| is_set(&own[*field]))
        || own["x-kubernetes-preserve-unknown-fields"] == false
        || own["items"].is_array()
        || parts(own, "").iter().any(|(_, _, part)| has_unsupported(part))
}

/// The schema a field path leads to: `.a.b`, `['a']`, or values of a map by their key.
pub fn field_at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut place = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, tail) = if let Some(quoted) = rest.strip_prefix("['") {
            quoted.split_once("']")?
        } else {
            let plain = rest.strip_prefix('.')?;
            plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
        };
        if name.is_empty() {
            return None;
        }
        place = match &place["additionalProperties"] {
            values @ Value::Object(_) => values,
            _ => place["properties"].get(name)?,
        };
        rest = tail;
    }
    (!path.is_empty()).then_some(place)
}

/// True for a value that Go would not call zero.
pub fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

/// The text of a member; none for another type.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The form of CEL rules; `custom::cel` reads what they say.
pub fn rules(own: &Value, base: &str, errors: &mut FieldErrors) {
    for (idx, rule) in own["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = |field: &str| format!("{base}.x-kubernetes-validations[{idx}].{field}");
        let (expression, message) = (text(&rule["rule"]).trim(), text(&rule["message"]));
        if expression.is_empty() {
            errors.required(at("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(at("message"), message, "must be non-empty if specified");
        } else if message.trim().contains(['\n', '\r']) {
            errors.invalid(at("message"), message, "must not contain line breaks");
        } else if expression.contains(['\n', '\r']) && message.is_empty() {
            errors.required(
                at("message"),
                "message must be specified if rule contains line breaks",
            );
        }
        let expression = text(&rule["messageExpression"]);
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.required(
                at("messageExpression"),
                "messageExpression must be non-empty if specified",
            );
        }
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        if let Some(reason) = rule["reason"].as_str()
            && !reasons.contains(&reason)
        {
            errors.not_supported(at("reason"), reason, &reasons);
        }
        let place = text(&rule["fieldPath"]);
        if !place.is_empty() {
            if place.trim().is_empty() {
                errors.invalid(at("fieldPath"), place, "must be non-empty if specified");
            }
            if place.contains(['\n', '\r']) {
                errors.invalid(at("fieldPath"), place, "must not contain line breaks");
            }
            if field_at(own, place).is_none() {
                errors.invalid(at("fieldPath"), place, "must be a valid path");
            }
        }
    }
}
