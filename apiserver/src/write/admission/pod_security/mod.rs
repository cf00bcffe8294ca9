//! PodSecurity: namespaces hold their Pods to one of the Pod Security Standards. Pure.
//!
//! Source: Kubernetes `pod-security-admission/admission/admission.go`. Enforced on Pods only; templates of Pods get
//! warnings and notes in the audit record.

mod checks;
mod config;
mod policy;

use std::collections::BTreeMap;

use corten_api::field::FieldErrors;
use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use super::namespace_lifecycle::NAMESPACES;
use super::{Attributes, Effects, Operation};
use crate::damaged;
use crate::key::Keys;
use crate::stored::{Stored, TypeMeta};
use checks::{Violation, violations};
use policy::{Level, Policy, Standard};

pub use config::Settings;

const PODS: Keys<'static> = Keys {
    group: "",
    resource: "pods",
    namespaced: true,
};
const POD: TypeMeta<'static> = TypeMeta {
    group: "",
    version: "v1",
    kind: "Pod",
};
/// Pods looked at when a namespace gets a stricter level. Source: `defaultNamespaceMaxPodsToCheck`.
const MAX_PODS: usize = 3_000;
/// Subresources of Pods that do not carry a Pod, or not its spec.
const IGNORED: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// # Errors
/// `Forbidden` for a Pod that violates its namespace's standard, `Invalid` for a namespace with labels that make no sense.
pub fn validate(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
    effects: &mut Effects,
    settings: Option<&Settings>,
) -> Result<(), Status> {
    if !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let ty = attributes.subject.ty;
    let is_pod = (&*ty.group, &*ty.plural) == ("", "pods");
    if attributes.is("", "namespaces") {
        return namespace(attributes, snapshot, object, effects, settings);
    }
    let judged = match (is_pod, attributes.subresource) {
        (true, subresource) if !IGNORED.contains(&subresource) => object,
        (false, "") => match template(&ty.group, &ty.plural, object) {
            Some(template) if !template.is_null() => template,
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    let (namespace, user) = (attributes.subject.namespace, &*attributes.user.name);
    if let Some(why) = settings.and_then(|settings| settings.exempts(namespace, user)) {
        note(effects, "exempt", why);
        return Ok(());
    }
    let (policy, errors) = policy_of(attributes, snapshot, settings)?;
    if is_pod && errors.is_empty() && policy.allows_anything() {
        note(effects, "enforce-policy", policy.enforce.to_string());
        return Ok(());
    }
    let is_same = |old| !is_significant(object, old);
    if is_pod && attributes.operation == Operation::Update && attributes.old.is_some_and(is_same) {
        return Ok(());
    }
    let class = judged["spec"]["runtimeClassName"].as_str().unwrap_or_default();
    if settings.is_some_and(|settings| settings.exempts_class(class)) {
        note(effects, "exempt", "runtimeClass");
        return Ok(());
    }
    pod(attributes, policy, &errors, judged, effects, is_pod)
}

/// For the request's audit record.
fn note(effects: &mut Effects, key: &str, text: impl Into<String>) {
    let key = format!("pod-security.kubernetes.io/{key}");
    effects.annotations.push((key, text.into()));
}

/// The template of Pods inside an object of the kinds that have one.
fn template<'a>(group: &str, plural: &str, object: &'a Value) -> Option<&'a Value> {
    match (group, plural) {
        ("", "podtemplates") => Some(&object["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&object["spec"]["template"]),
        ("batch", "cronjobs") => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        _ => None,
    }
}

/// The policy of the request's namespace, from the labels in the head of its stored bytes.
fn policy_of(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    settings: Option<&Settings>,
) -> Result<(Policy, FieldErrors), Status> {
    let defaults = settings.map_or(Policy::NONE, |settings| settings.defaults);
    let Some(entry) = snapshot.get(&NAMESPACES.object(None, attributes.subject.namespace)) else {
        return Ok((defaults, FieldErrors::default()));
    };
    let head = Stored::new(&entry.value)
        .and_then(|stored| stored.head())
        .map_err(damaged)?;
    Ok(Policy::of(defaults, |key| head.label(key)))
}

fn pod(
    attributes: &Attributes<'_>,
    policy: Policy,
    errors: &FieldErrors,
    pod: &Value,
    effects: &mut Effects,
    enforced: bool,
) -> Result<(), Status> {
    if !errors.is_empty() {
        let text = format!("Failed to parse policy: {}", errors.aggregate());
        note(effects, "error", text);
    }
    if enforced {
        note(effects, "enforce-policy", policy.enforce.to_string());
    }
    if let Some(found) = would_violate(policy.audit, pod) {
        note(effects, "audit-violations", found);
    }
    if enforced {
        let found = violations(policy.enforce, pod);
        if !found.is_empty() {
            return Err(attributes.forbidden(format!(
                "violates PodSecurity \"{}\": {}",
                policy.enforce,
                listed(&found)
            )));
        }
    }
    effects.warnings.extend(would_violate(policy.warn, pod));
    Ok(())
}

fn would_violate(standard: Standard, pod: &Value) -> Option<String> {
    let found = violations(standard, pod);
    (!found.is_empty()).then(|| format!("would violate PodSecurity \"{standard}\": {}", listed(&found)))
}

fn listed(found: &[Violation]) -> String {
    let each: Vec<String> = found
        .iter()
        .map(|found| format!("{} ({})", found.reason, found.detail))
        .collect();
    each.join(", ")
}

/// Whether an update of a Pod touches what the standards look at: images, and containers that came.
fn is_significant(new: &Value, old: &Value) -> bool {
    let list = |pod: &'_ Value, field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    let changed = |field: &str| {
        let (new, old) = (list(new, field), list(old, field));
        new.len() != old.len()
            || new
                .iter()
                .zip(&old)
                .any(|(new, old)| new["image"] != old["image"])
    };
    let added = || {
        let old = list(old, "ephemeralContainers");
        list(new, "ephemeralContainers").iter().any(|new| {
            old.iter()
                .find(|old| old["name"] == new["name"])
                .is_none_or(|old| old["image"] != new["image"])
        })
    };
    changed("containers") || changed("initContainers") || added()
}

/// A namespace's labels make sense; Pods that a stricter level would not allow are named in warnings.
fn namespace(
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    new: &Value,
    effects: &mut Effects,
    settings: Option<&Settings>,
) -> Result<(), Status> {
    let defaults = settings.map_or(Policy::NONE, |settings| settings.defaults);
    let (policy, errors) = Policy::of(defaults, |key| meta::label(new, key));
    let old = attributes
        .old
        .map(|old| Policy::of(defaults, |key| meta::label(old, key)));
    let known = old
        .as_ref()
        .is_some_and(|(_, old)| old.causes() == errors.causes());
    if !errors.is_empty() && !known {
        let kind = attributes.subject.ty.qualified_kind();
        return Err(Status::invalid(kind, meta::name(new), &errors));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let (enforce, before) = (policy.enforce, old.enforce);
    let relaxed = enforce.version == before.version && enforce.level <= before.level;
    if enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    // Nothing is enforced where Pods are exempt.
    if settings.is_some_and(|settings| settings.exempts(meta::name(new), "").is_some()) {
        return Ok(());
    }
    effects
        .warnings
        .extend(existing(enforce, snapshot, meta::name(new))?);
    Ok(())
}

/// Warnings about the Pods a namespace has: each kind of violation once, with the first Pod's name.
fn existing(enforce: Standard, snapshot: &Snapshot, namespace: &str) -> Result<Vec<String>, Status> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut entries = snapshot.range(PODS.range(Some(namespace)));
    for entry in entries.by_ref().take(MAX_PODS) {
        let stored = Stored::new(&entry.value).map_err(damaged)?;
        let pod = stored.parse(POD, entry.mod_revision.0).map_err(damaged)?;
        let reasons: Vec<String> = violations(enforce, &pod)
            .into_iter()
            .map(|found| found.reason)
            .collect();
        if !reasons.is_empty() {
            let first = || (meta::name(&pod).to_owned(), 0);
            found.entry(reasons.join(", ")).or_insert_with(first).1 += 1;
        }
    }
    let mut warnings = Vec::new();
    let unseen = entries.count();
    if unseen > 0 {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {} existing pods",
            MAX_PODS + unseen
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (pod, count))| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.append(&mut lines);
    Ok(warnings)
}
