//! Strategic merge patch: lists merge by their key, `$` directives delete, replace and order.
//!
//! Driven by the table of facts; a custom resource has no such facts and takes merge patches only.
//! Source: `k8s.io/apimachinery/pkg/util/strategicpatch`.

use serde_json::{Map, Value};

use crate::Status;
use crate::apply::check::go_plain;
use crate::schema::{Field, Kind, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";
/// Deeper patches are refused; no built-in type nests this far.
const MAX_DEPTH: usize = 200;

/// Applies `patch` to an object of type `entry`.
///
/// # Errors
/// 400 for a patch whose shape or directives make no sense, as upstream says it.
pub fn strategic_merge(target: &mut Value, patch: &Value, entry: &'static Type) -> Result<(), Status> {
    let Some(patch) = patch.as_object() else {
        return Err(bad(
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ));
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("made an object above");
    merge_map(map, patch, Some(entry), 0)
}

fn bad(message: impl Into<String>) -> Status {
    Status::bad_request(message)
}

/// Upstream has no code for these, so they come out as its own failure.
fn broken(message: impl Into<String>) -> Status {
    Status::failure(500, "", message)
}

fn merge_map(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    entry: Option<&'static Type>,
    depth: usize,
) -> Result<(), Status> {
    if depth > MAX_DEPTH {
        return Err(bad("exceeded max depth"));
    }
    match patch.get(DIRECTIVE) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("replace") => {
                *target = patch
                    .iter()
                    .filter(|(k, _)| *k != DIRECTIVE)
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                strip_directives_in(target, depth)?;
                return Ok(());
            }
            Some("delete") => {
                target.clear();
                return Ok(());
            }
            _ => return Err(unknown_type(directive, patch)),
        },
    }
    if let Some(keys) = patch.get(RETAIN_KEYS) {
        retain_keys(target, patch, keys)?;
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(SET_ORDER) {
            continue;
        }
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            delete_from(target, name, value)?;
            continue;
        }
        if value.is_null() {
            target.remove(key);
            continue;
        }
        let field = entry.and_then(|e| e.field(key));
        let order = patch.get(&format!("{SET_ORDER}{key}"));
        merge_field(target, key, value, field, order, depth)?;
    }
    // An order alone still sorts.
    for (key, order) in patch {
        let Some(name) = key.strip_prefix(SET_ORDER) else {
            continue;
        };
        if patch.get(name).is_some_and(Value::is_array) {
            continue;
        }
        let field = entry.and_then(|e| e.field(name));
        if let Some(Value::Array(list)) = target.get_mut(name) {
            sort_list(list, &[], order, field.and_then(|f| f.merge_key))?;
        }
    }
    Ok(())
}

/// Fields that `$retainKeys` does not name leave the object.
fn retain_keys(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), Status> {
    let Some(list) = keys.as_array() else {
        return Err(bad("invalid patch format of retainKeys"));
    };
    let named: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let missing = patch
        .iter()
        .any(|(k, v)| !v.is_null() && !k.starts_with('$') && !named.contains(&k.as_str()));
    if missing {
        return Err(super::json_patch::rejected());
    }
    target.retain(|k, _| named.contains(&k.as_str()));
    Ok(())
}

fn delete_from(target: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), Status> {
    match (values, target.get_mut(name)) {
        (Value::Null, _) => {
            target.remove(name);
        }
        (Value::Array(values), Some(Value::Array(list))) => list.retain(|v| !values.contains(v)),
        _ => {}
    }
    Ok(())
}

fn merge_field(
    target: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    field: Option<&'static Field>,
    order: Option<&Value>,
    depth: usize,
) -> Result<(), Status> {
    let entry = field.and_then(|f| f.kind.element());
    match value {
        Value::Object(patch) => {
            let replaced = field.is_some_and(|f| f.patch_replace);
            let was_there = target.contains_key(key);
            let slot = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if replaced || !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            let map = slot.as_object_mut().expect("made an object above");
            // Only structs have facts about their fields; a map's values are merged as plain JSON.
            let entry = match field.map(|f| f.kind) {
                Some(Kind::Struct(_)) | None => entry,
                _ => None,
            };
            let gone = patch.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
            merge_map(map, patch, entry, depth + 1)?;
            // What was there is emptied, not taken away; what was not stays away.
            if gone && !was_there {
                target.remove(key);
            }
            Ok(())
        }
        Value::Array(patch) => {
            let merges = field.is_some_and(|f| f.patch_merge);
            if !merges {
                let mut list: Vec<Value> = patch.clone();
                // A replacing list carries no directives into the object.
                list.retain(|v| v.get(DIRECTIVE).is_none());
                target.insert(key.into(), Value::Array(list));
                return Ok(());
            }
            let merge_key = field.and_then(|f| f.merge_key);
            let slot = target.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            let list = slot.as_array_mut().expect("made a list above");
            match merge_key {
                Some(merge_key) => merge_list(list, patch, merge_key, entry, order, depth + 1),
                None => merge_primitives(list, patch, order),
            }
        }
        scalar => {
            target.insert(key.into(), scalar.clone());
            Ok(())
        }
    }
}

