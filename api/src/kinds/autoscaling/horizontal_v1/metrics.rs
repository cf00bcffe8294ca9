//! Metrics between their v2 form and the flat form of v1's annotations, and how these annotations are written.

use serde_json::{Map, Value, json};

use crate::schema::{decode, schema};

/// Field names in the order in which Go writes the structs of these annotations.
const ORDER: [&str; 38] = [
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "target",
    "kind",
    "name",
    "apiVersion",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "metricName",
    "metricSelector",
    "targetValue",
    "currentValue",
    "targetAverageValue",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "tolerance",
    "value",
    "periodSeconds",
];

/// An annotation's text, with the fields in Go's order.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, false, &mut out);
    out
}

fn write(value: &Value, plain_map: bool, out: &mut String) {
    match value {
        Value::Array(list) => {
            out.push('[');
            for (idx, item) in list.iter().enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                write(item, false, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            if !plain_map {
                fields.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name));
            }
            out.push('{');
            for (idx, (name, value)) in fields.into_iter().enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, name == "matchLabels", out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Reads a part of an object by the type it belongs to; `null` when it does not fit.
pub fn conformed(type_name: &str, field: &str, value: Value) -> Value {
    let Some(entry) = schema().find(type_name) else {
        return Value::Null;
    };
    match decode::read(entry, json!({field: value}).to_string().as_bytes()) {
        Ok(mut read) if read.wrong.is_none() => read.value[field].take(),
        _ => Value::Null,
    }
}

/// The share of a CPU metric that v1 has a field for.
pub fn cpu_share(metric: &Value) -> Option<i64> {
    share(metric, "target")
}

/// The same of a report.
pub fn current_cpu_share(metric: &Value) -> Option<i64> {
    share(metric, "current")
}

fn share(metric: &Value, field: &str) -> Option<i64> {
    let resource = &metric["resource"];
    if metric["type"] != "Resource" || resource["name"] != "cpu" {
        return None;
    }
    resource[field]["averageUtilization"].as_i64()
}

/// Copies fields under other names; absent ones stay absent.
fn copy(to: &mut Map<String, Value>, from: &Value, fields: &[(&str, &str)]) {
    for (there, here) in fields {
        if let Some(value) = from.get(*here).filter(|v| !v.is_null()) {
            to.insert((*there).into(), value.clone());
        }
    }
}

fn picked(from: &Value, fields: &[(&str, &str)]) -> Map<String, Value> {
    let mut out = Map::new();
    copy(&mut out, from, fields);
    out
}

/// `0` where Go's struct has a plain quantity.
fn at_least_zero(object: &mut Map<String, Value>, field: &str) {
    object.entry(field).or_insert_with(|| "0".into());
}

/// A quantity that is plain in Go and so reads `0` when it was never set.
fn set(from: &Value, field: &str) -> Option<Value> {
    from.get(field).filter(|v| !v.is_null() && **v != "0").cloned()
}

const RESOURCE: [&str; 2] = ["resource", "containerResource"];

/// From v2's form of a wanted metric to v1's.
pub fn spec_to_v1(metric: &Value) -> Value {
    to_v1(metric, "target")
}

/// From v2's form of a report to v1's.
pub fn status_to_v1(metric: &Value) -> Value {
    to_v1(metric, "current")
}

/// `amounts` is v2's field, and how v1's fields begin: `target` or `current`.
fn to_v1(metric: &Value, amounts: &str) -> Value {
    let (value, average, utilization) = (
        format!("{amounts}Value"),
        format!("{amounts}AverageValue"),
        format!("{amounts}AverageUtilization"),
    );
    let wanted = amounts == "target";
    let mut out = picked(metric, &[("type", "type")]);
    if let Some(object) = metric.get("object") {
        let mut flat = picked(object, &[("target", "describedObject")]);
        copy(
            &mut flat,
            &object["metric"],
            &[("metricName", "name"), ("selector", "selector")],
        );
        copy(
            &mut flat,
            &object[amounts],
            &[(value.as_str(), "value"), ("averageValue", "averageValue")],
        );
        at_least_zero(&mut flat, &value);
        out.insert("object".into(), Value::Object(flat));
    }
    if let Some(pods) = metric.get("pods") {
        let mut flat = picked(
            &pods["metric"],
            &[("metricName", "name"), ("selector", "selector")],
        );
        copy(&mut flat, &pods[amounts], &[(average.as_str(), "averageValue")]);
        at_least_zero(&mut flat, &average);
        out.insert("pods".into(), Value::Object(flat));
    }
    for field in RESOURCE {
        let Some(resource) = metric.get(field) else {
            continue;
        };
        let mut flat = picked(resource, &[("name", "name"), ("container", "container")]);
        copy(
            &mut flat,
            &resource[amounts],
            &[
                (utilization.as_str(), "averageUtilization"),
                (average.as_str(), "averageValue"),
            ],
        );
        if !wanted {
            at_least_zero(&mut flat, &average);
        }
        out.insert(field.into(), Value::Object(flat));
    }
    if let Some(external) = metric.get("external") {
        let mut flat = picked(
            &external["metric"],
            &[("metricName", "name"), ("metricSelector", "selector")],
        );
        copy(
            &mut flat,
            &external[amounts],
            &[(value.as_str(), "value"), (average.as_str(), "averageValue")],
        );
        if !wanted {
            at_least_zero(&mut flat, &value);
        }
        out.insert("external".into(), Value::Object(flat));
    }
    Value::Object(out)
}

/// From v1's form of a wanted metric to v2's.
pub fn spec_from_v1(metric: &Value) -> Value {
    from_v1(metric, "target")
}

/// From v1's form of a report to v2's.
pub fn status_from_v1(metric: &Value) -> Value {
    from_v1(metric, "current")
}

fn from_v1(metric: &Value, amounts: &str) -> Value {
    let (value, average, utilization) = (
        format!("{amounts}Value"),
        format!("{amounts}AverageValue"),
        format!("{amounts}AverageUtilization"),
    );
    let wanted = amounts == "target";
    let amount = |share: Option<Value>, whole: Option<Value>, mean: Option<Value>| {
        let mut out = Map::new();
        if wanted {
            let kind = match (&share, &whole, &mean) {
                (Some(_), _, _) => "Utilization",
                (None, Some(_), None) => "Value",
                _ => "AverageValue",
            };
            out.insert("type".into(), kind.into());
        }
        for (name, part) in [
            ("averageUtilization", share),
            ("value", whole),
            ("averageValue", mean),
        ] {
            if let Some(part) = part {
                out.insert(name.into(), part);
            }
        }
        Value::Object(out)
    };
    let mut out = picked(metric, &[("type", "type")]);
    if let Some(object) = metric.get("object") {
        let mean = object.get("averageValue").filter(|v| !v.is_null()).cloned();
        let whole = match mean {
            Some(_) => set(object, &value),
            None => object.get(&value).cloned(),
        };
        out.insert(
            "object".into(),
            json!({
                "describedObject": object["target"],
                "metric": picked(object, &[("name", "metricName"), ("selector", "selector")]),
                (amounts): amount(None, whole, mean),
            }),
        );
    }
    if let Some(pods) = metric.get("pods") {
        out.insert(
            "pods".into(),
            json!({
                "metric": picked(pods, &[("name", "metricName"), ("selector", "selector")]),
                (amounts): amount(None, None, pods.get(&average).cloned()),
            }),
        );
    }
    for field in RESOURCE {
        let Some(resource) = metric.get(field) else {
            continue;
        };
        let share = resource.get(&utilization).filter(|v| !v.is_null()).cloned();
        let mean = match share {
            Some(_) if !wanted => set(resource, &average),
            _ => resource.get(&average).cloned(),
        };
        let mut deep = picked(resource, &[("name", "name"), ("container", "container")]);
        deep.insert(amounts.into(), amount(share, None, mean));
        out.insert(field.into(), Value::Object(deep));
    }
    if let Some(external) = metric.get("external") {
        let mean = external.get(&average).filter(|v| !v.is_null()).cloned();
        let whole = match mean {
            Some(_) if !wanted => set(external, &value),
            _ => external.get(&value).filter(|v| !v.is_null()).cloned(),
        };
        out.insert(
            "external".into(),
            json!({
                "metric": picked(external, &[("name", "metricName"), ("selector", "metricSelector")]),
                (amounts): amount(None, whole, mean),
            }),
        );
    }
    Value::Object(out)
}
