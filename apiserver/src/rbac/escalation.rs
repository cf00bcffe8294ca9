//! Nobody grants what they do not have: the checks on writes of Roles and bindings. Pure.
//!
//! Source: Kubernetes `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased` and
//! `pkg/registry/rbac/validation`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::BTreeSet;

use corten_api::status::Qualified;
use corten_api::{Status, meta, registry};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::matches::{PolicyRule, Words, missing};
use super::rules::Rules;
use crate::authorize::Attributes;
use crate::identity::User;
use crate::write::Subject;

/// One write of a Role, ClusterRole, RoleBinding or ClusterRoleBinding.
pub struct Write<'a> {
    pub subject: Subject<'a>,
    pub user: &'a User,
    pub old: Option<&'a Value>,
    pub new: &'a Value,
}

/// # Errors
/// `Forbidden` for what the user could not do, `NotFound` for a role that does not exist, both in upstream's words.
pub fn check(write: &Write<'_>, rules: &Rules, snapshot: &Snapshot) -> Result<(), Status> {
    // The server's own writes, and who may do everything.
    if write.user.name.is_empty() || write.user.is_master() || write.is_for_the_collector() {
        return Ok(());
    }
    match &*write.subject.ty.plural {
        "roles" | "clusterroles" => write.role(rules),
        _ => write.binding(rules, snapshot),
    }
}

impl Write<'_> {
    /// Whether only owners and finalizers change.
    fn is_for_the_collector(&self) -> bool {
        let Some(old) = self.old else { return false };
        let rest = |object: &Value| {
            let mut rest = object.clone();
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "generation",
            ] {
                meta::set(&mut rest, field, Value::Null);
            }
            rest
        };
        rest(old) == rest(self.new)
    }

    fn asks<'a>(&'a self, verb: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        Attributes {
            name,
            namespace: self.subject.namespace,
            ..Attributes::resource(self.user, verb, super::GROUP, resource)
        }
    }

    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(self.subject.ty.qualified(), meta::name(self.new), why)
    }

    fn role(&self, rules: &Rules) -> Result<(), Status> {
        let asked = self.asks("escalate", &self.subject.ty.plural, meta::name(self.new));
        if rules.authorize(&asked).allowed() {
            return Ok(());
        }
        let wanted: Vec<PolicyRule> = serde_json::from_value(self.new["rules"].clone()).unwrap_or_default();
        self.held(rules, &wanted).map_err(|why| self.forbidden(why))?;
        let aggregates = |role: &Value| !role["aggregationRule"].is_null();
        if aggregates(self.new) || self.old.is_some_and(aggregates) {
            let all: [PolicyRule; 2] = [
                json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
                json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
            ]
            .map(|rule| serde_json::from_value(rule).expect("a rule"));
            self.held(rules, &all).map_err(|why| {
                let why = format!("must have cluster-admin privileges to use the aggregationRule: {why}");
                self.forbidden(why)
            })?;
        }
        Ok(())
    }

    fn binding(&self, rules: &Rules, snapshot: &Snapshot) -> Result<(), Status> {
        let text = |field: &str| self.new["roleRef"][field].as_str().unwrap_or_default();
        let (plural, namespace) = match text("kind") {
            "Role" => ("roles", self.subject.namespace),
            _ => ("clusterroles", ""),
        };
        let name = text("name");
        if rules.authorize(&self.asks("bind", plural, name)).allowed() {
            return Ok(());
        }
        let ty = registry()
            .lookup(super::GROUP, "v1", plural)
            .expect("roles are built in");
        let role =
            Subject { ty, namespace }
                .read(snapshot, name)
                .map_err(|error| match error.is_not_found() {
                    true => Status::not_found(Qualified::new(super::GROUP, &ty.singular), name),
                    false => error,
                })?;
        let wanted: Vec<PolicyRule> = serde_json::from_value(role.value["rules"].clone()).unwrap_or_default();
        self.held(rules, &wanted).map_err(|why| self.forbidden(why))
    }

    /// Whether the user holds all that is `wanted` where the object lies. `Err`: the text of what is missing.
    fn held(&self, rules: &Rules, wanted: &[PolicyRule]) -> Result<(), String> {
        let (held, errors) = rules.of(self.user, self.subject.namespace);
        let missing = missing(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
        let lines: Vec<String> = lines.into_iter().collect();
        let mut text = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            quoted(self.user.groups.iter().map(String::as_str)),
            lines.join("\n"),
        );
        if let Some(errors) = errors {
            text += &format!("; resolution errors: [{errors}]");
        }
        Err(text)
    }
}

/// Rules of one verb about the same thing become one rule. Source: `validation.CompactRules`.
fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut compacted: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let same = compacted.iter_mut().find(|own| {
            !rule.resources.is_empty()
                && (&own.api_groups, &own.resources, &own.resource_names)
                    == (&rule.api_groups, &rule.resources, &rule.resource_names)
        });
        match same {
            Some(own) => {
                let more = rule
                    .verbs
                    .iter()
                    .filter(|verb| !own.verbs.contains(verb))
                    .cloned();
                own.verbs = own
                    .verbs
                    .iter()
                    .cloned()
                    .chain(more.collect::<Vec<_>>())
                    .collect();
            }
            None => compacted.push(rule),
        }
    }
    compacted
}

/// `["a" "b"]`
fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

/// Source: Kubernetes `rbac/v1.CompactString`.
fn describe(rule: &PolicyRule) -> String {
    let parts: [(&str, &Words); 5] = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(name, words)| format!("{name}:{}", quoted(words.iter().map(|word| &**word))))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_few_words() {
        let wanted: PolicyRule = serde_json::from_value(json!({
            "verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods"], "resourceNames": ["a"],
        }))
        .unwrap();
        let lines: Vec<String> = compact(wanted.parts()).iter().map(describe).collect();
        assert_eq!(
            lines,
            [
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#,
                r#"{APIGroups:["apps"], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#,
            ]
        );
        let paths: PolicyRule =
            serde_json::from_value(json!({"verbs": ["get"], "nonResourceURLs": ["/a", "/b"]})).unwrap();
        let lines: Vec<String> = compact(paths.parts()).iter().map(describe).collect();
        assert_eq!(
            lines,
            [
                r#"{NonResourceURLs:["/a"], Verbs:["get"]}"#,
                r#"{NonResourceURLs:["/b"], Verbs:["get"]}"#
            ]
        );
    }
}