/// Objects found by `merge_key`: deleted, replaced as a whole list, merged, or added. Without an order of its own the patch's
/// items are one.
fn merge_list(
    target: &mut Vec<Value>,
    patch: &[Value],
    merge_key: &str,
    entry: Option<&'static Type>,
    order: Option<&Value>,
    depth: usize,
) -> Result<(), Status> {
    let server: Vec<Value> = target.iter().filter_map(|v| v.get(merge_key).cloned()).collect();
    let replace = patch
        .iter()
        .any(|v| v.get(DIRECTIVE).and_then(Value::as_str) == Some("replace"));
    if replace {
        *target = patch
            .iter()
            .filter(|v| v.get(DIRECTIVE).is_none())
            .cloned()
            .collect();
        return Ok(());
    }
    for item in patch {
        let Some(item) = item.as_object() else {
            return Err(broken(
                "expected a map, but received another kind in a list merged by key",
            ));
        };
        let Some(identity) = item.get(merge_key) else {
            return Err(broken(format!(
                "map: {} does not contain declared merge key: {merge_key}",
                go_map(item)
            )));
        };
        let directive = item.get(DIRECTIVE);
        match directive.map(|d| d.as_str().unwrap_or_default()) {
            Some("delete") => target.retain(|v| v.get(merge_key) != Some(identity)),
            None => match target.iter_mut().find(|v| v.get(merge_key) == Some(identity)) {
                Some(Value::Object(found)) => merge_map(found, item, entry, depth)?,
                _ => {
                    let mut fresh = Map::new();
                    merge_map(&mut fresh, item, entry, depth)?;
                    target.push(Value::Object(fresh));
                }
            },
            Some("merge") => {
                return Err(broken("merging lists cannot yet be specified in the patch"));
            }
            Some(_) => return Err(unknown_type(directive.unwrap_or(&Value::Null), item)),
        }
    }
    let plain = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
    match order {
        Some(order) => sort_list(target, &server, order, Some(merge_key)),
        None => sort_list(
            target,
            &server,
            &Value::Array(plain.cloned().collect()),
            Some(merge_key),
        ),
    }
}

fn go_map(map: &Map<String, Value>) -> String {
    let parts: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_plain(v))).collect();
    format!("map[{}]", parts.join(" "))
}

fn unknown_type(directive: &Value, map: &Map<String, Value>) -> Status {
    broken(format!(
        "unknown patch type: {} in map: {}",
        go_plain(directive),
        go_map(map)
    ))
}

/// Values that are not there yet are added.
fn merge_primitives(target: &mut Vec<Value>, patch: &[Value], order: Option<&Value>) -> Result<(), Status> {
    let server = target.clone();
    for value in patch {
        if !target.contains(value) {
            target.push(value.clone());
        }
    }
    match order {
        Some(order) => sort_list(target, &server, order, None),
        None => sort_list(target, &server, &Value::Array(patch.to_vec()), None),
    }
}

/// Items that `order` names take its order; the others keep their place relative to their old neighbours.
fn sort_list(
    list: &mut Vec<Value>,
    server: &[Value],
    order: &Value,
    merge_key: Option<&str>,
) -> Result<(), Status> {
    let Some(order) = order.as_array() else {
        return Err(bad("invalid patch format of setElementOrder list"));
    };
    let identity = |v: &Value| match merge_key {
        Some(key) => v.get(key).cloned().unwrap_or(Value::Null),
        None => v.clone(),
    };
    let wanted: Vec<Value> = order.iter().map(identity).collect();
    let place = |id: &Value| wanted.iter().position(|w| w == id);
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|v| place(&identity(v)).is_some());
    named.sort_by_key(|v| place(&identity(v)));
    // Merge the two: an item the server alone has goes before the first named one that followed it there.
    let was = |v: &Value| {
        let id = identity(v);
        server.iter().position(|s| *s == id)
    };
    let mut named = named.into_iter().peekable();
    let mut others = others.drain(..).peekable();
    loop {
        match (named.peek(), others.peek()) {
            (Some(n), Some(o)) => {
                let next = if was(o) < was(n) {
                    others.next()
                } else {
                    named.next()
                };
                list.extend(next);
            }
            (Some(_), None) => list.extend(named.next()),
            (None, Some(_)) => list.extend(others.next()),
            (None, None) => return Ok(()),
        }
    }
}

