//! HorizontalPodAutoscaler: defaults, invalid objects, updates and columns in both versions, and the way between them.

mod common;

use common::*;
use corten_api::resource::Subresource;
use proptest::prelude::*;
use serde_json::{Value, json};

const V2: Name = ("autoscaling/v2", "HorizontalPodAutoscaler");
const V1: Name = ("autoscaling/v1", "HorizontalPodAutoscaler");

fn target() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
}

fn scaler() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target(), "behavior": {"scaleUp": {}}}})
}

fn cpu(share: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
}

#[test]
fn names() {
    known_as(V2, true, &["hpa"], &["status"]);
    known_as(V1, true, &["hpa"], &["status"]);
    let (one, two) = (resource(V1), resource(V2));
    assert_eq!(one.storage(), two.storage());
    assert!(one.converts() && !two.converts());
    let groups = corten_api::registry().groups();
    let versions = &groups
        .iter()
        .find(|(group, _)| *group == "autoscaling")
        .unwrap()
        .1;
    assert_eq!(versions[..], ["v2", "v1"]);
}

#[test]
fn defaults() {
    golden(
        V2,
        json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target()}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 5, "minReplicas": 1, "metrics": [cpu(80)], "scaleTargetRef": target()},
            "status": {"currentMetrics": null, "desiredReplicas": 0},
        }),
    );
    golden(
        V2,
        json!({"metadata": {"name": "a"}, "spec": {
            "maxReplicas": 5, "scaleTargetRef": target(), "metrics": [cpu(50)],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}},
        }}),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 5, "minReplicas": 1, "metrics": [cpu(50)], "scaleTargetRef": target(),
                "behavior": {
                    "scaleUp": {
                        "selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                        "policies": [
                            {"type": "Pods", "value": 4, "periodSeconds": 15},
                            {"type": "Percent", "value": 100, "periodSeconds": 15},
                        ],
                    },
                    "scaleDown": {
                        "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                    },
                },
            },
            "status": {"currentMetrics": null, "desiredReplicas": 0},
        }),
    );
    golden(
        V1,
        json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target()}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": target(), "targetCPUUtilizationPercentage": 80},
            "status": {"currentReplicas": 0, "desiredReplicas": 0},
        }),
    );
}

#[test]
fn invalid_bounds_and_behavior() {
    let base = scaler();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(V2, &base, pointer, value, want);
    bad(
        "/spec/minReplicas",
        json!(0),
        &[
            "spec.minReplicas|Invalid|Invalid value: 0: must be greater than or equal to 1",
            "spec.metrics|Forbidden|Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ],
    );
    bad(
        "/spec/minReplicas",
        json!(6),
        &["spec.maxReplicas|Invalid|Invalid value: 5: must be greater than or equal to `minReplicas`"],
    );
    bad(
        "/spec/maxReplicas",
        json!(0),
        &[
            "spec.maxReplicas|Invalid|Invalid value: 0: must be greater than 0",
            "spec.maxReplicas|Invalid|Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    bad(
        "/spec/scaleTargetRef",
        json!({"kind": "", "name": "a/b"}),
        &[
            "spec.scaleTargetRef.kind|Required|Required value",
            "spec.scaleTargetRef.name|Invalid|Invalid value: \"a/b\": may not contain '/'",
        ],
    );
    let up = |rules: Value, want: &[&str]| bad("/spec/behavior/scaleUp", rules, want);
    up(
        json!({"stabilizationWindowSeconds": -1}),
        &[
            "spec.behavior.scaleUp.stabilizationWindowSeconds|Invalid|Invalid value: -1: must be greater than or equal to zero",
        ],
    );
    up(
        json!({"stabilizationWindowSeconds": 3601}),
        &[
            "spec.behavior.scaleUp.stabilizationWindowSeconds|Invalid|Invalid value: 3601: must be less than or equal to 3600",
        ],
    );
    up(
        json!({"selectPolicy": "Best"}),
        &[
            "spec.behavior.scaleUp.selectPolicy|NotSupported|Unsupported value: \"Best\": supported values: \"Disabled\", \"Max\", \"Min\"",
        ],
    );
    up(
        json!({"tolerance": "-100m"}),
        &[
            "spec.behavior.scaleUp.tolerance|Invalid|Invalid value: \"-100m\": must be greater or equal to zero",
        ],
    );
    up(
        json!({"policies": [{"type": "Nodes", "value": 0, "periodSeconds": 1801}]}),
        &[
            "spec.behavior.scaleUp.policies[0].type|NotSupported|Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
            "spec.behavior.scaleUp.policies[0].value|Invalid|Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds|Invalid|Invalid value: 1801: must be less than or equal to 1800",
        ],
    );
    invalid(
        V1,
        &json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target()}}),
        "/spec/targetCPUUtilizationPercentage",
        json!(0),
        &[
            "spec.metrics[0].resource.target.averageUtilization|Invalid|Invalid value: 0: must be greater than 0",
        ],
    );
}

