//! Printer columns of custom resources.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::JsonPath;
use super::publish::describe;
use crate::{humanize, time};

/// One of `additionalPrinterColumns`.
#[derive(Debug)]
pub struct PrinterColumn {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

impl PrinterColumn {
    /// `None` for a path that cannot be read.
    pub fn parse(value: &Value) -> Option<PrinterColumn> {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            own if own.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            own => own,
        };
        Some(PrinterColumn {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: value["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&path).ok()?,
        })
    }

    /// The column of a definition that names none.
    pub fn age() -> PrinterColumn {
        PrinterColumn {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description: describe("creationTimestamp").into(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").expect("a plain path"),
        }
    }

    /// The column as a Table carries it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    /// `null` when the object has nothing there, or nothing of the column's type.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(first) = found.first() else {
            return Value::Null;
        };
        match (self.kind.as_str(), *first) {
            ("string", _) => {
                let texts: Vec<String> = found.iter().map(|value| printed(value)).collect();
                texts.join(" ").into()
            }
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(whole) => whole.into(),
                None => number
                    .as_f64()
                    .map_or(Value::Null, |double| (double as i64).into()),
            },
            ("number", number @ Value::Number(_)) => number.clone(),
            ("boolean", flag @ Value::Bool(_)) => flag.clone(),
            ("date", Value::String(text)) => match time::parse(text) {
                Some(at) => humanize::age(Some(at), now).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}
