//! Jobs in detail: failure and success policies, indexes, and what a status may say.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const JOB: Name = ("batch/v1", "Job");

fn job() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "template": {"metadata": {"labels": {}}, "spec": {"containers": [{"name": "c", "image": "i:1"}], "restartPolicy": "Never"}},
    }})
}

fn indexed() -> Value {
    let mut job = job();
    job["spec"]["completionMode"] = "Indexed".into();
    job["spec"]["completions"] = 5.into();
    job
}

fn with_policy(rule: Value) -> Value {
    json!({"rules": [rule]})
}

#[test]
fn invalid_failure_policies() {
    let base = job();
    let bad = |rule: Value, want: &[&str]| {
        invalid(JOB, &base, "/spec/podFailurePolicy", with_policy(rule), want);
    };
    let codes = |codes: Value| json!({"action": "FailJob", "onExitCodes": codes});
    bad(codes(json!({"operator": "In", "values": [1, 2]})), &[]);
    bad(
        json!({"action": "", "onExitCodes": {"operator": "In", "values": [1]}}),
        &[
            "spec.podFailurePolicy.rules[0].action|Required|Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        ],
    );
    bad(
        json!({"action": "Cry", "onExitCodes": {"operator": "In", "values": [1]}}),
        &[
            "spec.podFailurePolicy.rules[0].action|NotSupported|Unsupported value: \"Cry\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
        ],
    );
    bad(
        json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}),
        &[
            "spec.podFailurePolicy.rules[0].action|Invalid|Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ],
    );
    bad(
        json!({"action": "Count"}),
        &[
            "spec.podFailurePolicy.rules[0]|Invalid|Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    bad(
        json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1]}, "onPodConditions": [{"type": "a"}]}),
        &[
            "spec.podFailurePolicy.rules[0]|Invalid|Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
        ],
    );
    bad(
        codes(json!({"operator": "", "values": [1]})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.operator|Required|Required value: valid values: [\"In\" \"NotIn\"]",
        ],
    );
    bad(
        codes(json!({"operator": "Is", "values": [1]})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.operator|NotSupported|Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
        ],
    );
    bad(
        codes(json!({"operator": "In", "values": []})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values|Invalid|Invalid value: []: at least one value is required",
        ],
    );
    bad(
        codes(json!({"operator": "In", "values": [0]})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]|Invalid|Invalid value: 0: must not be 0 for the In operator",
        ],
    );
    bad(
        codes(json!({"operator": "NotIn", "values": [1, 1]})),
        &["spec.podFailurePolicy.rules[0].onExitCodes.values[1]|Duplicate|Duplicate value: 1"],
    );
    bad(
        codes(json!({"operator": "NotIn", "values": [2, 1]})),
        &["spec.podFailurePolicy.rules[0].onExitCodes.values|Invalid|Invalid value: [2,1]: must be ordered"],
    );
    bad(
        codes(json!({"operator": "In", "values": (1..=256).collect::<Vec<i32>>()})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.values|TooMany|Too many: 256: must have at most 255 items",
        ],
    );
    bad(
        codes(json!({"operator": "In", "values": [1], "containerName": "x"})),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.containerName|Invalid|Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
        ],
    );
    bad(
        json!({"action": "Count", "onPodConditions": [{"type": "a b", "status": "Maybe"}]}),
        &[
            &format!(
                "spec.podFailurePolicy.rules[0].onPodConditions[0].type|Invalid|Invalid value: \"a b\": {QUALIFIED}"
            ),
            "spec.podFailurePolicy.rules[0].onPodConditions[0].status|NotSupported|Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
        ],
    );
    let many: Vec<Value> = (0..21)
        .map(|_| json!({"action": "Count", "onPodConditions": [{"type": "a"}]}))
        .collect();
    invalid(
        JOB,
        &base,
        "/spec/podFailurePolicy",
        json!({"rules": many}),
        &["spec.podFailurePolicy.rules|TooMany|Too many: 21: must have at most 20 items"],
    );
    let mut retried = job();
    retried["spec"]["podFailurePolicy"] = with_policy(codes(json!({"operator": "In", "values": [1]})));
    invalid(
        JOB,
        &retried,
        "/spec/template/spec/restartPolicy",
        json!("OnFailure"),
        &[
            "spec.template.spec.restartPolicy|Invalid|Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ],
    );
    invalid(
        JOB,
        &retried,
        "/spec/podReplacementPolicy",
        json!("TerminatingOrFailed"),
        &[
            "spec.podReplacementPolicy|NotSupported|Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
        ],
    );
}

