//! HorizontalPodAutoscaler, version v2, in which it is stored. Source: `pkg/apis/autoscaling`, defaults and
//! validation, and `pkg/registry/autoscaling`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default, has};
use crate::kinds::common::rules;
use crate::names;
use crate::quantity::Quantity;
use crate::resource::Kind;
use crate::table::Column;

mod columns;
mod metrics;

pub struct HorizontalPodAutoscaler;

const TYPE: &str = "autoscaling.v2.HorizontalPodAutoscaler";
/// Percent of the request that Pods shall use, where no metric is given.
const DEFAULT_CPU_UTILIZATION: i64 = 80;
const MAX_STABILIZATION_SECONDS: i64 = 3600;
const MAX_PERIOD_SECONDS: i64 = 1800;
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICY_TYPES: [&str; 2] = ["Percent", "Pods"];

/// Defaults of the v2 form.
pub fn set_defaults(object: &mut Map<String, Value>) {
    let spec = child_or_new(object, "spec");
    default(spec, "minReplicas", 1);
    if spec
        .get("metrics")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        let target = json!({"type": "Utilization", "averageUtilization": DEFAULT_CPU_UTILIZATION});
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
    if let Some(behavior) = child(spec, "behavior") {
        let half = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let four = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let up = child_or_new(behavior, "scaleUp");
        default(up, "stabilizationWindowSeconds", 0);
        rules_defaults(up, json!([four, half]));
        rules_defaults(child_or_new(behavior, "scaleDown"), json!([half]));
    }
}

fn rules_defaults(rules: &mut Map<String, Value>, policies: Value) {
    default(rules, "selectPolicy", "Max");
    if !has(rules, "policies") {
        rules.insert("policies".into(), policies);
    }
}

impl Kind for HorizontalPodAutoscaler {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        set_defaults(object);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert(
            "status".into(),
            json!({"currentMetrics": null, "desiredReplicas": 0}),
        );
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        let (min, max) = (spec.opt_int("minReplicas"), spec.int("maxReplicas"));
        if let Some(min) = min.filter(|min| *min < 1) {
            errors.invalid(
                spec.path("minReplicas"),
                min,
                "must be greater than or equal to 1",
            );
        }
        if max < 1 {
            errors.invalid(spec.path("maxReplicas"), max, "must be greater than 0");
        }
        if min.is_some_and(|min| max < min) {
            errors.invalid(
                spec.path("maxReplicas"),
                max,
                "must be greater than or equal to `minReplicas`",
            );
        }
        reference(&spec.at("scaleTargetRef"), errors);
        metrics::validate(&spec, errors);
        if min == Some(0) {
            metrics::scale_to_zero(&spec, errors);
        }
        let behavior = spec.at("behavior");
        for field in ["scaleUp", "scaleDown"] {
            if let Some(at) = behavior.opt(field) {
                scaling_rules(&at, errors);
            }
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let status = At::root(new, TYPE).at("status");
        rules::not_negative(&status, "currentReplicas", errors);
        rules::not_negative(&status, "desiredReplicas", errors);
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(object, now)
    }
}

/// A reference to an object in any version of its kind.
fn reference(at: &At<'_>, errors: &mut FieldErrors) {
    rules::required_name(at, "kind", names::path_segment, errors);
    rules::required_name(at, "name", names::path_segment, errors);
}

fn scaling_rules(at: &At<'_>, errors: &mut FieldErrors) {
    if let Some(window) = at.opt_int("stabilizationWindowSeconds") {
        let place = at.path("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(place, window, "must be greater than or equal to zero");
        }
        if window > MAX_STABILIZATION_SECONDS {
            errors.invalid(
                place,
                window,
                &format!("must be less than or equal to {MAX_STABILIZATION_SECONDS}"),
            );
        }
    }
    if let Some(policy) = at
        .opt_str("selectPolicy")
        .filter(|p| !SELECT_POLICIES.contains(p))
    {
        errors.not_supported(at.path("selectPolicy"), policy, &SELECT_POLICIES);
    }
    if at.count("policies") == 0 {
        errors.required(at.path("policies"), "must specify at least one Policy");
    }
    for policy in at.items("policies") {
        let kind = policy.str("type");
        if !POLICY_TYPES.contains(&kind) {
            errors.not_supported(policy.path("type"), kind, &POLICY_TYPES);
        }
        for field in ["value", "periodSeconds"] {
            if policy.int(field) <= 0 {
                errors.invalid(policy.path(field), policy.int(field), "must be greater than zero");
            }
        }
        let period = policy.int("periodSeconds");
        if period > MAX_PERIOD_SECONDS {
            errors.invalid(
                policy.path("periodSeconds"),
                period,
                &format!("must be less than or equal to {MAX_PERIOD_SECONDS}"),
            );
        }
    }
    let tolerance = at.str("tolerance");
    if tolerance.parse::<Quantity>().is_ok_and(|q| q.is_negative()) {
        errors.invalid(
            at.path("tolerance"),
            tolerance,
            "must be greater or equal to zero",
        );
    }
}
