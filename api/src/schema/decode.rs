//! Strict decoding of a body into canonical form, driven by the table of facts.
//!
//! One pass over the bytes: unknown fields are pruned and noted, repeated ones noted (the last wins),
//! wrong types reported as Go would, zero values left out or written as Kubernetes does.
//! Source of the texts: `sigs.k8s.io/json`. What a misfit means for a request is `resource::body`'s.

use serde_json::{Map, Value};

use super::error::SyntaxError;
use super::scan::{MAX_KEPT_DEPTH, Scanner, Start};
use super::{Field, Kind, Type, scalar, schema};

pub use super::scan::{MAX_DEPTH, parse_json, parse_stored};

type Result<T> = std::result::Result<T, SyntaxError>;

/// More strict errors than this are not listed.
pub const MAX_STRICT_ERRORS: usize = 100;

/// A body read by a type's facts.
#[derive(Debug)]
pub(crate) struct Read {
    /// In canonical form; `null` for a body that is no object.
    pub value: Value,
    /// As sent; empty when absent.
    pub api_version: String,
    pub kind: String,
    /// Unknown and repeated fields, in the order found.
    pub strict: Vec<String>,
    /// The first wrong type or unreadable scalar.
    pub wrong: Option<String>,
}

/// Reads a JSON document as an object of type `entry`.
///
/// # Errors
/// Go's syntax errors, and too deep nesting.
pub(crate) fn read(entry: &'static Type, body: &[u8]) -> Result<Read> {
    Decoder::new(body).document(entry)
}

struct Decoder<'a> {
    scanner: Scanner<'a>,
    path: Vec<Step<'a>>,
    strict: Vec<String>,
    wrong: Option<String>,
}

