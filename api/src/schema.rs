//! The table of facts about the API's types, and the engine that reads objects by it.
//!
//! `schema/facts.txt` has one line per type, `name [key=value...]`, and one indented line per field:
//! `name type number [flags] [key=value...]`. Types: `string`, `boolean`, `int32`, `int64`, `double`,
//! `bytes`, `[T` a list, `{T` a map by string, else a type's name. Flags: `r` required, `e` written even
//! when empty, `p` a pointer (an explicit zero differs from absence), `z` left out when zero although a
//! struct. Keys: `ps` patch strategy, `pk` patch merge key, `lt` list type, `lk` list map keys, `mt` map
//! type, `pb` protobuf name where it differs; on types also `scalar`, `gvk` (group/version/kind) and `in`
//! (structs that protobuf nests and JSON flattens: number:type:protobuf name).

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use serde_json::{Map, Value};

pub mod declare;
pub mod decode;
pub(crate) mod error;
mod places;
pub mod proto;
mod scalar;
pub(crate) mod scan;
pub mod view;

pub use error::SyntaxError;

/// A struct type.
#[derive(Debug)]
pub struct Type {
    /// `core.v1.PodSpec`.
    pub name: &'static str,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Group, version, kind, where the type is a kind.
    pub gvks: Vec<(&'static str, &'static str, &'static str)>,
    /// The whole struct is one value to server-side apply.
    pub atomic: bool,
    /// Structs that JSON flattens and protobuf nests: field number, Go's name.
    pub inlined: Vec<(u32, &'static str)>,
    zero: OnceLock<Value>,
    places: places::Places,
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// Protobuf field number; 0 when it has none of its own.
    pub number: u32,
    pub required: bool,
    /// Written even when empty.
    pub always: bool,
    pub pointer: bool,
    omit_zero: bool,
    pub patch_merge: bool,
    pub patch_retain_keys: bool,
    pub patch_replace: bool,
    pub merge_key: Option<&'static str>,
    pub list_type: Option<ListType>,
    pub list_keys: Vec<&'static str>,
    /// A map or struct that server-side apply treats as one value.
    pub atomic: bool,
    /// A struct whose type is one value to server-side apply, but not here.
    pub granular: bool,
    pub proto_name: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    String,
    Boolean,
    Int32,
    Int64,
    Double,
    /// Base64 text.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON (`RawExtension`, `FieldsV1`, schemas).
    Any,
    /// Index into the table; see [`Schema::get`].
    Struct(u32),
    List(&'static Kind),
    Map(&'static Kind),
}

/// All types of the table.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    by_name: HashMap<&'static str, u32>,
}

/// The facts, and the types that upstream's OpenAPI document does not name.
static FACTS: [&str; 2] = [
    include_str!("schema/facts.txt"),
    include_str!("schema/unlisted.txt"),
];

/// The built-in table.
pub fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| parse(&FACTS));
    &SCHEMA
}

impl Schema {
    /// Finds a type by its short name (`core.v1.PodSpec`).
    pub fn find(&self, name: &str) -> Option<&Type> {
        self.index(name).map(|idx| &self.types[idx as usize])
    }

    fn index(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, idx: u32) -> &Type {
        &self.types[idx as usize]
    }

    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// True when some type of the table is this kind.
    pub fn knows_kind(&self, group: &str, version: &str, kind: &str) -> bool {
        self.types
            .iter()
            .any(|t| t.gvks.contains(&(group, version, kind)))
    }
}

impl Type {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.index_of(name).map(|idx| &self.fields[idx])
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.places.find(name, |idx| self.fields[idx].name)
    }

    /// Go's name of the struct: `PodSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// Package and name as Go prints them: `v1.PodSpec`.
    pub fn go_qualified(&self) -> &'static str {
        match self.name.rmatch_indices('.').nth(1) {
            Some((idx, _)) => &self.name[idx + 1..],
            None => self.name,
        }
    }

    /// The object with nothing set, as Kubernetes writes it.
    pub fn zero(&self) -> &Value {
        self.zero.get_or_init(|| {
            let mut map = Map::new();
            for field in &self.fields {
                if let Some(value) = field.absent() {
                    map.insert(field.name.into(), value);
                }
            }
            Value::Object(map)
        })
    }
}