#[test]
fn invalid_metrics() {
    let base = scaler();
    let bad = |metric: Value, want: &[&str]| invalid(V2, &base, "/spec/metrics", json!([metric]), want);
    let types = "supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
    bad(
        json!({"type": "Magic", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
        &[
            &format!("spec.metrics[0].type|NotSupported|Unsupported value: \"Magic\": {types}"),
            &format!("spec.metrics[0].type|NotSupported|Unsupported value: \"Magic\": {types}"),
        ],
    );
    bad(
        json!({"type": "Pods"}),
        &[
            "spec.metrics[0].pods|Required|Required value: must populate information for the given metric source",
        ],
    );
    let mut both = cpu(50);
    both["pods"] = json!({"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}});
    bad(
        both,
        &["spec.metrics[0].pods|Forbidden|Forbidden: must populate the given metric source only"],
    );
    bad(
        json!({"type": "Resource", "resource": {"name": "", "target": {"type": "", "value": "1"}}}),
        &[
            "spec.metrics[0].resource.name|Required|Required value: must specify a resource name",
            "spec.metrics[0].resource.target.type|Required|Required value: must specify a metric target type",
            "spec.metrics[0].resource.target.type|Invalid|Invalid value: \"\": must be either Utilization, Value, or AverageValue",
            "spec.metrics[0].resource.target.averageUtilization|Required|Required value: must set either a target raw value or a target utilization",
        ],
    );
    bad(
        json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1, "averageValue": "0"}}}),
        &[
            "spec.metrics[0].resource.target.averageValue|Invalid|Invalid value: \"0\": must be positive",
            "spec.metrics[0].resource.target.averageValue|Forbidden|Forbidden: may not set both a target raw value and a target utilization",
        ],
    );
    bad(
        json!({"type": "ContainerResource", "containerResource": {"name": "disk", "container": "A", "target": {"type": "AverageValue", "averageValue": "1"}}}),
        &[
            "spec.metrics[0].containerResource.name|Invalid|Invalid value: \"disk\": must be a standard resource type or fully qualified",
            "spec.metrics[0].containerResource.name|Invalid|Invalid value: \"disk\": must be a standard resource for containers",
            &format!("spec.metrics[0].containerResource.container|Invalid|Invalid value: \"A\": {DNS_LABEL}"),
        ],
    );
    bad(
        json!({"type": "Pods", "pods": {"metric": {"name": ""}, "target": {"type": "Value", "value": "-1"}}}),
        &[
            "spec.metrics[0].pods.metric.name|Required|Required value: must specify a metric name",
            "spec.metrics[0].pods.target.value|Invalid|Invalid value: \"-1\": must be positive",
            "spec.metrics[0].pods.target.averageValue|Required|Required value: must specify a positive target averageValue",
        ],
    );
    bad(
        json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": ""}, "metric": {"name": "a%b"}, "target": {"type": "Value"}}}),
        &[
            "spec.metrics[0].object.describedObject.name|Required|Required value",
            "spec.metrics[0].object.metric.name|Invalid|Invalid value: \"a%b\": may not contain '%'",
            "spec.metrics[0].object.target.averageValue|Required|Required value: must set either a target value or averageValue",
        ],
    );
    bad(
        json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value"}}}),
        &[
            "spec.metrics[0].external.target.averageValue|Required|Required value: must set either a target value for metric or a per-pod target",
        ],
    );
    bad(
        json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}}}),
        &[
            "spec.metrics[0].external.target.value|Forbidden|Forbidden: may not set both a target value for metric and a per-pod target",
        ],
    );
}

