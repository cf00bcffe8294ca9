//! Tables of bad objects and the exact causes Kubernetes gives: field, reason, message.

use corten_api::resource::CreateContext;
use corten_api::{FieldValidation, Status, registry};
use serde_json::{Value, json};

fn create(api_version: &str, kind: &str, body: &Value) -> Result<Value, Status> {
    let resource = registry()
        .for_api_version(api_version, kind)
        .expect("a served kind");
    let bytes = serde_json::to_vec(body).unwrap();
    let mut object = resource.decode(&bytes, FieldValidation::Strict)?.value;
    let namespace = if resource.namespaced { "default" } else { "" };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    resource.prepare_create(
        &mut object,
        &CreateContext {
            namespace,
            uid: "u",
            now,
            name_suffix: "abcde",
        },
    )?;
    Ok(object)
}

/// Sets the value at a JSON pointer (`null` removes it) and compares the causes, `field|Reason|message`.
#[track_caller]
fn check(base: &(&str, &str, Value), pointer: &str, value: Value, want: &[&str]) {
    let mut body = base.2.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match body
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} is there"))
    {
        Value::Object(map) if value.is_null() => drop(map.remove(key)),
        Value::Object(map) => drop(map.insert(key.into(), value)),
        other => other[key.parse::<usize>().unwrap()] = value,
    }
    let got: Vec<String> = match create(base.0, base.1, &body) {
        Ok(_) => Vec::new(),
        Err(status) => {
            assert_eq!(
                (status.code, status.reason.as_str()),
                (422, "Invalid"),
                "{pointer}: {}",
                status.message
            );
            let causes = status.details.unwrap().causes;
            causes
                .into_iter()
                .map(|c| {
                    format!(
                        "{}|{}|{}",
                        c.field,
                        c.reason.trim_start_matches("FieldValue"),
                        c.message
                    )
                })
                .collect()
        }
    };
    assert_eq!(got, want, "{} {pointer}", base.1);
}

fn pod() -> (&'static str, &'static str, Value) {
    (
        "v1",
        "Pod",
        json!({
            "metadata": {"name": "a", "labels": {}, "annotations": {}},
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}], "securityContext": {}, "resources": {},
                    "livenessProbe": {"httpGet": {"port": 80}},
                }],
                "initContainers": [{"name": "i", "image": "i"}],
                "volumes": [{"name": "v"}],
                "securityContext": {}, "tolerations": [{}], "affinity": {},
            },
        }),
    )
}

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const RANGE: &str = "must be between 1 and 65535, inclusive";

