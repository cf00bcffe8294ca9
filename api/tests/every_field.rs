//! Objects with every field of the facts table set go through every step of their kind. What comes out is of
//! no interest: nothing may panic, and a check that reads a field its type does not have panics in this build.

use corten_api::resource::{CreateContext, Subresource};
use corten_api::schema::{Kind, Type, schema};
use corten_api::{FieldValidation, registry};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Depth at which recursive types stop.
const MAX_DEPTH: usize = 12;

/// What a level of a type costs that holds itself a dozen times: schemas in schemas grow without end.
const SCHEMA_COST: usize = 2;

fn object(entry: &Type, variant: usize, depth: usize) -> Value {
    let mut map = Map::new();
    let depth = match entry.name {
        "apiextensions.v1.JSONSchemaProps" => depth + SCHEMA_COST,
        _ => depth,
    };
    for field in &entry.fields {
        map.insert(
            field.name.into(),
            value(field.kind, field.name, variant, depth + 1),
        );
    }
    Value::Object(map)
}

/// `variant` 0 sets everything, 1 uses other words where the rules branch, 2 leaves structs empty.
fn value(kind: Kind, name: &str, variant: usize, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    match kind {
        Kind::String => word(name, variant).into(),
        Kind::Boolean => (variant == 0).into(),
        Kind::Int32 | Kind::Int64 => (if variant == 0 { 1 } else { -1 }).into(),
        Kind::Double => 1.5.into(),
        Kind::Bytes => "aGk=".into(),
        Kind::Time | Kind::MicroTime => "2026-01-01T00:00:00Z".into(),
        Kind::Quantity => (if variant == 0 { "1" } else { "-1" }).into(),
        Kind::IntOrString if variant == 0 => json!(1),
        Kind::IntOrString => json!("200%"),
        Kind::Any => json!({"a": [1]}),
        Kind::Struct(_) if variant == 2 && depth > 3 => json!({}),
        Kind::Struct(idx) => object(schema().get(idx), variant, depth),
        Kind::List(inner) => json!([
            value(*inner, name, variant, depth + 1),
            value(*inner, name, variant, depth + 1)
        ]),
        Kind::Map(inner) => {
            json!({"cpu": value(*inner, name, variant, depth + 1), "B/a": value(*inner, name, variant, depth + 1)})
        }
    }
}

fn word(name: &str, variant: usize) -> &'static str {
    match (name, variant) {
        ("type", 0) => "LoadBalancer",
        ("type", 1) => "ExternalName",
        ("operator", 0) => "In",
        ("operator", 1) => "Exists",
        ("dnsPolicy", 0) => "None",
        ("restartPolicy", 0) => "Always",
        ("restartPolicy", 1) => "Never",
        ("sessionAffinity", 0) => "ClientIP",
        ("addressType", 0) => "IPv4",
        ("addressType", 1) => "FQDN",
        ("address" | "addresses" | "ip", 0) => "10.0.0.1",
        ("fieldPath", 1) => "metadata.labels['a']",
        (_, 2) => "",
        (_, 1) => "-Bad-",
        _ => "a",
    }
}

#[test]
fn no_field_is_misread() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut steps = 0;
    for resource in registry().all() {
        for variant in 0..3 {
            let mut full = object(schema().find(resource.schema).unwrap(), variant, 0);
            full["apiVersion"] = resource.api_version().into();
            full["kind"] = resource.kind.as_ref().into();
            full["metadata"]["resourceVersion"] = Value::Null;
            full["metadata"]["namespace"] = Value::Null;
            let body = serde_json::to_vec(&full).unwrap();
            let decoded = resource
                .decode(&body, FieldValidation::Strict)
                .unwrap_or_else(|e| panic!("{resource:?}: {e}"));
            let ctx = CreateContext {
                namespace: "default",
                uid: "u",
                now,
                name_suffix: "abcde",
            };
            let mut created = decoded.value.clone();
            let _ = resource.prepare_create(&mut created, &ctx);
            let mut old = decoded.value;
            resource.set_defaults(&mut old);
            for subresource in [
                Subresource::Main,
                Subresource::Status,
                Subresource::Finalize,
                Subresource::Approval,
            ] {
                let mut new = created.clone();
                let _ = resource.prepare_update(&mut new, &old, subresource);
                let mut back = old.clone();
                let _ = resource.prepare_update(&mut back, &created, subresource);
                steps += 1;
            }
            assert_eq!(
                resource.cells(&old, now).len(),
                resource.columns().len(),
                "{resource:?}"
            );
            resource.selectable_fields(&old);
            resource.warnings(&old);
        }
    }
    assert!(steps >= 100, "{steps}");
}
