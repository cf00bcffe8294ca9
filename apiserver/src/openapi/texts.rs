//! What the documents say in words, with defaults and enumerations: kept compressed in the program.
//!
//! `texts.jsonl.gz` holds descriptions from the API definitions of Kubernetes 1.36, Copyright The Kubernetes Authors,
//! licensed under the Apache License 2.0 (`NOTICE`). Made by `examples/make_openapi_texts.rs`; each line is a type's
//! name, what is said of it, and for each field what is said of it and of its elements. The first line has no name and
//! holds the parameters.

use std::collections::HashMap;
use std::io::Read;

use serde_json::{Map, Value};

static COMPRESSED: &[u8] = include_bytes!("texts.jsonl.gz");

/// What is said of a type itself, and of its fields by name.
type OfType = (Map<String, Value>, Map<String, Value>);

/// All texts. They take a few MiB, so whoever makes documents loads them and drops them afterwards.
pub struct Texts {
    types: HashMap<String, OfType>,
}

impl Texts {
    pub fn load() -> Texts {
        let mut text = String::new();
        flate2::read::GzDecoder::new(COMPRESSED)
            .read_to_string(&mut text)
            .expect("the texts are part of the program");
        let types = text
            .lines()
            .map(|line| {
                let (name, own, fields) =
                    serde_json::from_str(line).expect("the texts are part of the program");
                (name, (own, fields))
            })
            .collect();
        Texts { types }
    }

    /// Adds what is said of a type to its schema.
    pub fn describe_type(&self, name: &str, schema: &mut Value) {
        if let (Some((own, _)), Some(schema)) = (self.types.get(name), schema.as_object_mut()) {
            schema.extend(own.clone());
        }
    }

    /// Adds what is said of a field, and of its elements, to its schema.
    pub fn describe_field(&self, name: &str, field: &str, schema: &mut Value) {
        let levels = self.types.get(name).and_then(|(_, fields)| fields.get(field));
        let mut at = schema;
        for level in levels.and_then(Value::as_array).into_iter().flatten() {
            let Some(level) = level.as_object() else { return };
            if !level.is_empty() {
                beside_reference(at);
            }
            let Some(members) = at.as_object_mut() else { return };
            members.extend(level.clone());
            let inner = if members.contains_key("items") {
                "items"
            } else {
                "additionalProperties"
            };
            let Some(next) = members.get_mut(inner) else {
                return;
            };
            at = next;
        }
    }

    /// The description of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.types
            .get("")
            .and_then(|(_, parameters)| parameters.get(name))
    }
}

/// A reference may have nothing beside it, so it moves into `allOf`.
pub fn beside_reference(schema: &mut Value) {
    if schema.get("$ref").is_some() {
        *schema = serde_json::json!({ "allOf": [schema.take()] });
    }
}
