//! Label selectors: the query form (`a=b,c in (d,e),!f`) and the object form (`matchLabels`).
//!
//! Source: `k8s.io/apimachinery/pkg/labels`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use serde_json::{Map, Value};

use crate::names;

/// Anything that has labels by key.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Option<BTreeMap<String, String>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// A JSON object of labels; anything else has none.
impl Labels for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// Labels as pairs, for a parsed head.
impl Labels for [(String, String)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

impl<T: Labels + ?Sized> Labels for &T {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, values: impl IntoIterator<Item = String>) -> Self {
        Self {
            key: key.into(),
            operator,
            values: values.into_iter().collect(),
        }
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |label, bound| label > bound),
            Operator::LessThan => self.compares(value, |label, bound| label < bound),
        }
    }

    fn compares(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let bound = self.values.first().and_then(|b| b.parse().ok());
        match (value.and_then(|v| v.parse().ok()), bound) {
            (Some(label), Some(bound)) => holds(label, bound),
            _ => false,
        }
    }
}

/// All requirements must hold; none match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

/// A longer query is refused before it is read.
pub const MAX_SELECTOR_BYTES: usize = 64 * 1024;

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object (what an absent `LabelSelector` means to controllers).
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// All of these labels with exactly these values (Service and ReplicationController selectors).
    pub fn exact<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| Requirement::new(key, Operator::In, [value.to_string()]))
            .collect();
        Self {
            requirements,
            nothing: false,
        }
    }

    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        Self::exact(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    /// The typed object form; `Err` names the unknown operator.
    pub fn from_api(selector: &ApiSelector) -> Result<Self, String> {
        let mut out = Self::default();
        for (key, value) in selector.match_labels.iter().flatten() {
            out.requirements
                .push(Requirement::new(key, Operator::In, [value.clone()]));
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = expression_operator(&expression.operator)?;
            let values = expression.values.clone().unwrap_or_default();
            out.requirements
                .push(Requirement::new(&expression.key, operator, values));
        }
        Ok(out)
    }

    /// The JSON object form; `null` and absence match nothing, `{}` everything.
    pub fn from_value(selector: &Value) -> Result<Self, String> {
        let Some(object) = selector.as_object() else {
            return Ok(Self::nothing());
        };
        let mut out = Self::default();
        for (key, value) in object
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default();
            out.requirements
                .push(Requirement::new(key, Operator::In, [value.to_string()]));
        }
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let operator = expression_operator(expression["operator"].as_str().unwrap_or_default())?;
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|v| v.as_str().map(str::to_string));
            let key = expression["key"].as_str().unwrap_or_default();
            out.requirements.push(Requirement::new(key, operator, values));
        }
        Ok(out)
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// The query form. `Err` is Kubernetes' text.
    pub fn parse(query: &str) -> Result<Self, String> {
        if query.len() > MAX_SELECTOR_BYTES {
            return Err(format!(
                "label selector is longer than {MAX_SELECTOR_BYTES} bytes"
            ));
        }
        let mut requirements = Parser { rest: query }.selector()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }
}

