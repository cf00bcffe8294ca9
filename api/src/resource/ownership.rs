//! Who owns the fields of an object of this type: the writes that track it, and server-side apply.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{FieldValidation, ResourceType, Subresource, registry};
use crate::apply::check;
use crate::apply::creation;
use crate::apply::managers;
use crate::apply::set::Set;
use crate::apply::track::{self, ApplyError, Reset, Versions, Writer};
use crate::schema::view::View;
use crate::{Status, meta, time};

/// Who writes, for the managers of an object's fields.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The `fieldManager` of the request, or what [`managers::from_user_agent`] makes of its client.
    pub manager: &'a str,
    /// Where the part of the object does not tell it: `scale`.
    pub subresource: Option<&'a str>,
    pub now: Timestamp,
}

impl Subresource {
    /// Its name in a path; empty for the object itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Resize => "resize",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }
}

/// The other forms of an object of `0`.
struct Forms<'a>(&'a ResourceType);

impl<'a> Forms<'a> {
    fn other(&self, api_version: &str) -> Option<&'a ResourceType> {
        if api_version == self.0.api_version() {
            return Some(self.0);
        }
        if self.0.type_facts().is_none() {
            // The versions of a custom resource differ in their name alone.
            let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
            return (group == self.0.group).then_some(self.0);
        }
        registry()
            .for_api_version(api_version, &self.0.kind)
            .filter(|other| other.storage() == self.0.storage())
    }
}

impl Versions for Forms<'_> {
    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        let (from, form) = (self.other(from)?, self.other(to)?);
        let mut object = object.clone();
        from.to_stored(&mut object);
        form.from_stored(&mut object);
        let map = object.as_object_mut()?;
        map.insert("apiVersion".into(), to.into());
        Some(object)
    }

    fn view(&self, api_version: &str) -> Option<View<'_>> {
        self.other(api_version).map(ResourceType::view)
    }
}

