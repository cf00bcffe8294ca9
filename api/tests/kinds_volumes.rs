//! PersistentVolumes and their claims: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const CLAIM: Name = ("v1", "PersistentVolumeClaim");
const VOLUME: Name = ("v1", "PersistentVolume");

const MODES: &str = "\"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"";

fn claim() -> Value {
    json!({"metadata": {"name": "a", "annotations": {}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }})
}

fn volume() -> Value {
    json!({"metadata": {"name": "a", "annotations": {}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"},
    }})
}

fn csi() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "csi": {"driver": "d.io", "volumeHandle": "h"},
    }})
}

#[test]
fn names() {
    known_as(CLAIM, true, &["pvc"], &["status"]);
    known_as(VOLUME, false, &["pv"], &["status"]);
}

#[test]
fn defaults() {
    golden(
        CLAIM,
        claim(),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending"},
        }),
    );
    golden(
        VOLUME,
        volume(),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/data", "type": ""},
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"},
        }),
    );
}

#[test]
fn claims_take_their_source_under_both_names() {
    let with = |source: Value| {
        let mut body = claim();
        for (field, value) in source.as_object().unwrap() {
            body["spec"][field] = value.clone();
        }
        let spec = stored(CLAIM, &body)["spec"].clone();
        (spec["dataSource"].clone(), spec["dataSourceRef"].clone())
    };
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    let other = json!({"apiGroup": "x.io", "kind": "Backup", "name": "b"});
    assert_eq!(
        with(json!({"dataSource": snapshot})),
        (snapshot.clone(), snapshot)
    );
    assert_eq!(
        with(json!({"dataSourceRef": other})),
        (other.clone(), other.clone())
    );
    assert_eq!(with(json!({"dataSource": other})), (Value::Null, Value::Null));
    let mut far = other;
    far["namespace"] = "elsewhere".into();
    assert_eq!(with(json!({"dataSourceRef": far})), (Value::Null, Value::Null));
}

