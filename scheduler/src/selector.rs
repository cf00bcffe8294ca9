//! Selectors over labels and node fields, compiled once per Pod so that equal ones compare and hash equal.
//!
//! Knows [`Labels`]. Must not know Pods or nodes beyond that.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::labels::Labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// An operator the API does not know; it matches nothing.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    pub fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Self {
        let operator = match operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        };
        let mut values = values.cloned().unwrap_or_default();
        values.sort_unstable();
        Requirement {
            key: key.to_owned(),
            operator,
            values,
        }
    }

    pub fn equals(key: &str, value: &str) -> Self {
        Requirement {
            key: key.to_owned(),
            operator: Operator::In,
            values: vec![value.to_owned()],
        }
    }

    /// `value` is the label's value, `None` when the label is missing.
    fn accepts(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|candidate| candidate == value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value, |label, bound| label > bound),
            Operator::Lt => self.compare(value, |label, bound| label < bound),
            Operator::Unknown => false,
        }
    }

    fn compare(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let label = value.and_then(|value| value.parse().ok());
        let bound = self.values.first().and_then(|bound| bound.parse().ok());
        matches!((label, bound), (Some(label), Some(bound)) if holds(label, bound))
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.accepts(labels.get(&self.key).map(String::as_str))
    }
}

/// A label selector. A missing one matches nothing, an empty one everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector(Option<Vec<Requirement>>);

impl Selector {
    pub fn new(selector: Option<&LabelSelector>) -> Self {
        Selector(selector.map(|selector| {
            let equal = selector
                .match_labels
                .iter()
                .flatten()
                .map(|(key, value)| Requirement::equals(key, value));
            let expressions = selector.match_expressions.iter().flatten();
            equal
                .chain(expressions.map(|e| Requirement::new(&e.key, &e.operator, e.values.as_ref())))
                .collect()
        }))
    }

    /// Narrows the selector further; a selector that matches nothing stays so.
    pub fn and(&mut self, requirement: Requirement) {
        if let Some(requirements) = &mut self.0 {
            requirements.push(requirement);
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .as_ref()
            .is_some_and(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }

    /// True for `{}`, which matches whatever the labels are.
    pub fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }
}

/// One term of a node selector: all its expressions and fields must hold. A term without any matches nothing.
/// `metadata.name` is the only field there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    pub fn new(term: &core::NodeSelectorTerm) -> Self {
        let compile = |requirements: &Option<Vec<core::NodeSelectorRequirement>>| {
            let all = requirements.iter().flatten();
            all.map(|r| Requirement::new(&r.key, &r.operator, r.values.as_ref()))
                .collect()
        };
        NodeTerm {
            labels: compile(&term.match_expressions),
            fields: compile(&term.match_fields),
        }
    }

    pub fn matches(&self, node_name: &str, labels: &Labels) -> bool {
        let field = |requirement: &Requirement| {
            let value = (requirement.key == "metadata.name").then_some(node_name);
            value.is_some() && requirement.accepts(value)
        };
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `requirement` is `key Operator values...`; `labels` is `key=value ...`.
    #[track_caller]
    fn check(requirement: &str, labels: &str, want: bool) {
        let mut words = requirement.split(' ');
        let (key, operator) = (words.next().expect("key"), words.next().expect("operator"));
        let values: Vec<String> = words.map(str::to_owned).collect();
        let labels: Labels = labels
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let got = Requirement::new(key, operator, Some(&values)).matches(&labels);
        assert_eq!(got, want, "{requirement} on {labels:?}");
    }

    #[test]
    fn operators_match_as_kubernetes_does() {
        check("zone In a b", "zone=b", true);
        check("zone In a b", "zone=c", false);
        check("zone In a b", "", false);
        check("zone NotIn a", "zone=b", true);
        check("zone NotIn a", "zone=a", false);
        check("zone NotIn a", "", true);
        check("zone Exists", "zone=", true);
        check("zone Exists", "", false);
        check("zone DoesNotExist", "", true);
        check("zone DoesNotExist", "zone=a", false);
        check("cores Gt 4", "cores=8", true);
        check("cores Gt 8", "cores=8", false);
        check("cores Lt 8", "cores=many", false);
        check("cores Lt 8", "", false);
        check("zone Like a", "zone=a", false);
    }

    #[test]
    fn a_missing_selector_matches_nothing_and_an_empty_one_everything() {
        assert!(!Selector::new(None).matches(&Labels::new()));
        assert!(Selector::new(Some(&LabelSelector::default())).matches(&Labels::new()));
    }

    #[test]
    fn an_empty_node_term_matches_nothing() {
        assert!(!NodeTerm::new(&core::NodeSelectorTerm::default()).matches("node-1", &Labels::new()));
    }
}
