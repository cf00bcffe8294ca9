//! One device of a ResourceSlice: its attributes, capacity, taints, counters and where it is.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde_json::Value;

use super::names::{MAX_QUALIFIED, qualified, too_many, unique};
use super::request::TAINT_EFFECTS;
use super::status::binding_conditions;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::kinds::core::pod::affinity::node_selector;
use crate::names;
use crate::quantity::Quantity;

/// Attributes and capacities of a device, together.
const MAX_ATTRIBUTES: usize = 32;
/// Bytes of a text or version.
const MAX_VALUE: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_CONSUMPTIONS: usize = 2;
/// Counters of a set, or of what a device uses of one.
const MAX_COUNTERS: usize = 32;
const MAX_CHOICES: usize = 10;
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// `old`: the device of that name in the stored slice. `placed_alone`: each device says where it is.
pub fn validate(device: &At<'_>, old: Option<&Value>, placed_alone: bool, errors: &mut FieldErrors) {
    named(device.path("name"), device.str("name"), names::dns_label, errors);
    let count = device.count("attributes") + device.count("capacity");
    if count > MAX_ATTRIBUTES {
        errors.invalid(
            device,
            count,
            &format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}"),
        );
    }
    for (name, attribute) in device.entries("attributes") {
        qualified(device.path("attributes"), name, errors);
        validate_attribute(&attribute, shortened(device, "attributes", name), errors);
    }
    let unchanged = |field: &'static str| old.is_some_and(|old| &old[field] == device.get(field));
    if !unchanged("capacity") {
        for (name, capacity) in device.entries("capacity") {
            qualified(device.path("capacity"), name, errors);
            validate_capacity(&capacity, device.bool("allowMultipleAllocations"), errors);
        }
    }
    if !unchanged("taints") && !too_many(device, "taints", MAX_TAINTS, errors) {
        for taint in device.items("taints") {
            validate_taint(&taint, errors);
        }
    }
    if !too_many(device, "consumesCounters", MAX_CONSUMPTIONS, errors) {
        for consumption in device.items("consumesCounters") {
            counters(&consumption, "counterSet", errors);
        }
        unique(
            device.items("consumesCounters"),
            |c| c.str("counterSet").into(),
            errors,
        );
    }
    placement(device, placed_alone, errors);
    binding_conditions(device, errors);
}

/// The path of a map's entry; a key that is too long is shown without its middle.
fn shortened(at: &At<'_>, field: &'static str, key: &str) -> String {
    let path = at.path(field);
    if key.len() <= MAX_QUALIFIED {
        return path.key(key).to_string();
    }
    let keep = MAX_QUALIFIED - "...".len();
    let (head, tail) = (keep.div_ceil(2), key.len() - keep / 2);
    let part = |range: std::ops::Range<usize>| String::from_utf8_lossy(&key.as_bytes()[range]).into_owned();
    path.key(&format!("{}...{}", part(0..head), part(tail..key.len())))
        .to_string()
}

fn validate_attribute(attribute: &At<'_>, path: impl Display, errors: &mut FieldErrors) {
    if let Some(text) = attribute.opt_str("string") {
        bounded(attribute.path("string"), text, errors);
    }
    if let Some(text) = attribute.opt_str("version") {
        version(attribute.path("version"), text, errors);
    }
    for field in LISTS {
        if attribute.get(field).as_array().is_some_and(Vec::is_empty) {
            errors.invalid(
                attribute.path(field),
                attribute.get(field).clone(),
                "must not be empty if specified",
            );
        }
    }
    for text in attribute.items("strings") {
        bounded(&text, text.text(), errors);
    }
    for text in attribute.items("versions") {
        version(&text, text.text(), errors);
    }
    const ONE: &str = "exactly one value must be specified";
    match attribute.set_fields().count() {
        0 => errors.invalid(path, "", ONE),
        1 => {}
        _ => errors.invalid(path, attribute.value.clone(), ONE),
    }
}

fn bounded(path: impl Display, text: &str, errors: &mut FieldErrors) {
    if text.len() > MAX_VALUE {
        errors.too_long(path, MAX_VALUE);
    }
}

fn version(path: impl Display, text: &str, errors: &mut FieldErrors) {
    if !is_semver(text) {
        errors.invalid(
            &path,
            text,
            "must be a string compatible with semver.org spec 2.0.0",
        );
    }
    bounded(path, text, errors);
}

/// `major.minor.patch`, then perhaps `-prerelease` and `+build`.
fn is_semver(text: &str) -> bool {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, pre) = match text.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (text, None),
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|p| word(p) && (!digits(p) || number(p))))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn validate_taint(taint: &At<'_>, errors: &mut FieldErrors) {
    named(taint.path("key"), taint.str("key"), names::qualified_name, errors);
    let (value, effect) = (taint.str("value"), taint.str("effect"));
    if !value.is_empty() {
        named(taint.path("value"), value, names::label_value, errors);
    }
    match effect {
        "" => errors.required(taint.path("effect"), ""),
        _ if TAINT_EFFECTS.contains(&effect) => {}
        _ => errors.not_supported(taint.path("effect"), effect, &TAINT_EFFECTS),
    }
}

/// A set of counters, or what is used of one: `name` is the field that names the set.
pub fn counters(at: &At<'_>, name: &'static str, errors: &mut FieldErrors) {
    match at.str(name) {
        "" => errors.required(at.path(name), ""),
        text => named(at.path(name), text, names::dns_label, errors),
    }
    match at.count("counters") {
        0 => errors.required(at.path("counters"), ""),
        count if count > MAX_COUNTERS => errors.too_many(at.path("counters"), count, MAX_COUNTERS),
        _ => {
            for (counter, _) in at.entries("counters") {
                named(at.path("counters"), counter, names::dns_label, errors);
            }
        }
    }
}

