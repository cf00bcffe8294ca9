//! Whose fields a write takes, and what an apply makes of an object.
//!
//! Every write goes through [`update`] or [`apply`], before admission and before the kind resets what the path may
//! not change; what it resets is not owned, which [`Reset`] says.

use serde_json::Value;

use super::check;
use super::compare::{Comparison, compare};
use super::extract::fields_of;
use super::managers::{self, BEFORE_FIRST_APPLY, Manager, Operation};
use super::merge::merge;
use super::prune::without;
use super::set::{Element, Set};
use crate::schema::view::View;
use crate::status::{StatusCause, StatusDetails};
use crate::{Status, meta};

/// Fields a path does not write; nobody comes to own them through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reset {
    /// These and all below them.
    Fields(Set),
    /// Everything but what these paths lead to; `*` stands for any step.
    AllBut(&'static [&'static [&'static str]]),
}

impl Default for Reset {
    fn default() -> Self {
        Self::Fields(Set::default())
    }
}

impl Reset {
    fn filter(&self, mut set: Set) -> Set {
        match self {
            Self::Fields(fields) => {
                set.subtract_recursive(fields);
                set
            }
            Self::AllBut(patterns) => {
                let mut kept = Set::default();
                for pattern in *patterns {
                    kept = kept.union(&set.matching(pattern));
                }
                kept
            }
        }
    }

    fn filter_all(&self, all: Comparison) -> Comparison {
        Comparison {
            added: self.filter(all.added),
            modified: self.filter(all.modified),
            removed: self.filter(all.removed),
        }
    }
}

/// The other versions of an object.
pub trait Versions {
    /// `object` in another version; `None` when there is no such version (any more).
    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value>;

    /// The schema of a version.
    fn view(&self, api_version: &str) -> Option<View<'_>>;
}

/// Who writes, and how the object is seen.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub view: View<'a>,
    pub api_version: &'a str,
    pub versions: &'a dyn Versions,
    /// Name of the manager; empty is `unknown`.
    pub name: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// RFC 3339 with seconds.
    pub now: &'a str,
    pub reset: &'a Reset,
}

impl Writer<'_> {
    fn entry(&self, name: &str, operation: Operation, fields: Set) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown" } else { name }.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: Some(self.now.into()),
            fields,
        }
    }
}

/// Fields of the system, which nobody manages.
pub(super) fn system_fields() -> &'static Set {
    static SYSTEM: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| {
        let mut set = Set::default();
        for field in ["apiVersion", "kind", "metadata"] {
            set.insert_fields(&[field]);
        }
        for field in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            set.insert_fields(&["metadata", field]);
        }
        set
    });
    &SYSTEM
}

/// Another manager's field that an apply would change.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    pub manager: Manager,
    /// The fields in question.
    pub fields: Set,
}

/// Why an apply was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum ApplyError {
    Conflicts(Vec<Conflict>),
    Failed(String),
}

/// The managers of `new` when it takes the place of `live` by an update; both without `managedFields`. `live` is the
/// zero object of the kind for a create.
pub fn update(writer: &Writer<'_>, live: &Value, new: &Value, managers: Vec<Manager>) -> Vec<Manager> {
    take(writer, writer.name, live, new, managers)
}

fn take(writer: &Writer<'_>, name: &str, live: &Value, new: &Value, managers: Vec<Manager>) -> Vec<Manager> {
    let mut managers = reconcile(writer, managers);
    let changes = writer.reset.filter_all(compare(writer.view, live, new));
    give_up(writer, live, new, &changes, &mut managers, None, true).unwrap_or_default();
    let mut own = changes.added;
    own.add(changes.modified);
    own.subtract(system_fields());
    if !own.is_empty() {
        let mut fresh = writer.entry(name, Operation::Update, own);
        match managers.iter().position(|m| m.is(&fresh)) {
            Some(at) => {
                fresh.fields = fresh.fields.union(&managers[at].fields);
                managers[at] = fresh;
            }
            None => managers.push(fresh),
        }
    }
    managers::cap(&mut managers);
    managers
}

/// Entries of versions that are gone go; sets follow the schema.
fn reconcile(writer: &Writer<'_>, managers: Vec<Manager>) -> Vec<Manager> {
    managers
        .into_iter()
        .filter_map(|mut manager| {
            let view = view_of(writer, &manager.api_version)?;
            manager.fields.reconcile(view);
            Some(manager)
        })
        .collect()
}

fn view_of<'a>(writer: &Writer<'a>, api_version: &str) -> Option<View<'a>> {
    if api_version == writer.api_version {
        return Some(writer.view);
    }
    writer.versions.view(api_version)
}

fn converted(writer: &Writer<'_>, object: &Value, from: &str, to: &str) -> Option<Value> {
    if from == to {
        return Some(object.clone());
    }
    writer.versions.convert(object, from, to)
}

