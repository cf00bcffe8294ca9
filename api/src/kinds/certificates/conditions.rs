//! Conditions of a CertificateSigningRequest: which may be set by whom, and when they changed.
//! Source: `pkg/registry/certificates/certificates/strategy.go`, `pkg/apis/certificates/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::cursor::At;
use crate::field::{FieldErrors, quoted};
use crate::time;

const BOTH: &str = "Approved and Denied conditions are mutually exclusive";
/// Conditions that only the approval sets.
pub const APPROVALS: [&str; 2] = ["Approved", "Denied"];
/// Conditions that are true or absent, and stay.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

pub fn of(object: &Value) -> &[Value] {
    object["status"]["conditions"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn kind(condition: &Value) -> &str {
    condition["type"].as_str().unwrap_or_default()
}

fn count(object: &Value, wanted: &str) -> usize {
    of(object).iter().filter(|c| kind(c) == wanted).count()
}

/// Sets the times a client left out: now, or that of the last change to the same status.
pub fn stamp(conditions: &mut [Value], old: &[Value], now: Timestamp) {
    for condition in conditions {
        let Some(map) = condition.as_object_mut() else {
            continue;
        };
        let unset = |map: &serde_json::Map<String, Value>, field: &str| {
            map.get(field).and_then(Value::as_str).is_none_or(str::is_empty)
        };
        if unset(map, "lastUpdateTime") {
            map.insert("lastUpdateTime".into(), time::format_time(now).into());
        }
        if unset(map, "lastTransitionTime") {
            let same = old
                .iter()
                .find(|o| {
                    Some(&o["type"]) == map.get("type")
                        && Some(&o["status"]) == map.get("status")
                        && o["lastTransitionTime"].is_string()
                })
                .map(|o| o["lastTransitionTime"].clone());
            let at = same.unwrap_or_else(|| time::format_time(now).into());
            map.insert("lastTransitionTime".into(), at);
        }
    }
}

/// Puts the stored approvals in the place of those sent, unless some were added or removed.
pub fn preserve_approvals(conditions: &mut [Value], old: &[Value]) {
    for wanted in APPROVALS {
        let stored: Vec<&Value> = old.iter().filter(|c| kind(c) == wanted).collect();
        let sent: Vec<&mut Value> = conditions.iter_mut().filter(|c| kind(c) == wanted).collect();
        if stored.len() == sent.len() {
            for (slot, value) in sent.into_iter().zip(stored) {
                *slot = value.clone();
            }
        }
    }
}

/// Checks the conditions; faults that the stored object already has are tolerated.
pub fn validate(at: &At<'_>, old: Option<&Value>, errors: &mut FieldErrors) {
    let old = old.map_or(&[][..], of);
    let had = |wanted: &str| old.iter().any(|c| kind(c) == wanted);
    let both = had("Approved") && had("Denied");
    let kinds: BTreeSet<&str> = old.iter().map(kind).collect();
    let (had_empty, had_repeats) = (had(""), kinds.len() < old.len());
    let path = at.path("conditions");
    let mut seen = BTreeSet::new();
    for condition in at.items("conditions") {
        let (name, status) = (condition.str("type"), condition.str("status"));
        if name.is_empty() && !had_empty {
            errors.required(condition.path("type"), "");
        }
        let allowed: &[&str] = if FINAL.contains(&name) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if status.is_empty() {
            errors.required(condition.path("status"), "");
        } else if !allowed.contains(&status) {
            errors.not_supported(condition.path("status"), status, allowed);
        }
        let other = match name {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !both && !other.is_empty() && seen.contains(other) {
            errors.invalid(path, name, BOTH);
        }
        if !seen.insert(name) && !had_repeats {
            errors.duplicate(condition.path("type"), name);
        }
    }
}

/// Checks what of the conditions an update may change; only the approval may add approvals.
pub fn validate_update(new: &Value, old: &Value, approval: bool, errors: &mut FieldErrors) {
    for wanted in FINAL {
        if count(new, wanted) < count(old, wanted) {
            errors.forbidden(
                "status.conditions",
                &format!("updates may not remove a condition of type {}", quoted(wanted)),
            );
        }
    }
    if approval {
        return;
    }
    for wanted in APPROVALS {
        if count(new, wanted) > count(old, wanted) {
            errors.forbidden(
                "status.conditions",
                &format!("updates may not add a condition of type {}", quoted(wanted)),
            );
        }
    }
}
