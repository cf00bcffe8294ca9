//! Brings a default Role or binding that exists up to what it has to be. Pure.
//!
//! Permissions and subjects are added, never taken away, and an object that says so is left alone. Source: Kubernetes
//! `pkg/registry/rbac/reconciliation`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use serde_json::{Map, Value};

use super::matches::{PolicyRule, missing};
use super::policy::AUTO_UPDATE;

/// What has to be done about an object.
#[derive(Debug, PartialEq)]
pub enum Step {
    Nothing,
    Update(Value),
    /// A binding of another role: what a binding refers to cannot be changed.
    Replace,
}

#[must_use]
pub fn step(current: &Value, wanted: &Value) -> Step {
    if current["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Step::Nothing;
    }
    let mut new = current.clone();
    if wanted["roleRef"].is_object() {
        if ["kind", "name"]
            .iter()
            .any(|field| current["roleRef"][field] != wanted["roleRef"][field])
        {
            return Step::Replace;
        }
        add(&mut new, wanted, "subjects");
    } else {
        let selectors = wanted.pointer("/aggregationRule/clusterRoleSelectors");
        match selectors {
            Some(_) if new["aggregationRule"].is_object() => {
                add(
                    &mut new["aggregationRule"],
                    &wanted["aggregationRule"],
                    "clusterRoleSelectors",
                );
            }
            Some(_) => new["aggregationRule"] = wanted["aggregationRule"].clone(),
            None => add_rules(&mut new, wanted),
        }
    }
    for field in ["labels", "annotations"] {
        let Some(wanted) = wanted["metadata"][field].as_object() else {
            continue;
        };
        if !new["metadata"][field].is_object() {
            new["metadata"][field] = Value::Object(Map::new());
        }
        for (key, value) in wanted {
            if new["metadata"][field].get(key).is_none() {
                new["metadata"][field][key] = value.clone();
            }
        }
    }
    if new == *current {
        Step::Nothing
    } else {
        Step::Update(new)
    }
}

/// Appends what the list lacks.
fn add(new: &mut Value, wanted: &Value, field: &str) {
    let mut list = new[field].as_array().cloned().unwrap_or_default();
    let lacking = wanted[field].as_array().into_iter().flatten();
    let lacking: Vec<Value> = lacking.filter(|item| !list.contains(item)).cloned().collect();
    if !lacking.is_empty() {
        list.extend(lacking);
        new[field] = list.into();
    }
}

fn add_rules(new: &mut Value, wanted: &Value) {
    let rules = |object: &Value| -> Vec<PolicyRule> {
        serde_json::from_value(object["rules"].clone()).unwrap_or_default()
    };
    let (held, wanted) = (rules(new), rules(wanted));
    let lacking = missing(&held.iter().collect::<Vec<_>>(), &wanted);
    if lacking.is_empty() {
        return;
    }
    let mut list = new["rules"].as_array().cloned().unwrap_or_default();
    list.extend(
        lacking
            .iter()
            .map(|rule| serde_json::to_value(rule).expect("a rule serialises")),
    );
    new["rules"] = list.into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::policy;
    use super::*;

    #[test]
    fn what_is_as_it_has_to_be_is_left_alone() {
        for (_, _, object) in policy::objects() {
            assert_eq!(step(&object, &object), Step::Nothing, "{object}");
        }
    }

    fn role(verbs: &[&str], annotation: &str) -> Value {
        json!({
            "metadata": {"name": "r", "labels": {}, "annotations": {AUTO_UPDATE: annotation}},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}],
        })
    }

    #[test]
    fn missing_rules_are_added_and_others_stay() {
        let want = role(&["get", "list"], "true");
        let Step::Update(new) = step(&role(&["get", "delete"], "true"), &want) else {
            panic!("an update");
        };
        let lists: Vec<&Value> = new["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["verbs"])
            .collect();
        assert_eq!(lists, [&json!(["get", "delete"]), &json!(["list"])]);
        assert_eq!(step(&role(&["get"], "false"), &want), Step::Nothing);
        assert_eq!(step(&role(&["*"], "true"), &want), Step::Nothing);
    }

    #[test]
    fn missing_subjects_are_added_and_another_role_means_another_binding() {
        let binding = |role: &str, subjects: &[&str]| {
            let subjects: Vec<Value> = subjects
                .iter()
                .map(|s| json!({"kind": "User", "name": s}))
                .collect();
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects})
        };
        let want = binding("r", &["a", "b"]);
        assert_eq!(
            step(&binding("r", &["b", "x"]), &want),
            Step::Update(binding("r", &["b", "x", "a"]))
        );
        assert_eq!(step(&binding("s", &["a", "b"]), &want), Step::Replace);
    }
}
