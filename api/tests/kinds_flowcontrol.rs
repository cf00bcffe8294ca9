//! APIService, FlowSchema and PriorityLevelConfiguration as a 1.36 server treats them.

mod common;

use common::{
    DNS_LABEL, DNS_SUBDOMAIN, Name, aged, columns, golden, invalid, refused, refused_part, resource, stored,
    update,
};
use corten_api::kinds::flowcontrol::suggested;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const API: &str = "flowcontrol.apiserver.k8s.io/v1";
const SCHEMA: Name<'static> = (API, "FlowSchema");
const LEVEL: Name<'static> = (API, "PriorityLevelConfiguration");
const SERVICE: Name<'static> = ("apiregistration.k8s.io/v1", "APIService");

fn schema() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "priorityLevelConfiguration": {"name": "p"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "u"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["n"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}],
        }],
    }})
}

fn level() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {
        "limitResponse": {"type": "Queue", "queuing": {}},
    }}})
}

fn service() -> Value {
    json!({"metadata": {"name": "v1.a.io"}, "spec": {
        "group": "a.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
        "service": {"namespace": "n", "name": "s"},
    }})
}

#[test]
fn defaults() {
    let mut want = schema();
    want["metadata"]["generation"] = 1.into();
    want["spec"]["matchingPrecedence"] = 1000.into();
    want["status"] = json!({});
    golden(SCHEMA, schema(), want);
    golden(
        LEVEL,
        level(),
        json!({"metadata": {"name": "a", "generation": 1}, "status": {}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}},
        }}}),
    );
    let mut want = service();
    want["spec"]["service"]["port"] = 443.into();
    want["status"] = json!({});
    golden(SERVICE, service(), want);
    let mut local = service();
    local["spec"].as_object_mut().unwrap().remove("service");
    let mut want = local.clone();
    want["status"] = json!({"conditions": [{
        "type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Local", "message": "Local APIServices are always available",
    }]});
    golden(SERVICE, local, want);
}

#[test]
fn suggested_objects_are_valid_and_in_full_form() {
    for (name, objects) in [
        (LEVEL, suggested::priority_levels()),
        (SCHEMA, suggested::flow_schemas()),
    ] {
        for object in objects {
            let made = stored(name, object);
            assert_eq!(made["spec"], object["spec"], "{}", object["metadata"]["name"]);
            assert_eq!(made["metadata"]["annotations"][suggested::AUTO_UPDATE], "true");
        }
    }
    assert_eq!(
        (
            suggested::priority_levels().len(),
            suggested::flow_schemas().len()
        ),
        (8, 11)
    );
}

