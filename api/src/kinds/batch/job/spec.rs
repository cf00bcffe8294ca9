//! Validation of a Job's spec, on its own and inside a CronJob. Source: `pkg/apis/batch/validation`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{TYPE, has_condition, indexes};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::child;
use crate::kinds::common::go_value;
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::rules::{self, named};
use crate::kinds::core::pod::template;
use crate::names;

const MAX_INDEXED_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// With more completions than this, the two limits below hold.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_PARALLELISM_WITH_MANY: i64 = 10_000;
const MAX_FAILED_INDEXES_WITH_MANY: i64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PATTERNS: usize = 20;
const MAX_MANAGED_BY: usize = 63;
const MAX_SUCCEEDED_INDEXES: usize = 64 * 1024;
const MODES: [&str; 2] = ["NonIndexed", "Indexed"];
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const CONDITION_STATES: [&str; 3] = ["False", "True", "Unknown"];
const REPLACEMENT: [&str; 2] = ["Failed", "TerminatingOrFailed"];

pub fn validate(spec: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        rules::not_negative(spec, field, errors);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(
            spec.path("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = spec.opt_str("managedBy") {
        rules::domain_prefixed_path(spec.path("managedBy"), manager, errors);
        if manager.len() > MAX_MANAGED_BY {
            errors.too_long(spec.path("managedBy"), MAX_MANAGED_BY);
        }
    }
    completion_mode(spec, errors);
    if let Some(policy) = spec.opt("podFailurePolicy") {
        failure_policy(spec, &policy, errors);
    }
    if let Some(policy) = spec.opt("successPolicy") {
        if spec.str("completionMode") == "Indexed" {
            success_policy(spec, &policy, errors);
        } else {
            errors.invalid(
                policy.here(),
                shown_success_policy(&policy),
                "requires indexed completion mode",
            );
        }
    }
    replacement_policy(spec, errors);
    template::validate(&spec.at("template"), errors);
    restart_policy(spec, errors);
}

fn completion_mode(spec: &At<'_>, errors: &mut FieldErrors) {
    let mode = spec.opt_str("completionMode").unwrap_or("NonIndexed");
    if !MODES.contains(&mode) {
        errors.not_supported(spec.path("completionMode"), mode, &MODES);
    }
    if mode == "Indexed" {
        indexed(spec, errors);
    }
    if mode == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = spec.opt_int(field) {
                errors.invalid(spec.path(field), value, "requires indexed completion mode");
            }
        }
    }
}