fn placement(device: &At<'_>, placed_alone: bool, errors: &mut FieldErrors) {
    const WHERE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !placed_alone {
        if ["nodeName", "nodeSelector", "allNodes"]
            .iter()
            .any(|f| device.has(f))
        {
            errors.invalid(
                device,
                Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            );
        }
        return;
    }
    let mut set = Vec::new();
    match device.opt_str("nodeName") {
        None => {}
        Some("") => errors.invalid(device.path("nodeName"), "", "must not be empty"),
        Some(node) => {
            set.push("`nodeName`");
            named(device.path("nodeName"), node, names::dns_subdomain, errors);
        }
    }
    if let Some(selector) = device.opt("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(&selector, errors);
    }
    match device.opt_bool("allNodes") {
        None => {}
        Some(true) => set.push("`allNodes`"),
        Some(false) => errors.invalid(
            device.path("allNodes"),
            false,
            "must be either unset or set to true",
        ),
    }
    match set.len() {
        0 => errors.required(device, WHERE),
        1 => {}
        _ => errors.invalid(device, format!("{{{}}}", set.join(", ")), WHERE),
    }
}

fn validate_capacity(capacity: &At<'_>, shareable: bool, errors: &mut FieldErrors) {
    let Some(policy) = capacity.opt("requestPolicy") else {
        return;
    };
    if !shareable {
        errors.forbidden(&policy, "allowMultipleAllocations must be true");
        return;
    }
    let (choices, range) = (policy.count("validValues") > 0, policy.opt("validRange"));
    let max = quantity(capacity.str("value"));
    match (choices, range, policy.opt_str("default").map(quantity)) {
        (true, Some(_), _) => errors.forbidden(
            &policy,
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ),
        (true, None, None) => {
            errors.required(policy.path("default"), "required when validValues is defined");
        }
        (true, None, Some(default)) => validate_choices(&policy, &default, &max, errors),
        (false, Some(_), None) => {
            errors.required(policy.path("default"), "required when validRange is defined");
        }
        (false, Some(range), Some(default)) => validate_range(&range, &default, &max, errors),
        (false, None, _) => {}
    }
}

/// Quantities are well formed since decoding.
fn quantity(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|_| Quantity::units(0))
}

fn validate_choices(policy: &At<'_>, default: &Quantity, max: &Quantity, errors: &mut FieldErrors) {
    let values: Vec<Quantity> = policy.strings("validValues").map(quantity).collect();
    let places: Vec<At<'_>> = policy.items("validValues").collect();
    for (idx, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            errors.invalid(
                &places[idx + 1],
                pair[1].to_string(),
                "values must be sorted in ascending order",
            );
        }
    }
    if !too_many(policy, "validValues", MAX_CHOICES, errors) {
        for (place, value) in places.iter().zip(&values) {
            if value > max {
                errors.invalid(
                    place,
                    value.to_string(),
                    &format!("option is larger than capacity value: {max}"),
                );
            }
        }
        let mut seen = BTreeSet::new();
        for (place, value) in places.iter().zip(&values) {
            if !seen.insert(value.value()) {
                errors.duplicate(place, value.value().to_string());
            }
        }
    }
    if !values.contains(default) {
        errors.invalid(
            policy.path("validValues"),
            default.to_string(),
            "default value is not valid according to the requestPolicy",
        );
    }
}

fn validate_range(range: &At<'_>, default: &Quantity, capacity: &Quantity, errors: &mut FieldErrors) {
    let Some(min) = range.opt_str("min").map(quantity) else {
        errors.required(range.path("min"), "required when validRange is defined");
        return;
    };
    let max = range.opt_str("max").map(quantity);
    // The name of the place, the value shown, whether it is wrong, and why.
    let mut checks = vec![
        (
            "min",
            &min,
            &min > capacity,
            format!("min is larger than capacity value: {capacity}"),
        ),
        (
            "default",
            default,
            default < &min,
            format!("default is less than min: {min}"),
        ),
    ];
    if let Some(max) = &max {
        checks.push(("max", &min, &min > max, format!("min is larger than max: {max}")));
        let why = format!("max is larger than capacity value: {capacity}");
        checks.push(("max", max, max > capacity, why));
        checks.push((
            "default",
            default,
            default > max,
            format!("default is more than max: {max}"),
        ));
    }
    for (field, value, wrong, why) in checks {
        if wrong {
            errors.invalid(range.here().field(field), value.to_string(), &why);
        }
    }
    let Some(step) = range.opt_str("step").map(quantity) else {
        return;
    };
    if step.is_zero() || step.is_negative() {
        errors.invalid(range.path("step"), step.to_string(), "must be greater than zero");
        return;
    }
    let mut one = min;
    one.add(&step);
    if &one > capacity {
        errors.invalid(
            range.path("step"),
            step.to_string(),
            &format!("one step {one} is larger than capacity value: {capacity}"),
        );
    }
    for value in std::iter::once(default).chain(&max) {
        if value.value().wrapping_sub(min.value()) % step.value().max(1) != 0 {
            errors.invalid(
                range.path("step"),
                value.to_string(),
                &format!("value is not a multiple of a given step ({step}) from ({min})"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_semver;

    #[test]
    fn versions() {
        for good in ["1.2.3", "0.0.0-a.1+b.01", "1.0.0-0a", "1.0.0+x-y"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in [
            "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.3.4",
        ] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
