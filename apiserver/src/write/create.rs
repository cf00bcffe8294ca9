//! `create`. Pure: what a new object becomes and which writes make it, given a snapshot.

use corten_api::field::FieldErrors;
use corten_api::resource::{CreateContext, Subresource};
use corten_api::{Status, meta};
use corten_store::{Op, Precondition, Snapshot};
use http::StatusCode;
use serde_json::Value;

use super::{Answered, Decision, Env, Payload, Subject, admin_access, admission, allocate, classes};
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
    decoded: &Value,
    dry_run: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let mut object = decoded.clone();
    subject.ty.set_defaults(&mut object);
    subject
        .ty
        .track(None, &mut object, env.writer(), Subresource::Main);
    decide_managed(config, subject, snapshot, &object, dry_run, env)
}

/// [`decide`] for an object whose managers stand.
///
/// # Errors
/// See [`decide`].
pub fn decide_managed(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    decoded: &Value,
    dry_run: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let generated = meta::name(decoded).is_empty() && !meta::generate_name(decoded).is_empty();
    let attempts = if generated { MAX_NAMES } else { 1 };
    let mut taken = String::new();
    for _ in 0..attempts {
        let object = prepare(subject, snapshot, decoded, env)?;
        let key = subject.key(meta::name(&object));
        if snapshot.get(&key).is_none() {
            return finish(config, subject, snapshot, object, dry_run, env);
        }
        taken = meta::name(&object).to_owned();
    }
    Err(if generated {
        Status::generate_name_conflict(subject.ty.qualified(), &taken, RETRY_NAME_SECONDS)
    } else {
        Status::already_exists(subject.ty.qualified(), &taken)
    })
}

/// The object as it would be stored: identity, defaults, admission, validation.
fn prepare(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    decoded: &Value,
    env: &mut Env,
) -> Result<Value, Status> {
    let mut object = decoded.clone();
    admission::mutate_create(subject, &mut object);
    let classes = classes::mutate_create(subject, snapshot, &mut object);
    let (uid, suffix) = (env.uid(), env.name_suffix());
    let context = CreateContext {
        namespace: subject.namespace,
        uid: &uid,
        now: env.now,
        name_suffix: &suffix,
    };
    let prepared = subject.ty.prepare_create(&mut object, &context);
    // A missing namespace is told before what is wrong with the object, as upstream's admission comes first.
    admission::namespace_of(subject, snapshot, &object)?;
    classes?;
    prepared?;
    subject.ty.stamp_create(&mut object, &env.requester);
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
    admission::validate_create(subject, snapshot, &object)?;
    admin_access::on_create(subject, snapshot, &object)?;
    Ok(object)
}

fn finish(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    mut object: Value,
    dry_run: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let key = subject.key(meta::name(&object));
    let mut preconditions = vec![Precondition::Absent(key.clone())];
    preconditions.extend(admission::namespace_of(subject, snapshot, &object)?);
    let mut more = Vec::new();
    if subject.ty.plural == "services" && subject.ty.group.is_empty() {
        let records = allocate::create(config, snapshot, &mut object, env)?;
        preconditions.extend(records.preconditions);
        more = records.ops;
    }
    if subject.ty.plural == "namespaces" && subject.ty.group.is_empty() {
        more = admission::namespace_contents(config, snapshot, meta::name(&object), env, &mut preconditions)?;
    }
    let warnings = subject.ty.warnings_on_create(&object);
    if dry_run {
        let answer = Answered {
            code: StatusCode::CREATED,
            payload: Payload::Value(object),
            warnings,
        };
        return Ok(Decision::Commit(
            corten_store::Txn {
                preconditions,
                ops: more,
            },
            answer,
        ));
    }
    let value = subject.encode(&object);
    let mut ops = vec![Op::Put {
        key,
        value: value.clone(),
    }];
    ops.append(&mut more);
    let payload = Payload::Stored { value, at: None };
    Ok(Decision::commit(
        preconditions,
        ops,
        Answered {
            code: StatusCode::CREATED,
            payload,
            warnings,
        },
    ))
}
