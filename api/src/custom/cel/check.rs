//! What a definition is told about its rules: whether they compile, and whether they can cost too much.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`.

use serde_json::{Value, json};

use super::declare::{MAX_REQUEST, declare};
use super::{compile, is_granular, is_keyed, rules, text};
use crate::field::{BadValue, FieldErrors};

/// Most that one expression may be estimated to cost. Source: `StaticEstimatedCostLimit`.
pub const EXPRESSION_LIMIT: u64 = 10_000_000;
/// Most that all expressions of a version may be estimated to cost. Source: `StaticEstimatedCRDCostLimit`.
pub const SCHEMA_LIMIT: u64 = 100_000_000;
/// The most expensive expressions that are named when all together are too expensive.
const NAMED: usize = 4;

/// Checks the rules of the root schema at `base`; the schema is known to be structural.
pub fn check(root: &Value, base: &str, errors: &mut FieldErrors) {
    let mut checker = Checker {
        total: 0,
        expensive: Vec::new(),
        errors,
    };
    let place = Place {
        root: true,
        times: Some(1),
        uncorrelatable: None,
    };
    checker.walk(root, base, &place);
    if checker.total > SCHEMA_LIMIT {
        for (path, _) in &checker.expensive {
            checker.errors.forbidden(
                path,
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            );
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        checker
            .errors
            .forbidden(base, &exceeds(name, checker.total, SCHEMA_LIMIT));
    }
}

struct Checker<'e> {
    total: u64,
    expensive: Vec<(String, u64)>,
    errors: &'e mut FieldErrors,
}

#[derive(Clone)]
struct Place {
    root: bool,
    /// How many values there can be at this place; `None` when nothing bounds them.
    times: Option<u64>,
    /// The list or map within which nothing can be compared with what was before.
    uncorrelatable: Option<String>,
}

/// How a schema multiplies what is below it.
fn factor(schema: &Value) -> Option<u64> {
    let bound = |field: &str| schema[field].as_i64().map(|own| u64::try_from(own).unwrap_or(0));
    match text(&schema["type"]) {
        "object" if !schema["additionalProperties"].is_null() => bound("maxProperties"),
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

/// A rule as an error shows it.
struct Shown<'a>(&'a Value);

impl BadValue for Shown<'_> {
    fn shown(&self) -> String {
        let member = |name: &str| self.0.get(name).cloned().unwrap_or(json!(""));
        let pointer = |name: &str| self.0.get(name).cloned().unwrap_or(Value::Null);
        format!(
            "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
            member("rule"),
            member("message"),
            member("messageExpression"),
            pointer("reason"),
            member("fieldPath"),
            pointer("optionalOldSelf")
        )
    }
}

fn exceeds(name: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

impl Checker<'_> {
    fn walk(&mut self, schema: &Value, base: &str, place: &Place) {
        let below = Place {
            root: false,
            times: place.times.zip(factor(schema)).map(|(a, b)| a.saturating_mul(b)),
            uncorrelatable: place.uncorrelatable.clone(),
        };
        let mut members = below.clone();
        if !is_granular(schema) {
            members.uncorrelatable.get_or_insert_with(|| base.to_owned());
        }
        if schema["additionalProperties"].is_object() {
            let path = format!("{base}.additionalProperties");
            self.walk(&schema["additionalProperties"], &path, &members);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.walk(property, &format!("{base}.properties[{name}]"), &members);
        }
        if schema["items"].is_object() {
            let mut items = below;
            if !is_keyed(schema) {
                items.uncorrelatable.get_or_insert_with(|| base.to_owned());
            }
            self.walk(&schema["items"], &format!("{base}.items"), &items);
        }
        if !rules(schema).is_empty() {
            self.rules(schema, base, place);
        }
    }

    fn rules(&mut self, schema: &Value, base: &str, place: &Place) {
        let embedded = schema["x-kubernetes-embedded-resource"] == true;
        let Some(decl) = declare(schema, place.root || embedded) else {
            let text = "internal error: failed to retrieve type information for x-kubernetes-validations";
            return self
                .errors
                .internal(format!("{base}.x-kubernetes-validations"), text);
        };
        // Where nothing says how many there are, as many as fit into a request.
        let times = place.times.unwrap_or(MAX_REQUEST / (decl.min_size + 1));
        for (idx, rule) in rules(schema).iter().enumerate() {
            let at = |field: &str| format!("{base}.x-kubernetes-validations[{idx}].{field}");
            let compiled = compile(rule, &decl);
            match &compiled.rule {
                Ok(program) => {
                    let cost = program.estimate.max.saturating_mul(times);
                    self.observe(at("rule"), "estimated rule cost", cost);
                }
                Err(error) => self.errors.invalid(at("rule"), Shown(rule), error),
            }
            match &compiled.message {
                Some(Ok(program)) => {
                    let cost = program.estimate.max;
                    self.observe(at("messageExpression"), "estimated messageExpression cost", cost);
                }
                Some(Err(error)) => self.errors.invalid(at("messageExpression"), Shown(rule), error),
                None => {}
            }
            if compiled.uses_old_self() {
                if let Some(path) = &place.uncorrelatable {
                    let text = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {path}"
                    );
                    self.errors.invalid(at("rule"), rule["rule"].clone(), &text);
                }
            } else if let (Some(given), Ok(_)) = (rule["optionalOldSelf"].as_bool(), &compiled.rule) {
                self.errors.invalid(
                    at("optionalOldSelf"),
                    given,
                    "may not be set if oldSelf is not used in rule",
                );
            }
        }
    }

    fn observe(&mut self, path: String, name: &str, cost: u64) {
        if cost > EXPRESSION_LIMIT {
            self.errors
                .forbidden(&path, &exceeds(name, cost, EXPRESSION_LIMIT));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((path, cost));
            self.expensive.sort_by_key(|own| std::cmp::Reverse(own.1));
            self.expensive.truncate(NAMED);
        }
    }
}
