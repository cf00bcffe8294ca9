//! One view of a schema for all who walk objects by it: what a place holds, and the places below it.
//!
//! Knows the facts table, the schema-less object, and that there are other schemas ([`Dynamic`]: those of custom
//! resources). Must not know what is done at a place: server-side apply, pruning and documents use the same view.
//!
//! Source of the rules: Kubernetes' conversion of OpenAPI into a merge schema (`kube-openapi`, `schemaconv`) and the
//! documentation of `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and `x-kubernetes-map-type`.

use std::fmt::Debug;

use serde_json::Value;

use super::{Field, Kind, ListType, Type, schema};

/// A place in an object, as its schema sees it. Copying it costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(Node<'a>);

#[derive(Debug, Clone, Copy)]
enum Node<'a> {
    /// A type of the facts table, and the field that holds the value, if one does.
    Fact(Kind, Option<&'static Field>),
    Dynamic(&'a dyn Dynamic),
    /// No schema: the value itself says what it is; maps merge by key, lists are one value.
    Deduced,
    /// No schema, and the value is one whatever it is.
    Whole,
}

/// How values at a place are owned and merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology<'a> {
    Scalar(Scalar),
    /// A list that is one value.
    AtomicList,
    /// A map or struct that is one value.
    AtomicMap,
    /// A list of distinct scalars.
    Set,
    /// A list of objects, each known by the values of these fields.
    Keyed(Keys<'a>),
    /// A struct or map whose entries are owned one by one.
    Granular,
}

/// What a scalar must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    String,
    Numeric,
    Boolean,
    /// Any scalar: quantities, times, `IntOrString`.
    Untyped,
}

/// The key fields of a list, in the order the schema names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys<'a> {
    Fact(&'static [&'static str]),
    Owned(&'a [String]),
}

impl<'a> Keys<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let (fact, owned): (&[&'static str], &[String]) = match self {
            Self::Fact(names) => (names, &[]),
            Self::Owned(names) => (&[], names),
        };
        fact.iter().copied().chain(owned.iter().map(String::as_str))
    }
}

/// What a struct or map holds under a name.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    pub view: View<'a>,
    /// A field that the schema names; otherwise an entry of a map.
    pub declared: bool,
}

/// A schema that is not in the facts table, at one place.
pub trait Dynamic: Debug + Send + Sync {
    /// `None` when the schema leaves the form open: then the value decides, as for [`View::deduced`].
    fn topology(&self) -> Option<Topology<'_>>;

    /// What is below `name`; `None` when the schema allows nothing there.
    fn child(&self, name: &str) -> Option<Child<'_>>;

    /// What the elements of a list are.
    fn element(&self) -> View<'_>;

    /// The default of the field `name`, if it has one.
    fn default_of(&self, name: &str) -> Option<Value>;
}

impl View<'static> {
    /// A type of the facts table.
    pub fn of(entry: &'static Type) -> Self {
        let idx = schema().by_name[entry.name];
        Self(Node::Fact(Kind::Struct(idx), None))
    }

    /// An object of which nothing is known: maps merge by key, lists are one value.
    pub fn deduced() -> Self {
        Self(Node::Deduced)
    }

    /// A value that is owned as one, whatever it is.
    pub fn whole() -> Self {
        Self(Node::Whole)
    }
}

impl<'a> View<'a> {
    /// A place of another schema.
    pub fn dynamic(schema: &'a dyn Dynamic) -> Self {
        Self(Node::Dynamic(schema))
    }

    /// True when nothing is known about what may be here.
    pub fn is_open(self) -> bool {
        match self.0 {
            Node::Deduced | Node::Whole | Node::Fact(Kind::Any, _) => true,
            Node::Fact(..) => false,
            Node::Dynamic(schema) => schema.topology().is_none(),
        }
    }

