//! What a configuration may not contain, in upstream's words: fields the schema does not declare, values of another
//! form, list elements without identity or named twice.

use std::fmt;

use serde_json::Value;

use super::MAX_DEPTH;
use super::items::identity;
use super::set::Element;
use crate::field::quoted;
use crate::schema::view::{Scalar, Topology, View};

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    path: String,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.text),
            path => write!(f, "{path}: {}", self.text),
        }
    }
}

/// Everything wrong with a configuration of this schema.
pub fn check(view: View<'_>, config: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(view, config, &mut Vec::new(), &mut problems);
    problems
}

/// The problems as one text: one alone, several on lines of their own.
pub fn text(problems: &[Problem]) -> String {
    match problems {
        [one] => one.to_string(),
        many => {
            let mut lines = vec!["errors:".to_string()];
            lines.extend(many.iter().map(|p| format!("  {p}")));
            lines.join("\n")
        }
    }
}

fn walk(view: View<'_>, value: &Value, path: &mut Vec<Element>, problems: &mut Vec<Problem>) {
    let mut report = |path: &[Element], text: String| {
        problems.push(Problem {
            path: path.iter().map(ToString::to_string).collect(),
            text,
        });
    };
    if path.len() > MAX_DEPTH {
        return report(path, "exceeded max depth".into());
    }
    let form = view.topology(value);
    match (form, value) {
        (_, Value::Null) => {}
        (Topology::Scalar(scalar), value) => {
            if let Some(text) = misfit(scalar, value) {
                report(path, text);
            }
        }
        (Topology::AtomicMap | Topology::Granular, Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::Field(key.as_str().into()));
                match view.child(key) {
                    Some(child) => walk(child.view, value, path, problems),
                    None => problems.push(Problem {
                        path: path.iter().map(ToString::to_string).collect(),
                        text: "field not declared in schema".into(),
                    }),
                }
                path.pop();
            }
        }
        (Topology::AtomicMap | Topology::Granular, other) => {
            report(path, format!("expected map, got {}", go_value(other)));
        }
        (Topology::AtomicList, Value::Array(list)) => {
            for (place, item) in list.iter().enumerate() {
                path.push(Element::Index(i64::try_from(place).unwrap_or(i64::MAX)));
                walk(view.element(), item, path, problems);
                path.pop();
            }
        }
        (Topology::Set | Topology::Keyed(_), Value::Array(list)) => {
            let mut seen: Vec<Element> = Vec::with_capacity(list.len());
            for (place, item) in list.iter().enumerate() {
                let element = match identity(view, form, item) {
                    Ok(element) => element,
                    Err(text) => {
                        return problems.push(Problem {
                            path: path.iter().map(ToString::to_string).collect(),
                            text: format!("element {place}: {text}"),
                        });
                    }
                };
                if let Err(at) = seen.binary_search(&element) {
                    seen.insert(at, element.clone());
                } else {
                    problems.push(Problem {
                        path: path.iter().map(ToString::to_string).collect(),
                        text: format!("duplicate entries for key {element}"),
                    });
                }
                path.push(element);
                walk(view.element(), item, path, problems);
                path.pop();
            }
        }
        (Topology::AtomicList | Topology::Set | Topology::Keyed(_), other) => {
            report(path, format!("expected list, got {}", go_value(other)));
        }
    }
}

fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    let fits = match scalar {
        Scalar::String => value.is_string(),
        Scalar::Numeric => value.is_number(),
        Scalar::Boolean => value.is_boolean(),
        Scalar::Untyped => !(value.is_object() || value.is_array()),
    };
    if fits {
        return None;
    }
    Some(match scalar {
        Scalar::String => format!("expected string, got {}", go_wrapped(value)),
        Scalar::Numeric => format!("expected numeric (int or float), got {}", go_type(value)),
        Scalar::Boolean => format!("expected boolean, got {}", go_value(value)),
        Scalar::Untyped => format!("expected any scalar, got {}", go_value(value)),
    })
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value inside the wrapper upstream prints it in.
fn go_value(value: &Value) -> String {
    format!("&{{{}}}", go_plain(value))
}

/// As Go's `%v` prints a value.
pub(crate) fn go_plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_plain(v))).collect();
            format!("map[{}]", items.join(" "))
        }
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// As Go's `%#v` prints the wrapped value.
fn go_wrapped(value: &Value) -> String {
    let inner = match value {
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_literal).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        other => go_literal(other),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}

fn go_literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Null => "interface {}(nil)".into(),
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}:{}", quoted(k), go_literal(v)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(go_literal).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        other => other.to_string(),
    }
}
