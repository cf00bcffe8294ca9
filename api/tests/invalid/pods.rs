//! What is wrong in a Pod beside its containers.

use super::*;

#[test]
fn volumes_and_mounts() {
    let base = good_pod();
    let volume = "/spec/volumes/0";
    check(
        &base,
        volume,
        json!({"name": ""}),
        &[
            "spec.volumes[0].name|Required|Required value",
            "spec.containers[0].volumeMounts[0].name|NotFound|Not found: \"v\"",
        ],
    );
    check(
        &base,
        "/spec/volumes",
        json!([{"name": "v"}, {"name": "v"}]),
        &["spec.volumes[1].name|Duplicate|Duplicate value: \"v\""],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}),
        &["spec.volumes[0].hostPath|Forbidden|Forbidden: may not specify more than 1 volume type"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "hostPath": {"path": ""}}),
        &["spec.volumes[0].hostPath.path|Required|Required value"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "hostPath": {"path": "/a/../b"}}),
        &["spec.volumes[0].hostPath.path|Invalid|Invalid value: \"/a/../b\": must not contain '..'"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "hostPath": {"path": "/a", "type": "Door"}}),
        &[
            "spec.volumes[0].hostPath.type|NotSupported|Unsupported value: \"Door\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "secret": {}}),
        &["spec.volumes[0].secret.secretName|Required|Required value"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "configMap": {"name": "m", "defaultMode": 1000}}),
        &[
            "spec.volumes[0].configMap.defaultMode|Invalid|Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
        ],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "/abs"}]}}),
        &["spec.volumes[0].configMap.items[0].path|Invalid|Invalid value: \"/abs\": must be a relative path"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "../up"}]}}),
        &["spec.volumes[0].configMap.items[0].path|Invalid|Invalid value: \"../up\": must not contain '..'"],
    );
    check(
        &base,
        volume,
        json!({"name": "v", "persistentVolumeClaim": {"claimName": ""}}),
        &["spec.volumes[0].persistentVolumeClaim.claimName|Required|Required value"],
    );
    let mount = "/spec/containers/0/volumeMounts";
    check(
        &base,
        mount,
        json!([{"name": "w", "mountPath": "/v"}]),
        &["spec.containers[0].volumeMounts[0].name|NotFound|Not found: \"w\""],
    );
    check(
        &base,
        mount,
        json!([{"name": "v", "mountPath": ""}]),
        &["spec.containers[0].volumeMounts[0].mountPath|Required|Required value"],
    );
    check(
        &base,
        mount,
        json!([{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]),
        &["spec.containers[0].volumeMounts[1].mountPath|Invalid|Invalid value: \"/v\": must be unique"],
    );
    check(
        &base,
        mount,
        json!([{"name": "v", "mountPath": "/v", "subPath": "/a"}]),
        &[
            "spec.containers[0].volumeMounts[0].subPath|Invalid|Invalid value: \"/a\": must be a relative path",
        ],
    );
    check(
        &base,
        mount,
        json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]),
        &[
            "spec.containers[0].volumeMounts[0].mountPropagation|Forbidden|Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ],
    );
}

