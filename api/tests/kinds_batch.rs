//! The kinds of the batch group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const JOB: Name = ("batch/v1", "Job");
const CRON: Name = ("batch/v1", "CronJob");

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

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

fn cron_job() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job()["spec"]}}})
}

fn pod_defaults() -> Value {
    json!({
        "containers": [{
            "name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Never",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    })
}

#[test]
fn names() {
    known_as(JOB, true, &[], &["status"]);
    known_as(CRON, true, &["cj"], &["status"]);
}

#[test]
fn defaults() {
    let labels = json!({
        "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "a", "controller-uid": "u", "job-name": "a",
    });
    golden(
        JOB,
        job(),
        json!({
            "metadata": {"name": "a", "generation": 1, "labels": labels},
            "spec": {
                "backoffLimit": 6,
                "completionMode": "NonIndexed",
                "completions": 1,
                "parallelism": 1,
                "podReplacementPolicy": "TerminatingOrFailed",
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                "suspend": false,
                "template": {"metadata": {"labels": labels}, "spec": pod_defaults()},
            },
            "status": {},
        }),
    );
    golden(
        CRON,
        cron_job(),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "concurrencyPolicy": "Allow",
                "failedJobsHistoryLimit": 1,
                "jobTemplate": {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": pod_defaults()}}},
                "schedule": "*/5 * * * *",
                "successfulJobsHistoryLimit": 3,
                "suspend": false,
            },
            "status": {},
        }),
    );
    // A manual selector stays as it is, and the Job is labelled like its Pods.
    let mut manual = job();
    manual["spec"]["manualSelector"] = true.into();
    manual["spec"]["selector"] = json!({"matchLabels": {"x": "y"}});
    manual["spec"]["template"]["metadata"]["labels"] = json!({"x": "y"});
    let made = stored(JOB, &manual);
    assert_eq!(
        (&made["spec"]["selector"], &made["metadata"]["labels"]),
        (&json!({"matchLabels": {"x": "y"}}), &json!({"x": "y"}))
    );
    let mut per_index = indexed();
    per_index["spec"]["backoffLimitPerIndex"] = 1.into();
    per_index["spec"]["podFailurePolicy"] =
        with_policy(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}));
    let made = stored(JOB, &per_index);
    assert_eq!(
        (
            &made["spec"]["backoffLimit"],
            &made["spec"]["podReplacementPolicy"],
            &made["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"]
        ),
        (&json!(i32::MAX), &json!("Failed"), &json!("True"))
    );
}

