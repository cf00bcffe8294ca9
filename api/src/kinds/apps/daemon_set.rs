//! DaemonSet. Source: `pkg/apis/apps`, defaults and validation, and `pkg/registry/apps/daemonset`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::deployment::shown_strategy;
use super::replica_set::pod_columns;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default, str};
use crate::kinds::common::{go_value, rules, selector};
use crate::kinds::core::pod::template;
use crate::resource::{Kind, keep};
use crate::selector::LabelSelector;
use crate::table::Column;
use crate::{humanize, meta};

pub struct DaemonSet;

const TYPE: &str = "apps.v1.DaemonSet";
/// Where the v1 API shows how often the template changed.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Kind for DaemonSet {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "revisionHistoryLimit", 10);
        let strategy = child_or_new(spec, "updateStrategy");
        default(strategy, "type", "RollingUpdate");
        if str(strategy, "type") == "RollingUpdate" {
            let rolling = child_or_new(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
        template::set_defaults(child_or_new(spec, "template"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert(
            "status".into(),
            json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
        );
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
        let template = |object: &Map<String, Value>| object.get("spec").map(|s| s["template"].clone());
        let changed = template(new) != template(old);
        let generation = template_generation(old) + i64::from(changed);
        set_template_generation(new, generation);
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
        set_template_generation(new, template_generation(old));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        let template_labels = spec.at("template").at("metadata");
        let labels = template_labels.get("labels");
        let wanted = spec.at("selector");
        selector::label_selector(&wanted, errors);
        if LabelSelector::from_value(wanted.value).is_ok_and(|s| !s.matches(labels)) {
            errors.invalid(
                template_labels.path("labels"),
                go_value::list(labels),
                "`selector` does not match template `labels`",
            );
        }
        if spec.has("selector") && wanted.count("matchLabels") + wanted.count("matchExpressions") == 0 {
            errors.invalid(
                &wanted,
                wanted.value.clone(),
                "empty selector is invalid for daemonset",
            );
        }
        template::validate(&spec.at("template"), errors);
        let pod = spec.at("template").at("spec");
        if pod.str("restartPolicy") != "Always" {
            errors.not_supported(pod.path("restartPolicy"), pod.str("restartPolicy"), &["Always"]);
        }
        if pod.has("activeDeadlineSeconds") {
            errors.forbidden(
                pod.path("activeDeadlineSeconds"),
                "activeDeadlineSeconds in DaemonSet is not Supported",
            );
        }
        rules::not_negative(&spec, "minReadySeconds", errors);
        strategy(&spec.at("updateStrategy"), errors);
        rules::not_negative(&spec, "revisionHistoryLimit", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        rules::immutable_pointer(
            new.path("selector"),
            new.get("selector"),
            old.get("selector"),
            errors,
        );
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (status, old) = (At::root(new, TYPE).at("status"), At::root(old, TYPE).at("status"));
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            rules::not_negative(&status, field, errors);
        }
        rules::not_decremented(&status, &old, "collisionCount", errors);
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
                Column::integer("Desired"),
                Column::integer("Current"),
                Column::integer("Ready"),
                Column::integer("Up-to-date"),
                Column::integer("Available"),
                Column::string("Node Selector"),
                Column::AGE,
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = |field: &str| -> Value { object["status"][field].as_i64().unwrap_or_default().into() };
        let [containers, images, selector] = pod_columns(object);
        vec![
            meta::name(object).into(),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            crate::kinds::format_labels(&object["spec"]["template"]["spec"]["nodeSelector"]).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            containers,
            images,
            selector,
        ]
    }
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    match at.str("type") {
        "OnDelete" => {}
        "RollingUpdate" => match at.opt("rollingUpdate") {
            None => errors.required(at.path("rollingUpdate"), ""),
            Some(rolling) => rolling_update(&rolling, errors),
        },
        _ => errors.not_supported(at.here(), shown_strategy(at), &["RollingUpdate", "OnDelete"]),
    }
}

fn rolling_update(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["maxUnavailable", "maxSurge"] {
        rules::int_or_percent(at, field, errors);
    }
    for field in ["maxUnavailable", "maxSurge"] {
        rules::at_most_all(at, field, errors);
    }
    let zero = |field| rules::is_zero(at.get(field));
    match (zero("maxUnavailable"), zero("maxSurge")) {
        (false, false) => errors.invalid(
            at.path("maxSurge"),
            at.get("maxSurge").clone(),
            "may not be set when maxUnavailable is non-zero",
        ),
        (true, true) => errors.required(at.path("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

fn template_generation(object: &Map<String, Value>) -> i64 {
    object
        .get("metadata")
        .and_then(|m| m["annotations"][TEMPLATE_GENERATION].as_str()?.parse().ok())
        .unwrap_or_default()
}

fn set_template_generation(object: &mut Map<String, Value>, generation: i64) {
    let annotations = child_or_new(child_or_new(object, "metadata"), "annotations");
    annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
}