fn expression_operator(name: &str) -> Result<Operator, String> {
    match name {
        "In" => Ok(Operator::In),
        "NotIn" => Ok(Operator::NotIn),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        other => Err(format!("\"{other}\" is not a valid label selector operator")),
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = || {
            self.values
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(",")
        };
        let key = &self.key;
        match self.operator {
            Operator::In if self.values.len() == 1 => write!(f, "{key}={}", list()),
            Operator::In => write!(f, "{key} in ({})", list()),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={}", list()),
            Operator::NotIn => write!(f, "{key} notin ({})", list()),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{}", list()),
            Operator::LessThan => write!(f, "{key}<{}", list()),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, requirement) in self.requirements.iter().enumerate() {
            if idx > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// What the query form is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'static str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => f.write_str(word),
            Token::Symbol(symbol) => f.write_str(symbol),
            Token::End => Ok(()),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.scan();
        self.rest = rest;
        token
    }

    fn peek(&self) -> Token<'a> {
        self.scan().0
    }

    fn scan(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if text.is_empty() {
            return (Token::End, text);
        }
        for symbol in ["==", "!=", "=", "!", "(", ")", ",", ">", "<"] {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (Token::Symbol(symbol), rest);
            }
        }
        let special = |c: char| "=!(),><".contains(c) || matches!(c, ' ' | '\t' | '\r' | '\n');
        let end = text.find(special).unwrap_or(text.len());
        (Token::Word(&text[..end]), &text[end..])
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    out.push(
                        self.requirement()
                            .map_err(|e| format!("unable to parse requirement: {e}"))?,
                    );
                    match self.next() {
                        Token::End => return Ok(out),
                        Token::Symbol(",") => match self.peek() {
                            Token::Word(_) | Token::Symbol("!") => {}
                            other => return Err(format!("found '{other}', expected: identifier after ','")),
                        },
                        other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
                    }
                }
                Token::End => return Ok(out),
                other => {
                    return Err(format!(
                        "found '{other}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{other}', expected: identifier")),
        };
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            return Err(format!(
                "<nil>: Invalid value: {}: {}",
                crate::field::quoted(key),
                problems.join("; ")
            ));
        }
        let ended = matches!(self.peek(), Token::End | Token::Symbol(","));
        if negated || ended {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Ok(Requirement::new(key, operator, []));
        }
        let (operator, values) = match self.next() {
            Token::Symbol("=" | "==") => (Operator::In, vec![self.exact_value()?]),
            Token::Symbol("!=") => (Operator::NotIn, vec![self.exact_value()?]),
            Token::Symbol(">") => (Operator::GreaterThan, vec![self.exact_value()?]),
            Token::Symbol("<") => (Operator::LessThan, vec![self.exact_value()?]),
            Token::Word("in") => (Operator::In, self.values()?),
            Token::Word("notin") => (Operator::NotIn, self.values()?),
            other => {
                return Err(format!("found '{other}', expected: in, notin, =, ==, !=, >, <"));
            }
        };
        for value in &values {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
                if value.parse::<i64>().is_err() {
                    return Err(format!(
                        "values[0][{key}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                        crate::field::quoted(value)
                    ));
                }
                continue;
            }
            let problems = names::label_value(value);
            if !problems.is_empty() {
                return Err(format!(
                    "values[0][{key}]: Invalid value: {}: {}",
                    crate::field::quoted(value),
                    problems.join("; ")
                ));
            }
        }
        Ok(Requirement::new(key, operator, values))
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_string())
            }
            other => Err(format!("found '{other}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{other}' expected: '('")),
        }
        let mut values = Vec::new();
        let mut pending = true;
        loop {
            match self.next() {
                Token::Word(word) if pending => {
                    values.push(word.to_string());
                    pending = false;
                }
                Token::Symbol(",") => {
                    if pending {
                        values.push(String::new());
                    }
                    pending = true;
                }
                Token::Symbol(")") => {
                    if pending {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => return Err(format!("found '{other}', expected: ',', or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(query: &str, matching: &[&str], others: &[&str]) {
        let selector = LabelSelector::parse(query).unwrap();
        for (labels, want) in matching
            .iter()
            .map(|l| (l, true))
            .chain(others.iter().map(|l| (l, false)))
        {
            let map: BTreeMap<String, String> = labels
                .split(',')
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            assert_eq!(selector.matches(&map), want, "{query} on {labels}");
        }
        assert_eq!(
            LabelSelector::parse(&selector.to_string()).unwrap(),
            selector,
            "{query} printed"
        );
    }

    #[test]
    fn queries() {
        check("", &["", "a=b"], &[]);
        check("a", &["a=", "a=b"], &["b=a"]);
        check("!a", &["b=a", ""], &["a=b"]);
        check("a=b", &["a=b"], &["a=c", ""]);
        check("a==b,c!=d", &["a=b", "a=b,c=e"], &["a=b,c=d"]);
        check("a in (b, c)", &["a=b", "a=c"], &["a=d", ""]);
        check("a notin (b,c)", &["a=d", ""], &["a=b"]);
        check("a in (,b)", &["a=", "a=b"], &["a=c"]);
        check("a>1", &["a=2"], &["a=1", "a=x", ""]);
        check("a<1", &["a=0"], &["a=1"]);
        check("x.io/a=b , c", &["x.io/a=b,c=1"], &["x.io/a=b"]);
        check("a=", &["a="], &["a=b"]);
    }

    #[test]
    fn bad_queries() {
        for query in [
            "a=b,",
            "=a",
            "a in b",
            "a in (b",
            "a b",
            "-a",
            "a=b=c",
            "!",
            "a>x",
            "a in (b c)",
            "é",
        ] {
            assert!(LabelSelector::parse(query).is_err(), "{query:?}");
        }
    }

    #[test]
    fn object_form() {
        let selector = LabelSelector::from_value(&json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}, {"key": "e", "operator": "Exists"}],
        }))
        .unwrap();
        assert!(selector.matches(&json!({"a": "b", "e": ""})));
        assert!(!selector.matches(&json!({"a": "b", "c": "d", "e": ""})));
        assert!(
            !LabelSelector::from_value(&Value::Null)
                .unwrap()
                .matches(&json!({}))
        );
        assert!(LabelSelector::from_value(&json!({})).unwrap().matches(&json!({})));
        assert!(
            LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}))
                .is_err()
        );
    }
}
