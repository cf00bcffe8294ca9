//! Defaults of a structural schema, and what becomes of `null`.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting`.

use serde_json::Value;

use super::schema::Schema;

/// Puts defaults where a field is absent, or `null` without being nullable.
pub fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties.iter() {
                let Some(default) = &property.default else {
                    continue;
                };
                let absent = match map.get(name) {
                    None => true,
                    Some(own) => own.is_null() && !property.nullable,
                };
                if absent {
                    map.insert(name.to_owned(), (**default).clone());
                }
            }
            for (name, own) in map {
                if let Some(property) = schema.properties.get(name) {
                    fill(own, property);
                } else if let Some(values) = schema.values() {
                    instead_of_null(own, values);
                    fill(own, values);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for own in list {
                    instead_of_null(own, items);
                    fill(own, items);
                }
            }
        }
        _ => {}
    }
}

fn instead_of_null(value: &mut Value, schema: &Schema) {
    if let (Value::Null, false, Some(default)) = (&value, schema.nullable, &schema.default) {
        *value = (**default).clone();
    }
}

/// Drops `null` members that are neither nullable nor have a default to take their place.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => map.retain(|name, own| {
            let Some(below) = schema.properties.get(name).or_else(|| schema.values()) else {
                return true;
            };
            if own.is_null() {
                return below.nullable || below.default.is_some() || below.preserve && below.shape.is_none();
            }
            drop_nulls(own, below);
            true
        }),
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for own in list {
                    drop_nulls(own, items);
                }
            }
        }
        _ => {}
    }
}
