//! A structural schema as one of the views by which objects are walked.

use serde_json::Value;

use super::schema::{Additional, Schema, Shape};
use crate::schema::view::{Child, Dynamic, Keys, Scalar, Topology, View};
use crate::schema::{ListType, schema};

impl Dynamic for Schema {
    fn topology(&self) -> Option<Topology<'_>> {
        if self.int_or_string {
            return Some(Topology::Scalar(Scalar::Untyped));
        }
        Some(match self.shape? {
            Shape::String => Topology::Scalar(Scalar::String),
            Shape::Integer | Shape::Number => Topology::Scalar(Scalar::Numeric),
            Shape::Boolean => Topology::Scalar(Scalar::Boolean),
            Shape::Array => match self.list_type {
                Some(ListType::Set) => Topology::Set,
                Some(ListType::Map) => Topology::Keyed(Keys::Owned(&self.list_keys)),
                Some(ListType::Atomic) | None => Topology::AtomicList,
            },
            Shape::Object if self.atomic => Topology::AtomicMap,
            Shape::Object => Topology::Granular,
        })
    }

    fn child(&self, name: &str) -> Option<Child<'_>> {
        let found = |view, declared| Some(Child { view, declared });
        if self.embedded && name == "metadata" {
            let entry = schema().find("meta.v1.ObjectMeta").expect("every object has it");
            return found(View::of(entry), true);
        }
        if let Some(property) = self.properties.get(name) {
            return found(View::dynamic(property), true);
        }
        if self.embedded && matches!(name, "apiVersion" | "kind") {
            return found(View::whole(), true);
        }
        match &self.additional {
            Additional::Schema(values) => found(View::dynamic(&**values), false),
            Additional::Allowed(true) => found(View::deduced(), false),
            _ if self.preserve => found(View::deduced(), false),
            _ => None,
        }
    }

    fn element(&self) -> View<'_> {
        match &self.items {
            Some(items) => View::dynamic(&**items),
            None => View::deduced(),
        }
    }

    fn default_of(&self, name: &str) -> Option<Value> {
        self.properties.get(name)?.default.as_deref().cloned()
    }
}
