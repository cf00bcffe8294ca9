//! What the documents say in words, with defaults and enumerations: kept compressed in the program.
//!
//! `texts.jsonl.gz` holds descriptions from the API definitions of Kubernetes 1.36, Copyright The Kubernetes Authors,
//! licensed under the Apache License 2.0 (`NOTICE`). Made by `examples/make_openapi_texts.rs`; each line is a type's
//! name, what is said of it, and for each field what is said of it and of its elements. The first line has no name and
//! holds the parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

static COMPRESSED: &[u8] = include_bytes!("texts.jsonl.gz");

/// What is said of a type itself, and of its fields by name.
type OfType = (Map<String, Value>, Map<String, Value>);

/// All texts. They take a MiB, so whoever makes documents loads them and drops them afterwards.
pub struct Texts {
    /// By the type's name, as JSON.
    lines: HashMap<Box<str>, Box<str>>,
    parameters: Rc<OfType>,
    /// The type that was asked about last: questions about one come one after the other.
    last: RefCell<(String, Option<Rc<OfType>>)>,
}

impl Texts {
    pub fn load() -> Texts {
        let mut text = String::new();
        flate2::read::GzDecoder::new(COMPRESSED)
            .read_to_string(&mut text)
            .expect("the texts are part of the program");
        let name_of = |line: &str| -> String {
            let (name, _, _): (String, &RawValue, &RawValue) =
                serde_json::from_str(line).expect("the texts are part of the program");
            name
        };
        let lines: HashMap<Box<str>, Box<str>> = text
            .lines()
            .map(|line| (name_of(line).into(), line.into()))
            .collect();
        Texts {
            parameters: Rc::new(lines.get("").map(|line| parse(line)).unwrap_or_default()),
            last: RefCell::new((String::new(), None)),
            lines,
        }
    }

    fn of(&self, name: &str) -> Option<Rc<OfType>> {
        let mut last = self.last.borrow_mut();
        if last.0 != name {
            let own = self.lines.get(name).map(|line| Rc::new(parse(line)));
            *last = (name.to_owned(), own);
        }
        last.1.clone()
    }

    /// Adds what is said of a type to its schema.
    pub fn describe_type(&self, name: &str, schema: &mut Value) {
        if let (Some(of), Some(schema)) = (self.of(name), schema.as_object_mut()) {
            schema.extend(of.0.clone());
        }
    }

    /// Adds what is said of a field, and of its elements, to its schema.
    pub fn describe_field(&self, name: &str, field: &str, schema: &mut Value) {
        let Some(of) = self.of(name) else { return };
        let levels = of.1.get(field);
        let mut at = schema;
        for level in levels.and_then(Value::as_array).into_iter().flatten() {
            let Some(level) = level.as_object() else { return };
            if !level.is_empty() {
                beside_reference(at);
            }
            let Some(members) = at.as_object_mut() else { return };
            members.extend(level.clone());
            let inner = if members.contains_key("items") {
                "items"
            } else {
                "additionalProperties"
            };
            let Some(next) = members.get_mut(inner) else {
                return;
            };
            at = next;
        }
    }

    /// The description of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.parameters.1.get(name)
    }
}

fn parse(line: &str) -> OfType {
    let (_, own, fields): (Value, _, _) =
        serde_json::from_str(line).expect("the texts are part of the program");
    (own, fields)
}

/// A reference may have nothing beside it, so it moves into `allOf`.
pub fn beside_reference(schema: &mut Value) {
    if schema.get("$ref").is_some() {
        *schema = serde_json::json!({ "allOf": [schema.take()] });
    }
}
