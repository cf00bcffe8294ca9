//! Validation of the metrics an autoscaler follows. Source: `pkg/apis/autoscaling/validation`.

use super::reference;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::resources;
use crate::kinds::common::rules::named;
use crate::names;
use crate::quantity::Quantity;

/// Types of metrics and the fields that describe them, in the order upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
/// The same, as error texts list them.
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const RAW_OR_UTILIZATION: &str = "must set either a target raw value or a target utilization";
const NOT_BOTH: &str = "may not set both a target raw value and a target utilization";

pub fn validate(spec: &At<'_>, errors: &mut FieldErrors) {
    for metric in spec.items("metrics") {
        one(&metric, errors);
    }
}

/// Only metrics that exist without Pods can wake an autoscaler that scaled to none.
pub fn scale_to_zero(spec: &At<'_>, errors: &mut FieldErrors) {
    let wakes = spec
        .items("metrics")
        .any(|m| matches!(m.str("type"), "Object" | "External"));
    if !wakes {
        errors.forbidden(
            spec.path("metrics"),
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
}

fn one(metric: &At<'_>, errors: &mut FieldErrors) {
    let kind = metric.str("type");
    let known = TYPES.contains(&kind);
    if kind.is_empty() {
        errors.required(metric.path("type"), "must specify a metric source type");
    }
    if !known {
        errors.not_supported(metric.path("type"), kind, &TYPES);
    }
    let present: Vec<&'static str> = SOURCES
        .iter()
        .map(|(_, field)| *field)
        .filter(|field| metric.has(field))
        .collect();
    if let Some(first) = present.first() {
        source(first, &metric.at(first), errors);
    }
    let expected = SOURCES
        .iter()
        .find(|(name, _)| *name == kind)
        .map(|(_, field)| *field);
    match expected {
        None => errors.not_supported(metric.path("type"), kind, &TYPES),
        Some(field) if !metric.has(field) => errors.required(
            metric.path(field),
            "must populate information for the given metric source",
        ),
        Some(_) => {}
    }
    if present.len() != 1 {
        for field in present.iter().filter(|field| Some(**field) != expected) {
            errors.forbidden(metric.path(field), "must populate the given metric source only");
        }
    }
}

fn source(field: &str, at: &At<'_>, errors: &mut FieldErrors) {
    match field {
        "object" => {
            reference(&at.at("describedObject"), errors);
            identifier(&at.at("metric"), errors);
            let target = target(at, errors);
            if !target.has("value") && !target.has("averageValue") {
                errors.required(
                    target.path("averageValue"),
                    "must set either a target value or averageValue",
                );
            }
        }
        "external" => {
            identifier(&at.at("metric"), errors);
            let target = target(at, errors);
            match (target.has("value"), target.has("averageValue")) {
                (false, false) => errors.required(
                    target.path("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                ),
                (true, true) => errors.forbidden(
                    target.path("value"),
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
        "pods" => {
            identifier(&at.at("metric"), errors);
            let target = target(at, errors);
            if !target.has("averageValue") {
                errors.required(
                    target.path("averageValue"),
                    "must specify a positive target averageValue",
                );
            }
        }
        "resource" => {
            if at.str("name").is_empty() {
                errors.required(at.path("name"), "must specify a resource name");
            }
            usage(at, errors);
        }
        _ => {
            match at.str("name") {
                "" => errors.required(at.path("name"), "must specify a resource name"),
                name => resources::container_name(at.path("name"), name, errors),
            }
            match at.str("container") {
                "" => errors.required(at.path("container"), "must specify a container"),
                name => named(at.path("container"), name, names::dns_label, errors),
            }
            usage(at, errors);
        }
    }
}

/// The target of a resource metric: an amount, or a share of the request.
fn usage(at: &At<'_>, errors: &mut FieldErrors) {
    let target = target(at, errors);
    match (target.has("averageUtilization"), target.has("averageValue")) {
        (false, false) => errors.required(target.path("averageUtilization"), RAW_OR_UTILIZATION),
        (true, true) => errors.forbidden(target.path("averageValue"), NOT_BOTH),
        _ => {}
    }
}

fn identifier(at: &At<'_>, errors: &mut FieldErrors) {
    match at.str("name") {
        "" => errors.required(at.path("name"), "must specify a metric name"),
        name => named(at.path("name"), name, names::path_segment, errors),
    }
}

fn target<'a>(source: &At<'a>, errors: &mut FieldErrors) -> At<'a> {
    let at = source.at("target");
    let kind = at.str("type");
    if kind.is_empty() {
        errors.required(at.path("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(
            at.path("type"),
            kind,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for field in ["value", "averageValue"] {
        let text = at.str(field);
        let positive = |q: Quantity| !q.is_negative() && !q.is_zero();
        if at.has(field) && !text.parse::<Quantity>().is_ok_and(positive) {
            errors.invalid(at.path(field), text, "must be positive");
        }
    }
    if let Some(share) = at.opt_int("averageUtilization").filter(|share| *share < 1) {
        errors.invalid(at.path("averageUtilization"), share, "must be greater than 0");
    }
    at
}
