//! Claims, their templates and classes, and what is allocated to them.

use super::*;

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
