//! Webhook configurations, admission policies and their bindings as a 1.36 server treats them.

#[path = "../common/mod.rs"]
mod common;
mod policies;
mod webhooks;

use common::{
    DNS_SUBDOMAIN, Name, QUALIFIED, aged, columns, golden, invalid, refused, refused_part, stored, update,
};
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const API: &str = "admissionregistration.k8s.io/v1";
const MUTATING: Name<'static> = (API, "MutatingWebhookConfiguration");
const VALIDATING: Name<'static> = (API, "ValidatingWebhookConfiguration");
const POLICY: Name<'static> = (API, "ValidatingAdmissionPolicy");
const BINDING: Name<'static> = (API, "ValidatingAdmissionPolicyBinding");
const MUTATING_POLICY: Name<'static> = (API, "MutatingAdmissionPolicy");
const MUTATING_BINDING: Name<'static> = (API, "MutatingAdmissionPolicyBinding");

const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]})
}

fn hook() -> Value {
    json!({
        "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "n", "name": "s"}},
        "rules": [rule()],
        "matchConditions": [{"name": "m", "expression": "true"}],
    })
}

fn webhooks() -> Value {
    json!({"metadata": {"name": "a"}, "webhooks": [hook()]})
}

fn policy() -> Value {
    json!({"metadata": {"name": "a.b"}, "spec": {
        "matchConstraints": {"resourceRules": [rule()]},
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "m", "expression": "true"}],
        "variables": [{"name": "v", "expression": "1"}],
        "validations": [{"expression": "true"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "'x'"}],
    }})
}

fn binding() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"},
        "matchResources": {"resourceRules": [rule()]},
    }})
}

fn mutating_policy() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "matchConstraints": {"resourceRules": [rule()]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/x'}]"}}],
        "reinvocationPolicy": "Never",
    }})
}

fn mutating_binding() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"policyName": "p", "matchResources": {"resourceRules": [rule()]}}})
}

fn full_rule() -> Value {
    let mut rule = rule();
    rule["scope"] = "*".into();
    rule
}

fn full_match() -> Value {
    json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [full_rule()]})
}

#[test]
fn defaults() {
    let mut full = hook();
    for (field, value) in [
        ("failurePolicy", json!("Fail")),
        ("matchPolicy", json!("Equivalent")),
        ("namespaceSelector", json!({})),
        ("objectSelector", json!({})),
        ("timeoutSeconds", json!(10)),
        ("rules", json!([full_rule()])),
    ] {
        full[field] = value;
    }
    full["clientConfig"]["service"]["port"] = 443.into();
    let want = |hook: &Value| json!({"metadata": {"name": "a", "generation": 1}, "webhooks": [hook]});
    golden(VALIDATING, webhooks(), want(&full));
    full["reinvocationPolicy"] = "Never".into();
    golden(MUTATING, webhooks(), want(&full));

    let mut want = policy();
    want["metadata"]["generation"] = 1.into();
    want["spec"]["failurePolicy"] = "Fail".into();
    want["spec"]["matchConstraints"] = full_match();
    want["status"] = json!({});
    golden(POLICY, policy(), want);
    let mut want = mutating_policy();
    want["metadata"]["generation"] = 1.into();
    want["spec"]["failurePolicy"] = "Fail".into();
    want["spec"]["matchConstraints"] = full_match();
    golden(MUTATING_POLICY, mutating_policy(), want);
    for (name, body) in [(BINDING, binding()), (MUTATING_BINDING, mutating_binding())] {
        let mut want = body.clone();
        want["metadata"]["generation"] = 1.into();
        want["spec"]["matchResources"] = full_match();
        golden(name, body, want);
    }
}

