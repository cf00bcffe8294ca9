//! OpenAPI v2 (Swagger) of everything, from the v3 documents. Pure.

use serde_json::{Map, Value, json};

use super::v3;
use crate::types::Types;

/// The one Swagger document.
pub fn document(types: &Types) -> Value {
    let mut definitions = Map::new();
    let mut paths = Map::new();
    for (group, versions) in types.groups() {
        for version in versions {
            let mut document = v3::document(types, group, version);
            let schemas = document["components"]["schemas"].take();
            if let Value::Object(schemas) = schemas {
                definitions.extend(
                    schemas
                        .into_iter()
                        .map(|(name, schema)| (name, swagger_schema(schema))),
                );
            }
            if let Value::Object(items) = document["paths"].take() {
                paths.extend(items.into_iter().map(|(path, item)| (path, swagger_item(item))));
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": crate::KUBERNETES_VERSION },
        "paths": paths,
        "definitions": definitions,
    })
}

/// References move, and what only v3 can say becomes what v2 says in its place.
fn swagger_schema(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return json!({ "$ref": reference.replace("#/components/schemas/", "#/definitions/") });
    }
    if let Some(Value::Array(mut all)) = schema.remove("allOf") {
        let mut only = swagger_schema(all.pop().unwrap_or_default());
        if let Some(only) = only.as_object_mut() {
            only.extend(schema);
        }
        return only;
    }
    if schema.remove("oneOf").is_some() {
        schema.insert("type".into(), "string".into());
    }
    for field in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(field) {
            *inner = swagger_schema(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            *property = swagger_schema(property.take());
        }
    }
    Value::Object(schema)
}

fn swagger_item(item: Value) -> Value {
    let Value::Object(mut item) = item else {
        return item;
    };
    for (key, value) in &mut item {
        if key == "parameters" {
            *value = swagger_parameters(value.take());
            continue;
        }
        let Some(operation) = value.as_object_mut() else {
            continue;
        };
        let parameters = operation
            .get_mut("parameters")
            .map(Value::take)
            .unwrap_or_default();
        operation.insert("parameters".into(), swagger_parameters(parameters));
        if let Some(body) = operation.remove("requestBody") {
            let content = body["content"].as_object().cloned().unwrap_or_default();
            operation.insert("consumes".into(), content.keys().cloned().collect());
        }
        operation.insert("produces".into(), json!(["application/json", "application/yaml"]));
        operation.insert("responses".into(), json!({ "200": { "description": "OK" } }));
    }
    Value::Object(item)
}

fn swagger_parameters(parameters: Value) -> Value {
    let Value::Array(parameters) = parameters else {
        return json!([]);
    };
    let flat = |p: Value| json!({ "name": p["name"], "in": p["in"], "required": p["in"] == "path", "type": p["schema"]["type"] });
    parameters.into_iter().map(flat).collect()
}