#[test]
fn flow_schemas() {
    let base = schema();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(SCHEMA, &base, &format!("/spec/{pointer}"), value, want);
    };
    check(
        "matchingPrecedence",
        json!(-1),
        &["spec.matchingPrecedence|Invalid|Invalid value: -1: must be a positive value"],
    );
    check(
        "matchingPrecedence",
        json!(10001),
        &["spec.matchingPrecedence|Invalid|Invalid value: 10001: must not be greater than 10000"],
    );
    check(
        "matchingPrecedence",
        json!(1),
        &[
            "spec.matchingPrecedence|Invalid|Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ],
    );
    check(
        "distinguisherMethod",
        json!({"type": "x"}),
        &[
            "spec.distinguisherMethod.type|NotSupported|Unsupported value: {\"Type\":\"x\"}: supported values: \"ByNamespace\", \"ByUser\"",
        ],
    );
    check(
        "priorityLevelConfiguration/name",
        json!(""),
        &["spec.priorityLevelConfiguration.name|Required|Required value: must reference a priority level"],
    );
    check(
        "priorityLevelConfiguration/name",
        json!("A"),
        &[&format!(
            "spec.priorityLevelConfiguration.name|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        "rules/0",
        json!({"subjects": []}),
        &[
            "spec.rules[0].subjects|Required|Required value: subjects must contain at least one value",
            "spec.rules[0]|Required|Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ],
    );
    let subject = |value: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|w| format!("spec.rules[0].subjects[0].{w}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("rules/0/subjects/0", value, &want);
    };
    subject(
        json!({"kind": "Robot"}),
        &[
            "kind|NotSupported|Unsupported value: \"Robot\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
        ],
    );
    subject(
        json!({"kind": "User", "group": {"name": "g"}, "serviceAccount": {"name": "s", "namespace": "n"}}),
        &[
            "user|Required|Required value: user is required when subject kind is 'User'",
            "serviceAccount|Forbidden|Forbidden: serviceAccount is forbidden when subject kind is not 'ServiceAccount'",
            "group|Forbidden|Forbidden: group is forbidden when subject kind is not 'Group'",
        ],
    );
    subject(
        json!({"kind": "Group", "group": {"name": ""}}),
        &["group.name|Required|Required value"],
    );
    subject(
        json!({"kind": "ServiceAccount", "serviceAccount": {"name": "A", "namespace": ""}}),
        &[
            &format!("serviceAccount.name|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            "serviceAccount.namespace|Required|Required value: must specify namespace for service account",
        ],
    );
    subject(
        json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}),
        &[],
    );
}

#[test]
fn flow_schema_rules() {
    let base = schema();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.rules[0].{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        invalid(SCHEMA, &base, &format!("/spec/rules/0/{pointer}"), value, &want);
    };
    check(
        "resourceRules/0",
        json!({"verbs": [], "apiGroups": [], "resources": []}),
        &[
            "resourceRules[0].verbs|Required|Required value: verbs must contain at least one value",
            "resourceRules[0].apiGroups|Required|Required value: resource rules must supply at least one api group",
            "resourceRules[0].resources|Required|Required value: resource rules must supply at least one resource",
            "resourceRules[0].namespaces|Required|Required value: resource rules that are not cluster scoped must supply at least one namespace",
        ],
    );
    check(
        "resourceRules/0",
        json!({"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": ["*", "b"], "namespaces": ["*", "c"]}),
        &[
            "resourceRules[0].verbs|Invalid|Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
            "resourceRules[0].apiGroups|Invalid|Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups",
            "resourceRules[0].resources|Invalid|Invalid value: [\"*\",\"b\"]: if '*' is present, must not specify other resources",
            "resourceRules[0].namespaces|Invalid|Invalid value: [\"*\",\"c\"]: if '*' is present, must not specify other namespaces",
        ],
    );
    check(
        "resourceRules/0/verbs",
        json!(["fetch"]),
        &[
            "resourceRules[0].verbs|NotSupported|Unsupported value: [\"fetch\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
        ],
    );
    check(
        "resourceRules/0/namespaces",
        json!(["A"]),
        &[&format!(
            "resourceRules[0].namespaces[0]|Invalid|Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; {DNS_LABEL}"
        )],
    );
    let url = |value: &str, text: &str| {
        check(
            "nonResourceRules/0/nonResourceURLs",
            json!([value]),
            &[&format!(
                "nonResourceRules[0].nonResourceURLs[0]|Invalid|Invalid value: {value:?}: {text}"
            )],
        );
    };
    url("", "must not be empty");
    url("a", "must start with slash");
    url("/a b", "must not contain white-space");
    url("/a//b", "must not contain double slash");
    url("/a/*/b", "wildcard can only do suffix matching");
    url("/a*", "wildcard can only do suffix matching");
    check("nonResourceRules/0/nonResourceURLs", json!(["/", "/a/*"]), &[]);
    check(
        "nonResourceRules/0/nonResourceURLs",
        json!(["*", "/"]),
        &[
            "nonResourceRules[0].nonResourceURLs|Invalid|Invalid value: [\"*\",\"/\"]: if '*' is present, must not specify other non-resource URLs",
        ],
    );
    check(
        "nonResourceRules/0/nonResourceURLs",
        json!([]),
        &[
            "nonResourceRules[0].nonResourceURLs|Required|Required value: nonResourceURLs must contain at least one value",
        ],
    );
}

#[test]
fn priority_levels() {
    let base = level();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(LEVEL, &base, &format!("/spec/{pointer}"), value, want);
    };
    check(
        "type",
        json!("x"),
        &["spec.type|NotSupported|Unsupported value: \"x\": supported values: \"Exempt\", \"Limited\""],
    );
    check(
        "type",
        json!("Exempt"),
        &[
            "spec.type|Invalid|Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            "spec.limited|Forbidden|Forbidden: must be nil if the type is not Limited",
        ],
    );
    check(
        "exempt",
        json!({}),
        &["spec.exempt|Forbidden|Forbidden: must be nil if the type is Limited"],
    );
    check(
        "limited",
        Value::Null,
        &["spec.limited|Required|Required value: must not be empty when type is Limited"],
    );
    check(
        "limited/nominalConcurrencyShares",
        json!(-1),
        &["spec.limited.nominalConcurrencyShares|Invalid|Invalid value: -1: must be a non-negative integer"],
    );
    check("limited/nominalConcurrencyShares", json!(0), &[]);
    check(
        "limited/lendablePercent",
        json!(101),
        &["spec.limited.lendablePercent|Invalid|Invalid value: 101: must be between 0 and 100, inclusive"],
    );
    check(
        "limited/borrowingLimitPercent",
        json!(-1),
        &[
            "spec.limited.borrowingLimitPercent|Invalid|Invalid value: -1: if specified, must be a non-negative integer",
        ],
    );
    check(
        "limited/limitResponse",
        json!({"type": "Queue"}),
        &[
            "spec.limited.limitResponse.queuing|Required|Required value: must not be empty if limited.limitResponse.type is Limited",
        ],
    );
    check(
        "limited/limitResponse",
        json!({"type": "Reject", "queuing": {}}),
        &[
            "spec.limited.limitResponse.queuing|Forbidden|Forbidden: must be nil if limited.limitResponse.type is not Limited",
        ],
    );
    check(
        "limited/limitResponse",
        json!({"type": "Drop"}),
        &[
            "spec.limited.limitResponse.type|NotSupported|Unsupported value: \"Drop\": supported values: \"Queue\", \"Reject\"",
        ],
    );
    let queuing = |value: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|w| format!("spec.limited.limitResponse.queuing.{w}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("limited/limitResponse/queuing", value, &want);
    };
    queuing(
        json!({"queues": -1, "handSize": -1, "queueLengthLimit": -1}),
        &[
            "queueLengthLimit|Invalid|Invalid value: -1: must be positive",
            "queues|Invalid|Invalid value: -1: must be positive",
            "handSize|Invalid|Invalid value: -1: must be positive",
        ],
    );
    queuing(
        json!({"queues": 10_000_001, "handSize": 1}),
        &["queues|Invalid|Invalid value: 10000001: must not be greater than 10000000"],
    );
    queuing(
        json!({"queues": 4, "handSize": 5}),
        &["handSize|Invalid|Invalid value: 5: should not be greater than queues (4)"],
    );
    queuing(
        json!({"queues": 128, "handSize": 10}),
        &[
            "handSize|Invalid|Invalid value: 10: required entropy bits of deckSize 128 and handSize 10 should not be greater than 60",
        ],
    );
}

#[test]
fn mandatory_objects_stay_what_they_are() {
    let of = |objects: &[Value], name: &str| {
        objects
            .iter()
            .find(|o| o["metadata"]["name"] == name)
            .unwrap()
            .clone()
    };
    let exempt = stored(LEVEL, &of(suggested::priority_levels(), "exempt"));
    refused(
        LEVEL,
        &exempt,
        json!({"spec": {"exempt": {"lendablePercent": 10}}}),
        &[],
    );
    refused(
        LEVEL,
        &exempt,
        json!({"spec": {"exempt": {"lendablePercent": 101, "nominalConcurrencyShares": -1}}}),
        &[
            "spec.exempt.nominalConcurrencyShares|Invalid|Invalid value: -1: must be a non-negative integer",
            "spec.exempt.lendablePercent|Invalid|Invalid value: 101: must be between 0 and 100, inclusive",
        ],
    );
    let causes = |name, old: &Value, patch: Value| {
        common::causes(update(name, old, patch, Subresource::Main).unwrap_err())
    };
    let catch_all = stored(LEVEL, &of(suggested::priority_levels(), "catch-all"));
    let got = causes(
        LEVEL,
        &catch_all,
        json!({"spec": {"limited": {"lendablePercent": 1}}}),
    );
    assert!(
        got[0].ends_with("spec of 'catch-all' must equal the fixed value"),
        "{got:?}"
    );
    let schema = stored(SCHEMA, &of(suggested::flow_schemas(), "exempt"));
    let got = causes(SCHEMA, &schema, json!({"spec": {"matchingPrecedence": 3}}));
    assert!(
        got[0].ends_with("spec of 'exempt' must equal the fixed value"),
        "{got:?}"
    );
}

#[test]
fn api_services() {
    let base = service();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(SERVICE, &base, pointer, value, want);
    };
    check(
        "/metadata/name",
        json!("v2.a.io"),
        &[
            "metadata.name|Invalid|Invalid value: \"v2.a.io\": must be `spec.version+\".\"+spec.group`: \"v1.a.io\"",
        ],
    );
    check(
        "/metadata/name",
        json!("a/b"),
        &["metadata.name|Invalid|Invalid value: \"a/b\": may not contain '/'"],
    );
    for (value, field, max) in [
        (0, "groupPriorityMinimum", 20000),
        (20001, "groupPriorityMinimum", 20000),
        (1001, "versionPriority", 1000),
    ] {
        check(
            &format!("/spec/{field}"),
            json!(value),
            &[&format!(
                "spec.{field}|Invalid|Invalid value: {value}: must be positive and less than {max}"
            )],
        );
    }
    check(
        "/spec/service",
        json!({"name": "", "namespace": "", "port": 65536}),
        &[
            "spec.service.namespace|Required|Required value",
            "spec.service.name|Required|Required value",
            "spec.service.port|Invalid|Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive",
        ],
    );
    let mut both = base.clone();
    both["spec"]["caBundle"] = "aGk=".into();
    invalid(
        SERVICE,
        &both,
        "/spec/insecureSkipTLSVerify",
        json!(true),
        &["spec.insecureSkipTLSVerify|Invalid|Invalid value: true: may not be true if caBundle is present"],
    );
    both["spec"]["insecureSkipTLSVerify"] = true.into();
    invalid(
        SERVICE,
        &both,
        "/spec/service",
        Value::Null,
        &[
            "spec.caBundle|Invalid|Invalid value: \"2 bytes\": local APIServices may not have a caBundle",
            "spec.insecureSkipTLSVerify|Invalid|Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ],
    );
    let mut legacy = base.clone();
    legacy["metadata"]["name"] = "v2.".into();
    legacy["spec"]["version"] = "v2".into();
    invalid(
        SERVICE,
        &legacy,
        "/spec/group",
        json!(""),
        &["spec.group|Required|Required value: only v1 may have an empty group and it better be legacy kube"],
    );
}

#[test]
fn updates() {
    let old = stored(SCHEMA, &schema());
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"matchingPrecedence": 7}, "status": {"conditions": [{"type": "Dangling", "status": "True"}]}});
    let main = update(SCHEMA, &old, patch.clone(), Subresource::Main).unwrap();
    assert_eq!(
        (&main["metadata"]["generation"], &main["status"]),
        (&json!(2), &json!({}))
    );
    let status = update(SCHEMA, &old, patch, Subresource::Status).unwrap();
    assert_eq!(status["metadata"]["labels"], Value::Null);
    assert_eq!(status["spec"]["matchingPrecedence"], 1000);
    assert_eq!(status["status"]["conditions"][0]["type"], "Dangling");
    refused_part(
        LEVEL,
        &stored(LEVEL, &level()),
        json!({"status": {"conditions": [{"type": ""}, {"type": "a"}, {"type": "a"}]}}),
        Subresource::Status,
        &[
            "status.conditions[0].type|Required|Required value: must not be empty",
            "status.conditions[2].type|Duplicate|Duplicate value: \"a\"",
        ],
    );
    refused_part(
        SERVICE,
        &stored(SERVICE, &service()),
        json!({"status": {"conditions": [{"type": "Available", "status": "Yes"}]}}),
        Subresource::Status,
        &[
            "status.conditions[0].status|NotSupported|Unsupported value: \"Yes\": supported values: \"True\", \"False\", \"Unknown\"",
        ],
    );
    assert!(!resource(SERVICE).unconditional_update());
    assert!(resource(SCHEMA).unconditional_update());
}

