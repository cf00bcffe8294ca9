//! What the schema of a version must be: of the supported vocabulary, structural, with defaults that fit.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`, `pkg/apiserver/schema`.

use serde_json::Value;

use super::schema_rules::{MANY, has_unsupported, is_set, parts, rules, text};
use crate::custom::{Schema, cel, check_default};
use crate::field::FieldErrors;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Members of a root schema that may not stand beside a status subresource.
const NOT_AT_ROOT: [&str; 13] = [
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "definitions",
    "dependencies",
    "id",
    "not",
    "nullable",
    "oneOf",
];
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Enum Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";
/// Members a nested schema may not have: they say what is where, which only the structure may.
const NOT_NESTED: [(&str, &str); 11] = [
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be false to be structural",
    ),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Checks the root schema at `base`. `status`: the version has a status subresource.
pub fn validate(root: &Value, status: bool, base: &str, errors: &mut FieldErrors) {
    let before = errors.len();
    if status {
        at_root_with_status(root, base, errors);
    }
    if root["nullable"] == true {
        errors.forbidden(format!("{base}.nullable"), "nullable cannot be true at the root");
    }
    let mut own = FieldErrors::default();
    // A schema with keywords outside the vocabulary has no structure to speak of.
    if !has_unsupported(root) {
        invariants(root, Level::Root, base, &mut own);
        completeness(root, root, base, &mut own);
        own.errors
            .sort_by_cached_key(|error| format!("{}: {}", error.field, error.body));
    }
    let structural = own.is_empty();
    errors.append(own);
    let outside = errors.len();
    vocabulary(root, base, true, "", errors);
    if errors.len() == outside && !text(&root["$schema"]).is_empty() {
        errors.invalid(base, "", "OpenAPIV3Schema 'schema' is not supported");
    }
    if structural && errors.len() == before {
        match Schema::parse(root) {
            Ok(_) => {
                cel::check(root, base, errors);
                if errors.len() == before {
                    defaults(root, base, errors);
                }
            }
            Err(error) => {
                let place = base.strip_suffix(".openAPIV3Schema").unwrap_or(base);
                errors.invalid(place, "", &format!("error building validator: {error}"));
            }
        }
    }
}

