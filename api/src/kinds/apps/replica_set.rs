//! ReplicaSet, and what it shares with Deployment. Source: `pkg/apis/apps`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::deployment::{at_most, name_warning};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, default};
use crate::kinds::common::{go_value, rules, selector};
use crate::kinds::core::pod::template;
use crate::resource::Kind;
use crate::selector::LabelSelector;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ReplicaSet;

const TYPE: &str = "apps.v1.ReplicaSet";

impl Kind for ReplicaSet {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "replicas", 1);
        template::set_defaults(child_or_new(spec, "template"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"replicas": 0}));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        rules::not_negative(&spec, "replicas", errors);
        rules::not_negative(&spec, "minReadySeconds", errors);
        workload_selector(&spec, errors);
        workload_template(&spec, errors);
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

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        replica_status(&At::root(new, TYPE).at("status"), errors);
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
        REPLICA_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [_, _, selector] = pod_columns(object);
        replica_cells(object, selector, now)
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["status"]["replicas"]
            .as_i64()
            .unwrap_or_default()
            .to_string()
    }

    fn unknown_selectable(&self, field: &str) -> String {
        format!("field label not supported: {field}")
    }
}

/// The columns of kinds that keep a number of Pods.
pub const REPLICA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::AGE,
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

/// The cells of [`REPLICA_COLUMNS`].
pub fn replica_cells(object: &Value, selector: Value, now: Timestamp) -> Vec<Value> {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let [containers, images, _] = pod_columns(object);
    vec![
        meta::name(object).into(),
        number(&object["spec"]["replicas"]).into(),
        number(&object["status"]["replicas"]).into(),
        number(&object["status"]["readyReplicas"]).into(),
        humanize::age(meta::creation_timestamp(object), now).into(),
        containers,
        images,
        selector,
    ]
}

/// The counters of such a kind's status: none negative, none above what it counts among.
pub fn replica_status(status: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ] {
        rules::not_negative(status, field, errors);
    }
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        at_most(status, field, "replicas", "status.replicas", errors);
    }
    at_most(
        status,
        "availableReplicas",
        "readyReplicas",
        "readyReplicas",
        errors,
    );
}

/// `spec.selector` of a workload: required, valid, not empty.
pub fn workload_selector(spec: &At<'_>, errors: &mut FieldErrors) {
    match spec.opt("selector") {
        None => errors.required(spec.path("selector"), ""),
        Some(at) => {
            selector::label_selector(&at, errors);
            if at.count("matchLabels") + at.count("matchExpressions") == 0 {
                errors.invalid(&at, at.value.clone(), "empty selector is invalid for deployment");
            }
        }
    }
}

/// `spec.template` of a workload that keeps its Pods running.
pub fn workload_template(spec: &At<'_>, errors: &mut FieldErrors) {
    let at = spec.at("template");
    let labels = at.at("metadata").get("labels");
    let Ok(parsed) = LabelSelector::from_value(spec.get("selector")) else {
        errors.invalid(
            spec.path("selector"),
            spec.get("selector").clone(),
            "invalid label selector",
        );
        return;
    };
    if !parsed.is_everything() && !parsed.matches(labels) {
        errors.invalid(
            at.at("metadata").path("labels"),
            go_value::list(labels),
            "`selector` does not match template `labels`",
        );
    }
    template::validate(&at, errors);
    let pod = at.at("spec");
    if pod.str("restartPolicy") != "Always" {
        errors.not_supported(pod.path("restartPolicy"), pod.str("restartPolicy"), &["Always"]);
    }
    if pod.has("activeDeadlineSeconds") {
        errors.forbidden(
            pod.path("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// The wide columns: containers, images, selector.
pub fn pod_columns(object: &Value) -> [Value; 3] {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let list = |field: &str| {
        let texts = containers.into_iter().flatten().filter_map(|c| c[field].as_str());
        texts.collect::<Vec<_>>().join(",")
    };
    [
        list("name").into(),
        list("image").into(),
        crate::kinds::format_selector(&object["spec"]["selector"]).into(),
    ]
}
