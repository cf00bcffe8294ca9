//! Event of `events.k8s.io`: the stored object is the Event of the core group under other names, with stricter
//! rules. Source: `pkg/apis/events/v1/conversion.go`, `pkg/apis/core/validation/events.go`.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::{self, OBJECT_REFERENCE, Raw};
use crate::kinds::common::rules::IMMUTABLE;
use crate::kinds::core::event as stored;
use crate::names;
use crate::resource::Kind;
use crate::table::Column;

pub struct Event;

/// The type of the stored form, in which events are validated.
const TYPE: &str = "core.v1.Event";
/// Fields by their names here and in the stored form.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
/// Texts that one form writes when empty and the other leaves out.
const REPORTER: [&str; 2] = ["reportingComponent", "reportingInstance"];
const SOURCE: &[(&str, &str)] = &[("Component", "component"), ("Host", "host")];

impl Kind for Event {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::path_segment
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        stored::basics(&stored_form(object), "reportingController", errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let object = stored_form(object);
        let at = At::root(&object, TYPE);
        let name = crate::meta::name(&object);
        if names::path_segment(name).is_empty() {
            for text in names::dns_subdomain(name) {
                errors.invalid("metadata.name", name, &text);
            }
        }
        series(&at, errors);
        if !at.has("eventTime") {
            errors.required(at.path("eventTime"), "");
        }
        let kind = at.str("type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(at.path("type"), "", &format!("has invalid value: {kind}"));
        }
        let source = at.at("source");
        for (field, set) in [
            ("firstTimestamp", at.has("firstTimestamp")),
            ("lastTimestamp", at.has("lastTimestamp")),
            ("count", at.int("count") != 0),
            (
                "source",
                !source.str("component").is_empty() || !source.str("host").is_empty(),
            ),
        ] {
            if set {
                errors.invalid(at.path(field), "", "needs to be unset");
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (stored_form(new), stored_form(old));
        let (new, old) = (At::root(&new, TYPE), At::root(&old, TYPE));
        if new.get("series") != old.get("series") {
            series(&new, errors);
        }
        for (field, shown) in [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            // Upstream checks it twice.
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            if new.get(field) != old.get(field) {
                errors.invalid(shown, go_field(field, new.get(field)), IMMUTABLE);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        stored::Event.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        stored::Event.cells(&stored_form(object), now)
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "source",
            "type",
        ]
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        stored::Event.selectable(&stored_form(object), stored_field(field))
    }

    fn converts(&self) -> bool {
        true
    }

    fn from_stored(&self, object: &mut Map<String, Value>) {
        for (here, there) in RENAMED {
            rename(object, there, here);
        }
        for field in ["reportingController", "reportingInstance"] {
            if object.get(field).is_some_and(|v| v == "") {
                object.remove(field);
            }
        }
        if let Some(series) = object.get_mut("series").and_then(Value::as_object_mut) {
            series.entry("count").or_insert_with(|| 0.into());
            series.entry("lastObservedTime").or_insert(Value::Null);
        }
    }

    fn to_stored(&self, object: &mut Map<String, Value>) {
        for (here, there) in RENAMED {
            rename(object, here, there);
        }
        for field in REPORTER {
            object.entry(field).or_insert_with(|| "".into());
        }
        if let Some(series) = object.get_mut("series").and_then(Value::as_object_mut)
            && series.get("count").is_some_and(|v| v == 0)
        {
            series.remove("count");
        }
    }
}

/// The stored form's name of a selectable field.
fn stored_field(field: &str) -> &str {
    match field {
        "regarding.kind" => "involvedObject.kind",
        "regarding.namespace" => "involvedObject.namespace",
        "regarding.name" => "involvedObject.name",
        "regarding.uid" => "involvedObject.uid",
        "regarding.apiVersion" => "involvedObject.apiVersion",
        "regarding.resourceVersion" => "involvedObject.resourceVersion",
        "regarding.fieldPath" => "involvedObject.fieldPath",
        "reportingController" => "reportingComponent",
        other => other,
    }
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.into(), value);
    }
}

/// The object as it is stored; one that is in that form already stays.
fn stored_form(object: &Value) -> Cow<'_, Value> {
    let Some(map) = object.as_object() else {
        return Cow::Borrowed(object);
    };
    if map.contains_key("involvedObject") {
        return Cow::Borrowed(object);
    }
    let mut map = map.clone();
    Event.to_stored(&mut map);
    Cow::Owned(Value::Object(map))
}

fn series(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(series) = at.opt("series") else { return };
    if series.int("count") < 2 {
        errors.invalid(series.path("count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(series.path("lastObservedTime"), "");
    }
}

/// A field of the stored form as upstream's error shows it.
fn go_field(field: &str, value: &Value) -> Raw {
    match field {
        "involvedObject" | "related" => go_value::strings(value, OBJECT_REFERENCE),
        "source" => go_value::strings(value, SOURCE),
        "count" => Raw(value.as_i64().unwrap_or_default().to_string()),
        "firstTimestamp" | "lastTimestamp" | "eventTime" => go_value::list(value),
        _ => Raw(crate::field::quoted(value.as_str().unwrap_or_default())),
    }
}
