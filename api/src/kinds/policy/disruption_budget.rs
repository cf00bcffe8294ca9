//! PodDisruptionBudget. Source: `pkg/apis/policy/validation` and `pkg/registry/policy/poddisruptionbudget`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::{conditions, rules, selector};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct PodDisruptionBudget;

const TYPE: &str = "policy.v1.PodDisruptionBudget";
const EVICTION_POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

impl Kind for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert(
            "status".into(),
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        );
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        if spec.has("minAvailable") && spec.has("maxUnavailable") {
            errors.invalid(
                spec.here(),
                shown(&spec),
                "minAvailable and maxUnavailable cannot be both set",
            );
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if spec.has(field) {
                rules::int_or_percent(&spec, field, errors);
                rules::at_most_all(&spec, field, errors);
            }
        }
        selector::label_selector(&spec.at("selector"), errors);
        if let Some(policy) = spec
            .opt_str("unhealthyPodEvictionPolicy")
            .filter(|p| !EVICTION_POLICIES.contains(p))
        {
            errors.not_supported(
                spec.path("unhealthyPodEvictionPolicy"),
                policy,
                &EVICTION_POLICIES,
            );
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        let status = At::root(new, TYPE).at("status");
        conditions::conditions(&status, "conditions", errors);
        for field in [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ] {
            rules::not_negative(&status, field, errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Min Available"),
                Column::string("Max Unavailable"),
                Column::integer("Allowed Disruptions"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let amount = |field: &str| match &object["spec"][field] {
            Value::String(text) => text.clone(),
            Value::Null => "N/A".into(),
            number => number.to_string(),
        };
        vec![
            meta::name(object).into(),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            object["status"]["disruptionsAllowed"]
                .as_i64()
                .unwrap_or_default()
                .into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// The spec in Go's own form.
fn shown(spec: &At<'_>) -> Raw {
    Raw(format!(
        "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
        spec.get("minAvailable"),
        spec.get("selector"),
        spec.get("maxUnavailable"),
        spec.get("unhealthyPodEvictionPolicy")
    ))
}
