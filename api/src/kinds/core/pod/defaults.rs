//! Defaults of Pods and Pod templates. Source: `pkg/apis/core/v1/defaults.go`.

use serde_json::{Map, Value, json};

use crate::kinds::common::defaults::{Object, child, child_or_new, default, default_number, has, items, str};
use crate::kinds::common::resources;
use crate::kinds::core::volume::source;
use crate::pod::QosClass;
use crate::quantity::{self, Quantity, ResourceList};

const FILE_MODE: i64 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a Pod: those of any Pod spec, and those that templates do not get.
pub fn pod(spec: &mut Object) {
    default(spec, "enableServiceLinks", true);
    if spec
        .get("hostNetwork")
        .and_then(Value::as_bool)
        .unwrap_or_default()
    {
        for list in ["containers", "initContainers"] {
            for container in items(spec, list) {
                for port in items(container, "ports") {
                    let number = port
                        .get("containerPort")
                        .and_then(Value::as_i64)
                        .unwrap_or_default();
                    default_number(port, "hostPort", number);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            requests_from_limits(container);
        }
    }
    pod_requests(spec);
    pod_spec(spec);
}

/// Defaults of any Pod spec.
pub fn pod_spec(spec: &mut Object) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    child_or_new(spec, "securityContext");
    for (from, to) in [
        ("serviceAccount", "serviceAccountName"),
        ("serviceAccountName", "serviceAccount"),
    ] {
        // Old and new name of the same field; the new one wins and both are written.
        let account = str(spec, from).to_string();
        if !account.is_empty() {
            if to == "serviceAccount" {
                spec.insert(to.into(), account.into());
            } else {
                default(spec, to, account);
            }
        }
    }
    for volume in items(spec, "volumes") {
        volume_source(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for item in items(spec, list) {
            container(item);
        }
    }
}

fn container(container: &mut Object) {
    let policy = if is_latest(str(container, "image")) {
        "Always"
    } else {
        "IfNotPresent"
    };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    for port in items(container, "ports") {
        default(port, "protocol", "TCP");
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, field) {
            default_number(probe, "timeoutSeconds", 1);
            default_number(probe, "periodSeconds", 10);
            default_number(probe, "successThreshold", 1);
            default_number(probe, "failureThreshold", 3);
            handler(probe);
        }
    }
    if let Some(lifecycle) = child(container, "lifecycle") {
        for field in ["postStart", "preStop"] {
            if let Some(hook) = child(lifecycle, field) {
                handler(hook);
            }
        }
    }
    for env in items(container, "env") {
        if let Some(field) = child(env, "valueFrom").and_then(|v| child(v, "fieldRef")) {
            default(field, "apiVersion", "v1");
        }
    }
    if let Some(resources) = child(container, "resources") {
        for field in ["limits", "requests"] {
            if let Some(list) = child(resources, field) {
                resources::round_up(list);
            }
        }
    }
}

fn handler(handler: &mut Object) {
    if let Some(http) = child(handler, "httpGet") {
        default(http, "path", "/");
        default(http, "scheme", "HTTP");
    }
    if let Some(grpc) = child(handler, "grpc")
        && !has(grpc, "service")
    {
        grpc.insert("service".into(), "".into());
    }
}

/// True when the image has the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.is_empty() || image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = child(container, "resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
        return;
    };
    let requests = child_or_new(resources, "requests");
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

/// Pod-level requests where only Pod-level limits are given: what the containers ask for, else the limits.
fn pod_requests(spec: &mut Object) {
    let Some(limits) = spec
        .get("resources")
        .and_then(|r| r["limits"].as_object())
        .cloned()
    else {
        return;
    };
    let mut asked = ResourceList::new();
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).and_then(Value::as_array).into_iter().flatten() {
            let sum = list_of(&container["resources"]["requests"]);
            match list {
                "containers" => quantity::add_to(&mut asked, &sum),
                _ => quantity::raise_to(&mut asked, &sum),
            }
        }
    }
    let requests = child_or_new(child_or_new(spec, "resources"), "requests");
    for (name, limit) in limits {
        let amount = asked.get(&name).map_or(limit, |q| q.to_string().into());
        requests.entry(name).or_insert(amount);
    }
}

/// Reads a JSON resource list; unreadable amounts count as zero.
pub fn list_of(list: &Value) -> ResourceList {
    let entries = list.as_object().into_iter().flatten();
    entries
        .map(|(name, v)| {
            (
                name.clone(),
                v.as_str().unwrap_or_default().parse().unwrap_or_default(),
            )
        })
        .collect()
}

/// The class of a Pod in JSON form; the rule is that of [`crate::pod::qos_class`].
pub fn qos_class(pod: &Map<String, Value>) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let (mut any, mut guaranteed) = (false, true);
    let mut look = |resources: &Value| {
        for name in ["cpu", "memory"] {
            let read = |field: &str| {
                let text = resources[field][name].as_str().unwrap_or_default();
                text.parse::<Quantity>().ok().filter(|q| !q.is_zero())
            };
            let (request, limit) = (read("requests"), read("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    };
    let of_pod = &spec["resources"];
    if of_pod["requests"].is_object() || of_pod["limits"].is_object() {
        look(of_pod);
    } else {
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array().into_iter().flatten() {
                look(&container["resources"]);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
    .as_str()
}

fn volume_source(volume: &mut Object) {
    if !volume.iter().any(|(k, v)| k != "name" && !v.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    for field in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, field) {
            default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = child(volume, "downwardAPI") {
        downward(source);
    }
    if let Some(source) = child(volume, "projected") {
        for item in items(source, "sources") {
            if let Some(downward_api) = child(item, "downwardAPI") {
                downward(downward_api);
            }
            if let Some(token) = child(item, "serviceAccountToken") {
                default(token, "expirationSeconds", TOKEN_SECONDS);
            }
        }
    }
    if let Some(source) = child(volume, "ephemeral")
        && let Some(spec) = child(source, "volumeClaimTemplate").and_then(|t| child(t, "spec"))
    {
        default(spec, "volumeMode", "Filesystem");
    }
    if let Some(source) = child(volume, "image") {
        let policy = if is_latest(str(source, "reference")) {
            "Always"
        } else {
            "IfNotPresent"
        };
        default(source, "pullPolicy", policy);
    }
    source::set_defaults(volume);
}

fn downward(source: &mut Object) {
    for item in items(source, "items") {
        if let Some(field) = child(item, "fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_decides_the_pull_policy() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("localhost:5000/nginx", true),
            ("localhost:5000/nginx:1", false),
            ("nginx@sha256:0", false),
            ("nginx:latest@sha256:0", false),
            ("", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn pod_level_requests() {
        let mut spec = json!({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            "containers": [{"resources": {"requests": {"cpu": "500m"}}}, {"resources": {"requests": {"cpu": "1"}}}]});
        pod_requests(spec.as_object_mut().unwrap());
        assert_eq!(
            spec["resources"]["requests"],
            json!({"cpu": "1500m", "memory": "1Gi"})
        );
    }
}