fn at_root_with_status(root: &Value, base: &str, errors: &mut FieldErrors) {
    let kind = text(&root["type"]);
    if !kind.is_empty() && kind != "object" {
        errors.invalid(
            format!("{base}.type"),
            kind,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
        return;
    }
    if NOT_AT_ROOT.iter().any(|field| is_set(&root[*field])) {
        let detail = format!(
            "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(base, root.clone(), &detail);
    }
}

/// The vocabulary of schemas, below a place too. `top_level`: the field of the object itself this is part of, which
/// may have no defaults; empty elsewhere.
fn vocabulary(own: &Value, base: &str, root: bool, top_level: &str, errors: &mut FieldErrors) {
    let at = |field: &str| format!("{base}.{field}");
    let kind = text(&own["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(at("type"), kind, &TYPES);
    }
    if !top_level.is_empty() && !own["default"].is_null() {
        errors.forbidden(
            at("default"),
            &format!("must not be set in top-level {top_level}"),
        );
    }
    for (field, what) in [
        ("id", "id"),
        ("additionalItems", "additionalItems"),
        ("patternProperties", "patternProperties"),
        ("definitions", "definitions"),
        ("dependencies", "dependencies"),
        ("$ref", "$ref"),
    ] {
        if is_set(&own[field]) {
            errors.forbidden(at(field), &format!("{what} is not supported"));
        }
    }
    if kind == "null" {
        errors.forbidden(
            at("type"),
            "type cannot be set to null, use nullable as an alternative",
        );
    }
    if own["items"].is_array() {
        errors.forbidden(at("items"), "items must be a schema object and not an array");
    }
    if own["uniqueItems"] == true {
        errors.forbidden(
            at("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let has_properties = own["properties"].as_object().is_some_and(|map| !map.is_empty());
    if has_properties && (own["additionalProperties"] == false || own["additionalProperties"].is_object()) {
        errors.forbidden(
            at("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
    for (path, name, part) in parts(own, base) {
        let own_name = root && path.starts_with(&format!("{base}.properties["));
        let top_level = match name {
            "metadata" | "kind" | "apiVersion" if own_name => name,
            _ => top_level,
        };
        vocabulary(part, &path, false, top_level, errors);
    }
    extensions(own, base, errors);
}

fn extensions(own: &Value, base: &str, errors: &mut FieldErrors) {
    let at = |field: &str| format!("{base}.{field}");
    let kind = text(&own["type"]);
    if own["x-kubernetes-preserve-unknown-fields"] == false {
        errors.invalid(
            at("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        );
    }
    let of_type = |wanted: &str, extension: &str, errors: &mut FieldErrors| {
        let detail = format!("must be {wanted} if {extension} is specified");
        match kind {
            "" => errors.required(at("type"), &detail),
            kind if kind != wanted => errors.invalid(at("type"), kind, &detail),
            _ => {}
        }
    };
    if let Some(map_type) = own["x-kubernetes-map-type"].as_str() {
        of_type("object", "x-kubernetes-map-type", errors);
        if !["atomic", "granular"].contains(&map_type) {
            errors.not_supported(at("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
        }
    }
    let items = &own["items"];
    let list_type = own["x-kubernetes-list-type"].as_str();
    if let Some(list_type) = list_type {
        of_type("array", "x-kubernetes-list-type", errors);
        if list_type == "set" && kind == "array" {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            match (
                text(&items["type"]),
                &items["x-kubernetes-list-type"],
                &items["x-kubernetes-map-type"],
            ) {
                ("array", Value::String(own), _) if own != "atomic" => {
                    errors.invalid(at("items.x-kubernetes-list-type"), own.as_str(), detail);
                }
                ("object", _, map_type) if *map_type != "atomic" => {
                    // Upstream shows the list type here.
                    let shown = &items["x-kubernetes-list-type"];
                    errors.invalid(at("items.x-kubernetes-map-type"), shown.clone(), detail);
                }
                _ => {}
            }
        }
        if !["atomic", "set", "map"].contains(&list_type) {
            errors.not_supported(at("x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]);
        }
        if matches!(list_type, "set" | "map") && items["nullable"] == true {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            errors.forbidden(at("items.nullable"), &detail);
        }
    }
    let keys: Vec<&str> = own["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    if !keys.is_empty() && list_type != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.required(at("x-kubernetes-list-type"), detail),
            Some(other) => errors.invalid(at("x-kubernetes-list-type"), other, detail),
        }
    }
    if list_type == Some("map") {
        list_map(own, &keys, base, errors);
    }
    rules(own, base, errors);
}

fn list_map(own: &Value, keys: &[&str], base: &str, errors: &mut FieldErrors) {
    let at = |field: &str| format!("{base}.{field}");
    let items = &own["items"];
    if keys.is_empty() {
        errors.required(
            at("x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        );
    }
    match items {
        Value::Null => errors.required(at("items"), "must have a schema if x-kubernetes-list-type is map"),
        Value::Object(_) if items["type"] != "object" => errors.invalid(
            at("items.type"),
            text(&items["type"]),
            "must be object if parent array's x-kubernetes-list-type is map",
        ),
        Value::Object(_) => {
            let required = |key: &str| {
                items["required"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|k| k == key))
            };
            for (idx, key) in keys.iter().enumerate() {
                let place = |field: &str| at(&format!("items.properties[{key}].{field}"));
                match items["properties"].get(*key) {
                    None => errors.invalid(
                        at("x-kubernetes-list-map-keys"),
                        own["x-kubernetes-list-map-keys"].clone(),
                        "entries must all be names of item properties",
                    ),
                    Some(property) => {
                        if matches!(text(&property["type"]), "array" | "object") {
                            errors.invalid(
                                place("type"),
                                text(&items["type"]),
                                "must be a scalar type if parent array's x-kubernetes-list-type is map",
                            );
                        }
                        if !required(key) && property["default"].is_null() {
                            errors.required(
                                place("default"),
                                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                            );
                        }
                        if property["nullable"] == true {
                            errors.forbidden(
                                place("nullable"),
                                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                            );
                        }
                    }
                }
                if keys[..idx].contains(key) {
                    errors.invalid(
                        at("x-kubernetes-list-map-keys"),
                        own["x-kubernetes-list-map-keys"].clone(),
                        "must not contain duplicate entries",
                    );
                }
            }
        }
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The two ways in which `anyOf` may repeat types beside `x-kubernetes-int-or-string`.
fn is_int_or_string(list: &Value) -> bool {
    *list == serde_json::json!([{"type": "integer"}, {"type": "string"}])
}

/// The invariants of a structural schema.
fn invariants(own: &Value, level: Level, base: &str, errors: &mut FieldErrors) {
    let at = |field: &str| format!("{base}.{field}");
    let kind = text(&own["type"]);
    if kind == "array" && own["items"].is_null() {
        errors.required(at("items"), "must be specified");
    }
    if own["items"].is_object() {
        invariants(&own["items"], Level::Item, &at("items"), errors);
    }
    for (name, part) in own["properties"].as_object().into_iter().flatten() {
        invariants(part, Level::Field, &at(&format!("properties[{name}]")), errors);
    }
    let additional = &own["additionalProperties"];
    if !additional.is_null() && level == Level::Root {
        errors.forbidden(at("additionalProperties"), "must not be used at the root");
    }
    if additional.is_object() {
        invariants(additional, Level::Field, &at("additionalProperties"), errors);
    }
    let flag = |name: &str| own[name] == true;
    let (either, preserve, embedded) = (
        flag("x-kubernetes-int-or-string"),
        flag("x-kubernetes-preserve-unknown-fields"),
        flag("x-kubernetes-embedded-resource"),
    );
    for (set, field) in [
        (preserve, "x-kubernetes-preserve-unknown-fields"),
        (embedded, "x-kubernetes-embedded-resource"),
    ] {
        if either && set {
            errors.invalid(
                at(field),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            );
        }
    }
    nested_below(
        own,
        base,
        is_int_or_string(&own["anyOf"]),
        is_int_or_string(&own["allOf"][0]["anyOf"]),
        errors,
    );
    pattern(own, base, errors);
    let must_be_object = "must be object if x-kubernetes-embedded-resource is true";
    if embedded && kind != "object" {
        match kind {
            "" => errors.required(at("type"), must_be_object),
            kind => errors.invalid(at("type"), kind, must_be_object),
        }
    } else if kind.is_empty() && !either && !preserve {
        let what = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(at("type"), what);
    }
    if embedded && !additional.is_null() {
        errors.forbidden(
            at("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        );
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(at("type"), kind, "must be object at the root");
    }
    if level == Level::Root || embedded {
        for (name, wanted) in [
            ("kind", "string"),
            ("apiVersion", "string"),
            ("metadata", "object"),
        ] {
            let property = &own["properties"][name];
            if property.is_object() && property["type"] != wanted {
                let path = at(&format!("properties[{name}].type"));
                errors.invalid(path, text(&property["type"]), &format!("must be {wanted}"));
            }
        }
    }
    if level == Level::Root {
        root_metadata(
            &own["properties"]["metadata"],
            &at("properties[metadata]"),
            errors,
        );
    }
    if embedded && !preserve && own["properties"].as_object().is_none_or(|map| map.is_empty()) {
        errors.required(
            at("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn root_metadata(own: &Value, path: &str, errors: &mut FieldErrors) {
    let Some(map) = own.as_object() else { return };
    let extra = map.iter().any(|(field, value)| match field.as_str() {
        "type" | "default" => false,
        "properties" => value.as_object().is_some_and(|own| {
            own.keys()
                .any(|name| !matches!(name.as_str(), "name" | "generateName"))
        }),
        _ => is_set(value),
    });
    if extra {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

fn pattern(own: &Value, base: &str, errors: &mut FieldErrors) {
    let given = text(&own["pattern"]);
    if given.is_empty() {
        return;
    }
    if let Err(error) = crate::custom::compile(given) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(format!("{base}.pattern"), given, &detail);
    }
}

fn nested_below(own: &Value, base: &str, skip_any: bool, skip_first: bool, errors: &mut FieldErrors) {
    for field in MANY {
        if field == "anyOf" && skip_any {
            continue;
        }
        for (idx, part) in own[field].as_array().into_iter().flatten().enumerate() {
            let skip = field == "allOf" && idx == 0 && skip_first;
            nested(part, &format!("{base}.{field}[{idx}]"), skip, errors);
        }
    }
    if own["not"].is_object() {
        nested(&own["not"], &format!("{base}.not"), false, errors);
    }
}

/// A schema below `allOf`, `anyOf`, `oneOf` or `not` only restricts values.
fn nested(own: &Value, base: &str, skip_any: bool, errors: &mut FieldErrors) {
    let at = |field: &str| format!("{base}.{field}");
    nested_below(own, base, skip_any, false, errors);
    pattern(own, base, errors);
    if own["items"].is_object() {
        nested(&own["items"], &at("items"), false, errors);
    }
    for (name, part) in own["properties"].as_object().into_iter().flatten() {
        nested(part, &at(&format!("properties[{name}]")), false, errors);
    }
    if is_set(&own["type"]) {
        errors.forbidden(at("type"), "must be empty to be structural");
    }
    for (field, detail) in NOT_NESTED {
        let set = match field {
            "additionalProperties" => !own[field].is_null(),
            _ => is_set(&own[field]),
        };
        if set {
            errors.forbidden(at(field), detail);
        }
    }
    for field in ["x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if !own[field].is_null() {
            errors.forbidden(at(field), "must be undefined to be structural");
        }
    }
    if own["properties"].get("metadata").is_some() {
        errors.forbidden(
            at("properties[metadata]"),
            "must not be specified in a nested context",
        );
    }
}

/// Everything a nested schema names is named by the structure too. `own` is the schema whose nested parts are looked
/// at, `structure` the structural schema of the same place.
fn completeness(own: &Value, structure: &Value, base: &str, errors: &mut FieldErrors) {
    for field in MANY {
        for (idx, part) in own[field].as_array().into_iter().flatten().enumerate() {
            complete(part, structure, &format!("{base}.{field}[{idx}]"), base, errors);
        }
    }
    if own["not"].is_object() {
        complete(&own["not"], structure, &format!("{base}.not"), base, errors);
    }
    for (name, part) in own["properties"].as_object().into_iter().flatten() {
        completeness(part, part, &format!("{base}.properties[{name}]"), errors);
    }
    for field in ["items", "additionalProperties"] {
        if own[field].is_object() {
            completeness(&own[field], &own[field], &format!("{base}.{field}"), errors);
        }
    }
}

fn complete(nested: &Value, structure: &Value, from: &str, at: &str, errors: &mut FieldErrors) {
    for (name, part) in nested["properties"].as_object().into_iter().flatten() {
        let place = format!("{at}.properties[{name}]");
        match structure["properties"].get(name) {
            Some(own) => complete(part, own, &format!("{from}.properties[{name}]"), &place, errors),
            None => errors.required(
                &place,
                &format!("because it is defined in {from}.properties[{name}]"),
            ),
        }
    }
    if nested["items"].is_object() {
        let place = format!("{at}.items");
        match &structure["items"] {
            own @ Value::Object(_) => {
                complete(&nested["items"], own, &format!("{from}.items"), &place, errors)
            }
            _ => errors.required(&place, &format!("because it is defined in {from}.items")),
        }
    }
    for field in MANY {
        for (idx, part) in nested[field].as_array().into_iter().flatten().enumerate() {
            complete(part, structure, &format!("{from}.{field}[{idx}]"), at, errors);
        }
    }
}

/// A default must be a value its own schema takes as it is.
fn defaults(own: &Value, base: &str, errors: &mut FieldErrors) {
    if !own["default"].is_null() {
        check_default(own, &format!("{base}.default"), errors);
    }
    for (name, part) in own["properties"].as_object().into_iter().flatten() {
        defaults(part, &format!("{base}.properties[{name}]"), errors);
    }
    for field in ["items", "additionalProperties"] {
        if own[field].is_object() {
            defaults(&own[field], &format!("{base}.{field}"), errors);
        }
    }
}
