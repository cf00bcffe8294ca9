//! Classes that a new object names or falls back on: priority, runtime, ingress, storage. Pure.
//!
//! Source: Kubernetes' admission plug-ins Priority, RuntimeClass, DefaultIngressClass, DefaultStorageClass.

use std::cmp::Reverse;
use std::sync::Arc;

use corten_api::kinds::storage::class::DEFAULT_ANNOTATIONS;
use corten_api::{Status, meta, registry};
use corten_store::{Entry, Snapshot};
use serde_json::{Map, Value, json};

use super::Subject;
use super::admission::memmem;
use crate::damaged;
use crate::key::Keys;
use crate::stored::{Stored, TypeMeta};

/// A kind of class: group, kind, plural. All are of version v1 and cluster scope.
type Class = (&'static str, &'static str, &'static str);

const PRIORITY: Class = ("scheduling.k8s.io", "PriorityClass", "priorityclasses");
const RUNTIME: Class = ("node.k8s.io", "RuntimeClass", "runtimeclasses");
const INGRESS: Class = ("networking.k8s.io", "IngressClass", "ingressclasses");
const STORAGE: Class = ("storage.k8s.io", "StorageClass", "storageclasses");

const DEFAULT_INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";
/// What named an Ingress's class before there was a field for it.
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// What named a claim's class before there was a field for it.
const STORAGE_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Fills in what the object's classes say, before defaults.
///
/// # Errors
/// `Forbidden` with upstream's texts: an unknown class, or fields that contradict the class.
pub fn mutate_create(subject: Subject<'_>, snapshot: &Snapshot, object: &mut Value) -> Result<(), Status> {
    let name = meta::name(object).to_owned();
    let refuse = |why: String| Status::forbidden(subject.ty.qualified(), &name, why);
    match (&*subject.ty.group, &*subject.ty.plural) {
        ("", "pods") => {
            let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
                return Ok(());
            };
            priority(spec, snapshot, &refuse)?;
            runtime(spec, snapshot, &refuse)
        }
        ("", "persistentvolumeclaims") => {
            let named = !object["spec"]["storageClassName"].is_null()
                || meta::annotation(object, STORAGE_ANNOTATION).is_some();
            if !named && let Some(class) = default_class(STORAGE, &DEFAULT_ANNOTATIONS, snapshot)? {
                set_class(object, "storageClassName", class);
            }
            Ok(())
        }
        ("networking.k8s.io", "ingresses") => {
            let named = !object["spec"]["ingressClassName"].is_null()
                || meta::annotation(object, INGRESS_ANNOTATION).is_some();
            if !named && let Some(class) = default_class(INGRESS, &[DEFAULT_INGRESS], snapshot)? {
                set_class(object, "ingressClassName", class);
            }
            Ok(())
        }
        _ => check_default(subject, snapshot, object, true),
    }
}

/// At most one PriorityClass is the default of the cluster. `created`: the object is new.
///
/// # Errors
/// `Forbidden` with upstream's text.
pub fn check_default(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    object: &Value,
    created: bool,
) -> Result<(), Status> {
    let is_class = (&*subject.ty.group, &*subject.ty.plural) == (PRIORITY.0, PRIORITY.2);
    if !is_class || object["globalDefault"] != true {
        return Ok(());
    }
    let name = meta::name(object);
    match default_priority(snapshot)? {
        Some(class) if created || meta::name(&class) != name => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(&class)
            );
            Err(Status::forbidden(subject.ty.qualified(), name, why))
        }
        _ => Ok(()),
    }
}

fn set_class(object: &mut Value, field: &str, class: String) {
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.insert(field.into(), class.into());
    }
}

fn keys((group, _, resource): Class) -> Keys<'static> {
    Keys {
        group,
        resource,
        namespaced: false,
    }
}

fn parse((group, kind, _): Class, entry: &Entry) -> Result<Value, Status> {
    let meta = TypeMeta {
        group,
        version: "v1",
        kind,
    };
    Stored::new(&entry.value)
        .and_then(|stored| stored.parse(meta, entry.mod_revision.0))
        .map_err(damaged)
}

fn find(class: Class, name: &str, snapshot: &Snapshot) -> Result<Option<Value>, Status> {
    match snapshot.get(&keys(class).object(None, name)) {
        Some(entry) => parse(class, &entry).map(Some),
        None => Ok(None),
    }
}

/// Classes whose bytes contain `mark`: few are parsed on each create.
fn marked(class: Class, mark: &str, snapshot: &Snapshot) -> Result<Vec<Value>, Status> {
    snapshot
        .range(keys(class).range(None))
        .filter(|entry| memmem(&entry.value, mark.as_bytes()))
        .map(|entry| parse(class, &entry))
        .collect()
}

/// The subject of PriorityClasses.
fn priorities() -> Subject<'static> {
    let (group, _, plural) = PRIORITY;
    let ty = registry().lookup(group, "v1", plural);
    Subject {
        ty: ty.expect("PriorityClasses are built in"),
        namespace: "",
    }
}

/// The default PriorityClass; the lowest should there be several.
fn default_priority(snapshot: &Snapshot) -> Result<Option<Arc<Value>>, Status> {
    let mut lowest: Option<Arc<Value>> = None;
    let priorities = priorities();
    for entry in snapshot.range(keys(PRIORITY).range(None)) {
        let class = priorities.shared(&entry)?;
        let value = |class: &Value| class["value"].as_i64();
        if class["globalDefault"] == true && lowest.as_ref().is_none_or(|low| value(&class) < value(low)) {
            lowest = Some(class);
        }
    }
    Ok(lowest)
}