/// Directives below a replaced map mean nothing any more.
fn strip_directives_in(map: &mut Map<String, Value>, depth: usize) -> Result<(), Status> {
    if depth > MAX_DEPTH {
        return Err(bad("exceeded max depth"));
    }
    map.retain(|k, v| {
        !(k == DIRECTIVE
            || k == RETAIN_KEYS
            || k.starts_with(DELETE_FROM)
            || k.starts_with(SET_ORDER)
            || v.is_null())
    });
    for value in map.values_mut() {
        if let Value::Object(inner) = value {
            strip_directives_in(inner, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::schema;
    use serde_json::json;

    fn apply(kind: &str, mut target: Value, patch: &Value) -> Result<Value, String> {
        strategic_merge(&mut target, patch, schema().find(kind).unwrap()).map_err(|s| s.message)?;
        Ok(target)
    }

    #[track_caller]
    fn check(kind: &str, target: Value, patch: Value, want: Value) {
        let got = apply(kind, target, &patch).unwrap();
        assert_eq!(got, want);
        assert_eq!(apply(kind, got, &patch).unwrap(), want, "twice is once");
    }

    const POD: &str = "core.v1.PodSpec";

    #[test]
    fn lists_merge_by_key() {
        check(
            POD,
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
        );
        check(
            POD,
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["a"]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["b"]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}], "args": ["b"]}]}),
        );
        check(
            POD,
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"a": null, "c": "3"}}),
            json!({"nodeSelector": {"b": "2", "c": "3"}}),
        );
        check(
            POD,
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        );
    }

    #[test]
    fn directives() {
        check(
            POD,
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check(
            POD,
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!({"containers": [{"name": "c"}]}),
        );
        check(
            POD,
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "replace", "fsGroup": 2}}),
            json!({"securityContext": {"fsGroup": 2}}),
        );
        check(
            POD,
            json!({"securityContext": {"runAsUser": 1}}),
            json!({"securityContext": {"$patch": "delete"}}),
            json!({"securityContext": {}}),
        );
        check(
            "meta.v1.ObjectMeta",
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
            json!({"finalizers": ["b"]}),
        );
        check(
            "apps.v1.DeploymentSpec",
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            json!({"strategy": {"type": "Recreate"}}),
        );
    }

    #[test]
    fn element_order() {
        check(
            POD,
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "s"}]}),
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}, {"name": "s"}]}),
        );
        check(
            "meta.v1.ObjectMeta",
            json!({"finalizers": ["a", "b"]}),
            json!({"$setElementOrder/finalizers": ["b", "a"], "finalizers": ["b", "a"]}),
            json!({"finalizers": ["b", "a"]}),
        );
        // Without one the patch's own items are the order, and a new one goes before what the server alone has.
        check(
            "meta.v1.ObjectMeta",
            json!({"finalizers": ["a"]}),
            json!({"finalizers": ["b"]}),
            json!({"finalizers": ["b", "a"]}),
        );
    }

    #[test]
    fn senseless_patches() {
        for (patch, want) in [
            (
                json!({"containers": [{"image": "x"}]}),
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (
                json!({"$patch": "explode"}),
                "unknown patch type: explode in map: map[$patch:explode]",
            ),
            (
                json!({"containers": [{"name": "a", "$patch": "merge"}]}),
                "merging lists cannot yet be specified in the patch",
            ),
            (
                json!({"containers": [1]}),
                "expected a map, but received another kind in a list merged by key",
            ),
            (
                json!({"$setElementOrder/containers": "x", "containers": [{"name": "a"}]}),
                "invalid patch format of setElementOrder list",
            ),
            (
                json!({"securityContext": {"$retainKeys": "x"}}),
                "invalid patch format of retainKeys",
            ),
            (
                json!({"securityContext": {"$retainKeys": ["runAsUser"], "fsGroup": 1}}),
                "the server rejected our request due to an error in our request",
            ),
            (
                json!([]),
                "json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
        ] {
            assert_eq!(apply(POD, json!({}), &patch), Err(want.to_string()));
        }
    }
}
