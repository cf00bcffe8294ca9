//! The set of fields a value has.

use serde_json::Value;

use super::items::identity;
use super::set::{Element, Set};
use super::topology;
use crate::schema::view::{Topology, View};

/// Every field of `value`. Structs are not members of their own, maps' entries, list elements and empty or null
/// values are. Elements that occur twice are members without what is below them.
pub fn fields_of(view: View<'_>, value: &Value) -> Set {
    walk(view, value, 0).1
}

/// Whether the place itself is a leaf, and what is below it.
fn walk(view: View<'_>, value: &Value, depth: usize) -> (bool, Set) {
    let mut set = Set::default();
    let form = topology(view, value, depth);
    match (form, value) {
        (Topology::Scalar(_) | Topology::AtomicList | Topology::AtomicMap, _) => return (true, set),
        (Topology::Granular, Value::Object(map)) => {
            for (key, value) in map {
                let child = view.child(key);
                let (leaf, below) = child.map_or_else(
                    || (true, Set::default()),
                    |child| walk(child.view, value, depth + 1),
                );
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                let member = leaf || empty || child.is_none_or(|c| !c.declared);
                set.put(Element::Field(key.as_str().into()), member, below);
            }
        }
        (Topology::Set | Topology::Keyed(_), Value::Array(list)) => {
            let mut elements: Vec<(Element, &Value)> = list
                .iter()
                .filter_map(|item| identity(view, form, item).ok().map(|e| (e, item)))
                .collect();
            elements.sort_by(|a, b| a.0.cmp(&b.0));
            let mut rest = elements.into_iter().peekable();
            while let Some((element, item)) = rest.next() {
                let mut twice = false;
                while rest.next_if(|(next, _)| *next == element).is_some() {
                    twice = true;
                }
                let below = if twice {
                    Set::default()
                } else {
                    walk(view.element(), item, depth + 1).1
                };
                set.put(element, true, below);
            }
        }
        _ => {}
    }
    (false, set)
}
