//! The kinds of the rbac group: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use serde_json::{Value, json};

const V1: &str = "rbac.authorization.k8s.io/v1";
const ROLE: Name = (V1, "Role");
const CLUSTER_ROLE: Name = (V1, "ClusterRole");
const BINDING: Name = (V1, "RoleBinding");
const CLUSTER_BINDING: Name = (V1, "ClusterRoleBinding");
const GROUP: &str = "rbac.authorization.k8s.io";

fn role() -> Value {
    json!({"metadata": {"name": "a:b"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
}

fn binding(role: &str) -> Value {
    json!({
        "metadata": {"name": "a"},
        "roleRef": {"kind": role, "name": "system:a"},
        "subjects": [
            {"kind": "User", "name": "u"},
            {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
        ],
    })
}

#[test]
fn names() {
    known_as(ROLE, true, &[], &[]);
    known_as(CLUSTER_ROLE, false, &[], &[]);
    known_as(BINDING, true, &[], &[]);
    known_as(CLUSTER_BINDING, false, &[], &[]);
    for name in [ROLE, CLUSTER_ROLE, BINDING, CLUSTER_BINDING] {
        assert!(resource(name).create_on_update() && resource(name).unconditional_update());
    }
}

#[test]
fn defaults() {
    golden(
        ROLE,
        json!({"metadata": {"name": "a:b"}}),
        json!({"metadata": {"name": "a:b"}, "rules": null}),
    );
    golden(
        CLUSTER_ROLE,
        json!({
            "metadata": {"name": "system:a"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
            "rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}],
        }),
        json!({
            "metadata": {"name": "system:a"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
            "rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}],
        }),
    );
    let want = |role: &str| {
        json!({
            "metadata": {"name": "a"},
            "roleRef": {"apiGroup": GROUP, "kind": role, "name": "system:a"},
            "subjects": [
                {"apiGroup": GROUP, "kind": "User", "name": "u"},
                {"apiGroup": GROUP, "kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
            ],
        })
    };
    golden(BINDING, binding("Role"), want("Role"));
    golden(CLUSTER_BINDING, binding("ClusterRole"), want("ClusterRole"));
}

#[test]
fn invalid_roles() {
    let base = role();
    #[track_caller]
    fn check(name: Name, base: &Value, rule: Value, want: &[&str]) {
        invalid(name, base, "/rules/0", rule, want);
    }
    check(
        ROLE,
        &base,
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}),
        &[],
    );
    check(
        ROLE,
        &base,
        json!({"verbs": []}),
        &[
            "rules[0].verbs|Required|Required value: verbs must contain at least one value",
            "rules[0].apiGroups|Required|Required value: resource rules must supply at least one api group",
            "rules[0].resources|Required|Required value: resource rules must supply at least one resource",
        ],
    );
    check(
        ROLE,
        &base,
        json!({"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}),
        &[
            "rules[0].nonResourceURLs|Invalid|Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            "rules[0].nonResourceURLs|Invalid|Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
        ],
    );
    check(
        CLUSTER_ROLE,
        &base,
        json!({"verbs": ["get"], "nonResourceURLs": ["/x"], "resourceNames": ["a"]}),
        &[
            "rules[0].nonResourceURLs|Invalid|Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
        ],
    );
    invalid(
        ROLE,
        &base,
        "/metadata/name",
        json!("a/b"),
        &["metadata.name|Invalid|Invalid value: \"a/b\": may not contain '/'"],
    );
    invalid(
        CLUSTER_ROLE,
        &base,
        "/aggregationRule",
        json!({}),
        &[
            "aggregationRule.clusterRoleSelectors|Required|Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
        ],
    );
    invalid(
        CLUSTER_ROLE,
        &base,
        "/aggregationRule",
        json!({"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}]}),
        &[
            "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].values|Forbidden|Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "aggregationRule.clusterRoleSelectors[0]|Invalid|Invalid value: \"null\": invalid label selector.",
        ],
    );
}

#[test]
fn invalid_bindings() {
    let base = binding("ClusterRole");
    invalid(
        BINDING,
        &base,
        "/roleRef",
        json!({"apiGroup": "x", "kind": "X", "name": ""}),
        &[
            "roleRef.apiGroup|NotSupported|Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
            "roleRef.kind|NotSupported|Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\"",
            "roleRef.name|Required|Required value",
        ],
    );
    invalid(
        CLUSTER_BINDING,
        &base,
        "/roleRef/kind",
        json!("Role"),
        &["roleRef.kind|NotSupported|Unsupported value: \"Role\": supported values: \"ClusterRole\""],
    );
    invalid(
        BINDING,
        &base,
        "/roleRef/name",
        json!("."),
        &["roleRef.name|Invalid|Invalid value: \".\": may not be '.'"],
    );
    #[track_caller]
    fn check(name: Name, subject: Value, want: &[&str]) {
        invalid(name, &binding("ClusterRole"), "/subjects/0", subject, want);
    }
    check(
        BINDING,
        json!({"kind": "User", "name": "", "apiGroup": "x"}),
        &[
            "subjects[0].name|Required|Required value",
            "subjects[0].name|Invalid|Invalid value: \"\": user name cannot be empty",
            "subjects[0].apiGroup|NotSupported|Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
        ],
    );
    check(
        BINDING,
        json!({"kind": "Group", "name": ""}),
        &[
            "subjects[0].name|Required|Required value",
            "subjects[0].name|Invalid|Invalid value: \"\": group name cannot be empty",
        ],
    );
    check(
        BINDING,
        json!({"kind": "ServiceAccount", "name": "A", "apiGroup": "x"}),
        &[
            &format!("subjects[0].name|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"),
            "subjects[0].apiGroup|NotSupported|Unsupported value: \"x\": supported values: \"\"",
        ],
    );
    check(
        CLUSTER_BINDING,
        json!({"kind": "ServiceAccount", "name": "a"}),
        &["subjects[0].namespace|Required|Required value"],
    );
    check(BINDING, json!({"kind": "ServiceAccount", "name": "a"}), &[]);
    check(
        BINDING,
        json!({"kind": "Robot", "name": "a"}),
        &[
            "subjects[0].kind|NotSupported|Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ],
    );
}

#[test]
fn the_role_of_a_binding_stays() {
    for (name, kind) in [(BINDING, "Role"), (CLUSTER_BINDING, "ClusterRole")] {
        let old = stored(name, &binding(kind));
        refused(name, &old, json!({"subjects": null}), &[]);
        refused(
            name,
            &old,
            json!({"roleRef": {"name": "x"}}),
            &[&format!(
                "roleRef|Invalid|Invalid value: {{\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"{kind}\",\"Name\":\"x\"}}: cannot change roleRef"
            )],
        );
    }
    let old = stored(CLUSTER_ROLE, &role());
    refused(CLUSTER_ROLE, &old, json!({"rules": []}), &[]);
    refused(
        CLUSTER_ROLE,
        &old,
        json!({"rules": [{"verbs": ["get"]}]}),
        &[
            "rules[0].apiGroups|Required|Required value: resource rules must supply at least one api group",
            "rules[0].resources|Required|Required value: resource rules must supply at least one resource",
        ],
    );
}

#[test]
fn shown() {
    let mut object = binding("Role");
    object["metadata"] = aged("a");
    let users = json!({"kind": "User", "name": "v"});
    object["subjects"].as_array_mut().unwrap().push(users);
    let want = |kind: &str| {
        vec![
            "Name=a".to_string(),
            format!("Role={kind}/system:a"),
            "Age=5m".into(),
            "+Users=u, v".into(),
            "+Groups=g".into(),
            "+ServiceAccounts=n/s".into(),
        ]
    };
    let check = |name: Name, object: Value, kind: &str| {
        let want = want(kind);
        columns(name, object, &want.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(BINDING, object.clone(), "Role");
    object["roleRef"]["kind"] = json!("ClusterRole");
    check(CLUSTER_BINDING, object, "ClusterRole");
    for name in [ROLE, CLUSTER_ROLE] {
        columns(
            name,
            json!({"metadata": aged("a")}),
            &["Name=a", "Created At=2026-01-01T00:55:00Z"],
        );
    }
}
