//! The kinds of the apps group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const STATEFUL: Name = ("apps/v1", "StatefulSet");
const DAEMON: Name = ("apps/v1", "DaemonSet");
const REVISION: Name = ("apps/v1", "ControllerRevision");
const DEPLOYMENT: Name = ("apps/v1", "Deployment");

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn pod_defaults() -> Value {
    json!({
        "containers": [{
            "name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    })
}

fn stateful() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "serviceName": "s", "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        "persistentVolumeClaimRetentionPolicy": {}, "updateStrategy": {"rollingUpdate": {}}, "ordinals": {},
    }})
}

fn daemon() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}}, "template": template(), "updateStrategy": {"rollingUpdate": {}},
    }})
}

#[test]
fn names() {
    known_as(STATEFUL, true, &["sts"], &["scale", "status"]);
    known_as(DAEMON, true, &["ds"], &["status"]);
    known_as(REVISION, true, &[], &[]);
}

#[test]
fn defaults() {
    golden(
        STATEFUL,
        json!({"metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}}, "template": template(),
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }}],
        }}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "podManagementPolicy": "OrderedReady",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"app": "a"}},
                "serviceName": "",
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod_defaults()},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
                "volumeClaimTemplates": [{
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                        "volumeMode": "Filesystem",
                    },
                    "status": {"phase": "Pending"},
                }],
            },
            "status": {"replicas": 0, "availableReplicas": 0},
        }),
    );
    golden(
        DAEMON,
        json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}}),
        json!({
            "metadata": {
                "name": "a", "generation": 1, "annotations": {"deprecated.daemonset.template.generation": "1"},
            },
            "spec": {
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod_defaults()},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            },
            "status": {
                "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
            },
        }),
    );
    golden(
        REVISION,
        json!({"metadata": {"name": "a"}, "data": {"spec": {"x": 1}}, "revision": 2}),
        json!({"metadata": {"name": "a"}, "data": {"spec": {"x": 1}}, "revision": 2}),
    );
}