#[test]
fn invalid_claims() {
    let base = claim();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(CLAIM, &base, pointer, value, want);
    bad(
        "/spec/accessModes",
        json!([]),
        &["spec.accessModes|Required|Required value: at least 1 access mode is required"],
    );
    bad(
        "/spec/accessModes",
        json!(["WriteOnly"]),
        &[&format!(
            "spec.accessModes|NotSupported|Unsupported value: \"WriteOnly\": supported values: {MODES}"
        )],
    );
    bad(
        "/spec/accessModes",
        json!(["ReadWriteOncePod", "ReadOnlyMany"]),
        &["spec.accessModes|Forbidden|Forbidden: may not use ReadWriteOncePod with other access modes"],
    );
    bad(
        "/spec/resources/requests",
        json!({}),
        &["spec.resources[storage]|Required|Required value"],
    );
    bad(
        "/spec/resources/requests/storage",
        json!("0"),
        &["spec.resources[storage]|Invalid|Invalid value: \"0\": must be greater than zero"],
    );
    bad(
        "/spec/selector",
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        &[
            "spec.selector.matchExpressions[0].values|Required|Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ],
    );
    bad(
        "/spec/storageClassName",
        json!("A"),
        &[&format!(
            "spec.storageClassName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    bad(
        "/spec/volumeMode",
        json!("Tape"),
        &[
            "spec.volumeMode|NotSupported|Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
    bad(
        "/spec/volumeAttributesClassName",
        json!("A"),
        &[&format!(
            "spec.volumeAttributesClassName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    bad(
        "/spec/dataSourceRef",
        json!({"kind": "Pod", "name": ""}),
        &[
            "spec.dataSource.name|Required|Required value",
            "spec.dataSource|Invalid|Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            "spec.dataSourceRef.name|Required|Required value",
            "spec.dataSourceRef|Invalid|Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    );
    let mut sourced = claim();
    sourced["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "x"});
    invalid(
        CLAIM,
        &sourced,
        "/spec/dataSourceRef",
        json!({"kind": "PersistentVolumeClaim", "name": "y"}),
        &["spec|Invalid|Invalid value: {}: must match dataSourceRef"],
    );
}

#[test]
fn invalid_volumes() {
    let base = volume();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(VOLUME, &base, pointer, value, want);
    bad(
        "/spec/accessModes",
        Value::Null,
        &["spec.accessModes|Required|Required value"],
    );
    bad(
        "/spec/capacity",
        Value::Null,
        &[
            "spec.capacity|Required|Required value",
            "spec.capacity|NotSupported|Unsupported value: null: supported values: \"storage\"",
        ],
    );
    bad(
        "/spec/capacity",
        json!({"storage": "1", "cpu": "1"}),
        &[
            "spec.capacity|NotSupported|Unsupported value: {\"cpu\":\"1\",\"storage\":\"1\"}: supported values: \"storage\"",
        ],
    );
    bad(
        "/spec/capacity/storage",
        json!("-1"),
        &[
            "spec.capacity[storage]|Invalid|Invalid value: -1: must be a valid resource quantity",
            "spec.capacity[storage]|Invalid|Invalid value: \"-1\": must be greater than zero",
        ],
    );
    bad(
        "/spec/persistentVolumeReclaimPolicy",
        json!("Burn"),
        &[
            "spec.persistentVolumeReclaimPolicy|NotSupported|Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
        ],
    );
    bad(
        "/spec/hostPath",
        Value::Null,
        &["spec|Required|Required value: must specify a volume type"],
    );
    bad(
        "/spec/nfs",
        json!({"server": "s", "path": "/p"}),
        &["spec.nfs|Forbidden|Forbidden: may not specify more than 1 volume type"],
    );
    bad(
        "/spec/hostPath/path",
        json!(""),
        &["spec.hostPath.path|Required|Required value"],
    );
    bad(
        "/spec/storageClassName",
        json!("A"),
        &[&format!(
            "spec.storageClassName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    bad(
        "/spec/volumeMode",
        json!("Tape"),
        &[
            "spec.volumeMode|NotSupported|Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
    bad(
        "/spec/nodeAffinity",
        json!({}),
        &["spec.nodeAffinity.required|Required|Required value: must specify required node constraints"],
    );
    bad(
        "/spec/nodeAffinity",
        json!({"required": {"nodeSelectorTerms": []}}),
        &[
            "spec.nodeAffinity.required.nodeSelectorTerms|Required|Required value: must have at least one node selector term",
        ],
    );
    let mut root = volume();
    root["spec"]["persistentVolumeReclaimPolicy"] = "Recycle".into();
    invalid(
        VOLUME,
        &root,
        "/spec/hostPath/path",
        json!("/./"),
        &[
            "spec.persistentVolumeReclaimPolicy|Forbidden|Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ],
    );
    // Every source needs something of its own.
    let source = |source: Value, want: &[&str]| {
        let mut body = volume();
        let spec = body["spec"].as_object_mut().unwrap();
        spec.remove("hostPath");
        spec.extend(source.as_object().unwrap().clone());
        let got = create(resource(VOLUME), &body).map_or_else(causes, |_| Vec::new());
        assert_eq!(got, want);
    };
    source(
        json!({"local": {"path": "/d"}}),
        &["spec.nodeAffinity|Required|Required value: Local volume requires node affinity"],
    );
    source(
        json!({"nfs": {"server": "", "path": "p"}}),
        &[
            "spec.nfs.server|Required|Required value",
            "spec.nfs.path|Invalid|Invalid value: \"p\": must be an absolute path",
        ],
    );
    source(
        json!({"iscsi": {"targetPortal": "t", "iqn": "x", "lun": 300, "chapAuthSession": true}}),
        &[
            "spec.iscsi.iqn|Invalid|Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
            "spec.iscsi.lun|Invalid|Invalid value: 300: must be between 0 and 255, inclusive",
            "spec.iscsi.secretRef|Required|Required value",
        ],
    );
    source(
        json!({"fc": {}}),
        &[
            "spec.fc.targetWWNs|Required|Required value: must specify either targetWWNs or wwids, but not both",
        ],
    );
    source(
        json!({"fc": {"targetWWNs": ["w"]}}),
        &["spec.fc.lun|Required|Required value: lun is required if targetWWNs is specified"],
    );
    source(
        json!({"cephfs": {"monitors": []}}),
        &["spec.cephfs.monitors|Required|Required value"],
    );
    source(
        json!({"rbd": {"monitors": ["m"], "image": ""}}),
        &["spec.rbd.image|Required|Required value"],
    );
    source(
        json!({"csi": {"driver": "", "volumeHandle": ""}}),
        &[
            "spec.csi.driver|Required|Required value",
            &format!("spec.csi.driver|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"),
            "spec.csi.volumeHandle|Required|Required value",
        ],
    );
    source(
        json!({"csi": {"driver": "d.io", "volumeHandle": "h", "nodePublishSecretRef": {"name": "A"}}}),
        &[
            &format!("spec.csi.nodePublishSecretRef.name|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            "spec.csi.nodePublishSecretRef.namespace|Required|Required value",
        ],
    );
    source(
        json!({"gcePersistentDisk": {"pdName": "", "partition": 256}}),
        &[
            "spec.gcePersistentDisk.pdName|Required|Required value",
            "spec.gcePersistentDisk.partition|Invalid|Invalid value: 256: must be between 0 and 255, inclusive",
        ],
    );
    let mut classed = volume();
    classed["spec"]["volumeAttributesClassName"] = "gold".into();
    let got = create(resource(VOLUME), &classed).map_or_else(causes, |_| Vec::new());
    assert_eq!(
        got,
        ["spec.csi|Required|Required value: has to be specified when using volumeAttributesClassName"]
    );
}

#[test]
fn volume_updates() {
    let mut old = stored(CLAIM, &claim());
    refused(
        CLAIM,
        &old,
        json!({"spec": {"volumeName": "v", "storageClassName": "c"}}),
        &[],
    );
    let lines = |old: &Value, patch: Value| {
        update(CLAIM, old, patch, Subresource::Main).map_or_else(causes, |_| Vec::new())
    };
    let found = lines(
        &old,
        json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}),
    );
    assert!(
        found.len() == 1
            && found[0].starts_with("spec|Forbidden|Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"),
        "{found:?}"
    );
    old["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    refused(CLAIM, &old, grown.clone(), &[]);
    let old = update(CLAIM, &old, grown, Subresource::Main).unwrap();
    refused(
        CLAIM,
        &old,
        json!({"spec": {"resources": {"requests": {"storage": "1536Mi"}}}}),
        &[],
    );
    refused(
        CLAIM,
        &old,
        json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}}),
        &["spec.resources.requests.storage|Forbidden|Forbidden: field can not be less than status.capacity"],
    );
    let found = lines(&old, json!({"spec": {"volumeMode": "Block"}}));
    assert_eq!(
        found[1],
        "volumeMode|Invalid|Invalid value: \"Block\": field is immutable"
    );
    let classed = update(
        CLAIM,
        &old,
        json!({"spec": {"volumeAttributesClassName": "gold"}}),
        Subresource::Main,
    )
    .unwrap();
    refused(
        CLAIM,
        &classed,
        json!({"spec": {"volumeAttributesClassName": null}}),
        &[
            "spec.volumeAttributesClassName|Forbidden|Forbidden: update from non-nil value to nil is forbidden",
        ],
    );
    refused_part(
        CLAIM,
        &old,
        json!({"status": {"allocatedResources": {"cpu": "1"}, "allocatedResourceStatuses": {"storage": "Growing"}}}),
        Subresource::Status,
        &[
            "status.allocatedResourceStatus|NotSupported|Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"",
            "status.allocatedResources|NotSupported|Unsupported value: \"cpu\": supported values: \"storage\"",
        ],
    );
    let old = stored(VOLUME, &csi());
    refused(
        VOLUME,
        &old,
        json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
        &[],
    );
    refused(
        VOLUME,
        &old,
        json!({"spec": {"csi": {"controllerExpandSecretRef": {"name": "s", "namespace": "n"}}}}),
        &[],
    );
    let found = update(
        VOLUME,
        &old,
        json!({"spec": {"csi": {"volumeHandle": "other"}}}),
        Subresource::Main,
    )
    .map_or_else(causes, |_| Vec::new());
    assert!(
        found.len() == 1
            && found[0].starts_with("spec.persistentvolumesource|Forbidden|Forbidden: spec.persistentvolumesource is immutable after creation\n"),
        "{found:?}"
    );
    // The time of the phase is the server's.
    let bound = update(
        VOLUME,
        &old,
        json!({"status": {"phase": "Bound"}}),
        Subresource::Status,
    )
    .unwrap();
    assert_eq!(
        bound["status"],
        json!({"phase": "Bound", "lastPhaseTransitionTime": "2026-01-01T01:00:00Z"})
    );
    let same = update(
        VOLUME,
        &old,
        json!({"status": {"message": "m", "lastPhaseTransitionTime": null}}),
        Subresource::Status,
    );
    assert_eq!(
        same.unwrap()["status"],
        json!({"phase": "Pending", "message": "m", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"})
    );
}

#[test]
fn warnings() {
    let mut old = volume();
    old["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "c"});
    old["spec"]["persistentVolumeReclaimPolicy"] = "Recycle".into();
    let texts = [
        "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead",
        "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
    ];
    warned(VOLUME, &old, &texts, &texts);
    let mut odd = claim();
    odd["spec"]["resources"]["requests"]["storage"] = "1500m".into();
    let text =
        "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer";
    warned(CLAIM, &odd, &[text], &[text]);
}

#[test]
fn shown() {
    columns(
        CLAIM,
        json!({"metadata": aged("a"), "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": "v", "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
        }, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
        &[
            "Name=a",
            "Status=Bound",
            "Volume=v",
            "Capacity=2Gi",
            "Access Modes=RWO,RWX",
            "StorageClass=fast",
            "VolumeAttributesClass=<unset>",
            "Age=5m",
            "+VolumeMode=Filesystem",
        ],
    );
    columns(
        CLAIM,
        json!({"metadata": aged("a"), "spec": claim()["spec"]}),
        &[
            "Name=a",
            "Status=Pending",
            "Volume=",
            "Capacity=",
            "Access Modes=",
            "StorageClass=",
            "VolumeAttributesClass=<unset>",
            "Age=5m",
            "+VolumeMode=Filesystem",
        ],
    );
    let mut spec = csi()["spec"].clone();
    spec["claimRef"] = json!({"namespace": "default", "name": "c"});
    spec["volumeAttributesClassName"] = "gold".into();
    columns(
        VOLUME,
        json!({"metadata": aged("a"), "spec": spec, "status": {"phase": "Bound", "reason": "Why"}}),
        &[
            "Name=a",
            "Capacity=1Gi",
            "Access Modes=RWO",
            "Reclaim Policy=Retain",
            "Status=Bound",
            "Claim=default/c",
            "StorageClass=",
            "VolumeAttributesClass=gold",
            "Reason=Why",
            "Age=5m",
            "+VolumeMode=Filesystem",
        ],
    );
}