/// A Pod whose toleration is fine.
fn good_pod() -> (&'static str, &'static str, Value) {
    let mut pod = pod();
    pod.2["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    pod
}

#[test]
fn metadata() {
    let base = ("v1", "ConfigMap", json!({"metadata": {"name": "a"}}));
    let long = "a".repeat(254);
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/metadata/name",
        Value::Null,
        &["metadata.name|Required|Required value: name or generateName is required"],
    );
    check(
        &base,
        "/metadata/name",
        json!("Bad_Name"),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"Bad_Name\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/metadata/name",
        json!(long),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"{long}\": must be no more than 253 bytes"
        )],
    );
    check(
        &base,
        "/metadata/labels",
        json!({"a": "not ok"}),
        &[
            "metadata.labels|Invalid|Invalid value: \"not ok\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    check(
        &base,
        "/metadata/labels",
        json!({"a/b/c": ""}),
        &[
            "metadata.labels|Invalid|Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ],
    );
    check(
        &base,
        "/metadata/annotations",
        json!({"a": "x".repeat(256 * 1024)}),
        &["metadata.annotations|TooLong|Too long: may not be more than 262144 bytes"],
    );
    check(
        &base,
        "/metadata/finalizers",
        json!(["mine"]),
        &[
            "metadata.finalizers[0]|Invalid|Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(&base, "/metadata/finalizers", json!(["example.com/mine"]), &[]);
    check(
        &base,
        "/metadata/ownerReferences",
        json!([{"apiVersion": "v1", "kind": "", "name": "n", "uid": ""}]),
        &[
            "metadata.ownerReferences[0].kind|Invalid|Invalid value: \"\": must not be empty",
            "metadata.ownerReferences[0].uid|Invalid|Invalid value: \"\": must not be empty",
        ],
    );
    let two = json!([
        {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "1", "controller": true},
        {"apiVersion": "v1", "kind": "K", "name": "m", "uid": "2", "controller": true},
    ]);
    let shown = serde_json::to_string(&two).unwrap();
    check(
        &base,
        "/metadata/ownerReferences",
        two,
        &[&format!(
            "metadata.ownerReferences|Invalid|Invalid value: {shown}: Only one reference can have Controller set to true. Found \"true\" in references for n and m"
        )],
    );
}

#[test]
fn containers() {
    let base = good_pod();
    check(&base, "/spec/dnsPolicy", json!("Default"), &[]);
    check(
        &base,
        "/spec/containers",
        json!([]),
        &["spec.containers|Required|Required value"],
    );
    check(
        &base,
        "/spec/containers/0/name",
        Value::Null,
        &["spec.containers[0].name|Required|Required value"],
    );
    check(
        &base,
        "/spec/containers/0/name",
        json!("C"),
        &[&format!(
            "spec.containers[0].name|Invalid|Invalid value: \"C\": {DNS_LABEL}"
        )],
    );
    check(
        &base,
        "/spec/containers/0/name",
        json!("a.b"),
        &["spec.containers[0].name|Invalid|Invalid value: \"a.b\": must not contain dots"],
    );
    check(
        &base,
        "/spec/containers/0/name",
        json!("i"),
        &["spec.initContainers[0].name|Duplicate|Duplicate value: \"i\""],
    );
    check(
        &base,
        "/spec/containers/0/image",
        Value::Null,
        &["spec.containers[0].image|Required|Required value"],
    );
    check(
        &base,
        "/spec/containers/0/image",
        json!(" i"),
        &[
            "spec.containers[0].image|Invalid|Invalid value: \" i\": must not have leading or trailing whitespace",
        ],
    );
    check(
        &base,
        "/spec/containers/0/imagePullPolicy",
        json!("Now"),
        &[
            "spec.containers[0].imagePullPolicy|NotSupported|Unsupported value: \"Now\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        &base,
        "/spec/containers/0/terminationMessagePolicy",
        json!("x"),
        &[
            "spec.containers[0].terminationMessagePolicy|NotSupported|Unsupported value: \"x\": supported values: \"FallbackToLogsOnError\", \"File\"",
        ],
    );
    check(
        &base,
        "/spec/initContainers/0/livenessProbe",
        json!({"exec": {"command": ["a"]}}),
        &[
            "spec.initContainers[0].livenessProbe|Forbidden|Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    check(
        &base,
        "/spec/ephemeralContainers",
        json!([{"name": "e", "image": "i"}]),
        &["spec.ephemeralContainers|Forbidden|Forbidden: cannot be set on create"],
    );
}

#[test]
fn ports() {
    let base = good_pod();
    let port = "/spec/containers/0/ports/0";
    check(
        &base,
        &format!("{port}/containerPort"),
        Value::Null,
        &["spec.containers[0].ports[0].containerPort|Required|Required value"],
    );
    check(
        &base,
        &format!("{port}/containerPort"),
        json!(70000),
        &[&format!(
            "spec.containers[0].ports[0].containerPort|Invalid|Invalid value: 70000: {RANGE}"
        )],
    );
    check(
        &base,
        &format!("{port}/hostPort"),
        json!(-1),
        &[&format!(
            "spec.containers[0].ports[0].hostPort|Invalid|Invalid value: -1: {RANGE}"
        )],
    );
    check(
        &base,
        &format!("{port}/protocol"),
        json!("HTTP"),
        &[
            "spec.containers[0].ports[0].protocol|NotSupported|Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    check(
        &base,
        &format!("{port}/name"),
        json!("a--b"),
        &[
            "spec.containers[0].ports[0].name|Invalid|Invalid value: \"a--b\": must not contain consecutive hyphens",
        ],
    );
    check(
        &base,
        &format!("{port}/name"),
        json!("abcdefghijklmnop"),
        &[
            "spec.containers[0].ports[0].name|Invalid|Invalid value: \"abcdefghijklmnop\": must be no more than 15 bytes",
        ],
    );
    check(
        &base,
        "/spec/containers/0/ports",
        json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        &["spec.containers[0].ports[1].name|Duplicate|Duplicate value: \"a\""],
    );
    check(
        &base,
        "/spec/containers/0/ports",
        json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
        &["spec.containers[0].ports[1].hostPort|Duplicate|Duplicate value: \"TCP//9\""],
    );
}

#[test]
fn environment() {
    let base = good_pod();
    let env = "/spec/containers/0/env/0";
    check(
        &base,
        &format!("{env}/name"),
        Value::Null,
        &["spec.containers[0].env[0].name|Required|Required value"],
    );
    check(
        &base,
        &format!("{env}/name"),
        json!("a=b"),
        &[
            "spec.containers[0].env[0].name|Invalid|Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ],
    );
    check(
        &base,
        env,
        json!({"name": "E", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        &[
            "spec.containers[0].env[0].valueFrom|Invalid|Invalid value: \"\": may not be specified when `value` is not empty",
        ],
    );
    check(
        &base,
        env,
        json!({"name": "E", "valueFrom": {}}),
        &[
            "spec.containers[0].env[0].valueFrom|Invalid|Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ],
    );
    check(
        &base,
        env,
        json!({"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "spec.colour"}}}),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath|Invalid|Invalid value: \"spec.colour\": error converting fieldPath: field label not supported: spec.colour",
        ],
    );
    check(
        &base,
        env,
        json!({"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}),
        &[],
    );
    check(
        &base,
        env,
        json!({"name": "E", "valueFrom": {"configMapKeyRef": {"name": "m"}}}),
        &["spec.containers[0].env[0].valueFrom.configMapKeyRef.key|Required|Required value"],
    );
    check(
        &base,
        env,
        json!({"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.disk"}}}),
        &[
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource|NotSupported|Unsupported value: \"limits.disk\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
        ],
    );
    check(
        &base,
        "/spec/containers/0/envFrom",
        json!([{}]),
        &[
            "spec.containers[0].envFrom[0]|Invalid|Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ],
    );
}

#[test]
fn resources() {
    let base = good_pod();
    let at = "/spec/containers/0/resources";
    check(
        &base,
        at,
        json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        &[
            "spec.containers[0].resources.requests|Invalid|Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    check(
        &base,
        at,
        json!({"limits": {"memory": "-1"}}),
        &[
            "spec.containers[0].resources.limits[memory]|Invalid|Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests[memory]|Invalid|Invalid value: \"-1\": must be greater than or equal to 0",
        ],
    );
    check(
        &base,
        at,
        json!({"requests": {"disk": "1"}}),
        &[
            "spec.containers[0].resources.requests[disk]|Invalid|Invalid value: \"disk\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[disk]|Invalid|Invalid value: \"disk\": must be a standard resource for containers",
        ],
    );
    check(
        &base,
        at,
        json!({"requests": {"x.io/gpu": "1"}}),
        &[
            "spec.containers[0].resources.limits|Required|Required value: Limit must be set for non overcommitable resources",
        ],
    );
    check(&base, at, json!({"limits": {"x.io/gpu": "1"}}), &[]);
}

#[test]
fn probes() {
    let base = good_pod();
    let at = "/spec/containers/0/livenessProbe";
    check(
        &base,
        at,
        json!({}),
        &["spec.containers[0].livenessProbe|Required|Required value: must specify a handler type"],
    );
    check(
        &base,
        at,
        json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}),
        &[
            "spec.containers[0].livenessProbe.tcpSocket|Forbidden|Forbidden: may not specify more than 1 handler type",
        ],
    );
    check(
        &base,
        at,
        json!({"exec": {}}),
        &["spec.containers[0].livenessProbe.exec.command|Required|Required value"],
    );
    check(
        &base,
        at,
        json!({"httpGet": {"port": 0}}),
        &[&format!(
            "spec.containers[0].livenessProbe.httpGet.port|Invalid|Invalid value: 0: {RANGE}"
        )],
    );
    check(
        &base,
        at,
        json!({"httpGet": {"port": "Http"}}),
        &[
            "spec.containers[0].livenessProbe.httpGet.port|Invalid|Invalid value: \"Http\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ],
    );
    check(
        &base,
        at,
        json!({"httpGet": {"port": 1, "scheme": "FTP"}}),
        &[
            "spec.containers[0].livenessProbe.httpGet.scheme|NotSupported|Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
        ],
    );
    check(
        &base,
        at,
        json!({"tcpSocket": {"port": 1}, "successThreshold": 2}),
        &["spec.containers[0].livenessProbe.successThreshold|Invalid|Invalid value: 2: must be 1"],
    );
    check(
        &base,
        at,
        json!({"tcpSocket": {"port": 1}, "periodSeconds": -1}),
        &[
            "spec.containers[0].livenessProbe.periodSeconds|Invalid|Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    check(
        &base,
        at,
        json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 0}),
        &[
            "spec.containers[0].livenessProbe.terminationGracePeriodSeconds|Invalid|Invalid value: 0: must be greater than 0",
        ],
    );
    check(
        &base,
        "/spec/containers/0/readinessProbe",
        json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}),
        &[
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds|Invalid|Invalid value: 1: must not be set for readinessProbes",
        ],
    );
    check(
        &base,
        "/spec/containers/0/lifecycle",
        json!({"preStop": {}}),
        &["spec.containers[0].lifecycle.preStop|Required|Required value: must specify a handler type"],
    );
}

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

fn deployment() -> (&'static str, &'static str, Value) {
    (
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }}),
    )
}

#[test]
fn workloads() {
    let base = deployment();
    check(
        &base,
        "/spec/replicas",
        json!(-1),
        &["spec.replicas|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        &base,
        "/spec/selector",
        Value::Null,
        &[
            "spec.selector|Required|Required value",
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        &base,
        "/spec/selector",
        json!({}),
        &["spec.selector|Invalid|Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        &base,
        "/spec/selector/matchLabels/app",
        json!("b"),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        &base,
        "/spec/template/spec/restartPolicy",
        json!("Never"),
        &[
            "spec.template.spec.restartPolicy|NotSupported|Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    check(
        &base,
        "/spec/template/spec/activeDeadlineSeconds",
        json!(5),
        &[
            "spec.template.spec.activeDeadlineSeconds|Forbidden|Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
        ],
    );
    check(
        &base,
        "/spec/template/spec/containers",
        json!([]),
        &["spec.template.spec.containers|Required|Required value"],
    );
    check(
        &base,
        "/spec/strategy",
        json!({"type": "Slow"}),
        &[
            "spec.strategy|NotSupported|Unsupported value: {\"Type\":\"Slow\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
        ],
    );
    check(
        &base,
        "/spec/strategy",
        json!({"type": "Recreate", "rollingUpdate": {}}),
        &[
            "spec.strategy.rollingUpdate|Forbidden|Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ],
    );
    check(
        &base,
        "/spec/strategy",
        json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ],
    );
    check(
        &base,
        "/spec/strategy",
        json!({"rollingUpdate": {"maxSurge": "x"}}),
        &[
            "spec.strategy.rollingUpdate.maxSurge|Invalid|Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ],
    );
    check(
        &base,
        "/spec/strategy",
        json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable|Invalid|Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        &base,
        "/spec/progressDeadlineSeconds",
        json!(0),
        &["spec.progressDeadlineSeconds|Invalid|Invalid value: 0: must be greater than minReadySeconds"],
    );
    check(
        &base,
        "/spec/minReadySeconds",
        json!(-1),
        &["spec.minReadySeconds|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    let mut replica_set = deployment();
    replica_set.1 = "ReplicaSet";
    check(
        &replica_set,
        "/spec/selector/matchLabels/app",
        json!("b"),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    check(
        &replica_set,
        "/spec/selector",
        json!({"matchExpressions": [{"key": "app", "operator": "In"}]}),
        &[
            "spec.selector.matchExpressions[0].values|Required|Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
}

#[test]
fn services() {
    let base = (
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
    );
    check(
        &base,
        "/metadata/name",
        json!("1a"),
        &[
            "metadata.name|Invalid|Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    check(
        &base,
        "/spec/ports",
        json!([]),
        &["spec.ports|Required|Required value"],
    );
    check(
        &base,
        "/spec/ports",
        json!([{"port": 0}]),
        &[
            &format!("spec.ports[0].port|Invalid|Invalid value: 0: {RANGE}"),
            &format!("spec.ports[0].targetPort|Invalid|Invalid value: 0: {RANGE}"),
        ],
    );
    check(
        &base,
        "/spec/ports",
        json!([{"port": 80}, {"port": 81}]),
        &[
            "spec.ports[0].name|Required|Required value",
            "spec.ports[1].name|Required|Required value",
        ],
    );
    check(
        &base,
        "/spec/ports",
        json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
        &["spec.ports[1].name|Duplicate|Duplicate value: \"a\""],
    );
    check(
        &base,
        "/spec/ports",
        json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
        &["spec.ports[1]|Duplicate|Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"],
    );
    check(
        &base,
        "/spec/ports/0",
        json!({"port": 80, "nodePort": 30000}),
        &["spec.ports[0].nodePort|Forbidden|Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check(
        &base,
        "/spec/type",
        json!("Magic"),
        &[
            "spec.type|NotSupported|Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            "spec.internalTrafficPolicy|Required|Required value",
        ],
    );
    check(
        &base,
        "/spec/sessionAffinity",
        json!("Always"),
        &[
            "spec.sessionAffinity|NotSupported|Unsupported value: \"Always\": supported values: \"ClientIP\", \"None\"",
        ],
    );
    check(
        &base,
        "/spec/clusterIP",
        json!("x"),
        &[
            "spec.clusterIPs[0]|Invalid|Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    check(
        &base,
        "/spec/externalTrafficPolicy",
        json!("Local"),
        &[
            "spec.externalTrafficPolicy|Invalid|Invalid value: \"Local\": may only be set for externally-accessible services",
        ],
    );
    check(
        &base,
        "/spec/externalIPs",
        json!(["127.0.0.1"]),
        &[
            "spec.externalIPs[0]|Invalid|Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    let external = (
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"type": "ExternalName"}}),
    );
    check(
        &external,
        "/spec/selector",
        json!({}),
        &["spec.externalName|Required|Required value"],
    );
    let node_port = (
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
    );
    check(
        &node_port,
        "/spec/clusterIP",
        json!("None"),
        &[
            "spec.clusterIPs[0]|Invalid|Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ],
    );
}

#[test]
fn small_kinds() {
    let config_map = ("v1", "ConfigMap", json!({"metadata": {"name": "a"}}));
    check(
        &config_map,
        "/data",
        json!({"a/b": ""}),
        &[
            "data[a/b]|Invalid|Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check(
        &config_map,
        "/data",
        json!({"a": "x".repeat(1024 * 1024 + 1)}),
        &["|TooLong|Too long: may not be more than 1048576 bytes"],
    );
    let secret = (
        "v1",
        "Secret",
        json!({"metadata": {"name": "a"}, "type": "kubernetes.io/tls"}),
    );
    check(
        &secret,
        "/data",
        json!({"tls.crt": ""}),
        &["data[tls.key]|Required|Required value"],
    );
    let both = ("v1", "Secret", json!({"metadata": {"name": "a"}}));
    check(
        &both,
        "/type",
        json!("kubernetes.io/dockerconfigjson"),
        &["data[.dockerconfigjson]|Required|Required value"],
    );
    check(
        &both,
        "/type",
        json!("kubernetes.io/service-account-token"),
        &["metadata.annotations[kubernetes.io/service-account.name]|Required|Required value"],
    );
    let namespace = ("v1", "Namespace", json!({"metadata": {"name": "a"}}));
    check(
        &namespace,
        "/metadata/name",
        json!("a.b"),
        &["metadata.name|Invalid|Invalid value: \"a.b\": must not contain dots"],
    );
    let node = ("v1", "Node", json!({"metadata": {"name": "a"}, "spec": {}}));
    check(
        &node,
        "/spec/podCIDRs",
        json!(["x"]),
        &[
            "spec.podCIDRs[0]|Invalid|Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ],
    );
    check(
        &node,
        "/spec/taints",
        json!([{"key": "k", "effect": "x"}]),
        &[
            "spec.taints[0].effect|NotSupported|Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    let lease = (
        "coordination.k8s.io/v1",
        "Lease",
        json!({"metadata": {"name": "a"}, "spec": {}}),
    );
    check(
        &lease,
        "/spec/leaseDurationSeconds",
        json!(0),
        &["spec.leaseDurationSeconds|Invalid|Invalid value: 0: must be greater than 0"],
    );
    check(
        &lease,
        "/spec/leaseTransitions",
        json!(-1),
        &["spec.leaseTransitions|Invalid|Invalid value: -1: must be greater than or equal to 0"],
    );
    let slice = (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}),
    );
    check(
        &slice,
        "/addressType",
        Value::Null,
        &["addressType|Required|Required value"],
    );
    check(
        &slice,
        "/addressType",
        json!("IPX"),
        &[
            "addressType|NotSupported|Unsupported value: \"IPX\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
        ],
    );
    check(
        &slice,
        "/endpoints",
        json!([{"addresses": []}]),
        &["endpoints[0].addresses|Required|Required value: must contain at least 1 address"],
    );
    check(
        &slice,
        "/endpoints",
        json!([{"addresses": ["::1"]}]),
        &["endpoints[0].addresses[0]|Invalid|Invalid value: \"::1\": must be an IPv4 address"],
    );
    check(
        &slice,
        "/ports",
        json!([{"port": 1}, {"port": 2}]),
        &["ports[1].name|Duplicate|Duplicate value: \"\""],
    );
    let endpoints = ("v1", "Endpoints", json!({"metadata": {"name": "a"}}));
    check(
        &endpoints,
        "/subsets",
        json!([{"addresses": [{"ip": "169.254.1.1"}]}]),
        &[
            "subsets[0].addresses[0].ip|Invalid|Invalid value: \"169.254.1.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ],
    );
    check(
        &endpoints,
        "/subsets",
        json!([{"addresses": [{"ip": "::ffff:127.0.0.1"}], "notReadyAddresses": [{"ip": "::1"}, {"ip": "0.0.0.0"}]}]),
        &[
            "subsets[0].addresses[0].ip|Invalid|Invalid value: \"::ffff:127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "subsets[0].notReadyAddresses[0].ip|Invalid|Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "subsets[0].notReadyAddresses[1].ip|Invalid|Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
        ],
    );
    check(
        &slice,
        "/endpoints",
        json!([{"addresses": ["127.0.0.1"]}]),
        &[
            "endpoints[0].addresses[0]|Invalid|Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    check(
        &endpoints,
        "/subsets",
        json!([{}]),
        &["subsets[0]|Required|Required value: must specify `addresses` or `notReadyAddresses`"],
    );
    let event = (
        "v1",
        "Event",
        json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "default"}}),
    );
    check(
        &event,
        "/involvedObject/namespace",
        json!("other"),
        &["involvedObject.namespace|Invalid|Invalid value: \"other\": does not match event.namespace"],
    );
}
