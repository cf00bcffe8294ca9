//! `delete` and `deletecollection`: now, gracefully, or once all finalizers are gone. Pure.
//!
//! Source: Kubernetes `rest.BeforeDelete`, `Store.Delete` and `deletionFinalizersForGarbageCollection`.

use corten_api::options::{DeleteOptions, Propagation};
use corten_api::{Status, meta};
use corten_store::{Op, Precondition, Snapshot};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::admission::{self, Attributes, Effects, Operation};
use super::{Answered, Current, Decision, Env, Payload, Subject, allocate};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose deletion answers with the object. Source: `ReturnDeletedObject` in Kubernetes' storages.
const ANSWERS_OBJECT: [&str; 8] = [
    "namespaces",
    "pods",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "resourcequotas",
];
/// Longest grace period. Keeps `now + grace` a time.
const MAX_GRACE_SECONDS: i64 = 10 * 365 * 24 * 3600;

fn core(subject: Subject<'_>, plural: &str) -> bool {
    subject.ty.group.is_empty() && subject.ty.plural == plural
}

/// # Errors
/// `NotFound`, `Conflict` (preconditions), `Forbidden` (namespaces that always exist).
pub fn decide(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    options: &DeleteOptions,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = subject.read_own(snapshot, name, env)?;
    check_preconditions(subject, &current.value, options)?;
    let (asker, mut effects) = (env.asker.clone(), Effects::default());
    let attributes = Attributes {
        old: Some(&current.value),
        ..asker.attributes(subject, Operation::Delete, name)
    };
    let mut none = Value::Null;
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut none, env)? {
        return Ok(Decision::Ask(question));
    }
    if let Some(question) = admission::validate(&attributes, snapshot, &none, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    Ok(of_current(subject, snapshot, current, options, env)?.with(effects, env))
}

/// The deletion of an object that was read and may have been changed since: the change is written with the mark.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn of_current(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    current: Current,
    options: &DeleteOptions,
    env: &mut Env,
) -> Result<Decision, Status> {
    let now = env.now;
    let name = meta::name(&current.value);
    let known = match &*subject.ty.plural {
        "customresourcedefinitions" => crate::custom::marked_for_deletion(&current.value, now),
        _ => current.value.clone(),
    };
    let marked = mark(subject, &known, options, now);
    if is_over(subject, &marked) || !meta::is_deleting(&marked) {
        let (preconditions, ops) = removal(subject, snapshot, &current)?;
        let payload = if ANSWERS_OBJECT.contains(&&*subject.ty.plural) && subject.ty.group.is_empty() {
            Payload::Stored {
                value: subject.encode_own(&marked, env)?,
                at: None,
            }
        } else {
            Payload::Status(Status::success(
                subject.ty.qualified(),
                name,
                meta::uid(&current.value),
            ))
        };
        let answer = Answered {
            code: StatusCode::OK,
            payload,
            warnings: Vec::new(),
        };
        return Ok(Decision::commit(preconditions, ops, answer));
    }
    let value = subject.encode_own(&marked, env)?;
    let shown = subject.shown(&marked, &value);
    // Source: Kubernetes `DeleteResource`: only who asked for dependents to go in the old way is told to wait.
    let waiting = match options.orphan_dependents {
        Some(false) => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let answer = |at| Answered {
        code: waiting,
        payload: Payload::Stored {
            value: shown.clone(),
            at,
        },
        warnings: Vec::new(),
    };
    if value == current.entry.value {
        return Ok(Decision::Nothing(answer(Some(current.entry.mod_revision.0))));
    }
    let ops = vec![Op::Put {
        key: current.key.clone(),
        value: value.clone(),
    }];
    Ok(Decision::commit(vec![current.unchanged()], ops, answer(None)))
}

/// # Errors
/// `Conflict` when the object is not the one the options mean.
pub fn check_preconditions(
    subject: Subject<'_>,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let failed = |what: &str, wanted: &str, own: &str, then: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({own}). The object might have been {then}"
        );
        Err(Status::conflict(
            subject.ty.qualified_kind(),
            meta::name(object),
            why,
        ))
    };
    match &options.precondition_uid {
        Some(uid) if uid != meta::uid(object) => {
            return failed("UID", uid, meta::uid(object), "deleted and then recreated");
        }
        _ => {}
    }
    match &options.precondition_resource_version {
        Some(version) if version != meta::resource_version(object) => failed(
            "ResourceVersion",
            version,
            meta::resource_version(object),
            "modified",
        ),
        _ => Ok(()),
    }
}

/// The object after the request to delete it: marked if it has to wait for something, unmarked if it can go at once.
fn mark(subject: Subject<'_>, object: &Value, options: &DeleteOptions, now: Timestamp) -> Value {
    let mut object = object.clone();
    adjust_finalizers(&mut object, options.propagation);
    let grace = if core(subject, "pods") {
        pod_grace(&object, options)
    } else {
        0
    };
    if meta::is_deleting(&object) {
        shorten(&mut object, options.grace_period_seconds.map(|_| grace));
        return object;
    }
    let waits =
        grace > 0 || meta::finalizers(&object).next().is_some() || has_spec_finalizers(subject, &object);
    if !waits {
        return object;
    }
    let grace = grace.clamp(0, MAX_GRACE_SECONDS);
    let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    meta::set_deletion(&mut object, at, grace);
    if meta::generation(&object) > 0 {
        let next = meta::generation(&object) + 1;
        meta::set(&mut object, "generation", next.into());
    }
    if core(subject, "namespaces") {
        meta::set(&mut object, "deletionGracePeriodSeconds", Value::Null);
        object["status"]["phase"] = "Terminating".into();
    }
    object
}