    /// How the place is owned. Without a schema the value decides; there `null` counts as a map.
    pub fn topology(self, value: &Value) -> Topology<'a> {
        match self.0 {
            Node::Fact(kind, field) => fact_topology(kind, field, value),
            Node::Dynamic(schema) => schema.topology().unwrap_or_else(|| deduced(value)),
            Node::Deduced => deduced(value),
            Node::Whole => match deduced(value) {
                Topology::Granular => Topology::AtomicMap,
                other => other,
            },
        }
    }

    /// True for a list or map that is one value, whatever its contents.
    pub fn is_atomic(self) -> bool {
        !self.is_open()
            && matches!(
                self.topology(&Value::Null),
                Topology::AtomicList | Topology::AtomicMap
            )
    }

    /// What is below `name` in a struct or map; `None` when the schema has no such field.
    pub fn child(self, name: &str) -> Option<Child<'a>> {
        let entry = |view| Child {
            view,
            declared: false,
        };
        match self.0 {
            Node::Fact(Kind::Struct(idx), _) => schema().get(idx).field(name).map(|field| Child {
                view: Self(Node::Fact(field.kind, Some(field))),
                declared: true,
            }),
            Node::Fact(Kind::Map(inner), _) => Some(entry(Self(Node::Fact(*inner, None)))),
            Node::Fact(Kind::Any, _) | Node::Deduced => Some(entry(Self(Node::Deduced))),
            Node::Whole => Some(entry(Self(Node::Whole))),
            Node::Fact(..) => None,
            Node::Dynamic(schema) => schema.child(name),
        }
    }

    /// What the elements of a list are.
    pub fn element(self) -> View<'a> {
        match self.0 {
            Node::Fact(Kind::List(inner), _) => Self(Node::Fact(*inner, None)),
            Node::Dynamic(schema) => schema.element(),
            Node::Whole => self,
            Node::Fact(..) | Node::Deduced => Self(Node::Deduced),
        }
    }

    /// The value of the key field `name` by which an element is known, when `given` is what it holds: as the object
    /// will hold it once it is stored. What is not written back (`null`, an empty `protocol`) is absent; in place of an
    /// absent value stands its default, or Go's zero value of a field that is always written.
    pub fn key_of(self, name: &str, given: Option<&Value>) -> Option<Value> {
        let said = given.filter(|value| !value.is_null());
        match self.0 {
            Node::Fact(Kind::Struct(idx), _) => {
                let Some(field) = schema().get(idx).field(name) else {
                    return given.cloned();
                };
                if let Some(value) = said.filter(|value| field.written(value)) {
                    return Some(value.clone());
                }
                // The only keys with a default of their own are the protocols of ports.
                match name {
                    "protocol" => Some("TCP".into()),
                    _ if field.always && !field.pointer => Some(field.kind.zero()),
                    _ => None,
                }
            }
            // A `null` without a default is left to validation, which says what is wrong with it.
            Node::Dynamic(schema) => said
                .cloned()
                .or_else(|| schema.default_of(name))
                .or(given.cloned()),
            _ => given.cloned(),
        }
    }
}

