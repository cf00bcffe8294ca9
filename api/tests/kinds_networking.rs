//! The kinds of the networking group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const INGRESS: Name = ("networking.k8s.io/v1", "Ingress");
const INGRESS_CLASS: Name = ("networking.k8s.io/v1", "IngressClass");
const POLICY: Name = ("networking.k8s.io/v1", "NetworkPolicy");
const CIDR: Name = ("networking.k8s.io/v1", "ServiceCIDR");
const ADDRESS: Name = ("networking.k8s.io/v1", "IPAddress");

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn ingress() -> Value {
    json!({
        "metadata": {"name": "a", "annotations": {}},
        "spec": {
            "rules": [{"host": "a.io", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "s", "port": {"number": 80}}},
            }]}}],
            "tls": [{"hosts": ["a.io"], "secretName": "t"}],
        },
    })
}

fn ingress_class() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "controller": "example.com/c",
        "parameters": {"apiGroup": "k8s.example.com", "kind": "P", "name": "p", "scope": "Namespace", "namespace": "n"},
    }})
}

fn policy() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "podSelector": {"matchLabels": {"a": "b"}},
        "ingress": [{
            "ports": [{"port": 80, "endPort": 90}, {"port": "http"}, {}],
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}, "namespaceSelector": {}}],
        }],
        "egress": [{"to": [{"podSelector": {}}]}],
        "policyTypes": ["Ingress", "Egress"],
    }})
}

fn address() -> Value {
    json!({"metadata": {"name": "10.0.0.1"}, "spec": {
        "parentRef": {"resource": "services", "namespace": "default", "name": "a"},
    }})
}

#[test]
fn names() {
    known_as(INGRESS, true, &["ing"], &["status"]);
    known_as(INGRESS_CLASS, false, &[], &[]);
    known_as(POLICY, true, &["netpol"], &[]);
    known_as(CIDR, false, &[], &["status"]);
    known_as(ADDRESS, false, &["ip"], &[]);
}

