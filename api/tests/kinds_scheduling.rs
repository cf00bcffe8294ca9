//! PriorityClass and RuntimeClass: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const PRIORITY: Name = ("scheduling.k8s.io/v1", "PriorityClass");
const RUNTIME: Name = ("node.k8s.io/v1", "RuntimeClass");
const RESERVED: &str = "priority class names with 'system-' prefix are reserved for system use only. error:";

fn runtime() -> Value {
    json!({
        "metadata": {"name": "a"}, "handler": "runc",
        "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]},
    })
}

#[test]
fn names() {
    known_as(PRIORITY, false, &["pc"], &[]);
    known_as(RUNTIME, false, &[], &[]);
    assert!(resource(PRIORITY).unconditional_update());
    assert!(!resource(RUNTIME).unconditional_update());
}

#[test]
fn defaults() {
    golden(
        PRIORITY,
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a", "generation": 1}, "value": 0, "preemptionPolicy": "PreemptLowerPriority"}),
    );
    golden(
        PRIORITY,
        json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000, "preemptionPolicy": "Never"}),
        json!({
            "metadata": {"name": "system-node-critical", "generation": 1},
            "value": 2_000_001_000, "preemptionPolicy": "Never",
        }),
    );
    golden(
        RUNTIME,
        json!({"metadata": {"name": "a"}, "handler": "h"}),
        json!({"metadata": {"name": "a"}, "handler": "h"}),
    );
}

#[test]
fn invalid_priority_classes() {
    let base = json!({"metadata": {"name": "a"}, "value": 1});
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(PRIORITY, base, pointer, value, want);
    }
    check(&base, "/value", json!(1_000_000_000), &[]);
    check(
        &base,
        "/value",
        json!(1_000_000_001),
        &["value|Forbidden|Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        &base,
        "/metadata/name",
        json!("system-x"),
        &[&format!(
            "metadata.name|Forbidden|Forbidden: {RESERVED} system-x is not a known system priority class"
        )],
    );
    check(
        &base,
        "/metadata/name",
        json!("system-node-critical"),
        &[&format!(
            "metadata.name|Forbidden|Forbidden: {RESERVED} value of system-node-critical PriorityClass must be 2000001000"
        )],
    );
    let system = json!({"metadata": {"name": "system-cluster-critical"}, "value": 2_000_000_000});
    check(
        &system,
        "/globalDefault",
        json!(true),
        &[&format!(
            "metadata.name|Forbidden|Forbidden: {RESERVED} globalDefault of system-cluster-critical PriorityClass must be false"
        )],
    );
    check(
        &base,
        "/preemptionPolicy",
        json!("Always"),
        &[
            "preemptionPolicy|NotSupported|Unsupported value: \"Always\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ],
    );
    check(
        &base,
        "/preemptionPolicy",
        json!(""),
        &["preemptionPolicy|Required|Required value"],
    );
    let old = stored(PRIORITY, &base);
    refused(
        PRIORITY,
        &old,
        json!({"value": 2, "preemptionPolicy": "Never"}),
        &[
            "value|Forbidden|Forbidden: may not be changed in an update.",
            "preemptionPolicy|Invalid|Invalid value: \"Never\": field is immutable",
        ],
    );
    let new = update(
        PRIORITY,
        &old,
        json!({"description": "d", "globalDefault": true}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 1);
}

#[test]
fn invalid_runtime_classes() {
    let base = runtime();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(RUNTIME, base, pointer, value, want);
    }
    check(&base, "/handler", json!("h"), &[]);
    check(
        &base,
        "/handler",
        json!(""),
        &[&format!("handler|Invalid|Invalid value: \"\": {DNS_LABEL}")],
    );
    check(
        &base,
        "/overhead/podFixed",
        json!({"cpu": "-1"}),
        &["overhead.limits[cpu]|Invalid|Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    check(
        &base,
        "/scheduling/nodeSelector",
        json!({"-": "b"}),
        &[&format!(
            "scheduling.nodeSelector|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
    check(
        &base,
        "/scheduling/tolerations/0",
        json!({"effect": "X", "key": "a"}),
        &[
            "scheduling.tolerations[0].effect|NotSupported|Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    let old = stored(RUNTIME, &base);
    refused(
        RUNTIME,
        &old,
        json!({"handler": "kata"}),
        &["handler|Invalid|Invalid value: \"kata\": field is immutable"],
    );
    refused(RUNTIME, &old, json!({"scheduling": null, "overhead": null}), &[]);
    let mut labels = base.clone();
    labels["scheduling"]["nodeSelector"] = json!({"beta.kubernetes.io/arch": "a"});
    let warning = ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/arch\" instead"];
    warned(RUNTIME, &labels, &warning, &warning);
}

#[test]
fn shown() {
    columns(
        PRIORITY,
        json!({"metadata": aged("a"), "value": 7, "globalDefault": true}),
        &[
            "Name=a",
            "Value=7",
            "Global-Default=true",
            "Age=5m",
            "PreemptionPolicy=PreemptLowerPriority",
        ],
    );
    columns(
        RUNTIME,
        json!({"metadata": aged("a"), "handler": "runc"}),
        &["Name=a", "Handler=runc", "Age=5m"],
    );
}