enum Step<'a> {
    Field(&'static str),
    Index(usize),
    Key(std::borrow::Cow<'a, str>),
}

/// Where a value sits, for Go's type errors: the innermost struct.
#[derive(Clone, Copy)]
struct Site {
    owner: Option<&'static Type>,
}

impl<'a> Decoder<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self {
            scanner: Scanner::new(body),
            path: Vec::new(),
            strict: Vec::new(),
            wrong: None,
        }
    }

    fn note(&mut self, what: &str, last: Option<&str>) {
        if self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Index(idx) => path.push_str(&format!("[{idx}]")),
                Step::Field(name) => join(&mut path, name),
                Step::Key(key) => join(&mut path, key),
            }
        }
        if let Some(last) = last {
            join(&mut path, last);
        }
        self.strict
            .push(format!("{what} field {}", crate::field::quoted(&path)));
    }

    fn wrong(&mut self, text: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some(text());
        }
    }

    /// Go's `UnmarshalTypeError`.
    fn wrong_type(&mut self, found: &str, kind: Kind, site: Site) {
        let mut path = String::new();
        for step in &self.path {
            if let Step::Field(name) = step {
                join(&mut path, name);
            }
        }
        self.wrong(|| match site.owner {
            Some(owner) => format!(
                "json: cannot unmarshal {found} into Go struct field {}.{path} of type {}",
                owner.go_name(),
                kind.go()
            ),
            None => format!(
                "json: cannot unmarshal {found} into Go value of type {}",
                kind.go()
            ),
        });
    }

    /// Reads one value. `None` is `null`, or a value of a wrong type, which has been noted and skipped.
    fn value(&mut self, kind: Kind, site: Site) -> Result<Option<Value>> {
        // Types that hold themselves nest as deep as a body likes; the stack does not.
        if self.path.len() > MAX_KEPT_DEPTH {
            return Err(SyntaxError::Depth);
        }
        let start = self.scanner.start()?;
        if let (Kind::Any, true) = (kind, start != Start::Null) {
            return self.scanner.any().map(Some);
        }
        match (start, kind) {
            (Start::Null, _) => {
                self.scanner.word(start)?;
                Ok(None)
            }
            (Start::Object, Kind::Struct(idx)) => self.object(schema().get(idx)).map(Some),
            (Start::Object, Kind::Map(inner)) => self.map(*inner, site).map(Some),
            (Start::Array, Kind::List(inner)) => self.list(*inner, site).map(Some),
            (Start::True | Start::False, Kind::Boolean) => {
                self.scanner.word(start)?;
                Ok(Some(Value::Bool(start == Start::True)))
            }
            (
                Start::String,
                Kind::String
                | Kind::Bytes
                | Kind::Quantity
                | Kind::Time
                | Kind::MicroTime
                | Kind::IntOrString,
            ) => {
                let text = self.scanner.string()?;
                let canonical = match kind {
                    Kind::Bytes => scalar::bytes(&text),
                    Kind::Quantity => scalar::quantity(&text),
                    Kind::Time => scalar::time(&text),
                    Kind::MicroTime => scalar::micro_time(&text),
                    _ => return Ok(Some(Value::String(text.into_owned()))),
                };
                match canonical {
                    Ok(text) => Ok(Some(Value::String(text))),
                    Err(error) => {
                        self.wrong(|| error);
                        Ok(None)
                    }
                }
            }
            (
                Start::Number,
                Kind::Int32 | Kind::Int64 | Kind::IntOrString | Kind::Double | Kind::Quantity,
            ) => {
                let text = self.scanner.number()?;
                self.number(text, kind, site)
            }
            _ => {
                let found = start.word();
                match kind {
                    // These decode themselves, so Go does not know their field.
                    Kind::Time | Kind::MicroTime => {
                        self.wrong(|| format!("json: cannot unmarshal {found} into Go value of type string"));
                    }
                    Kind::IntOrString => {
                        self.wrong(|| format!("json: cannot unmarshal {found} into Go value of type int32"));
                    }
                    Kind::Quantity => self.wrong(|| crate::quantity::ParseError::Format.to_string()),
                    _ => self.wrong_type(found, kind, site),
                }
                self.scanner.skip()?;
                Ok(None)
            }
        }
    }

    fn number(&mut self, text: &str, kind: Kind, site: Site) -> Result<Option<Value>> {
        let whole = text.parse::<i64>().ok();
        let value = match kind {
            Kind::Int32 => whole.filter(|n| i32::try_from(*n).is_ok()).map(Value::from),
            Kind::Int64 => whole.map(Value::from),
            Kind::IntOrString => match whole.filter(|n| i32::try_from(*n).is_ok()) {
                Some(n) => Some(n.into()),
                None => {
                    self.wrong(|| {
                        format!("json: cannot unmarshal number {text} into Go value of type int32")
                    });
                    return Ok(None);
                }
            },
            Kind::Quantity => match scalar::quantity(text) {
                Ok(text) => Some(Value::String(text)),
                Err(error) => {
                    self.wrong(|| error);
                    return Ok(None);
                }
            },
            _ => match whole {
                Some(n) => Some(n.into()),
                None => text
                    .parse::<f64>()
                    .ok()
                    .and_then(serde_json::Number::from_f64)
                    .map(Value::Number),
            },
        };
        if value.is_none() {
            self.wrong_type(&format!("number {text}"), kind, site);
        }
        Ok(value)
    }

    fn object(&mut self, entry: &'static Type) -> Result<Value> {
        self.scanner.open()?;
        let mut out = Map::new();
        let mut seen: u128 = 0;
        let mut first = true;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            let Some(idx) = entry.index_of(&key) else {
                self.note("unknown", Some(&key));
                self.scanner.skip()?;
                continue;
            };
            let field = &entry.fields[idx];
            if seen & (1 << idx) != 0 {
                self.note("duplicate", Some(&key));
            }
            seen |= 1 << idx;
            self.path.push(Step::Field(field.name));
            let value = self.value(field.kind, Site { owner: Some(entry) })?;
            self.path.pop();
            match value {
                Some(value) if field.written(&value) => out.insert(field.name.into(), value),
                _ => out.remove(field.name),
            };
        }
        for (name, value) in entry.zero().as_object().into_iter().flatten() {
            if !out.contains_key(name) {
                out.insert(name.clone(), value.clone());
            }
        }
        Ok(Value::Object(out))
    }

    fn map(&mut self, inner: Kind, site: Site) -> Result<Value> {
        self.scanner.open()?;
        let mut out = Map::new();
        let mut first = true;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            if out.contains_key(&*key) {
                self.note("duplicate", Some(&key));
            }
            let name = key.clone().into_owned();
            self.path.push(Step::Key(key));
            let value = self.value(inner, site)?;
            self.path.pop();
            out.insert(name, value.unwrap_or_else(|| inner.zero()));
        }
        Ok(Value::Object(out))
    }

    fn list(&mut self, inner: Kind, site: Site) -> Result<Value> {
        self.scanner.open()?;
        let mut out = Vec::new();
        let mut first = true;
        while self.scanner.element(first)? {
            first = false;
            self.path.push(Step::Index(out.len()));
            let value = self.value(inner, site)?;
            self.path.pop();
            out.push(value.unwrap_or_else(|| inner.zero()));
        }
        Ok(Value::Array(out))
    }

    /// The top level: the fields of `entry`, with `apiVersion` and `kind` kept apart.
    fn document(mut self, entry: &'static Type) -> Result<Read> {
        let start = self.scanner.start()?;
        if start != Start::Object {
            let found = start.word();
            self.scanner.skip()?;
            self.scanner.end()?;
            self.wrong(|| format!("{META_TYPE_ERROR_HEAD}{found}{META_TYPE_ERROR_TAIL}"));
            return Ok(Read {
                value: Value::Null,
                api_version: String::new(),
                kind: String::new(),
                strict: self.strict,
                wrong: self.wrong,
            });
        }
        let value = self.object(entry)?;
        self.scanner.end()?;
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string()
        };
        Ok(Read {
            api_version: text("apiVersion"),
            kind: text("kind"),
            strict: self.strict,
            wrong: self.wrong,
            value,
        })
    }
}

const META_TYPE_ERROR_HEAD: &str = "couldn't get version/kind; json parse error: json: cannot unmarshal ";
const META_TYPE_ERROR_TAIL: &str = " into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

fn join(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

impl Field {
    /// False for a given value that Kubernetes does not write back.
    pub(super) fn written(&self, value: &Value) -> bool {
        if self.pointer || self.always {
            return true;
        }
        match value {
            Value::String(text) => !text.is_empty() || matches!(self.kind, Kind::IntOrString),
            Value::Bool(flag) => *flag,
            Value::Number(number) => matches!(self.kind, Kind::IntOrString) || number.as_f64() != Some(0.0),
            // An empty list of managers is a request to forget them.
            Value::Array(list) => !list.is_empty() || self.name == "managedFields",
            Value::Object(map) => !map.is_empty() || !matches!(self.kind, Kind::Map(_)),
            Value::Null => false,
        }
    }
}

/// Go's word for a JSON value's type.
pub fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