/// The name of the class that one of the annotations marks as default; the newest should there be several.
fn default_class(class: Class, annotations: &[&str], snapshot: &Snapshot) -> Result<Option<String>, Status> {
    let classes = marked(class, "is-default-class", snapshot)?;
    let is_default = |class: &&Value| {
        annotations
            .iter()
            .any(|key| meta::annotation(class, key) == Some("true"))
    };
    let order = |class: &&Value| {
        let created = meta::creation_timestamp(class);
        (Reverse(created), meta::name(class).to_owned())
    };
    let newest = classes.iter().filter(is_default).min_by_key(order);
    Ok(newest.map(|class| meta::name(class).to_owned()))
}

fn priority(
    spec: &mut Map<String, Value>,
    snapshot: &Snapshot,
    refuse: &impl Fn(String) -> Status,
) -> Result<(), Status> {
    let class = match text(spec, "priorityClassName") {
        "" => default_priority(snapshot)?,
        name => match snapshot.get(&priorities().key(name)) {
            Some(entry) => Some(priorities().shared(&entry)?),
            None => return Err(refuse(format!("no PriorityClass with name {name} was found"))),
        },
    };
    let (value, policy) = match &class {
        None => (0, "PreemptLowerPriority"),
        Some(class) => (
            class["value"].as_i64().unwrap_or_default(),
            class["preemptionPolicy"]
                .as_str()
                .unwrap_or("PreemptLowerPriority"),
        ),
    };
    if let Some(own) = spec.get("priority").and_then(Value::as_i64)
        && own != value
    {
        return Err(refuse(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    if let Some(own) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && own != policy
    {
        return Err(refuse(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    spec.insert("priority".into(), value.into());
    spec.insert("preemptionPolicy".into(), policy.into());
    if let Some(class) = class {
        spec.insert("priorityClassName".into(), meta::name(&class).into());
    }
    Ok(())
}

fn runtime(
    spec: &mut Map<String, Value>,
    snapshot: &Snapshot,
    refuse: &impl Fn(String) -> Status,
) -> Result<(), Status> {
    let refused = |why: &str| Err(refuse(format!("pod rejected: {why}")));
    let own = spec.get("overhead").filter(|o| !o.is_null()).cloned();
    let class = match spec.get("runtimeClassName").and_then(Value::as_str) {
        None => Value::Null,
        Some(name) => match find(RUNTIME, name, snapshot)? {
            Some(class) => class,
            None => {
                let name = corten_api::field::quoted(name);
                return refused(&format!("RuntimeClass {name} not found"));
            }
        },
    };
    match (&class["overhead"]["podFixed"], own) {
        (Value::Null, None) => {}
        (Value::Null, Some(_)) => {
            return refused("Pod Overhead set without corresponding RuntimeClass defined Overhead");
        }
        (fixed, Some(own)) if *fixed != own => {
            return refused("Pod's Overhead doesn't match RuntimeClass's defined Overhead");
        }
        (fixed, _) => drop(spec.insert("overhead".into(), fixed.clone())),
    }
    let scheduling = &class["scheduling"];
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        match selector.get(key) {
            Some(own) if own != wanted => {
                let (own, wanted) = (own.as_str(), wanted.as_str());
                return Err(refuse(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    wanted.unwrap_or_default(),
                    own.unwrap_or_default()
                )));
            }
            _ => selector[key.as_str()] = wanted.clone(),
        }
    }
    if let Some(more) = scheduling["tolerations"].as_array() {
        let own = spec.get("tolerations").and_then(Value::as_array);
        let merged = merge_tolerations(own.map_or(&[], Vec::as_slice), more);
        spec.insert("tolerations".into(), merged.into());
    }
    Ok(())
}

fn text<'a>(spec: &'a Map<String, Value>, field: &str) -> &'a str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Both lists, without those that another one covers.
fn merge_tolerations(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<&Value> = Vec::new();
    for (idx, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|other| covers(other, toleration));
        let after = all[idx + 1..]
            .iter()
            .any(|other| other != toleration && covers(other, toleration));
        if !before && !after {
            merged.push(toleration);
        }
    }
    merged.into_iter().cloned().collect()
}

/// True when whatever `other` tolerates is tolerated by `wide`.
fn covers(wide: &Value, other: &Value) -> bool {
    let get = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let differ = |field: &str| get(wide, field) != get(other, field);
    if wide == other {
        return true;
    }
    let any_key = get(wide, "key").is_empty() && get(wide, "operator") == "Exists";
    if differ("key") && !any_key || differ("effect") && !get(wide, "effect").is_empty() {
        return false;
    }
    if get(wide, "effect") == "NoExecute"
        && let Some(limit) = wide["tolerationSeconds"].as_i64()
        && other["tolerationSeconds"].as_i64().is_none_or(|s| s > limit)
    {
        return false;
    }
    match &*get(wide, "operator") {
        "" | "Equal" => !differ("operator") && !differ("value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: Value, second: Value, want: Value) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        assert_eq!(
            Value::Array(merge_tolerations(&list(&first), &list(&second))),
            want
        );
    }

    #[test]
    fn tolerations_of_pod_and_class() {
        let exists = json!({"key": "a", "operator": "Exists"});
        let equal = json!({"key": "a", "value": "x"});
        let any = json!({"operator": "Exists"});
        check(json!([]), json!([exists]), json!([exists]));
        check(json!([exists]), json!([exists]), json!([exists]));
        check(json!([equal]), json!([exists]), json!([exists]));
        check(json!([exists]), json!([equal]), json!([exists]));
        check(json!([equal, exists]), json!([any]), json!([any]));
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        check(json!([short]), json!([long]), json!([long]));
        check(json!([exists]), json!([long]), json!([exists]));
    }
}
