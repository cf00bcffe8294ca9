//! Policies and bindings as they are stored, compiled.

use corten_api::kinds::admissionregistration::expressions;
use corten_api::{meta, registry};
use serde_json::Value;

use super::evaluate::{Conditions, Definitions, Expression};
use crate::types::Types;
use crate::webhooks::rules::Constraints;

/// What a policy and its mutating sibling have in common.
#[derive(Debug)]
pub struct Policy {
    pub name: String,
    pub constraints: Constraints,
    /// Group/version and kind of the parameters.
    pub param_kind: Option<(String, String)>,
    pub fails_open: bool,
    pub variables: Definitions,
    pub conditions: Conditions,
    pub rules: Rules,
}

#[derive(Debug)]
pub enum Rules {
    Validate {
        validations: Vec<Validation>,
        annotations: Vec<Annotation>,
    },
    Mutate {
        mutations: Vec<Mutation>,
        reinvoked: bool,
    },
}

#[derive(Debug)]
pub struct Validation {
    pub expression: Expression,
    pub message: String,
    pub message_expression: Option<Expression>,
    /// Empty: `Invalid`.
    pub reason: String,
}

#[derive(Debug)]
pub struct Annotation {
    pub key: String,
    pub value: Expression,
}

#[derive(Debug)]
pub enum Mutation {
    /// Makes an `Object{...}` that is merged.
    Apply(Expression),
    /// Makes a list of `JSONPatch{...}`.
    Patch(Expression),
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Policy {
    #[must_use]
    pub fn of(object: &Value, mutating: bool) -> Policy {
        let spec = &object["spec"];
        let param_kind = spec["paramKind"].as_object().map(|_| {
            (
                text(&spec["paramKind"]["apiVersion"]),
                text(&spec["paramKind"]["kind"]),
            )
        });
        let has_params = param_kind.is_some();
        let env = expressions::environment(has_params, true);
        let (variables, types) = Definitions::new(&env, &spec["variables"]);
        let env = expressions::with_variables(&env, &types);
        // Messages are made without the authorizer.
        let plain = expressions::with_variables(&expressions::environment(has_params, false), &types);
        let items = |field: &str| spec[field].as_array().into_iter().flatten();
        let rules = if mutating {
            let env = env.clone().with_constructors();
            Rules::Mutate {
                mutations: items("mutations")
                    .map(|mutation| match mutation["patchType"].as_str() {
                        Some("JSONPatch") => {
                            let source = text(&mutation["jsonPatch"]["expression"]);
                            Mutation::Patch(Expression::new(&env, &source))
                        }
                        _ => {
                            let source = text(&mutation["applyConfiguration"]["expression"]);
                            Mutation::Apply(Expression::new(&env, &source))
                        }
                    })
                    .collect(),
                reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            }
        } else {
            Rules::Validate {
                validations: items("validations")
                    .map(|validation| Validation {
                        expression: Expression::new(&env, &text(&validation["expression"])),
                        message: text(&validation["message"]),
                        message_expression: validation["messageExpression"]
                            .as_str()
                            .filter(|source| !source.is_empty())
                            .map(|source| Expression::new(&plain, source)),
                        reason: text(&validation["reason"]),
                    })
                    .collect(),
                annotations: items("auditAnnotations")
                    .map(|annotation| Annotation {
                        key: text(&annotation["key"]),
                        value: Expression::new(&env, text(&annotation["valueExpression"]).trim()),
                    })
                    .collect(),
            }
        };
        Policy {
            name: meta::name(object).to_owned(),
            constraints: Constraints::of_policy(&spec["matchConstraints"]),
            param_kind,
            fails_open: spec["failurePolicy"] == "Ignore",
            conditions: Conditions::new(&env, &spec["matchConditions"]),
            variables,
            rules,
        }
    }
}

/// A binding of a policy.
#[derive(Debug)]
pub struct Binding {
    pub name: String,
    pub policy: String,
    /// `None`: whatever the policy takes.
    pub constraints: Option<Constraints>,
    pub param_ref: Value,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

impl Binding {
    #[must_use]
    pub fn of(object: &Value) -> Binding {
        let spec = &object["spec"];
        let actions = spec["validationActions"].as_array().into_iter().flatten();
        Binding {
            name: meta::name(object).to_owned(),
            policy: text(&spec["policyName"]),
            constraints: spec["matchResources"]
                .is_object()
                .then(|| Constraints::of_policy(&spec["matchResources"])),
            param_ref: spec["paramRef"].clone(),
            actions: actions.map(text).collect(),
        }
    }
}

/// The served type of parameters.
#[must_use]
pub fn param_type(
    types: &Types,
    (api_version, kind): &(String, String),
) -> Option<corten_api::resource::TypeRef> {
    if let Some(ty) = registry().for_api_version(api_version, kind) {
        return Some(ty.into());
    }
    let mut all = types.all().iter();
    all.find(|ty| ty.kind == kind.as_str() && ty.api_version() == *api_version)
        .cloned()
}
