//! Admission webhooks: which of them a request concerns, what they are asked, and what their answers do to it.
//!
//! Pure but for the answers, which the request's memo holds: a call that has none yet is a [`Question`]. Must not know
//! how calls are made (`outbound`).
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go`.

pub mod compiled;
pub mod forms;
pub mod review;
pub mod rules;
mod secret;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::{ResourceType, Status};
use corten_store::Snapshot;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::policies::evaluate::{self, Authority, Input};
use crate::types::Types;
use crate::write::Env;
use crate::write::admission::{Attributes, Effects};
use crate::write::question::{Call, CallKey, Question};
use compiled::{Hooks, Webhook};
use review::Verdict;
use rules::Form;

const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";
const VALIDATION_FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

/// What is configured where a request is decided, and the types served there.
#[derive(Clone)]
pub struct Scene {
    pub hooks: Arc<Hooks>,
    pub types: Arc<Types>,
    /// Whom expressions ask who may do what.
    pub server: Option<ApiServer>,
}

/// How far the mutating webhooks of one request have come.
#[derive(Default)]
pub struct Rounds {
    round: u8,
    /// Webhooks that want to see what others change after them, called so far.
    called: HashSet<usize>,
    /// Of those, the ones something changed after.
    due: HashSet<usize>,
    changed: bool,
    /// The object as the last round left it.
    left: Option<Value>,
}

impl Rounds {
    /// Whether plug-ins and webhooks have another round: something was changed by a webhook.
    #[must_use]
    pub fn another(&mut self) -> bool {
        let again = self.round == 0 && self.changed;
        self.round += 1;
        again
    }

    /// A policy changed the object: plug-ins have to see it again.
    pub fn note_change(&mut self) {
        self.changed = true;
    }

    fn changed(&mut self) {
        self.changed = true;
        self.due.extend(self.called.drain());
    }
}

/// What became of one webhook.
enum Called {
    /// It has to be asked first.
    Unknown(Call),
    /// It gave no good answer, and its policy lets the request pass.
    Open,
    Answered(Verdict),
}

/// Lets the mutating webhooks change the object, one after the other. Where something was changed, the caller runs its
/// own plug-ins again and then this once more ([`Rounds::another`]).
///
/// # Errors
/// A webhook's refusal, or its failure where it fails closed.
pub fn mutate(
    scene: &Scene,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    rounds: &mut Rounds,
    env: &mut Env,
) -> Result<Option<Question>, Status> {
    if rules::is_exempt(attributes) || env.strict.spares(attributes.subject.namespace) {
        return Ok(None);
    }
    if rounds.round > 0 && rounds.left.as_ref().is_some_and(|left| left != object) {
        rounds.changed();
    }
    let hooks = &scene.hooks.mutating;
    for (index, hook) in hooks.iter().enumerate() {
        let Some(form) = wanted(hook, scene, attributes, snapshot, object)? else {
            continue;
        };
        if rounds.round > 0 && !rounds.due.contains(&index) {
            continue;
        }
        let verdict = match call(hook, scene, attributes, &form, object, rounds.round, true, env)? {
            Called::Unknown(call) => return Ok(Some(vec![call])),
            Called::Open => {
                let key = format!("failed-open.{MUTATION}round_{}_index_{index}", rounds.round);
                env.annotations.push((key, hook.name.clone()));
                continue;
            }
            Called::Answered(verdict) => verdict,
        };
        let mut changed = false;
        if !verdict.patch.is_empty() {
            let new = patched(hook, scene, attributes, &form, object, &verdict.patch)?;
            changed = new != *object;
            *object = new;
        }
        annotate(hook, rounds.round, index, changed, &verdict, env);
        env.warnings.extend(verdict.warnings);
        if changed {
            rounds.changed();
        }
        if hook.reinvoked {
            rounds.called.insert(index);
        }
    }
    rounds.left = Some(object.clone());
    Ok(None)
}

/// Asks the validating webhooks, all at the same time.
///
/// # Errors
/// A webhook's refusal, or its failure where it fails closed; of several, the first in order.
pub fn validate(
    scene: &Scene,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
    env: &mut Env,
) -> Result<Option<Question>, Status> {
    if rules::is_exempt(attributes) || env.strict.spares(attributes.subject.namespace) {
        return Ok(None);
    }
    let mut question = Question::new();
    let mut refused = None;
    for (index, hook) in scene.hooks.validating.iter().enumerate() {
        let Some(form) = wanted(hook, scene, attributes, snapshot, object)? else {
            continue;
        };
        match call(hook, scene, attributes, &form, object, 0, false, env) {
            Ok(Called::Unknown(call)) => question.push(call),
            Ok(Called::Open) => {
                let key = format!("{VALIDATION_FAILED_OPEN}round_0_index_{index}");
                effects.annotations.push((key, hook.name.clone()));
            }
            Ok(Called::Answered(verdict)) => {
                effects.warnings.extend(verdict.warnings);
                let named = |(key, text)| (format!("{}/{key}", hook.name), text);
                effects
                    .annotations
                    .extend(verdict.annotations.into_iter().map(named));
            }
            Err(status) => refused = refused.or(Some(status)),
        }
    }
    match refused {
        Some(status) if question.is_empty() => Err(status),
        _ if question.is_empty() => Ok(None),
        _ => Ok(Some(question)),
    }
}

/// The form in which a webhook wants to see the request; `None`: it does not.
fn wanted(
    hook: &Webhook,
    scene: &Scene,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
) -> Result<Option<Form>, Status> {
    let form = hook
        .constraints
        .matches(attributes, snapshot, object, &scene.types)?;
    let Some(form) = form else { return Ok(None) };
    if !hook.conditions.is_empty() {
        let ty: &ResourceType = form.other.as_deref().unwrap_or(attributes.subject.ty);
        let old = attributes.old.unwrap_or(&Value::Null);
        let (object, old) = (
            forms::convert(attributes, ty, object, &scene.types)?,
            forms::convert(attributes, ty, old, &scene.types)?,
        );
        let request = evaluate::request(attributes, ty);
        let authority = Authority::new(scene.server.clone(), attributes, ty);
        let nothing = Value::Null;
        let input = Input::new([&object, &old, &request, &nothing, &nothing], &authority);
        return match hook.conditions.hold(&input, None) {
            Ok(true) => Ok(Some(form)),
            Ok(false) => Ok(None),
            Err(why) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, why, "match conditions failed, failing open");
                Ok(None)
            }
            Err(why) => Err(attributes.forbidden(why)),
        };
    }
    Ok(Some(form))
}

#[allow(clippy::too_many_arguments)]
fn call(
    hook: &Webhook,
    scene: &Scene,
    attributes: &Attributes<'_>,
    form: &Form,
    object: &Value,
    round: u8,
    mutating: bool,
    env: &Env,
) -> Result<Called, Status> {
    if attributes.dry_run && hook.has_side_effects {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Status::bad_request(why));
    }
    let ty: &ResourceType = form.other.as_deref().unwrap_or(attributes.subject.ty);
    let seen = |object: &Value| forms::convert(attributes, ty, object, &scene.types);
    let (mut new, mut old) = (seen(object)?, seen(attributes.old.unwrap_or(&Value::Null))?);
    if env.strict.hides_secrets && !hook.sees_secrets && attributes.is("", "secrets") {
        (new, old) = (secret::closed(&new), secret::closed(&old));
    }
    let request = review::request(attributes, ty, &new, &old);
    let request = serde_json::to_vec(&request).map_err(Status::internal)?;
    let key = CallKey::of(&[&env.seed(), hook.id.as_bytes(), &[round], &request]);
    let answered = match (&hook.target, env.memo.get(&key)) {
        (Err(why), _) => Err(format!("could not get REST client: {why}")),
        (Ok(target), None) => {
            return Ok(Called::Unknown(Call {
                key,
                target: target.clone(),
                limit: env.strict.webhook_time(hook.timeout),
                body: Bytes::from(review::body(hook.version, &key.uid(), &request)),
            }));
        }
        (Ok(_), Some(Err(why))) => Err(format!("failed to call webhook: {why}")),
        (Ok(_), Some(Ok(answer))) => review::verdict(hook.version, &key.uid(), mutating, answer),
    };
    match answered {
        Ok(verdict) if verdict.allowed => Ok(Called::Answered(verdict)),
        Ok(verdict) => Err(review::refusal(&hook.name, &verdict.result)),
        Err(why) if hook.fails_open => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed, failing open");
            Ok(Called::Open)
        }
        Err(why) => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed, failing closed");
            Err(Status::internal(format!(
                "failed calling webhook {:?}: {why}",
                hook.name
            )))
        }
    }
}

/// The object as the webhook's patch makes it, in the request's own form.
fn patched(
    hook: &Webhook,
    scene: &Scene,
    attributes: &Attributes<'_>,
    form: &Form,
    object: &Value,
    patch: &[Value],
) -> Result<Value, Status> {
    if object.is_null() {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let own = attributes.subject.ty;
    let ty: &ResourceType = form.other.as_deref().unwrap_or(own);
    let mut new = forms::convert(attributes, ty, object, &scene.types)?;
    corten_api::patch::json_patch(&mut new, &Value::Array(patch.to_vec()))
        .map_err(|status| Status::internal(status.message))?;
    let new = forms::read(ty, attributes.subresource, &new)?;
    forms::back(attributes, ty, &new, &scene.types)
}

fn annotate(hook: &Webhook, round: u8, index: usize, changed: bool, verdict: &Verdict, env: &mut Env) {
    let at = format!("round_{round}_index_{index}");
    let mutation = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
    env.annotations
        .push((format!("{MUTATION}{at}"), mutation.to_string()));
    if changed {
        let patch = json!({"configuration": hook.configuration, "webhook": hook.name,
            "patch": verdict.patch, "patchType": "JSONPatch"});
        env.annotations.push((format!("{PATCH}{at}"), patch.to_string()));
    }
    for (key, text) in &verdict.annotations {
        env.annotations
            .push((format!("{}/{key}", hook.name), text.clone()));
    }
}
