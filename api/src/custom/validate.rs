//! Validation of a value by a schema, with the texts of kube-openapi.
//!
//! Source: `k8s.io/kube-openapi/pkg/validation/validate` for order and texts, `k8s.io/apiextensions-apiserver`'s
//! `kubeOpenAPIResultToFieldErrors` for what they become, and its ratcheting of updates.

use serde_json::Value;

use super::formats;
use super::lists::keys;
use super::schema::{Additional, Rules, Schema, Shape};
use crate::field::FieldErrors;
use crate::schema::ListType;

/// Schemas of `allOf` and the like within each other that are followed. Deeper ones are taken for fulfilled.
const MAX_DEPTH: usize = 256;

/// Checks `value`. Parts that `old` has as well are left alone. `base` comes before the paths of fields, not of texts.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>, base: &str, errors: &mut FieldErrors) {
    let mut found = Found::default();
    check(schema, value, old, "", 0, &mut found);
    for finding in found.list {
        finding.report(base, errors);
    }
}

/// An embedded resource names its type.
pub fn embedded(schema: &Schema, object: &Value, errors: &mut FieldErrors) {
    embedded_below(schema, object, "", true, errors);
}

fn embedded_below(schema: &Schema, value: &Value, path: &str, root: bool, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            if schema.embedded && !root {
                for field in ["apiVersion", "kind"] {
                    if map.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                        errors.required(join(path, field), "must not be empty");
                    }
                }
            }
            for (name, own) in map {
                if let Some(property) = schema.properties.get(name) {
                    embedded_below(property, own, &join(path, name), false, errors);
                } else if let Some(values) = schema.values() {
                    embedded_below(values, own, &format!("{path}[{name}]"), false, errors);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (idx, own) in list.iter().enumerate() {
                    embedded_below(items, own, &format!("{path}[{idx}]"), false, errors);
                }
            }
        }
        _ => {}
    }
}

/// What became of one value, and how far it fitted: the alternative that fits best explains a failure.
#[derive(Default)]
struct Found {
    list: Vec<Finding>,
    matches: usize,
}

enum What {
    Required,
    Words(Value, Vec<Value>),
    TooLong(i64),
    TooMany(i64, i64),
    Type(Value),
    Invalid(Value),
    /// Of the whole value; upstream knows no path for it.
    Whole,
}

struct Finding {
    path: String,
    text: String,
    what: What,
}

impl Finding {
    fn report(self, base: &str, errors: &mut FieldErrors) {
        let path = match (base, self.path.trim_start_matches('.')) {
            (base, "") => base.to_owned(),
            ("", path) => path.to_owned(),
            (base, path) => format!("{base}.{path}"),
        };
        let path = if path.is_empty() { "<nil>".to_owned() } else { path };
        match self.what {
            What::Required => errors.required(path, ""),
            What::Words(value, words) => {
                let words: Vec<String> = words
                    .iter()
                    .map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned))
                    .collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                errors.not_supported(path, value, &words);
            }
            What::TooLong(max) => errors.too_long(path, usize::try_from(max).unwrap_or(0)),
            What::TooMany(actual, max) => {
                let number = |n: i64| usize::try_from(n).unwrap_or(0);
                errors.too_many(path, number(actual), number(max));
            }
            What::Type(value) => errors.type_invalid(path, value, &self.text),
            What::Invalid(value) => errors.invalid(path, value, &self.text),
            What::Whole => errors.invalid(if base.is_empty() { "<nil>" } else { base }, "", &self.text),
        }
    }
}

impl Found {
    fn add(&mut self, path: &str, text: String, what: What) {
        self.list.push(Finding {
            path: path.to_owned(),
            text,
            what,
        });
    }

    fn take(&mut self, other: Found) {
        self.list.extend(other.list);
        self.matches += other.matches;
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Go's `%v` of a float.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 {
        format!("{number:.0}")
    } else {
        format!("{number}")
    }
}

fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, depth: usize, out: &mut Found) {
    if depth > MAX_DEPTH || old == Some(value) {
        return;
    }
    out.matches += 1;
    if !check_type(schema, value, path, out) && value.is_null() {
        return;
    }
    let rules = schema.rules.as_deref();
    if value.is_null() {
        if let Some(rules) = rules {
            check_words(rules, value, path, out);
        }
        return;
    }
    if let Some(rules) = rules {
        check_alternatives(rules, value, path, depth, out);
        match value {
            Value::String(text) => check_string(rules, text, path, out),
            Value::Number(number) => check_number(rules, number, path, out),
            _ => {}
        }
    }
    if let Value::Array(list) = value {
        check_list(schema, list, old, path, depth, out);
    }
    if let Some(rules) = rules {
        check_words(rules, value, path, out);
    }
    if let Value::Object(_) = value {
        check_object(schema, value, old, path, depth, out);
    }
}

