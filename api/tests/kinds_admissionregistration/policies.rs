//! Policies in CEL, their bindings, and expressions that have to compile.

use super::*;

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
