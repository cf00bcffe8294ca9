//! What a claim asks for: requests, constraints, configuration. CEL selectors are checked for their size only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde_json::{Map, Value};

use super::names::{driver, fully_qualified, too_many, unique};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, default, default_number, items, str};
use crate::kinds::common::rules::{named, required_name};
use crate::names;

/// Most requests, constraints or configurations of a claim, and selectors of a request.
pub const MAX_ITEMS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
/// Bytes of an expression.
const MAX_EXPRESSION: usize = 10 * 1024;
/// Bytes of opaque parameters, as JSON.
pub const MAX_PARAMETERS: usize = 10 * 1024;
const REQUEST_NAME: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Names of the requests of a claim, each with those of its alternatives.
pub type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Defaults of the `devices` of a claim.
pub fn set_defaults(devices: &mut Map<String, Value>) {
    for request in items(devices, "requests") {
        if let Some(exactly) = child(request, "exactly") {
            default_request(exactly);
        }
        for alternative in items(request, "firstAvailable") {
            default_request(alternative);
        }
    }
}

fn default_request(request: &mut Map<String, Value>) {
    default(request, "allocationMode", "ExactCount");
    if str(request, "allocationMode") == "ExactCount" {
        default_number(request, "count", 1);
    }
    default_tolerations(request);
}

/// An operator that is not given is `Equal`.
pub fn default_tolerations(owner: &mut Map<String, Value>) {
    for toleration in items(owner, "tolerations") {
        default(toleration, "operator", "Equal");
    }
}

pub fn request_names<'a>(devices: &At<'a>) -> Requests<'a> {
    let alternatives = |request: &At<'a>| request.items("firstAvailable").map(|a| a.str("name")).collect();
    devices
        .items("requests")
        .map(|r| (r.str("name"), alternatives(&r)))
        .collect()
}

/// Places, in a claim's spec, of requests for administrative access; the namespace must allow them.
pub fn admin_requests(spec: &Value) -> impl Iterator<Item = usize> + use<'_> {
    let requests = spec["devices"]["requests"].as_array();
    let asks = |request: &Value| request["exactly"]["adminAccess"] == true;
    let numbered = requests.into_iter().flatten().enumerate();
    numbered.filter(move |(_, r)| asks(r)).map(|(idx, _)| idx)
}

/// The `devices` of a claim's spec.
pub fn validate(devices: &At<'_>, errors: &mut FieldErrors) {
    let known = request_names(devices);
    if !too_many(devices, "requests", MAX_ITEMS, errors) {
        for request in devices.items("requests") {
            validate_request(&request, errors);
        }
        unique(devices.items("requests"), |r| r.str("name").into(), errors);
    }
    if !too_many(devices, "constraints", MAX_ITEMS, errors) {
        for constraint in devices.items("constraints") {
            references(&constraint, &known, errors);
            match (
                constraint.opt_str("matchAttribute"),
                constraint.opt_str("distinctAttribute"),
            ) {
                (Some(name), _) => fully_qualified(constraint.path("matchAttribute"), name, errors),
                (None, Some(name)) => fully_qualified(constraint.path("distinctAttribute"), name, errors),
                (None, None) => errors.required(
                    &constraint,
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                ),
            }
        }
    }
    if !too_many(devices, "config", MAX_ITEMS, errors) {
        for config in devices.items("config") {
            references(&config, &known, errors);
            configuration(&config, true, errors);
        }
    }
}

