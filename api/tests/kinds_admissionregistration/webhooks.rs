//! Configurations of webhooks: whom they ask, about what.

use super::*;

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