fn indexed(spec: &At<'_>, errors: &mut FieldErrors) {
    let completions = spec.opt_int("completions");
    let parallelism = spec.int("parallelism");
    let max_failed = spec.opt_int("maxFailedIndexes");
    if completions.is_none() {
        errors.required(spec.path("completions"), "when completion mode is Indexed");
    }
    if parallelism > MAX_INDEXED_PARALLELISM {
        errors.invalid(
            spec.path("parallelism"),
            parallelism,
            &format!(
                "must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
            ),
        );
    }
    let place = spec.path("maxFailedIndexes");
    if let Some(failed) = max_failed {
        if completions.is_some_and(|c| failed > c) {
            errors.invalid(place, failed, "must be less than or equal to completions");
        }
        if failed > MAX_FAILED_INDEXES {
            errors.invalid(
                place,
                failed,
                &format!("must be less than or equal to {MAX_FAILED_INDEXES}"),
            );
        }
    }
    if completions.is_none_or(|c| c <= MANY_COMPLETIONS) || !spec.has("backoffLimitPerIndex") {
        return;
    }
    let text = |limit: i64| {
        format!(
            "must be less than or equal to {limit} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        )
    };
    if max_failed.is_none() {
        errors.required(
            place,
            &format!("must be specified when completions is above {MANY_COMPLETIONS}"),
        );
    }
    if parallelism > MAX_PARALLELISM_WITH_MANY {
        errors.invalid(
            spec.path("parallelism"),
            parallelism,
            &text(MAX_PARALLELISM_WITH_MANY),
        );
    }
    if let Some(failed) = max_failed.filter(|f| *f > MAX_FAILED_INDEXES_WITH_MANY) {
        errors.invalid(place, failed, &text(MAX_FAILED_INDEXES_WITH_MANY));
    }
}

/// Go's `%q` of a list of words.
fn valid_values(words: &[&str]) -> String {
    let list: Vec<String> = words.iter().map(|w| crate::field::quoted(w)).collect();
    format!("valid values: [{}]", list.join(" "))
}

/// A word from a list, whose absence is told with the list.
fn word(at: &At<'_>, field: &'static str, words: &[&str], errors: &mut FieldErrors) {
    match at.str(field) {
        "" => errors.required(at.path(field), &valid_values(words)),
        word if words.contains(&word) => {}
        word => errors.not_supported(at.path(field), word, words),
    }
}

fn failure_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut FieldErrors) {
    let rules = policy.count("rules");
    if rules > MAX_RULES {
        errors.too_many(policy.path("rules"), rules, MAX_RULES);
    }
    let pod = spec.at("template").at("spec");
    let containers: BTreeSet<&str> = pod
        .items("containers")
        .chain(pod.items("initContainers"))
        .map(|c| c.str("name"))
        .collect();
    for rule in policy.items("rules") {
        if rule.str("action") == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                errors.invalid(
                    rule.path("action"),
                    "FailIndex",
                    "requires the backoffLimitPerIndex to be set",
                );
            }
        } else {
            word(&rule, "action", &ACTIONS, errors);
        }
        let codes = rule.opt("onExitCodes");
        let patterns = rule.count("onPodConditions");
        if let Some(codes) = &codes {
            exit_codes(codes, &containers, errors);
        }
        if patterns > MAX_PATTERNS {
            errors.too_many(rule.path("onPodConditions"), patterns, MAX_PATTERNS);
        }
        for pattern in rule.items("onPodConditions") {
            named(
                pattern.path("type"),
                pattern.str("type"),
                names::qualified_name,
                errors,
            );
            word(&pattern, "status", &CONDITION_STATES, errors);
        }
        match (codes.is_some(), patterns > 0) {
            (true, true) => errors.invalid_without_value(
                rule.here(),
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, false) => errors.invalid_without_value(
                rule.here(),
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn exit_codes(at: &At<'_>, containers: &BTreeSet<&str>, errors: &mut FieldErrors) {
    word(at, "operator", &OPERATORS, errors);
    if let Some(name) = at.opt_str("containerName").filter(|n| !containers.contains(n)) {
        errors.invalid(
            at.path("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let list = at.path("values");
    let count = at.count("values");
    if count == 0 {
        errors.invalid(
            list,
            go_value::list(at.get("values")),
            "at least one value is required",
        );
    } else if count > MAX_EXIT_CODES {
        errors.too_many(list, count, MAX_EXIT_CODES);
    }
    let mut seen = BTreeSet::new();
    let mut last = i64::MIN;
    let mut ordered = true;
    for place in at.items("values") {
        let code = place.value.as_i64().unwrap_or_default();
        if code == 0 && at.str("operator") == "In" {
            errors.invalid(&place, code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&place, code);
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        errors.invalid(list, at.get("values").clone(), "must be ordered");
    }
}

fn success_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut FieldErrors) {
    let rules = policy.count("rules");
    if rules == 0 {
        errors.required(
            policy.path("rules"),
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if rules > MAX_RULES {
        errors.too_many(policy.path("rules"), rules, MAX_RULES);
    }
    let completions = spec.int("completions");
    for rule in policy.items("rules") {
        let (wanted, list) = (rule.opt_int("succeededCount"), rule.opt_str("succeededIndexes"));
        if wanted.is_none() && list.is_none() {
            errors.required(
                rule.here(),
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut named = 0;
        if let Some(list) = list {
            if list.len() > MAX_SUCCEEDED_INDEXES {
                errors.too_long(rule.path("succeededIndexes"), MAX_SUCCEEDED_INDEXES);
            }
            match indexes::count(list, completions) {
                Ok(count) => named = count,
                Err(error) => errors.invalid(
                    rule.path("succeededIndexes"),
                    list,
                    &format!("error parsing succeededIndexes: {error}"),
                ),
            }
        }
        let Some(wanted) = wanted else { continue };
        let place = rule.path("succeededCount");
        rules::not_negative(&rule, "succeededCount", errors);
        if wanted > completions {
            errors.invalid(
                place,
                wanted,
                &format!("must be less than or equal to {completions} (the number of specified completions)"),
            );
        }
        if list.is_some() && wanted > named {
            errors.invalid(place, wanted, &format!("must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"));
        }
    }
}

/// A success policy in Go's own form.
fn shown_success_policy(policy: &At<'_>) -> Raw {
    let rules: Vec<String> = policy
        .items("rules")
        .map(|rule| {
            format!(
                "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
                rule.get("succeededIndexes"),
                rule.get("succeededCount")
            )
        })
        .collect();
    Raw(if rules.is_empty() {
        "{\"Rules\":null}".into()
    } else {
        format!("{{\"Rules\":[{}]}}", rules.join(","))
    })
}

fn replacement_policy(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(policy) = spec.opt_str("podReplacementPolicy") else {
        return;
    };
    let allowed: &[&str] = if spec.has("podFailurePolicy") {
        &["Failed"]
    } else {
        &REPLACEMENT
    };
    if !allowed.contains(&policy) {
        errors.not_supported(spec.path("podReplacementPolicy"), policy, allowed);
    }
}

fn restart_policy(spec: &At<'_>, errors: &mut FieldErrors) {
    let pod = spec.at("template").at("spec");
    let place = pod.path("restartPolicy");
    match pod.str("restartPolicy") {
        "Always" | "" => errors.required(place, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => errors.invalid(
            place,
            "OnFailure",
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" | "Never" => {}
        other => errors.not_supported(place, other, &["OnFailure", "Never"]),
    }
}

/// What an update may not change.
pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, before) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
    let mut fixed = |field: &'static str| {
        rules::immutable_pointer(spec.path(field), spec.get(field), before.get(field), errors);
    };
    if spec.str("completionMode") != "Indexed" {
        fixed("completions");
    }
    fixed("selector");
    let mut kept = before.get("template").clone();
    if scheduling_is_open(old) {
        open_scheduling(&mut kept, spec.get("template"));
    }
    rules::immutable_pointer(spec.path("template"), spec.get("template"), &kept, errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        rules::immutable_pointer(spec.path(field), spec.get(field), before.get(field), errors);
    }
    // An Indexed Job grows and shrinks by completions and parallelism together.
    if let Some(completions) = spec.opt_int("completions")
        && spec.str("completionMode") == "Indexed"
        && spec.get("completions") != before.get("completions")
        && completions != spec.int("parallelism")
    {
        errors.invalid(
            spec.path("completions"),
            completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

/// True while the Job is suspended and none of its Pods runs.
fn scheduling_is_open(old: &Value) -> bool {
    old["spec"]["suspend"] == true
        && (old["status"]["startTime"].is_null() || has_condition(&old["status"], "Suspended"))
}

/// Takes over what may change of a suspended Job's template: where its Pods may run and what they ask for.
fn open_scheduling(kept: &mut Value, wanted: &Value) {
    for field in ["annotations", "labels"] {
        take(&mut kept["metadata"], &wanted["metadata"], field);
    }
    let (Some(spec), wanted) = (
        kept.as_object_mut().and_then(|t| child(t, "spec")),
        &wanted["spec"],
    ) else {
        return;
    };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take_field(spec, wanted, field);
    }
    let node = wanted["affinity"].get("nodeAffinity").cloned();
    match (child(spec, "affinity"), wanted.get("affinity")) {
        (Some(affinity), asked) => {
            affinity.remove("nodeAffinity");
            if let Some(node) = node {
                affinity.insert("nodeAffinity".into(), node);
            }
            if asked.is_none() && affinity.is_empty() {
                spec.remove("affinity");
            }
        }
        (None, Some(_)) => {
            let affinity = node.map(|n| Map::from_iter([("nodeAffinity".to_string(), n)]));
            spec.insert("affinity".into(), Value::Object(affinity.unwrap_or_default()));
        }
        (None, None) => {}
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        let asked = wanted[list].as_array().into_iter().flatten();
        for (container, asked) in containers.into_iter().flatten().zip(asked) {
            take(container, asked, "resources");
        }
    }
}

fn take(to: &mut Value, from: &Value, field: &str) {
    if let Some(map) = to.as_object_mut() {
        take_field(map, from, field);
    }
}

fn take_field(to: &mut Map<String, Value>, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field.into(), value.clone()),
        None => to.remove(field),
    };
}

/// What is allowed but will not end well.
pub fn warnings(spec: &At<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if spec.str("completionMode") == "Indexed"
        && spec.int("completions") > MANY_COMPLETIONS
        && spec.int("parallelism") > MAX_PARALLELISM_WITH_MANY
    {
        out.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".into());
    }
    out.extend(template::warnings(&spec.at("template")));
    out
}