fn validate_request(request: &At<'_>, errors: &mut FieldErrors) {
    named(
        request.path("name"),
        request.str("name"),
        names::dns_label,
        errors,
    );
    match (request.opt("exactly"), request.count("firstAvailable")) {
        (None, 0) => errors.required(
            request,
            "exactly one of `exactly` or `firstAvailable` is required",
        ),
        (Some(_), 1..) => errors.invalid(
            request,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (Some(exactly), 0) => validate_devices(&exactly, errors),
        (None, _) => {
            if too_many(request, "firstAvailable", MAX_ALTERNATIVES, errors) {
                return;
            }
            for alternative in request.items("firstAvailable") {
                named(
                    alternative.path("name"),
                    alternative.str("name"),
                    names::dns_label,
                    errors,
                );
                validate_devices(&alternative, errors);
            }
            unique(request.items("firstAvailable"), |a| a.str("name").into(), errors);
        }
    }
}

/// Class, selectors, number and tolerations.
fn validate_devices(at: &At<'_>, errors: &mut FieldErrors) {
    required_name(at, "deviceClassName", names::dns_subdomain, errors);
    selectors(at, errors);
    let (mode, count) = (at.str("allocationMode"), at.int("count"));
    match mode {
        "All" if count != 0 => errors.invalid(
            at.path("count"),
            count,
            "must not be specified when allocationMode is 'All'",
        ),
        "ExactCount" if count <= 0 => errors.invalid(at.path("count"), count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        _ => errors.not_supported(at.path("allocationMode"), mode, &["All", "ExactCount"]),
    }
    tolerations(at, errors);
}

/// The `selectors` of a request or class.
pub fn selectors(at: &At<'_>, errors: &mut FieldErrors) {
    if too_many(at, "selectors", MAX_ITEMS, errors) {
        return;
    }
    for selector in at.items("selectors") {
        match selector.opt("cel") {
            None => errors.required(selector.path("cel"), ""),
            Some(cel) if cel.str("expression").len() > MAX_EXPRESSION => {
                errors.too_long(cel.path("expression"), MAX_EXPRESSION);
            }
            Some(_) => {}
        }
    }
}

pub const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub fn tolerations(at: &At<'_>, errors: &mut FieldErrors) {
    for toleration in at.items("tolerations") {
        let (key, value) = (toleration.str("key"), toleration.str("value"));
        if !key.is_empty() {
            named(toleration.path("key"), key, names::qualified_name, errors);
        }
        match toleration.str("operator") {
            "Exists" if !value.is_empty() => errors.invalid(
                toleration.path("value"),
                value,
                "must be empty for operator `Exists`",
            ),
            "Exists" => {}
            "Equal" => named(toleration.path("value"), value, names::label_value, errors),
            "" => errors.required(toleration.path("operator"), ""),
            other => errors.not_supported(toleration.path("operator"), other, &["Equal", "Exists"]),
        }
        let effect = toleration.str("effect");
        if !effect.is_empty() && !TAINT_EFFECTS.contains(&effect) {
            errors.not_supported(toleration.path("effect"), effect, &TAINT_EFFECTS);
        }
    }
}

/// The `requests` a constraint or configuration is about.
pub fn references(at: &At<'_>, known: &Requests<'_>, errors: &mut FieldErrors) {
    if too_many(at, "requests", MAX_ITEMS, errors) {
        return;
    }
    for reference in at.items("requests") {
        request_reference(&reference, reference.text(), known, errors);
    }
    unique(at.items("requests"), |r| r.text().into(), errors);
}

/// `request` or `request/alternative`.
pub fn request_reference(field: impl Display, text: &str, known: &Requests<'_>, errors: &mut FieldErrors) {
    let segments: Vec<&str> = text.split('/').collect();
    if segments.len() > 2 {
        errors.invalid(&field, text, REQUEST_NAME);
        return;
    }
    for segment in &segments {
        named(&field, segment, names::dns_label, errors);
    }
    let found = known
        .get(segments[0])
        .is_some_and(|alternatives| segments.get(1).is_none_or(|second| alternatives.contains(second)));
    if !found {
        errors.invalid(&field, text, REQUEST_NAME);
    }
}

/// The `opaque` configuration for a driver; `fresh` when it was not stored before.
pub fn configuration(at: &At<'_>, fresh: bool, errors: &mut FieldErrors) {
    match at.opt("opaque") {
        None => errors.required(at.path("opaque"), ""),
        Some(opaque) => {
            driver(opaque.path("driver"), opaque.str("driver"), errors);
            raw_object(
                opaque.path("parameters"),
                opaque.get("parameters"),
                if fresh { MAX_PARAMETERS } else { usize::MAX },
                errors,
            );
        }
    }
}

/// A JSON object of at most `max` bytes.
pub fn raw_object(field: impl Display, value: &Value, max: usize, errors: &mut FieldErrors) {
    match value {
        Value::Null => errors.required(field, ""),
        value if value.to_string().len() > max => errors.too_long(field, max),
        Value::Object(_) => {}
        _ => errors.invalid(field, "<value omitted>", "must be a valid JSON object"),
    }
}
