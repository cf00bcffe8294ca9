//! The objects the tests apply.

use serde_json::{Value, json};

/// Answers `<hostname> v1` on port 8080 and drains for two seconds on SIGTERM.
pub const WEB_1: &str = "corten.dev/test-web:1";
/// The same, answering `v2`.
pub const WEB_2: &str = "corten.dev/test-web:2";
/// A shell and the usual tools. (Debian's busybox crashes on `wget -T`; use `timeout`.)
pub const BUSYBOX: &str = "corten.dev/test-busybox:1";

/// A Deployment of the web image that counts as ready once it answers.
pub fn web(name: &str, replicas: u32) -> Value {
    let probe = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 10,
                    "containers": [{
                        "name": "web",
                        "image": WEB_1,
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [{"containerPort": 8080}],
                        "readinessProbe": probe,
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    }],
                },
            },
        },
    })
}

/// A NodePort Service on port 80 for the Pods of [`web`].
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// A Pod of one busybox container that runs `script`.
pub fn shell(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "shell",
                "image": BUSYBOX,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", script],
            }],
        },
    })
}

/// Several objects for one `apply`.
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
