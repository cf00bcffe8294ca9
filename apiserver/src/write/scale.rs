//! The `scale` subresource: an `autoscaling/v1` Scale seen through `spec.replicas` of another object. Pure.
//!
//! What a Scale shows and changes is [`scale`]'s to say.

use corten_api::kinds::autoscaling::scale;
use corten_api::resource::Subresource;
use corten_api::{ResourceType, Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use super::admission::{self, Attributes, Effects, Operation};
use super::{Answered, Decision, Env, Payload, Subject, check_name, update};
use crate::Config;

/// The Scale of `object`.
#[must_use]
pub fn of(ty: &ResourceType, object: &Value) -> Value {
    match ty.as_custom().and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => paths.scale_of(object),
        None => scale::of(object),
    }
}

/// Writes a Scale's `spec.replicas` into the object. `change` makes the new Scale from the present one.
///
/// # Errors
/// `NotFound`, `Conflict`, `Invalid` for negative replicas, and what `change` says.
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    change: impl Fn(&Value) -> Result<Value, Status>,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = subject.read_own(snapshot, name, env)?;
    let before = of(subject.ty, &current.value);
    let mut wanted = change(&before)?;
    let asker = env.asker.clone();
    let attributes = Attributes {
        subresource: "scale",
        old: Some(&before),
        ..asker.attributes(subject, Operation::Update, name)
    };
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut wanted, env)? {
        return Ok(Decision::Ask(question));
    }
    if meta::kind(&wanted) != "Scale" {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version (autoscaling/v1)",
            meta::api_version(&wanted)
        )));
    }
    check_name(&wanted, name)?;
    if !matches!(&wanted["spec"]["replicas"], Value::Null | Value::Number(_)) {
        return Err(Status::bad_request(
            "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas must be an integer",
        ));
    }
    let mut new = current.value.clone();
    match subject.ty.as_custom().and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => paths.apply(&mut new, &wanted)?,
        None => scale::apply(&mut new, &wanted)?,
    }
    let seen = of(subject.ty, &new);
    let mut effects = Effects::default();
    if let Some(question) = admission::validate(&attributes, snapshot, &seen, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    env.subresource = Some("scale");
    let part = Subresource::Main;
    let decision = update::replace(config, subject, snapshot, current, name, new, part, env)?;
    Ok(seen_as(decision, seen).with(effects, env))
}

/// Applies a Scale's configuration, so that its manager owns the replicas of the object.
///
/// # Errors
/// `NotFound`, conflicts with other managers, and those of [`decide`].
#[allow(clippy::too_many_arguments)]
pub fn apply(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    wanted: &Value,
    force: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = subject.read_own(snapshot, name, env)?;
    env.subresource = Some("scale");
    let part = Subresource::Main;
    let wanted = super::apply::of_scale(subject, wanted)?;
    let mut new = subject
        .ty
        .server_side_apply(Some(&current.value), &wanted, env.writer(), part, force)?;
    let (before, seen) = (of(subject.ty, &current.value), of(subject.ty, &new));
    let (asker, mut effects) = (env.asker.clone(), Effects::default());
    let attributes = Attributes {
        subresource: "scale",
        old: Some(&before),
        ..asker.attributes(subject, Operation::Update, name)
    };
    let mut admitted = seen.clone();
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut admitted, env)? {
        return Ok(Decision::Ask(question));
    }
    if admitted != seen {
        match subject.ty.as_custom().and_then(|custom| custom.scale.as_ref()) {
            Some(paths) => paths.apply(&mut new, &admitted)?,
            None => scale::apply(&mut new, &admitted)?,
        }
    }
    let seen = of(subject.ty, &new);
    if let Some(question) = admission::validate(&attributes, snapshot, &seen, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    let decision = update::put(config, subject, snapshot, current, name, new, part, env)?;
    Ok(seen_as(decision, seen).with(effects, env))
}

/// The same decision with the Scale as its answer.
fn seen_as(decision: Decision, seen: Value) -> Decision {
    let view = |mut answer: Answered| {
        if let Payload::Stored { at, .. } = answer.payload {
            answer.payload = Payload::Scale { scale: seen, at };
        }
        answer
    };
    match decision {
        Decision::Commit(txn, answer) => Decision::Commit(txn, view(answer)),
        Decision::Nothing(answer) => Decision::Nothing(view(answer)),
        Decision::Ask(question) => Decision::Ask(question),
    }
}
