//! Ingresses and their classes.

use super::*;

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
