//! Schemas of types, from the table of facts and the texts. OpenAPI v3; `swagger` rewrites them for v2. Pure.

use std::collections::BTreeMap;

use corten_api::resource::TypeRef;
use corten_api::schema::{Field, Kind, ListType, Type, schema};
use serde_json::{Map, Value, json};

use super::gvk;
use super::names::{custom_name, full_name};
use super::texts::{Texts, beside_reference};

/// Where a definition comes from.
pub enum Source {
    Facts(&'static Type),
    /// A scalar, or any JSON: its schema as it stands.
    Special(Value),
    Custom(TypeRef),
    CustomList(TypeRef),
}

/// The definitions of a document by name, in order.
#[derive(Default)]
pub struct Definitions(pub BTreeMap<String, Source>);

impl Definitions {
    /// Adds a type of the table by its short name, with all it refers to.
    pub fn add(&mut self, name: &str) {
        match schema().find(name) {
            Some(entry) if special(name).is_none() => self.add_type(entry),
            _ => self.add_special(name),
        }
    }

    fn add_type(&mut self, entry: &'static Type) {
        let known = self.0.insert(full_name(entry.name), Source::Facts(entry));
        if known.is_none() {
            for field in &entry.fields {
                self.add_kind(entry, field, field.kind);
            }
        }
    }

    fn add_kind(&mut self, owner: &Type, field: &Field, kind: Kind) {
        match kind {
            Kind::Struct(idx) => self.add_type(schema().get(idx)),
            Kind::List(inner) | Kind::Map(inner) => self.add_kind(owner, field, *inner),
            kind => {
                if let Some(name) = scalar_name(owner, field, kind) {
                    self.add(name);
                }
            }
        }
    }

    fn add_special(&mut self, name: &str) {
        if let Some(own) = special(name) {
            self.0.insert(full_name(name), Source::Special(own));
        }
        if name.starts_with("apiextensions.v1.JSONSchemaProps") {
            self.add("apiextensions.v1.JSONSchemaProps");
        }
    }

    /// Adds a resource's kind and its list.
    pub fn add_resource(&mut self, ty: &TypeRef) {
        if ty.type_facts().is_some() {
            self.add(ty.schema);
            if ty.supports("list") {
                self.add(&format!("{}List", ty.schema));
            }
        } else {
            let name = custom_name(&ty.group, &ty.version, &ty.kind);
            self.0
                .insert(format!("{name}List"), Source::CustomList(ty.clone()));
            self.0.insert(name, Source::Custom(ty.clone()));
            self.add("meta.v1.ObjectMeta");
            self.add("meta.v1.ListMeta");
        }
    }
}

/// The schema of one definition.
pub fn definition(name: &str, source: &Source, texts: &Texts) -> Value {
    let mut own = match source {
        Source::Facts(entry) => of_type(name, entry, texts),
        Source::Special(own) => own.clone(),
        Source::Custom(ty) => return custom(ty, texts),
        Source::CustomList(ty) => return custom_list(ty, texts),
    };
    texts.describe_type(name, &mut own);
    own
}

/// Types that are no plain structs.
fn special(name: &str) -> Option<Value> {
    Some(match name {
        "meta.v1.Time" | "meta.v1.MicroTime" => json!({ "type": "string", "format": "date-time" }),
        "resource.Quantity" => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        "intstr.IntOrString" => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        "runtime.RawExtension" | "meta.v1.FieldsV1" | "meta.v1.Patch" => json!({ "type": "object" }),
        "apiextensions.v1.JSON" => json!({}),
        name if name.starts_with("apiextensions.v1.JSONSchemaPropsOr") => json!({}),
        _ => return None,
    })
}

/// The type behind a kind that the table resolves to a scalar or to any JSON.
fn scalar_name(owner: &Type, field: &Field, kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Time => "meta.v1.Time",
        Kind::MicroTime => "meta.v1.MicroTime",
        Kind::Quantity => "resource.Quantity",
        Kind::IntOrString => "intstr.IntOrString",
        Kind::Any => match (owner.name, field.name) {
            ("apiextensions.v1.JSONSchemaProps", "items") => "apiextensions.v1.JSONSchemaPropsOrArray",
            ("apiextensions.v1.JSONSchemaProps", "additionalItems" | "additionalProperties") => {
                "apiextensions.v1.JSONSchemaPropsOrBool"
            }
            ("apiextensions.v1.JSONSchemaProps", "dependencies") => {
                "apiextensions.v1.JSONSchemaPropsOrStringArray"
            }
            ("apiextensions.v1.JSONSchemaProps", _) => "apiextensions.v1.JSON",
            (_, "fieldsV1") => "meta.v1.FieldsV1",
            _ => "runtime.RawExtension",
        },
        _ => return None,
    })
}

