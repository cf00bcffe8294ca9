//! ResourceSlices and the devices in them.

use super::*;

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
