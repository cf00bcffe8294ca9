//! What a definition asks for and what it gets: names and their conflicts, conditions, the order of versions. Pure.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/controller/{status,establish,finalizer}`.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{meta, time};

/// Keeps a definition until its instances are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Kubernetes' order of versions: `v2` after `v1`, releases after betas after alphas, other names before all.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// Stability, major, minor.
fn parsed(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..end].parse().ok()?;
    let (stability, minor) = match &rest[end..] {
        "" => (2, ""),
        tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(minor), _) => (1, minor),
            (_, Some(minor)) => (0, minor),
            _ => return None,
        },
    };
    let minor = if stability == 2 { 0 } else { minor.parse().ok()? };
    Some((stability, major, minor))
}

/// The status of a condition; empty when there is none.
pub fn condition<'a>(definition: &'a Value, kind: &str) -> &'a str {
    let all = definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let own = all.into_iter().find(|condition| condition["type"] == kind);
    own.and_then(|own| own["status"].as_str()).unwrap_or_default()
}

/// Sets a condition; its time changes with its status only.
pub fn set_condition(definition: &mut Value, [kind, status, reason, message]: [&str; 4], now: Timestamp) {
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else {
        return;
    };
    let known = list.iter().position(|condition| condition["type"] == kind);
    let at = match known.map(|idx| &list[idx]) {
        Some(own) if own["status"] == status => own["lastTransitionTime"].clone(),
        _ => time::format_time(now).into(),
    };
    let own = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at});
    match known {
        Some(idx) => list[idx] = own,
        None => list.push(own),
    }
}

/// The status a definition has beside `others` of all groups: accepted names, and whether it is served.
pub fn with_status(definition: &Value, others: &[&Value], now: Timestamp) -> Value {
    let mut out = definition.clone();
    let spec = &definition["spec"];
    let mut accepted = definition["status"]["acceptedNames"].clone();
    if !accepted.is_object() {
        accepted = json!({});
    }
    let taken: Vec<&Value> = others
        .iter()
        .filter(|other| {
            other["spec"]["group"] == spec["group"] && meta::name(other) != meta::name(definition)
        })
        .map(|other| &other["status"]["acceptedNames"])
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource_names = |names: &Value| -> Vec<String> {
        let short = names["shortNames"].as_array().into_iter().flatten().map(text);
        [text(&names["plural"]), text(&names["singular"])]
            .into_iter()
            .chain(short)
            .collect()
    };
    let used: Vec<String> = taken.iter().flat_map(|names| resource_names(names)).collect();
    let kinds: Vec<String> = taken
        .iter()
        .flat_map(|names| [text(&names["kind"]), text(&names["listKind"])])
        .collect();
    let mut conflict: Option<(&str, String)> = None;
    let wanted = &spec["names"];
    let mut take = |field: &'static str, reason: &'static str, used: &[String]| {
        let name = text(&wanted[field]);
        if !name.is_empty() && used.contains(&name) {
            conflict.get_or_insert((
                reason,
                format!("{} is already in use", crate::field::quoted(&name)),
            ));
        } else {
            accepted[field] = wanted[field].clone();
        }
    };
    take("plural", "PluralConflict", &used);
    take("singular", "SingularConflict", &used);
    let short: Vec<String> = wanted["shortNames"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    take("kind", "KindConflict", &kinds);
    take("listKind", "ListKindConflict", &kinds);
    if let Some(name) = short.iter().find(|name| used.contains(name)) {
        conflict.get_or_insert((
            "ShortNamesConflict",
            format!("{} is already in use", crate::field::quoted(name)),
        ));
    } else if !short.is_empty() {
        accepted["shortNames"] = json!(short);
    } else if let Some(map) = accepted.as_object_mut() {
        map.remove("shortNames");
    }
    match &wanted["categories"] {
        Value::Null => {
            if let Some(map) = accepted.as_object_mut() {
                map.remove("categories");
            }
        }
        own => accepted["categories"] = own.clone(),
    }
    out["status"]["acceptedNames"] = accepted;
    let established = condition(definition, "Established") == "True";
    match &conflict {
        None => {
            set_condition(
                &mut out,
                ["NamesAccepted", "True", "NoConflicts", "no conflicts found"],
                now,
            );
            if !established {
                let text = "the initial names have been accepted";
                set_condition(
                    &mut out,
                    ["Established", "True", "InitialNamesAccepted", text],
                    now,
                );
            }
        }
        Some((reason, message)) => {
            set_condition(&mut out, ["NamesAccepted", "False", reason, message], now);
            if !established {
                let text = "not all names are accepted";
                set_condition(&mut out, ["Established", "False", "NotAccepted", text], now);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_kubernetes_order() {
        let mut all = [
            "foo1",
            "v10",
            "v1alpha2",
            "v2",
            "v1beta1",
            "v11alpha1",
            "foo10",
            "v3beta1",
            "v1",
        ];
        all.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(
            all,
            [
                "v10",
                "v2",
                "v1",
                "v3beta1",
                "v1beta1",
                "v11alpha1",
                "v1alpha2",
                "foo1",
                "foo10"
            ]
        );
    }

    fn definition(plural: &str, kind: &str, short: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.g.example")},
            "spec": {"group": "g.example", "names": {"plural": plural, "singular": plural, "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": [short]}}})
    }

    #[test]
    fn names_of_others_are_not_taken() {
        let now = Timestamp::UNIX_EPOCH;
        let first = with_status(&definition("foos", "Foo", "f"), &[], now);
        assert_eq!(condition(&first, "Established"), "True");
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
        assert_eq!(
            with_status(&first, &[&first], now),
            first,
            "nothing changes twice"
        );
        let second = with_status(&definition("bars", "Bar", "f"), &[&first], now);
        assert_eq!(condition(&second, "NamesAccepted"), "False");
        assert_eq!(condition(&second, "Established"), "False");
        assert_eq!(second["status"]["conditions"][0]["reason"], "ShortNamesConflict");
        assert_eq!(
            second["status"]["conditions"][0]["message"],
            "\"f\" is already in use"
        );
    }
}
