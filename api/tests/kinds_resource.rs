//! Device classes, claims, their templates and slices as a 1.36 server treats them.

mod common;

use common::{
    DNS_LABEL, DNS_SUBDOMAIN, Name, QUALIFIED, aged, columns, golden, invalid, known_as, refused,
    refused_part, resource, stored, update,
};
use corten_api::resource::Subresource;
use corten_api::selector::FieldSelector;
use serde_json::{Value, json};

const API: &str = "resource.k8s.io/v1";
const CLASS: Name<'static> = (API, "DeviceClass");
const CLAIM: Name<'static> = (API, "ResourceClaim");
const TEMPLATE: Name<'static> = (API, "ResourceClaimTemplate");
const SLICE: Name<'static> = (API, "ResourceSlice");

const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

fn claim() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"devices": {
        "requests": [
            {"name": "r", "exactly": {"deviceClassName": "c"}},
            {"name": "s", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]},
        ],
        "constraints": [{"requests": ["r"], "matchAttribute": "d.io/m"}],
        "config": [{"requests": ["s/x"], "opaque": {"driver": "d.io", "parameters": {"a": 1}}}],
    }}})
}

fn class() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "selectors": [{"cel": {"expression": "true"}}],
        "config": [{"opaque": {"driver": "d.io", "parameters": {}}}],
        "extendedResourceName": "a.io/gpu",
    }})
}

fn template() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}})
}

fn slice() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "driver": "d.io", "nodeName": "n",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{
            "name": "d", "attributes": {"m": {"string": "x"}}, "capacity": {"mem": {"value": "1Gi"}},
        }],
    }})
}

fn shareable() -> Value {
    let mut slice = slice();
    slice["spec"]["devices"][0]["allowMultipleAllocations"] = true.into();
    slice["spec"]["devices"][0]["capacity"] = json!({"mem": {"value": "10", "requestPolicy": {}}});
    slice
}

#[test]
fn defaults() {
    let full_spec = {
        let mut spec = claim()["spec"].clone();
        spec["devices"]["requests"][0]["exactly"] =
            json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        spec["devices"]["requests"][1]["firstAvailable"][0] =
            json!({"name": "x", "deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        spec
    };
    golden(
        CLAIM,
        claim(),
        json!({"metadata": {"name": "a"}, "spec": full_spec, "status": {}}),
    );
    golden(
        TEMPLATE,
        template(),
        json!({"metadata": {"name": "a"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": full_spec}}),
    );
    golden(
        CLAIM,
        json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "tolerations": [{"key": "k"}]}},
        ]}}}),
        json!({"metadata": {"name": "a"}, "status": {}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "tolerations": [{"key": "k", "operator": "Equal"}]}},
        ]}}}),
    );
    let mut want = class();
    want["metadata"]["generation"] = 1.into();
    golden(CLASS, class(), want);
    let mut want = slice();
    want["metadata"]["generation"] = 1.into();
    golden(SLICE, slice(), want);
    let mut tainted = slice();
    tainted["spec"]["devices"][0]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let mut want = tainted.clone();
    want["metadata"]["generation"] = 1.into();
    want["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z".into();
    golden(SLICE, tainted, want);
}

#[test]
fn known() {
    known_as(CLASS, false, &[], &[]);
    known_as(CLAIM, true, &[], &["status"]);
    known_as(TEMPLATE, true, &[], &[]);
    known_as(SLICE, false, &[], &[]);
    let names = resource(SLICE).selectable_names();
    assert_eq!(names, ["metadata.name", "spec.nodeName", "spec.driver"]);
    let unknown = FieldSelector::parse("spec.pool=a").unwrap();
    assert_eq!(
        resource(SLICE)
            .check_field_selector(&unknown)
            .unwrap_err()
            .message,
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.pool"
    );
}

