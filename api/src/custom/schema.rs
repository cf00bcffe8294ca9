//! A structural schema, read from the JSON of a definition once and walked many times.
//!
//! One type serves the structure and the schemas nested in `allOf` and the like, which only validate. A cluster has tens of
//! thousands of these, so they are packed: a field that says no more than its type takes about a hundred bytes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

use crate::schema::ListType;

/// Largest compiled `pattern`, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The `type` of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Shape {
    pub fn parse(word: &str) -> Option<Shape> {
        Some(match word {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub enum Additional {
    #[default]
    Unsaid,
    Allowed(bool),
    Schema(Box<Schema>),
}

#[derive(Debug, Default)]
pub struct Schema {
    pub shape: Option<Shape>,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`; set at the root as well.
    pub embedded: bool,
    pub int_or_string: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    pub list_type: Option<ListType>,
    pub list_keys: Box<[String]>,
    pub default: Option<Box<Value>>,
    pub properties: Properties,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    /// `None` for a schema that only says what is where.
    pub rules: Option<Box<Rules>>,
}

/// The members of an object, sorted by name.
#[derive(Debug, Default)]
pub struct Properties(Box<[(Box<str>, Schema)]>);

impl Properties {
    pub fn get(&self, name: &str) -> Option<&Schema> {
        let found = self.0.binary_search_by(|(own, _)| (**own).cmp(name));
        found.ok().map(|idx| &self.0[idx].1)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.0.iter().map(|(name, schema)| (&**name, schema))
    }
}

/// Validation keywords.
#[derive(Debug, Default)]
pub struct Rules {
    /// Without dashes; empty when it is none that is checked.
    pub format: Box<str>,
    pub pattern: Option<Arc<Pattern>>,
    pub required: Box<[String]>,
    pub one_word_of: Box<[Value]>,
    bounds: Option<Box<Bounds>>,
    alternatives: Option<Box<Alternatives>>,
}

/// Keywords that compare with a number.
#[derive(Debug, PartialEq)]
pub struct Bounds {
    pub maximum: Option<f64>,
    pub minimum: Option<f64>,
    pub exclusive_maximum: bool,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
}

impl Bounds {
    const NONE: Bounds = Bounds {
        maximum: None,
        minimum: None,
        exclusive_maximum: false,
        exclusive_minimum: false,
        multiple_of: None,
        max_length: None,
        min_length: None,
        max_items: None,
        min_items: None,
        unique_items: false,
        max_properties: None,
        min_properties: None,
    };
}

/// Keywords that hold a value against other schemas.
#[derive(Debug, Default)]
pub struct Alternatives {
    pub all_of: Box<[Schema]>,
    pub any_of: Box<[Schema]>,
    pub one_of: Box<[Schema]>,
    pub not: Option<Schema>,
}

impl Rules {
    pub fn bounds(&self) -> &Bounds {
        self.bounds.as_deref().unwrap_or(&Bounds::NONE)
    }

    pub fn alternatives(&self) -> Option<&Alternatives> {
        self.alternatives.as_deref()
    }
}

/// A `pattern`, compiled when a value is first held against it: most never are, and each takes tens of kilobytes. Equal ones
/// of a schema are one.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    pub fn is_match(&self, text: &str) -> bool {
        let compile = || pattern(&self.text).expect("it was compiled when the schema was read");
        self.compiled.get_or_init(compile).is_match(text)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Compiles a pattern as Go would read it.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
            other => other
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
}

impl Schema {
    /// Reads a schema; `null` is one that says nothing.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn parse(value: &Value) -> Result<Schema, String> {
        Reader::default().schema(value)
    }

    /// The schema of the values of a map.
    pub fn values(&self) -> Option<&Schema> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }

    /// True when this or a structural part below satisfies `test`.
    pub fn any(&self, test: &dyn Fn(&Schema) -> bool) -> bool {
        test(self)
            || self.properties.iter().any(|(_, own)| own.any(test))
            || self.values().is_some_and(|own| own.any(test))
            || self.items.as_ref().is_some_and(|own| own.any(test))
    }
}

fn strings(value: &Value) -> Box<[String]> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Reads one schema with all its parts.
#[derive(Default)]
struct Reader<'v> {
    patterns: HashMap<&'v str, Arc<Pattern>>,
}

impl<'v> Reader<'v> {
    fn schema(&mut self, value: &'v Value) -> Result<Schema, String> {
        let flag = |name: &str| value[name] == true;
        let mut properties: Vec<(Box<str>, Schema)> = Vec::new();
        for (name, own) in value["properties"].as_object().into_iter().flatten() {
            properties.push((Box::from(name.as_str()), self.schema(own)?));
        }
        properties.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Schema {
            shape: value["type"].as_str().and_then(Shape::parse),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            atomic: value["x-kubernetes-map-type"] == "atomic",
            list_type: match value["x-kubernetes-list-type"].as_str() {
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map),
                Some("atomic") => Some(ListType::Atomic),
                _ => None,
            },
            list_keys: strings(&value["x-kubernetes-list-map-keys"]),
            default: value
                .get("default")
                .filter(|v| !v.is_null())
                .map(|v| Box::new(v.clone())),
            properties: Properties(properties.into()),
            additional: match &value["additionalProperties"] {
                Value::Bool(allowed) => Additional::Allowed(*allowed),
                own @ Value::Object(_) => Additional::Schema(Box::new(self.schema(own)?)),
                _ => Additional::Unsaid,
            },
            items: self.one(&value["items"])?.map(Box::new),
            rules: self.rules(value)?.map(Box::new),
        })
    }

    fn one(&mut self, value: &'v Value) -> Result<Option<Schema>, String> {
        match value {
            own @ Value::Object(_) => self.schema(own).map(Some),
            _ => Ok(None),
        }
    }

    fn many(&mut self, value: &'v Value) -> Result<Box<[Schema]>, String> {
        let list = value.as_array().into_iter().flatten();
        list.map(|own| self.schema(own)).collect()
    }

    /// `None` when nothing is said.
    fn rules(&mut self, value: &'v Value) -> Result<Option<Rules>, String> {
        let format = value["format"].as_str().unwrap_or_default().replace('-', "");
        let known = super::formats::is_known(&format);
        let bounds = bounds(value);
        let alternatives = Alternatives {
            all_of: self.many(&value["allOf"])?,
            any_of: self.many(&value["anyOf"])?,
            one_of: self.many(&value["oneOf"])?,
            not: self.one(&value["not"])?,
        };
        let others = !alternatives.all_of.is_empty()
            || !alternatives.any_of.is_empty()
            || !alternatives.one_of.is_empty()
            || alternatives.not.is_some();
        let rules = Rules {
            format: if known { format.into() } else { Box::default() },
            pattern: match value["pattern"].as_str() {
                Some(text) if !text.is_empty() => Some(self.pattern(text)?),
                _ => None,
            },
            required: strings(&value["required"]),
            one_word_of: value["enum"].as_array().cloned().unwrap_or_default().into(),
            bounds: (bounds != Bounds::NONE).then(|| Box::new(bounds)),
            alternatives: others.then(|| Box::new(alternatives)),
        };
        let says_anything = !rules.format.is_empty()
            || rules.pattern.is_some()
            || !rules.required.is_empty()
            || !rules.one_word_of.is_empty()
            || rules.bounds.is_some()
            || rules.alternatives.is_some();
        Ok(says_anything.then_some(rules))
    }

    fn pattern(&mut self, text: &'v str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        pattern(text)?;
        let own = Arc::new(Pattern {
            text: text.into(),
            compiled: OnceLock::new(),
        });
        self.patterns.insert(text, own.clone());
        Ok(own)
    }
}

fn bounds(value: &Value) -> Bounds {
    let flag = |name: &str| value[name] == true;
    let number = |name: &str| value[name].as_f64();
    let whole = |name: &str| value[name].as_i64();
    Bounds {
        maximum: number("maximum"),
        minimum: number("minimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        unique_items: flag("uniqueItems"),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
    }
}
