//! `create`. Pure: what a new object becomes and which writes make it, given a snapshot.

use corten_api::field::FieldErrors;
use corten_api::resource::{CreateContext, Subresource};
use corten_api::{Status, meta};
use corten_store::{Op, Precondition, Snapshot};
use http::StatusCode;
use serde_json::Value;

use super::admission::{self, Attributes, Effects, Operation};
use super::{Answered, Decision, Env, Payload, Subject, admin_access, allocate};
use crate::Config;

/// Names tried for one `generateName`. Source: kube-apiserver, `maxNameGenerationCreateAttempts`.
const MAX_NAMES: usize = 8;
/// Seconds after which a client that found no free name may try again.
const RETRY_NAME_SECONDS: i32 = 1;

/// # Errors
/// `Invalid`, `AlreadyExists`, `NotFound` (namespace), `Forbidden` (admission).
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    mut object: Value,
    env: &mut Env,
) -> Result<Decision, Status> {
    subject.ty.set_defaults(&mut object);
    let unseen = env.scene.is_none() && !env.asker.dry_run && subject.is_stored_as_written();
    if unseen && let Some(managers) = subject.ty.managers_of_new(&mut object, env.writer()) {
        return decide_with(config, subject, snapshot, object, Some(&managers), env);
    }
    subject
        .ty
        .track(None, &mut object, env.writer(), Subresource::Main);
    decide_managed(config, subject, snapshot, object, env)
}

/// [`decide`] for an object whose managers stand.
///
/// # Errors
/// See [`decide`].
pub fn decide_managed(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    object: Value,
    env: &mut Env,
) -> Result<Decision, Status> {
    decide_with(config, subject, snapshot, object, None, env)
}

/// `managers` is what the object lacks as `managedFields`, where nobody who decides looks at them.
fn decide_with(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    mut object: Value,
    managers: Option<&str>,
    env: &mut Env,
) -> Result<Decision, Status> {
    if !object.is_object() {
        return Err(Status::bad_request("the object provided is unrecognized"));
    }
    subject.ty.settle_namespace(&mut object, subject.namespace)?;
    let asker = env.asker.clone();
    let name = meta::name(&object).to_owned();
    let attributes = asker.attributes(subject, Operation::Create, &name);
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut object, env)? {
        return Ok(Decision::Ask(question));
    }
    let versioned = !meta::resource_version(&object).is_empty();
    let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
    let mut attempts = if generated { MAX_NAMES } else { 1 };
    let (prepared, taken) = loop {
        attempts -= 1;
        let admitted = if attempts > 0 {
            object.clone()
        } else {
            std::mem::take(&mut object)
        };
        let prepared = prepare(subject, snapshot, admitted, env)?;
        let taken = snapshot.get(&subject.key(meta::name(&prepared))).is_some();
        if !taken || attempts == 0 {
            break (prepared, taken);
        }
    };
    let (ty, name) = (subject.ty, meta::name(&prepared).to_owned());
    let refusal = if versioned && !attributes.dry_run {
        Some(version_set())
    } else if !taken {
        None
    } else if generated {
        Some(Status::generate_name_conflict(
            ty.qualified(),
            &name,
            RETRY_NAME_SECONDS,
        ))
    } else {
        Some(Status::already_exists(ty.qualified(), &name))
    };
    finish(config, attributes, snapshot, prepared, managers, refusal, env)
}

/// The object as it would be stored: identity, defaults, validation.
fn prepare(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    mut object: Value,
    env: &mut Env,
) -> Result<Value, Status> {
    let (uid, suffix) = (env.uid(), env.name_suffix());
    let context = CreateContext {
        namespace: subject.namespace,
        uid: &uid,
        now: env.now,
        name_suffix: &suffix,
    };
    subject.ty.prepare_create(&mut object, &context)?;
    subject.ty.stamp_create(&mut object, &env.asker.user.requester());
    // The name becomes part of a key: whatever a kind allows, it is one path segment.
    let mut errors = FieldErrors::default();
    match meta::name(&object) {
        "" => errors.required("metadata.name", "name or generateName is required"),
        name => {
            for problem in corten_api::names::path_segment(name) {
                errors.invalid("metadata.name", name, &problem);
            }
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(
            subject.ty.qualified_kind(),
            meta::name(&object),
            &errors,
        ));
    }
    admin_access::on_create(subject, snapshot, &object)?;
    Ok(object)
}

fn version_set() -> Status {
    Status::bad_request("resourceVersion should not be set on objects to be created")
}

/// `refusal`: what the storage has against the object. Admission speaks first, as upstream: who may not write an object hears
/// that, and not whether it is there.
fn finish(
    config: &Config,
    attributes: Attributes<'_>,
    snapshot: &Snapshot,
    mut object: Value,
    managers: Option<&str>,
    refusal: Option<Status>,
    env: &mut Env,
) -> Result<Decision, Status> {
    let (subject, name) = (attributes.subject, meta::name(&object).to_owned());
    let attributes = Attributes {
        name: &name,
        ..attributes
    };
    let key = subject.key(&name);
    let mut preconditions = vec![Precondition::Absent(key.clone())];
    let mut more = Vec::new();
    if refusal.is_none() && subject.ty.plural == "services" && subject.ty.group.is_empty() {
        let records = allocate::create(config, snapshot, &mut object, env)?;
        preconditions.extend(records.preconditions);
        more = records.ops;
    }
    let mut effects = Effects::default();
    if let Some(question) = admission::validate(&attributes, snapshot, &object, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    if let Some(refusal) = refusal {
        env.annotations.append(&mut effects.annotations);
        return Err(refusal);
    }
    if subject.ty.plural == "namespaces" && subject.ty.group.is_empty() {
        more = admission::namespace::contents(config, snapshot, &name, env, &mut preconditions)?;
    }
    let warnings = subject.ty.warnings_on_create(&object);
    if attributes.dry_run {
        let answer = Answered {
            code: StatusCode::CREATED,
            payload: Payload::Value(object),
            warnings,
        };
        let decision = Decision::commit(preconditions, more, answer);
        return Ok(decision.with(effects, env));
    }
    let value = match managers {
        Some(_) => subject.encode_managed(&object, managers),
        None => subject.encode_own(&object, env)?,
    };
    let mut ops = vec![Op::Put {
        key,
        value: value.clone(),
    }];
    ops.append(&mut more);
    let answer = Answered {
        code: StatusCode::CREATED,
        payload: Payload::Stored {
            value: subject.shown(&object, &value),
            at: None,
        },
        warnings,
    };
    Ok(Decision::commit(preconditions, ops, answer).with(effects, env))
}
