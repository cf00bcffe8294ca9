//! Where a Pod may run: taints against tolerations, node selectors and affinity against nodes.
//!
//! Typed and pure, shared by scheduler, controllers and node agent.
//! Source: `k8s.io/component-helpers/scheduling/corev1`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

/// Taint effects.
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

/// True when the toleration covers the taint (effect, key, operator, value).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let (want, have) = (text(&toleration.value), text(&taint.value));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => want == have,
        "Exists" => true,
        "Lt" => compares(&have, &want, |taint, bound| taint < bound),
        "Gt" => compares(&have, &want, |taint, bound| taint > bound),
        _ => false,
    }
}

fn compares(have: &str, want: &str, holds: fn(i64, i64) -> bool) -> bool {
    match (have.parse(), want.parse()) {
        (Ok(have), Ok(want)) => holds(have, want),
        _ => false,
    }
}

/// True when any toleration covers the taint.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| tolerates(t, taint))
}

/// The first taint with one of `effects` that nothing tolerates.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints
        .iter()
        .find(|t| effects.contains(&t.effect.as_str()) && !tolerated(tolerations, t))
}

/// True when `node` satisfies both `nodeSelector` and the required node affinity of `spec`.
pub fn node_matches(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    for (key, value) in spec.node_selector.iter().flatten() {
        if labels.and_then(|l| l.get(key)) != Some(value) {
            return false;
        }
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    match affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(selector) => selector_matches(selector, node),
        None => true,
    }
}

/// True when any term matches; an empty list of terms matches nothing.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| term_matches(term, node))
}

/// True when every expression and field of the term matches; an empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    let name = node.metadata.name.as_deref();
    expressions
        .iter()
        .all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| requirement_matches(r, if r.key == "metadata.name" { name } else { None }))
}

/// Sum of the weights of the preferred node affinity terms that match.
pub fn preferred_weight(spec: &PodSpec, node: &Node) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    terms
        .unwrap_or_default()
        .iter()
        .filter(|t| t.weight != 0 && term_matches(&t.preference, node))
        .map(|t| i64::from(t.weight))
        .sum()
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|v| v == value);
    let bound = || values.first().map(String::as_str).unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => value.is_none_or(|v| !listed(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.is_some_and(|v| compares(v, bound(), |have, bound| have > bound)),
        "Lt" => value.is_some_and(|v| compares(v, bound(), |have, bound| have < bound)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(text: &str) -> Toleration {
        // key:operator:value:effect
        let parts: Vec<Option<String>> = text
            .split(':')
            .map(|p| (!p.is_empty()).then(|| p.to_string()))
            .collect();
        Toleration {
            key: parts[0].clone(),
            operator: parts[1].clone(),
            value: parts[2].clone(),
            effect: parts[3].clone(),
            toleration_seconds: None,
        }
    }

    #[track_caller]
    fn check(text: &str, want: bool) {
        let taint = Taint {
            key: "k".into(),
            value: Some("5".into()),
            effect: NO_SCHEDULE.into(),
            time_added: None,
        };
        assert_eq!(tolerates(&toleration(text), &taint), want, "{text}");
    }

    #[test]
    fn tolerations() {
        check("k:Equal:5:NoSchedule", true);
        check("k::5:", true);
        check("k:Exists::", true);
        check(":Exists::", true);
        check("k:Equal:6:", false);
        check("j:Exists::", false);
        check("k:Exists::NoExecute", false);
        check("k:Gt:4:", true);
        check("k:Lt:4:", false);
        check("k:Like:5:", false);
    }

    #[test]
    fn node_terms() {
        let mut node = Node::default();
        node.metadata.name = Some("n".into());
        node.metadata.labels = Some([("zone".to_string(), "3".to_string())].into());
        let check = |key: &str, operator: &str, values: &[&str], want: bool| {
            let requirement = NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| v.to_string()).collect()),
            };
            let term = match key {
                "metadata.name" => NodeSelectorTerm {
                    match_fields: Some(vec![requirement]),
                    match_expressions: None,
                },
                _ => NodeSelectorTerm {
                    match_expressions: Some(vec![requirement]),
                    match_fields: None,
                },
            };
            assert_eq!(term_matches(&term, &node), want, "{key} {operator} {values:?}");
        };
        check("zone", "In", &["3", "4"], true);
        check("zone", "NotIn", &["3"], false);
        check("none", "NotIn", &["3"], true);
        check("zone", "Gt", &["2"], true);
        check("zone", "Lt", &["2"], false);
        check("zone", "Exists", &[], true);
        check("zone", "DoesNotExist", &[], false);
        check("metadata.name", "In", &["n"], true);
        check("metadata.name", "In", &["m"], false);
        assert!(!term_matches(&NodeSelectorTerm::default(), &node));
    }
}
