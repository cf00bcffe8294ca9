//! Labels of nodes that have newer names. Source: `pkg/api/node/util.go`.

use crate::cursor::At;

const DEPRECATED: [(&str, &str); 8] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// What to tell a client who uses a deprecated label.
pub fn deprecated(label: &str) -> Option<&'static str> {
    DEPRECATED
        .iter()
        .find(|(name, _)| *name == label)
        .map(|(_, text)| *text)
}

/// Warnings about a `LabelSelector` over nodes.
pub fn selector_warnings(at: &At<'_>) -> Vec<String> {
    let expressions = at.items("matchExpressions").filter_map(|expression| {
        let key = expression.str("key");
        deprecated(key).map(|text| format!("{}: {key} is {text}", expression.path("key")))
    });
    let labels = at.keys("matchLabels").filter_map(|label| {
        deprecated(label).map(|text| format!("{}.{label}: {text}", at.path("matchLabels")))
    });
    expressions.chain(labels).collect()
}
