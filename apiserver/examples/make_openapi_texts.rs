//! Makes `src/openapi/texts.jsonl.gz`: what OpenAPI documents say beyond the table of facts.
//!
//! `cargo run -p corten-apiserver --example make_openapi_texts -- DOCUMENT.json... > apiserver/src/openapi/texts.jsonl.gz`
//!
//! The documents are those that a Kubernetes API server serves below `/openapi/v3`. Kept are the descriptions, defaults
//! and enumerations of the types that the table knows in a stable version, and the descriptions of parameters. Where
//! several documents have a type, the last one counts.

use std::collections::BTreeMap;
use std::io::Write;

use corten_api::schema::schema;
use corten_apiserver::openapi_names::full_name;
use serde_json::{Map, Value, json};

/// Said by the table of facts. (The order of required fields and granular maps are not.)
const KNOWN: [&str; 14] = [
    "$ref",
    "allOf",
    "oneOf",
    "type",
    "format",
    "items",
    "additionalProperties",
    "properties",
    "x-kubernetes-group-version-kind",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-v2-schema",
];

fn main() {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let mut document: Value = serde_json::from_str(&text).expect("a JSON document");
        collect_parameters(&document["paths"], &mut parameters);
        if let Value::Object(own) = document["components"]["schemas"].take() {
            schemas.extend(own);
        }
    }
    let mut out = flate2::write::GzEncoder::new(std::io::stdout(), flate2::Compression::best());
    let mut line = |value: Value| writeln!(out, "{value}").expect("standard output takes it");
    line(json!(["", {}, parameters]));
    for entry in schema().types() {
        let stable = !entry.name.contains("alpha") && !entry.name.contains("beta");
        let name = full_name(entry.name);
        let Some(own) = schemas.get(&name).filter(|_| stable) else {
            continue;
        };
        let fields: Map<String, Value> = own["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, property)| (field.clone(), said(property)))
            .collect();
        line(json!([name, rest(own), fields]));
    }
    out.finish().expect("standard output takes it");
}

fn rest(own: &Value) -> Map<String, Value> {
    let members = own.as_object().into_iter().flatten();
    members
        .filter(|(key, _)| !KNOWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What is said of a property, and, after it, of what it is a list or map of.
fn said(property: &Value) -> Value {
    let mut levels = Vec::new();
    let mut own = property;
    while own.is_object() {
        levels.push(Value::Object(rest(own)));
        own = own
            .get("items")
            .or(own.get("additionalProperties"))
            .unwrap_or(&Value::Null);
    }
    while levels.len() > 1 && levels.last().is_some_and(|last| *last == json!({})) {
        levels.pop();
    }
    Value::Array(levels)
}

fn collect_parameters(paths: &Value, parameters: &mut BTreeMap<String, Value>) {
    match paths {
        Value::Object(map) => {
            if let (Some(name), Some(text)) = (map.get("name"), map.get("description"))
                && map.contains_key("in")
                && let Some(name) = name.as_str()
            {
                parameters.entry(name.to_owned()).or_insert_with(|| text.clone());
            }
            map.values()
                .for_each(|value| collect_parameters(value, parameters));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| collect_parameters(value, parameters)),
        _ => {}
    }
}