#[test]
fn defaults() {
    golden(
        INGRESS,
        json!({
            "metadata": {"name": "a"},
            "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        }),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
            "status": {"loadBalancer": {}},
        }),
    );
    golden(
        INGRESS_CLASS,
        json!({"metadata": {"name": "a"}, "spec": {"controller": "a.io/c", "parameters": {"kind": "K", "name": "n"}}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"controller": "a.io/c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}},
        }),
    );
    golden(
        POLICY,
        json!({"metadata": {"name": "a"}, "spec": {"ingress": [{"ports": [{"port": 80}]}]}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}],
                "podSelector": {},
                "policyTypes": ["Ingress"],
            },
        }),
    );
    golden(
        POLICY,
        json!({"metadata": {"name": "a"}, "spec": {"egress": [{}]}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"egress": [{}], "podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        }),
    );
    golden(
        CIDR,
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24", "2001:db8::/64"]}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {"cidrs": ["10.0.0.0/24", "2001:db8::/64"]},
            "status": {},
        }),
    );
    golden(
        ADDRESS,
        json!({"metadata": {"name": "2001:db8::1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}}),
        json!({"metadata": {"name": "2001:db8::1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}}),
    );
}

#[test]
fn invalid_ingresses() {
    let base = ingress();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(INGRESS, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/spec/rules",
        Value::Null,
        &["spec|Invalid|Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    let rule = "/spec/rules/0";
    check(
        &base,
        &format!("{rule}/host"),
        json!("A"),
        &[&format!(
            "spec.rules[0].host|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        &format!("{rule}/host"),
        json!("1.2.3.4"),
        &["spec.rules[0].host|Invalid|Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
    );
    check(
        &base,
        &format!("{rule}/host"),
        json!("a.*.io"),
        &[&format!(
            "spec.rules[0].host|Invalid|Invalid value: \"a.*.io\": {WILDCARD}"
        )],
    );
    check(&base, &format!("{rule}/host"), json!("*.io"), &[]);
    check(
        &base,
        &format!("{rule}/http"),
        json!({"paths": []}),
        &["spec.rules[0].http.paths|Required|Required value"],
    );
    let path = "spec.rules[0].http.paths[0]";
    let at = "/spec/rules/0/http/paths/0";
    check(
        &base,
        &format!("{at}/pathType"),
        Value::Null,
        &[&format!(
            "{path}.pathType|Required|Required value: pathType must be specified"
        )],
    );
    check(
        &base,
        &format!("{at}/pathType"),
        json!("prefix"),
        &[&format!(
            "{path}.pathType|NotSupported|Unsupported value: \"prefix\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
        )],
    );
    check(
        &base,
        &format!("{at}/path"),
        json!("a"),
        &[&format!(
            "{path}.path|Invalid|Invalid value: \"a\": must be an absolute path"
        )],
    );
    check(
        &base,
        &format!("{at}/path"),
        json!("//a/.."),
        &[
            &format!("{path}.path|Invalid|Invalid value: \"//a/..\": must not contain '//'"),
            &format!("{path}.path|Invalid|Invalid value: \"//a/..\": cannot end with '/..'"),
        ],
    );
    check(
        &base,
        &format!("{at}/path"),
        json!("/%2f"),
        &[&format!(
            "{path}.path|Invalid|Invalid value: \"/%2f\": must not contain '%2f'"
        )],
    );
    check(
        &base,
        &format!("{at}/backend"),
        json!({}),
        &[&format!(
            "{path}.backend|Invalid|Invalid value: \"\": resource or service backend is required"
        )],
    );
    check(
        &base,
        &format!("{at}/backend/resource"),
        json!({"kind": "K", "name": "n"}),
        &[&format!(
            "{path}.backend|Invalid|Invalid value: \"\": cannot set both resource and service backends"
        )],
    );
    check(
        &base,
        &format!("{at}/backend"),
        json!({"resource": {"apiGroup": "A", "kind": "", "name": "a/b"}}),
        &[
            &format!("{path}.backend.resource.apiGroup|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            &format!("{path}.backend.resource.kind|Required|Required value"),
            &format!("{path}.backend.resource.name|Invalid|Invalid value: \"a/b\": may not contain '/'"),
        ],
    );
    check(
        &base,
        &format!("{at}/backend/service"),
        json!({"name": "", "port": {}}),
        &[
            &format!("{path}.backend.service.name|Required|Required value"),
            &format!("{path}.backend|Required|Required value: port name or number is required"),
        ],
    );
    check(
        &base,
        &format!("{at}/backend/service"),
        json!({"name": "A", "port": {"name": "a", "number": 1}}),
        &[
            &format!("{path}.backend.service.name|Invalid|Invalid value: \"A\": {DNS_LABEL}"),
            &format!("{path}.backend|Invalid|Invalid value: \"\": cannot set both port name & port number"),
        ],
    );
    check(
        &base,
        &format!("{at}/backend/service/port/number"),
        json!(70000),
        &[&format!(
            "{path}.backend.service.port.number|Invalid|Invalid value: 70000: {PORT_RANGE}"
        )],
    );
    check(
        &base,
        &format!("{at}/backend/service/port"),
        json!({"name": "-"}),
        &[
            &format!(
                "{path}.backend.service.port.name|Invalid|Invalid value: \"-\": must contain at least one letter (a-z)"
            ),
            &format!(
                "{path}.backend.service.port.name|Invalid|Invalid value: \"-\": must not begin or end with a hyphen"
            ),
        ],
    );
    check(
        &base,
        "/spec/tls/0/hosts",
        json!(["-", "*"]),
        &[
            &format!("spec.tls[0].hosts[0]|Invalid|Invalid value: \"-\": {DNS_SUBDOMAIN}"),
            &format!("spec.tls[0].hosts[1]|Invalid|Invalid value: \"*\": {WILDCARD}"),
        ],
    );
    check(
        &base,
        "/spec/tls/0/secretName",
        json!("A"),
        &[&format!(
            "spec.tls[0].secretName|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/spec/ingressClassName",
        json!(""),
        &[&format!(
            "spec.ingressClassName|Invalid|Invalid value: \"\": {DNS_SUBDOMAIN}"
        )],
    );
    let mut annotated = base.clone();
    annotated["metadata"]["annotations"]["kubernetes.io/ingress.class"] = json!("x");
    check(
        &annotated,
        "/spec/ingressClassName",
        json!("y"),
        &[
            "annotations.kubernetes.io/ingress.class|Invalid|Invalid value: \"x\": must match `ingressClassName` when both are specified",
        ],
    );
}

#[test]
fn ingress_updates() {
    let old = stored(INGRESS, &ingress());
    let class = json!({"spec": {"ingressClassName": "x"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    let new = update(INGRESS, &old, class.clone(), Subresource::Main).unwrap();
    assert_eq!(
        (&new["metadata"]["generation"], &new["status"]),
        (&json!(2), &json!({"loadBalancer": {}}))
    );
    let new = update(INGRESS, &old, class, Subresource::Status).unwrap();
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "1.2.3.4"}])
    );
    refused_part(
        INGRESS,
        &old,
        json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"ip": "01.2.3.4"}, {"hostname": "1.2.3.4"}, {"hostname": "A"}]}}}),
        Subresource::Status,
        &[
            "status.loadBalancer.ingress[0].ip|Invalid|Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "status.loadBalancer.ingress[1].ip|Invalid|Invalid value: \"01.2.3.4\": must not have leading 0s",
            "status.loadBalancer.ingress[2].hostname|Invalid|Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            &format!("status.loadBalancer.ingress[3].hostname|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
        ],
    );
    // A bad secret name that is stored may stay.
    let mut bad = old.clone();
    bad["spec"]["tls"][0]["secretName"] = json!("A");
    refused(INGRESS, &bad, json!({"metadata": {"labels": {"a": "b"}}}), &[]);
}

#[test]
fn ingress_warnings() {
    let mut body = ingress();
    warned(INGRESS, &body, &[], &[]);
    body["metadata"]["annotations"]["kubernetes.io/ingress.class"] = json!("x");
    warned(
        INGRESS,
        &body,
        &[
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ],
        &[],
    );
    body["spec"]["ingressClassName"] = json!("x");
    warned(INGRESS, &body, &[], &[]);
}

#[test]
fn invalid_ingress_classes() {
    let base = ingress_class();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(INGRESS_CLASS, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/spec/controller",
        json!(""),
        &["spec.controller|Required|Required value"],
    );
    check(
        &base,
        "/spec/controller",
        json!("a"),
        &[
            "spec.controller|Invalid|Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ],
    );
    check(
        &base,
        "/spec/controller",
        json!("A/b c"),
        &[
            &format!("spec.controller|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            "spec.controller|Invalid|Invalid value: \"b c\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ],
    );
    check(
        &base,
        "/spec/controller",
        json!(format!("a.io/{}", "b".repeat(246))),
        &["spec.controller|TooLong|Too long: may not be more than 250 bytes"],
    );
    let at = "/spec/parameters";
    check(
        &base,
        &format!("{at}/kind"),
        Value::Null,
        &["spec.parameters.kind|Required|Required value"],
    );
    check(
        &base,
        &format!("{at}/name"),
        json!(".."),
        &["spec.parameters.name|Invalid|Invalid value: \"..\": may not be '..'"],
    );
    check(
        &base,
        &format!("{at}/scope"),
        json!("X"),
        &[
            "spec.parameters.scope|NotSupported|Unsupported value: \"X\": supported values: \"Cluster\", \"Namespace\"",
        ],
    );
    check(
        &base,
        &format!("{at}/scope"),
        json!("Cluster"),
        &["spec.parameters.namespace|Forbidden|Forbidden: `parameters.scope` is set to 'Cluster'"],
    );
    check(
        &base,
        &format!("{at}/namespace"),
        Value::Null,
        &["spec.parameters.namespace|Required|Required value: `parameters.scope` is set to 'Namespace'"],
    );
    check(
        &base,
        &format!("{at}/namespace"),
        json!("A"),
        &[&format!(
            "spec.parameters.namespace|Invalid|Invalid value: \"A\": {DNS_LABEL}"
        )],
    );
    let old = stored(INGRESS_CLASS, &base);
    refused(
        INGRESS_CLASS,
        &old,
        json!({"spec": {"controller": "a.io/x"}}),
        &["spec.controller|Invalid|Invalid value: \"a.io/x\": field is immutable"],
    );
    let new = update(
        INGRESS_CLASS,
        &old,
        json!({"spec": {"parameters": {"name": "q"}}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
}

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

#[test]
fn shown() {
    let mut object = ingress();
    object["metadata"] = aged("a");
    object["spec"]["ingressClassName"] = json!("nginx");
    object["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "lb"}, {"ip": "1.1.1.1"}]}});
    columns(
        INGRESS,
        object.clone(),
        &[
            "Name=a",
            "Class=nginx",
            "Hosts=a.io",
            "Address=1.1.1.1,2.2.2.2,lb",
            "Ports=80, 443",
            "Age=5m",
        ],
    );
    let host = |name: &str| json!({"host": name});
    object["spec"] = json!({"rules": [host("a"), host("b"), host("c"), host("d"), host("e")]});
    object["status"] = json!({});
    columns(
        INGRESS,
        object.clone(),
        &[
            "Name=a",
            "Class=<none>",
            "Hosts=a,b,c + 2 more...",
            "Address=",
            "Ports=80",
            "Age=5m",
        ],
    );
    object["spec"] = json!({"rules": [{}]});
    columns(
        INGRESS,
        object,
        &[
            "Name=a",
            "Class=<none>",
            "Hosts=*",
            "Address=",
            "Ports=80",
            "Age=5m",
        ],
    );
    let mut object = ingress_class();
    object["metadata"] = aged("a");
    columns(
        INGRESS_CLASS,
        object,
        &[
            "Name=a",
            "Controller=example.com/c",
            "Parameters=P.k8s.example.com/p",
            "Age=5m",
        ],
    );
    columns(
        INGRESS_CLASS,
        json!({"metadata": aged("a"), "spec": {"controller": "a.io/c"}}),
        &["Name=a", "Controller=a.io/c", "Parameters=<none>", "Age=5m"],
    );
    columns(
        POLICY,
        json!({"metadata": aged("a"), "spec": {"podSelector": {"matchLabels": {"b": "c", "a": "b"}}}}),
        &["Name=a", "Pod-Selector=a=b,b=c", "Age=5m"],
    );
    columns(
        POLICY,
        json!({"metadata": aged("a"), "spec": {}}),
        &["Name=a", "Pod-Selector=<none>", "Age=5m"],
    );
    columns(
        CIDR,
        json!({"metadata": aged("a"), "spec": {"cidrs": ["10.0.0.0/8", "fd00::/64"]}}),
        &["Name=a", "CIDRs=10.0.0.0/8,fd00::/64", "Age=5m"],
    );
    columns(
        ADDRESS,
        json!({"metadata": aged("10.0.0.1"), "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "a"}}}),
        &["Name=10.0.0.1", "ParentRef=services/n/a"],
    );
    columns(
        ADDRESS,
        json!({"metadata": aged("10.0.0.1"), "spec": {"parentRef": {"group": "G.io", "resource": "things", "name": "a"}}}),
        &["Name=10.0.0.1", "ParentRef=things.g.io/a"],
    );
}