/// What a value is to JSON schema: a float without a fraction is an integer.
fn fits(value: &Value, shape: Shape) -> bool {
    match (shape, value) {
        (Shape::Object, Value::Object(_))
        | (Shape::Array, Value::Array(_))
        | (Shape::String, Value::String(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::Number, Value::Number(_)) => true,
        (Shape::Integer, Value::Number(number)) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|double| double.fract() == 0.0)
        }
        _ => false,
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(schema: &Schema, value: &Value, path: &str, out: &mut Found) -> bool {
    let wanted = match (schema.int_or_string, schema.shape) {
        (true, _) => "integer,string",
        (false, Some(shape)) => shape.as_str(),
        (false, None) => return true,
    };
    let fit = match value {
        Value::Null => schema.nullable,
        _ if schema.int_or_string => fits(value, Shape::Integer) || fits(value, Shape::String),
        _ => schema.shape.is_none_or(|shape| fits(value, shape)),
    };
    if fit {
        out.matches += 1;
    } else {
        let own = name_of(value);
        out.add(
            path,
            format!("{path} in body must be of type {wanted}: \"{own}\""),
            What::Type(own.into()),
        );
    }
    fit
}

fn check_words(rules: &Rules, value: &Value, path: &str, out: &mut Found) {
    if !rules.one_word_of.is_empty() && !rules.one_word_of.contains(value) {
        out.add(
            path,
            String::new(),
            What::Words(value.clone(), rules.one_word_of.to_vec()),
        );
    }
}

fn check_string(rules: &Rules, text: &str, path: &str, out: &mut Found) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let before = out.list.len();
    let mut invalid = |detail: String, what| out.add(path, format!("{path} in body {detail}"), what);
    let value = || Value::from(text);
    if let Some(max) = rules.bounds().max_length.filter(|max| length() > *max) {
        invalid(String::new(), What::TooLong(max));
    } else if let Some(min) = rules.bounds().min_length.filter(|min| length() < *min) {
        invalid(
            format!("should be at least {min} chars long"),
            What::Invalid(value()),
        );
    } else if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        invalid(format!("should match '{pattern}'"), What::Invalid(value()));
    }
    if !rules.format.is_empty() && !formats::holds(&rules.format, text) {
        let detail = format!(
            "must be of type {}: {}",
            formats::shown(&rules.format),
            crate::field::quoted(text)
        );
        invalid(detail, What::Type(value()));
    }
    if out.list.len() == before {
        out.matches += 1;
    }
}

fn check_number(rules: &Rules, number: &serde_json::Number, path: &str, out: &mut Found) {
    let value = number.as_f64().unwrap_or_default();
    let mut invalid = |detail: String| {
        out.add(
            path,
            format!("{path} in body {detail}"),
            What::Invalid(Value::Number(number.clone())),
        );
    };
    if let Some(factor) = rules.bounds().multiple_of.filter(|factor| *factor > 0.0) {
        let times = value / factor;
        if (times - times.round()).abs() > 1e-9 {
            invalid(format!("should be a multiple of {}", shown(factor)));
        }
    }
    if let Some(max) = rules.bounds().maximum {
        if rules.bounds().exclusive_maximum && value >= max {
            invalid(format!("should be less than {}", shown(max)));
        } else if value > max {
            invalid(format!("should be less than or equal to {}", shown(max)));
        }
    }
    if let Some(min) = rules.bounds().minimum {
        if rules.bounds().exclusive_minimum && value <= min {
            invalid(format!("should be greater than {}", shown(min)));
        } else if value < min {
            invalid(format!("should be greater than or equal to {}", shown(min)));
        }
    }
}

