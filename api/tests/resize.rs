//! `pods/resize`: what it may change, in Kubernetes' own words.

use corten_api::registry;
use corten_api::resource::{FieldValidation, Subresource};
use serde_json::{Value, json};

fn container(resources: Value) -> Value {
    json!({ "name": "c", "image": "i", "resources": resources })
}

fn pod(spec: Value) -> Value {
    let body = json!({ "metadata": { "name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1" }, "spec": spec });
    let ty = registry().lookup("", "v1", "pods").expect("built in");
    let decoded = ty.decode(body.to_string().as_bytes(), FieldValidation::Strict);
    let mut pod = decoded.expect("a Pod").value;
    ty.set_defaults(&mut pod);
    pod
}

/// `change` is merged into the old Pod; `want` is empty for a resize that is taken.
#[track_caller]
fn check(old: &Value, change: &Value, want: &str) {
    let ty = registry().lookup("", "v1", "pods").expect("built in");
    let mut new = old.clone();
    corten_api::patch::merge_patch(&mut new, change);
    let got = ty.prepare_update(&mut new, old, Subresource::Resize);
    let got = got.map_err(|status| status.message).err().unwrap_or_default();
    let got = got.strip_prefix("Pod \"p\" is invalid: ").unwrap_or(&got);
    assert_eq!(got, want);
    if want.is_empty() {
        assert_ne!(
            new["spec"], old["spec"],
            "a resize that is taken changes something"
        );
    }
}

fn containers(resources: Value) -> Value {
    json!({ "spec": { "containers": [container(resources)] } })
}

#[test]
fn cpu_and_memory_may_change_within_the_class() {
    let burstable =
        pod(json!({ "containers": [container(json!({ "requests": { "cpu": "1", "memory": "1Gi" } }))] }));
    check(
        &burstable,
        &containers(json!({ "requests": { "cpu": "2", "memory": "2Gi" } })),
        "",
    );
    check(
        &burstable,
        &containers(json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "3" } })),
        "",
    );
    check(
        &burstable,
        &containers(json!({ "requests": { "cpu": "2" } })),
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
    );
    check(
        &burstable,
        &containers(
            json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" } }),
        ),
        "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing",
    );
    check(
        &burstable,
        &containers(json!({ "requests": { "cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi" } })),
        "spec: Forbidden: only cpu and memory resources are mutable",
    );
    let limited = pod(
        json!({ "containers": [container(json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "1" } }))] }),
    );
    check(
        &limited,
        &containers(json!({ "requests": { "cpu": "1" } })),
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
    );
}

#[test]
fn nothing_else_changes() {
    let old = pod(json!({ "containers": [container(json!({ "requests": { "cpu": "1" } }))] }));
    let mut policy = container(json!({ "requests": { "cpu": "1" } }));
    policy["resizePolicy"] = json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
    check(
        &old,
        &json!({ "spec": { "containers": [policy] } }),
        "spec: Forbidden: only cpu and memory resources are mutable",
    );
    // What is no part of a resize is not looked at.
    let mut image = container(json!({ "requests": { "cpu": "2" } }));
    image["image"] = "other".into();
    let ty = registry().lookup("", "v1", "pods").expect("built in");
    let mut new = old.clone();
    let change = json!({ "spec": { "containers": [image], "nodeName": "n" } });
    corten_api::patch::merge_patch(&mut new, &change);
    ty.prepare_update(&mut new, &old, Subresource::Resize)
        .expect("a resize");
    assert_eq!(new["spec"]["containers"][0]["image"], "i");
    assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    assert_eq!(new["spec"].get("nodeName"), None);
    assert_eq!(new["metadata"]["generation"], 1);
}

#[test]
fn pods_that_cannot_be_resized() {
    let more = containers(json!({ "requests": { "cpu": "2" } }));
    let mut old = pod(json!({ "containers": [container(json!({ "requests": { "cpu": "1" } }))] }));
    old["status"] = json!({ "containerStatuses": [{ "name": "c", "state": { "running": {} } }] });
    check(
        &old,
        &more,
        "spec: Forbidden: Pod running on node without support for resize",
    );
    old["status"]["containerStatuses"][0]["resources"] = json!({});
    check(&old, &more, "");
    old["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    check(&old, &more, ": Forbidden: static pods cannot be resized");
    let init = |policy: &str| {
        json!({ "name": "i", "image": "i", "resources": { "requests": { "cpu": "1" } },
            "resizePolicy": [{ "resourceName": "cpu", "restartPolicy": policy }] })
    };
    let restarts =
        pod(json!({ "containers": [container(json!({}))], "initContainers": [init("RestartContainer")] }));
    let mut bigger = init("RestartContainer");
    bigger["resources"]["requests"]["cpu"] = "2".into();
    check(
        &restarts,
        &json!({ "spec": { "initContainers": [bigger] } }),
        "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
    );
}
