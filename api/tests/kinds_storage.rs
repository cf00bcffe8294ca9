//! The kinds of the storage group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const V1: &str = "storage.k8s.io/v1";
const CLASS: Name = (V1, "StorageClass");
const ATTACHMENT: Name = (V1, "VolumeAttachment");
const DRIVER: Name = (V1, "CSIDriver");
const NODE: Name = (V1, "CSINode");
const CAPACITY: Name = (V1, "CSIStorageCapacity");
const ATTRIBUTES: Name = (V1, "VolumeAttributesClass");
const BAD_SUBDOMAIN: &str = "-";

fn class() -> Value {
    json!({"metadata": {"name": "a"}, "provisioner": "Example.com/p", "parameters": {"a": "b"}})
}

fn attachment() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "attacher": "Csi.example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"},
    }})
}

fn driver() -> Value {
    json!({"metadata": {"name": "csi.example.com"}, "spec": {"tokenRequests": [{"audience": "a"}, {"audience": "b"}]}})
}

fn node() -> Value {
    json!({"metadata": {"name": "n"}, "spec": {"drivers": [
        {"name": "csi.example.com", "nodeID": "x", "topologyKeys": ["a/zone"], "allocatable": {"count": 3}},
    ]}})
}

fn capacity() -> Value {
    json!({
        "metadata": {"name": "a"}, "storageClassName": "c", "capacity": "10Gi",
        "nodeTopology": {"matchLabels": {"zone": "a"}},
    })
}

fn attributes() -> Value {
    json!({"metadata": {"name": "a"}, "driverName": "csi.example.com", "parameters": {"iops": "5"}})
}

#[test]
fn names() {
    known_as(CLASS, false, &["sc"], &[]);
    known_as(ATTACHMENT, false, &[], &["status"]);
    known_as(DRIVER, false, &[], &[]);
    known_as(NODE, false, &[], &[]);
    known_as(CAPACITY, true, &[], &[]);
    known_as(ATTRIBUTES, false, &["vac"], &[]);
    for (name, unconditional) in [
        (CLASS, true),
        (ATTRIBUTES, true),
        (ATTACHMENT, false),
        (DRIVER, false),
        (NODE, false),
        (CAPACITY, false),
    ] {
        assert_eq!(resource(name).unconditional_update(), unconditional, "{name:?}");
    }
}

#[test]
fn defaults() {
    golden(
        CLASS,
        json!({"metadata": {"name": "a"}, "provisioner": "p"}),
        json!({
            "metadata": {"name": "a"}, "provisioner": "p",
            "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
        }),
    );
    golden(
        ATTACHMENT,
        json!({
            "metadata": {"name": "a"},
            "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": true},
        }),
        json!({
            "metadata": {"name": "a"},
            "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": false},
        }),
    );
    golden(
        DRIVER,
        json!({"metadata": {"name": "a"}, "spec": {"preventPodSchedulingIfMissing": true}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "attachRequired": true, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": false,
                "requiresRepublish": false, "seLinuxMount": false, "storageCapacity": false,
                "volumeLifecycleModes": ["Persistent"],
            },
        }),
    );
    golden(
        NODE,
        json!({"metadata": {"name": "n"}, "spec": {"drivers": []}}),
        json!({"metadata": {"name": "n"}, "spec": {"drivers": []}}),
    );
    golden(
        CAPACITY,
        json!({"metadata": {"name": "a"}, "storageClassName": "c", "capacity": "1024Mi"}),
        json!({"metadata": {"name": "a"}, "storageClassName": "c", "capacity": "1Gi"}),
    );
    golden(ATTRIBUTES, attributes(), attributes());
}