#[test]
fn invalid_jobs() {
    let base = job();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(JOB, &base, pointer, value, want);
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        bad(
            &format!("/spec/{field}"),
            json!(-1),
            &[&format!("spec.{field}|Invalid|Invalid value: -1: {NOT_NEGATIVE}")],
        );
    }
    bad(
        "/spec/completionMode",
        json!("Sometimes"),
        &[
            "spec.completionMode|NotSupported|Unsupported value: \"Sometimes\": supported values: \"NonIndexed\", \"Indexed\"",
        ],
    );
    bad(
        "/spec/backoffLimitPerIndex",
        json!(1),
        &["spec.backoffLimitPerIndex|Invalid|Invalid value: 1: requires indexed completion mode"],
    );
    bad(
        "/spec/maxFailedIndexes",
        json!(1),
        &[
            "spec.backoffLimitPerIndex|Required|Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes|Invalid|Invalid value: 1: requires indexed completion mode",
        ],
    );
    bad(
        "/spec/managedBy",
        json!("me"),
        &[
            "spec.managedBy|Invalid|Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    bad(
        "/spec/managedBy",
        json!(format!("a.io/{}", "x".repeat(60))),
        &["spec.managedBy|TooLong|Too long: may not be more than 63 bytes"],
    );
    bad(
        "/spec/successPolicy",
        json!({"rules": [{"succeededCount": 1}]}),
        &[
            "spec.successPolicy|Invalid|Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":1}]}: requires indexed completion mode",
        ],
    );
    bad(
        "/spec/podReplacementPolicy",
        json!("Never"),
        &[
            "spec.podReplacementPolicy|NotSupported|Unsupported value: \"Never\": supported values: \"Failed\", \"TerminatingOrFailed\"",
        ],
    );
    bad(
        "/spec/template/spec/restartPolicy",
        json!("Always"),
        &["spec.template.spec.restartPolicy|Required|Required value: valid values: \"OnFailure\", \"Never\""],
    );
    bad(
        "/spec/template/spec/containers",
        json!([]),
        &["spec.template.spec.containers|Required|Required value"],
    );
    bad(
        "/spec/manualSelector",
        json!(true),
        &[
            "spec.selector|Required|Required value",
            "spec.template.metadata.labels|Invalid|Invalid value: null: `selector` does not match template `labels`",
        ],
    );
    bad(
        "/spec/template/metadata/labels",
        json!({"job-name": "b"}),
        &[
            "spec.template.metadata.labels[job-name]|Invalid|Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"controller-uid\":\"u\",\"job-name\":\"b\"}: must be 'a'",
            "spec.template.metadata.labels[batch.kubernetes.io/job-name]|Required|Required value: must be 'a'",
        ],
    );
    bad(
        "/spec/selector",
        json!({"matchLabels": {"x": "y"}}),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"u\",\"job-name\":\"a\"}: `selector` does not match template `labels`",
            "spec.selector|Invalid|Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"u\",\"x\":\"y\"}}: `selector` not auto-generated",
        ],
    );
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
fn invalid_cron_jobs() {
    let base = cron_job();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(CRON, &base, pointer, value, want);
    bad(
        "/spec/schedule",
        json!(""),
        &["spec.schedule|Required|Required value"],
    );
    bad(
        "/spec/schedule",
        json!("* * * *"),
        &["spec.schedule|Invalid|Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]"],
    );
    bad(
        "/spec/schedule",
        json!("a * * * *"),
        &[
            "spec.schedule|Invalid|Invalid value: \"a * * * *\": failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
        ],
    );
    bad(
        "/spec/schedule",
        json!("TZ=UTC 0 * * * *"),
        &[
            "spec.schedule|Invalid|Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ],
    );
    bad("/spec/timeZone", json!("America/New_York"), &[]);
    bad(
        "/spec/timeZone",
        json!(""),
        &["spec.timeZone|Invalid|Invalid value: \"\": timeZone must be nil or non-empty string"],
    );
    bad(
        "/spec/timeZone",
        json!("Local"),
        &[
            "spec.timeZone|Invalid|Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ],
    );
    bad(
        "/spec/timeZone",
        json!("Moon/Base"),
        &["spec.timeZone|Invalid|Invalid value: \"Moon/Base\": unknown time zone Moon/Base"],
    );
    bad(
        "/spec/timeZone",
        json!("america/new_york"),
        &["spec.timeZone|Invalid|Invalid value: \"america/new_york\": unknown time zone america/new_york"],
    );
    bad(
        "/spec/timeZone",
        json!("../etc/passwd"),
        &["spec.timeZone|Invalid|Invalid value: \"../etc/passwd\": unknown time zone ../etc/passwd"],
    );
    bad(
        "/spec/concurrencyPolicy",
        json!("Queue"),
        &[
            "spec.concurrencyPolicy|NotSupported|Unsupported value: \"Queue\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ],
    );
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        bad(
            &format!("/spec/{field}"),
            json!(-1),
            &[&format!("spec.{field}|Invalid|Invalid value: -1: {NOT_NEGATIVE}")],
        );
    }
    bad(
        "/spec/jobTemplate/spec/selector",
        json!({"matchLabels": {"a": "b"}}),
        &[
            "spec.jobTemplate.spec.selector|Invalid|Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
        ],
    );
    bad(
        "/spec/jobTemplate/spec/manualSelector",
        json!(true),
        &[
            "spec.jobTemplate.spec.manualSelector|NotSupported|Unsupported value: true: supported values: \"nil\", \"false\"",
        ],
    );
    bad(
        "/spec/jobTemplate/spec/parallelism",
        json!(-1),
        &[&format!(
            "spec.jobTemplate.spec.parallelism|Invalid|Invalid value: -1: {NOT_NEGATIVE}"
        )],
    );
    let long = "a".repeat(53);
    bad(
        "/metadata/name",
        json!(long),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"{long}\": must be no more than 52 characters"
        )],
    );
}