fn fact_topology(kind: Kind, field: Option<&'static Field>, value: &Value) -> Topology<'static> {
    let map = |atomic| {
        if atomic {
            Topology::AtomicMap
        } else {
            Topology::Granular
        }
    };
    match kind {
        Kind::String | Kind::Bytes => Topology::Scalar(Scalar::String),
        Kind::Boolean => Topology::Scalar(Scalar::Boolean),
        Kind::Int32 | Kind::Int64 | Kind::Double => Topology::Scalar(Scalar::Numeric),
        Kind::Time | Kind::MicroTime | Kind::Quantity | Kind::IntOrString => {
            Topology::Scalar(Scalar::Untyped)
        }
        Kind::Any => deduced(value),
        Kind::Struct(idx) => match field {
            Some(field) if field.atomic => map(true),
            Some(field) if field.granular => map(false),
            _ => map(schema().get(idx).atomic),
        },
        Kind::Map(_) => map(field.is_some_and(|f| f.atomic)),
        Kind::List(_) => field.map_or(Topology::AtomicList, list_topology),
    }
}

/// A list that says nothing itself merges as its patch strategy does.
fn list_topology(field: &'static Field) -> Topology<'static> {
    match field.list_type {
        Some(ListType::Atomic) => Topology::AtomicList,
        Some(ListType::Set) => Topology::Set,
        Some(ListType::Map) => Topology::Keyed(Keys::Fact(&field.list_keys)),
        None if !field.patch_merge => Topology::AtomicList,
        None if field.merge_key.is_some() => Topology::Keyed(Keys::Fact(field.merge_key.as_slice())),
        None => Topology::Set,
    }
}

fn deduced(value: &Value) -> Topology<'static> {
    match value {
        Value::Object(_) | Value::Null => Topology::Granular,
        Value::Array(_) => Topology::AtomicList,
        _ => Topology::Scalar(Scalar::Untyped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Follows `path` (fields by name, `*` for an element of a list) and prints what is there.
    #[track_caller]
    fn check(type_name: &str, path: &str, want: &str) {
        let mut view = View::of(schema().find(type_name).expect(type_name));
        for step in path.split('.') {
            view = match step {
                "*" => view.element(),
                name => match view.child(name) {
                    Some(child) => child.view,
                    None => return assert_eq!("none", want, "{type_name} {path}"),
                },
            };
        }
        let got = match view.topology(&Value::Null) {
            Topology::Keyed(keys) => format!("keyed {}", keys.iter().collect::<Vec<_>>().join(",")),
            other => format!("{other:?}"),
        };
        assert_eq!(got, want, "{type_name} {path}");
    }

    #[test]
    fn places_of_built_in_types() {
        const POD: &str = "core.v1.Pod";
        check(POD, "spec", "Granular");
        check(POD, "spec.nodeName", "Scalar(String)");
        check(POD, "spec.containers", "keyed name");
        check(POD, "spec.containers.*.ports", "keyed containerPort,protocol");
        check(POD, "spec.containers.*.args", "AtomicList");
        check(POD, "spec.containers.*.resources.limits", "Granular");
        check(POD, "spec.containers.*.resources.limits.cpu", "Scalar(Untyped)");
        check(POD, "spec.nodeSelector", "AtomicMap");
        check(POD, "metadata.labels.x", "Scalar(String)");
        check(POD, "metadata.finalizers", "Set");
        check(POD, "metadata.ownerReferences", "keyed uid");
        check(POD, "metadata.ownerReferences.*", "AtomicMap");
        check(POD, "spec.nope", "none");
        check("apps.v1.Deployment", "spec.selector", "AtomicMap");
        check("core.v1.PersistentVolumeClaim", "spec.selector", "AtomicMap");
        check("core.v1.PersistentVolume", "spec.claimRef", "Granular");
        check("core.v1.Endpoints", "subsets.*.addresses", "AtomicList");
        check("apps.v1.ControllerRevision", "data.spec.x", "Granular");
    }

    #[test]
    fn keys_are_what_is_stored() {
        #[track_caller]
        fn check(type_name: &str, name: &str, given: Option<Value>, want: Option<Value>) {
            let view = View::of(schema().find(type_name).expect("a type"));
            assert_eq!(
                view.key_of(name, given.as_ref()),
                want,
                "{type_name} {name} {given:?}"
            );
        }
        let port = "core.v1.ContainerPort";
        check(port, "protocol", None, Some("TCP".into()));
        check(port, "protocol", Some("".into()), Some("TCP".into()));
        check(port, "protocol", Some(Value::Null), Some("TCP".into()));
        check(port, "protocol", Some("UDP".into()), Some("UDP".into()));
        check(port, "containerPort", None, Some(0.into()));
        check(port, "containerPort", Some(Value::Null), Some(0.into()));
        check(port, "containerPort", Some(80.into()), Some(80.into()));
        let status = "resource.v1.AllocatedDeviceStatus";
        check(status, "shareID", None, None);
        check(status, "shareID", Some("".into()), Some("".into()));
    }

    #[test]
    fn keys_of_custom_resources_are_what_is_stored() {
        let items = json!({"type": "object", "required": ["a"], "properties":
            {"a": {"type": "string"}, "b": {"type": "string", "default": "d"}}});
        let schema = json!({"type": "object", "properties": {"list":
            {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": items}}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.x.io"},
            "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        });
        let types = crate::custom::types(&definition).expect("a good definition");
        let element = types[0].view().child("list").expect("declared").view.element();
        assert_eq!(element.key_of("b", Some(&Value::Null)), Some("d".into()));
        assert_eq!(element.key_of("b", None), Some("d".into()));
        assert_eq!(element.key_of("b", Some(&"".into())), Some("".into()));
        assert_eq!(element.key_of("a", Some(&Value::Null)), Some(Value::Null));
        assert_eq!(element.key_of("a", None), None);
    }

    #[test]
    fn every_key_field_exists() {
        for entry in schema().types() {
            for field in &entry.fields {
                let view = View::of(entry).child(field.name).expect("its own field").view;
                if let Topology::Keyed(keys) = view.topology(&Value::Null) {
                    for key in keys.iter() {
                        assert!(
                            view.element().child(key).is_some(),
                            "{}.{}: {key}",
                            entry.name,
                            field.name
                        );
                    }
                }
            }
        }
    }
}