impl Field {
    /// What is written when the field was not given; `None` when it is left out.
    pub fn absent(&self) -> Option<Value> {
        if self.pointer || self.omit_zero {
            return self.always.then_some(Value::Null);
        }
        match self.kind {
            // Structs are values in Go and so always written.
            Kind::Struct(idx) => Some(schema().get(idx).zero().clone()),
            Kind::Time | Kind::MicroTime => Some(Value::Null),
            Kind::IntOrString | Kind::Quantity => Some(self.kind.zero()),
            kind if self.always => Some(kind.zero()),
            _ => None,
        }
    }
}

impl Kind {
    /// Go's zero value, as JSON.
    pub fn zero(self) -> Value {
        match self {
            Self::String => "".into(),
            Self::Boolean => false.into(),
            Self::Int32 | Self::Int64 | Self::IntOrString => 0.into(),
            Self::Double => 0.into(),
            Self::Quantity => "0".into(),
            Self::Struct(idx) => schema().get(idx).zero().clone(),
            Self::Bytes | Self::Time | Self::MicroTime | Self::Any | Self::List(_) | Self::Map(_) => {
                Value::Null
            }
        }
    }

    /// The struct type this is, or is a list or map of.
    pub fn element(self) -> Option<&'static Type> {
        match self {
            Self::Struct(idx) => Some(schema().get(idx)),
            Self::List(inner) | Self::Map(inner) => inner.element(),
            _ => None,
        }
    }

    /// As Go's error texts print the type.
    pub fn go(self) -> String {
        match self {
            Self::String => "string".into(),
            Self::Boolean => "bool".into(),
            Self::Int32 => "int32".into(),
            Self::Int64 => "int64".into(),
            Self::Double => "float64".into(),
            Self::Bytes => "[]uint8".into(),
            Self::Time => "v1.Time".into(),
            Self::MicroTime => "v1.MicroTime".into(),
            Self::Quantity => "resource.Quantity".into(),
            Self::IntOrString => "intstr.IntOrString".into(),
            Self::Any => "runtime.RawExtension".into(),
            Self::Struct(idx) => schema().get(idx).go_qualified().into(),
            Self::List(inner) => format!("[]{}", inner.go()),
            Self::Map(Kind::Quantity) => "v1.ResourceList".into(),
            Self::Map(inner) => format!("map[string]{}", inner.go()),
        }
    }
}

/// Types that are no plain structs.
fn special(name: &str) -> Option<Kind> {
    Some(match name {
        "meta.v1.Time" => Kind::Time,
        "meta.v1.MicroTime" => Kind::MicroTime,
        "resource.Quantity" => Kind::Quantity,
        "intstr.IntOrString" => Kind::IntOrString,
        "runtime.RawExtension" | "meta.v1.FieldsV1" | "meta.v1.Patch" | "apiextensions.v1.JSON" => Kind::Any,
        name if name.starts_with("apiextensions.v1.JSONSchemaPropsOr") => Kind::Any,
        _ => return None,
    })
}

