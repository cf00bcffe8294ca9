//! Strategic merge on every list of the facts table that has a merge key or merges as a set.

use corten_api::patch::strategic_merge;
use corten_api::schema::{Kind, schema};
use serde_json::{Value, json};

/// A merge key's value of the key's own type.
fn key(kind: Kind, n: i64) -> Value {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::IntOrString => n.into(),
        _ => format!("k{n}").into(),
    }
}

#[test]
fn every_keyed_list_merges_deletes_orders_and_replaces() {
    let mut lists = 0;
    for entry in schema().types() {
        for field in entry.fields.iter().filter(|f| f.patch_merge) {
            let (Some(merge_key), Some(element)) = (field.merge_key, field.kind.element()) else {
                continue;
            };
            let kind = element
                .field(merge_key)
                .unwrap_or_else(|| panic!("{}.{}: no {merge_key}", entry.name, field.name))
                .kind;
            let item = |n: i64, extra: &str| json!({merge_key: key(kind, n), "x-mark": extra});
            let apply = |patch: Value| {
                let mut target = json!({field.name: [item(1, "a"), item(2, "b"), item(3, "c")]});
                strategic_merge(&mut target, &patch, entry).unwrap();
                let once = target.clone();
                strategic_merge(&mut target, &patch, entry).unwrap();
                assert_eq!(target, once, "{}.{}", entry.name, field.name);
                target[field.name].clone()
            };
            let name = format!("{}.{}", entry.name, field.name);
            assert_eq!(
                apply(json!({field.name: [item(2, "B"), item(4, "d")]})),
                json!([item(1, "a"), item(2, "B"), item(4, "d"), item(3, "c")]),
                "{name}"
            );
            assert_eq!(
                apply(json!({field.name: [{merge_key: key(kind, 2), "$patch": "delete"}]})),
                json!([item(1, "a"), item(3, "c")]),
                "{name}"
            );
            assert_eq!(
                apply(json!({field.name: [{"$patch": "replace"}, item(9, "z")]})),
                json!([item(9, "z")]),
                "{name}"
            );
            let order: Vec<Value> = [3, 2, 1]
                .iter()
                .map(|n| json!({merge_key: key(kind, *n)}))
                .collect();
            assert_eq!(
                apply(json!({format!("$setElementOrder/{}", field.name): order})),
                json!([item(3, "c"), item(2, "b"), item(1, "a")]),
                "{name}"
            );
            lists += 1;
        }
    }
    assert!(lists >= 25, "{lists} keyed lists");
}

#[test]
fn every_primitive_set_adds_and_deletes() {
    let mut sets = 0;
    for entry in schema().types() {
        for field in entry
            .fields
            .iter()
            .filter(|f| f.patch_merge && f.merge_key.is_none() && matches!(f.kind, Kind::List(_)))
        {
            let mut target = json!({field.name: ["a", "b"]});
            strategic_merge(&mut target, &json!({field.name: ["b", "c"]}), entry).unwrap();
            assert_eq!(
                target[field.name],
                json!(["a", "b", "c"]),
                "{}.{}",
                entry.name,
                field.name
            );
            strategic_merge(
                &mut target,
                &json!({format!("$deleteFromPrimitiveList/{}", field.name): ["a"]}),
                entry,
            )
            .unwrap();
            assert_eq!(
                target[field.name],
                json!(["b", "c"]),
                "{}.{}",
                entry.name,
                field.name
            );
            sets += 1;
        }
    }
    assert!(sets >= 1, "{sets} primitive sets");
}

#[test]
fn every_other_list_is_replaced() {
    for entry in schema().types() {
        for field in entry
            .fields
            .iter()
            .filter(|f| !f.patch_merge && matches!(f.kind, Kind::List(_)))
        {
            let mut target = json!({field.name: ["a", "b"]});
            strategic_merge(&mut target, &json!({field.name: ["c"]}), entry).unwrap();
            assert_eq!(target[field.name], json!(["c"]), "{}.{}", entry.name, field.name);
        }
    }
}

#[test]
fn a_list_as_a_whole_can_be_taken_away_or_given() {
    for entry in schema().types() {
        for field in entry.fields.iter().filter(|f| f.patch_merge) {
            let name = format!("{}.{}", entry.name, field.name);
            let element = field.kind.element();
            let (one, two) = match (field.merge_key, element) {
                (Some(key_name), Some(element)) => {
                    let Some(key_field) = element.field(key_name) else {
                        continue;
                    };
                    (
                        json!({key_name: key(key_field.kind, 1)}),
                        json!({key_name: key(key_field.kind, 2)}),
                    )
                }
                _ => (json!("a"), json!("b")),
            };
            let apply = |target: Value, patch: Value| {
                let mut target = target;
                strategic_merge(&mut target, &patch, entry).unwrap();
                target
            };
            // `null` takes the list away.
            assert_eq!(
                apply(json!({field.name: [one.clone()]}), json!({field.name: null})),
                json!({}),
                "{name}"
            );
            // A list that was not there is what the patch says, without its directives.
            assert_eq!(
                apply(json!({}), json!({field.name: [one.clone()]})),
                json!({field.name: [one.clone()]}),
                "{name}"
            );
            // An order with additions: the named ones take it.
            let order = format!("$setElementOrder/{}", field.name);
            assert_eq!(
                apply(
                    json!({field.name: [one.clone()]}),
                    json!({order: [two.clone(), one.clone()], field.name: [two.clone()]})
                ),
                json!({field.name: [two.clone(), one.clone()]}),
                "{name}"
            );
        }
    }
}

#[test]
fn retained_keys_of_every_union() {
    let mut unions = 0;
    for entry in schema().types() {
        for field in entry.fields.iter().filter(|f| f.patch_retain_keys) {
            let Some(element) = field.kind.element() else {
                continue;
            };
            let names: Vec<&str> = element.fields.iter().map(|f| f.name).collect();
            let [first, second, ..] = names.as_slice() else {
                continue;
            };
            let item = |extra: Value| match field.merge_key {
                Some(merge_key) => {
                    let mut item = extra;
                    item[merge_key] = "k".into();
                    json!([item])
                }
                None => extra,
            };
            let (other, kept) = match field.merge_key {
                Some(merge_key) => {
                    let mut rest = names.iter().filter(|n| **n != merge_key);
                    match (rest.next(), rest.next()) {
                        (Some(other), Some(kept)) => (*other, *kept),
                        _ => continue,
                    }
                }
                None => (*first, *second),
            };
            let mut keys = vec![kept];
            keys.extend(field.merge_key);
            let mut target = json!({field.name: item(json!({other: {"x": 1}}))});
            let patch = json!({field.name: item(json!({kept: {"y": 1}, "$retainKeys": keys}))});
            strategic_merge(&mut target, &patch, entry).unwrap();
            assert_eq!(
                target,
                json!({field.name: item(json!({kept: {"y": 1}}))}),
                "{}.{}",
                entry.name,
                field.name
            );
            unions += 1;
        }
    }
    assert!(unions >= 2, "{unions} unions");
}