#[test]
fn job_updates() {
    let old = stored(JOB, &job());
    refused(
        JOB,
        &old,
        json!({"spec": {"parallelism": 3, "suspend": true}}),
        &[],
    );
    for (field, value) in [
        ("completions", json!(2)),
        ("completionMode", json!("Indexed")),
        ("managedBy", json!("a.io/b")),
    ] {
        refused(
            JOB,
            &old,
            json!({"spec": {field: value}}),
            &[&format!(
                "spec.{field}|Invalid|Invalid value: {value}: field is immutable"
            )],
        );
    }
    refused(
        JOB,
        &old,
        json!({"spec": {"completions": null}}),
        &["spec.completions|Invalid|Invalid value: \"null\": field is immutable"],
    );
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let found = update(JOB, &old, image, Subresource::Main).map_or_else(causes, |_| Vec::new());
    assert!(
        found.len() == 1
            && found[0].starts_with("spec.template|Invalid|Invalid value: {")
            && found[0].ends_with(": field is immutable"),
        "{found:?}"
    );
    // A suspended Job may still be told where to run.
    let mut paused = job();
    paused["spec"]["suspend"] = true.into();
    let old = stored(JOB, &paused);
    let place = json!({"spec": {"template": {"spec": {
        "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    }}}});
    refused(JOB, &old, place.clone(), &[]);
    let mut started = old.clone();
    started["status"]["startTime"] = "2026-01-01T00:10:00Z".into();
    assert!(update(JOB, &started, place, Subresource::Main).is_err());
    // An Indexed Job grows with its width.
    let old = stored(JOB, &indexed());
    refused(
        JOB,
        &old,
        json!({"spec": {"completions": 7, "parallelism": 7}}),
        &[],
    );
    refused(
        JOB,
        &old,
        json!({"spec": {"completions": 7}}),
        &["spec.completions|Invalid|Invalid value: 7: can only be modified in tandem with spec.parallelism"],
    );
    let mut zoned = stored(CRON, &cron_job());
    zoned["spec"]["schedule"] = "TZ=UTC 0 * * * *".into();
    refused(
        CRON,
        &zoned,
        json!({"spec": {"schedule": "TZ=UTC 1 * * * *"}}),
        &[],
    );
    refused(
        CRON,
        &zoned,
        json!({"spec": {"timeZone": "UTC"}}),
        &[
            "spec.schedule|Invalid|Invalid value: \"TZ=UTC 0 * * * *\": cannot use both timeZone field and TZ or CRON_TZ in schedule",
        ],
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

#[test]
fn warnings() {
    let mut dotted = job();
    dotted["metadata"]["name"] = "a.b".into();
    let text = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]";
    warned(JOB, &dotted, &[text], &[]);
    let mut wide = indexed();
    wide["spec"]["completions"] = 100_001.into();
    wide["spec"]["parallelism"] = 10_001.into();
    let text = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    warned(JOB, &wide, &[text], &[text]);
}

#[test]
fn shown() {
    let mut spec = job()["spec"].clone();
    spec["selector"] = json!({"matchLabels": {"a": "b"}});
    let shown = |status: Value, state: &str, completions: &str, duration: &str| {
        columns(
            JOB,
            json!({"metadata": aged("a"), "spec": spec, "status": status}),
            &[
                "Name=a",
                &format!("Status={state}"),
                &format!("Completions={completions}"),
                &format!("Duration={duration}"),
                "Age=5m",
                "+Containers=c",
                "+Images=i:1",
                "+Selector=a=b",
            ],
        );
    };
    let condition = |kind: &str| json!([{"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": null}]);
    shown(json!({}), "Running", "0/1", "");
    shown(
        json!({"startTime": "2026-01-01T00:56:00Z"}),
        "Running",
        "0/1",
        "4m",
    );
    shown(
        json!({"startTime": "2026-01-01T00:56:00Z", "completionTime": "2026-01-01T00:56:30Z", "succeeded": 1,
            "conditions": condition("Complete")}),
        "Complete",
        "1/1",
        "30s",
    );
    shown(json!({"conditions": condition("Failed")}), "Failed", "0/1", "");
    shown(
        json!({"conditions": condition("Suspended")}),
        "Suspended",
        "0/1",
        "",
    );
    shown(
        json!({"conditions": condition("FailureTarget")}),
        "FailureTarget",
        "0/1",
        "",
    );
    columns(
        CRON,
        json!({"metadata": aged("a"), "spec": cron_job()["spec"], "status": {
            "lastScheduleTime": "2026-01-01T00:59:00Z", "active": [{"name": "x"}],
        }}),
        &[
            "Name=a",
            "Schedule=*/5 * * * *",
            "Timezone=<none>",
            "Suspend=False",
            "Active=1",
            "Last Schedule=60s",
            "Age=5m",
            "+Containers=c",
            "+Images=i:1",
            "+Selector=<none>",
        ],
    );
    assert_eq!(
        resource(JOB).selectable_names(),
        ["metadata.name", "metadata.namespace", "status.successful"]
    );
}