fn check_list(
    schema: &Schema,
    list: &[Value],
    old: Option<&Value>,
    path: &str,
    depth: usize,
    out: &mut Found,
) {
    if let Some(items) = &schema.items {
        // Only elements with a name of their own can be told to be the same as before.
        let before = old
            .and_then(Value::as_array)
            .filter(|_| schema.list_type == Some(ListType::Map));
        for (idx, own) in list.iter().enumerate() {
            let old = before.and_then(|before| {
                let wanted = keys(own.as_object()?, &schema.list_keys);
                before.iter().find(|e| {
                    e.as_object()
                        .is_some_and(|e| keys(e, &schema.list_keys) == wanted)
                })
            });
            check(items, own, old, &format!("{path}[{idx}]"), depth + 1, out);
        }
    }
    let Some(rules) = schema.rules.as_deref() else {
        return;
    };
    let size = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if let Some(min) = rules.bounds().min_items.filter(|min| size < *min) {
        let text = format!("{path} in body should have at least {min} items");
        out.add(path, text, What::Invalid(size.into()));
    }
    if let Some(max) = rules.bounds().max_items.filter(|max| size > *max) {
        out.add(path, String::new(), What::TooMany(size, max));
    }
    if rules.bounds().unique_items {
        let mut seen = std::collections::HashSet::new();
        if !list.iter().all(|own| seen.insert(own.to_string())) {
            let text = format!("{path} in body shouldn't contain duplicates");
            out.add(path, text, What::Invalid("".into()));
        }
    }
}

fn check_object(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    depth: usize,
    out: &mut Found,
) {
    let Some(map) = value.as_object() else { return };
    let before = |name: &str| old.and_then(|old| old.get(name));
    if let Some(rules) = schema.rules.as_deref() {
        let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
        if let Some(min) = rules.bounds().min_properties.filter(|min| size < *min) {
            let text = format!("{path} in body should have at least {min} properties");
            return out.add(path, text, What::Invalid(size.into()));
        }
        if let Some(max) = rules.bounds().max_properties.filter(|max| size > *max) {
            return out.add(path, String::new(), What::TooMany(size, max));
        }
    }
    match &schema.additional {
        Additional::Allowed(false) => {
            for name in map.keys().filter(|name| !schema.properties.contains_key(name)) {
                let text = format!("{path}.{name} in body is a forbidden property");
                out.add(path, text, What::Invalid(name.as_str().into()));
            }
        }
        Additional::Schema(values) => {
            for (name, own) in map
                .iter()
                .filter(|(name, _)| !schema.properties.contains_key(name))
            {
                check(
                    values,
                    own,
                    before(name),
                    &format!("{path}.{name}"),
                    depth + 1,
                    out,
                );
            }
        }
        _ => {}
    }
    for (name, property) in schema.properties.iter() {
        if let Some(own) = map.get(name) {
            check(property, own, before(name), &join(path, name), depth + 1, out);
        }
    }
    for name in schema.rules.iter().flat_map(|rules| &rules.required) {
        if !map.contains_key(name) {
            out.add(&join(path, name), String::new(), What::Required);
        }
    }
}

