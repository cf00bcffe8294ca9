//! Lists of type `set` and `map` hold nothing twice.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::schema::Schema;
use crate::field::FieldErrors;
use crate::schema::ListType;

/// Names every repeated element of the lists in `object`.
pub fn validate(schema: &Schema, object: &Value, errors: &mut FieldErrors) {
    walk(schema, object, "", errors);
}

fn walk(schema: &Schema, value: &Value, path: &str, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (name, own) in map {
                if let Some(property) = schema.properties.get(name) {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(property, own, &format!("{path}{dot}{name}"), errors);
                } else if let Some(values) = schema.values() {
                    walk(values, own, &format!("{path}[{name}]"), errors);
                }
            }
        }
        Value::Array(list) => {
            let mut seen = HashSet::new();
            for (idx, own) in list.iter().enumerate() {
                let key = match schema.list_type {
                    Some(ListType::Set) => own.clone(),
                    Some(ListType::Map) => match own.as_object() {
                        Some(own) => keys(own, &schema.list_keys),
                        None => continue,
                    },
                    _ => break,
                };
                // Maps of serde_json keep their keys sorted, so equal values have equal texts.
                if !seen.insert(key.to_string()) {
                    errors.duplicate(format!("{path}[{idx}]"), key);
                }
            }
            if let Some(items) = &schema.items {
                for (idx, own) in list.iter().enumerate() {
                    walk(items, own, &format!("{path}[{idx}]"), errors);
                }
            }
        }
        _ => {}
    }
}

/// The part of an element it is known by.
pub fn keys(element: &Map<String, Value>, names: &[String]) -> Value {
    let own = names
        .iter()
        .filter_map(|name| Some((name.clone(), element.get(name)?.clone())));
    Value::Object(own.collect())
}
