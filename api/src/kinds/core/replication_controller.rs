//! ReplicationController. Source: `pkg/apis/core/validation`, `ValidateReplicationController`, and
//! `pkg/apis/core/v1/defaults.go`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::pod::template;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::apps::deployment::name_warning;
use crate::kinds::apps::replica_set::{REPLICA_COLUMNS, replica_cells, replica_status};
use crate::kinds::common::defaults::{child, child_or_new, default};
use crate::kinds::common::go_value;
use crate::kinds::common::rules;
use crate::meta;
use crate::resource::Kind;
use crate::selector::LabelSelector;
use crate::table::Column;

pub struct ReplicationController;

const TYPE: &str = "core.v1.ReplicationController";

impl Kind for ReplicationController {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "replicas", 1);
        let mut labels = None;
        if let Some(pods) = child(spec, "template") {
            template::set_defaults(pods);
            labels = pods["metadata"].get("labels").cloned();
        }
        // A controller looks after the Pods it makes, and is labelled like them, unless it says otherwise.
        let Some(labels) = labels else { return };
        if empty(spec.get("selector")) {
            spec.insert("selector".into(), labels.clone());
        }
        let metadata = child_or_new(object, "metadata");
        if empty(metadata.get("labels")) {
            metadata.insert("labels".into(), labels);
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"replicas": 0}));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        rules::not_negative(&spec, "minReadySeconds", errors);
        if spec.count("selector") == 0 {
            errors.required(spec.path("selector"), "");
        }
        rules::not_negative(&spec, "replicas", errors);
        let Some(pods) = spec.opt("template") else {
            errors.required(spec.path("template"), "");
            return;
        };
        let metadata = pods.at("metadata");
        let labels = metadata.get("labels");
        if !wanted(object).matches(labels) {
            errors.invalid(
                metadata.path("labels"),
                go_value::list(labels),
                "`selector` does not match template `labels`",
            );
        }
        template::validate(&pods, errors);
        let pod = pods.at("spec");
        if pod.str("restartPolicy") != "Always" {
            errors.not_supported(pod.path("restartPolicy"), pod.str("restartPolicy"), &["Always"]);
        }
        if pod.has("activeDeadlineSeconds") {
            errors.forbidden(
                pod.path("activeDeadlineSeconds"),
                "activeDeadlineSeconds in ReplicationController is not Supported",
            );
        }
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
        let selector = crate::kinds::format_labels(&object["spec"]["selector"]);
        replica_cells(object, selector.into(), now)
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
}

fn empty(map: Option<&Value>) -> bool {
    map.and_then(Value::as_object).is_none_or(Map::is_empty)
}

/// The selector, a plain map of labels.
fn wanted(object: &Value) -> LabelSelector {
    let pairs = object["spec"]["selector"].as_object().into_iter().flatten();
    LabelSelector::exact(pairs.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
}
