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
    let everyone = || groups(&["system:unauthenticated", "system:authenticated"]);
    let both = |first: Vec<Value>, then: Vec<Value>| [first, then].concat();
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
                "resourceRules": [rule(CHANGE, "coordination.k8s.io", &["leases"], false)],
            }),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            all(users(&["system:kube-controller-manager"])),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a list of subjects, and what is asked for with which verbs.
    fn line(object: &Value) -> String {
        let spec = &object["spec"];
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let rule = &spec["rules"][0];
        let subjects = rule["subjects"].as_array().expect("subjects");
        let subjects = subjects.iter().map(|subject| {
            let kind = ["user", "group", "serviceAccount"].map(|kind| word(&subject[kind]["name"]));
            kind.into_iter().find(|name| name != "-").expect("a name")
        });
        let words = |value: &Value| {
            let words = value.as_array().into_iter().flatten();
            words.map(word).collect::<Vec<_>>().join(",")
        };
        let resources = rule["resourceRules"].as_array().into_iter().flatten();
        let resources =
            resources.map(|rule| format!("{}:{}", words(&rule["verbs"]), words(&rule["resources"])));
        let paths = rule["nonResourceRules"].as_array().into_iter().flatten();
        let paths =
            paths.map(|rule| format!("{}:{}", words(&rule["verbs"]), words(&rule["nonResourceURLs"])));
        format!(
            "{} {} {} {} {} {}",
            word(&object["metadata"]["name"]),
            word(&spec["priorityLevelConfiguration"]["name"]),
            spec["matchingPrecedence"],
            word(&spec["distinguisherMethod"]["type"]),
            subjects.collect::<Vec<_>>().join(","),
            resources.chain(paths).collect::<Vec<_>>().join(" ")
        )
    }

    #[test]
    fn the_schemas_are_those_of_upstream_and_no_others() {
        let lines: Vec<String> = flow_schemas().iter().map(line).collect();
        // Source: v1.36.3 of the file above; schemas of former versions (endpoint-controller, workload-leader-election) went.
        let wanted = [
            "exempt exempt 1 - system:masters *:* *:*",
            "catch-all catch-all 10000 ByUser system:unauthenticated,system:authenticated *:* *:*",
            "system-nodes system 500 ByUser system:nodes *:* *:*",
            "system-node-high node-high 400 ByUser system:nodes *:nodes,nodes/status *:leases",
            "probes exempt 2 - system:unauthenticated,system:authenticated get:/healthz,/readyz,/livez",
            "system-leader-election leader-election 100 ByUser system:kube-controller-manager,system:kube-scheduler,* get,create,update:leases",
            "kube-controller-manager workload-high 800 ByNamespace system:kube-controller-manager *:* *:*",
            "kube-scheduler workload-high 800 ByNamespace system:kube-scheduler *:* *:*",
            "kube-system-service-accounts workload-high 900 ByNamespace * *:* *:*",
            "service-accounts workload-low 9000 ByUser system:serviceaccounts *:* *:*",
            "global-default global-default 9900 ByUser system:unauthenticated,system:authenticated *:* *:*",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn the_levels_are_those_of_upstream_and_no_others() {
        let shares = |object: &Value| {
            let spec = &object["spec"];
            let own = [&spec["limited"], &spec["exempt"]]
                .into_iter()
                .find(|own| own.is_object());
            let (own, response) = (own.expect("one of them"), &spec["limited"]["limitResponse"]);
            let queues = &response["queuing"];
            let fields = [
                &own["nominalConcurrencyShares"],
                &own["lendablePercent"],
                &queues["queues"],
                &queues["handSize"],
                &queues["queueLengthLimit"],
            ];
            let fields = fields.map(Value::to_string).join(" ");
            format!(
                "{} {fields}",
                object["metadata"]["name"].as_str().expect("a name")
            )
        };
        let lines: Vec<String> = priority_levels().iter().map(shares).collect();
        let wanted = [
            "exempt 0 0 null null null",
            "catch-all 5 0 null null null",
            "system 30 33 64 6 50",
            "node-high 40 25 64 6 50",
            "leader-election 10 0 16 4 50",
            "workload-high 40 50 128 6 50",
            "workload-low 100 90 128 6 50",
            "global-default 20 50 128 6 50",
        ];
        assert_eq!(lines, wanted);
    }
}
