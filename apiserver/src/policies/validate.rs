//! ValidatingAdmissionPolicy: what policies say about an object that is to be stored.

use corten_api::Status;
use corten_api::status::StatusCause;
use corten_cel::Value as Cel;
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::compiled::{Annotation, Binding, Policy, Rules, Validation};
use super::evaluate::{Authority, Input, Variables, judge};
use super::{Seen, in_force, is_exempt};
use crate::webhooks::Scene;
use crate::write::admission::{Attributes, Effects};

/// Longest text a `messageExpression` may make, in bytes. Source: `MaxEvaluatedMessageExpressionSizeBytes`.
const MAX_MESSAGE: usize = 5 * 1024;
/// Longest value of an audit annotation, in bytes; the rest is cut off.
const MAX_ANNOTATION: usize = 10 * 1024;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A verdict against the request.
struct Denied {
    message: String,
    reason: String,
}

/// What one policy with one set of parameters says.
#[derive(Default)]
struct Judged {
    /// With the place of the validation; evaluation errors count where the policy fails closed.
    failures: Vec<(usize, Denied)>,
    annotations: Vec<(String, String)>,
    /// Errors of annotations.
    errors: Vec<String>,
}

/// Judges the request by all policies in force.
///
/// # Errors
/// The first refusal.
pub fn validate(
    scene: &Scene,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
) -> Result<(), Status> {
    if is_exempt(attributes) {
        return Ok(());
    }
    let mut denied: Vec<(String, Denied)> = Vec::new();
    for bound in &scene.hooks.validating_policies {
        let policy = &*bound.policy;
        let named = format!("ValidatingAdmissionPolicy '{}'", policy.name);
        let fail = |who: String, message: String| {
            let reason = String::new();
            (!policy.fails_open).then_some((who, Denied { message, reason }))
        };
        let form = match policy
            .constraints
            .matches(attributes, snapshot, object, &scene.types)
        {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(status) => {
                denied.extend(fail(
                    named,
                    format!("failed to configure policy: {}", status.message),
                ));
                continue;
            }
        };
        let seen = Seen::new(attributes, snapshot, &form, object, &scene.types)?;
        let ty = form.other.as_deref().unwrap_or(attributes.subject.ty);
        let authority = Authority::new(scene.server.clone(), attributes, ty);
        let mut annotations: Vec<(String, String)> = Vec::new();
        for binding in &bound.bindings {
            let who = format!("{named} with binding '{}'", binding.name);
            let params = match in_force(scene, policy, binding, attributes, snapshot, object) {
                Ok(Some(params)) => params,
                Ok(None) => continue,
                Err(why) => {
                    denied.extend(fail(who, format!("failed to configure binding: {why}")));
                    continue;
                }
            };
            for params in &params {
                let judged = judge_by(policy, &seen.input(params, &authority));
                for (index, failure) in judged.failures {
                    act(policy, binding, index, failure, &who, effects, &mut denied);
                }
                for annotation in judged.annotations {
                    if !annotations.contains(&annotation) {
                        annotations.push(annotation);
                    }
                }
                let errors = judged.errors.into_iter();
                denied.extend(errors.filter_map(|message| fail(who.clone(), message)));
            }
        }
        publish(policy, annotations, effects);
    }
    match denied.into_iter().next() {
        None => Ok(()),
        Some((who, first)) => Err(refusal(
            attributes,
            &format!("{who} denied request: {}", first.message),
            &first.reason,
        )),
    }
}

fn act(
    policy: &Policy,
    binding: &Binding,
    index: usize,
    failure: Denied,
    who: &str,
    effects: &mut Effects,
    denied: &mut Vec<(String, Denied)>,
) {
    let does = |action: &str| binding.actions.iter().any(|own| own == action);
    if does("Audit") {
        let value = json!([{ "message": failure.message, "policy": policy.name, "binding": binding.name,
            "expressionIndex": index, "validationActions": binding.actions }]);
        effects.annotations.push((FAILURE.to_owned(), value.to_string()));
    }
    if does("Warn") {
        effects.warnings.push(format!(
            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
            policy.name, binding.name, failure.message
        ));
    }
    if does("Deny") {
        denied.push((who.to_owned(), failure));
    }
}

/// Several values of one key are joined.
fn publish(policy: &Policy, annotations: Vec<(String, String)>, effects: &mut Effects) {
    let mut joined: Vec<(String, String)> = Vec::new();
    for (key, value) in annotations {
        match joined.iter_mut().find(|(own, _)| *own == key) {
            Some((_, values)) => {
                values.push_str(", ");
                values.push_str(&value);
            }
            None => joined.push((key, value)),
        }
    }
    let named = |(key, value)| (format!("{}/{key}", policy.name), value);
    effects.annotations.extend(joined.into_iter().map(named));
}

fn refusal(attributes: &Attributes<'_>, message: &str, reason: &str) -> Status {
    let mut status = attributes.forbidden(message);
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    status.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    reason.clone_into(&mut status.reason);
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            message: message.to_owned(),
            ..StatusCause::default()
        });
    }
    status
}

fn judge_by(policy: &Policy, input: &Input<'_>) -> Judged {
    let Rules::Validate {
        validations,
        annotations,
    } = &policy.rules
    else {
        return Judged::default();
    };
    let variables = Variables::new(&policy.variables, input);
    let variables = variables.tied();
    let mut judged = Judged::default();
    match policy.conditions.hold(input, Some(variables)) {
        Ok(true) => {}
        Ok(false) => return judged,
        Err(message) => {
            let reason = String::new();
            let failed = (!policy.fails_open).then_some((0, Denied { message, reason }));
            judged.failures.extend(failed);
            return judged;
        }
    }
    for (index, validation) in validations.iter().enumerate() {
        let failed = match judge(&validation.expression, input, Some(variables)) {
            Ok(true) => continue,
            Ok(false) => Denied {
                message: message(validation, input, variables),
                reason: validation.reason.clone(),
            },
            Err(_) if policy.fails_open => continue,
            Err(message) => Denied {
                message,
                reason: String::new(),
            },
        };
        judged.failures.push((index, failed));
    }
    for annotation in annotations {
        match value_of(annotation, input, variables) {
            Ok(Some(value)) => judged.annotations.push((annotation.key.clone(), value)),
            Ok(None) => {}
            Err(error) => judged.errors.push(error),
        }
    }
    judged
}

/// What a failed validation says: what its expression makes, its own text, or the expression.
fn message<'a>(validation: &'a Validation, input: &Input<'a>, variables: &'a Variables<'a>) -> String {
    let made = validation.message_expression.as_ref().and_then(|expression| {
        match expression.eval(input, Some(variables)) {
            Ok(Cel::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        }
    });
    let made = made.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n'));
    made.unwrap_or_else(|| match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.source.trim()),
        own => own.to_owned(),
    })
}

fn value_of<'a>(
    annotation: &'a Annotation,
    input: &Input<'a>,
    variables: &'a Variables<'a>,
) -> Result<Option<String>, String> {
    match annotation.value.eval(input, Some(variables))? {
        Cel::Null => Ok(None),
        Cel::String(text) => {
            let text = text.trim();
            let end = (0..=MAX_ANNOTATION.min(text.len()))
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or_default();
            Ok((!text.is_empty()).then(|| text[..end].to_owned()))
        }
        other => Err(format!(
            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
            annotation.value.source,
            other.type_name()
        )),
    }
}
