//! NetworkPolicies.

use super::*;

#[test]
fn invalid_policies() {
    let base = policy();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(POLICY, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/spec/podSelector",
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        &[
            "spec.podSelector.matchExpressions[0].values|Required|Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ],
    );
    let (port, at) = ("spec.ingress[0].ports[0]", "/spec/ingress/0/ports/0");
    check(
        &base,
        at,
        json!({"protocol": "ICMP"}),
        &[&format!(
            "{port}.protocol|NotSupported|Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""
        )],
    );
    check(
        &base,
        at,
        json!({"port": 0}),
        &[&format!("{port}.port|Invalid|Invalid value: 0: {PORT_RANGE}")],
    );
    check(
        &base,
        at,
        json!({"port": "A"}),
        &[
            &format!(
                "{port}.port|Invalid|Invalid value: \"A\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            ),
            &format!("{port}.port|Invalid|Invalid value: \"A\": must contain at least one letter (a-z)"),
        ],
    );
    check(
        &base,
        at,
        json!({"port": 80, "endPort": 79}),
        &[&format!(
            "{port}.endPort|Invalid|Invalid value: 79: must be greater than or equal to `port`"
        )],
    );
    check(
        &base,
        at,
        json!({"port": 80, "endPort": 65536}),
        &[&format!(
            "{port}.endPort|Invalid|Invalid value: 65536: {PORT_RANGE}"
        )],
    );
    check(
        &base,
        at,
        json!({"port": "a", "endPort": 1}),
        &[&format!(
            "{port}.endPort|Invalid|Invalid value: 1: may not be specified when `port` is non-numeric"
        )],
    );
    check(
        &base,
        at,
        json!({"endPort": 1}),
        &[&format!(
            "{port}.endPort|Invalid|Invalid value: 1: may not be specified when `port` is not specified"
        )],
    );
    let (peer, at) = ("spec.ingress[0].from[0]", "/spec/ingress/0/from/0");
    check(
        &base,
        at,
        json!({}),
        &[&format!("{peer}|Required|Required value: must specify a peer")],
    );
    check(
        &base,
        at,
        json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
        &[&format!(
            "{peer}|Forbidden|Forbidden: may not specify both ipBlock and another peer"
        )],
    );
    check(
        &base,
        at,
        json!({"ipBlock": {}}),
        &[&format!("{peer}.ipBlock.cidr|Required|Required value")],
    );
    check(
        &base,
        at,
        json!({"ipBlock": {"cidr": "10.0.0.0"}}),
        &[&format!(
            "{peer}.ipBlock.cidr|Invalid|Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        )],
    );
    check(
        &base,
        at,
        json!({"ipBlock": {"cidr": "10.0.0.1/8"}}),
        &[&format!(
            "{peer}.ipBlock.cidr|Invalid|Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"
        )],
    );
    check(
        &base,
        at,
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "10.0.0.0/8", "x"]}}),
        &[
            &format!(
                "{peer}.ipBlock.except[0]|Invalid|Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
            ),
            &format!(
                "{peer}.ipBlock.except[1]|Invalid|Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"
            ),
            &format!(
                "{peer}.ipBlock.except[2]|Invalid|Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            ),
        ],
    );
    check(
        &base,
        "/spec/egress/0/to/0",
        json!({"namespaceSelector": {"matchLabels": {"": "a"}}}),
        &[
            "spec.egress[0].to[0].namespaceSelector.matchLabels|Invalid|Invalid value: \"\": name part must be non-empty",
            &format!(
                "spec.egress[0].to[0].namespaceSelector.matchLabels|Invalid|Invalid value: \"\": {QUALIFIED}"
            ),
        ],
    );
    check(
        &base,
        "/spec/policyTypes/0",
        json!("ingress"),
        &[
            "spec.policyTypes[0]|NotSupported|Unsupported value: \"ingress\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
    check(
        &base,
        "/spec/policyTypes",
        json!(["Ingress", "Egress", "Ingress"]),
        &[
            "spec.policyTypes|Invalid|Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
        ],
    );
}

#[test]
fn a_policy_keeps_old_cidrs_and_warns() {
    let mut old = stored(POLICY, &policy());
    old["spec"]["ingress"][0]["from"][0]["ipBlock"]["cidr"] = json!("10.0.0.7/8");
    refused(POLICY, &old, json!({"metadata": {"labels": {"a": "b"}}}), &[]);
    assert_eq!(
        resource(POLICY).warnings(&old),
        [
            "spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.7/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.7/32\"?)"
        ]
    );
    let new = update(
        POLICY,
        &old,
        json!({"spec": {"policyTypes": ["Ingress"]}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    refused(
        POLICY,
        &old,
        json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.8/8"}}]}]}}),
        &[
            "spec.egress[0].to[0].ipBlock.cidr|Invalid|Invalid value: \"10.0.0.8/8\": must not have bits set beyond the prefix length",
        ],
    );
}