#[test]
fn invalid_indexed_jobs() {
    let base = indexed();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(JOB, &base, pointer, value, want);
    let mut endless = indexed();
    endless["spec"]["parallelism"] = 2.into();
    invalid(
        JOB,
        &endless,
        "/spec/completions",
        Value::Null,
        &["spec.completions|Required|Required value: when completion mode is Indexed"],
    );
    bad(
        "/spec/parallelism",
        json!(100_001),
        &[
            "spec.parallelism|Invalid|Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
        ],
    );
    let mut per_index = indexed();
    per_index["spec"]["backoffLimitPerIndex"] = 1.into();
    invalid(
        JOB,
        &per_index,
        "/spec/maxFailedIndexes",
        json!(6),
        &["spec.maxFailedIndexes|Invalid|Invalid value: 6: must be less than or equal to completions"],
    );
    invalid(
        JOB,
        &per_index,
        "/spec/completions",
        json!(100_001),
        &[
            "spec.maxFailedIndexes|Required|Required value: must be specified when completions is above 100000",
        ],
    );
    per_index["spec"]["completions"] = 200_000.into();
    per_index["spec"]["maxFailedIndexes"] = 10_000.into();
    invalid(
        JOB,
        &per_index,
        "/spec/parallelism",
        json!(10_001),
        &[
            "spec.parallelism|Invalid|Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
        ],
    );
    invalid(
        JOB,
        &per_index,
        "/spec/maxFailedIndexes",
        json!(10_001),
        &[
            "spec.maxFailedIndexes|Invalid|Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
        ],
    );
    let success = |rules: Value, want: &[&str]| {
        invalid(JOB, &base, "/spec/successPolicy", json!({"rules": rules}), want);
    };
    success(json!([{"succeededIndexes": "0,2-4", "succeededCount": 3}]), &[]);
    success(
        json!([]),
        &[
            "spec.successPolicy.rules|Required|Required value: at least one rules must be specified when the successPolicy is specified",
        ],
    );
    success(
        json!([{}]),
        &[
            "spec.successPolicy.rules[0]|Required|Required value: at least one of succeededCount or succeededIndexes must be specified",
        ],
    );
    success(
        json!([{"succeededIndexes": "5"}]),
        &[
            "spec.successPolicy.rules[0].succeededIndexes|Invalid|Invalid value: \"5\": error parsing succeededIndexes: too large index: \"5\"",
        ],
    );
    success(
        json!([{"succeededIndexes": "3,1"}]),
        &[
            "spec.successPolicy.rules[0].succeededIndexes|Invalid|Invalid value: \"3,1\": error parsing succeededIndexes: non-increasing order, previous: 3, current: 1",
        ],
    );
    success(
        json!([{"succeededCount": 6}]),
        &[
            "spec.successPolicy.rules[0].succeededCount|Invalid|Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
        ],
    );
    success(
        json!([{"succeededIndexes": "0-1", "succeededCount": 3}]),
        &[
            "spec.successPolicy.rules[0].succeededCount|Invalid|Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
        ],
    );
    let long = "a".repeat(62);
    bad(
        "/metadata/name",
        json!(long),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"{long}\": will not able to create pod with invalid DNS label: {long}-4"
        )],
    );
}

