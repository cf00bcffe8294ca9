//! The objects every cluster has from its first moment: two mandatory pairs, which may not change, and the
//! suggested ones. Source: `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// Objects that carry this annotation with `true` follow their definition when it changes.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

static LEVELS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    vec![
        object(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        object(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }}),
        ),
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
    ]
});

static SCHEMAS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    const CHANGE: &[&str] = &["get", "create", "update"];
    let leases = || rule(CHANGE, "coordination.k8s.io", &["leases"], false);
    let everyone = || groups(&["system:unauthenticated", "system:authenticated"]);
    let both = |first: Vec<Value>, then: Vec<Value>| [first, then].concat();
    let manager = || users(&["system:kube-controller-manager"]);
    vec![
        schema("exempt", "exempt", 1, "", all(groups(&["system:masters"]))),
        schema("catch-all", "catch-all", 10_000, "ByUser", all(everyone())),
        schema(
            "system-nodes",
            "system",
            500,
            "ByUser",
            all(groups(&["system:nodes"])),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            json!({
                "subjects": groups(&["system:nodes"]),
                "resourceRules": [
                    rule(&["*"], "", &["nodes", "nodes/status"], true),
                    rule(&["*"], "coordination.k8s.io", &["leases"], false),
                ],
            }),
        ),
        schema(
            "probes",
            "exempt",
            2,
            "",
            json!({
                "subjects": everyone(),
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
            }),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            json!({
                "subjects": both(
                    users(&["system:kube-controller-manager", "system:kube-scheduler"]),
                    accounts(&["*"]),
                ),
                "resourceRules": [leases()],
            }),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            json!({"subjects": accounts(&["*"]), "resourceRules": [leases()]}),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            "ByUser",
            json!({
                "subjects": both(
                    manager(),
                    accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
                ),
                "resourceRules": [rule(CHANGE, "", &["endpoints"], false)],
            }),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            all(manager()),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            all(users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            all(accounts(&["*"])),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9_000,
            "ByUser",
            all(groups(&["system:serviceaccounts"])),
        ),
        schema(
            "global-default",
            "global-default",
            9_900,
            "ByUser",
            all(everyone()),
        ),
    ]
});

/// Names of the objects whose spec is fixed, of both kinds.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Every PriorityLevelConfiguration a cluster starts with, in full form.
pub fn priority_levels() -> &'static [Value] {
    &LEVELS
}

/// Every FlowSchema a cluster starts with, in full form.
pub fn flow_schemas() -> &'static [Value] {
    &SCHEMAS
}

/// The spec that a mandatory object of this name must have.
pub(super) fn fixed<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    let object = objects.iter().find(|o| o["metadata"]["name"] == name)?;
    MANDATORY.contains(&name).then_some(&object["spec"])
}

fn object(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}

fn queued(name: &str, shares: i32, lendable: i32, queues: i32, hand: i32) -> Value {
    object(
        name,
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": {
                "type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50},
            },
        }}),
    )
}

/// One FlowSchema with one rule; `method` may be empty.
fn schema(name: &str, level: &str, precedence: i32, method: &str, rule: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !method.is_empty() {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    object(name, spec)
}

/// A rule over every verb and target.
fn all(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [rule(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"],
    });
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    let one = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
    names.iter().map(one).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    let one = |name: &&str| json!({"kind": "User", "user": {"name": name}});
    names.iter().map(one).collect()
}

/// ServiceAccounts of kube-system.
fn accounts(names: &[&str]) -> Vec<Value> {
    let one = |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(one).collect()
}
