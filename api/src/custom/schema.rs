//! A structural schema, read from the JSON of a definition once and walked many times.
//!
//! One type serves the structure and the schemas nested in `allOf` and the like, which only validate.

use std::collections::BTreeMap;

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
    pub list_type: Option<ListType>,
    pub list_keys: Vec<String>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    /// `None` for a schema that only says what is where.
    pub rules: Option<Box<Rules>>,
}

/// Validation keywords.
#[derive(Debug, Default)]
pub struct Rules {
    /// Without dashes; empty when it is none that is checked.
    pub format: String,
    pub maximum: Option<f64>,
    pub minimum: Option<f64>,
    pub exclusive_maximum: bool,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Regex>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub one_word_of: Vec<Value>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
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
        let flag = |name: &str| value[name] == true;
        let all = |name: &str| -> Result<Vec<Schema>, String> {
            value[name]
                .as_array()
                .into_iter()
                .flatten()
                .map(Schema::parse)
                .collect()
        };
        let boxed = |name: &str| -> Result<Option<Box<Schema>>, String> {
            match &value[name] {
                own @ Value::Object(_) => Ok(Some(Box::new(Schema::parse(own)?))),
                _ => Ok(None),
            }
        };
        let number = |name: &str| value[name].as_f64();
        let whole = |name: &str| value[name].as_i64();
        let strings = |name: &str| -> Vec<String> {
            let list = value[name].as_array().into_iter().flatten();
            list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let format = value["format"].as_str().unwrap_or_default().replace('-', "");
        let rules = Rules {
            format: if super::formats::is_known(&format) {
                format
            } else {
                String::new()
            },
            maximum: number("maximum"),
            minimum: number("minimum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: whole("maxLength"),
            min_length: whole("minLength"),
            pattern: match value["pattern"].as_str() {
                Some(text) if !text.is_empty() => Some(pattern(text)?),
                _ => None,
            },
            max_items: whole("maxItems"),
            min_items: whole("minItems"),
            unique_items: flag("uniqueItems"),
            max_properties: whole("maxProperties"),
            min_properties: whole("minProperties"),
            required: strings("required"),
            one_word_of: value["enum"].as_array().cloned().unwrap_or_default(),
            all_of: all("allOf")?,
            any_of: all("anyOf")?,
            one_of: all("oneOf")?,
            not: boxed("not")?,
        };
        let mut properties = BTreeMap::new();
        for (name, own) in value["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), Schema::parse(own)?);
        }
        Ok(Schema {
            shape: value["type"].as_str().and_then(Shape::parse),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: match value["x-kubernetes-list-type"].as_str() {
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map),
                Some("atomic") => Some(ListType::Atomic),
                _ => None,
            },
            list_keys: strings("x-kubernetes-list-map-keys"),
            atomic: value["x-kubernetes-map-type"] == "atomic",
            default: value.get("default").filter(|v| !v.is_null()).cloned(),
            properties,
            additional: match &value["additionalProperties"] {
                Value::Bool(allowed) => Additional::Allowed(*allowed),
                own @ Value::Object(_) => Additional::Schema(Box::new(Schema::parse(own)?)),
                _ => Additional::Unsaid,
            },
            items: boxed("items")?,
            rules: rules.says_anything().then(|| Box::new(rules)),
        })
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
            || self.properties.values().any(|own| own.any(test))
            || self.values().is_some_and(|own| own.any(test))
            || self.items.as_ref().is_some_and(|own| own.any(test))
    }
}

impl Rules {
    fn says_anything(&self) -> bool {
        !self.format.is_empty()
            || self.maximum.is_some()
            || self.minimum.is_some()
            || self.multiple_of.is_some()
            || self.max_length.is_some()
            || self.min_length.is_some()
            || self.pattern.is_some()
            || self.max_items.is_some()
            || self.min_items.is_some()
            || self.unique_items
            || self.max_properties.is_some()
            || self.min_properties.is_some()
            || !self.required.is_empty()
            || !self.one_word_of.is_empty()
            || !self.all_of.is_empty()
            || !self.any_of.is_empty()
            || !self.one_of.is_empty()
            || self.not.is_some()
    }
}
