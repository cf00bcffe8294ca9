//! A place in an object: the value, its path for error texts, and its type.
//!
//! What is not there costs next to nothing: rules ask for every field a type may have, and objects have few of them.
//! Reading a field that the type does not have panics in debug builds, so a misspelt name fails the first
//! test that passes it. A missing field reads as Go's zero value.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::schema::{self, Type};

static NULL: Value = Value::Null;

/// A value at a path.
#[derive(Clone)]
pub struct At<'a> {
    pub value: &'a Value,
    path: Path,
    entry: Option<&'static Type>,
    present: Present,
}

/// Which fields an object may have, as bits that names share: most questions are about fields that are not there.
#[derive(Clone, Default)]
struct Present(Cell<u64>);

impl Present {
    /// Set once the object was looked at.
    const SEEN: u64 = 1 << 63;
    /// An object of fewer fields is looked through as fast.
    const FEW: usize = 4;

    fn bit(name: &str) -> u64 {
        let bytes = name.as_bytes();
        let at = |idx: usize| bytes.get(idx).copied().map_or(0, usize::from);
        let mixed = bytes.len() * 5 + at(0) + at(bytes.len().wrapping_sub(1)) * 3 + at(bytes.len() / 2) * 7;
        1 << (mixed % 63)
    }

    fn may_have(&self, map: &Map<String, Value>, name: &str) -> bool {
        if map.len() < Self::FEW {
            return true;
        }
        let mut bits = self.0.get();
        if bits == 0 {
            bits = map.keys().fold(Self::SEEN, |bits, name| bits | Self::bit(name));
            self.0.set(bits);
        }
        bits & Self::bit(name) != 0
    }
}

/// A path, printed as `spec.containers[0].name` or `metadata.labels[a/b]`.
#[derive(Clone)]
pub struct Path(Option<Rc<Node>>);

/// The path of a field of a place, not yet printed.
#[derive(Clone, Copy)]
pub struct FieldPath<'p> {
    parent: &'p Path,
    name: &'static str,
}

impl FieldPath<'_> {
    pub fn field(&self, name: &'static str) -> Path {
        self.parent.field(self.name).field(name)
    }

    pub fn index(&self, idx: usize) -> Path {
        self.parent.field(self.name).index(idx)
    }

    pub fn key(&self, key: &str) -> Path {
        self.parent.field(self.name).key(key)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parent.fmt(f)?;
        if self.parent.0.is_some() {
            f.write_str(".")?;
        }
        f.write_str(self.name)
    }
}

struct Node {
    parent: Path,
    step: Step,
}

enum Step {
    Field(&'static str),
    Index(usize),
    Key(String),
}

impl Path {
    pub fn root() -> Self {
        Self(None)
    }

    pub fn field(&self, name: &'static str) -> Self {
        Self(Some(Rc::new(Node {
            parent: self.clone(),
            step: Step::Field(name),
        })))
    }

    pub fn index(&self, idx: usize) -> Self {
        Self(Some(Rc::new(Node {
            parent: self.clone(),
            step: Step::Index(idx),
        })))
    }

