//! Event (core/v1). Source: `pkg/apis/core/validation/events.go`, `pkg/printers`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, time};

pub struct Event;

impl Kind for Event {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, "core.v1.Event");
        let involved = at.at("involvedObject");
        let (own, other) = (meta::namespace(object), involved.str("namespace"));
        // Events about cluster-scoped objects live in `default` or `kube-system`.
        let fits = if other.is_empty() {
            matches!(own, "default" | "kube-system")
        } else {
            own == other
        };
        if !fits {
            errors.invalid(
                involved.path("namespace"),
                other,
                "does not match event.namespace",
            );
        }
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
                Column {
                    name: "Count",
                    kind: "integer",
                    format: "",
                    priority: 1,
                },
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
