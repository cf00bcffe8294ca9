//! LimitRange. Source: `pkg/apis/core/validation`, `ValidateLimitRange`, and `pkg/apis/core/v1/defaults.go`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{Object, child_or_new, items};
use crate::kinds::common::resources;
use crate::kinds::common::rules::named;
use crate::names;
use crate::quantity::Quantity;
use crate::resource::Kind;

pub struct LimitRange;

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
/// Amounts from here on are compared in whole units, for their thousandths would not fit.
const MAX_MILLI: i64 = i64::MAX / 1000;

impl Kind for LimitRange {
    fn create_on_update(&self) -> bool {
        true
    }

    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for limit in items(child_or_new(object, "spec"), "limits") {
            for list in LISTS {
                if let Some(list) = limit.get_mut(list).and_then(Value::as_object_mut) {
                    resources::round_up(list);
                }
            }
            if limit.get("type").and_then(Value::as_str) == Some("Container") {
                container_defaults(limit);
            }
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut seen = BTreeSet::new();
        for limit in At::root(object, "core.v1.LimitRange").at("spec").items("limits") {
            let kind = limit.str("type");
            let found = errors.len();
            named(limit.path("type"), kind, names::qualified_name, errors);
            if errors.len() == found && !kind.contains('/') && !TYPES.contains(&kind) {
                errors.invalid(
                    limit.path("type"),
                    kind,
                    "must be a standard limit type or fully qualified",
                );
            }
            if !seen.insert(kind) {
                errors.duplicate(limit.path("type"), kind);
            }
            amounts(&limit, kind, errors);
        }
    }
}

/// A limit alone is also the default; the default is also the default request; so is the minimum.
fn container_defaults(limit: &mut Object) {
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let source = limit.get(from).and_then(Value::as_object).cloned();
        let Some(source) = source.filter(|s| !s.is_empty()) else {
            continue;
        };
        let target = child_or_new(limit, to);
        for (name, amount) in source {
            target.entry(name).or_insert(amount);
        }
    }
}

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn amounts(limit: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    let mut lists: BTreeMap<&str, Amounts<'_>> = BTreeMap::new();
    for list in LISTS {
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") {
            if limit.count(list) > 0 {
                errors.forbidden(limit.path(list), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        if list == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let bounded = ["min", "max"]
                .iter()
                .any(|l| limit.get(l).get("storage").is_some());
            if !bounded {
                errors.required(
                    limit.here().field("limits"),
                    "either minimum or maximum storage value is required, but neither was provided",
                );
            }
        }
        let mut read = Amounts::new();
        for (name, place) in limit.entries(list) {
            match kind {
                "Pod" | "Container" => resources::container_name(&place, name, errors),
                _ => resources::name(&place, name, errors),
            }
            read.insert(name, place.text().parse().unwrap_or_default());
        }
        lists.insert(list, read);
    }
    let names: BTreeSet<&str> = lists.values().flat_map(|l| l.keys().copied()).collect();
    for name in names {
        let get = |list: &str| lists.get(list).and_then(|l| l.get(name)).copied();
        relations(limit, name, get, errors);
    }
}

/// How the amounts of one resource must lie to each other.
fn relations(limit: &At<'_>, name: &str, get: impl Fn(&str) -> Option<Quantity>, errors: &mut FieldErrors) {
    let (min, max) = (get("min"), get("max"));
    let (default, request, ratio) = (get("default"), get("defaultRequest"), get("maxLimitRequestRatio"));
    let mut wrong = |list: &'static str, shown: Quantity, text: String| {
        errors.invalid(limit.path(list).key(name), shown.to_string(), &text);
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        wrong(
            "min",
            min,
            format!("min value {min} is greater than max value {max}"),
        );
    }
    if let (Some(request), Some(min)) = (request, min)
        && min > request
    {
        wrong(
            "defaultRequest",
            request,
            format!("min value {min} is greater than default request value {request}"),
        );
    }
    if let (Some(request), Some(max)) = (request, max)
        && request > max
    {
        wrong(
            "defaultRequest",
            request,
            format!("default request value {request} is greater than max value {max}"),
        );
    }
    if let (Some(request), Some(default)) = (request, default)
        && request > default
    {
        wrong(
            "defaultRequest",
            request,
            format!("default request value {request} is greater than default limit value {default}"),
        );
    }
    if let (Some(default), Some(min)) = (default, min)
        && min > default
    {
        wrong(
            "default",
            min,
            format!("min value {min} is greater than default value {default}"),
        );
    }
    if let (Some(default), Some(max)) = (default, max)
        && default > max
    {
        wrong(
            "default",
            max,
            format!("default value {default} is greater than max value {max}"),
        );
    }
    if let Some(ratio) = ratio {
        if ratio < Quantity::units(1) {
            wrong(
                "maxLimitRequestRatio",
                ratio,
                format!("ratio {ratio} is less than 1"),
            );
        }
        if let (Some(min), Some(max)) = (min, max) {
            let bound = largest_ratio(ratio, min, max);
            if bound.0 > bound.1 {
                wrong(
                    "maxLimitRequestRatio",
                    ratio,
                    format!("ratio {ratio} is greater than max/min = {:.6}", bound.1),
                );
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !resources::may_overcommit(name)
        && default != request
    {
        wrong(
            "defaultRequest",
            request,
            format!("default value {default} must equal to defaultRequest value {request} in {name}"),
        );
    }
}

/// The wanted ratio, and the one that maximum and minimum allow.
fn largest_ratio(ratio: Quantity, min: Quantity, max: Quantity) -> (f64, f64) {
    let fine = [ratio, min, max].iter().all(|q| q.value() < MAX_MILLI);
    if fine {
        (
            ratio.milli_value() as f64 / 1000.0,
            max.milli_value() as f64 / min.milli_value() as f64,
        )
    } else {
        (ratio.value() as f64, max.value() as f64 / min.value() as f64)
    }
}
