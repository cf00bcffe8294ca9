//! Tables of bad objects and the exact causes Kubernetes gives: field, reason, message.

mod containers;
mod objects;
mod pods;

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
