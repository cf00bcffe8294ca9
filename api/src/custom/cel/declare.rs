//! What of an object a rule can see, and how large it can get.
//!
//! Source: `k8s.io/apiserver/pkg/cel/common/schemas.go`, `pkg/cel/limits.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_cel::{Decl, Field, ListKind, Object, Shape, escape};
use serde_json::Value;

use super::text;

/// Most bytes of a request, by which what has no bound of its own is bounded.
pub const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// Longest duration and time, quoted.
const MAX_TIME: u64 = 32;
/// A date, quoted.
const DATE: u64 = 12;

/// The declaration of a schema, `None` for what rules cannot see. `root`: the schema is of a whole object.
pub fn declare(schema: &Value, root: bool) -> Option<Arc<Decl>> {
    named(schema, root, "selfType")
}

fn named(schema: &Value, root: bool, name: &str) -> Option<Arc<Decl>> {
    let bound = |field: &str| schema[field].as_i64().map(|own| u64::try_from(own).unwrap_or(0));
    let decl = |shape, max, min| {
        Some(Arc::new(Decl {
            nullable: schema["nullable"] == true,
            ..Decl::new(shape, max, min)
        }))
    };
    let max_length = |free: u64| bound("maxLength").map_or(free, |own| own.saturating_mul(4));
    if schema["x-kubernetes-int-or-string"] == true {
        return decl(Shape::Dyn, max_length(MAX_REQUEST - 2), 1);
    }
    let format = text(&schema["format"]);
    let kind = if root { "object" } else { text(&schema["type"]) };
    match kind {
        "array" => {
            let items = schema.get("items")?;
            let of = named(items, is_embedded(items), &format!("{name}.@idx"))?;
            let max = bound("maxItems").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 1));
            let keys = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten();
            let kind = match text(&schema["x-kubernetes-list-type"]) {
                "set" => ListKind::Set,
                "map" => ListKind::Keyed,
                _ => ListKind::Plain,
            };
            let keys = keys.map(|key| text(key).to_owned()).collect();
            decl(Shape::List { of, kind, keys }, max, 2)
        }
        "object" if schema["additionalProperties"].is_object() => {
            let values = &schema["additionalProperties"];
            let of = named(values, is_embedded(values), &format!("{name}.@elem"))?;
            let max = bound("maxProperties").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 6));
            let key = Arc::new(Decl::new(Shape::String, 0, 2));
            decl(Shape::Map { of, key }, max, 2)
        }
        "object" => {
            let (object, size) = object(schema, root, name);
            decl(Shape::Object(Arc::new(object)), 0, size)
        }
        "string" => match format {
            "byte" => decl(Shape::Bytes, bound("maxLength").unwrap_or(MAX_REQUEST - 2), 2),
            "duration" => decl(Shape::Duration, MAX_TIME, 3),
            "date" => decl(Shape::Timestamp, DATE, DATE),
            "date-time" => decl(Shape::Timestamp, MAX_TIME, 21),
            _ => {
                let words = schema["enum"].as_array().map_or(&[] as &[Value], Vec::as_slice);
                let longest = words.iter().map(|word| text(word).len() as u64).max();
                decl(Shape::String, max_length(longest.unwrap_or(MAX_REQUEST - 2)), 2)
            }
        },
        "boolean" => decl(Shape::Bool, 0, 4),
        "number" => decl(Shape::Double, 0, 1),
        "integer" => decl(Shape::Int, 0, 1),
        _ => None,
    }
}

fn is_embedded(schema: &Value) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

/// The fields, and the fewest bytes the object takes.
fn object(schema: &Value, root: bool, name: &str) -> (Object, u64) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    let mut fields = BTreeMap::new();
    let mut size = 2;
    for (own, property) in schema["properties"].as_object().into_iter().flatten() {
        if root && matches!(own.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let Some(decl) = named(property, is_embedded(property), &format!("{name}.{own}")) else {
            continue;
        };
        if required.contains(&own.as_str()) && property["default"].is_null() {
            size += own.len() as u64 + decl.min_size + 4;
        }
        if let Some(escaped) = escape(own) {
            fields.insert(
                escaped.into_owned(),
                Field {
                    json: own.as_str().into(),
                    decl,
                },
            );
        }
    }
    if root {
        let word = Arc::new(Decl::new(Shape::String, MAX_REQUEST - 2, 2));
        let field = |json: &str, decl: &Arc<Decl>| {
            let decl = decl.clone();
            (
                json.to_owned(),
                Field {
                    json: json.into(),
                    decl,
                },
            )
        };
        let metadata = Object {
            name: format!("{name}.metadata"),
            fields: BTreeMap::from([field("name", &word), field("generateName", &word)]),
            open: false,
        };
        let metadata = Arc::new(Decl::new(Shape::Object(Arc::new(metadata)), 0, 2));
        fields.extend([
            field("apiVersion", &word),
            field("kind", &word),
            field("metadata", &metadata),
        ]);
    }
    let object = Object {
        name: name.to_owned(),
        fields,
        open: false,
    };
    (object, size)
}
