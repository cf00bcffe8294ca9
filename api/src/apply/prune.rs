//! An object without some of its fields.

use serde_json::{Map, Value};

use super::items::identity;
use super::set::{Element, Set};
use super::topology;
use crate::schema::view::{Topology, View};

/// The object without the members of `gone` and what is below them. A list or map that loses its last entry becomes
/// `null`; one that is a single value goes as a whole when something in it goes.
pub fn without(view: View<'_>, value: &Value, gone: &Set) -> Value {
    walk(view, value, gone, 0).unwrap_or(Value::Null)
}

fn walk(view: View<'_>, value: &Value, gone: &Set, depth: usize) -> Option<Value> {
    let form = topology(view, value, depth);
    match (form, value) {
        (Topology::Scalar(_), _) => Some(value.clone()),
        (Topology::Granular, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                let kept = match gone.at_field(key) {
                    (true, _) => continue,
                    (false, None) => value.clone(),
                    (false, Some(below)) => match view.child(key) {
                        Some(child) => walk(child.view, value, below, depth + 1).unwrap_or(Value::Null),
                        None => value.clone(),
                    },
                };
                out.insert(key.clone(), kept);
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Topology::Set | Topology::Keyed(_), Value::Array(list)) => {
            let mut out = Vec::with_capacity(list.len());
            for item in list {
                let element: Option<Element> = identity(view, form, item).ok();
                let kept = match element.map_or((false, None), |e| gone.at(&e)) {
                    (true, _) => continue,
                    (false, None) => item.clone(),
                    (false, Some(below)) => {
                        let left = walk(view.element(), item, below, depth + 1).unwrap_or(Value::Null);
                        with_keys(form, item, left)
                    }
                };
                out.push(kept);
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        _ => None,
    }
}

/// An element that stays though all its fields go keeps those that say which one it is.
fn with_keys(form: Topology<'_>, item: &Value, left: Value) -> Value {
    let Topology::Keyed(keys) = form else {
        return left;
    };
    if !left.is_null() {
        return left;
    }
    let kept = keys
        .iter()
        .filter_map(|key| Some((key.into(), item.get(key)?.clone())));
    Value::Object(kept.collect())
}
