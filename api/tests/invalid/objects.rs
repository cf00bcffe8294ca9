//! What is wrong in metadata, workloads, Services and small kinds.

use super::*;

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