fn check_alternatives(rules: &Rules, value: &Value, path: &str, depth: usize, out: &mut Found) {
    let Some(rules) = rules.alternatives() else { return };
    let attempt = |schema: &Schema| {
        let mut found = Found::default();
        check(schema, value, None, path, depth + 1, &mut found);
        found
    };
    let quoted = crate::field::quoted(path);
    if !rules.any_of.is_empty() {
        let mut best: Option<Found> = None;
        let mut valid = false;
        for schema in &rules.any_of {
            let found = attempt(schema);
            if found.list.is_empty() {
                out.take(found);
                valid = true;
                break;
            }
            if best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        if !valid {
            out.add(
                path,
                format!("{quoted} must validate at least one schema (anyOf)"),
                What::Whole,
            );
            out.take(best.unwrap_or_default());
        }
    }
    if !rules.one_of.is_empty() {
        let mut best: Option<Found> = None;
        let mut valid = 0;
        for schema in &rules.one_of {
            let found = attempt(schema);
            if found.list.is_empty() {
                valid += 1;
            } else if best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        let why = match valid {
            0 => "Found none valid".to_owned(),
            many => format!("Found {many} valid alternatives"),
        };
        if valid != 1 {
            out.add(
                path,
                format!("{quoted} must validate one and only one schema (oneOf). {why}"),
                What::Whole,
            );
            if valid == 0 {
                out.take(best.unwrap_or_default());
            }
        }
    }
    let mut valid = 0;
    for schema in &rules.all_of {
        let found = attempt(schema);
        valid += usize::from(found.list.is_empty());
        out.take(found);
    }
    if valid != rules.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        out.add(
            path,
            format!("{quoted} must validate all the schemas (allOf){none}"),
            What::Whole,
        );
    }
    if rules
        .not
        .as_ref()
        .is_some_and(|schema| attempt(schema).list.is_empty())
    {
        out.add(
            path,
            format!("{quoted} must not validate the schema (not)"),
            What::Whole,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(schema: Value, value: Value, want: &str) {
        ratchet(schema, None, value, want);
    }

    #[track_caller]
    fn ratchet(schema: Value, old: Option<Value>, value: Value, want: &str) {
        let schema =
            Schema::parse(&json!({"type": "object", "properties": {"f": schema}})).expect("a schema");
        let mut errors = FieldErrors::default();
        let old = old.map(|old| json!({"f": old}));
        validate(&schema, &json!({"f": value}), old.as_ref(), "", &mut errors);
        assert_eq!(errors.aggregate(), want);
    }

    #[test]
    fn texts_are_upstreams() {
        let integer = json!({"type": "integer", "minimum": 1, "maximum": 10});
        check(integer.clone(), json!(5), "");
        check(integer.clone(), json!(5.0), "");
        check(
            integer.clone(),
            json!("five"),
            "f: Invalid value: \"string\": f in body must be of type integer: \"string\"",
        );
        check(
            integer.clone(),
            json!(0),
            "f: Invalid value: 0: f in body should be greater than or equal to 1",
        );
        check(
            integer,
            json!(11),
            "f: Invalid value: 11: f in body should be less than or equal to 10",
        );
        check(
            json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            "f: Invalid value: 1: f in body should be greater than 1",
        );
        check(
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            "f: Invalid value: 7: f in body should be a multiple of 5",
        );
        let text = json!({"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^a"});
        check(text.clone(), json!("abc"), "");
        check(
            text.clone(),
            json!("a"),
            "f: Invalid value: \"a\": f in body should be at least 2 chars long",
        );
        check(
            text.clone(),
            json!("aaaaa"),
            "f: Too long: may not be more than 4 bytes",
        );
        check(
            text,
            json!("bbb"),
            "f: Invalid value: \"bbb\": f in body should match '^a'",
        );
        check(
            json!({"type": "string", "enum": ["A", "B"]}),
            json!("C"),
            "f: Unsupported value: \"C\": supported values: \"A\", \"B\"",
        );
        check(
            json!({"type": "string", "format": "date-time"}),
            json!("now"),
            "f: Invalid value: \"now\": f in body must be of type datetime: \"now\"",
        );
        check(
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", 1]),
            "[f[1]: Invalid value: \"integer\": f[1] in body must be of type string: \"integer\", f: Too many: 2: must have at most 1 items]",
        );
        check(
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            "f.a: Required value",
        );
        check(
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"x": true}),
            "f.x: Invalid value: \"boolean\": f.x in body must be of type string: \"boolean\"",
        );
        check(
            json!({"x-kubernetes-int-or-string": true}),
            json!([]),
            "f: Invalid value: \"array\": f in body must be of type integer,string: \"array\"",
        );
        check(json!({"type": "string", "nullable": true}), Value::Null, "");
        check(
            json!({"type": "string"}),
            Value::Null,
            "f: Invalid value: \"null\": f in body must be of type string: \"null\"",
        );
    }

    #[test]
    fn alternatives() {
        let one = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        check(one.clone(), json!({"a": "x"}), "");
        check(
            one,
            json!({"a": "x", "b": "y"}),
            "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        );
        check(
            json!({"type": "string", "not": {"enum": ["x"]}}),
            json!("x"),
            "<nil>: Invalid value: \"\": \"f\" must not validate the schema (not)",
        );
        check(
            json!({"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 2}]}),
            json!(5),
            "[<nil>: Invalid value: \"\": \"f\" must validate at least one schema (anyOf), f: Invalid value: 5: f in body should be greater than or equal to 10]",
        );
    }

    #[test]
    fn what_was_wrong_before_stays_allowed() {
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 3}}}});
        ratchet(
            map,
            Some(json!([{"k": "a", "v": 9}])),
            json!([{"k": "b", "v": 1}, {"k": "a", "v": 9}]),
            "",
        );
        let text = "f: Invalid value: 8: f in body should be less than or equal to 3";
        ratchet(
            json!({"type": "integer", "maximum": 3}),
            Some(json!(9)),
            json!(8),
            text,
        );
    }
}
