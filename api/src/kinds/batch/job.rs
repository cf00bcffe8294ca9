//! Job. Source: `pkg/apis/batch`, defaults and validation, and `pkg/registry/batch/job`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::apps::deployment::name_warning;
use crate::kinds::apps::replica_set::pod_columns;
use crate::kinds::common::defaults::{Object, child, child_or_new, default, has, items};
use crate::kinds::common::{go_value, selector};
use crate::kinds::core::pod::template;
use crate::resource::Kind;
use crate::selector::LabelSelector;
use crate::table::Column;
use crate::{humanize, meta, names, time};

pub mod indexes;
pub mod spec;
mod status;

pub struct Job;

const TYPE: &str = "batch.v1.Job";
/// Labels of a Job's Pods, each in its old and its new form.
const JOB_NAME: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const CONTROLLER_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

impl Kind for Job {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        if !has(spec, "completions") && !has(spec, "parallelism") {
            spec.insert("completions".into(), 1.into());
        }
        default(spec, "parallelism", 1);
        let retries = if has(spec, "backoffLimitPerIndex") {
            i64::from(i32::MAX)
        } else {
            6
        };
        default(spec, "backoffLimit", retries);
        default(spec, "completionMode", "NonIndexed");
        default(spec, "suspend", false);
        let replacement = if has(spec, "podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        default(spec, "podReplacementPolicy", replacement);
        failure_policy_defaults(spec);
        template::set_defaults(child_or_new(spec, "template"));
        // A Job is labelled like its Pods; before it is created those lack the generated labels.
        if has(spec, "selector") {
            label_like_pods(object);
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
        let manual = object
            .get("spec")
            .is_some_and(|spec| spec["manualSelector"] == true);
        if !manual {
            generate_selector(object);
        }
        label_like_pods(object);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE).at("spec");
        spec::validate(&at, errors);
        match at.opt("selector") {
            None => errors.required(at.path("selector"), ""),
            Some(wanted) => selector::label_selector(&wanted, errors),
        }
        let metadata = at.at("template").at("metadata");
        let labels = metadata.get("labels");
        if LabelSelector::from_value(at.get("selector")).is_ok_and(|s| !s.matches(labels)) {
            errors.invalid(
                metadata.path("labels"),
                go_value::list(labels),
                "`selector` does not match template `labels`",
            );
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        generated_selector(object, errors);
        let spec = &object["spec"];
        let completions = spec["completions"].as_i64().unwrap_or_default();
        if spec["completionMode"] == "Indexed" && completions > 0 {
            let name = meta::name(object);
            let hostname = format!("{name}-{}", completions - 1);
            if !names::dns_label(&hostname).is_empty() {
                errors.invalid(
                    "metadata.name",
                    name,
                    &format!("will not able to create pod with invalid DNS label: {hostname}"),
                );
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        spec::update(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        status::validate(new, old, errors);
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        let mut out = name_warning(object);
        out.extend(self.warnings(object));
        out
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        spec::warnings(&At::root(object, TYPE).at("spec"))
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
                Column::string("Status"),
                Column::string("Completions"),
                Column::string("Duration"),
                Column::AGE,
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [containers, images, selector] = pod_columns(object);
        vec![
            meta::name(object).into(),
            state(object).into(),
            completions(object).into(),
            duration(&object["status"], now).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            containers,
            images,
            selector,
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["status"]["succeeded"]
            .as_i64()
            .unwrap_or_default()
            .to_string()
    }

    fn unknown_selectable(&self, field: &str) -> String {
        format!("field label \"{field}\" not supported for Job")
    }
}

/// Defaults of a failure policy, in a Job or in a CronJob's template.
pub fn failure_policy_defaults(spec: &mut Object) {
    let Some(policy) = child(spec, "podFailurePolicy") else {
        return;
    };
    for rule in items(policy, "rules") {
        for pattern in items(rule, "onPodConditions") {
            default(pattern, "status", "True");
        }
    }
}

fn label_like_pods(object: &mut Object) {
    let labels = object
        .get("spec")
        .map(|spec| spec["template"]["metadata"]["labels"].clone())
        .unwrap_or_default();
    let metadata = child_or_new(object, "metadata");
    let unlabelled = metadata
        .get("labels")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty);
    if unlabelled && labels.as_object().is_some_and(|l| !l.is_empty()) {
        metadata.insert("labels".into(), labels);
    }
}

/// Gives the Pods labels that only this Job has, and selects by the uid.
fn generate_selector(object: &mut Object) {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = metadata["name"].clone();
    let uid = metadata["uid"].clone();
    let spec = child_or_new(object, "spec");
    let labels = child_or_new(child_or_new(child_or_new(spec, "template"), "metadata"), "labels");
    for (keys, value) in [(JOB_NAME, &name), (CONTROLLER_UID, &uid)] {
        // Where the client gave the old form, validation tells whether it is right.
        if !labels.contains_key(keys[0]) {
            for key in keys {
                labels.insert(key.into(), value.clone());
            }
        }
    }
    child_or_new(child_or_new(spec, "selector"), "matchLabels")
        .entry(CONTROLLER_UID[1])
        .or_insert(uid);
}

/// What must hold of a selector that the server made.
fn generated_selector(object: &Value, errors: &mut FieldErrors) {
    let spec = At::root(object, TYPE).at("spec");
    if spec.bool("manualSelector") || !spec.has("selector") {
        return;
    }
    let metadata = spec.at("template").at("metadata");
    let labels = metadata.get("labels");
    let (name, uid) = (meta::name(object), meta::uid(object));
    for (key, want) in [
        (CONTROLLER_UID[0], uid),
        (JOB_NAME[0], name),
        (CONTROLLER_UID[1], uid),
        (JOB_NAME[1], name),
    ] {
        let text = format!("must be '{want}'");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.required(metadata.path("labels").key(key), &text),
            Some(given) if given != want => {
                errors.invalid(metadata.path("labels").key(key), go_value::list(labels), &text)
            }
            Some(_) => {}
        }
    }
    let expected = json!({
        (CONTROLLER_UID[0]): uid, (CONTROLLER_UID[1]): uid, (JOB_NAME[0]): name, (JOB_NAME[1]): name,
    });
    if LabelSelector::from_value(spec.get("selector")).is_ok_and(|s| !s.matches(&expected)) {
        errors.invalid(
            spec.path("selector"),
            spec.get("selector").clone(),
            "`selector` not auto-generated",
        );
    }
}

/// True when the Job has this condition and it holds.
pub fn has_condition(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

fn state(object: &Value) -> &'static str {
    let status = &object["status"];
    if has_condition(status, "Complete") {
        "Complete"
    } else if has_condition(status, "Failed") {
        "Failed"
    } else if meta::is_deleting(object) {
        "Terminating"
    } else if has_condition(status, "Suspended") {
        "Suspended"
    } else if has_condition(status, "FailureTarget") {
        "FailureTarget"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let done = object["status"]["succeeded"].as_i64().unwrap_or_default();
    let spec = &object["spec"];
    match (spec["completions"].as_i64(), spec["parallelism"].as_i64()) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, Some(width)) if width > 1 => format!("{done}/1 of {width}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(status: &Value, now: Timestamp) -> String {
    let read = |field: &str| status[field].as_str().and_then(time::parse);
    match (read("startTime"), read("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => humanize::age(Some(start), end.unwrap_or(now)),
    }
}
