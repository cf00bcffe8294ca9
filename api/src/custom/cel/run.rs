//! Runs the rules of a version on an object.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_cel::{Bindings, Decl, EvalError, Limits, RUNTIME_BUDGET, Value as Cel};
use serde_json::Value;

use super::declare::declare;
use super::{Compiled, compile, is_granular, is_keyed, rules, text};
use crate::custom::lists::keys;
use crate::field::FieldErrors;

/// Longest text a `messageExpression` may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules at one place of a schema and below it; parts without rules are left out.
pub struct Rules {
    own: Vec<(Rule, Compiled)>,
    decl: Arc<Decl>,
    /// The `type` of the schema.
    kind: String,
    granular: bool,
    /// Of a list whose elements can be told apart.
    keys: Option<Vec<String>>,
    properties: BTreeMap<String, Rules>,
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rules on {}", self.own.len(), self.kind)
    }
}

/// What is said when a rule does not hold.
struct Rule {
    message: String,
    /// The message, or the rule itself.
    shown: String,
    reason: String,
    /// Of a field below; empty for the place itself.
    field: String,
    optional_old_self: bool,
}

impl Rules {
    /// The rules of a root schema, `None` when there are none.
    pub fn compile(root: &Value) -> Option<Box<Rules>> {
        Self::at(root, true).map(Box::new)
    }

    /// The rules of a part of a schema, `None` when there are none.
    pub fn of_part(schema: &Value) -> Option<Rules> {
        Self::at(schema, schema["x-kubernetes-embedded-resource"] == true)
    }

    fn at(schema: &Value, root: bool) -> Option<Rules> {
        if !schema.is_object() {
            return None;
        }
        let items = Self::of_part(&schema["items"]).map(Box::new);
        let values = Self::of_part(&schema["additionalProperties"]).map(Box::new);
        let properties: BTreeMap<String, Rules> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, own)| Some((name.clone(), Self::of_part(own)?)))
            .collect();
        let given = rules(schema);
        if given.is_empty() && items.is_none() && values.is_none() && properties.is_empty() {
            return None;
        }
        let declared = if given.is_empty() {
            None
        } else {
            declare(schema, root)
        };
        let own = match &declared {
            Some(decl) => given
                .iter()
                .map(|rule| (Rule::read(rule), compile(rule, decl)))
                .collect(),
            None => Vec::new(),
        };
        let strings = schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten();
        Some(Rules {
            own,
            decl: declared.unwrap_or_else(|| Arc::new(Decl { ..Decl::DYN })),
            kind: text(&schema["type"]).to_owned(),
            granular: is_granular(schema),
            keys: is_keyed(schema).then(|| strings.map(|key| text(key).to_owned()).collect()),
            properties,
            values,
            items,
        })
    }

    /// Runs all rules. Those that fail where nothing changed are let pass, as upstream ratchets.
    pub fn validate(&self, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        self.validate_at("", object, old, errors);
    }

    /// As [`Rules::validate`], for a value at a path.
    pub fn validate_at(&self, path: &str, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        let mut run = Run {
            budget: RUNTIME_BUDGET,
            exhausted: false,
            errors,
        };
        run.walk(self, path, object, old, None);
    }
}

impl Rule {
    fn read(rule: &Value) -> Rule {
        let message = text(&rule["message"]).trim().to_owned();
        let shown = if message.is_empty() {
            text(&rule["rule"]).trim().to_owned()
        } else {
            message.clone()
        };
        Rule {
            message,
            shown,
            reason: text(&rule["reason"]).to_owned(),
            field: normalized(text(&rule["fieldPath"])),
            optional_old_self: rule["optionalOldSelf"] == true,
        }
    }
}

/// `.a['b'].c` as errors write it: `a.b.c`. The check of definitions has seen that it leads somewhere.
fn normalized(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (name, tail) = match rest.strip_prefix("['").and_then(|own| own.split_once("']")) {
            Some(found) => found,
            None => {
                let plain = rest.strip_prefix('.').unwrap_or(rest);
                plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()))
            }
        };
        if name.is_empty() {
            break;
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
        rest = tail;
    }
    out
}

struct Run<'e> {
    /// What all rules together may still cost.
    budget: u64,
    exhausted: bool,
    errors: &'e mut FieldErrors,
}

