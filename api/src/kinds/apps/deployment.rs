//! Deployment. Source: `pkg/apis/apps`, defaults and validation.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::replica_set::{pod_columns, workload_selector, workload_template};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default, str};
use crate::kinds::common::go_value::Raw;
use crate::kinds::common::rules::{self, Shown};
use crate::kinds::core::pod::template;
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta};

pub struct Deployment;

const TYPE: &str = "apps.v1.Deployment";

impl Kind for Deployment {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        let strategy = child_or_new(spec, "strategy");
        default(strategy, "type", "RollingUpdate");
        if str(strategy, "type") == "RollingUpdate" {
            let rolling = child_or_new(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
        template::set_defaults(child_or_new(spec, "template"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
        keep_labels(new, old);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn raises_generation(&self, new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
        let annotations =
            |object: &Map<String, Value>| object.get("metadata").map(|m| m["annotations"].clone());
        new.get("spec") != old.get("spec") || annotations(new) != annotations(old)
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        rules::not_negative(&spec, "replicas", errors);
        workload_selector(&spec, errors);
        workload_template(&spec, errors);
        strategy(&spec.at("strategy"), errors);
        rules::not_negative(&spec, "minReadySeconds", errors);
        rules::not_negative(&spec, "revisionHistoryLimit", errors);
        rules::not_negative(&spec, "progressDeadlineSeconds", errors);
        if let Some(deadline) = spec.opt_int("progressDeadlineSeconds")
            && deadline <= spec.int("minReadySeconds")
        {
            errors.invalid(
                spec.path("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            );
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        rules::immutable(
            new.path("selector"),
            new.get("selector"),
            old.get("selector"),
            errors,
        );
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (status, old) = (At::root(new, TYPE).at("status"), At::root(old, TYPE).at("status"));
        for field in [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "collisionCount",
        ] {
            rules::not_negative(&status, field, errors);
        }
        at_most(&status, "updatedReplicas", "replicas", "status.replicas", errors);
        at_most(&status, "readyReplicas", "replicas", "status.replicas", errors);
        at_most(
            &status,
            "availableReplicas",
            "replicas",
            "status.replicas",
            errors,
        );
        at_most(
            &status,
            "availableReplicas",
            "readyReplicas",
            "readyReplicas",
            errors,
        );
        rules::not_decremented(&status, &old, "collisionCount", errors);
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        let mut out = name_warning(object);
        out.extend(self.warnings(object));
        out
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(&At::root(object, TYPE).at("spec").at("template"))
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if meta::generation(new) == meta::generation(old) {
            return Vec::new();
        }
        self.warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Ready"),
                Column::string("Up-to-date"),
                Column::string("Available"),
                Column::AGE,
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = |field: &str| object["status"][field].as_i64().unwrap_or_default();
        let desired = object["spec"]["replicas"].as_i64().unwrap_or_default();
        let [containers, images, selector] = pod_columns(object);
        vec![
            meta::name(object).into(),
            format!("{}/{desired}", status("readyReplicas")).into(),
            status("updatedReplicas").into(),
            status("availableReplicas").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            containers,
            images,
            selector,
        ]
    }
}

/// A status update leaves the labels alone.
pub fn keep_labels(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let labels = old.get("metadata").and_then(|m| m.get("labels")).cloned();
    let metadata = child_or_new(new, "metadata");
    match labels {
        Some(labels) => metadata.insert("labels".into(), labels),
        None => metadata.remove("labels"),
    };
}

pub fn at_most(
    status: &At<'_>,
    field: &'static str,
    bound: &'static str,
    name: &str,
    errors: &mut FieldErrors,
) {
    let value = status.int(field);
    if value > status.int(bound) {
        errors.invalid(
            status.path(field),
            value,
            &format!("cannot be greater than {name}"),
        );
    }
}

/// What `kubectl` is told about names that end up in the names of Pods.
pub fn name_warning(object: &Value) -> Vec<String> {
    let name = meta::name(object);
    let texts = crate::names::dns_label(name);
    if texts.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
        texts.join(" ")
    )]
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    match at.str("type") {
        "Recreate" if at.has("rollingUpdate") => errors.forbidden(
            at.path("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        "Recreate" => {}
        "RollingUpdate" if !at.has("rollingUpdate") => {
            errors.required(
                at.path("rollingUpdate"),
                "this should be defaulted and never be nil",
            );
        }
        "RollingUpdate" => {
            let rolling = at.at("rollingUpdate");
            rules::int_or_percent(&rolling, "maxUnavailable", errors);
            rules::int_or_percent(&rolling, "maxSurge", errors);
            if rules::is_zero(rolling.get("maxUnavailable")) && rules::is_zero(rolling.get("maxSurge")) {
                errors.invalid(
                    rolling.path("maxUnavailable"),
                    Shown(rolling.get("maxUnavailable")),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            rules::at_most_all(&rolling, "maxUnavailable", errors);
        }
        _ => errors.not_supported(at.here(), shown_strategy(at), &["Recreate", "RollingUpdate"]),
    }
}

/// The update strategy of a Deployment or DaemonSet as Go's own form of it prints.
pub(super) fn shown_strategy(strategy: &At<'_>) -> Raw {
    let rolling = match strategy.opt("rollingUpdate") {
        None => "null".to_string(),
        Some(at) => {
            let amount = |value: &Value| if value.is_null() { json!(0) } else { value.clone() };
            format!(
                "{{\"MaxUnavailable\":{},\"MaxSurge\":{}}}",
                amount(at.get("maxUnavailable")),
                amount(at.get("maxSurge"))
            )
        }
    };
    Raw(format!(
        "{{\"Type\":{},\"RollingUpdate\":{rolling}}}",
        json!(strategy.str("type"))
    ))
}
