//! What `kubectl get hpa` shows. Source: `pkg/printers/internalversion`.

use jiff::Timestamp;
use serde_json::Value;

use crate::table::Column;
use crate::{humanize, meta};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Reference"),
    Column::string("Targets"),
    Column::string("MinPods"),
    Column::string("MaxPods"),
    Column::integer("Replicas"),
    Column::AGE,
];
/// Metrics beyond these are only counted.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let target = &spec["scaleTargetRef"];
    vec![
        meta::name(object).into(),
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        targets(spec, status).into(),
        spec["minReplicas"]
            .as_i64()
            .map_or_else(|| "<unset>".to_string(), |n| n.to_string())
            .into(),
        spec["maxReplicas"].as_i64().unwrap_or_default().into(),
        status["currentReplicas"].as_i64().unwrap_or_default().into(),
        humanize::age(meta::creation_timestamp(object), now).into(),
    ]
}

fn targets(spec: &Value, status: &Value) -> String {
    let metrics = spec["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    if metrics.is_empty() {
        return "<none>".into();
    }
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(idx, metric)| one(metric, &status["currentMetrics"][idx]))
        .collect();
    let text = shown.join(", ");
    match metrics.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{text} + {more} more..."),
        _ => text,
    }
}

/// `cpu: 10%/80%`: what is, and what shall be.
fn one(metric: &Value, status: &Value) -> String {
    let kind = metric["type"].as_str().unwrap_or_default();
    let (field, named) = match kind {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".into(),
    };
    let (source, current) = (&metric[field], &status[field]["current"]);
    let target = &source["target"];
    let reported = status[field].is_object();
    let amount = |at: &Value, field: &str| at[field].as_str().map(str::to_string);
    // An amount that is missing from a report reads as nothing.
    let seen = |field: &str| match amount(current, field) {
        Some(text) => text,
        None if reported => "0".into(),
        None => UNKNOWN.into(),
    };
    let share = |at: &Value| at["averageUtilization"].as_i64().map(|n| format!("{n}%"));
    if named {
        let name = source["name"].as_str().unwrap_or_default();
        return match amount(target, "averageValue") {
            Some(wanted) => format!("{name}: {}/{wanted}", seen("averageValue")),
            None => format!(
                "{name}: {}/{}",
                share(current).unwrap_or_else(|| UNKNOWN.into()),
                share(target).unwrap_or_else(|| "<auto>".into())
            ),
        };
    }
    let average = amount(target, "averageValue");
    match (field, average) {
        ("pods", wanted) => format!(
            "{}/{}",
            seen("averageValue"),
            wanted.unwrap_or_else(|| "0".into())
        ),
        (_, Some(wanted)) => format!(
            "{}/{wanted} (avg)",
            amount(current, "averageValue").unwrap_or_else(|| UNKNOWN.into())
        ),
        (_, None) => format!(
            "{}/{}",
            seen("value"),
            amount(target, "value").unwrap_or_else(|| "0".into())
        ),
    }
}