#[test]
fn updates() {
    // What was stored by older rules may stay, but not come anew.
    let mut old = stored(VALIDATING, &webhooks());
    refused(
        VALIDATING,
        &old,
        json!({"webhooks": [{"name": "a.b.c", "sideEffects": "Some", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://a"}}]}),
        &[
            "webhooks[0].sideEffects|NotSupported|Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ],
    );
    old["webhooks"][0]["sideEffects"] = "Some".into();
    refused(VALIDATING, &old, json!({"metadata": {"labels": {"a": "b"}}}), &[]);
    old["webhooks"][0]["matchConditions"] = json!([{"name": "", "expression": ""}]);
    refused(VALIDATING, &old, json!({"metadata": {"labels": {"a": "b"}}}), &[]);

    let new = update(
        POLICY,
        &stored(POLICY, &policy()),
        json!({"spec": {"failurePolicy": "Ignore"}}),
        Subresource::Main,
    );
    assert_eq!(new.unwrap()["metadata"]["generation"], 2);
    let new = update(
        POLICY,
        &stored(POLICY, &policy()),
        json!({"spec": {"failurePolicy": "Ignore"}, "status": {"observedGeneration": 1}}),
        Subresource::Status,
    )
    .unwrap();
    assert_eq!(
        (
            &new["spec"]["failurePolicy"],
            &new["status"]["observedGeneration"]
        ),
        (&json!("Fail"), &json!(1))
    );
    refused_part(
        POLICY,
        &stored(POLICY, &policy()),
        json!({"status": {
            "typeChecking": {"expressionWarnings": [{"fieldRef": "", "warning": ""}]},
            "conditions": [{"type": "A", "status": "x", "reason": "", "lastTransitionTime": null}],
        }}),
        Subresource::Status,
        &[
            "status.typeChecking.expressionWarnings[0].warning|Required|Required value",
            "status.typeChecking.expressionWarnings[0].fieldRef|Required|Required value",
            "status.conditions[0].status|NotSupported|Unsupported value: \"x\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[0].lastTransitionTime|Required|Required value: must be set",
            "status.conditions[0].reason|Required|Required value: must be set",
        ],
    );
    let unconditional = update(
        MUTATING,
        &stored(MUTATING, &webhooks()),
        json!({"metadata": {"resourceVersion": null}}),
        Subresource::Main,
    );
    let message = unconditional.unwrap_err().message;
    assert!(
        message.ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
}

#[test]
fn shown() {
    let mut object = webhooks();
    object["metadata"] = aged("a");
    for name in [MUTATING, VALIDATING] {
        columns(name, object.clone(), &["Name=a", "Webhooks=1", "Age=5m"]);
    }
    let mut object = policy();
    object["metadata"] = aged("a");
    columns(
        POLICY,
        object.clone(),
        &["Name=a", "Validations=1", "ParamKind=v1/ConfigMap", "Age=5m"],
    );
    object["spec"].as_object_mut().unwrap().remove("paramKind");
    columns(
        POLICY,
        object,
        &["Name=a", "Validations=1", "ParamKind=<unset>", "Age=5m"],
    );
    let mut object = mutating_policy();
    object["metadata"] = aged("a");
    columns(
        MUTATING_POLICY,
        object,
        &["Name=a", "Mutations=1", "ParamKind=<unset>", "Age=5m"],
    );
    let mut object = binding();
    object["metadata"] = aged("a");
    columns(
        BINDING,
        object.clone(),
        &["Name=a", "PolicyName=p", "ParamRef=*/x", "Age=5m"],
    );
    object["spec"]["paramRef"]["namespace"] = "n".into();
    columns(
        BINDING,
        object,
        &["Name=a", "PolicyName=p", "ParamRef=n/x", "Age=5m"],
    );
    let mut object = mutating_binding();
    object["metadata"] = aged("a");
    columns(
        MUTATING_BINDING,
        object,
        &["Name=a", "PolicyName=p", "ParamRef=<unset>", "Age=5m"],
    );
}

#[test]
fn names_kept_for_later_are_warned_of() {
    let warnings = |name: &str| {
        let mut object = webhooks();
        object["metadata"]["name"] = name.into();
        common::resource(VALIDATING).warnings(&object)
    };
    assert!(warnings("a.b").is_empty());
    assert_eq!(warnings("a.static.k8s.io").len(), 1);
}
