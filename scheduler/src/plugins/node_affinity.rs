//! NodeAffinity: `nodeSelector` and required node affinity filter, preferred node affinity scores.

use crate::node::{Node, Offer};
use crate::plugins::MAX_NODE_SCORE;
use crate::requirements::Requirements;

pub const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub fn filter(requirements: &Requirements, node: &Node, offer: &Offer) -> bool {
    let selected = requirements
        .node_selector
        .iter()
        .all(|(key, value)| offer.labels.get(key) == Some(value));
    let required = requirements.required_terms.as_ref();
    selected && required.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &offer.labels)))
}

/// The sum of the weights of all preferences the node meets.
pub fn score(requirements: &Requirements, node: &Node, offer: &Offer) -> i64 {
    let met = requirements
        .preferred_terms
        .iter()
        .filter(|(_, term)| term.matches(&node.name, &offer.labels));
    met.map(|(weight, _)| i64::from(*weight)).sum()
}

/// `most` is the highest sum among the nodes that passed the filters.
pub fn normalize(sum: i64, most: i64) -> i64 {
    if most == 0 { 0 } else { MAX_NODE_SCORE * sum / most }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    /// The node is `node-1` in zone `east`, with `disk=ssd`.
    #[track_caller]
    fn check(spec: serde_json::Value, passes: bool, sum: i64) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).expect("a Pod spec");
        let labels = [("zone", "east"), ("disk", "ssd")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let offer = Offer {
            labels: labels.into_iter().collect(),
            ..Offer::default()
        };
        let (node, requirements) = (Node::named("node-1"), Requirements::new(&spec));
        let got = (
            filter(&requirements, &node, &offer),
            score(&requirements, &node, &offer),
        );
        assert_eq!(got, (passes, sum), "{spec:?}");
    }

    fn required(terms: serde_json::Value) -> serde_json::Value {
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        json!({"affinity": {"nodeAffinity": required}})
    }

    #[test]
    fn selector_and_required_terms_filter() {
        let zone = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]});
        check(json!({}), true, 0);
        check(json!({"nodeSelector": {"zone": "east"}}), true, 0);
        check(json!({"nodeSelector": {"zone": "east", "disk": "hdd"}}), false, 0);
        check(required(json!([zone("In", &["west", "east"])])), true, 0);
        check(required(json!([zone("NotIn", &["east"])])), false, 0);
        check(
            required(json!([zone("In", &["west"]), zone("Exists", &[])])),
            true,
            0,
        );
        check(required(json!([])), false, 0);
        check(required(json!([{}])), false, 0);
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        check(required(json!([field("node-1")])), true, 0);
        check(required(json!([field("node-2")])), false, 0);
    }

    #[test]
    fn met_preferences_add_their_weights() {
        let term = |weight: i32, key: &str, value: &str| {
            let expression = json!({"key": key, "operator": "In", "values": [value]});
            json!({"weight": weight, "preference": {"matchExpressions": [expression]}})
        };
        let preferred = json!([
            term(10, "zone", "east"),
            term(5, "disk", "ssd"),
            term(80, "disk", "hdd")
        ]);
        let affinity =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
        check(json!({"affinity": affinity}), true, 15);
        assert_eq!((normalize(0, 0), normalize(15, 30)), (0, 50));
    }
}
