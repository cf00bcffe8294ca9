//! Updates: what each path may change, generation, immutable fields with their exact causes.

use corten_api::resource::{CreateContext, Subresource};
use corten_api::{FieldValidation, ResourceType, registry};
use serde_json::{Value, json};

fn resource(api_version: &str, kind: &str) -> &'static ResourceType {
    registry()
        .for_api_version(api_version, kind)
        .expect("a served kind")
}

fn stored(resource: &ResourceType, body: Value) -> Value {
    let mut object = resource
        .decode(&serde_json::to_vec(&body).unwrap(), FieldValidation::Strict)
        .unwrap()
        .value;
    let ctx = CreateContext {
        namespace: if resource.namespaced { "default" } else { "" },
        uid: "u",
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        name_suffix: "abcde",
    };
    resource.prepare_create(&mut object, &ctx).unwrap();
    object
}

/// Changes the stored object by a merge patch through one path; the result or the causes.
fn update(
    resource: &ResourceType,
    old: &Value,
    patch: Value,
    path: Subresource,
) -> Result<Value, Vec<String>> {
    let mut new = old.clone();
    corten_api::patch::merge_patch(&mut new, &patch);
    let mut new = resource
        .conform(&new, FieldValidation::Strict)
        .unwrap_or_else(|e| panic!("{}", e.text))
        .value;
    match resource.prepare_update(&mut new, old, path) {
        Ok(()) => Ok(new),
        Err(status) => Err(status
            .details
            .unwrap()
            .causes
            .into_iter()
            .map(|c| {
                format!(
                    "{}|{}|{}",
                    c.field,
                    c.reason.trim_start_matches("FieldValue"),
                    c.message
                )
            })
            .collect()),
    }
}

#[track_caller]
fn refused(resource: &ResourceType, old: &Value, patch: Value, want: &[&str]) {
    assert_eq!(
        update(resource, old, patch, Subresource::Main),
        Err(want.iter().map(|w| w.to_string()).collect())
    );
}

fn deployment() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
    }})
}