#[test]
fn job_status() {
    let old = stored(JOB, &job());
    let check = |old: &Value, status: Value, want: &[&str]| {
        refused_part(JOB, old, json!({"status": status}), Subresource::Status, want);
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": null});
    let (start, end) = ("2026-01-01T00:10:00Z", "2026-01-01T00:20:00Z");
    check(&old, json!({"startTime": start, "active": 1, "ready": 1}), &[]);
    check(
        &old,
        json!({"startTime": start, "completionTime": end, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}),
        &[],
    );
    check(
        &old,
        json!({"active": -1}),
        &["status.active|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        &old,
        json!({"active": 1, "ready": 2}),
        &["status.ready|Invalid|Invalid value: 2: cannot set more ready pods than active"],
    );
    check(
        &old,
        json!({"uncountedTerminatedPods": {"succeeded": ["x", ""], "failed": ["x"]}}),
        &[
            "status.uncountedTerminatedPods.succeeded[1]|Invalid|Invalid value: \"\": must not be empty",
            "status.uncountedTerminatedPods.failed[0]|Duplicate|Duplicate value: \"x\"",
        ],
    );
    check(
        &old,
        json!({"startTime": start, "completionTime": end,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete"), condition("Failed"), condition("FailureTarget")]}),
        &[
            "status.conditions|Invalid|Invalid value: cannot set Complete=True and Failed=true conditions",
            "status.conditions|Invalid|Invalid value: cannot set Complete=True and FailureTarget=true conditions",
            "status.conditions|Invalid|Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
            "status.conditions|Invalid|Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ],
    );
    check(
        &old,
        json!({"startTime": start, "conditions": [condition("Failed")]}),
        &[
            "status.conditions|Invalid|Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ],
    );
    check(
        &old,
        json!({"startTime": start, "completionTime": end, "conditions": [condition("Complete")]}),
        &[
            "status.conditions|Invalid|Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ],
    );
    check(
        &old,
        json!({"completionTime": end}),
        &[&format!(
            "status.completionTime|Invalid|Invalid value: \"{end}\": cannot set completionTime when there is no Complete=True condition"
        )],
    );
    let done = [condition("SuccessCriteriaMet"), condition("Complete")];
    check(
        &old,
        json!({"conditions": done, "active": 1}),
        &[
            "status.completionTime|Required|Required value: completionTime is required for Complete jobs",
            "status.active|Invalid|Invalid value: 1: active>0 is invalid for finished job",
            "status.startTime|Required|Required value: startTime is required for finished job",
        ],
    );
    check(
        &old,
        json!({"conditions": done, "startTime": end, "completionTime": start}),
        &[&format!(
            "status.completionTime|Invalid|Invalid value: \"{start}\": completionTime cannot be set before startTime"
        )],
    );
    check(
        &old,
        json!({"completedIndexes": "0"}),
        &[
            "status.completedIndexes|Invalid|Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
        ],
    );
    check(
        &old,
        json!({"failedIndexes": "0"}),
        &[
            "status.failedIndexes|Invalid|Invalid value: \"0\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        ],
    );
    let mut per_index = indexed();
    per_index["spec"]["backoffLimitPerIndex"] = 1.into();
    check(
        &stored(JOB, &per_index),
        json!({"completedIndexes": "0-2", "failedIndexes": "2-3"}),
        &[
            "status.failedIndexes|Invalid|Invalid value: \"2-3\": failedIndexes and completedIndexes overlap at index: 2",
        ],
    );
    let mut ran = old.clone();
    ran["status"] =
        json!({"startTime": start, "completionTime": end, "succeeded": 1, "failed": 2, "conditions": done});
    check(
        &ran,
        json!({"failed": 1, "succeeded": 0}),
        &[
            "status.failed|Invalid|Invalid value: 1: cannot decrease the failed counter",
            "status.succeeded|Invalid|Invalid value: 0: cannot decrease the succeeded counter",
        ],
    );
    check(
        &ran,
        json!({"conditions": null, "completionTime": null}),
        &[
            "status.conditions|Invalid|Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions|Invalid|Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ],
    );
    check(
        &ran,
        json!({"completionTime": "2026-01-01T00:30:00Z"}),
        &[
            "status.completionTime|Invalid|Invalid value: \"2026-01-01T00:30:00Z\": completionTime cannot be mutated",
        ],
    );
}
