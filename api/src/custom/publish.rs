//! A custom type in documents: its schema with the fields every object has. Pure.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder`.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::resource::ResourceType;

/// The description of a field every object has, in our words.
pub fn describe(field: &str) -> &'static str {
    match field {
        "apiVersion" => "The versioned schema of this object.",
        "kind" => "The REST resource this object stands for.",
        "metadata" => "Standard metadata of the object.",
        "name" => "Name of the object, unique within its namespace and resource.",
        "creationTimestamp" => "When the server made the object.",
        _ => "",
    }
}

/// `com.example.stable.v1.CronTab`: the name of a type in documents.
pub fn schema_name(ty: &ResourceType) -> String {
    let group: Vec<&str> = ty.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), ty.version, ty.kind)
}

/// The type's schema for OpenAPI v3. `metadata` is the reference to the schema of metadata.
pub fn object_schema(ty: &ResourceType, custom: &Custom, metadata: &Value) -> Value {
    let mut own = match &*custom.source {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    own.entry("type").or_insert_with(|| "object".into());
    let properties = own.entry("properties").or_insert_with(|| json!({}));
    for field in ["apiVersion", "kind"] {
        properties[field] = json!({"type": "string", "description": describe(field)});
    }
    properties["metadata"] = match metadata {
        Value::Object(reference) => json!({"allOf": [reference], "description": describe("metadata")}),
        _ => json!({"type": "object"}),
    };
    own.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([{"group": ty.group, "version": ty.version, "kind": ty.kind}]),
    );
    Value::Object(own)
}
