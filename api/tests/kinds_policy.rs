//! The kinds of the policy group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const BUDGET: Name = ("policy/v1", "PodDisruptionBudget");

fn budget() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}})
}

#[test]
fn names() {
    known_as(BUDGET, true, &["pdb"], &["status"]);
    let eviction = resource(("v1", "Pod")).subresource("eviction").unwrap();
    assert_eq!(
        (eviction.group, eviction.version, eviction.kind, eviction.verbs),
        ("policy", "v1", "Eviction", &["create"][..])
    );
}

#[test]
fn defaults() {
    golden(
        BUDGET,
        budget(),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
            "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
        }),
    );
}

#[test]
fn invalid_budgets() {
    let base = budget();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(BUDGET, &base, pointer, value, want);
    bad("/spec/minAvailable", json!("50%"), &[]);
    bad(
        "/spec/maxUnavailable",
        json!("1%"),
        &[
            "spec|Invalid|Invalid value: {\"MinAvailable\":1,\"Selector\":{\"matchLabels\":{\"app\":\"a\"}},\"MaxUnavailable\":\"1%\",\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
        ],
    );
    bad(
        "/spec/minAvailable",
        json!(-1),
        &["spec.minAvailable|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    bad(
        "/spec/minAvailable",
        json!("101%"),
        &["spec.minAvailable|Invalid|Invalid value: \"101%\": must not be greater than 100%"],
    );
    bad(
        "/spec/minAvailable",
        json!("many"),
        &[
            "spec.minAvailable|Invalid|Invalid value: \"many\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ],
    );
    bad(
        "/spec/unhealthyPodEvictionPolicy",
        json!("Never"),
        &[
            "spec.unhealthyPodEvictionPolicy|NotSupported|Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ],
    );
    bad(
        "/spec/selector",
        json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        &[
            "spec.selector.matchExpressions[0].operator|Invalid|Invalid value: \"Is\": not a valid selector operator",
        ],
    );
}

#[test]
fn updates() {
    let old = stored(BUDGET, &budget());
    let new = update(
        BUDGET,
        &old,
        json!({"spec": {"minAvailable": 2}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    refused(
        BUDGET,
        &old,
        json!({"metadata": {"resourceVersion": null}}),
        &["metadata.resourceVersion|Invalid|Invalid value: 0: must be specified for an update"],
    );
    refused_part(
        BUDGET,
        &old,
        json!({"status": {"disruptionsAllowed": -1, "conditions": [
            {"type": "A", "status": "Maybe", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""},
        ]}}),
        Subresource::Status,
        &[
            "status.conditions[0].status|NotSupported|Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.disruptionsAllowed|Invalid|Invalid value: -1: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn shown() {
    columns(
        BUDGET,
        json!({"metadata": aged("a"), "spec": {"maxUnavailable": "10%"}, "status": {"disruptionsAllowed": 3}}),
        &[
            "Name=a",
            "Min Available=N/A",
            "Max Unavailable=10%",
            "Allowed Disruptions=3",
            "Age=5m",
        ],
    );
}