#[test]
fn invalid_classes() {
    let base = class();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(CLASS, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/provisioner",
        json!(""),
        &["provisioner|Required|Required value"],
    );
    check(
        &base,
        "/provisioner",
        json!("a b"),
        &[&format!(
            "provisioner|Invalid|Invalid value: \"a b\": {QUALIFIED}"
        )],
    );
    check(
        &base,
        "/reclaimPolicy",
        json!("Recycle"),
        &[
            "reclaimPolicy|NotSupported|Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
        ],
    );
    check(
        &base,
        "/volumeBindingMode",
        json!("Later"),
        &[
            "volumeBindingMode|NotSupported|Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ],
    );
    check(
        &base,
        "/parameters",
        json!({"": "a"}),
        &["parameters|Invalid|Invalid value: \"\": field can not be empty."],
    );
    let many: serde_json::Map<String, Value> = (0..513).map(|i| (i.to_string(), json!(""))).collect();
    check(
        &base,
        "/parameters",
        Value::Object(many),
        &["parameters|TooLong|Too long: may not be more than 512 bytes"],
    );
    check(
        &base,
        "/parameters",
        json!({"a": "x".repeat(256 * 1024)}),
        &["parameters|TooLong|Too long: may not be more than 262144 bytes"],
    );
    let term = |keys: Value| json!([{"matchLabelExpressions": keys}]);
    check(
        &base,
        "/allowedTopologies",
        term(json!([{"key": "", "values": []}])),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values|Required|Required value",
            "allowedTopologies[0].matchLabelExpressions[0].key|Invalid|Invalid value: \"\": name part must be non-empty",
            &format!(
                "allowedTopologies[0].matchLabelExpressions[0].key|Invalid|Invalid value: \"\": {QUALIFIED}"
            ),
        ],
    );
    check(
        &base,
        "/allowedTopologies",
        term(json!([{"key": "a", "values": ["x", "x"]}, {"key": "a", "values": ["y"]}])),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values[1]|Duplicate|Duplicate value: \"x\"",
            "allowedTopologies[0].matchLabelExpressions[1].key|Duplicate|Duplicate value: \"a\"",
        ],
    );
    let one = json!({"matchLabelExpressions": [{"key": "a", "values": ["x", "y"]}]});
    let other = json!({"matchLabelExpressions": [{"key": "a", "values": ["y", "x"]}]});
    check(
        &base,
        "/allowedTopologies",
        json!([one, other]),
        &["allowedTopologies[1].matchLabelExpressions|Duplicate|Duplicate value: \"\""],
    );
    let old = stored(CLASS, &base);
    refused(
        CLASS,
        &old,
        json!({"provisioner": "q", "parameters": {"a": "c"}, "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer"}),
        &[
            "parameters|Forbidden|Forbidden: updates to parameters are forbidden.",
            "provisioner|Forbidden|Forbidden: updates to provisioner are forbidden.",
            "reclaimPolicy|Forbidden|Forbidden: updates to reclaimPolicy are forbidden.",
            "volumeBindingMode|Invalid|Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ],
    );
    refused(
        CLASS,
        &old,
        json!({"allowVolumeExpansion": true, "mountOptions": ["ro"]}),
        &[],
    );
}

