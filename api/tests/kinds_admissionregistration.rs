//! Webhook configurations, admission policies and their bindings as a 1.36 server treats them.

mod common;

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
fn webhook_fields() {
    let base = webhooks();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        for name in [MUTATING, VALIDATING] {
            invalid(
                name,
                &base,
                &format!("/webhooks/0/{pointer}"),
                value.clone(),
                want,
            );
        }
    };
    check("name", json!(""), &["webhooks[0].name|Required|Required value"]);
    check(
        "name",
        json!("a.b"),
        &[
            "webhooks[0].name|Invalid|Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ],
    );
    check(
        "name",
        json!("A.b.c"),
        &[&format!(
            "webhooks[0].name|Invalid|Invalid value: \"A.b.c\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        "failurePolicy",
        json!("Maybe"),
        &[
            "webhooks[0].failurePolicy|NotSupported|Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
        ],
    );
    check(
        "matchPolicy",
        json!("x"),
        &[
            "webhooks[0].matchPolicy|NotSupported|Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
        ],
    );
    check(
        "sideEffects",
        Value::Null,
        &["webhooks[0].sideEffects|Required|Required value: must specify one of None, NoneOnDryRun"],
    );
    check(
        "sideEffects",
        json!("Some"),
        &[
            "webhooks[0].sideEffects|NotSupported|Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ],
    );
    for seconds in [0, 31] {
        check(
            "timeoutSeconds",
            json!(seconds),
            &[&format!(
                "webhooks[0].timeoutSeconds|Invalid|Invalid value: {seconds}: the timeout value must be between 1 and 30 seconds"
            )],
        );
    }
    check(
        "namespaceSelector",
        json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        &[
            "webhooks[0].namespaceSelector.matchExpressions[0].operator|Invalid|Invalid value: \"Is\": not a valid selector operator",
        ],
    );
    check(
        "objectSelector",
        json!({"matchLabels": {"-": ""}}),
        &[&format!(
            "webhooks[0].objectSelector.matchLabels|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
    check(
        "admissionReviewVersions",
        json!([]),
        &["webhooks[0].admissionReviewVersions|Required|Required value: must specify one of v1, v1beta1"],
    );
    check(
        "admissionReviewVersions",
        json!(["v2"]),
        &[
            "webhooks[0].admissionReviewVersions|Invalid|Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ],
    );
    check(
        "admissionReviewVersions",
        json!(["v1", "v1"]),
        &["webhooks[0].admissionReviewVersions[1]|Invalid|Invalid value: \"v1\": duplicate version"],
    );
    check(
        "admissionReviewVersions",
        json!(["v1", "1"]),
        &[&format!(
            "webhooks[0].admissionReviewVersions[1]|Invalid|Invalid value: \"1\": {DNS_1035}"
        )],
    );
    invalid(
        MUTATING,
        &base,
        "/webhooks/0/reinvocationPolicy",
        json!("x"),
        &[
            "webhooks[0].reinvocationPolicy|NotSupported|Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\"",
        ],
    );
    invalid(
        VALIDATING,
        &base,
        "/webhooks",
        json!([hook(), hook()]),
        &["webhooks[1].name|Duplicate|Duplicate value: \"a.b.c\""],
    );
}

#[test]
fn webhook_clients() {
    let base = webhooks();
    let check = |value: Value, want: &[&str]| {
        invalid(VALIDATING, &base, "/webhooks/0/clientConfig", value, want);
    };
    const EXACTLY: &str =
        "webhooks[0].clientConfig|Required|Required value: exactly one of url or service is required";
    check(json!({}), &[EXACTLY]);
    check(
        json!({"url": "https://a", "service": {"name": "s", "namespace": "n"}}),
        &[EXACTLY],
    );
    check(
        json!({"url": "http://a"}),
        &[
            "webhooks[0].clientConfig.url|Invalid|Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ],
    );
    check(
        json!({"url": "https://a?b=c#d"}),
        &[
            "webhooks[0].clientConfig.url|Invalid|Invalid value: \"d\": fragments are not permitted in the URL",
            "webhooks[0].clientConfig.url|Invalid|Invalid value: \"b=c\": query parameters are not permitted in the URL",
        ],
    );
    check(
        json!({"service": {"name": "s", "namespace": ""}}),
        &["webhooks[0].clientConfig.service.name|Required|Required value: service name is required"],
    );
    check(
        json!({"service": {"name": "", "namespace": "n"}}),
        &[
            "webhooks[0].clientConfig.service.namespace|Required|Required value: service namespace is required",
        ],
    );
    check(
        json!({"service": {"name": "s", "namespace": "n", "port": 65536}}),
        &[
            "webhooks[0].clientConfig.service.port|Invalid|Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive",
        ],
    );
    let path = |path: &str| json!({"service": {"name": "s", "namespace": "n", "path": path}});
    check(path("/a/b/"), &[]);
    check(
        path("//"),
        &["webhooks[0].clientConfig.service.path|Invalid|Invalid value: \"//\": segment[0] may not be empty"],
    );
    check(
        path("/a//b"),
        &[
            "webhooks[0].clientConfig.service.path|Invalid|Invalid value: \"/a//b\": segment[1] may not be empty",
        ],
    );
    check(
        path("/A"),
        &[&format!(
            "webhooks[0].clientConfig.service.path|Invalid|Invalid value: \"/A\": segment[0]: {DNS_SUBDOMAIN}"
        )],
    );
    check(
        path("xa"),
        &["webhooks[0].clientConfig.service.path|Invalid|Invalid value: \"xa\": must start with a '/'"],
    );
}

#[test]
fn rules() {
    let base = webhooks();
    let check = |field: &str, value: Value, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("webhooks[0].rules[0].{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        invalid(
            VALIDATING,
            &base,
            &format!("/webhooks/0/rules/0/{field}"),
            value,
            &want,
        );
    };
    check("operations", json!([]), &["operations|Required|Required value"]);
    check(
        "operations",
        json!(["*", "CREATE"]),
        &[
            "operations|Invalid|Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ],
    );
    check(
        "operations",
        json!(["PATCH"]),
        &[
            "operations[0]|NotSupported|Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ],
    );
    check("apiGroups", json!([]), &["apiGroups|Required|Required value"]);
    check(
        "apiGroups",
        json!(["*", "a"]),
        &[
            "apiGroups|Invalid|Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
        ],
    );
    check("apiVersions", json!([]), &["apiVersions|Required|Required value"]);
    check(
        "apiVersions",
        json!(["*", ""]),
        &[
            "apiVersions|Invalid|Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other API versions",
            "apiVersions[1]|Required|Required value",
        ],
    );
    check("resources", json!([]), &["resources|Required|Required value"]);
    check(
        "resources",
        json!([""]),
        &["resources[0]|Required|Required value"],
    );
    check(
        "resources",
        json!(["*/*", "a"]),
        &[
            "resources|Invalid|Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources",
        ],
    );
    check(
        "resources",
        json!(["*", "a"]),
        &[
            "resources|Invalid|Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without subresources",
        ],
    );
    check(
        "resources",
        json!(["a/*", "a/x"]),
        &["resources[1]|Invalid|Invalid value: \"a/x\": if 'a/*' is present, must not specify a/x"],
    );
    check(
        "resources",
        json!(["*/x", "a/x"]),
        &["resources[1]|Invalid|Invalid value: \"a/x\": if '*/x' is present, must not specify a/x"],
    );
    check("resources", json!(["*", "*/scale", "a/x"]), &[]);
    check(
        "scope",
        json!("All"),
        &[
            "scope|NotSupported|Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
        ],
    );
}

#[test]
fn match_conditions() {
    let base = webhooks();
    let check = |value: Value, want: &[&str]| {
        invalid(MUTATING, &base, "/webhooks/0/matchConditions", value, want);
    };
    check(
        json!([{"name": "", "expression": " "}]),
        &[
            "webhooks[0].matchConditions[0].expression|Required|Required value",
            "webhooks[0].matchConditions[0].name|Required|Required value",
        ],
    );
    check(
        json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
        &["webhooks[0].matchConditions[1].name|Duplicate|Duplicate value: \"a\""],
    );
    check(
        json!([{"name": "-", "expression": "true"}]),
        &[&format!(
            "webhooks[0].matchConditions[0].name|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
    let many: Vec<Value> = (0..65)
        .map(|n| json!({"name": format!("n{n}"), "expression": "true"}))
        .collect();
    check(
        many.into(),
        &["webhooks[0].matchConditions|TooMany|Too many: 65: must have at most 64 items"],
    );
}

#[test]
fn policies() {
    let base = policy();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(POLICY, &base, &format!("/spec/{pointer}"), value, want);
    };
    check(
        "failurePolicy",
        json!("x"),
        &["spec.failurePolicy|NotSupported|Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\""],
    );
    check(
        "matchConstraints",
        Value::Null,
        &["spec.matchConstraints|Required|Required value"],
    );
    check(
        "matchConstraints",
        json!({}),
        &["spec.matchConstraints.resourceRules|Required|Required value"],
    );
    check(
        "matchConstraints/matchPolicy",
        json!("x"),
        &[
            "spec.matchConstraints.matchPolicy|NotSupported|Unsupported value: \"x\": supported values: \"Equivalent\", \"Exact\"",
        ],
    );
    check(
        "matchConstraints/resourceRules/0/resourceNames",
        json!(["a/b", "c", "c"]),
        &[
            "spec.matchConstraints.resourceRules[0].resourceNames[0]|Invalid|Invalid value: \"a/b\": may not contain '/'",
            "spec.matchConstraints.resourceRules[0].resourceNames[2]|Duplicate|Duplicate value: \"c\"",
        ],
    );
    check(
        "matchConstraints/excludeResourceRules",
        json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"]}]),
        &["spec.matchConstraints.excludeResourceRules[0].resources|Required|Required value"],
    );
    check(
        "paramKind",
        json!({}),
        &[
            "spec.paramKind.apiVersion|Required|Required value",
            "spec.paramKind.kind|Required|Required value",
        ],
    );
    check(
        "paramKind",
        json!({"apiVersion": "a/b/c", "kind": "K"}),
        &[
            "spec.paramKind.apiVersion|Invalid|Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ],
    );
    check(
        "paramKind",
        json!({"apiVersion": "a/", "kind": "K"}),
        &["spec.paramKind.apiVersion|Invalid|Invalid value: \"a/\": version must be specified"],
    );
    check(
        "paramKind",
        json!({"apiVersion": "A/v1", "kind": "1K"}),
        &[
            &format!("spec.paramKind.apiVersion|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            &format!(
                "spec.paramKind.kind|Invalid|Invalid value: \"1K\": may have mixed case, but should otherwise match: {DNS_1035}"
            ),
        ],
    );
    check(
        "variables",
        json!([{"name": " ", "expression": ""}, {"name": "in", "expression": "1"}]),
        &[
            "spec.variables[0].name|Required|Required value: name is not specified",
            "spec.variables[0].expression|Required|Required value: expression is not specified",
            "spec.variables[1].name|Invalid|Invalid value: \"in\": name is not a valid CEL identifier",
        ],
    );
    check(
        "validations",
        json!([{"expression": "", "message": " ", "messageExpression": " ", "reason": "x"}]),
        &[
            "spec.validations[0].expression|Required|Required value: expression is not specified",
            "spec.validations[0].messageExpression|Invalid|Invalid value: \" \": must be non-empty if specified",
            "spec.validations[0].message|Invalid|Invalid value: \" \": message must be non-empty if specified",
            "spec.validations[0].reason|NotSupported|Unsupported value: \"x\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ],
    );
    check(
        "validations",
        json!([{"expression": "true", "message": "a\nb"}]),
        &[
            "spec.validations[0].message|Invalid|Invalid value: \"a\\nb\": message must not contain line breaks",
        ],
    );
    check(
        "auditAnnotations",
        json!([{"key": "-", "valueExpression": ""}]),
        &[
            &format!("spec.auditAnnotations[0].key|Invalid|Invalid value: \"a.b/-\": {QUALIFIED}"),
            "spec.auditAnnotations[0].valueExpression|Required|Required value: valueExpression is not specified",
        ],
    );
    check(
        "auditAnnotations",
        json!([{"key": "k", "valueExpression": "'1'"}, {"key": "k", "valueExpression": "x".repeat(5121)}]),
        &[
            "spec.auditAnnotations[1].valueExpression|Required|Required value: must not exceed 5120 bytes in length",
            "spec.auditAnnotations[1].key|Duplicate|Duplicate value: \"k\"",
        ],
    );
    let mut nothing = base.clone();
    nothing["spec"]["auditAnnotations"] = json!([]);
    const ONE: &str = "validations or auditAnnotations must contain at least one item";
    invalid(
        POLICY,
        &nothing,
        "/spec/validations",
        json!([]),
        &[
            &format!("spec.validations|Required|Required value: {ONE}"),
            &format!("spec.auditAnnotations|Required|Required value: {ONE}"),
        ],
    );
}

/// A policy whose expression at a place is this is refused with these texts; none: it is taken.
#[track_caller]
fn expression(base: &Value, name: Name<'_>, pointer: &str, source: &str, want: &[&str]) {
    let place = pointer.replace("/0", "[0]").replace('/', ".");
    let place = place.trim_start_matches('.');
    let shown = serde_json::to_string(source).expect("a text");
    let want: Vec<String> = want
        .iter()
        .map(|text| format!("{place}|Invalid|Invalid value: {shown}: {text}"))
        .collect();
    let want: Vec<&str> = want.iter().map(String::as_str).collect();
    invalid(name, base, pointer, json!(source), &want);
}

#[test]
fn expressions_have_to_compile() {
    let mut base = policy();
    base["spec"]["variables"] = json!([
        {"name": "n", "expression": "object.spec.replicas"}, {"name": "m", "expression": "2 * 3"},
    ]);
    base["spec"]["validations"] = json!([{"expression": "true", "messageExpression": "'x'"}]);
    let own = "/spec/validations/0/expression";
    for (pointer, source, want) in [
        (
            own,
            "object.x in [1, 2, ",
            "compilation failed: ERROR: <input>:1:20: Syntax error: missing ']' at '<EOF>'\n | object.x in [1, 2, \n | ...................^",
        ),
        (own, "object.x", "must evaluate to bool but got dyn"),
        (own, "1 + 1", "must evaluate to bool but got int"),
        (
            own,
            "objekt.x == 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'objekt' (in container '')\n | objekt.x == 1\n | ^",
        ),
        (
            own,
            "variables.k == 1",
            "compilation failed: ERROR: <input>:1:10: undefined field 'k'\n | variables.k == 1\n | .........^",
        ),
        (
            own,
            "variables.m == 'x'",
            "compilation failed: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'\n | variables.m == 'x'\n | ............^",
        ),
        (
            own,
            "request.kind.name == 'x'",
            "compilation failed: ERROR: <input>:1:13: undefined field 'name'\n | request.kind.name == 'x'\n | ............^",
        ),
        (
            own,
            "namespaceObject.spec.x == 'x'",
            "compilation failed: ERROR: <input>:1:21: undefined field 'x'\n | namespaceObject.spec.x == 'x'\n | ....................^",
        ),
        (
            "/spec/validations/0/messageExpression",
            "0 == 0",
            "must evaluate to string but got bool",
        ),
        (
            "/spec/validations/0/messageExpression",
            "string(authorizer.path('/x').check('get').allowed())",
            "compilation failed: ERROR: <input>:1:8: undeclared reference to 'authorizer' (in container '')\n | string(authorizer.path('/x').check('get').allowed())\n | .......^",
        ),
        (
            "/spec/auditAnnotations/0/valueExpression",
            "true",
            "must evaluate to one of [string null_type] but got bool",
        ),
        (
            "/spec/matchConditions/0/expression",
            "variables.m == 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')\n | variables.m == 1\n | ^",
        ),
        (
            "/spec/matchConditions/0/expression",
            "null",
            "must evaluate to bool but got null_type",
        ),
    ] {
        expression(&base, POLICY, pointer, source, &[want]);
    }
    for (pointer, source) in [
        (own, "variables.n > variables.m && params.data.x == 'y'"),
        (
            own,
            "namespaceObject == null || namespaceObject.metadata.labels['a'] == 'b'",
        ),
        (
            own,
            "request.operation == 'CREATE' && authorizer.requestResource.check('get').allowed()",
        ),
        (
            "/spec/validations/0/messageExpression",
            "'at most ' + string(variables.m)",
        ),
        ("/spec/auditAnnotations/0/valueExpression", "null"),
        (
            "/spec/auditAnnotations/0/valueExpression",
            "authorizer.path('/x').check('get').reason()",
        ),
        (
            "/spec/matchConditions/0/expression",
            "params.data.x == 'y' && object.metadata.name != ''",
        ),
    ] {
        expression(&base, POLICY, pointer, source, &[]);
    }
    // Without parameters nothing is called `params`; without variables nothing is called `variables`.
    base["spec"]["paramKind"] = Value::Null;
    base["spec"]["variables"] = json!([]);
    for name in ["params", "variables"] {
        let source = format!("{name} == null");
        let want = format!(
            "compilation failed: ERROR: <input>:1:1: undeclared reference to '{name}' (in container '')\n | {source}\n | ^"
        );
        expression(&base, POLICY, own, &source, &[&want]);
    }
}

#[test]
fn expressions_of_webhooks_and_mutations_have_to_compile() {
    let at = "/webhooks/0/matchConditions/0/expression";
    for base in [MUTATING, VALIDATING] {
        let check = |source: &str, want: &[&str]| expression(&webhooks(), base, at, source, want);
        check("request.userInfo.username.startsWith('system:')", &[]);
        check("'x'", &["must evaluate to bool but got string"]);
        check(
            "params.x == 1",
            &[
                "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
            ],
        );
    }
    let patch = "/spec/mutations/0/jsonPatch/expression";
    let check =
        |source: &str, want: &[&str]| expression(&mutating_policy(), MUTATING_POLICY, patch, source, want);
    check(
        "has(object.x) ? [] : [JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 1}]",
        &[],
    );
    check("[]", &["must evaluate to list(JSONPatch) but got list(dyn)"]);
    check("Object{}", &["must evaluate to list(JSONPatch) but got Object"]);
    let mut apply = mutating_policy();
    apply["spec"]["mutations"] =
        json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]);
    let at = "/spec/mutations/0/applyConfiguration/expression";
    let check = |source: &str, want: &[&str]| expression(&apply, MUTATING_POLICY, at, source, want);
    check("Object{spec: Object.spec{replicas: 1}}", &[]);
    check(
        "Object.spec{replicas: 1}",
        &["must evaluate to Object but got Object.spec"],
    );
    check(
        "{'spec': 1}",
        &["must evaluate to Object but got map(string, int)"],
    );
}

#[test]
fn mutating_policies() {
    let base = mutating_policy();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(MUTATING_POLICY, &base, &format!("/spec/{pointer}"), value, want);
    };
    check(
        "matchConstraints/resourceRules/0/operations",
        json!(["DELETE"]),
        &[
            "spec.matchConstraints.resourceRules.operations|NotSupported|Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ],
    );
    check(
        "mutations",
        json!([]),
        &["spec.mutations|Required|Required value: mutations must contain at least one item"],
    );
    check(
        "mutations/0",
        json!({"patchType": ""}),
        &["spec.mutations[0].patchType|Required|Required value"],
    );
    check(
        "mutations/0/patchType",
        json!("Merge"),
        &[
            "spec.mutations[0].patchType|NotSupported|Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
        ],
    );
    check(
        "mutations/0/patchType",
        json!("ApplyConfiguration"),
        &[
            "spec.mutations[0].applyConfiguration|Required|Required value: must be specified when patchType is ApplyConfiguration",
            "spec.mutations[0].jsonPatch|Invalid|Invalid value: \"{jsonPatch}\": must not be specified when patchType is ApplyConfiguration",
        ],
    );
    check(
        "mutations/0/jsonPatch",
        json!({"expression": " "}),
        &["spec.mutations[0].jsonPatch.expression|Required|Required value"],
    );
    check(
        "reinvocationPolicy",
        json!(""),
        &["spec.reinvocationPolicy|Required|Required value"],
    );
    check(
        "reinvocationPolicy",
        json!("x"),
        &[
            "spec.reinvocationPolicy|NotSupported|Unsupported value: \"x\": supported values: \"IfNeeded\", \"Never\"",
        ],
    );
    invalid(
        MUTATING_BINDING,
        &mutating_binding(),
        "/spec/matchResources/resourceRules/0/operations",
        json!(["DELETE"]),
        &[
            "spec.matchResources.resourceRules.operations|NotSupported|Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ],
    );
}

#[test]
fn bindings() {
    let base = binding();
    let check = |field: &str, value: Value, want: &[&str]| {
        invalid(BINDING, &base, &format!("/spec/{field}"), value, want);
    };
    check(
        "policyName",
        json!(""),
        &["spec.policyName|Required|Required value"],
    );
    check(
        "policyName",
        json!("A"),
        &[&format!(
            "spec.policyName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        "paramRef",
        json!({}),
        &[
            "spec.paramRef|Required|Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction|Required|Required value",
        ],
    );
    check(
        "paramRef",
        json!({"name": "a", "selector": {}, "parameterNotFoundAction": "x"}),
        &[
            "spec.paramRef.name|Forbidden|Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.selector|Forbidden|Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.parameterNotFoundAction|NotSupported|Unsupported value: \"x\": supported values: \"Deny\", \"Allow\"",
        ],
    );
    check(
        "paramRef/name",
        json!("a%b"),
        &["spec.paramRef.name|Invalid|Invalid value: \"a%b\": may not contain '%'"],
    );
    check(
        "validationActions",
        json!([]),
        &["spec.validationActions|Required|Required value: at least one validation action is required"],
    );
    check(
        "validationActions",
        json!(["Deny", "Warn"]),
        &[
            "spec.validationActions|Invalid|Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        ],
    );
    check(
        "validationActions",
        json!(["Audit", "Audit", "x"]),
        &[
            "spec.validationActions[1]|Duplicate|Duplicate value: \"Audit\"",
            "spec.validationActions[2]|NotSupported|Unsupported value: \"x\": supported values: \"Audit\", \"Deny\", \"Warn\"",
        ],
    );
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
