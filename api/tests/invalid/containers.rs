//! What is wrong within a container.

use super::*;

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