#[test]
fn requests() {
    let base = claim();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(
            CLAIM,
            &base,
            &format!("/spec/devices/requests/{pointer}"),
            value,
            want,
        );
    };
    check(
        "0/name",
        json!("A"),
        &[
            &format!("spec.devices.requests[0].name|Invalid|Invalid value: \"A\": {DNS_LABEL}"),
            &format!("spec.devices.constraints[0].requests[0]|Invalid|Invalid value: \"r\": {REFERENCE}"),
        ],
    );
    check(
        "0/name",
        json!("s"),
        &[
            "spec.devices.requests[1]|Duplicate|Duplicate value: \"s\"",
            &format!("spec.devices.constraints[0].requests[0]|Invalid|Invalid value: \"r\": {REFERENCE}"),
        ],
    );
    check(
        "0/exactly",
        Value::Null,
        &[
            "spec.devices.requests[0]|Required|Required value: exactly one of `exactly` or `firstAvailable` is required",
        ],
    );
    check(
        "1/exactly",
        json!({"deviceClassName": "c"}),
        &[
            "spec.devices.requests[1]|Invalid|Invalid value: \"null\": exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ],
    );
    let exactly = |value: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|w| format!("spec.devices.requests[0].exactly.{w}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("0/exactly", value, &want);
    };
    exactly(
        json!({"deviceClassName": ""}),
        &["deviceClassName|Required|Required value"],
    );
    exactly(
        json!({"deviceClassName": "A"}),
        &[&format!(
            "deviceClassName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    exactly(
        json!({"deviceClassName": "c", "selectors": [{}]}),
        &["selectors[0].cel|Required|Required value"],
    );
    exactly(
        json!({"deviceClassName": "c", "selectors": [{"cel": {"expression": "x".repeat(10241)}}]}),
        &["selectors[0].cel.expression|TooLong|Too long: may not be more than 10240 bytes"],
    );
    exactly(
        json!({"deviceClassName": "c", "selectors": vec![json!({"cel": {"expression": "true"}}); 33]}),
        &["selectors|TooMany|Too many: 33: must have at most 32 items"],
    );
    exactly(
        json!({"deviceClassName": "c", "allocationMode": "All", "count": 2}),
        &["count|Invalid|Invalid value: 2: must not be specified when allocationMode is 'All'"],
    );
    exactly(
        json!({"deviceClassName": "c", "count": -1}),
        &["count|Invalid|Invalid value: -1: must be greater than zero"],
    );
    exactly(
        json!({"deviceClassName": "c", "allocationMode": "Some"}),
        &[
            "allocationMode|NotSupported|Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ],
    );
    exactly(
        json!({"deviceClassName": "c", "tolerations": [
            {"key": "-", "operator": "Exists", "value": "v"}, {"operator": "In"}, {"value": "-", "effect": "x"},
        ]}),
        &[
            &format!("tolerations[0].key|Invalid|Invalid value: \"-\": {QUALIFIED}"),
            "tolerations[0].value|Invalid|Invalid value: \"v\": must be empty for operator `Exists`",
            "tolerations[1].operator|NotSupported|Unsupported value: \"In\": supported values: \"Equal\", \"Exists\"",
            "tolerations[2].value|Invalid|Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "tolerations[2].effect|NotSupported|Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
    check(
        "1/firstAvailable",
        Value::Array(
            (0..9)
                .map(|n| json!({"name": format!("x{n}"), "deviceClassName": "c"}))
                .chain([json!({"name": "x", "deviceClassName": "c"})])
                .collect(),
        ),
        &["spec.devices.requests[1].firstAvailable|TooMany|Too many: 10: must have at most 8 items"],
    );
    check(
        "1/firstAvailable",
        json!([{"name": "x", "deviceClassName": "c"}, {"name": "x", "deviceClassName": "c"}]),
        &["spec.devices.requests[1].firstAvailable[1]|Duplicate|Duplicate value: \"x\""],
    );
}

#[test]
fn constraints_and_configuration() {
    let base = claim();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("spec.devices.{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        invalid(CLAIM, &base, &format!("/spec/devices/{pointer}"), value, &want);
    };
    check(
        "constraints/0/requests",
        json!(["r", "r", "none", "s/x/y"]),
        &[
            &format!("constraints[0].requests[2]|Invalid|Invalid value: \"none\": {REFERENCE}"),
            &format!("constraints[0].requests[3]|Invalid|Invalid value: \"s/x/y\": {REFERENCE}"),
            "constraints[0].requests[1]|Duplicate|Duplicate value: \"r\"",
        ],
    );
    check(
        "constraints/0/matchAttribute",
        json!("m"),
        &[
            "constraints[0].matchAttribute|Invalid|Invalid value: \"m\": a fully qualified name must be a domain and a name separated by a slash",
        ],
    );
    check(
        "constraints/0/matchAttribute",
        json!("d.io/-"),
        &[&format!(
            "constraints[0].matchAttribute|Invalid|Invalid value: \"-\": {C_IDENTIFIER}"
        )],
    );
    check(
        "constraints/0/matchAttribute",
        json!("/"),
        &[
            "constraints[0].matchAttribute|Invalid|Invalid value: \"\": the domain must not be empty",
            "constraints[0].matchAttribute|Invalid|Invalid value: \"\": the name must not be empty",
        ],
    );
    check(
        "constraints/0",
        json!({"distinctAttribute": "a/b/c"}),
        &[
            "constraints[0].distinctAttribute|Invalid|Invalid value: \"a/b/c\": must not contain more than one slash",
        ],
    );
    check(
        "constraints/0",
        json!({}),
        &[
            "constraints[0]|Required|Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ],
    );
    check(
        "config/0",
        json!({}),
        &["config[0].opaque|Required|Required value"],
    );
    check(
        "config/0/opaque",
        json!({"driver": "", "parameters": {}}),
        &["config[0].opaque.driver|Required|Required value"],
    );
    check(
        "config/0/opaque",
        json!({"driver": "-", "parameters": {}}),
        &[&format!(
            "config[0].opaque.driver|Invalid|Invalid value: \"-\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        "config/0/opaque",
        json!({"driver": "d".repeat(64), "parameters": {}}),
        &["config[0].opaque.driver|TooLong|Too long: may not be more than 63 bytes"],
    );
    check(
        "config/0/opaque",
        json!({"driver": "d"}),
        &["config[0].opaque.parameters|Required|Required value"],
    );
    check(
        "config/0/opaque/parameters",
        json!([1]),
        &[
            "config[0].opaque.parameters|Invalid|Invalid value: \"<value omitted>\": must be a valid JSON object",
        ],
    );
    check(
        "config/0/opaque/parameters",
        json!({"a": "x".repeat(10240)}),
        &["config[0].opaque.parameters|TooLong|Too long: may not be more than 10240 bytes"],
    );
}

#[test]
fn classes_and_templates() {
    let base = class();
    invalid(
        CLASS,
        &base,
        "/spec/selectors/0",
        json!({}),
        &["spec.selectors[0].cel|Required|Required value"],
    );
    invalid(
        CLASS,
        &base,
        "/spec/config/0",
        json!({}),
        &["spec.config[0].opaque|Required|Required value"],
    );
    for name in ["cpu", "kubernetes.io/x", "requests.a.io/x", "a.io/-"] {
        invalid(
            CLASS,
            &base,
            "/spec/extendedResourceName",
            json!(name),
            &[&format!(
                "spec.extendedResourceName|Invalid|Invalid value: {name:?}: must be a valid extended resource name"
            )],
        );
    }
    let base = template();
    invalid(
        TEMPLATE,
        &base,
        "/spec/metadata/labels",
        json!({"-": "b"}),
        &[&format!(
            "spec.metadata.labels|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
    invalid(
        TEMPLATE,
        &base,
        "/spec/spec/devices/requests/0/exactly/deviceClassName",
        json!(""),
        &["spec.spec.devices.requests[0].exactly.deviceClassName|Required|Required value"],
    );
}

#[test]
fn slices() {
    let base = slice();
    let check = |pointer: &str, value: Value, want: &[&str]| {
        invalid(SLICE, &base, &format!("/spec/{pointer}"), value, want);
    };
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    check("driver", json!(""), &["spec.driver|Required|Required value"]);
    check(
        "pool",
        json!({"name": "", "generation": -1, "resourceSliceCount": 0}),
        &[
            "spec.pool.name|Required|Required value",
            "spec.pool.resourceSliceCount|Invalid|Invalid value: 0: must be greater than zero",
            "spec.pool.generation|Invalid|Invalid value: -1: must be greater than or equal to zero",
        ],
    );
    check(
        "pool/name",
        json!("a//b"),
        &[&format!(
            "spec.pool.name|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        "nodeName",
        json!(""),
        &[
            "spec.nodeName|Invalid|Invalid value: \"\": must be either unset or set to a non-empty string",
            &format!("spec|Required|Required value: {ONE}"),
        ],
    );
    check(
        "allNodes",
        json!(true),
        &[&format!(
            "spec|Invalid|Invalid value: \"{{`nodeName`, `allNodes`}}\": {ONE}, but multiple fields are set"
        )],
    );
    check(
        "allNodes",
        json!(false),
        &["spec.allNodes|Invalid|Invalid value: false: must be either unset or set to true"],
    );
    check(
        "nodeSelector",
        json!({"nodeSelectorTerms": []}),
        &[
            "spec.nodeSelector.nodeSelectorTerms|Required|Required value: must have at least one node selector term",
            "spec.nodeSelector.nodeSelectorTerms|Invalid|Invalid value: []: must have exactly one node selector term",
            &format!(
                "spec|Invalid|Invalid value: \"{{`nodeName`, `nodeSelector`}}\": {ONE}, but multiple fields are set"
            ),
        ],
    );
    check(
        "sharedCounters",
        json!([{"name": "", "counters": {}}]),
        &[
            "spec|Invalid|Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
            "spec.sharedCounters[0].name|Required|Required value",
            "spec.sharedCounters[0].counters|Required|Required value",
        ],
    );
    let devices = |count: usize, extra: Value| -> Value {
        let one = |n: usize| {
            let mut device = json!({"name": format!("d{n}")});
            if n == 0 {
                for (field, value) in extra.as_object().unwrap() {
                    device[field] = value.clone();
                }
            }
            device
        };
        (0..count).map(one).collect()
    };
    check(
        "devices",
        devices(129, json!({})),
        &["spec.devices|TooMany|Too many: 129: must have at most 128 items"],
    );
    check(
        "devices",
        devices(65, json!({"taints": [{"key": "k", "effect": "None"}]})),
        &["spec.devices|TooMany|Too many: 65: must have at most 64 items"],
    );
    check(
        "devices",
        json!([{"name": "a"}, {"name": "a"}]),
        &["spec.devices[1]|Duplicate|Duplicate value: \"a\""],
    );
}

#[test]
fn devices() {
    let base = slice();
    let check = |field: &str, value: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|w| match w.strip_prefix('!') {
                Some(rest) => format!("spec.devices[0]{rest}"),
                None => format!("spec.devices[0].{w}"),
            })
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        invalid(SLICE, &base, &format!("/spec/devices/0/{field}"), value, &want);
    };
    check(
        "name",
        json!("D"),
        &[&format!("name|Invalid|Invalid value: \"D\": {DNS_LABEL}")],
    );
    check(
        "attributes",
        json!({"m": {}}),
        &["attributes[m]|Invalid|Invalid value: \"\": exactly one value must be specified"],
    );
    check(
        "attributes",
        json!({"m": {"int": 1, "bool": true}}),
        &[
            "attributes[m]|Invalid|Invalid value: {\"bool\":true,\"int\":1}: exactly one value must be specified",
        ],
    );
    check(
        "attributes",
        json!({"m": {"version": "1.2"}}),
        &[
            "attributes[m].version|Invalid|Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0",
        ],
    );
    check(
        "attributes",
        json!({"m": {"string": "x".repeat(65)}}),
        &["attributes[m].string|TooLong|Too long: may not be more than 64 bytes"],
    );
    check(
        "attributes",
        json!({"1": {"int": 1}}),
        &[&format!(
            "attributes|Invalid|Invalid value: \"1\": {C_IDENTIFIER}"
        )],
    );
    // A feature that is off: the list is dropped, and nothing is left of the attribute.
    check(
        "attributes",
        json!({"m": {"ints": [1]}}),
        &["attributes[m]|Invalid|Invalid value: \"\": exactly one value must be specified"],
    );
    let many: serde_json::Map<String, Value> =
        (0..32).map(|n| (format!("a{n}"), json!({"int": n}))).collect();
    check(
        "attributes",
        many.into(),
        &["!|Invalid|Invalid value: 33: the total number of attributes and capacities must not exceed 32"],
    );
    check(
        "taints",
        json!([{"key": "-", "value": "v", "effect": ""}, {"key": "k", "effect": "x"}]),
        &[
            &format!("taints[0].key|Invalid|Invalid value: \"-\": {QUALIFIED}"),
            "taints[0].effect|Required|Required value",
            "taints[1].effect|NotSupported|Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
    check(
        "consumesCounters",
        json!([{"counterSet": "", "counters": {}}, {"counterSet": "A", "counters": {"B": {"value": "1"}}}]),
        &[
            "consumesCounters[0].counterSet|Required|Required value",
            "consumesCounters[0].counters|Required|Required value",
            &format!("consumesCounters[1].counterSet|Invalid|Invalid value: \"A\": {DNS_LABEL}"),
            &format!("consumesCounters[1].counters|Invalid|Invalid value: \"B\": {DNS_LABEL}"),
        ],
    );
    check(
        "nodeName",
        json!("n"),
        &[
            "!|Invalid|Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ],
    );
    check(
        "bindingConditions",
        json!(["a", "a"]),
        &[
            "bindingConditions[1]|Duplicate|Duplicate value: \"a\"",
            "bindingFailureConditions|Invalid|Invalid value: \"null\": bindingFailureConditions are required to use bindingConditions",
        ],
    );
    let mut placed = slice();
    placed["spec"].as_object_mut().unwrap().remove("nodeName");
    placed["spec"]["perDeviceNodeSelection"] = true.into();
    const WHERE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    invalid(
        SLICE,
        &placed,
        "/spec/devices/0/nodeName",
        Value::Null,
        &[&format!("spec.devices[0]|Required|Required value: {WHERE}")],
    );
    placed["spec"]["devices"][0]["nodeName"] = "n".into();
    invalid(
        SLICE,
        &placed,
        "/spec/devices/0/allNodes",
        json!(true),
        &[&format!(
            "spec.devices[0]|Invalid|Invalid value: \"{{`nodeName`, `allNodes`}}\": {WHERE}"
        )],
    );
}

#[test]
fn capacities() {
    let check = |policy: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|w| format!("spec.devices[0].capacity[mem].requestPolicy{w}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        invalid(
            SLICE,
            &shareable(),
            "/spec/devices/0/capacity/mem/requestPolicy",
            policy,
            &want,
        );
    };
    check(json!({}), &[]);
    check(
        json!({"default": "2", "validRange": {"min": "0", "max": "10", "step": "2"}}),
        &[],
    );
    check(
        json!({"validValues": ["1"], "validRange": {"min": "1"}}),
        &[
            "|Forbidden|Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ],
    );
    check(
        json!({"validValues": ["1"]}),
        &[".default|Required|Required value: required when validValues is defined"],
    );
    check(
        json!({"default": "4", "validValues": ["3", "1", "1", "20"]}),
        &[
            ".validValues[1]|Invalid|Invalid value: \"1\": values must be sorted in ascending order",
            ".validValues[3]|Invalid|Invalid value: \"20\": option is larger than capacity value: 10",
            ".validValues[2]|Duplicate|Duplicate value: \"1\"",
            ".validValues|Invalid|Invalid value: \"4\": default value is not valid according to the requestPolicy",
        ],
    );
    check(
        json!({"validRange": {"min": "1"}}),
        &[".default|Required|Required value: required when validRange is defined"],
    );
    check(
        json!({"default": "1", "validRange": {"min": "2", "max": "20"}}),
        &[
            ".validRange.default|Invalid|Invalid value: \"1\": default is less than min: 2",
            ".validRange.max|Invalid|Invalid value: \"20\": max is larger than capacity value: 10",
        ],
    );
    check(
        json!({"default": "3", "validRange": {"min": "0", "step": "2"}}),
        &[
            ".validRange.step|Invalid|Invalid value: \"3\": value is not a multiple of a given step (2) from (0)",
        ],
    );
    check(
        json!({"default": "0", "validRange": {"min": "0", "step": "0"}}),
        &[".validRange.step|Invalid|Invalid value: \"0\": must be greater than zero"],
    );
    check(
        json!({"default": "9", "validRange": {"min": "9", "step": "5"}}),
        &[".validRange.step|Invalid|Invalid value: \"5\": one step 14 is larger than capacity value: 10"],
    );
    invalid(
        SLICE,
        &shareable(),
        "/spec/devices/0/allowMultipleAllocations",
        Value::Null,
        &[
            "spec.devices[0].capacity[mem].requestPolicy|Forbidden|Forbidden: allowMultipleAllocations must be true",
        ],
    );
}

fn allocation() -> Value {
    json!({"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "p", "device": "d"}]}})
}

#[test]
fn claim_status() {
    let old = stored(CLAIM, &claim());
    let check = |status: Value, want: &[&str]| {
        let want: Vec<String> = want.iter().map(|w| format!("status.{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        refused_part(CLAIM, &old, json!({"status": status}), Subresource::Status, &want);
    };
    let consumer = json!({"resource": "pods", "name": "p", "uid": "1"});
    check(
        json!({"allocation": allocation(), "reservedFor": [consumer]}),
        &[],
    );
    check(
        json!({"reservedFor": [consumer]}),
        &["reservedFor|Forbidden|Forbidden: may not be specified when `allocated` is not set"],
    );
    check(
        json!({"allocation": allocation(), "reservedFor": [consumer, consumer, {"resource": "", "name": "", "uid": ""}]}),
        &[
            "reservedFor[2].resource|Required|Required value",
            "reservedFor[2].name|Required|Required value",
            "reservedFor[2].uid|Required|Required value",
            "reservedFor[1]|Duplicate|Duplicate value: \"1\"",
        ],
    );
    check(
        json!({"allocation": {"devices": {
            "results": [{"request": "none", "driver": "", "pool": "", "device": "D", "shareID": "x"}],
            "config": [{"source": "", "opaque": {"driver": "d", "parameters": {}}}, {"source": "x", "opaque": {"driver": "d", "parameters": {}}}],
        }}}),
        &[
            &format!("allocation.devices.results[0].request|Invalid|Invalid value: \"none\": {REFERENCE}"),
            "allocation.devices.results[0].driver|Required|Required value",
            "allocation.devices.results[0].pool|Required|Required value",
            &format!("allocation.devices.results[0].device|Invalid|Invalid value: \"D\": {DNS_LABEL}"),
            "allocation.devices.results[0].shareID|Invalid|Invalid value: \"x\": error validating uid: invalid UUID length: 1",
            "allocation.devices.config[0].source|Required|Required value",
            "allocation.devices.config[1].source|NotSupported|Unsupported value: \"x\": supported values: \"FromClaim\", \"FromClass\"",
        ],
    );
    let device = |extra: Value| {
        let mut device = json!({"driver": "d.io", "pool": "p", "device": "d"});
        for (field, value) in extra.as_object().unwrap() {
            device[field] = value.clone();
        }
        json!({"allocation": allocation(), "devices": [device]})
    };
    check(device(json!({})), &[]);
    check(
        device(json!({"device": "e"})),
        &["devices[0]|Invalid|Invalid value: \"d.io/p/e\": must be an allocated device in the claim"],
    );
    check(
        device(json!({"data": [1]})),
        &["devices[0].data|Invalid|Invalid value: \"<value omitted>\": must be a valid JSON object"],
    );
    check(
        device(
            json!({"networkData": {"interfaceName": "i".repeat(257), "ips": ["10.0.0.1", "10.0.0.1/24", "10.0.0.1/24"]}}),
        ),
        &[
            "devices[0].networkData.interfaceName|TooLong|Too long: may not be more than 256 bytes",
            "devices[0].networkData.ips[0]|Invalid|Invalid value: \"10.0.0.1\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
            "devices[0].networkData.ips[2]|Duplicate|Duplicate value: \"10.0.0.1/24\"",
        ],
    );
}

#[test]
fn updates() {
    let old = stored(CLAIM, &claim());
    let causes = |name, old: &Value, patch: Value| {
        common::causes(update(name, old, patch, Subresource::Main).unwrap_err())
    };
    for (name, body) in [(CLAIM, claim()), (TEMPLATE, template())] {
        let old = stored(name, &body);
        let pointer = if name == CLAIM { "devices" } else { "spec" };
        let got = causes(name, &old, json!({"spec": {pointer: null}}));
        assert!(
            got[0].starts_with("spec|Invalid|") && got[0].ends_with("field is immutable"),
            "{got:?}"
        );
    }
    // The status path keeps spec and labels; an allocation stays what it is until it goes.
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"devices": null}, "status": {"allocation": allocation()}});
    let allocated = update(CLAIM, &old, patch, Subresource::Status).unwrap();
    assert_eq!(
        (&allocated["spec"], &allocated["metadata"]["labels"]),
        (&old["spec"], &Value::Null)
    );
    let other = json!({"status": {"allocation": {"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "p", "device": "e"}]}}}});
    let got = common::causes(update(CLAIM, &allocated, other, Subresource::Status).unwrap_err());
    assert!(
        got[0].starts_with("status.allocation|Invalid|") && got[0].ends_with("field is immutable"),
        "{got:?}"
    );
    let device =
        json!({"status": {"devices": [{"driver": "d.io", "pool": "p", "device": "d", "conditions": []}]}});
    let reported = update(CLAIM, &allocated, device, Subresource::Status).unwrap();
    let gone = update(
        CLAIM,
        &reported,
        json!({"status": {"allocation": null}}),
        Subresource::Status,
    )
    .unwrap();
    assert_eq!(gone["status"], json!({}));

    let old = stored(SLICE, &slice());
    refused(
        SLICE,
        &old,
        json!({"spec": {"driver": "e.io", "nodeName": "m", "pool": {"name": "q"}}}),
        &[
            "spec.pool.name|Invalid|Invalid value: \"q\": field is immutable",
            "spec.driver|Invalid|Invalid value: \"e.io\": field is immutable",
            "spec.nodeName|Invalid|Invalid value: \"m\": field is immutable",
        ],
    );
    let patch =
        json!({"spec": {"devices": [{"name": "d", "taints": [{"key": "k", "effect": "NoExecute"}]}]}});
    let new = update(SLICE, &old, patch, Subresource::Main).unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(
        new["spec"]["devices"][0]["taints"][0]["timeAdded"],
        "2026-01-01T01:00:00Z"
    );
    let old = stored(CLASS, &class());
    let new = update(
        CLASS,
        &old,
        json!({"spec": {"selectors": null}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn shown() {
    for (name, body) in [(CLASS, class()), (TEMPLATE, template())] {
        let mut object = body;
        object["metadata"] = aged("a");
        columns(name, object, &["Name=a", "Age=5m"]);
    }
    let mut object = claim();
    object["metadata"] = aged("a");
    columns(CLAIM, object.clone(), &["Name=a", "State=pending", "Age=5m"]);
    object["status"] =
        json!({"allocation": allocation(), "reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]});
    columns(
        CLAIM,
        object.clone(),
        &["Name=a", "State=allocated,reserved", "Age=5m"],
    );
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["status"] = json!({});
    columns(CLAIM, object, &["Name=a", "State=deleted", "Age=5m"]);
    let mut object = slice();
    object["metadata"] = aged("a");
    columns(
        SLICE,
        object,
        &["Name=a", "Node=n", "Driver=d.io", "Pool=p", "Age=5m"],
    );
}