#[test]
fn shown() {
    let mut object = schema();
    object["metadata"] = aged("a");
    columns(
        SCHEMA,
        object.clone(),
        &[
            "Name=a",
            "PriorityLevel=p",
            "MatchingPrecedence=1000",
            "DistinguisherMethod=ByUser",
            "Age=5m",
            "MissingPL=?",
        ],
    );
    object["spec"]
        .as_object_mut()
        .unwrap()
        .remove("distinguisherMethod");
    object["status"] = json!({"conditions": [{"type": "Dangling", "status": "False"}]});
    columns(
        SCHEMA,
        object,
        &[
            "Name=a",
            "PriorityLevel=p",
            "MatchingPrecedence=1000",
            "DistinguisherMethod=<none>",
            "Age=5m",
            "MissingPL=False",
        ],
    );
    let mut object = level();
    object["metadata"] = aged("a");
    columns(
        LEVEL,
        object.clone(),
        &[
            "Name=a",
            "Type=Limited",
            "NominalConcurrencyShares=30",
            "Queues=64",
            "HandSize=8",
            "QueueLengthLimit=50",
            "Age=5m",
        ],
    );
    object["spec"] = json!({"type": "Exempt"});
    columns(
        LEVEL,
        object,
        &[
            "Name=a",
            "Type=Exempt",
            "NominalConcurrencyShares=<none>",
            "Queues=<none>",
            "HandSize=<none>",
            "QueueLengthLimit=<none>",
            "Age=5m",
        ],
    );
    let mut object = service();
    object["metadata"] = aged("v1.a.io");
    columns(
        SERVICE,
        object.clone(),
        &["Name=v1.a.io", "Service=n/s", "Available=Unknown", "Age=5m"],
    );
    object["status"] =
        json!({"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]});
    columns(
        SERVICE,
        object.clone(),
        &[
            "Name=v1.a.io",
            "Service=n/s",
            "Available=False (MissingEndpoints)",
            "Age=5m",
        ],
    );
    object["spec"].as_object_mut().unwrap().remove("service");
    object["status"]["conditions"][0]["status"] = "True".into();
    columns(
        SERVICE,
        object,
        &["Name=v1.a.io", "Service=Local", "Available=True", "Age=5m"],
    );
}