/// Another delete of an object that is already going can only bring its end nearer.
fn shorten(object: &mut Value, grace: Option<i64>) {
    let (Some(grace), Some(before), Some(at)) = (
        grace,
        meta::deletion_grace_period_seconds(object),
        meta::deletion_timestamp(object),
    ) else {
        return;
    };
    if grace < before {
        let earlier = at
            .checked_sub(SignedDuration::from_secs(before - grace))
            .unwrap_or(at);
        meta::set_deletion(object, earlier, grace);
    }
}

/// Seconds a Pod is given. Source: Kubernetes `podStrategy.CheckGracefulDelete`.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let spec = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let mut grace = options.grace_period_seconds.or(spec).unwrap_or(30);
    if grace < 0 {
        grace = 1; // upstream reads a negative value as "as soon as possible"
    }
    let unbound = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unbound || ended { 0 } else { grace }
}

fn adjust_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let before: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    let mut after: Vec<String> = before
        .iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .cloned()
        .collect();
    after.extend(wanted.map(str::to_owned));
    if after != before {
        meta::set_finalizers(object, after);
    }
}

fn has_spec_finalizers(subject: Subject<'_>, object: &Value) -> bool {
    core(subject, "namespaces")
        && object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
}

/// Whether an object that was marked has nothing left to wait for.
#[must_use]
pub fn is_over(subject: Subject<'_>, object: &Value) -> bool {
    meta::is_deleting(object)
        && meta::deletion_grace_period_seconds(object).unwrap_or(0) == 0
        && meta::finalizers(object).next().is_none()
        && !has_spec_finalizers(subject, object)
}

/// The writes that remove an object and what was recorded for it.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn removal(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    current: &Current,
) -> Result<(Vec<Precondition>, Vec<Op>), Status> {
    let mut preconditions = vec![current.unchanged()];
    let mut ops = vec![Op::Delete {
        key: current.key.clone(),
    }];
    if core(subject, "services") {
        let records = allocate::release(snapshot, &current.value)?;
        preconditions.extend(records.preconditions);
        ops.extend(records.ops);
    }
    Ok((preconditions, ops))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::registry;
    use serde_json::json;

    /// `want`: `gone`, or `grace,finalizers` of what stays.
    #[track_caller]
    fn check(plural: &str, object: Value, options: &DeleteOptions, want: &str) {
        let ty = registry().lookup("", "v1", plural).expect("built in");
        let subject = Subject { ty, namespace: "a" };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let marked = mark(subject, &object, options, now);
        let got = if is_over(subject, &marked) || !meta::is_deleting(&marked) {
            "gone".to_owned()
        } else {
            let finalizers: Vec<&str> = meta::finalizers(&marked).collect();
            format!(
                "{},{}",
                meta::deletion_grace_period_seconds(&marked).unwrap_or(-1),
                finalizers.join("+")
            )
        };
        assert_eq!(got, want, "{object}");
    }

    #[test]
    fn pods_go_gracefully() {
        let none = DeleteOptions::default();
        let grace = |seconds| DeleteOptions {
            grace_period_seconds: Some(seconds),
            ..DeleteOptions::default()
        };
        let bound =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        check("pods", bound.clone(), &none, "7,");
        check("pods", bound.clone(), &grace(3), "3,");
        check("pods", bound.clone(), &grace(0), "gone");
        check(
            "pods",
            json!({"metadata": {"name": "p"}, "spec": {}}),
            &none,
            "gone",
        );
        let ended =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
        check("pods", ended, &none, "gone");
        let mut going = bound;
        meta::set_deletion(&mut going, "2026-01-01T00:00:30Z".parse().expect("time"), 30);
        check("pods", going.clone(), &none, "30,");
        check("pods", going.clone(), &grace(60), "30,");
        check("pods", going.clone(), &grace(5), "5,");
        check("pods", going, &grace(0), "gone");
    }

    #[test]
    fn finalizers_and_propagation() {
        let with = |propagation| DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let plain = json!({"metadata": {"name": "c"}});
        check("configmaps", plain.clone(), &DeleteOptions::default(), "gone");
        check(
            "configmaps",
            plain.clone(),
            &with(Propagation::Background),
            "gone",
        );
        check(
            "configmaps",
            plain.clone(),
            &with(Propagation::Foreground),
            "0,foregroundDeletion",
        );
        check("configmaps", plain, &with(Propagation::Orphan), "0,orphan");
        let held = json!({"metadata": {"name": "c", "finalizers": ["x/y", "orphan"]}});
        check(
            "configmaps",
            held.clone(),
            &DeleteOptions::default(),
            "0,x/y+orphan",
        );
        check(
            "configmaps",
            held,
            &with(Propagation::Foreground),
            "0,x/y+foregroundDeletion",
        );
        let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
        check("namespaces", namespace, &DeleteOptions::default(), "-1,");
    }
}
