//! Golden tests: a minimal object of each kind comes back with exactly Kubernetes' defaults.

use corten_api::resource::CreateContext;
use corten_api::{FieldValidation, registry};
use serde_json::{Value, json};

/// Creates `body` as the API server would and compares everything but the system metadata.
#[track_caller]
fn check(api_version: &str, kind: &str, body: Value, want: Value) {
    let resource = registry()
        .for_api_version(api_version, kind)
        .expect("a served kind");
    let body = serde_json::to_vec(&body).unwrap();
    let mut object = resource.decode(&body, FieldValidation::Strict).unwrap().value;
    let ctx = CreateContext {
        namespace: if resource.namespaced { "default" } else { "" },
        uid: "u",
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        name_suffix: "abcde",
    };
    resource.prepare_create(&mut object, &ctx).unwrap();
    let stored = object.clone();
    // What was stored decodes to itself: defaults are in canonical form and idempotent.
    let mut again = resource
        .decode(&serde_json::to_vec(&object).unwrap(), FieldValidation::Strict)
        .unwrap()
        .value;
    resource.set_defaults(&mut again);
    assert_eq!(again, stored, "stored form is canonical");
    let metadata = object["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("uid"), Some("u".into()));
    assert_eq!(
        metadata.remove("creationTimestamp"),
        Some("2026-01-01T00:00:00Z".into())
    );
    let mut want = want;
    want["apiVersion"] = api_version.into();
    want["kind"] = kind.into();
    if resource.namespaced {
        want["metadata"]["namespace"] = "default".into();
    }
    assert_eq!(object, want);
}

#[test]
fn pod() {
    check(
        "v1",
        "Pod",
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "containers": [{
                    "name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30,
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }),
    );
}

#[test]
fn pod_with_everything_that_has_defaults() {
    check(
        "v1",
        "Pod",
        json!({"metadata": {"generateName": "a-"}, "spec": {
            "hostNetwork": true,
            "serviceAccountName": "sa",
            "containers": [{
                "name": "c", "image": "nginx:1",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"memory": "1024Mi"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 3},
                "startupProbe": {"grpc": {"port": 1}},
                "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "x"}}},
                "volumeMounts": [{"name": "s", "mountPath": "/s"}],
            }],
            "volumes": [
                {"name": "e"},
                {"name": "h", "hostPath": {"path": "/x"}},
                {"name": "s", "secret": {"secretName": "x"}},
                {"name": "c", "configMap": {"name": "x"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            ],
        }}),
        json!({
            "metadata": {"name": "a-abcde", "generateName": "a-", "generation": 1},
            "spec": {
                "containers": [{
                    "name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                    "readinessProbe": {"tcpSocket": {"port": "http"}, "failureThreshold": 3, "periodSeconds": 3, "successThreshold": 1, "timeoutSeconds": 1},
                    "startupProbe": {"grpc": {"port": 1, "service": ""}, "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                    "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "x", "scheme": "HTTP"}}},
                    "volumeMounts": [{"name": "s", "mountPath": "/s"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "hostNetwork": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "serviceAccount": "sa",
                "serviceAccountName": "sa",
                "terminationGracePeriodSeconds": 30,
                "volumes": [
                    {"name": "e", "emptyDir": {}},
                    {"name": "h", "hostPath": {"path": "/x", "type": ""}},
                    {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
                    {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
                    {"name": "p", "projected": {"defaultMode": 420, "sources": [
                        {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}},
                    ]}},
                ],
            },
            "status": {"phase": "Pending", "qosClass": "Guaranteed"},
        }),
    );
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn template_with_defaults(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {
        "containers": [{
            "name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }})
}

#[test]
fn deployment() {
    let selector = json!({"matchLabels": {"app": "a"}});
    check(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "a"}, "spec": {"selector": selector, "template": template("i:1")}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "progressDeadlineSeconds": 600,
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "selector": selector,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": template_with_defaults("i:1"),
            },
            "status": {},
        }),
    );
    check(
        "apps/v1",
        "Deployment",
        json!({"metadata": {"name": "a"}, "spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "selector": selector, "template": template("i:1")}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "progressDeadlineSeconds": 600,
                "replicas": 0,
                "revisionHistoryLimit": 10,
                "selector": selector,
                "strategy": {"type": "Recreate"},
                "template": template_with_defaults("i:1"),
            },
            "status": {},
        }),
    );
}

#[test]
fn replica_set() {
    let selector = json!({"matchLabels": {"app": "a"}});
    check(
        "apps/v1",
        "ReplicaSet",
        json!({"metadata": {"name": "a"}, "spec": {"selector": selector, "template": template("i:1")}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"replicas": 1, "selector": selector, "template": template_with_defaults("i:1")},
            "status": {"replicas": 0},
        }),
    );
}

#[test]
fn service() {
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"app": "a"},
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        }),
    );
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "targetPort": "web"}]}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {
                "allocateLoadBalancerNodePorts": true,
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": "web"}],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "type": "LoadBalancer",
            },
            "status": {"loadBalancer": {}},
        }),
    );
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "a"}, "spec": {"type": "ExternalName", "externalName": "x.example"}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {"externalName": "x.example", "sessionAffinity": "None", "type": "ExternalName"},
            "status": {"loadBalancer": {}},
        }),
    );
}

#[test]
fn small_kinds() {
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
    );
    check(
        "v1",
        "Secret",
        json!({"metadata": {"name": "a"}, "stringData": {"k": "hi"}, "data": {"l": "aGk="}}),
        json!({"metadata": {"name": "a"}, "data": {"k": "aGk=", "l": "aGk="}, "type": "Opaque"}),
    );
    check(
        "v1",
        "ServiceAccount",
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a"}}),
    );
    check(
        "v1",
        "Endpoints",
        json!({"metadata": {"name": "a"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        json!({"metadata": {"name": "a"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]}),
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        json!({"metadata": {"name": "a", "generation": 1}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {}}], "ports": [{"name": "", "port": 80, "protocol": "TCP"}]}),
    );
    check(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T00:00:00.5Z", "leaseDurationSeconds": 40}}),
        json!({"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T00:00:00.500000Z", "leaseDurationSeconds": 40}}),
    );
    check(
        "v1",
        "Event",
        json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "default", "name": "p", "kind": "Pod"}, "reason": "R"}),
        json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "default", "name": "p", "kind": "Pod"}, "reason": "R",
            "eventTime": null, "firstTimestamp": null, "lastTimestamp": null, "reportingComponent": "", "reportingInstance": "", "source": {}}),
    );
    check(
        "v1",
        "Node",
        json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}),
        json!({"metadata": {"name": "n"}, "spec": {}, "status": {
            "allocatable": {"cpu": "2"}, "capacity": {"cpu": "2"},
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""},
        }}),
    );
}
