//! Server-side apply: the object a configuration makes, stored like any other write. Pure.
//!
//! Also what a request says about managers of fields: `fieldManager`, `force`, the client's name.

use corten_api::apply::managers;
use corten_api::field::FieldErrors;
use corten_api::resource::{Subresource, configuration};
use corten_api::status::Qualified;
use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::{Decision, Env, Subject, create, update};
use crate::Config;
use crate::negotiate;
use crate::query::Query;

/// Who manages what a request writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerOptions {
    pub manager: String,
    /// Take over what other managers have set otherwise.
    pub force: bool,
}

/// Reads `fieldManager` and `force`. `kind` names the options in errors: `CreateOptions`.
///
/// # Errors
/// `Invalid`: a manager's name that is too long or not printable, an apply without one, `force` elsewhere.
pub fn options(
    query: &Query,
    kind: &str,
    is_apply: bool,
    user_agent: Option<&str>,
) -> Result<ManagerOptions, Status> {
    let mut errors = FieldErrors::default();
    let given = query.get("fieldManager").unwrap_or_default();
    if is_apply && given.is_empty() {
        errors.required("fieldManager", "is required for apply patch");
    }
    if !is_apply && kind == "PatchOptions" && query.get("force").is_some() {
        errors.forbidden("force", "may not be specified for non-apply patch");
    }
    managers::validate_name("fieldManager", given, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(Qualified::new("meta.k8s.io", kind), "", &errors));
    }
    let manager = if given.is_empty() {
        managers::from_user_agent(user_agent.unwrap_or_default())
    } else {
        given.to_owned()
    };
    Ok(ManagerOptions {
        manager,
        force: is_apply && query.is_true("force"),
    })
}

/// The configuration in the body of an apply, YAML or JSON.
///
/// # Errors
/// `BadRequest` for a body that is no map.
pub fn read(body: &[u8]) -> Result<Value, Status> {
    let bad = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
    let json = if body.trim_ascii_start().starts_with(b"{")
        && let Ok(value) = corten_api::schema::decode::parse_json(body)
    {
        return configuration(value);
    } else {
        negotiate::yaml_to_json(body)
            .map_err(|error| bad(format!("error converting YAML to JSON: yaml: {error}")))?
    };
    let value = corten_api::schema::decode::parse_json(&json).map_err(|error| bad(error.to_string()))?;
    configuration(value)
}

/// # Errors
/// Conflicts with other managers, a configuration that does not fit, and those of create and update.
#[allow(clippy::too_many_arguments)]
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    wanted: &Value,
    force: bool,
    part: Subresource,
    dry_run: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = match subject.read(snapshot, name) {
        Ok(current) => Some(current),
        Err(missing) if missing.is_not_found() && part == Subresource::Main => None,
        Err(other) => return Err(other),
    };
    let live = current.as_ref().map(|current| &current.value);
    let object = subject
        .ty
        .server_side_apply(live, wanted, env.writer(), part, force)?;
    let Some(current) = current else {
        return made(config, subject, snapshot, name, object, dry_run, env);
    };
    update::put(config, subject, snapshot, current, name, object, part, env)
}

fn made(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    object: Value,
    dry_run: bool,
    env: &mut Env,
) -> Result<Decision, Status> {
    let uid = meta::uid(&object);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(subject.ty.qualified(), name, why));
    }
    super::check_name(&object, name)?;
    create::decide_managed(config, subject, snapshot, &object, dry_run, env)
}

/// What a Scale's configuration says about the object it scales.
///
/// # Errors
/// `BadRequest` for another kind, given managers or replicas that are no number.
pub fn of_scale(subject: Subject<'_>, scale: &Value) -> Result<Value, Status> {
    let (api_version, kind) = (meta::api_version(scale), meta::kind(scale));
    if (api_version, kind) != ("autoscaling/v1", "Scale") {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(Status::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={kind}"
        )));
    }
    let metadata = scale["metadata"].as_object();
    if metadata
        .and_then(|m| m.get("managedFields"))
        .is_some_and(|given| !given.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut object =
        json!({"apiVersion": subject.ty.api_version(), "kind": &*subject.ty.kind, "metadata": {}});
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        if let Some(value) = metadata.and_then(|m| m.get(field)) {
            object["metadata"][field] = value.clone();
        }
    }
    if let Some(replicas) = scale["spec"].get("replicas") {
        object["spec"] = json!({ "replicas": replicas });
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, kind: &str, is_apply: bool, want: Result<(&str, bool), &str>) {
        let got = options(&Query::parse(Some(query)), kind, is_apply, Some("kubectl/v1.33"));
        assert_eq!(
            got.as_ref()
                .map(|o| (o.manager.as_str(), o.force))
                .map_err(|s| s.message.as_str()),
            want,
            "{query}"
        );
    }

    #[test]
    fn who_manages() {
        check("", "CreateOptions", false, Ok(("kubectl", false)));
        check(
            "fieldManager=me&force=true",
            "PatchOptions",
            true,
            Ok(("me", true)),
        );
        check(
            "",
            "PatchOptions",
            true,
            Err(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ),
        );
        check(
            "force=false",
            "PatchOptions",
            false,
            Err(
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ),
        );
        check(
            "fieldManager=a%0Ab",
            "UpdateOptions",
            false,
            Err(
                "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\nb\": invalid character U+000A (at position 1)",
            ),
        );
    }

    #[test]
    fn bodies() {
        assert_eq!(read(b"a: 1\n"), Ok(json!({"a": 1})));
        assert_eq!(read(b"{\"a\": 1}"), Ok(json!({"a": 1})));
        assert_eq!(read(b"- 1\n").map_err(|s| s.code), Err(400));
    }
}
