//! ResourceQuota. Source: `pkg/apis/core/validation`, `ValidateResourceQuota`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::child_or_new;
use crate::kinds::common::{go_value, resources, rules};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ResourceQuota;

const TYPE: &str = "core.v1.ResourceQuota";
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];
const POD_AMOUNTS: [&str; 6] = [
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];
/// Scopes that are either there or not.
const PLAIN_SCOPES: [&str; 5] = [
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
];

impl Kind for ResourceQuota {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for (part, field) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
            if let Some(list) = child_or_new(object, part)
                .get_mut(field)
                .and_then(Value::as_object_mut)
            {
                resources::round_up(list);
            }
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        amounts(&spec, "hard", errors);
        scopes(&spec, errors);
        if let Some(selector) = spec.opt("scopeSelector") {
            scope_selector(&spec, &selector, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        let set = |at: &At<'_>| -> BTreeSet<String> { at.strings("scopes").map(str::to_string).collect() };
        if set(&new) != set(&old) {
            errors.invalid(
                new.path("scopes"),
                go_value::list(new.get("scopes")),
                rules::IMMUTABLE,
            );
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let status = At::root(new, TYPE).at("status");
        amounts(&status, "hard", errors);
        amounts(&status, "used", errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Request"),
                Column::string("Limit"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let status = &object["status"];
        for (name, hard) in status["hard"].as_object().into_iter().flatten() {
            let used = status["used"][name].as_str().unwrap_or("0");
            let text = format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"));
            if name.starts_with("limits.") {
                limits.push(text);
            } else {
                requests.push(text);
            }
        }
        vec![
            meta::name(object).into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn amounts(at: &At<'_>, field: &'static str, errors: &mut FieldErrors) {
    for (name, place) in at.entries(field) {
        resources::quota_name(&place, name, errors);
        resources::amount(&place, name, place.text(), errors);
    }
}

/// True when a quota with this scope can limit the resource.
fn fits(scope: &str, resource: &str) -> bool {
    let pods = resource == "pods";
    match scope {
        "BestEffort" => pods,
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => pods || POD_AMOUNTS.contains(&resource),
        _ => true,
    }
}

fn misfits(spec: &At<'_>, scope: &str) -> usize {
    spec.keys("hard")
        .filter(|name| resources::is_standard_for_quota(name) && !fits(scope, name))
        .count()
}

fn conflicts(spec: &At<'_>, found: &BTreeSet<&str>, errors: &mut FieldErrors) {
    for pair in CONFLICTS {
        if pair.iter().all(|scope| found.contains(scope)) {
            errors.invalid(
                spec.path("scopes"),
                go_value::list(spec.get("scopes")),
                "conflicting scopes",
            );
        }
    }
}

fn scopes(spec: &At<'_>, errors: &mut FieldErrors) {
    let all = spec.get("scopes");
    let mut found = BTreeSet::new();
    for scope in spec.strings("scopes") {
        if !SCOPES.contains(&scope) {
            errors.invalid(spec.path("scopes"), all.clone(), "unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            errors.invalid(
                spec.path("scopes"),
                all.clone(),
                "unsupported scope applied to resource",
            );
        }
        found.insert(scope);
    }
    conflicts(spec, &found, errors);
}

fn scope_selector(spec: &At<'_>, selector: &At<'_>, errors: &mut FieldErrors) {
    // Upstream reports the list's path, not the element's.
    let place = selector.path("matchExpressions");
    let mut found = BTreeSet::new();
    for requirement in selector.items("matchExpressions") {
        let (scope, operator) = (requirement.str("scopeName"), requirement.str("operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid(place.field("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            errors.invalid(
                place,
                selector.value.clone(),
                "unsupported scope applied to resource",
            );
        }
        if PLAIN_SCOPES.contains(&scope) && operator != "Exists" {
            errors.invalid(
                place.field("operator"),
                operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        let values = requirement.count("values");
        match operator {
            "In" | "NotIn" if values == 0 => errors.required(
                place.field("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if values > 0 => errors.invalid(
                place.field("values"),
                requirement.get("values").clone(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(place.field("operator"), other, "not a valid selector operator"),
        }
        found.insert(scope);
    }
    conflicts(spec, &found, errors);
}