/// A value and what it was before.
type Pair<'v> = (&'v Value, &'v Value);

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn place(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

impl Run<'_> {
    /// `above`: the nearest place that can be compared with what it was.
    fn walk(
        &mut self,
        rules: &Rules,
        path: &str,
        value: &Value,
        old: Option<&Value>,
        above: Option<Pair<'_>>,
    ) {
        if self.exhausted || value.is_null() {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        let pair = old.map(|old| (value, old)).or(above);
        if !rules.own.is_empty() {
            self.run(rules, path, value, old, pair);
        }
        match value {
            Value::Array(list) => {
                let Some(items) = &rules.items else { return };
                let before = old.and_then(Value::as_array).zip(rules.keys.as_ref());
                for (idx, own) in list.iter().enumerate() {
                    let old = before.and_then(|(before, names)| {
                        let wanted = keys(own.as_object()?, names);
                        before
                            .iter()
                            .find(|own| own.as_object().is_some_and(|own| keys(own, names) == wanted))
                    });
                    self.walk(items, &format!("{path}[{idx}]"), own, old, pair);
                }
            }
            Value::Object(map) => {
                let before = old.filter(|_| rules.granular);
                for (name, own) in map {
                    let old = before.and_then(|old| old.get(name));
                    if let Some(property) = rules.properties.get(name) {
                        self.walk(property, &join(path, name), own, old, pair);
                    } else if let Some(values) = &rules.values {
                        self.walk(values, &format!("{path}[{name}]"), own, old, pair);
                    }
                }
            }
            _ => {}
        }
    }

    fn run(&mut self, rules: &Rules, path: &str, value: &Value, old: Option<&Value>, pair: Option<Pair<'_>>) {
        let own = match Cel::from_json(value, &rules.decl) {
            Ok(own) => own,
            Err(error) => return self.errors.invalid(place(path), &rules.kind, &error.to_string()),
        };
        let before = old.and_then(|old| Cel::from_json(old, &rules.decl).ok());
        for (rule, compiled) in &rules.own {
            if self.budget == 0 {
                return self.exhaust(rules, path, "validation failed");
            }
            let program = match &compiled.rule {
                Ok(program) => program,
                Err(error) => {
                    self.errors
                        .invalid(place(path), &rules.kind, &format!("rule compile error: {error}"));
                    continue;
                }
            };
            // What compares with the value before needs one, unless it says what it does without.
            if compiled.uses_old_self() && before.is_none() && !rule.optional_old_self {
                continue;
            }
            let old_self = match rule.optional_old_self {
                true => Some(Cel::Optional(before.clone().map(Arc::new))),
                false => before.clone(),
            };
            let bindings = Bindings::new(vec![Some(own.clone()), old_self]);
            let (result, cost) = program.eval(&bindings, Limits::default());
            if cost > self.budget {
                return self.exhaust(rules, path, "validation failed");
            }
            self.budget -= cost;
            match result {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let ratchets = !compiled.uses_old_self() && pair.is_some_and(|(value, old)| value == old);
                    self.fail(rules, rule, compiled, path, value, &bindings, ratchets);
                }
                Err(error) => self.report(rules, rule, path, &error),
            }
            if self.exhausted {
                return;
            }
        }
    }

    fn exhaust(&mut self, rules: &Rules, path: &str, what: &str) {
        let text =
            format!("{what} due to running out of cost budget, no further validation rules will be run");
        self.errors.invalid(place(path), &rules.kind, &text);
        self.exhausted = true;
    }

    /// An expression without a value.
    fn report(&mut self, rules: &Rules, rule: &Rule, path: &str, error: &EvalError) {
        let shown = &rule.shown;
        let text = match error {
            EvalError::CostExceeded => {
                self.exhausted = true;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                )
            }
            EvalError::Plain(own) if own.starts_with("no such overload") => format!(
                "'{own}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            ),
            other => format!("{other} evaluating rule: {shown}"),
        };
        self.errors.invalid(place(path), &rules.kind, &text);
    }

    #[allow(clippy::too_many_arguments, reason = "one call, all of one place")]
    fn fail(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        compiled: &Compiled,
        path: &str,
        value: &Value,
        bindings: &Bindings<'_>,
        ratchets: bool,
    ) {
        let at = if rule.field.is_empty() {
            path.to_owned()
        } else {
            join(path, &rule.field)
        };
        let at = place(&at);
        let mut detail = if rule.message.is_empty() {
            format!("failed rule: {}", rule.shown)
        } else {
            rule.message.clone()
        };
        if let Some(Ok(program)) = &compiled.message {
            let (message, cost) = program.eval(bindings, Limits::default());
            if cost > self.budget {
                self.exhausted = true;
                if !ratchets {
                    self.errors.invalid(at, &rules.kind, "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run");
                }
                return;
            }
            self.budget -= cost;
            // Without a message of its own the rule still fails, with the other one.
            if let Ok(Cel::String(own)) = message {
                let own = own.trim();
                if !own.is_empty() && own.len() <= MAX_MESSAGE && !own.contains('\n') {
                    detail = own.to_owned();
                }
            }
        }
        if ratchets {
            return;
        }
        let shown = !matches!(rules.kind.as_str(), "object" | "array");
        match rule.reason.as_str() {
            "FieldValueForbidden" => self.errors.forbidden(at, &detail),
            "FieldValueRequired" => self.errors.required(at, &detail),
            "FieldValueDuplicate" if shown => self.errors.duplicate(at, value.clone()),
            "FieldValueDuplicate" => self.errors.duplicate_without_value(at),
            _ if shown => self.errors.invalid(at, value.clone(), &detail),
            _ => self.errors.invalid_without_value(at, &detail),
        }
    }
}