#[test]
fn generation_follows_the_spec_and_status_has_its_own_path() {
    let kind = resource("apps/v1", "Deployment");
    let old = stored(kind, deployment());
    let labelled = update(
        kind,
        &old,
        json!({"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 7}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (&labelled["metadata"]["generation"], &labelled["status"]),
        (&json!(1), &json!({}))
    );
    let scaled = update(
        kind,
        &labelled,
        json!({"spec": {"replicas": 3}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);
    let status = update(kind, &scaled, json!({"metadata": {"labels": {"x": null}}, "spec": {"replicas": 9}, "status": {"replicas": 3, "observedGeneration": 2}}), Subresource::Status).unwrap();
    assert_eq!(status["spec"]["replicas"], 3);
    assert_eq!(status["status"], json!({"replicas": 3, "observedGeneration": 2}));
    assert_eq!(
        (
            &status["metadata"]["generation"],
            &status["metadata"]["labels"]["x"]
        ),
        (&json!(2), &json!("y"))
    );
}

#[test]
fn system_metadata_stays() {
    let kind = resource("v1", "ConfigMap");
    let old = stored(kind, json!({"metadata": {"name": "a"}}));
    let new = update(kind, &old, json!({"metadata": {"uid": null, "creationTimestamp": null, "generation": 9, "deletionTimestamp": "2026-01-01T00:00:00Z"}}), Subresource::Main).unwrap();
    assert_eq!(new["metadata"], old["metadata"]);
    refused(
        kind,
        &old,
        json!({"metadata": {"uid": "other"}}),
        &["metadata.uid|Invalid|Invalid value: \"other\": field is immutable"],
    );
    refused(
        kind,
        &old,
        json!({"metadata": {"name": "b"}}),
        &["metadata.name|Invalid|Invalid value: \"b\": field is immutable"],
    );
    let mut deleting = old;
    deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    refused(
        kind,
        &deleting,
        json!({"metadata": {"finalizers": ["x.io/a"]}}),
        &[
            "metadata.finalizers|Forbidden|Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/a\"}",
        ],
    );
}

#[test]
fn immutable_fields() {
    let kind = resource("apps/v1", "Deployment");
    let old = stored(kind, deployment());
    refused(
        kind,
        &old,
        json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}}),
        &["spec.selector|Invalid|Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
    );
    let kind = resource("v1", "Secret");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "immutable": true, "data": {"a": "aGk="}}),
    );
    refused(
        kind,
        &old,
        json!({"type": "x", "immutable": null, "data": {"b": "aGk="}}),
        &[
            "type|Invalid|Invalid value: \"x\": field is immutable",
            "immutable|Forbidden|Forbidden: field is immutable when `immutable` is set",
            "data|Forbidden|Forbidden: field is immutable when `immutable` is set",
        ],
    );
    let kind = resource("v1", "ConfigMap");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "immutable": true, "data": {"a": "b"}}),
    );
    refused(
        kind,
        &old,
        json!({"data": {"a": "c"}}),
        &["data|Forbidden|Forbidden: field is immutable when `immutable` is set"],
    );
    let kind = resource("discovery.k8s.io/v1", "EndpointSlice");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}),
    );
    refused(
        kind,
        &old,
        json!({"addressType": "FQDN"}),
        &["addressType|Invalid|Invalid value: \"FQDN\": field is immutable"],
    );
    let kind = resource("v1", "Node");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}),
    );
    refused(
        kind,
        &old,
        json!({"spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]}}),
        &["spec.podCIDRs|Forbidden|Forbidden: node updates may not change podCIDR except from \"\" to valid"],
    );
    let kind = resource("coordination.k8s.io/v1", "Lease");
    let old = stored(kind, json!({"metadata": {"name": "a"}}));
    refused(
        kind,
        &old,
        json!({"spec": {"holderIdentity": "x"}}),
        &["metadata.resourceVersion|Invalid|Invalid value: 0: must be specified for an update"],
    );
}

#[test]
fn pods_change_little() {
    let kind = resource("v1", "Pod");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1"}], "activeDeadlineSeconds": 9, "tolerations": [{"key": "a", "operator": "Exists"}]}}),
    );
    let mut image = old["spec"]["containers"].clone();
    image[0]["image"] = "i:2".into();
    let new = update(
        kind,
        &old,
        json!({"spec": {"containers": image, "activeDeadlineSeconds": 5}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (
            &new["metadata"]["generation"],
            &new["spec"]["containers"][0]["image"]
        ),
        (&json!(2), &json!("i:2"))
    );
    let causes = update(
        kind,
        &old,
        json!({"spec": {"restartPolicy": "Never"}}),
        Subresource::Main,
    )
    .unwrap_err();
    assert!(causes[0].starts_with("spec|Forbidden|Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"), "{causes:?}");
    refused(
        kind,
        &old,
        json!({"spec": {"activeDeadlineSeconds": 10}}),
        &[
            "spec.activeDeadlineSeconds|Invalid|Invalid value: 10: must be less than or equal to previous value",
        ],
    );
    refused(
        kind,
        &old,
        json!({"spec": {"initContainers": [{"name": "x", "image": "i"}]}}),
        &["spec.initContainers|Forbidden|Forbidden: pod updates may not add or remove containers"],
    );
    let causes = update(
        kind,
        &old,
        json!({"spec": {"tolerations": []}}),
        Subresource::Main,
    )
    .unwrap_err();
    assert_eq!(
        causes,
        [
            "spec.tolerations|Forbidden|Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
    // Status: the spec stays, the phase goes, the class is kept.
    let running = update(
        kind,
        &old,
        json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running", "qosClass": null}}),
        Subresource::Status,
    )
    .unwrap();
    assert_eq!(
        (&running["spec"], &running["status"]),
        (
            &old["spec"],
            &json!({"phase": "Running", "qosClass": "BestEffort"})
        )
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let kind = resource("v1", "Pod");
    let old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}),
    );
    let patch = json!({"spec": {"restartPolicy": "Never", "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}]}});
    let debugged = update(kind, &old, patch, Subresource::EphemeralContainers).unwrap();
    assert_eq!(
        (
            &debugged["spec"]["restartPolicy"],
            &debugged["spec"]["ephemeralContainers"][0]["name"]
        ),
        (&json!("Always"), &json!("e"))
    );
    let causes = update(
        kind,
        &debugged,
        json!({"spec": {"ephemeralContainers": null}}),
        Subresource::EphemeralContainers,
    )
    .unwrap_err();
    assert_eq!(
        causes,
        [
            "spec.ephemeralContainers|Forbidden|Forbidden: existing ephemeral containers \"e\" may not be removed\n"
        ]
    );
    // The main path keeps what is there.
    assert!(
        update(
            kind,
            &debugged,
            json!({"metadata": {"labels": {"a": "b"}}}),
            Subresource::Main
        )
        .is_ok()
    );
}

#[test]
fn services_keep_what_was_allocated() {
    let kind = resource("v1", "Service");
    let mut old = stored(
        kind,
        json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
    );
    corten_api::kinds::core::service::set_cluster_ip(&mut old, "10.96.0.9");
    old["spec"]["ports"][0]["nodePort"] = 30001.into();
    // A client that sends only what it wrote itself gets the rest kept.
    let new = update(
        kind,
        &old,
        json!({"spec": {"clusterIP": null, "clusterIPs": null, "ports": [{"port": 80}]}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (
            &new["spec"]["clusterIP"],
            &new["spec"]["clusterIPs"],
            &new["spec"]["ports"][0]["nodePort"]
        ),
        (&json!("10.96.0.9"), &json!(["10.96.0.9"]), &json!(30001))
    );
    refused(
        kind,
        &old,
        json!({"spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]}}),
        &["spec.clusterIPs[0]|Invalid|Invalid value: [\"10.96.0.10\"]: may not change once set"],
    );
    let inner = update(
        kind,
        &old,
        json!({"spec": {"type": "ClusterIP"}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (
            &inner["spec"]["ports"][0]["nodePort"],
            &inner["spec"]["externalTrafficPolicy"]
        ),
        (&Value::Null, &Value::Null)
    );
    let external = update(
        kind,
        &old,
        json!({"spec": {"type": "ExternalName", "externalName": "x.example"}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(
        (&external["spec"]["clusterIP"], &external["spec"]["ipFamilies"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn namespaces_end_through_finalize() {
    let kind = resource("v1", "Namespace");
    let old = stored(kind, json!({"metadata": {"name": "a"}}));
    let kept = update(kind, &old, json!({"spec": {"finalizers": []}}), Subresource::Main).unwrap();
    assert_eq!(kept["spec"], json!({"finalizers": ["kubernetes"]}));
    let mut deleting = old;
    deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let done = update(
        kind,
        &deleting,
        json!({"spec": {"finalizers": []}}),
        Subresource::Finalize,
    )
    .unwrap();
    assert_eq!(done["spec"], json!({}));
    assert_eq!(
        update(kind, &deleting, json!({"status": {"phase": "Active"}}), Subresource::Status),
        Err(vec!["status.phase|Invalid|Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty".to_string()])
    );
}