#[test]
fn updates_keep_what_is_not_theirs() {
    let old = stored(V2, &scaler());
    let new = update(
        V2,
        &old,
        json!({"spec": {"maxReplicas": 9}, "status": {"desiredReplicas": 3}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (&new["spec"]["maxReplicas"], &new["status"]["desiredReplicas"]),
        (&json!(9), &json!(0))
    );
    refused_part(
        V2,
        &old,
        json!({"status": {"desiredReplicas": -1}}),
        Subresource::Status,
        &["status.desiredReplicas|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    // Through v1: the status lives partly in annotations, and a main update cannot change these either.
    let mut old = stored(V2, &scaler());
    old["status"]["conditions"] =
        json!([{"type": "AbleToScale", "status": "True", "lastTransitionTime": null}]);
    let (one, two) = (resource(V1), resource(V2));
    let mut seen = old.clone();
    one.from_stored(&mut seen);
    seen["apiVersion"] = "autoscaling/v1".into();
    let conditions = "autoscaling.alpha.kubernetes.io/conditions";
    let mut new = update(
        V1,
        &seen,
        json!({"metadata": {"annotations": {conditions: null}}, "spec": {"targetCPUUtilizationPercentage": 30}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        new["metadata"]["annotations"][conditions],
        seen["metadata"]["annotations"][conditions]
    );
    one.to_stored(&mut new);
    assert_eq!(
        (&new["spec"]["metrics"][0], &new["status"]),
        (&cpu(30), &old["status"])
    );
    assert_eq!(new["spec"]["behavior"], old["spec"]["behavior"]);
    assert_eq!(two.columns(), one.columns());
}

#[test]
fn shown() {
    let status = json!({"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "5m"}}},
    ]});
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let queue = json!({"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    let row = |metrics: Value, targets: &str| {
        columns(
            V2,
            json!({"metadata": aged("a"), "spec": {"maxReplicas": 5, "scaleTargetRef": target(), "metrics": metrics}, "status": status}),
            &[
                "Name=a",
                "Reference=Deployment/web",
                &format!("Targets={targets}"),
                "MinPods=1",
                "MaxPods=5",
                "Replicas=2",
                "Age=5m",
            ],
        );
    };
    row(json!([cpu(80)]), "cpu: 12%/80%");
    row(json!([cpu(80), memory]), "cpu: 12%/80%, memory: <unknown>/1Gi");
    row(
        json!([cpu(80), memory, queue]),
        "cpu: 12%/80%, memory: <unknown>/1Gi + 1 more...",
    );
    row(json!([queue]), "<unknown>/10 (avg)");
    columns(
        V1,
        json!({"metadata": aged("a"), "spec": {"maxReplicas": 5, "scaleTargetRef": target(), "targetCPUUtilizationPercentage": 40},
            "status": {"currentReplicas": 1, "desiredReplicas": 1, "currentCPUUtilizationPercentage": 7}}),
        &[
            "Name=a",
            "Reference=Deployment/web",
            "Targets=cpu: 7%/40%",
            "MinPods=1",
            "MaxPods=5",
            "Replicas=1",
            "Age=5m",
        ],
    );
}

#[test]
fn the_annotations_are_upstreams() {
    let mut object = stored(
        V2,
        &json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target(), "metrics": [
            cpu(50),
            {"type": "Object", "object": {
                "describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
                "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                "target": {"type": "Value", "value": "10k"},
            }},
            {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
        ]}}),
    );
    resource(V1).from_stored(&mut object);
    assert_eq!(
        object["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"],
        "[{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"Service\",\"name\":\"s\",\"apiVersion\":\"v1\"},\"metricName\":\"hits\",\"targetValue\":\"10k\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}},{\"type\":\"Pods\",\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":\"1\"}}]"
    );
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 50);
    // What a client wrote there and no type fits is dropped.
    object["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"] = "[{\"type\":7}]".into();
    object["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"] = "{\"scaleUp\":[]}".into();
    resource(V1).to_stored(&mut object);
    assert_eq!(
        (
            &object["spec"]["metrics"],
            object["spec"].get("behavior"),
            object["metadata"].get("annotations")
        ),
        (&json!([cpu(50)]), None, None)
    );
}

fn quantity() -> impl Strategy<Value = String> {
    (1u32..5000, prop::sample::select(vec!["", "m", "k", "Mi"])).prop_map(|(n, suffix)| {
        let text = format!("{n}{suffix}");
        text.parse::<corten_api::quantity::Quantity>()
            .unwrap()
            .to_string()
    })
}

fn identifier() -> impl Strategy<Value = Value> {
    ("[a-z]{1,8}", any::<bool>()).prop_map(|(name, selected)| {
        if selected {
            json!({"name": name, "selector": {"matchLabels": {"x": name}}})
        } else {
            json!({"name": name})
        }
    })
}

/// Any metric but a CPU share, with its report.
fn metric() -> impl Strategy<Value = (Value, Value)> {
    (0..5, identifier(), quantity(), any::<bool>(), 1i64..200).prop_map(|(kind, id, amount, mean, share)| {
        let value = |kind: &str, field: &str| json!({"type": kind, field: amount});
        let (kind, field, part, target, current) = match kind {
            0 => {
                let object = json!({"describedObject": {"kind": "Service", "name": "s"}, "metric": id});
                let (kind, field) = if mean {
                    ("AverageValue", "averageValue")
                } else {
                    ("Value", "value")
                };
                (
                    "Object",
                    "object",
                    object,
                    value(kind, field),
                    json!({field: amount}),
                )
            }
            1 => (
                "Pods",
                "pods",
                json!({"metric": id}),
                value("AverageValue", "averageValue"),
                json!({"averageValue": amount}),
            ),
            2 => {
                let (kind, field) = if mean {
                    ("AverageValue", "averageValue")
                } else {
                    ("Value", "value")
                };
                (
                    "External",
                    "external",
                    json!({"metric": id}),
                    value(kind, field),
                    json!({field: amount}),
                )
            }
            3 => (
                "Resource",
                "resource",
                json!({"name": "memory"}),
                if mean {
                    value("AverageValue", "averageValue")
                } else {
                    json!({"type": "Utilization", "averageUtilization": share})
                },
                json!({"averageValue": amount, "averageUtilization": share}),
            ),
            _ => (
                "ContainerResource",
                "containerResource",
                json!({"name": "cpu", "container": "c"}),
                json!({"type": "Utilization", "averageUtilization": share}),
                json!({"averageValue": amount, "averageUtilization": share}),
            ),
        };
        let mut spec = json!({"type": kind, field: part});
        let mut status = spec.clone();
        spec[field]["target"] = target;
        status[field]["current"] = current;
        (spec, status)
    })
}

proptest! {
    #[test]
    fn stored_objects_survive_the_way_through_v1(
        metrics in prop::collection::vec(metric(), 0..4),
        share in prop::option::of(1i64..100),
        behavior in any::<bool>(),
        tolerance in quantity(),
        replicas in 0i64..9,
    ) {
        let (mut wanted, reports): (Vec<Value>, Vec<Value>) = metrics.into_iter().unzip();
        if let Some(share) = share {
            wanted.insert(0, cpu(share));
        }
        let mut body = json!({"metadata": {"name": "a", "annotations": {"mine": "x"}}, "spec": {
            "maxReplicas": 10, "minReplicas": 2, "scaleTargetRef": target(), "metrics": wanted,
        }});
        if behavior {
            body["spec"]["behavior"] = json!({"scaleUp": {"tolerance": tolerance, "stabilizationWindowSeconds": 7}});
        }
        let mut object = stored(V2, &body);
        object["status"] = json!({"desiredReplicas": replicas, "currentReplicas": 3, "currentMetrics": reports,
            "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "R", "message": "m"}]});
        let object = decode(resource(V2), &object);
        let mut through = object.clone();
        resource(V1).from_stored(&mut through);
        through["apiVersion"] = "autoscaling/v1".into();
        // What v1 shows is a valid v1 object in canonical form.
        prop_assert_eq!(&decode(resource(V1), &through), &through);
        resource(V1).to_stored(&mut through);
        through["apiVersion"] = "autoscaling/v2".into();
        let through = decode(resource(V2), &through);
        if object["status"]["currentMetrics"].as_array().is_none_or(|l| l.is_empty()) {
            prop_assert!(through["status"]["currentMetrics"].is_null());
        } else {
            prop_assert_eq!(&through["status"], &object["status"]);
        }
        prop_assert_eq!(&through["spec"], &object["spec"]);
        prop_assert_eq!(&through["metadata"], &object["metadata"]);
    }
}
