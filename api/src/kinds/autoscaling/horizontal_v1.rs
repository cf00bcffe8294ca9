//! HorizontalPodAutoscaler, version v1: a CPU target, and everything else in annotations.
//! Source: `pkg/apis/autoscaling/v1`, `conversion.go`.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::horizontal::{self, HorizontalPodAutoscaler as Stored};
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default};
use crate::resource::{Kind, keep};
use crate::table::Column;

mod metrics;

pub struct HorizontalPodAutoscaler;

/// Annotations that carry what v1 has no field for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// What is read from annotations must fit these types.
const SPEC: &str = "autoscaling.v2.HorizontalPodAutoscalerSpec";
const STATUS: &str = "autoscaling.v2.HorizontalPodAutoscalerStatus";
/// Longer annotations are not read; all annotations of an object together may not be longer.
const MAX_ANNOTATION: usize = crate::kinds::common::metadata::MAX_ANNOTATIONS;

impl Kind for HorizontalPodAutoscaler {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        default(child_or_new(object, "spec"), "minReplicas", 1);
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert(
            "status".into(),
            json!({"currentReplicas": 0, "desiredReplicas": 0}),
        );
        // Annotations about the status count as status.
        if let Some(annotations) = child(child_or_new(object, "metadata"), "annotations") {
            annotations.remove(CURRENT_METRICS);
            annotations.remove(CONDITIONS);
        }
        self.settle(object);
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        self.take_over(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        self.take_over(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        Stored.validate(&stored(object), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        Stored.validate_status_update(&stored(new), &stored(old), errors);
    }

    fn columns(&self) -> &'static [Column] {
        Stored.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Stored.cells(&stored(object), now)
    }

    fn converts(&self) -> bool {
        true
    }

    fn from_stored(&self, object: &mut Map<String, Value>) {
        let status = object.remove("status").unwrap_or_default();
        let mut spec = object.remove("spec").unwrap_or_default();
        let all = spec["metrics"].as_array().cloned().unwrap_or_default();
        let cpu = all.iter().find_map(metrics::cpu_share);
        let others: Vec<Value> = all
            .iter()
            .filter(|m| metrics::cpu_share(m).is_none())
            .map(metrics::spec_to_v1)
            .collect();
        let current = status["currentMetrics"].as_array().cloned().unwrap_or_default();
        let used = current.iter().find_map(metrics::current_cpu_share);
        let current: Vec<Value> = current.iter().map(metrics::status_to_v1).collect();
        let annotations = [
            (METRICS, Value::Array(others)),
            (CURRENT_METRICS, Value::Array(current)),
            (BEHAVIOR, spec["behavior"].take()),
            (CONDITIONS, status["conditions"].clone()),
        ];
        set_annotations(object, annotations);
        let mut out = Map::new();
        for field in ["maxReplicas", "minReplicas", "scaleTargetRef"] {
            if let Some(value) = spec.get_mut(field) {
                out.insert(field.into(), value.take());
            }
        }
        if let Some(share) = cpu {
            out.insert("targetCPUUtilizationPercentage".into(), share.into());
        }
        object.insert("spec".into(), Value::Object(out));
        let number = |field: &str| status[field].as_i64().unwrap_or_default();
        let mut out = json!({
            "currentReplicas": number("currentReplicas"),
            "desiredReplicas": number("desiredReplicas"),
        });
        for field in ["observedGeneration", "lastScaleTime"] {
            if let Some(value) = status.get(field) {
                out[field] = value.clone();
            }
        }
        if let Some(share) = used {
            out["currentCPUUtilizationPercentage"] = share.into();
        }
        object.insert("status".into(), out);
    }

    fn to_stored(&self, object: &mut Map<String, Value>) {
        let [others, current, behavior, conditions] = take_annotations(object);
        let spec = child_or_new(object, "spec");
        let mut all = Vec::new();
        if let Some(share) = spec.remove("targetCPUUtilizationPercentage") {
            all.push(json!({"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": share},
            }}));
        }
        let others: Vec<Value> = list(&others).map(metrics::spec_from_v1).collect();
        if let Value::Array(others) = metrics::conformed(SPEC, "metrics", others.into()) {
            all.extend(others);
        }
        if !all.is_empty() {
            spec.insert("metrics".into(), Value::Array(all));
        }
        let behavior = metrics::conformed(SPEC, "behavior", behavior);
        if behavior.is_object() {
            spec.insert("behavior".into(), behavior);
        }
        let status = child_or_new(object, "status");
        let used = status.remove("currentCPUUtilizationPercentage");
        let current: Vec<Value> = list(&current).map(metrics::status_from_v1).collect();
        let mut current = metrics::conformed(STATUS, "currentMetrics", current.into());
        if list(&current).next().is_none() {
            current = match used {
                Some(share) => json!([{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": share},
                }}]),
                None => Value::Null,
            };
        }
        status.insert("currentMetrics".into(), current);
        let conditions = metrics::conformed(STATUS, "conditions", conditions);
        if conditions.is_array() {
            status.insert("conditions".into(), conditions);
        }
        if status.get("currentReplicas") == Some(&json!(0)) {
            status.remove("currentReplicas");
        }
        horizontal::set_defaults(object);
    }
}

impl HorizontalPodAutoscaler {
    /// Brings the object into the form in which it will be read back, with the defaults of the stored one.
    fn settle(&self, object: &mut Map<String, Value>) {
        self.to_stored(object);
        self.from_stored(object);
    }

    /// Keeps `part` of the old object, together with the annotations that carry the rest of that part.
    fn take_over(&self, new: &mut Map<String, Value>, old: &Map<String, Value>, part: &str) {
        let mut old = old.clone();
        self.to_stored(&mut old);
        self.to_stored(new);
        keep(new, &old, part);
        self.from_stored(new);
    }
}

/// The stored form of an object that may already have it.
fn stored(object: &Value) -> Cow<'_, Value> {
    if object["spec"].get("metrics").is_some() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        HorizontalPodAutoscaler.to_stored(map);
    }
    Cow::Owned(object)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Replaces the carrying annotations; what is empty gets none.
fn set_annotations(object: &mut Map<String, Value>, values: [(&str, Value); 4]) {
    let metadata = child_or_new(object, "metadata");
    let annotations = child_or_new(metadata, "annotations");
    for (name, value) in values {
        annotations.remove(name);
        let empty = match &value {
            Value::Array(list) => list.is_empty(),
            value => value.is_null(),
        };
        if !empty {
            annotations.insert(name.into(), metrics::text(&value).into());
        }
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// Removes the carrying annotations; what cannot be read is dropped, as upstream does.
fn take_annotations(object: &mut Map<String, Value>) -> [Value; 4] {
    let metadata = child_or_new(object, "metadata");
    let Some(annotations) = child(metadata, "annotations") else {
        return Default::default();
    };
    let values = [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS].map(|name| {
        let text = annotations.remove(name);
        let text = text.as_ref().and_then(Value::as_str).unwrap_or_default();
        if text.len() > MAX_ANNOTATION {
            return Value::Null;
        }
        serde_json::from_str(text).unwrap_or_default()
    });
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    values
}