/// Takes from every manager but `own` what the write changes or removes.
fn give_up(
    writer: &Writer<'_>,
    live: &Value,
    new: &Value,
    changes: &Comparison,
    managers: &mut Vec<Manager>,
    own: Option<&Manager>,
    force: bool,
) -> Result<(), Vec<Conflict>> {
    // The changes as other versions see them; `None` where a version is gone.
    let mut versions: Vec<(String, Option<Comparison>)> = Vec::new();
    for manager in managers.iter() {
        let version = manager.api_version.as_str();
        if version == writer.api_version || versions.iter().any(|(known, _)| known == version) {
            continue;
        }
        let in_version = |object: &Value| converted(writer, object, writer.api_version, version);
        let seen = match (in_version(live), in_version(new), view_of(writer, version)) {
            (Some(live), Some(new), Some(view)) => Some(writer.reset.filter_all(compare(view, &live, &new))),
            _ => None,
        };
        versions.push((version.to_string(), seen));
    }
    let seen_by = |manager: &Manager| match versions.iter().find(|(known, _)| *known == manager.api_version) {
        Some((_, seen)) => seen.as_ref(),
        None => Some(changes),
    };
    let is_own = |manager: &Manager| own.is_some_and(|own| own.is(manager));
    if !force {
        let mut conflicts = Vec::new();
        for manager in managers.iter().filter(|m| !is_own(m)) {
            let Some(changes) = seen_by(manager) else { continue };
            let mut fields = manager.fields.intersection(&changes.modified);
            fields.add(manager.fields.intersection(&changes.added));
            if !fields.is_empty() {
                let manager = manager.clone();
                conflicts.push(Conflict { manager, fields });
            }
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    managers.retain_mut(|manager| {
        if !is_own(manager) {
            let Some(changes) = seen_by(manager) else {
                return false;
            };
            for lost in [&changes.modified, &changes.added, &changes.removed] {
                manager.fields.subtract(lost);
            }
        }
        !manager.fields.is_empty()
    });
    Ok(())
}

/// What a configuration makes of `live`: the object, not yet in canonical form, and its managers. `live` and
/// `config` are without `managedFields`; `zero` is the kind's empty object.
///
/// # Errors
/// Conflicts with other managers unless `force`; the text of what is wrong with the configuration.
pub fn apply(
    writer: &Writer<'_>,
    live: &Value,
    zero: &Value,
    managers: Vec<Manager>,
    config: &Value,
    force: bool,
) -> Result<(Value, Vec<Manager>), ApplyError> {
    let attempt = |force| apply_once(writer, live, zero, managers.clone(), config, force);
    match attempt(force) {
        // kubectl takes over without conflict what its own client-side apply has set.
        Err(ApplyError::Conflicts(conflicts)) if writer.name == "kubectl" => {
            let Some(allowed) = last_applied(writer, live) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let left: Vec<Conflict> = conflicts
                .into_iter()
                .map(|mut c| {
                    c.fields = c.fields.difference(&allowed);
                    c
                })
                .filter(|c| !c.fields.is_empty())
                .collect();
            if left.is_empty() {
                attempt(true)
            } else {
                Err(ApplyError::Conflicts(left))
            }
        }
        done => done,
    }
}

fn apply_once(
    writer: &Writer<'_>,
    live: &Value,
    zero: &Value,
    managers: Vec<Manager>,
    config: &Value,
    force: bool,
) -> Result<(Value, Vec<Manager>), ApplyError> {
    let failed = |what: &str, error: String| ApplyError::Failed(format!("{what}: {error}"));
    let managers = if managers.is_empty() {
        take(writer, BEFORE_FIRST_APPLY, zero, live, managers)
    } else {
        managers
    };
    let mut managers = reconcile(writer, managers);
    let merged = merge(writer.view, live, config).map_err(|e| failed("failed to merge config", e))?;
    let fields = writer.reset.filter(fields_of(writer.view, config));
    let own = writer.entry(writer.name, Operation::Apply, fields);
    let last = match managers.iter().position(|m| m.is(&own)) {
        Some(at) => Some(std::mem::replace(&mut managers[at], own.clone())),
        None => {
            managers.push(own.clone());
            None
        }
    };
    let pruned = match last {
        Some(last) if !last.fields.is_empty() => prune(writer, &merged, &last, &managers).unwrap_or(merged),
        _ => merged,
    };
    let changes = writer.reset.filter_all(compare(writer.view, live, &pruned));
    give_up(writer, live, &pruned, &changes, &mut managers, Some(&own), force)
        .map_err(ApplyError::Conflicts)?;
    for manager in managers.iter_mut().filter(|m| m.is(&own)) {
        manager.fields.subtract(system_fields());
    }
    managers.retain(|m| !m.fields.is_empty());
    Ok((pruned, managers))
}

/// Removes what the manager applied last time and nobody owns any more. `None` when its version is gone.
fn prune(writer: &Writer<'_>, merged: &Value, last: &Manager, managers: &[Manager]) -> Option<Value> {
    let version = last.api_version.as_str();
    let view = view_of(writer, version)?;
    let merged = converted(writer, merged, writer.api_version, version)?;
    let had = last.fields.with_declared_parents(view);
    let mut pruned = without(view, &merged, &had);
    // What others own, or the new configuration has, comes back; first what is of this very version.
    let mut order: Vec<&str> = managers.iter().map(|m| m.api_version.as_str()).collect();
    order.sort_unstable_by_key(|v| (*v != version, *v));
    order.dedup();
    let (mut whole, mut at) = (merged.clone(), version);
    for other in order {
        let Some(view) = view_of(writer, other) else {
            continue;
        };
        let (Some(a), Some(b)) = (
            converted(writer, &whole, at, other),
            converted(writer, &pruned, at, other),
        ) else {
            continue;
        };
        let mut owned = Set::default();
        for manager in managers.iter().filter(|m| m.api_version == other) {
            owned = owned.union(&manager.fields);
        }
        let keep = fields_of(view, &b)
            .with_declared_parents(view)
            .union(&owned.with_declared_parents(view));
        let gone = fields_of(view, &a).with_declared_parents(view).difference(&keep);
        pruned = without(view, &a, &gone);
        (whole, at) = (a, other);
    }
    // Nothing goes that this manager did not apply itself.
    let pruned = converted(writer, &pruned, at, version)?;
    let left = fields_of(view, &pruned).with_declared_parents(view);
    let gone = fields_of(view, &merged)
        .with_declared_parents(view)
        .difference(&left)
        .intersection(&had);
    converted(
        writer,
        &without(view, &merged, &gone),
        version,
        writer.api_version,
    )
}

/// The annotation in which client-side apply keeps its last configuration.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes of all annotations; a longer configuration is not kept.
const MAX_LAST_APPLIED: usize = 256 * 1024;

/// The fields of the last client-side apply that the object still has as they were applied.
fn last_applied(writer: &Writer<'_>, live: &Value) -> Option<Set> {
    let text = meta::annotation(live, LAST_APPLIED).filter(|text| !text.is_empty())?;
    let applied: Value = crate::schema::decode::parse_json(text.as_bytes()).ok()?;
    if meta::api_version(&applied) != writer.api_version || !check::check(writer.view, &applied).is_empty() {
        return None;
    }
    let changes = compare(writer.view, &applied, live);
    Some(
        fields_of(writer.view, &applied)
            .difference(&changes.modified)
            .difference(&changes.added)
            .difference(&changes.removed),
    )
}

/// Keeps kubectl's annotation in step, where an object has one, so that client-side apply can go on with it.
pub fn update_last_applied(writer: &Writer<'_>, object: &mut Value, config: &Value) {
    if writer.name != "kubectl" || meta::annotation(object, LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    let mut plain = config.clone();
    if let Some(annotations) = plain
        .get_mut("metadata")
        .and_then(|m| m.get_mut("annotations"))
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    // With a line end, as upstream's encoder writes it.
    let text = format!("{plain}\n");
    let Some(annotations) = object["metadata"]["annotations"].as_object_mut() else {
        return;
    };
    annotations.insert(LAST_APPLIED.into(), text.into());
    let total: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if total > MAX_LAST_APPLIED {
        annotations.remove(LAST_APPLIED);
    }
}

/// The 409 for conflicts.
pub fn conflict_status(mut conflicts: Vec<Conflict>) -> Status {
    conflicts.sort_by(|a, b| a.manager.order().cmp(&b.manager.order()));
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for conflict in &conflicts {
        let shown = conflict.manager.shown();
        lines.push(format!("conflicts with {shown}:"));
        for path in conflict.fields.paths() {
            lines.push(format!("- {path}"));
            causes.push(StatusCause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {shown}"),
                field: path,
            });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    let mut status = Status::failure(409, "Conflict", message);
    status.details = Some(Box::new(StatusDetails {
        causes,
        ..StatusDetails::default()
    }));
    status
}

impl Set {
    /// The members that `pattern` leads to, with all below; `*` is any step.
    fn matching(&self, pattern: &[&str]) -> Set {
        let Some((first, rest)) = pattern.split_first() else {
            return self.clone();
        };
        let mut out = Set::default();
        self.each_child(|element, member, below| {
            let fits = *first == "*" || matches!(element, Element::Field(name) if **name == **first);
            if fits {
                out.put(element.clone(), member && rest.is_empty(), below.matching(rest));
            }
        });
        out
    }
}