impl ResourceType {
    /// Fields that a write through `part` leaves as they are, so that nobody comes to own them by it.
    pub fn reset_fields(&self, part: Subresource) -> Reset {
        let fields = |paths: &[&[&str]]| {
            let mut set = Set::default();
            for path in paths {
                set.insert_fields(path);
            }
            Reset::Fields(set)
        };
        let custom = self.type_facts().is_none();
        match part {
            Subresource::Main if self.subresource("status").is_some() => fields(&[&["status"]]),
            Subresource::Main => Reset::default(),
            Subresource::Status if custom => fields(&[&["metadata"], &["spec"]]),
            Subresource::Status => match (&*self.group, &*self.plural) {
                ("", "pods") => fields(&[
                    &["spec"],
                    &["metadata", "deletionTimestamp"],
                    &["metadata", "ownerReferences"],
                ]),
                ("apps", "deployments") => fields(&[&["spec"], &["metadata", "labels"]]),
                ("apiextensions.k8s.io", _) => fields(&[&["spec"], &["metadata"]]),
                ("networking.k8s.io" | "certificates.k8s.io" | "flowcontrol.apiserver.k8s.io", _) => {
                    fields(&[&["spec"], &["metadata"]])
                }
                _ => fields(&[&["spec"]]),
            },
            Subresource::Approval | Subresource::Finalize => Reset::default(),
            Subresource::Resize => Reset::AllBut(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
                &["spec", "resources"],
            ]),
            Subresource::EphemeralContainers => Reset::AllBut(&[&["spec", "ephemeralContainers"]]),
        }
    }

    /// The kind's object with nothing set.
    fn zero(&self) -> Value {
        let mut zero = self
            .type_facts()
            .map_or_else(|| Value::Object(Map::new()), |facts| facts.zero().clone());
        if let Some(map) = zero.as_object_mut() {
            map.insert("apiVersion".into(), self.api_version().into());
            map.insert("kind".into(), (&*self.kind).into());
        }
        zero
    }

    /// Takes the managers of a new object, made by `by`, for itself: the text of `metadata.managedFields`, which the object then lacks.
    /// `None`, and the object as it was, when the client gave managers or only [`ResourceType::track`] can tell.
    pub fn managers_of_new(&self, new: &mut Value, by: By<'_>) -> Option<String> {
        let metadata = meta::metadata_mut(new);
        if metadata
            .get("managedFields")
            .is_some_and(|given| !given.is_null())
        {
            return None;
        }
        metadata.remove("managedFields");
        // Without its version and kind, which are nobody's.
        let nothing = Value::Object(Map::new());
        let zero = self.type_facts().map_or(&nothing, |facts| facts.zero());
        self.as_writer(by, Subresource::Main, |writer| {
            creation::managers(writer, zero, new)
        })
    }

    /// Writes down whose fields the ones are that `new` changes of `live` (nothing for a create). Managers that the
    /// client gave with the object stand, where they make sense; an object without managers gets none by updates.
    pub fn track(&self, live: Option<&Value>, new: &mut Value, by: By<'_>, part: Subresource) {
        let given = meta::metadata_mut(new)
            .remove("managedFields")
            .unwrap_or_default();
        let mut known = decoded(live);
        if part == Subresource::Main && by.subresource.is_none() && !given.is_null() {
            if live.is_some_and(|live| live["metadata"]["managedFields"] == given) {
                // Sent back as they were.
            } else if managers::is_reset(&given) {
                known.clear();
            } else if let Ok(given) = managers::decode(&given)
                && !given.is_empty()
            {
                known = given;
            }
        }
        if known.is_empty() && live.is_some() {
            return;
        }
        let zero = live.is_none().then(|| self.zero());
        // That the live object has managers and the new one none yet is no matter: nobody manages them.
        let live = live.or(zero.as_ref()).unwrap_or(&Value::Null);
        let known = self.as_writer(by, part, |writer| track::update(writer, live, new, known));
        meta::set(new, "managedFields", managers::encode(known));
    }

    fn as_writer<T>(&self, by: By<'_>, part: Subresource, act: impl FnOnce(&Writer<'_>) -> T) -> T {
        let (api_version, now) = (self.api_version(), time::format_time(by.now));
        act(&Writer {
            view: self.view(),
            api_version: &api_version,
            versions: &Forms(self),
            name: by.manager,
            subresource: by.subresource.unwrap_or(part.name()),
            now: &now,
            reset: &self.reset_fields(part),
        })
    }

    /// Merges an applied configuration into `live` (nothing: the object is made). The result is in canonical form
    /// and has its managers.
    ///
    /// # Errors
    /// 400 for another kind or given managers, 409 with every conflict unless `force`, 500 with upstream's text for a
    /// configuration that does not fit the kind.
    pub fn server_side_apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        by: By<'_>,
        part: Subresource,
        force: bool,
    ) -> Result<Value, Status> {
        let (api_version, kind) = (meta::api_version(config), meta::kind(config));
        if (api_version, kind) != (self.api_version().as_str(), &*self.kind) {
            return Err(Status::bad_request(format!(
                "invalid object type: {}",
                gvk(api_version, kind)
            )));
        }
        if config["metadata"]
            .get("managedFields")
            .is_some_and(|given| !given.is_null())
        {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        let shown = |object: &Value| {
            format!(
                "({}/{}; {})",
                meta::namespace(object),
                meta::name(object),
                gvk(api_version, kind)
            )
        };
        let problems = check::check(self.view(), config);
        if !problems.is_empty() {
            return Err(unknown(format!(
                "failed to create typed patch object {}: {}",
                shown(config),
                check::text(&problems)
            )));
        }
        let known = match live.map(|live| &live["metadata"]["managedFields"]) {
            None => Vec::new(),
            Some(list) => managers::decode(list)
                .map_err(|error| unknown(format!("failed to decode managed fields: {error}")))?,
        };
        let zero = self.zero();
        let live = without_managers(live.unwrap_or(&zero));
        self.as_writer(by, part, |writer| {
            let (merged, known) =
                track::apply(writer, &live, &zero, known, config, force).map_err(|error| match error {
                    ApplyError::Conflicts(conflicts) => track::conflict_status(conflicts),
                    ApplyError::Failed(text) => unknown(text),
                })?;
            let mut object = self
                .conform(&merged, FieldValidation::Ignore)
                .map_err(|misfit| {
                    unknown(format!(
                        "failed to convert new object {} to proper version: unable to convert unstructured object to {}: {}",
                        shown(config),
                        gvk(api_version, kind),
                        misfit.text
                    ))
                })?
                .value;
            track::update_last_applied(writer, &mut object, config);
            meta::set(&mut object, "managedFields", managers::encode(known));
            Ok(object)
        })
    }
}

/// Keeps the old times when nothing but times of managers differs: such a write is none.
pub fn settle_times(new: &mut Value, old: &Value) {
    let (list, known) = (
        &new["metadata"]["managedFields"],
        &old["metadata"]["managedFields"],
    );
    let Some(settled) = managers::with_times_of(list, known) else {
        return;
    };
    let fresh = meta::metadata_mut(new).insert("managedFields".into(), settled);
    if new != old
        && let Some(fresh) = fresh
    {
        meta::set(new, "managedFields", fresh);
    }
}

fn decoded(live: Option<&Value>) -> Vec<managers::Manager> {
    live.and_then(|live| managers::decode(&live["metadata"]["managedFields"]).ok())
        .unwrap_or_default()
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// As Go prints a group, version and kind.
fn gvk(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}

/// An error upstream has no reason for.
fn unknown(message: String) -> Status {
    Status::failure(500, "", message)
}

/// The object an apply sends, from YAML or JSON already read; anything but a map is refused.
///
/// # Errors
/// 400 with upstream's text.
pub fn configuration(body: Value) -> Result<Value, Status> {
    match body {
        Value::Object(_) => Ok(body),
        Value::Null => Ok(json!({})),
        other => Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            crate::schema::decode::word(&other)
        ))),
    }
}
