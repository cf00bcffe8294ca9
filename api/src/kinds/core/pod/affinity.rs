//! Validation of where a Pod may run: tolerations, affinity, spread.

use std::collections::BTreeSet;

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{Shown, named};
use crate::kinds::common::selector;
use crate::names;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn tolerations(spec: &At<'_>, errors: &mut FieldErrors) {
    for toleration in spec.items("tolerations") {
        let (key, operator) = (toleration.str("key"), toleration.str("operator"));
        if !key.is_empty() {
            named(toleration.path("key"), key, names::qualified_name, errors);
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                toleration.path("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        let effect = toleration.str("effect");
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(
                toleration.path("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => named(
                toleration.path("operator"),
                toleration.str("value"),
                names::label_value,
                errors,
            ),
            "Exists" => {
                if !toleration.str("value").is_empty() {
                    errors.invalid(
                        toleration.path("operator"),
                        toleration.value.clone(),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            "Lt" | "Gt" => {
                if toleration.str("value").parse::<i64>().is_err() {
                    errors.invalid(
                        toleration.path("value"),
                        toleration.str("value"),
                        "must be an integer",
                    );
                }
            }
            other => errors.not_supported(toleration.path("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(toleration.path("effect"), effect, &EFFECTS);
        }
    }
}

pub fn affinity(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(affinity) = spec.opt("affinity") else {
        return;
    };
    if let Some(node) = affinity.opt("nodeAffinity") {
        if let Some(required) = node.opt(REQUIRED) {
            node_selector(&required, errors);
        }
        for preferred in node.items(PREFERRED) {
            weight(&preferred, errors);
            node_term(&preferred.at("preference"), errors);
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.opt(field) else { continue };
        for term in pods.items(REQUIRED) {
            pod_term(&term, errors);
        }
        for preferred in pods.items(PREFERRED) {
            weight(&preferred, errors);
            pod_term(&preferred.at("podAffinityTerm"), errors);
        }
    }
}

/// A `NodeSelector`: at least one term.
pub fn node_selector(at: &At<'_>, errors: &mut FieldErrors) {
    if at.count("nodeSelectorTerms") == 0 {
        errors.required(
            at.path("nodeSelectorTerms"),
            "must have at least one node selector term",
        );
    }
    for term in at.items("nodeSelectorTerms") {
        node_term(&term, errors);
    }
}

fn weight(at: &At<'_>, errors: &mut FieldErrors) {
    if !(1..=100).contains(&at.int("weight")) {
        errors.invalid(at.path("weight"), at.int("weight"), "must be in the range 1-100");
    }
}

fn node_term(term: &At<'_>, errors: &mut FieldErrors) {
    for requirement in term.items("matchExpressions") {
        let values = requirement.count("values");
        match requirement.str("operator") {
            "In" | "NotIn" if values == 0 => errors.required(
                requirement.path("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if values > 0 => errors.forbidden(
                requirement.path("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values != 1 => errors.required(
                requirement.path("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(
                requirement.path("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        named(
            requirement.path("key"),
            requirement.str("key"),
            names::qualified_name,
            errors,
        );
        for value in requirement.items("values") {
            named(&value, value.text(), names::label_value, errors);
        }
    }
    for requirement in term.items("matchFields") {
        match requirement.str("operator") {
            "In" | "NotIn" if requirement.count("values") != 1 => errors.required(
                requirement.path("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => errors.invalid(
                requirement.path("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        if requirement.str("key") == "metadata.name" {
            for value in requirement.items("values") {
                named(&value, value.text(), names::dns_subdomain, errors);
            }
        } else {
            errors.invalid(
                requirement.path("key"),
                requirement.str("key"),
                "not a valid field selector key",
            );
        }
    }
}

fn pod_term(term: &At<'_>, errors: &mut FieldErrors) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(at) = term.opt(field) {
            selector::label_selector(&at, errors);
        }
    }
    for namespace in term.items("namespaces") {
        // Upstream reports the list's own path.
        named(term.path("namespace"), namespace.text(), names::dns_label, errors);
    }
    match term.str("topologyKey") {
        "" => errors.required(term.path("topologyKey"), "can not be empty"),
        key => named(term.path("topologyKey"), key, names::qualified_name, errors),
    }
}

pub fn spread(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for constraint in spec.items("topologySpreadConstraints") {
        if constraint.int("maxSkew") <= 0 {
            errors.invalid(
                constraint.path("maxSkew"),
                constraint.int("maxSkew"),
                "must be greater than zero",
            );
        }
        let key = constraint.str("topologyKey");
        if key.is_empty() {
            errors.required(constraint.path("topologyKey"), "can not be empty");
        }
        let when = constraint.str("whenUnsatisfiable");
        if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(
                constraint.path("whenUnsatisfiable"),
                when,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        if !seen.insert((key, when)) {
            errors.duplicate(
                constraint.path("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {when}}}"),
            );
        }
        if let Some(domains) = constraint.opt_int("minDomains") {
            if domains <= 0 {
                errors.invalid(
                    constraint.path("minDomains"),
                    domains,
                    "must be greater than zero",
                );
            }
            if when != "DoNotSchedule" {
                errors.invalid(
                    constraint.path("minDomains"),
                    domains,
                    &format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"),
                );
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if constraint.has(field) && !matches!(constraint.str(field), "Honor" | "Ignore") {
                errors.not_supported(
                    constraint.path(field),
                    Shown(constraint.get(field)),
                    &["Honor", "Ignore"],
                );
            }
        }
        if let Some(at) = constraint.opt("labelSelector") {
            selector::label_selector(&at, errors);
        }
    }
}