#[test]
fn invalid_attachments() {
    let base = attachment();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(ATTACHMENT, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/spec/attacher",
        json!(""),
        &[
            "spec.attacher|Required|Required value",
            "spec.attacher|Required|Required value",
            &format!("spec.attacher|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"),
        ],
    );
    check(
        &base,
        "/spec/attacher",
        json!("a".repeat(64)),
        &["spec.attacher|TooLong|Too long: may not be more than 63 bytes"],
    );
    check(
        &base,
        "/spec/nodeName",
        json!(BAD_SUBDOMAIN),
        &[&format!(
            "spec.nodeName|Invalid|Invalid value: \"-\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/spec/source",
        json!({}),
        &[
            "spec.source|Required|Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check(
        &base,
        "/spec/source/inlineVolumeSpec",
        json!({}),
        &[
            "spec.source|Forbidden|Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check(
        &base,
        "/spec/source",
        json!({"persistentVolumeName": ""}),
        &[
            "spec.source.persistentVolumeName|Required|Required value: must specify non empty persistentVolumeName",
            &format!("spec.source.persistentVolumeName|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"),
        ],
    );
    check(
        &base,
        "/spec/source",
        json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d.io", "volumeHandle": "h"}}}),
        &[],
    );
    let old = stored(ATTACHMENT, &base);
    refused(
        ATTACHMENT,
        &old,
        json!({"spec": {"nodeName": "m"}}),
        &[
            "spec|Invalid|Invalid value: {\"Attacher\":\"Csi.example.com\",\"Source\":{\"PersistentVolumeName\":\"pv\",\"InlineVolumeSpec\":null},\"NodeName\":\"m\"}: field is immutable",
        ],
    );
    let status = json!({
        "metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "m"},
        "status": {"attached": true, "attachmentMetadata": {"a": "b"}},
    });
    let new = update(ATTACHMENT, &old, status, Subresource::Status).unwrap();
    assert_eq!(
        (&new["spec"], &new["metadata"]["labels"]),
        (&old["spec"], &Value::Null)
    );
    assert_eq!(new["status"]["attached"], true);
    refused_part(
        ATTACHMENT,
        &old,
        json!({"status": {
            "attachmentMetadata": {"a": "x".repeat(256 * 1024)},
            "attachError": {"message": "x".repeat(1025)}, "detachError": {"errorCode": -1},
        }}),
        Subresource::Status,
        &[
            "status.attachmentMetadata|TooLong|Too long: may not be more than 262144 bytes",
            "status.attachError.message|TooLong|Too long: may not be more than 262144 bytes",
            "status.detachError.errorCode|Invalid|Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
}

#[test]
fn invalid_drivers() {
    let base = driver();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(DRIVER, base, pointer, value, want);
    }
    check(&base, "/spec/fsGroupPolicy", json!("File"), &[]);
    check(
        &base,
        "/spec/fsGroupPolicy",
        json!("X"),
        &[
            "spec.fsGroupPolicy|NotSupported|Unsupported value: \"X\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        ],
    );
    check(
        &base,
        "/spec/tokenRequests/1/audience",
        json!("a"),
        &["spec.tokenRequests[1].audience|Duplicate|Duplicate value: \"a\""],
    );
    check(
        &base,
        "/spec/tokenRequests/0/expirationSeconds",
        json!(599),
        &[
            "spec.tokenRequests[0].expirationSeconds|Invalid|Invalid value: 599: may not specify a duration less than 10 minutes",
        ],
    );
    check(
        &base,
        "/spec/tokenRequests/0/expirationSeconds",
        json!(4294967297i64),
        &[
            "spec.tokenRequests[0].expirationSeconds|Invalid|Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ],
    );
    check(
        &base,
        "/spec/volumeLifecycleModes",
        json!(["Ephemeral", "X"]),
        &[
            "spec.volumeLifecycleModes|NotSupported|Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
        ],
    );
    check(
        &base,
        "/spec/nodeAllocatableUpdatePeriodSeconds",
        json!(9),
        &[
            "spec.nodeAllocatableUpdatePeriodSeconds|Invalid|Invalid value: 9: must be greater than or equal to 10 seconds",
        ],
    );
    let bare = json!({"metadata": {"name": "a"}, "spec": {}});
    check(
        &bare,
        "/spec/serviceAccountTokenInSecrets",
        json!(false),
        &[
            "spec.serviceAccountTokenInSecrets|Invalid|Invalid value: false: serviceAccountTokenInSecrets is set but no tokenRequests are specified",
        ],
    );
    let old = stored(DRIVER, &base);
    refused(
        DRIVER,
        &old,
        json!({"spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}}),
        &[
            "spec.attachedRequired|Invalid|Invalid value: false: field is immutable",
            "spec.volumeLifecycleModes|Invalid|Invalid value: [\"Ephemeral\"]: field is immutable",
        ],
    );
    let new = update(
        DRIVER,
        &old,
        json!({"spec": {"requiresRepublish": true}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 1);
    let bare = json!({"metadata": {"resourceVersion": null}});
    refused(
        DRIVER,
        &old,
        bare,
        &["metadata.resourceVersion|Invalid|Invalid value: 0: must be specified for an update"],
    );
}

#[test]
fn invalid_nodes() {
    let base = node();
    let at = "/spec/drivers/0";
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(NODE, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("n"), &[]);
    check(
        &base,
        "/metadata/name",
        json!("N"),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"N\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        &format!("{at}/name"),
        json!(""),
        &[
            "spec.drivers[0].name|Required|Required value",
            &format!("spec.drivers[0].name|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"),
        ],
    );
    check(
        &base,
        &format!("{at}/nodeID"),
        json!(""),
        &["spec.drivers[0].nodeID|Required|Required value"],
    );
    let long = "x".repeat(257);
    check(
        &base,
        &format!("{at}/nodeID"),
        json!(long),
        &[&format!(
            "spec.drivers[0].nodeID|Invalid|Invalid value: \"{long}\": must be 256 characters or less"
        )],
    );
    check(
        &base,
        &format!("{at}/allocatable/count"),
        json!(-1),
        &["spec.drivers[0].allocatable.count|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        &base,
        &format!("{at}/topologyKeys"),
        json!(["a", "a", "-"]),
        &[
            "spec.drivers[0]|Duplicate|Duplicate value: \"a\"",
            &format!("spec.drivers[0]|Invalid|Invalid value: \"-\": {QUALIFIED}"),
        ],
    );
    let twice = json!([{"name": "a", "nodeID": "x"}, {"name": "a", "nodeID": "y"}]);
    check(
        &base,
        "/spec/drivers",
        twice,
        &["spec.drivers[1].name|Duplicate|Duplicate value: \"a\""],
    );
    let old = stored(NODE, &base);
    let with = |change: Value| {
        let mut drivers = base["spec"]["drivers"].clone();
        corten_api::patch::merge_patch(&mut drivers[0], &change);
        json!({"spec": {"drivers": drivers}})
    };
    refused(NODE, &old, with(json!({"allocatable": {"count": 9}})), &[]);
    refused(NODE, &old, json!({"spec": {"drivers": []}}), &[]);
    refused(
        NODE,
        &old,
        with(json!({"nodeID": "z"})),
        &[
            "spec.drivers|Invalid|Invalid value: {\"Name\":\"csi.example.com\",\"NodeID\":\"z\",\"TopologyKeys\":[\"a/zone\"],\"Allocatable\":null}: field is immutable",
        ],
    );
}

#[test]
fn invalid_capacities() {
    let base = capacity();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(CAPACITY, base, pointer, value, want);
    }
    check(&base, "/capacity", json!("0"), &[]);
    check(
        &base,
        "/capacity",
        json!("-1"),
        &["capacity|Invalid|Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    check(
        &base,
        "/storageClassName",
        json!(""),
        &[&format!(
            "storageClassName|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/nodeTopology",
        json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        &[
            "nodeTopology.matchExpressions[0].operator|Invalid|Invalid value: \"Is\": not a valid selector operator",
        ],
    );
    let old = stored(CAPACITY, &base);
    refused(
        CAPACITY,
        &old,
        json!({"storageClassName": "d", "nodeTopology": {"matchLabels": {"zone": "b"}}}),
        &[
            "nodeTopology|Invalid|Invalid value: {\"matchLabels\":{\"zone\":\"b\"}}: field is immutable",
            "storageClassName|Invalid|Invalid value: \"d\": field is immutable",
        ],
    );
    refused(
        CAPACITY,
        &old,
        json!({"capacity": "1Gi", "maximumVolumeSize": "1Gi"}),
        &[],
    );
    let labels = json!({
        "metadata": {"name": "a"}, "storageClassName": "c",
        "nodeTopology": {
            "matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "Exists"}],
            "matchLabels": {"failure-domain.beta.kubernetes.io/zone": "a"},
        },
    });
    let warnings = [
        "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "nodeTopology.matchLabels.failure-domain.beta.kubernetes.io/zone: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ];
    warned(CAPACITY, &labels, &warnings, &warnings);
    let class = json!({
        "metadata": {"name": "a"}, "provisioner": "p",
        "allowedTopologies": [{"matchLabelExpressions": [{"key": "beta.kubernetes.io/arch", "values": ["x"]}]}],
    });
    let warning = [
        "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ];
    warned(CLASS, &class, &warning, &warning);
}

#[test]
fn invalid_attribute_classes() {
    let base = attributes();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(ATTRIBUTES, base, pointer, value, want);
    }
    check(&base, "/driverName", json!("x"), &[]);
    check(
        &base,
        "/driverName",
        json!(""),
        &["driverName|Required|Required value"],
    );
    check(
        &base,
        "/parameters",
        json!({}),
        &["parameters|Required|Required value: must contain at least one key/value pair"],
    );
    let old = stored(ATTRIBUTES, &base);
    refused(
        ATTRIBUTES,
        &old,
        json!({"driverName": "x", "parameters": {"iops": "6"}}),
        &[
            "parameters|Forbidden|Forbidden: updates to parameters are forbidden.",
            "driverName|Forbidden|Forbidden: updates to driverName are forbidden.",
        ],
    );
}

#[test]
fn shown() {
    let mut object = class();
    object["metadata"] = aged("a");
    object["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    columns(
        CLASS,
        object,
        &[
            "Name=a (default)",
            "Provisioner=Example.com/p",
            "ReclaimPolicy=Delete",
            "VolumeBindingMode=Immediate",
            "AllowVolumeExpansion=false",
            "Age=5m",
        ],
    );
    let mut object = attachment();
    object["metadata"] = aged("a");
    object["status"] = json!({"attached": true});
    columns(
        ATTACHMENT,
        object,
        &[
            "Name=a",
            "Attacher=Csi.example.com",
            "PV=pv",
            "Node=n",
            "Attached=true",
            "Age=5m",
        ],
    );
    let mut object = driver();
    object["metadata"] = aged("a");
    columns(
        DRIVER,
        object,
        &[
            "Name=a",
            "AttachRequired=true",
            "PodInfoOnMount=false",
            "StorageCapacity=false",
            "TokenRequests=a,b",
            "RequiresRepublish=false",
            "Modes=Persistent",
            "Age=5m",
        ],
    );
    columns(
        DRIVER,
        json!({"metadata": aged("a"), "spec": {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
        &[
            "Name=a",
            "AttachRequired=true",
            "PodInfoOnMount=false",
            "StorageCapacity=false",
            "TokenRequests=<unset>",
            "RequiresRepublish=false",
            "Modes=Persistent,Ephemeral",
            "Age=5m",
        ],
    );
    let mut object = node();
    object["metadata"] = aged("n");
    columns(NODE, object, &["Name=n", "Drivers=1", "Age=5m"]);
    let mut object = capacity();
    object["metadata"] = aged("a");
    columns(
        CAPACITY,
        object,
        &["Name=a", "StorageClassName=c", "Capacity=10Gi"],
    );
    columns(
        CAPACITY,
        json!({"metadata": aged("a"), "storageClassName": "c"}),
        &["Name=a", "StorageClassName=c", "Capacity=<unset>"],
    );
    let mut object = attributes();
    object["metadata"] = aged("a");
    columns(
        ATTRIBUTES,
        object,
        &["Name=a", "DriverName=csi.example.com", "Age=5m"],
    );
}
