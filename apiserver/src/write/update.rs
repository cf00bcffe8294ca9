//! `update`, also of `status`, `finalize` and the other parts that are written like the whole object. Pure.

use corten_api::resource::{Subresource, settle_times};
use corten_api::status::Qualified;
use corten_api::{Status, meta};
use corten_store::{Op, Snapshot};
use http::StatusCode;
use serde_json::Value;

use super::admission::{self, Attributes, Effects, Operation};
use super::{
    Answered, Current, Decision, Env, Payload, Subject, admin_access, allocate, check_name, classes, create,
    delete,
};
use crate::Config;

/// The part of an object a path names, if it is one that is updated like the object.
#[must_use]
pub fn part(subresource: Option<&str>) -> Option<Subresource> {
    match subresource {
        None => Some(Subresource::Main),
        Some("status") => Some(Subresource::Status),
        Some("finalize") => Some(Subresource::Finalize),
        Some("resize") => Some(Subresource::Resize),
        Some("ephemeralcontainers") => Some(Subresource::EphemeralContainers),
        Some("approval") => Some(Subresource::Approval),
        Some(_) => None,
    }
}

/// # Errors
/// `NotFound`, `Conflict` (stale `resourceVersion`, another uid), `Invalid`, `BadRequest` (another name).
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    new: Value,
    part: Subresource,
    env: &mut Env,
) -> Result<Decision, Status> {
    check_name(&new, name)?;
    check_namespace(subject, &new)?;
    match subject.read_own(snapshot, name, env) {
        Ok(current) => replace(config, subject, snapshot, current, name, new, part, env),
        Err(missing) if missing.is_not_found() && part == Subresource::Main && is_made(subject, &new) => {
            let mut new = new;
            meta::set(&mut new, "resourceVersion", Value::Null);
            create::decide(config, subject, snapshot, new, env)
        }
        Err(missing) => Err(missing),
    }
}

/// Whether an update of what does not exist makes it.
fn is_made(subject: Subject<'_>, new: &Value) -> bool {
    subject.ty.create_on_update() && meta::uid(new).is_empty()
}

/// The object's own namespace, if it names one, is the one in the URL.
fn check_namespace(subject: Subject<'_>, new: &Value) -> Result<(), Status> {
    let (own, wanted) = (meta::namespace(new), subject.namespace);
    if own.is_empty() || wanted.is_empty() || own == wanted {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the namespace of the object ({own}) does not match the namespace on the request ({wanted})"
    )))
}

/// Puts `new` in the place of `current` and writes down whose its fields are. Shared with patch.
///
/// # Errors
/// See [`decide`].
#[allow(clippy::too_many_arguments)]
pub fn replace(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    current: Current,
    name: &str,
    mut new: Value,
    part: Subresource,
    env: &mut Env,
) -> Result<Decision, Status> {
    check_name(&new, name)?;
    check_preconditions(subject, &current, &new)?;
    if part == Subresource::Finalize {
        new = finalized(&current.value, &new);
    }
    subject.ty.set_defaults(&mut new);
    subject
        .ty
        .track(Some(&current.value), &mut new, env.writer(), part);
    put(config, subject, snapshot, current, name, new, part, env)
}

/// Puts `new`, whose managers stand, in the place of `current`.
///
/// # Errors
/// See [`decide`].
#[allow(clippy::too_many_arguments)]
pub fn put(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    current: Current,
    name: &str,
    mut new: Value,
    part: Subresource,
    env: &mut Env,
) -> Result<Decision, Status> {
    check_name(&new, name)?;
    check_preconditions(subject, &current, &new)?;
    let asker = env.asker.clone();
    let attributes = Attributes {
        subresource: part.name(),
        old: Some(&current.value),
        ..asker.attributes(subject, Operation::Update, name)
    };
    // A Scale is admitted as such, before and after the object it scales is changed.
    let admitted = env.subresource.is_some();
    if !admitted && let Some(question) = admission::mutate(&attributes, snapshot, &mut new, env)? {
        return Ok(Decision::Ask(question));
    }
    let is_service = subject.ty.group.is_empty() && subject.ty.plural == "services";
    if part != Subresource::Finalize {
        subject.ty.stamp_update(&mut new, &current.value, part, env.now);
        subject.ty.prepare_update(&mut new, &current.value, part)?;
        admin_access::on_update(subject, snapshot, &new, &current.value)?;
        classes::check_default(subject, snapshot, &new, false)?;
    }
    let mut records = allocate::Records::default();
    if is_service && part == Subresource::Main {
        records = allocate::update(config, snapshot, &mut new, &current.value, env)?;
    }
    settle_times(&mut new, &current.value);
    let mut effects = Effects::default();
    if !admitted && let Some(question) = admission::validate(&attributes, snapshot, &new, &mut effects, env)?
    {
        return Ok(Decision::Ask(question));
    }
    let warnings = match part {
        Subresource::Main => subject.ty.warnings_on_update(&new, &current.value),
        _ => Vec::new(),
    };
    let value = subject.encode_own(&new, env)?;
    if delete::is_over(subject, &new) {
        // The last finalizer is gone: this update is the deletion.
        let (preconditions, ops) = delete::removal(subject, snapshot, &current)?;
        let answer = Answered {
            code: StatusCode::OK,
            payload: Payload::Stored {
                value: subject.shown(&new, &value),
                at: None,
            },
            warnings,
        };
        return Ok(Decision::commit(preconditions, ops, answer).with(effects, env));
    }
    let shown = subject.shown(&new, &value);
    let answer = |at| Answered {
        code: StatusCode::OK,
        payload: Payload::Stored {
            value: shown.clone(),
            at,
        },
        warnings: warnings.clone(),
    };
    if value == current.entry.value {
        let unchanged = Decision::Nothing(answer(Some(current.entry.mod_revision.0)));
        return Ok(unchanged.with(effects, env));
    }
    let mut preconditions = vec![current.unchanged()];
    preconditions.extend(records.preconditions);
    let mut ops = vec![Op::Put {
        key: current.key.clone(),
        value: value.clone(),
    }];
    ops.extend(records.ops);
    Ok(Decision::commit(preconditions, ops, answer(None)).with(effects, env))
}

fn check_preconditions(subject: Subject<'_>, current: &Current, new: &Value) -> Result<(), Status> {
    let qualified: Qualified<'_> = subject.ty.qualified();
    let name = meta::name(&current.value);
    let (own, uid) = (meta::uid(&current.value), meta::uid(new));
    if !uid.is_empty() && uid != own {
        let path = std::iter::once(&*subject.ty.plural).chain([subject.namespace, name]);
        let path: Vec<&str> = path.filter(|part| !part.is_empty()).collect();
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {own}",
            path.join("/")
        );
        return Err(Status::conflict(qualified, name, why));
    }
    match meta::resource_version(new) {
        "" | "0" => Ok(()),
        version if version == meta::resource_version(&current.value) => Ok(()),
        version if version.parse::<u64>().is_err() => Err(crate::read::point::parse_revision(version)
            .err()
            .map(Status::bad_request)
            .unwrap_or_else(|| Status::bad_request("metadata.resourceVersion: Invalid value"))),
        _ => Err(Status::modified(qualified, name)),
    }
}

/// `finalize` writes `spec.finalizers` and nothing else.
fn finalized(old: &Value, new: &Value) -> Value {
    let mut object = old.clone();
    let finalizers = new["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if finalizers.is_empty() {
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("finalizers");
        }
    } else {
        object["spec"]["finalizers"] = Value::Array(finalizers);
    }
    object
}