/// A reference to a definition.
pub fn reference(full_name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{full_name}") })
}

fn of_kind(owner: &Type, field: &Field, kind: Kind) -> Value {
    match kind {
        Kind::String => json!({ "type": "string" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Int32 => json!({ "type": "integer", "format": "int32" }),
        Kind::Int64 => json!({ "type": "integer", "format": "int64" }),
        Kind::Double => json!({ "type": "number", "format": "double" }),
        Kind::Bytes => json!({ "type": "string", "format": "byte" }),
        Kind::Struct(idx) => reference(&full_name(schema().get(idx).name)),
        Kind::List(inner) => json!({ "type": "array", "items": of_kind(owner, field, *inner) }),
        Kind::Map(inner) => {
            json!({ "type": "object", "additionalProperties": of_kind(owner, field, *inner) })
        }
        kind => reference(&full_name(scalar_name(owner, field, kind).unwrap_or_default())),
    }
}

fn of_type(name: &str, entry: &Type, texts: &Texts) -> Value {
    let mut properties = Map::new();
    for field in &entry.fields {
        let mut own = of_kind(entry, field, field.kind);
        texts.describe_field(name, field.name, &mut own);
        let extensions = extensions(field);
        if !extensions.is_empty() {
            beside_reference(&mut own);
            own.as_object_mut()
                .expect("schemas are objects")
                .extend(extensions);
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

fn extensions(field: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(format!("x-kubernetes-{name}"), value);
    match field.list_type {
        Some(ListType::Atomic) => drop(put("list-type", "atomic".into())),
        Some(ListType::Set) => drop(put("list-type", "set".into())),
        Some(ListType::Map) => drop(put("list-type", "map".into())),
        None => {}
    }
    if !field.list_keys.is_empty() {
        put("list-map-keys", json!(field.list_keys));
    }
    if field.atomic {
        put("map-type", "atomic".into());
    }
    let strategies = [
        (field.patch_merge, "merge"),
        (field.patch_replace, "replace"),
        (field.patch_retain_keys, "retainKeys"),
    ];
    let strategies: Vec<&str> = strategies
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
    if !strategies.is_empty() {
        put("patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = field.merge_key {
        put("patch-merge-key", key.into());
    }
    out
}

/// The schema of a custom kind, as its definition has it, with the parts that all objects have.
fn custom(ty: &TypeRef, texts: &Texts) -> Value {
    let mut own = ty.open_api().unwrap_or_else(|| json!({ "type": "object" }));
    let pod = full_name("core.v1.Pod");
    let meta = full_name("meta.v1.ObjectMeta");
    if own["type"] == "object" && own.get("properties").is_none_or(Value::is_object) {
        for field in ["apiVersion", "kind"] {
            let mut text = json!({ "type": "string" });
            texts.describe_field(&pod, field, &mut text);
            own["properties"][field] = text;
        }
        let mut metadata = reference(&meta);
        texts.describe_field(&pod, "metadata", &mut metadata);
        own["properties"]["metadata"] = metadata;
    }
    own["x-kubernetes-group-version-kind"] = json!([gvk(&ty.group, &ty.version, &ty.kind)]);
    own
}

fn custom_list(ty: &TypeRef, texts: &Texts) -> Value {
    let item = reference(&custom_name(&ty.group, &ty.version, &ty.kind));
    let pods = full_name("core.v1.PodList");
    let mut own = json!({
        "description": format!("{} is a list of {}", ty.list_kind(), ty.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": reference(&full_name("meta.v1.ListMeta")),
            "items": { "type": "array", "items": item,
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", ty.plural) },
        },
        "x-kubernetes-group-version-kind": [gvk(&ty.group, &ty.version, &ty.list_kind())],
    });
    for field in ["apiVersion", "kind", "metadata"] {
        texts.describe_field(&pods, field, &mut own["properties"][field]);
    }
    own
}
