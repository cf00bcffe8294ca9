//! Server-side apply: the object a configuration makes, stored like any other write. Pure.
//!
//! Also what a request says about managers of fields: `fieldManager`, `force`, the client's name.

use corten_api::apply::managers;
use corten_api::field::FieldErrors;
use corten_api::resource::{Subresource, configuration};
use corten_api::status::Qualified;
use corten_api::{FieldValidation, Status, meta};
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

/// The configuration in the body of an apply, YAML or JSON, and warnings about it.
///
/// # Errors
/// `BadRequest` for a body that is no map, or (Strict) has a key twice.
pub fn read(body: &[u8], validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    let bad = |error: String| Status::bad_request(format!("error decoding YAML: {error}"));
    if body.trim_ascii_start().starts_with(b"{")
        && let Ok(value) = corten_api::schema::decode::parse_json(body)
        && (validation == FieldValidation::Ignore || !unique::repeats(body))
    {
        return Ok((configuration(value)?, Vec::new()));
    }
    let (value, repeated) = negotiate::lenient_yaml(body)
        .map_err(|error| bad(format!("error converting YAML to JSON: yaml: {error}")))?;
    let value = configuration(value)?;
    match (repeated, validation) {
        (None, _) | (_, FieldValidation::Ignore) => Ok((value, Vec::new())),
        (Some(note), FieldValidation::Warn) => Ok((value, vec![note.replace("\n ", "")])),
        (Some(note), FieldValidation::Strict) => {
            Err(Status::bad_request(format!("error strict decoding YAML: {note}")))
        }
    }
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
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = match subject.read_own(snapshot, name, env) {
        Ok(current) => Some(current),
        Err(missing) if missing.is_not_found() && part == Subresource::Main => None,
        Err(other) => return Err(other),
    };
    let live = current.as_ref().map(|current| &current.value);
    let object = subject
        .ty
        .server_side_apply(live, wanted, env.writer(), part, force)?;
    let Some(current) = current else {
        return made(config, subject, snapshot, name, object, env);
    };
    update::put(config, subject, snapshot, current, name, object, part, env)
}

fn made(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    object: Value,
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
    create::decide_managed(config, subject, snapshot, object, env)
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

/// Whether a JSON document has a key twice in one object.
mod unique {
    use std::collections::HashSet;
    use std::fmt;

    use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

    /// True also for what is no JSON or nests too deep: the YAML reader then says what is wrong.
    pub fn repeats(body: &[u8]) -> bool {
        Walk.deserialize(&mut serde_json::Deserializer::from_slice(body))
            .is_err()
    }

    struct Walk;

    impl<'de> DeserializeSeed<'de> for Walk {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    impl<'de> Visitor<'de> for Walk {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            while list.next_element_seed(Walk)?.is_some() {}
            Ok(())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some(key) = map.next_key::<String>()? {
                if !seen.insert(key) {
                    return Err(A::Error::custom("repeated key"));
                }
                map.next_value_seed(Walk)?;
            }
            Ok(())
        }
    }
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
        use FieldValidation::{Ignore, Strict, Warn};
        let check = |body: &str, validation, want: Result<(Value, &[&str]), &str>| {
            let want = want
                .map(|(value, warnings)| (value, warnings.iter().map(ToString::to_string).collect()))
                .map_err(String::from);
            assert_eq!(
                read(body.as_bytes(), validation).map_err(|s| s.message),
                want,
                "{body}"
            );
        };
        check("a: 1\n", Strict, Ok((json!({"a": 1}), &[])));
        check("{\"a\": 1}", Strict, Ok((json!({"a": 1}), &[])));
        check("", Strict, Ok((json!({}), &[])));
        let note =
            "error converting YAML to JSON: yaml: unmarshal errors: line 2: key \"a\" already set in map";
        let strict = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 2: key \"a\" already set in map";
        for body in ["a: 1\na: 2\n", "{\"a\": 1,\n\"a\": 2}"] {
            check(body, Warn, Ok((json!({"a": 2}), &[note])));
            check(body, Ignore, Ok((json!({"a": 2}), &[])));
            check(body, Strict, Err(strict));
        }
        assert_eq!(read(b"- 1\n", Warn).map_err(|s| s.code), Err(400));
    }
}
