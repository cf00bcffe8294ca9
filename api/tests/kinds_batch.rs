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
        json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]});
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
