//! OpenAPI v3 of one group and version. Pure.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::ResourceType;
use corten_api::schema::{Kind, ListType, Type, schema};
use serde_json::{Map, Value, json};

use super::gvk;
use crate::types::Types;

/// `api/v1`, `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// The document of one group and version.
pub fn document(types: &Types, group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut wanted: BTreeSet<&'static str> = BTreeSet::new();
    let mut lists: BTreeMap<String, Value> = BTreeMap::new();
    for ty in types.members(group, version) {
        let Some(entry) = ty.type_facts() else { continue };
        add_paths(&mut paths, ty);
        collect(entry, &mut wanted);
        lists.insert(format!("{}List", schema_name(ty.schema)), list_schema(ty));
    }
    let mut schemas: Map<String, Value> = wanted
        .into_iter()
        .filter_map(|name| schema().find(name))
        .map(|entry| (schema_name(entry.name), type_schema(entry)))
        .collect();
    schemas.extend(lists);
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": crate::KUBERNETES_VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// `core.v1.Pod` is `io.k8s.api.core.v1.Pod` to clients; what is no API group is machinery.
fn schema_name(name: &str) -> String {
    match name.strip_prefix("meta.") {
        Some(rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        None if name.starts_with("io.k8s.") => name.to_owned(),
        None => format!("io.k8s.api.{name}"),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", schema_name(name)) })
}

fn collect(entry: &'static Type, wanted: &mut BTreeSet<&'static str>) {
    if !wanted.insert(entry.name) {
        return;
    }
    for field in &entry.fields {
        if let Some(inner) = struct_of(&field.kind) {
            collect(inner, wanted);
        }
    }
}

fn struct_of(kind: &Kind) -> Option<&'static Type> {
    match kind {
        Kind::Struct(idx) => Some(schema().get(*idx)),
        Kind::List(inner) | Kind::Map(inner) => struct_of(inner),
        _ => None,
    }
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::String => json!({ "type": "string" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Int32 => json!({ "type": "integer", "format": "int32" }),
        Kind::Int64 => json!({ "type": "integer", "format": "int64" }),
        Kind::Double => json!({ "type": "number", "format": "double" }),
        Kind::Bytes => json!({ "type": "string", "format": "byte" }),
        Kind::Time | Kind::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Kind::Quantity => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Kind::IntOrString => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        Kind::Any => json!({ "type": "object" }),
        Kind::Struct(idx) => json!({ "allOf": [reference(schema().get(*idx).name)] }),
        Kind::List(inner) => json!({ "type": "array", "items": kind_schema(inner) }),
        Kind::Map(inner) => json!({ "type": "object", "additionalProperties": kind_schema(inner) }),
    }
}

fn type_schema(entry: &Type) -> Value {
    let mut properties = Map::new();
    for field in &entry.fields {
        let mut own = kind_schema(&field.kind);
        if let Some(list_type) = field.list_type {
            let word = match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            own["x-kubernetes-list-type"] = word.into();
        }
        if !field.list_keys.is_empty() {
            own["x-kubernetes-list-map-keys"] = json!(field.list_keys);
        }
        let strategies: Vec<&str> = [
            (field.patch_merge, "merge"),
            (field.patch_retain_keys, "retainKeys"),
        ]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
        if !strategies.is_empty() {
            own["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if let Some(key) = field.merge_key {
            own["x-kubernetes-patch-merge-key"] = key.into();
        }
        properties.insert(field.name.to_owned(), own);
    }
    let mut own = json!({ "type": "object" });
    if !properties.is_empty() {
        own["properties"] = Value::Object(properties);
    }
    let required: Vec<&str> = entry
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        own["required"] = json!(required);
    }
    if entry.atomic {
        own["x-kubernetes-map-type"] = "atomic".into();
    }
    if !entry.gvks.is_empty() {
        own["x-kubernetes-group-version-kind"] = entry
            .gvks
            .iter()
            .map(|(group, version, kind)| gvk(group, version, kind))
            .collect();
    }
    own
}

fn list_schema(ty: &ResourceType) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "items": { "type": "array", "items": reference(ty.schema) },
        },
        "x-kubernetes-group-version-kind": [gvk(&ty.group, &ty.version, &ty.list_kind())],
    })
}

/// Query parameters of a verb, as upstream names them.
fn parameters(verb: &str) -> Vec<Value> {
    let names: &[&str] = match verb {
        "create" | "update" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &[
            "dryRun",
            "gracePeriodSeconds",
            "orphanDependents",
            "propagationPolicy",
        ],
        "list" | "watch" | "deletecollection" => &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ],
        _ => &[],
    };
    let of = |name: &&str| {
        let kind = match *name {
            "allowWatchBookmarks" | "force" | "orphanDependents" | "sendInitialEvents" | "watch" => "boolean",
            "gracePeriodSeconds" | "limit" | "timeoutSeconds" => "integer",
            _ => "string",
        };
        json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
    };
    names.iter().map(of).collect()
}

fn operation(ty: &ResourceType, verb: &str, answer: &str) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let content = |name: &str| json!({ "application/json": { "schema": reference(name) } });
    let mut own = json!({
        "parameters": parameters(verb),
        "responses": { "200": { "description": "OK", "content": content(answer) } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(&ty.group, &ty.version, &ty.kind),
    });
    let body = match verb {
        "create" | "update" => content(ty.schema),
        "patch" => corten_api::patch::SUPPORTED
            .iter()
            .map(|media| ((*media).to_owned(), json!({ "schema": { "type": "object" } })))
            .collect::<Map<_, _>>()
            .into(),
        _ => return own,
    };
    own["requestBody"] = json!({ "content": body });
    own
}

fn add_paths(paths: &mut Map<String, Value>, ty: &ResourceType) {
    let base = format!("/{}", path_of(&ty.group, &ty.version));
    let scope = if ty.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{base}{scope}/{}", ty.plural);
    let list = format!("{}List", ty.schema);
    let mut many = Map::new();
    let mut one = Map::new();
    for verb in ty.verbs {
        let (map, method, answer) = match *verb {
            "list" => (&mut many, "get", list.as_str()),
            "create" => (&mut many, "post", ty.schema),
            "deletecollection" => (&mut many, "delete", list.as_str()),
            "get" => (&mut one, "get", ty.schema),
            "update" => (&mut one, "put", ty.schema),
            "patch" => (&mut one, "patch", ty.schema),
            "delete" => (&mut one, "delete", ty.schema),
            _ => continue, // watch is a list with watch=1
        };
        map.insert(method.to_owned(), operation(ty, verb, answer));
    }
    if ty.namespaced && ty.supports("list") {
        let all = json!({ "get": operation(ty, "list", &list) });
        paths.insert(format!("{base}/{}", ty.plural), all);
    }
    let parameter =
        |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let mut scope_parameters = Vec::new();
    if ty.namespaced {
        scope_parameters.push(parameter("namespace"));
    }
    if !many.is_empty() {
        many.insert("parameters".into(), Value::Array(scope_parameters.clone()));
        paths.insert(collection.clone(), Value::Object(many));
    }
    if !one.is_empty() {
        scope_parameters.push(parameter("name"));
        one.insert("parameters".into(), Value::Array(scope_parameters));
        paths.insert(format!("{collection}/{{name}}"), Value::Object(one));
    }
}
