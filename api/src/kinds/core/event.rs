//! Event (core/v1). Source: `pkg/apis/core/validation/events.go`, `pkg/printers`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names, time};

pub struct Event;

const TYPE: &str = "core.v1.Event";
/// Bytes of `reportingInstance`, `action` and `reason` of a newer event.
const MAX_FIELD: usize = 128;
/// Bytes of the message of a newer event.
const MAX_MESSAGE: usize = 1024;

impl Kind for Event {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::path_segment
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        basics(object, "reportingComponent", errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::string("Last Seen"),
                Column::string("Type"),
                Column::string("Reason"),
                Column::string("Object"),
                Column::wide("Subobject"),
                Column::wide("Source"),
                Column::string("Message"),
                Column::wide("First Seen"),
                Column::wide("Count"),
                Column {
                    name: "Name",
                    kind: "string",
                    format: "name",
                    priority: 1,
                },
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let at = |field: &str| time::parse(text(field));
        let event_time = at("eventTime");
        let first = match at("firstTimestamp") {
            Some(first) => humanize::age(Some(first), now),
            None => humanize::age(event_time, now),
        };
        let series = &object["series"];
        let last = match time::parse(series["lastObservedTime"].as_str().unwrap_or_default())
            .or(at("lastTimestamp"))
        {
            Some(last) => humanize::age(Some(last), now),
            None => first.clone(),
        };
        let mut count = object["count"].as_i64().unwrap_or_default();
        if let Some(more) = series["count"].as_i64() {
            count = more;
        } else if count == 0 {
            count = 1;
        }
        let involved = &object["involvedObject"];
        let kind = involved["kind"].as_str().unwrap_or_default().to_lowercase();
        let name = involved["name"].as_str().unwrap_or_default();
        let target = if name.is_empty() {
            kind
        } else {
            format!("{kind}/{name}")
        };
        vec![
            last.into(),
            text("type").into(),
            text("reason").into(),
            target.into(),
            involved["fieldPath"].as_str().unwrap_or_default().into(),
            source(object).into(),
            text("message").trim().into(),
            first.into(),
            count.into(),
            meta::name(object).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        let value = match field {
            "source" => {
                let component = &object["source"]["component"];
                if component.as_str().is_none_or(str::is_empty) {
                    &object["reportingComponent"]
                } else {
                    component
                }
            }
            _ => field.split('.').fold(object, |value, part| &value[part]),
        };
        value.as_str().unwrap_or_default().into()
    }
}

/// The rules for events of every version; `controller` is what the version calls who reports. An event with a
/// time is of the newer form and must be complete.
pub(crate) fn basics(object: &Value, controller: &'static str, errors: &mut FieldErrors) {
    let at = At::root(object, TYPE);
    let involved = at.at("involvedObject");
    let (own, other) = (meta::namespace(object), involved.str("namespace"));
    let newer = at.has("eventTime");
    let fits = match (newer, other) {
        (false, "") => matches!(own, "" | "default"),
        (false, other) => own == other,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        errors.invalid(
            involved.path("namespace"),
            other,
            "does not match event.namespace",
        );
    }
    if newer {
        let reporter = at.str("reportingComponent");
        if reporter.is_empty() {
            errors.required(controller, "");
        }
        named(controller, reporter, names::qualified_name, errors);
        for field in ["reportingInstance", "action", "reason"] {
            let text = at.str(field);
            if text.is_empty() {
                errors.required(at.path(field), "");
            }
            at_most(&at, field, MAX_FIELD, errors);
        }
        at_most(&at, "message", MAX_MESSAGE, errors);
    }
    for text in names::dns_subdomain(own) {
        errors.invalid("namespace", own, &text);
    }
}

fn at_most(at: &At<'_>, field: &'static str, max: usize, errors: &mut FieldErrors) {
    if at.str(field).len() > max {
        errors.invalid(at.path(field), "", &format!("can have at most {max} characters"));
    }
}

fn source(object: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let pick = |first: &Value, second: &Value| {
        if part(first).is_empty() {
            part(second)
        } else {
            part(first)
        }
    };
    let component = pick(&object["source"]["component"], &object["reportingComponent"]);
    let host = pick(&object["source"]["host"], &object["reportingInstance"]);
    if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    }
}
