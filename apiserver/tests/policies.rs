//! Admission policies as their users see them: what they refuse, warn of, note and change, and that a request sees exactly
//! the policies and parameters of its own state.

mod common;

use common::{CONFIG_MAPS, Got, World, config_map, deployment};
use corten_apiserver::User;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

fn rules(group: &str, resource: &str) -> Value {
    json!({ "resourceRules": [{ "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource] }] })
}

async fn policy(w: &World, kind: &str, name: &str, spec: Value) -> Got {
    let plural = format!("{}ies", kind.to_lowercase().trim_end_matches('y'));
    let object = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    w.post(&format!("{GROUP}/{plural}"), &object).await
}

async fn validating(w: &World, name: &str, spec: Value) {
    check(&policy(w, "ValidatingAdmissionPolicy", name, spec).await, "201");
}

async fn bind(w: &World, name: &str, more: Value) {
    let mut spec = json!({ "policyName": name, "validationActions": ["Deny"] });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let object = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": format!("{name}-binding") }, "spec": spec });
    check(
        &w.post(&format!("{GROUP}/validatingadmissionpolicybindings"), &object)
            .await,
        "201",
    );
}

#[tokio::test]
async fn variables_are_evaluated_when_they_are_asked_for() {
    let w = World::new().await;
    let bad = json!([
        { "name": "bad", "expression": "1 / (object.spec.replicas - 2) > 0" },
        { "name": "worse", "expression": "variables.bad" },
    ]);
    let rule = |expression: &str| {
        json!({ "matchConstraints": rules("apps", "deployments"), "variables": bad,
            "validations": [{ "expression": expression }] })
    };
    validating(&w, "idle", rule("object.spec.replicas < 9 || variables.worse")).await;
    bind(&w, "idle", json!({})).await;
    check(&w.post(DEPLOYMENTS, &deployment("a")).await, "201");
    validating(&w, "asks", rule("object.metadata.name != 'b' || variables.worse")).await;
    bind(&w, "asks", json!({})).await;
    check(&w.post(DEPLOYMENTS, &deployment("c")).await, "201");
    check(
        &w.post(DEPLOYMENTS, &deployment("b")).await,
        "422 composited variable \\\"worse\\\" fails to evaluate: composited variable \\\"bad\\\" fails to evaluate: division by zero",
    );
}

#[tokio::test]
async fn a_policy_speaks_before_the_store_does() {
    let w = World::new().await;
    check(&w.post(CONFIG_MAPS, &config_map("there")).await, "201");
    validating(
        &w,
        "nobody",
        json!({ "matchConstraints": rules("", "configmaps"),
            "validations": [{ "expression": "object.metadata.name == 'free'", "message": "not for you" }] }),
    )
    .await;
    bind(&w, "nobody", json!({})).await;
    check(
        &w.post(CONFIG_MAPS, &config_map("there")).await,
        "422 not for you",
    );
    let mut versioned = config_map("there");
    versioned["metadata"]["resourceVersion"] = "3".into();
    check(&w.post(CONFIG_MAPS, &versioned).await, "422 not for you");
    check(&w.post(CONFIG_MAPS, &config_map("free")).await, "201");
    check(
        &w.post(CONFIG_MAPS, &config_map("free")).await,
        "409 already exists",
    );
}

#[tokio::test]
async fn a_policy_holds_from_the_next_request_on() {
    let w = World::new().await;
    validating(
        &w,
        "replicas",
        json!({
            "matchConstraints": rules("apps", "deployments"),
            "variables": [
                { "name": "limit", "expression": "1" },
                { "name": "wanted", "expression": "object.spec.replicas - variables.limit" },
            ],
            "validations": [
                { "expression": "variables.wanted < 3", "messageExpression": "'at most 3, not ' + string(object.spec.replicas)" },
                { "expression": "!has(object.metadata.labels) || !('bad' in object.metadata.labels)", "message": "bad label", "reason": "Forbidden" },
                { "expression": "oldObject == null || oldObject.spec.replicas <= object.spec.replicas" },
            ],
        }),
    )
    .await;
    let many = |n: i64| {
        let mut d = deployment("d");
        d["spec"]["replicas"] = n.into();
        d
    };
    check(&w.post(DEPLOYMENTS, &many(9)).await, "201");
    check(&w.delete(&format!("{DEPLOYMENTS}/d"), &json!({})).await, "200");
    bind(&w, "replicas", json!({})).await;
    let refused = w.post(DEPLOYMENTS, &many(9)).await;
    let status = check(
        &refused,
        "422 deployments.apps \\\"d\\\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'replicas-binding' denied request: at most 3, not 9",
    );
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(
        status["details"]["causes"][0]["message"],
        "ValidatingAdmissionPolicy 'replicas' with binding 'replicas-binding' denied request: at most 3, not 9"
    );
    check(&w.post(DEPLOYMENTS, &many(3)).await, "201");
    let at = format!("{DEPLOYMENTS}/d");
    check(
        &w.patch(&at, "merge", &json!({ "spec": { "replicas": 2 } })).await,
        "422 failed expression: oldObject == null || oldObject.spec.replicas <= object.spec.replicas",
    );
    let labelled = w
        .patch(&at, "merge", &json!({ "metadata": { "labels": { "bad": "" } } }))
        .await;
    assert_eq!(check(&labelled, "403 bad label")["reason"], "Forbidden");
    check(
        &w.delete(
            &format!("{GROUP}/validatingadmissionpolicies/replicas"),
            &json!({}),
        )
        .await,
        "200",
    );
    check(
        &w.patch(&at, "merge", &json!({ "spec": { "replicas": 2 } })).await,
        "200",
    );
}

#[tokio::test]
async fn actions_conditions_and_failures() {
    let w = World::new().await;
    let spec = |more: Value| {
        let mut spec = json!({ "matchConstraints": rules("", "configmaps"), "validations": [{ "expression": "object.data.a == '1'", "message": "a is one" }] });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    validating(
        &w,
        "warn",
        spec(
            json!({ "auditAnnotations": [{ "key": "who", "valueExpression": "request.userInfo.username" }] }),
        ),
    )
    .await;
    bind(&w, "warn", json!({ "validationActions": ["Warn", "Audit"] })).await;
    let mut other = config_map("warned");
    other["data"]["a"] = "2".into();
    let warned = w.post(CONFIG_MAPS, &other).await;
    check(&warned, "201");
    assert!(
        warned.headers["warning"].to_str().expect("text").contains(
            "Validation failed for ValidatingAdmissionPolicy 'warn' with binding 'warn-binding': a is one"
        ),
        "{:?}",
        warned.headers
    );
    check(
        &w.delete(&format!("{GROUP}/validatingadmissionpolicies/warn"), &json!({}))
            .await,
        "200",
    );

    // Conditions: one that is false outweighs one that fails.
    let conditions = json!([
        { "name": "fails", "expression": "object.data.missing == 'x'" },
        { "name": "others", "expression": "request.userInfo.username != 'admin'" },
    ]);
    validating(&w, "cond", spec(json!({ "matchConditions": conditions }))).await;
    bind(&w, "cond", json!({})).await;
    let mut bad = config_map("cond");
    bad["data"]["a"] = "2".into();
    check(&w.post(CONFIG_MAPS, &bad).await, "422 no such key: missing");
    let admin = w.by(User::new("admin", &["system:masters"]));
    check(&admin.post(CONFIG_MAPS, &bad).await, "201");
    check(
        &w.delete(&format!("{GROUP}/validatingadmissionpolicies/cond"), &json!({}))
            .await,
        "200",
    );

    // What fails counts as the policy says; a loop ends by its cost.
    for (policy, code) in [("Fail", "422"), ("Ignore", "201")] {
        for (at, expression) in [
            "object.data.nothing == '1'",
            "object.spec.replicas > 1",
            "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, [1,2,3,4,5,6,7,8,9,10].all(g, true)))))))",
        ]
        .iter()
        .enumerate()
        {
            let own = json!({ "failurePolicy": policy, "validations": [{ "expression": expression }] });
            validating(&w, "fail", spec(own)).await;
            bind(&w, "fail", json!({})).await;
            check(&w.post(CONFIG_MAPS, &config_map(&format!("f{}{at}", code))).await, code);
            check(&w.delete(&format!("{GROUP}/validatingadmissionpolicies/fail"), &json!({})).await, "200");
            check(&w.delete(&format!("{GROUP}/validatingadmissionpolicybindings/fail-binding"), &json!({})).await, "200");
        }
    }
}

#[tokio::test]
async fn parameters_come_from_the_state_that_is_decided_on() {
    let w = World::new().await;
    validating(
        &w,
        "sized",
        json!({
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "matchConstraints": rules("apps", "deployments"),
            "validations": [{ "expression": "object.spec.replicas <= int(params.data.max)", "messageExpression": "'most is ' + params.data.max" }],
        }),
    )
    .await;
    bind(&w, "sized", json!({ "paramRef": { "name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny" } })).await;
    check(
        &w.post(DEPLOYMENTS, &deployment("d")).await,
        "422 failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
    );
    let limits = |max: &str| json!({ "metadata": { "name": "limits" }, "data": { "max": max } });
    check(&w.post(CONFIG_MAPS, &limits("1")).await, "201");
    check(&w.post(DEPLOYMENTS, &deployment("d")).await, "422 most is 1");
    check(
        &w.put(&format!("{CONFIG_MAPS}/limits"), &limits("2")).await,
        "200",
    );
    check(&w.post(DEPLOYMENTS, &deployment("d")).await, "201");
    let selected = json!({ "policyName": "sized", "validationActions": ["Deny"],
        "paramRef": { "selector": { "matchLabels": { "use": "yes" } }, "parameterNotFoundAction": "Allow" } });
    let at = format!("{GROUP}/validatingadmissionpolicybindings/sized-binding");
    check(
        &w.patch(&at, "merge", &json!({ "spec": { "paramRef": null } }))
            .await,
        "200",
    );
    let mut binding = check(&w.get(&at).await, "200");
    binding["spec"] = selected;
    check(&w.put(&at, &binding).await, "200");
    check(
        &w.patch(
            &format!("{DEPLOYMENTS}/d"),
            "merge",
            &json!({ "spec": { "replicas": 50 } }),
        )
        .await,
        "200",
    );
    for (name, max) in [("x", "60"), ("y", "40")] {
        let mut params = limits(max);
        params["metadata"] = json!({ "name": name, "labels": { "use": "yes" } });
        check(&w.post(CONFIG_MAPS, &params).await, "201");
    }
    check(
        &w.patch(
            &format!("{DEPLOYMENTS}/d"),
            "merge",
            &json!({ "spec": { "replicas": 51 } }),
        )
        .await,
        "422 most is 40",
    );
}

#[tokio::test]
async fn expressions_may_ask_who_may_do_what_and_where_they_are() {
    let w = World::new().await;
    validating(
        &w,
        "asks",
        json!({
            "matchConstraints": rules("", "configmaps"),
            "validations": [
                { "expression": "authorizer.group('').resource('nodes').check('delete').allowed()", "message": "no nodes for you" },
                { "expression": "authorizer.requestResource.check('create').allowed()", "message": "not even this" },
                { "expression": "namespaceObject.metadata.name == 'default'", "message": "elsewhere" },
            ],
        }),
    )
    .await;
    bind(&w, "asks", json!({})).await;
    check(&w.post(CONFIG_MAPS, &config_map("a")).await, "201");
    let role = json!({ "metadata": { "name": "maps" }, "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"] }] });
    check(
        &w.post(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            &role,
        )
        .await,
        "201",
    );
    let to = json!({ "metadata": { "name": "maps" }, "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maps" },
        "subjects": [{ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }] });
    check(
        &w.post(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            &to,
        )
        .await,
        "201",
    );
    let jane = w.by(User::new("jane", &[]));
    check(
        &jane.post(CONFIG_MAPS, &config_map("b")).await,
        "422 no nodes for you",
    );
    check(
        &w.post("/api/v1/namespaces/kube-public/configmaps", &config_map("a"))
            .await,
        "422 elsewhere",
    );
}

#[tokio::test]
async fn mutating_policies_change_objects() {
    let w = World::new().await;
    let spec = json!({
        "matchConstraints": rules("apps", "deployments"),
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "matchConditions": [{ "name": "unlabelled", "expression": "!has(object.metadata.labels) || !('team' in object.metadata.labels)" }],
        "mutations": [
            { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression":
                "Object{metadata: Object.metadata{labels: {'team': request.userInfo.username}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 'side:1'}]}}}}" } },
            { "patchType": "JSONPatch", "jsonPatch": { "expression":
                "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1}]" } },
        ],
    });
    check(&policy(&w, "MutatingAdmissionPolicy", "team", spec).await, "201");
    let binding = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": "team" }, "spec": { "policyName": "team" } });
    check(
        &w.post(&format!("{GROUP}/mutatingadmissionpolicybindings"), &binding)
            .await,
        "201",
    );
    let made = check(&w.post(DEPLOYMENTS, &deployment("d")).await, "201");
    assert_eq!(made["metadata"]["labels"]["team"], "test");
    assert_eq!(made["spec"]["replicas"], 3);
    let names: Vec<&str> = made["spec"]["template"]["spec"]["containers"]
        .as_array()
        .expect("containers")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(names, ["c", "side"], "merged by name");
    let again = check(
        &w.patch(
            &format!("{DEPLOYMENTS}/d"),
            "merge",
            &json!({ "spec": { "paused": true } }),
        )
        .await,
        "200",
    );
    assert_eq!(
        again["spec"]["replicas"], 3,
        "its condition does not hold any more"
    );
    let at = format!("{GROUP}/mutatingadmissionpolicies/team");
    let broken = json!({ "spec": { "matchConditions": [], "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression":
        "[JSONPatch{op: 'remove', path: '/spec/nothing'}]" } }] } });
    check(&w.patch(&at, "merge", &broken).await, "200");
    check(&w.post(DEPLOYMENTS, &deployment("e")).await, "403 denied request");
    check(
        &w.patch(&at, "merge", &json!({ "spec": { "failurePolicy": "Ignore" } }))
            .await,
        "200",
    );
    check(&w.post(DEPLOYMENTS, &deployment("e")).await, "201");
}
