//! Which part of a Pod's status has to be sent. Pure.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use crate::pod::conditions::OWNED;

/// Lists that a strategic merge would join by key: they are replaced whole.
const REPLACED: [&str; 2] = ["podIPs", "hostIPs"];
/// Fields of the status that others write.
const FOREIGN: [&str; 2] = ["nominatedNodeName", "resize"];

/// The strategic merge patch from `old` (as the API has it) to `new`, bound to the Pod's uid. `None`: nothing to say.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (fields(old), fields(new));
    let mut status = Map::new();
    for (name, value) in &new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        match name.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    status.insert(name.clone(), Value::Array(changed));
                }
            }
            name if REPLACED.contains(&name) => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().into_iter().flatten().cloned());
                status.insert(name.to_owned(), Value::Array(list));
            }
            _ => {
                status.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old
        .keys()
        .filter(|name| !new.contains_key(*name) && !FOREIGN.contains(&name.as_str()))
    {
        status.insert(name.clone(), Value::Null);
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn changed_conditions(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let find = |kind: &Value| {
        old?.as_array()?
            .iter()
            .find(|condition| condition["type"] == *kind)
            .cloned()
    };
    let mut changed = Vec::new();
    for condition in new.as_array().into_iter().flatten() {
        let owned = condition["type"]
            .as_str()
            .is_some_and(|kind| OWNED.contains(&kind));
        let before = find(&condition["type"]);
        if !owned || before.as_ref() == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        // Merged by type: what is no longer said must be taken back.
        for (name, _) in before.iter().filter_map(Value::as_object).flatten() {
            if condition.get(name).is_none() {
                condition[name] = Value::Null;
            }
        }
        changed.push(condition);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: Value, new: Value, wanted: Value) {
        let read = |value: Value| serde_json::from_value::<PodStatus>(value).expect("a status");
        let seen = patch("u", &read(old), &read(new)).map_or(Value::Null, |patch| patch["status"].clone());
        assert_eq!(seen, wanted);
    }

    #[test]
    fn only_what_changed() {
        let base = json!({"phase": "Pending", "podIPs": [{"ip": "a"}]});
        check(base.clone(), base.clone(), Value::Null);
        check(
            base.clone(),
            json!({"phase": "Running", "podIPs": [{"ip": "a"}]}),
            json!({"phase": "Running"}),
        );
        check(
            base,
            json!({"phase": "Pending", "podIPs": [{"ip": "b"}]}),
            json!({"podIPs": [{"$patch": "replace"}, {"ip": "b"}]}),
        );
        check(
            json!({"reason": "x", "nominatedNodeName": "n"}),
            json!({}),
            json!({"reason": null}),
        );
    }

    #[test]
    fn conditions_of_others_are_left_alone() {
        let old = json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "example.com/gate", "status": "True"},
            {"type": "Initialized", "status": "True"}]});
        let new = json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]});
        check(
            old,
            new,
            json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}]}),
        );
    }
}
