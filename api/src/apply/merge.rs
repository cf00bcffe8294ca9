//! A configuration merged into an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::items::identity;
use super::set::Element;
use super::topology;
use crate::schema::view::{Topology, View};

/// The object with everything the configuration says. Elements of sets and keyed lists that the configuration names
/// take its order; the others keep their places between them.
///
/// # Errors
/// The text of what is wrong: a list element without identity, or one the configuration names twice.
pub fn merge(view: View<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    Ok(walk(view, Some(live), Some(config), 0)?.unwrap_or(Value::Null))
}

/// `None` when nothing is left at the place.
fn walk(
    view: View<'_>,
    live: Option<&Value>,
    config: Option<&Value>,
    depth: usize,
) -> Result<Option<Value>, String> {
    let Some(shape) = config.or(live) else {
        return Ok(None);
    };
    let leaf = || Ok(Some(shape.clone()));
    let form = topology(view, shape, depth);
    // Without a schema a value may change its form; then the configuration's value replaces the other.
    if let Some(live) = live
        && std::mem::discriminant(&topology(view, live, depth)) != std::mem::discriminant(&form)
    {
        return leaf();
    }
    match form {
        Topology::Scalar(_) | Topology::AtomicList | Topology::AtomicMap => leaf(),
        Topology::Granular => {
            let map =
                |value: Option<&'_ Value>| value.and_then(Value::as_object).is_some_and(|m| !m.is_empty());
            if !map(live) && !map(config) {
                return leaf();
            }
            entries(
                view,
                live.and_then(Value::as_object),
                config.and_then(Value::as_object),
                depth,
            )
        }
        Topology::Set | Topology::Keyed(_) => {
            let (a, b) = (list_of(live), list_of(config));
            if a.is_empty() && b.is_empty() {
                return leaf();
            }
            elements(view, form, a, b, depth)
        }
    }
}

fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries(
    view: View<'_>,
    live: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
    depth: usize,
) -> Result<Option<Value>, String> {
    let mut out = Map::new();
    for (key, old) in live.into_iter().flatten() {
        let new = config.and_then(|c| c.get(key));
        let merged = match (view.child(key), new) {
            (_, None) => Some(old.clone()),
            (Some(child), new) => walk(child.view, Some(old), new, depth + 1)?,
            (None, Some(new)) => Some(new.clone()),
        };
        out.extend(merged.map(|v| (key.clone(), v)));
    }
    for (key, new) in config.into_iter().flatten() {
        if live.is_none_or(|l| !l.contains_key(key)) {
            let merged = match view.child(key) {
                Some(child) => walk(child.view, None, Some(new), depth + 1)?,
                None => Some(new.clone()),
            };
            out.extend(merged.map(|v| (key.clone(), v)));
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

fn elements(
    view: View<'_>,
    form: Topology<'_>,
    live: &[Value],
    config: &[Value],
    depth: usize,
) -> Result<Option<Value>, String> {
    let at = |place: usize, error: String| format!("element {place}: {error}");
    let mut wanted: BTreeMap<Element, usize> = BTreeMap::new();
    for (place, item) in config.iter().enumerate() {
        let element = identity(view, form, item).map_err(|e| at(place, e))?;
        if wanted.contains_key(&element) {
            return Err(format!("duplicate entries for key {element}"));
        }
        wanted.insert(element, place);
    }
    // Where the configuration has each live element, and which live value belongs to each of the configuration's.
    let mut named: Vec<Option<usize>> = Vec::with_capacity(live.len());
    let mut partner: Vec<Option<&Value>> = vec![None; config.len()];
    for (place, item) in live.iter().enumerate() {
        let element = identity(view, form, item).map_err(|e| at(place, e))?;
        let name = wanted.get(&element).copied();
        if let Some(name) = name {
            // Of an element that is there more than once nothing is kept.
            partner[name] = Some(partner[name].map_or(item, |_| &Value::Null));
        }
        named.push(name);
    }
    // The place of the first element that both have, from each place of the configuration on.
    let mut next_shared: Vec<Option<usize>> = vec![None; config.len() + 1];
    for place in (0..config.len()).rev() {
        next_shared[place] = partner[place].map(|_| place).or(next_shared[place + 1]);
    }
    let merged = |place: usize| walk(view.element(), partner[place], Some(&config[place]), depth + 1);
    // The two lists are read side by side: the live list's own elements go out as they come, those of both when
    // they are due in the configuration's order.
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut old, mut place) = (0, 0);
    while old < live.len() || place < config.len() {
        if old < live.len() {
            let Some(name) = named[old] else {
                out.push(live[old].clone());
                old += 1;
                continue;
            };
            let is_due = name == place;
            let is_over = name < place;
            let another_is_due = next_shared[place.min(config.len())].is_some_and(|due| due != name);
            if is_due || is_over || another_is_due {
                old += 1;
            }
            if another_is_due && !is_due {
                continue;
            }
        }
        if place < config.len() {
            out.extend(merged(place)?);
            place += 1;
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::schema;
    use serde_json::json;

    /// Lists of environment variables by name, `!` for one with another value in the configuration.
    #[track_caller]
    fn check(live: &str, config: &str, want: &str) {
        let list = |text: &str, from: &str| -> Value {
            text.split_whitespace()
                .map(|name| json!({"name": name, from: "x"}))
                .collect()
        };
        let view = View::of(schema().find("core.v1.Container").expect("a type"));
        let (live, config) = (
            json!({"env": list(live, "value")}),
            json!({"env": list(config, "valueFrom")}),
        );
        let merged = merge(view, &live, &config).expect("good lists");
        let got: Vec<&str> = merged["env"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v["name"].as_str())
            .collect();
        assert_eq!(got.join(" "), want);
    }

    #[test]
    fn order_of_elements() {
        check("", "a b", "a b");
        check("a b", "", "a b");
        check("a b c", "c a", "b c a");
        check("a b c d", "d b", "a c d b");
        check("a b c", "n b", "a n b c");
        check("a b c", "a n", "a b c n");
        check("b a x", "a b n", "a x b n");
        check("a b", "x y", "a b x y");
        check("a b c", "c b a", "c b a");
        check("a a b", "a", "a b");
        check("a a b", "a n", "a n b");
    }

    #[test]
    fn what_is_merged() {
        let view = View::of(schema().find("core.v1.Pod").expect("a type"));
        let merged = |live: Value, config: Value| merge(view, &live, &config);
        assert_eq!(
            merged(
                json!({"spec": {"nodeSelector": {"a": "1"}, "containers": [{"name": "a", "image": "x", "args": ["1"]}]}}),
                json!({"spec": {"nodeSelector": {"b": "2"}, "containers": [{"name": "a", "args": ["2"]}]}, "metadata": {"labels": {"l": "m"}}}),
            ),
            Ok(
                json!({"spec": {"nodeSelector": {"b": "2"}, "containers": [{"name": "a", "image": "x", "args": ["2"]}]},
                "metadata": {"labels": {"l": "m"}}})
            )
        );
        assert_eq!(
            merged(
                json!({"metadata": {"finalizers": ["a"]}}),
                json!({"metadata": {"finalizers": ["b"]}})
            ),
            Ok(json!({"metadata": {"finalizers": ["a", "b"]}}))
        );
        assert_eq!(
            merged(json!({}), json!({"metadata": {"finalizers": ["b", "b"]}})),
            Err("duplicate entries for key [=\"b\"]".into())
        );
    }
}