#[test]
fn invalid_stateful_sets() {
    let base = stateful();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(STATEFUL, &base, pointer, value, want);
    bad("/spec/replicas", json!(2), &[]);
    bad(
        "/metadata/name",
        json!("a.b"),
        &["metadata.name|Invalid|Invalid value: \"a.b\": must not contain dots"],
    );
    bad(
        "/spec/podManagementPolicy",
        json!("Wild"),
        &["spec.podManagementPolicy|Invalid|Invalid value: \"Wild\": must be 'OrderedReady' or 'Parallel'"],
    );
    bad(
        "/spec/updateStrategy",
        json!({"type": "Slow"}),
        &[
            "spec.updateStrategy|Invalid|Invalid value: {\"Type\":\"Slow\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
        ],
    );
    bad(
        "/spec/updateStrategy",
        json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
        &[
            "spec.updateStrategy.rollingUpdate|Invalid|Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'",
        ],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"partition": -1}),
        &[&format!(
            "spec.updateStrategy.rollingUpdate.partition|Invalid|Invalid value: -1: {NOT_NEGATIVE}"
        )],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxUnavailable": 0}),
        &["spec.updateStrategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: 0: cannot be 0"],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxUnavailable": "150%"}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: \"150%\": must not be greater than 100%",
        ],
    );
    bad(
        "/spec/persistentVolumeClaimRetentionPolicy/whenScaled",
        json!("Keep"),
        &[
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled|NotSupported|Unsupported value: \"Keep\": supported values: \"Retain\", \"Delete\"",
        ],
    );
    for field in ["replicas", "minReadySeconds"] {
        bad(
            &format!("/spec/{field}"),
            json!(-2),
            &[&format!("spec.{field}|Invalid|Invalid value: -2: {NOT_NEGATIVE}")],
        );
    }
    bad(
        "/spec/ordinals/start",
        json!(-1),
        &[&format!(
            "spec.ordinals.start|Invalid|Invalid value: -1: {NOT_NEGATIVE}"
        )],
    );
    bad(
        "/spec/selector",
        Value::Null,
        &[
            "spec.selector|Required|Required value",
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    bad(
        "/spec/selector",
        json!({}),
        &["spec.selector|Invalid|Invalid value: {}: empty selector is invalid for statefulset"],
    );
    bad(
        "/spec/template/metadata",
        json!({}),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: null: `selector` does not match template `labels`",
        ],
    );
    bad(
        "/spec/template/spec/restartPolicy",
        json!("Never"),
        &[
            "spec.template.spec.restartPolicy|NotSupported|Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    bad(
        "/spec/template/spec/activeDeadlineSeconds",
        json!(5),
        &[
            "spec.template.spec.activeDeadlineSeconds|Forbidden|Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ],
    );
    bad(
        "/spec/serviceName",
        json!("A"),
        &[&format!(
            "spec.serviceName|Invalid|Invalid value: \"A\": {DNS_LABEL}"
        )],
    );
    bad(
        "/spec/volumeClaimTemplates",
        json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]),
        &[
            "spec.volumeClaimTemplates[0].spec.accessModes|Required|Required value: at least 1 access mode is required",
        ],
    );
    // A mount may name a claim's template, and nothing else that is not a volume.
    let mut mounted = stateful();
    mounted["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mounts = "/spec/template/spec/containers/0/volumeMounts";
    invalid(
        STATEFUL,
        &mounted,
        mounts,
        json!([{"name": "data", "mountPath": "/d"}]),
        &[],
    );
    invalid(
        STATEFUL,
        &mounted,
        mounts,
        json!([{"name": "other", "mountPath": "/d"}]),
        &["spec.template.spec.containers[0].volumeMounts[0].name|NotFound|Not found: \"other\""],
    );
}

#[test]
fn invalid_daemon_sets_and_revisions() {
    let base = daemon();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(DAEMON, &base, pointer, value, want);
    bad(
        "/spec/selector",
        json!({}),
        &["spec.selector|Invalid|Invalid value: {}: empty selector is invalid for daemonset"],
    );
    bad(
        "/spec/selector/matchLabels/app",
        json!("b"),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    bad(
        "/spec/selector/matchLabels",
        json!({"app": "not ok"}),
        &[
            "spec.selector.matchLabels|Invalid|Invalid value: \"not ok\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    bad(
        "/spec/updateStrategy",
        json!({"type": "Slow"}),
        &[
            "spec.updateStrategy|NotSupported|Unsupported value: {\"Type\":\"Slow\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"",
        ],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxSurge": 1}),
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge|Invalid|Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxUnavailable": 0}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable|Required|Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxUnavailable": "x"}),
        &[
            &format!(
                "spec.updateStrategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: \"x\": {PERCENT}"
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable|Required|Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    bad(
        "/spec/updateStrategy/rollingUpdate",
        json!({"maxUnavailable": "101%"}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    for field in ["minReadySeconds", "revisionHistoryLimit"] {
        bad(
            &format!("/spec/{field}"),
            json!(-1),
            &[&format!("spec.{field}|Invalid|Invalid value: -1: {NOT_NEGATIVE}")],
        );
    }
    bad(
        "/spec/template/spec/restartPolicy",
        json!("OnFailure"),
        &[
            "spec.template.spec.restartPolicy|NotSupported|Unsupported value: \"OnFailure\": supported values: \"Always\"",
        ],
    );
    bad(
        "/spec/template/spec/activeDeadlineSeconds",
        json!(1),
        &[
            "spec.template.spec.activeDeadlineSeconds|Forbidden|Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
        ],
    );
    let revision = json!({"metadata": {"name": "a"}, "data": {}, "revision": 1});
    invalid(
        REVISION,
        &revision,
        "/data",
        Value::Null,
        &["data|Required|Required value: data is mandatory"],
    );
    invalid(
        REVISION,
        &revision,
        "/revision",
        json!(-1),
        &[&format!("revision|Invalid|Invalid value: -1: {NOT_NEGATIVE}")],
    );
}

#[test]
fn updates() {
    let old = stored(STATEFUL, &stateful());
    refused(
        STATEFUL,
        &old,
        json!({"spec": {"replicas": 3, "revisionHistoryLimit": 2, "minReadySeconds": 5}}),
        &[],
    );
    refused(
        STATEFUL,
        &old,
        json!({"spec": {"serviceName": "other"}}),
        &[
            "spec|Forbidden|Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    let status = |patch: Value, want: &[&str]| {
        refused_part(
            STATEFUL,
            &old,
            json!({"status": patch}),
            Subresource::Status,
            want,
        );
    };
    status(json!({"replicas": 2, "readyReplicas": 2}), &[]);
    status(
        json!({"replicas": 1, "currentReplicas": 2, "availableReplicas": 1}),
        &[
            "status.currentReplicas|Invalid|Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas|Invalid|Invalid value: 1: cannot be greater than status.readyReplicas",
        ],
    );
    let old = stored(DAEMON, &daemon());
    refused(
        DAEMON,
        &old,
        json!({"spec": {"selector": {"matchLabels": {"app": "a", "b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}}),
        &[
            "spec.selector|Invalid|Invalid value: {\"matchLabels\":{\"app\":\"a\",\"b\":\"c\"}}: field is immutable",
        ],
    );
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let new = update(DAEMON, &old, image, Subresource::Main).unwrap();
    assert_eq!(
        (
            &new["metadata"]["generation"],
            &new["metadata"]["annotations"]["deprecated.daemonset.template.generation"]
        ),
        (&json!(2), &json!("2"))
    );
    let new = update(
        DAEMON,
        &new,
        json!({"spec": {"minReadySeconds": 1}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (
            &new["metadata"]["generation"],
            &new["metadata"]["annotations"]["deprecated.daemonset.template.generation"]
        ),
        (&json!(3), &json!("2"))
    );
    refused_part(
        DAEMON,
        &old,
        json!({"status": {"numberReady": -1, "collisionCount": -1}}),
        Subresource::Status,
        &[
            "status.numberReady|Invalid|Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount|Invalid|Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount|Invalid|Invalid value: -1: cannot be decremented",
        ],
    );
    let old = stored(
        REVISION,
        &json!({"metadata": {"name": "a"}, "data": {"a": 1}, "revision": 1}),
    );
    refused(REVISION, &old, json!({"revision": 2}), &[]);
    refused(
        REVISION,
        &old,
        json!({"data": {"a": 2}}),
        &["data|Invalid|Invalid value: {\"a\":2}: field is immutable"],
    );
    // Upstream counts changed annotations of a Deployment as a new wanted state.
    let deployment = json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}});
    let old = stored(DEPLOYMENT, &deployment);
    let new = update(
        DEPLOYMENT,
        &old,
        json!({"metadata": {"annotations": {"a": "b"}}}),
        Subresource::Main,
    );
    assert_eq!(new.unwrap()["metadata"]["generation"], 2);
}

#[test]
fn shown() {
    let spec = stateful()["spec"].clone();
    columns(
        STATEFUL,
        json!({"metadata": aged("a"), "spec": spec, "status": {"readyReplicas": 1}}),
        &["Name=a", "Ready=1/1", "Age=5m", "+Containers=c", "+Images=i:1"],
    );
    let mut spec = daemon()["spec"].clone();
    spec["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    columns(
        DAEMON,
        json!({"metadata": aged("a"), "spec": spec, "status": {
            "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2,
            "numberAvailable": 1,
        }}),
        &[
            "Name=a",
            "Desired=5",
            "Current=4",
            "Ready=3",
            "Up-to-date=2",
            "Available=1",
            "Node Selector=disk=ssd",
            "Age=5m",
            "+Containers=c",
            "+Images=i:1",
            "+Selector=app=a",
        ],
    );
    let mut metadata = aged("a");
    metadata["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true}]);
    columns(
        REVISION,
        json!({"metadata": metadata, "data": {}, "revision": 4}),
        &["Name=a", "Controller=daemonset.apps/d", "Revision=4", "Age=5m"],
    );
    columns(
        REVISION,
        json!({"metadata": aged("a"), "data": {}, "revision": 4}),
        &["Name=a", "Controller=<none>", "Revision=4", "Age=5m"],
    );
}
