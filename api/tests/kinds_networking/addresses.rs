//! ServiceCIDRs and IPAddresses.

use super::*;

#[test]
fn service_cidrs() {
    let base = json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24"]}});
    #[track_caller]
    fn check(base: &Value, cidrs: Value, want: &[&str]) {
        invalid(CIDR, base, "/spec/cidrs", cidrs, want);
    }
    check(&base, json!(["10.0.0.0/24"]), &[]);
    check(
        &base,
        json!([]),
        &["spec.cidrs|Required|Required value: at least one CIDR required"],
    );
    check(
        &base,
        json!(["10.0.0.0/24", "2001:db8::/64", "x"]),
        &[
            "spec.cidrs|Invalid|Invalid value: {\"CIDRs\":[\"10.0.0.0/24\",\"2001:db8::/64\",\"x\"]}: may only hold up to 2 values",
        ],
    );
    check(
        &base,
        json!(["x"]),
        &[
            "spec.cidrs[0]|Invalid|Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ],
    );
    check(
        &base,
        json!(["10.0.0.0/24", "2001:DB8::/64"]),
        &[
            "spec.cidrs[1]|Invalid|Invalid value: \"2001:DB8::/64\": must be in canonical form (\"2001:db8::/64\")",
        ],
    );
    check(
        &base,
        json!(["10.0.0.0/24", "10.0.1.0/24"]),
        &[
            "spec.cidrs|Invalid|Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let old = stored(CIDR, &base);
    refused(
        CIDR,
        &old,
        json!({"spec": {"cidrs": ["10.0.1.0/24"]}}),
        &["spec.cidrs[0]|Invalid|Invalid value: \"10.0.1.0/24\": field is immutable"],
    );
    refused(
        CIDR,
        &old,
        json!({"spec": {"cidrs": ["10.0.0.0/24", "2001:db8::/64"]}}),
        &[],
    );
    refused(
        CIDR,
        &old,
        json!({"spec": {"cidrs": ["10.0.0.0/24", "10.0.1.0/24"]}}),
        &[
            "spec.cidrs|Invalid|Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    refused(
        CIDR,
        &old,
        json!({"spec": {"cidrs": null}}),
        &["spec.cidrs|Invalid|Invalid value: null: field is immutable"],
    );
    let status = json!({
        "metadata": {"labels": {"a": "b"}}, "spec": {"cidrs": ["10.9.0.0/24"]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    let new = update(CIDR, &old, status, Subresource::Status).unwrap();
    assert_eq!(
        (&new["spec"], &new["metadata"]["labels"]),
        (&old["spec"], &Value::Null)
    );
    assert_eq!(new["status"]["conditions"][0]["type"], "Ready");
}

#[test]
fn ip_addresses() {
    let base = address();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(ADDRESS, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("10.0.0.2"), &[]);
    check(
        &base,
        "/metadata/name",
        json!("a"),
        &[
            "metadata.name|Invalid|Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    check(
        &base,
        "/metadata/name",
        json!("2001:DB8::1"),
        &[
            "metadata.name|Invalid|Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
        ],
    );
    check(
        &base,
        "/metadata/name",
        json!("010.0.0.1"),
        &["metadata.name|Invalid|Invalid value: \"010.0.0.1\": must not have leading 0s"],
    );
    check(
        &base,
        "/spec/parentRef",
        Value::Null,
        &["spec.parentRef|Required|Required value"],
    );
    let at = "/spec/parentRef";
    check(
        &base,
        at,
        json!({"group": "A", "resource": "", "name": ""}),
        &[
            &format!("spec.parentRef.group|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            "spec.parentRef.resource|Required|Required value",
            "spec.parentRef.name|Required|Required value",
        ],
    );
    check(
        &base,
        at,
        json!({"resource": "a/b", "name": "%", "namespace": "."}),
        &[
            "spec.parentRef.resource|Invalid|Invalid value: \"a/b\": may not contain '/'",
            "spec.parentRef.name|Invalid|Invalid value: \"%\": may not contain '%'",
            "spec.parentRef.namespace|Invalid|Invalid value: \".\": may not be '.'",
        ],
    );
    let old = stored(ADDRESS, &base);
    refused(
        ADDRESS,
        &old,
        json!({"spec": {"parentRef": {"name": "b"}}}),
        &[
            "spec.parentRef|Invalid|Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"default\",\"Name\":\"b\"}: field is immutable",
        ],
    );
    refused(ADDRESS, &old, json!({"metadata": {"labels": {"a": "b"}}}), &[]);
}