    pub fn key(&self, key: &str) -> Self {
        Self(Some(Rc::new(Node {
            parent: self.clone(),
            step: Step::Key(key.into()),
        })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = &self.0 else { return Ok(()) };
        node.parent.fmt(f)?;
        match &node.step {
            Step::Field(name) if node.parent.0.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(idx) => write!(f, "[{idx}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

fn names(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
}

impl<'a> At<'a> {
    /// The top of an object of a type of the facts table.
    pub fn root(value: &'a Value, type_name: &str) -> Self {
        Self {
            value,
            path: Path::root(),
            entry: schema::schema().find(type_name),
            present: Present::default(),
        }
    }

    /// This value's path.
    pub fn here(&self) -> Path {
        self.path.clone()
    }

    /// The path of a field; costs nothing until it is printed.
    pub fn path(&self, name: &'static str) -> FieldPath<'_> {
        FieldPath {
            parent: &self.path,
            name,
        }
    }

    fn raw(&self, name: &'static str) -> &'a Value {
        debug_assert!(
            self.entry.is_none_or(|e| e.field(name).is_some()),
            "{} has no field {name}",
            self.entry.map_or("", |e| e.name)
        );
        match self.value {
            Value::Object(map) if self.present.may_have(map, name) => map.get(name).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    /// A field's value; `null` when absent.
    pub fn get(&self, name: &'static str) -> &'a Value {
        self.raw(name)
    }

    /// True when the field is present and not `null`.
    pub fn has(&self, name: &'static str) -> bool {
        !self.raw(name).is_null()
    }

    /// The type of a field. What is only looked at by a check of debug builds is only found in these.
    fn entry_of(&self, name: &'static str) -> Option<&'static Type> {
        match cfg!(debug_assertions) {
            true => self.entry.and_then(|e| e.field(name)?.kind.element()),
            false => None,
        }
    }

    /// A field as a place of its own.
    pub fn at(&self, name: &'static str) -> Self {
        Self {
            value: self.raw(name),
            path: self.path.field(name),
            entry: self.entry_of(name),
            present: Present::default(),
        }
    }

    /// A field as a place of its own, if present.
    pub fn opt(&self, name: &'static str) -> Option<Self> {
        self.has(name).then(|| self.at(name))
    }

    pub fn str(&self, name: &'static str) -> &'a str {
        self.raw(name).as_str().unwrap_or_default()
    }

    pub fn opt_str(&self, name: &'static str) -> Option<&'a str> {
        self.raw(name).as_str()
    }

    pub fn int(&self, name: &'static str) -> i64 {
        self.raw(name).as_i64().unwrap_or_default()
    }

    pub fn opt_int(&self, name: &'static str) -> Option<i64> {
        self.raw(name).as_i64()
    }

    pub fn bool(&self, name: &'static str) -> bool {
        self.raw(name).as_bool().unwrap_or_default()
    }

    pub fn opt_bool(&self, name: &'static str) -> Option<bool> {
        self.raw(name).as_bool()
    }

    /// Number of elements of a list or entries of a map.
    pub fn count(&self, name: &'static str) -> usize {
        match self.raw(name) {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    /// The elements of a list field.
    pub fn items(&self, name: &'static str) -> impl Iterator<Item = At<'a>> + use<'a> {
        let elements: &'a [Value] = self.raw(name).as_array().map_or(&[], Vec::as_slice);
        let list = (!elements.is_empty()).then(|| (self.path.field(name), self.entry_of(name)));
        let numbered = elements.iter().enumerate();
        list.into_iter().flat_map(move |(path, entry)| {
            numbered.clone().map(move |(idx, value)| At {
                value,
                path: path.index(idx),
                entry,
                present: Present::default(),
            })
        })
    }

    /// The string elements of a list field, without places.
    pub fn strings(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.raw(name)
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// The entries of a map field; their paths are `field[key]`.
    pub fn entries(&self, name: &'static str) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let map = self.at(name);
        map.value
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(key, value)| {
                (
                    key.as_str(),
                    At {
                        value,
                        path: map.path.key(key),
                        entry: map.entry,
                        present: Present::default(),
                    },
                )
            })
    }

    /// The keys of a map field.
    pub fn keys(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        names(self.raw(name))
    }

    /// The names of this value's own fields.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        names(self.value)
    }

    /// This value as text.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// Names of the fields that are set, for unions where exactly one may be.
    pub fn set_fields(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, _)| k.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_as_kubernetes_writes_them() {
        let pod = json!({"metadata": {"labels": {"a/b": "c"}}, "spec": {"containers": [{"name": "x", "ports": [{}]}]}});
        let at = At::root(&pod, "core.v1.Pod");
        let container = at.at("spec").items("containers").next().unwrap();
        assert_eq!(container.path("image").to_string(), "spec.containers[0].image");
        assert_eq!(
            container.items("ports").next().unwrap().path("name").to_string(),
            "spec.containers[0].ports[0].name"
        );
        let (_, label) = at.at("metadata").entries("labels").next().unwrap();
        assert_eq!(label.to_string(), "metadata.labels[a/b]");
        assert_eq!(
            (
                container.str("name"),
                container.str("image"),
                container.has("env")
            ),
            ("x", "", false)
        );
    }

    #[test]
    fn no_field_is_lost_among_many() {
        let entry = schema::schema().find("core.v1.PodSpec").expect("a type");
        for step in [1, 3, 7] {
            let given: Vec<&'static str> = entry.fields.iter().step_by(step).map(|f| f.name).collect();
            let object: Value = given.iter().map(|name| ((*name).to_string(), json!(1))).collect();
            let at = At::root(&object, "core.v1.PodSpec");
            for field in &entry.fields {
                assert_eq!(at.has(field.name), given.contains(&field.name), "{}", field.name);
            }
        }
    }

    #[test]
    #[should_panic(expected = "core.v1.PodSpec has no field contaners")]
    fn a_misspelt_field_fails_the_test() {
        let pod = json!({"spec": {}});
        At::root(&pod, "core.v1.Pod")
            .at("spec")
            .items("contaners")
            .count();
    }
}