/// Reads the table. It is part of the program, so a bad line is a bug and panics with the line.
fn parse(texts: &[&'static str]) -> Schema {
    let lines = || {
        texts
            .iter()
            .flat_map(|text| text.lines())
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
    };
    let names = lines()
        .filter(|l| !l.starts_with(' '))
        .map(|l| l.split(' ').next().unwrap_or_default());
    let by_name: HashMap<&'static str, u32> = names.zip(0..).collect();
    let mut types: Vec<Type> = Vec::with_capacity(by_name.len());
    for line in lines() {
        let mut words = line.trim_start().split(' ');
        let name = words.next().unwrap_or_default();
        if line.starts_with(' ') {
            let field = parse_field(name, words, &by_name);
            types
                .last_mut()
                .expect("a type line comes before its fields")
                .fields
                .push(field);
            continue;
        }
        let mut entry = Type {
            name,
            fields: Vec::new(),
            gvks: Vec::new(),
            atomic: false,
            inlined: Vec::new(),
            zero: OnceLock::new(),
            places: places::Places::default(),
        };
        for word in words {
            match word.split_once('=') {
                Some(("gvk", gvk)) => {
                    let mut parts = gvk.split('/');
                    let mut next = || parts.next().unwrap_or_default();
                    entry.gvks.push((next(), next(), next()));
                }
                Some(("mt", "atomic")) => entry.atomic = true,
                Some(("in", inlined)) => {
                    let mut parts = inlined.split(':');
                    let number = parts
                        .next()
                        .and_then(|n| n.parse().ok())
                        .expect("an inlined struct has a number");
                    entry.inlined.push((number, parts.next().unwrap_or_default()));
                }
                // Scalars are known by name.
                Some(("scalar" | "mt", _)) => {}
                _ => panic!("facts table: unknown word {word:?} in {line:?}"),
            }
        }
        types.push(entry);
    }
    for entry in &mut types {
        entry.fields.sort_by_key(|f| f.name);
        // Decoding marks the fields it saw in one machine word.
        assert!(entry.fields.len() <= 128, "{} has too many fields", entry.name);
        entry.places = places::Places::of(entry.fields.iter().map(|f| f.name));
    }
    Schema { types, by_name }
}

fn parse_kind(text: &'static str, by_name: &HashMap<&'static str, u32>) -> Kind {
    if let Some(inner) = text.strip_prefix('[') {
        return Kind::List(Box::leak(Box::new(parse_kind(inner, by_name))));
    }
    if let Some(inner) = text.strip_prefix('{') {
        return Kind::Map(Box::leak(Box::new(parse_kind(inner, by_name))));
    }
    match text {
        "string" => Kind::String,
        "boolean" => Kind::Boolean,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        name => special(name).unwrap_or_else(|| {
            Kind::Struct(
                *by_name
                    .get(name)
                    .unwrap_or_else(|| panic!("facts table: no type {name}")),
            )
        }),
    }
}

fn parse_field(
    name: &'static str,
    mut words: impl Iterator<Item = &'static str>,
    by_name: &HashMap<&'static str, u32>,
) -> Field {
    let kind = parse_kind(words.next().expect("a field has a type"), by_name);
    let number = words
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a field has a number");
    let mut field = Field {
        name,
        kind,
        number,
        required: false,
        always: false,
        pointer: false,
        omit_zero: false,
        patch_merge: false,
        patch_retain_keys: false,
        patch_replace: false,
        merge_key: None,
        list_type: None,
        list_keys: Vec::new(),
        atomic: false,
        granular: false,
        proto_name: None,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("r", _) => field.required = true,
            ("e", _) => field.always = true,
            ("p", _) => field.pointer = true,
            ("z", _) => field.omit_zero = true,
            ("ps", strategies) => {
                for strategy in strategies.split(',') {
                    match strategy {
                        "merge" => field.patch_merge = true,
                        "retainKeys" => field.patch_retain_keys = true,
                        "replace" => field.patch_replace = true,
                        other => panic!("facts table: unknown patch strategy {other:?}"),
                    }
                }
            }
            ("pk", key) => field.merge_key = Some(key),
            ("lt", "atomic") => field.list_type = Some(ListType::Atomic),
            ("lt", "set") => field.list_type = Some(ListType::Set),
            ("lt", "map") => field.list_type = Some(ListType::Map),
            ("lk", keys) => field.list_keys = keys.split(',').collect(),
            ("mt", "atomic") => field.atomic = true,
            ("mt", "granular") => field.granular = true,
            ("pb", proto) => field.proto_name = Some(proto),
            _ => panic!("facts table: unknown word {word:?} of field {name}"),
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_registered_kind_is_in_the_table() {
        for resource in crate::registry().all() {
            let entry = schema().find(resource.schema).expect(resource.schema);
            assert!(
                entry
                    .gvks
                    .contains(&(&*resource.group, &*resource.version, &*resource.kind)),
                "{resource:?}"
            );
        }
    }

    #[test]
    fn zero_objects_are_written_as_go_does() {
        let zero = |name: &str| schema().find(name).unwrap().zero().clone();
        assert_eq!(
            zero("core.v1.Pod"),
            json!({"metadata": {}, "spec": {"containers": null}, "status": {}})
        );
        assert_eq!(zero("core.v1.ServiceStatus"), json!({"loadBalancer": {}}));
        assert_eq!(
            zero("core.v1.ContainerStatus"),
            json!({"image": "", "imageID": "", "lastState": {}, "name": "", "ready": false, "restartCount": 0, "state": {}})
        );
    }
}