#[test]
fn pod_fields() {
    let base = good_pod();
    check(
        &base,
        "/spec/restartPolicy",
        json!("Sometimes"),
        &[
            "spec.restartPolicy|NotSupported|Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        &base,
        "/spec/dnsPolicy",
        json!("Own"),
        &[
            "spec.dnsPolicy|NotSupported|Unsupported value: \"Own\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
        ],
    );
    check(
        &base,
        "/spec/dnsPolicy",
        json!("None"),
        &["spec.dnsConfig|Required|Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    check(
        &base,
        "/spec/activeDeadlineSeconds",
        json!(0),
        &["spec.activeDeadlineSeconds|Invalid|Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    check(
        &base,
        "/spec/nodeName",
        json!("N"),
        &[&format!(
            "spec.nodeName|Invalid|Invalid value: \"N\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/spec/hostname",
        json!("H"),
        &[&format!(
            "spec.hostname|Invalid|Invalid value: \"H\": {DNS_LABEL}"
        )],
    );
    check(
        &base,
        "/spec/serviceAccountName",
        json!("S"),
        &[&format!(
            "spec.serviceAccountName|Invalid|Invalid value: \"S\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/spec/securityContext/runAsUser",
        json!(-1),
        &[
            "spec.securityContext.runAsUser|Invalid|Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
    check(
        &base,
        "/spec/hostAliases",
        json!([{"ip": "x"}]),
        &[
            "spec.hostAliases[0].ip|Invalid|Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    let shown = "{\"allowPrivilegeEscalation\":false,\"privileged\":true}";
    check(
        &base,
        "/spec/containers/0/securityContext",
        json!({"privileged": true, "allowPrivilegeEscalation": false}),
        &[&format!(
            "spec.containers[0].securityContext|Invalid|Invalid value: {shown}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        )],
    );
    check(
        &base,
        "/metadata/annotations",
        json!({"controller.kubernetes.io/pod-deletion-cost": "x"}),
        &[
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]|Invalid|Invalid value: \"x\": must be a 32bit integer",
        ],
    );
}

#[test]
fn placement() {
    let base = pod();
    check(
        &base,
        "/spec/tolerations/0",
        json!({}),
        &[
            "spec.tolerations[0].operator|Invalid|Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ],
    );
    check(
        &base,
        "/spec/tolerations/0",
        json!({"key": "k", "tolerationSeconds": 1}),
        &[
            "spec.tolerations[0].effect|Invalid|Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ],
    );
    check(
        &base,
        "/spec/tolerations/0",
        json!({"key": "k", "effect": "No"}),
        &[
            "spec.tolerations[0].effect|NotSupported|Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    check(
        &base,
        "/spec/tolerations/0",
        json!({"key": "k", "operator": "Is"}),
        &[
            "spec.tolerations[0].operator|NotSupported|Unsupported value: \"Is\": supported values: \"Equal\", \"Exists\"",
        ],
    );
    let base = good_pod();
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    check(
        &base,
        "/spec/affinity",
        json!({"nodeAffinity": {required: {"nodeSelectorTerms": []}}}),
        &[&format!(
            "spec.affinity.nodeAffinity.{required}.nodeSelectorTerms|Required|Required value: must have at least one node selector term"
        )],
    );
    check(
        &base,
        "/spec/affinity",
        json!({"nodeAffinity": {required: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In"}]}]}}}),
        &[&format!(
            "spec.affinity.nodeAffinity.{required}.nodeSelectorTerms[0].matchExpressions[0].values|Required|Required value: must be specified when `operator` is 'In' or 'NotIn'"
        )],
    );
    check(
        &base,
        "/spec/affinity",
        json!({"nodeAffinity": {preferred: [{"weight": 0, "preference": {}}]}}),
        &[&format!(
            "spec.affinity.nodeAffinity.{preferred}[0].weight|Invalid|Invalid value: 0: must be in the range 1-100"
        )],
    );
    check(
        &base,
        "/spec/affinity",
        json!({"podAntiAffinity": {required: [{"topologyKey": ""}]}}),
        &[&format!(
            "spec.affinity.podAntiAffinity.{required}[0].topologyKey|Required|Required value: can not be empty"
        )],
    );
    check(
        &base,
        "/spec/topologySpreadConstraints",
        json!([{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]),
        &[
            "spec.topologySpreadConstraints[0].maxSkew|Invalid|Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].topologyKey|Required|Required value: can not be empty",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable|NotSupported|Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
    check(
        &base,
        "/spec/schedulingGates",
        json!([{"name": "a"}, {"name": "a"}]),
        &["spec.schedulingGates[1]|Duplicate|Duplicate value: \"a\""],
    );
}
