//! Roles and bindings, compiled: for each user and group what is granted, everywhere and in each namespace. Pure.
//!
//! A set never changes; another takes its place. Deciding allocates nothing where it allows: one look at the user, one at
//! each group, then the rules of what is granted.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;

use super::matches::PolicyRule;
use crate::authorize::{Attributes, Decision, Reason, Verdict};
use crate::identity::User;

/// The rules of one Role or ClusterRole.
pub type RoleRules = Arc<[PolicyRule]>;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct RoleRef {
    pub api_group: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    pub kind: Box<str>,
    pub name: Box<str>,
    /// Of a ServiceAccount; empty: that of the RoleBinding.
    pub namespace: Box<str>,
}

/// A RoleBinding, or a ClusterRoleBinding where the namespace is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

/// A Role or ClusterRole (without a namespace), by place.
pub type RoleKey = (Box<str>, Box<str>);

/// Everything stored, in the order of the store.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub roles: HashMap<RoleKey, RoleRules>,
    pub bindings: Vec<Arc<Binding>>,
}

/// What one binding gives to one of its subjects.
#[derive(Debug)]
pub struct Grant {
    binding: Arc<Binding>,
    /// Which of the binding's subjects.
    subject: usize,
    /// `None`: the role does not exist.
    rules: Option<RoleRules>,
}

impl fmt::Display for Grant {
    /// As upstream describes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding {
            name,
            namespace,
            role,
            subjects,
        } = &*self.binding;
        match &**namespace {
            "" => write!(f, "ClusterRoleBinding {name:?}")?,
            namespace => write!(f, "RoleBinding {:?}", format!("{name}/{namespace}"))?,
        }
        write!(f, " of {} {:?} to ", role.kind, role.name)?;
        let Some(subject) = subjects.get(self.subject) else {
            return Ok(());
        };
        if &*subject.kind == "ServiceAccount" {
            let of = if subject.namespace.is_empty() {
                namespace
            } else {
                &subject.namespace
            };
            return write!(f, "{} {:?}", subject.kind, format!("{}/{of}", subject.name));
        }
        write!(f, "{} {:?}", subject.kind, subject.name)
    }
}

impl Grant {
    fn missing_role(&self) -> String {
        let kind = self.binding.role.kind.to_lowercase();
        format!("{kind}.{} {:?} not found", super::GROUP, self.binding.role.name)
    }
}

#[derive(Default, Debug)]
struct Granted {
    everywhere: Vec<Arc<Grant>>,
    namespaces: HashMap<Box<str>, Vec<Arc<Grant>>>,
}

/// The compiled set.
#[derive(Default, Debug)]
pub struct Rules {
    users: HashMap<Box<str>, Granted>,
    groups: HashMap<Box<str>, Granted>,
}

impl Rules {
    #[must_use]
    pub fn new(stored: &Stored) -> Rules {
        let mut rules = Rules::default();
        for binding in &stored.bindings {
            rules.add(binding, stored);
        }
        rules
    }

    fn add(&mut self, binding: &Arc<Binding>, stored: &Stored) {
        let place: Option<Box<str>> = match &*binding.role.kind {
            "ClusterRole" => Some("".into()),
            "Role" if !binding.namespace.is_empty() => Some(binding.namespace.clone()),
            _ => None,
        };
        let role = place.and_then(|place| stored.roles.get(&(place, binding.role.name.clone())).cloned());
        for (subject, who) in binding.subjects.iter().enumerate() {
            let (index, name): (_, Box<str>) = match &*who.kind {
                "User" => (&mut self.users, who.name.clone()),
                "Group" => (&mut self.groups, who.name.clone()),
                "ServiceAccount" => {
                    let of = if who.namespace.is_empty() {
                        &binding.namespace
                    } else {
                        &who.namespace
                    };
                    if of.is_empty() {
                        continue;
                    }
                    (
                        &mut self.users,
                        format!("system:serviceaccount:{of}:{}", who.name).into(),
                    )
                }
                _ => continue,
            };
            let granted = index.entry(name).or_default();
            let list = match &*binding.namespace {
                "" => &mut granted.everywhere,
                namespace => granted.namespaces.entry(namespace.into()).or_default(),
            };
            list.push(Arc::new(Grant {
                binding: binding.clone(),
                subject,
                rules: role.clone(),
            }));
        }
    }

    /// Calls `see` with each grant that counts for the user in the namespace; those that hold everywhere first.
    fn visit<'a, B>(
        &'a self,
        user: &User,
        namespace: &str,
        mut see: impl FnMut(&'a Arc<Grant>) -> ControlFlow<B>,
    ) -> Option<B> {
        let holders = || {
            let groups = user
                .groups
                .iter()
                .filter_map(|group| self.groups.get(group.as_str()));
            self.users.get(user.name.as_str()).into_iter().chain(groups)
        };
        for grant in holders().flat_map(|granted| &granted.everywhere) {
            if let ControlFlow::Break(found) = see(grant) {
                return Some(found);
            }
        }
        if namespace.is_empty() {
            return None;
        }
        for grant in holders()
            .filter_map(|granted| granted.namespaces.get(namespace))
            .flatten()
        {
            if let ControlFlow::Break(found) = see(grant) {
                return Some(found);
            }
        }
        None
    }

    /// Whether RBAC allows it.
    #[must_use]
    pub fn authorize(&self, asked: &Attributes<'_>) -> Verdict {
        let found = self.visit(asked.user, asked.namespace, |grant| {
            let rules = grant.rules.as_deref().unwrap_or_default();
            match rules.iter().any(|rule| rule.allows(asked)) {
                true => ControlFlow::Break(grant.clone()),
                false => ControlFlow::Continue(()),
            }
        });
        match found {
            Some(grant) => Verdict {
                decision: Decision::Allow,
                reason: Reason::Grant(grant),
            },
            None => {
                let (_, errors) = self.of(asked.user, asked.namespace);
                Verdict::no_opinion(errors.map(|errors| format!("RBAC: {errors}")))
            }
        }
    }

    /// All rules that hold for the user in the namespace, and what was wrong on the way: roles that do not exist.
    #[must_use]
    pub fn of(&self, user: &User, namespace: &str) -> (Vec<&PolicyRule>, Option<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.visit(user, namespace, |grant| {
            match &grant.rules {
                Some(own) => rules.extend(own.iter()),
                None => {
                    let error = grant.missing_role();
                    if !errors.contains(&error) {
                        errors.push(error);
                    }
                }
            }
            ControlFlow::<()>::Continue(())
        });
        let errors = match errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        };
        (rules, errors)
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    pub fn rule_for_all() -> PolicyRule {
        serde_json::from_value(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))
            .expect("a rule")
    }

    fn role(verbs: &[&str], resources: &[&str]) -> RoleRules {
        let rule = json!({"verbs": verbs, "apiGroups": [""], "resources": resources});
        Arc::new([serde_json::from_value(rule).expect("a rule")])
    }

    fn binding(
        name: &str,
        namespace: &str,
        kind: &str,
        role: &str,
        subjects: &[(&str, &str, &str)],
    ) -> Arc<Binding> {
        let subjects = subjects.iter().map(|(kind, name, namespace)| Subject {
            kind: (*kind).into(),
            name: (*name).into(),
            namespace: (*namespace).into(),
        });
        Arc::new(Binding {
            name: name.into(),
            namespace: namespace.into(),
            role: RoleRef {
                api_group: "".into(),
                kind: kind.into(),
                name: role.into(),
            },
            subjects: subjects.collect(),
        })
    }

    fn rules() -> Rules {
        let mut stored = Stored::default();
        stored
            .roles
            .insert(("".into(), "reader".into()), role(&["get", "list"], &["pods"]));
        stored
            .roles
            .insert(("a".into(), "reader".into()), role(&["get"], &["secrets"]));
        stored.bindings = vec![
            binding(
                "all",
                "",
                "ClusterRole",
                "reader",
                &[("User", "root", ""), ("Group", "ops", "")],
            ),
            binding(
                "some",
                "a",
                "ClusterRole",
                "reader",
                &[("Group", "dev", ""), ("ServiceAccount", "robot", "")],
            ),
            binding("own", "a", "Role", "reader", &[("ServiceAccount", "robot", "b")]),
            binding("lost", "a", "Role", "gone", &[("User", "joe", "")]),
            binding(
                "lost2",
                "",
                "ClusterRole",
                "gone",
                &[("User", "joe", ""), ("ServiceAccount", "x", "")],
            ),
        ];
        Rules::new(&stored)
    }

    /// `want`: the reason, with `yes: ` before it if allowed.
    #[track_caller]
    fn check(user: &User, verb: &str, resource: &str, namespace: &str, want: &str) {
        let asked = Attributes {
            namespace,
            ..Attributes::resource(user, verb, "", resource)
        };
        let verdict = rules().authorize(&asked);
        let yes = if verdict.allowed() { "yes: " } else { "" };
        assert_eq!(
            format!("{yes}{}", verdict.reason),
            want,
            "{} {verb} {resource} in {namespace:?}",
            user.name
        );
    }

    #[test]
    fn grants_hold_where_they_are_bound() {
        let (root, ops, dev) = (
            User::new("root", &[]),
            User::new("x", &["ops"]),
            User::new("y", &["dev"]),
        );
        let all = "yes: RBAC: allowed by ClusterRoleBinding \"all\" of ClusterRole \"reader\" to ";
        check(&root, "list", "pods", "", &format!("{all}User \"root\""));
        check(&root, "list", "pods", "b", &format!("{all}User \"root\""));
        check(&ops, "get", "pods", "", &format!("{all}Group \"ops\""));
        check(&root, "delete", "pods", "", "");
        check(&dev, "get", "pods", "", "");
        check(&dev, "get", "pods", "b", "");
        check(
            &dev,
            "get",
            "pods",
            "a",
            "yes: RBAC: allowed by RoleBinding \"some/a\" of ClusterRole \"reader\" to Group \"dev\"",
        );
    }

    #[test]
    fn service_accounts_are_users_by_their_namespace() {
        let (here, there) = (
            User::new("system:serviceaccount:a:robot", &[]),
            User::new("system:serviceaccount:b:robot", &[]),
        );
        check(
            &here,
            "get",
            "pods",
            "a",
            "yes: RBAC: allowed by RoleBinding \"some/a\" of ClusterRole \"reader\" to ServiceAccount \"robot/a\"",
        );
        check(
            &there,
            "get",
            "secrets",
            "a",
            "yes: RBAC: allowed by RoleBinding \"own/a\" of Role \"reader\" to ServiceAccount \"robot/b\"",
        );
        check(&here, "get", "secrets", "a", "");
        check(&User::new("robot", &[]), "get", "pods", "a", "");
    }

    #[test]
    fn roles_that_do_not_exist_are_named() {
        let joe = User::new("joe", &[]);
        let lost = "clusterrole.rbac.authorization.k8s.io \"gone\" not found";
        check(&joe, "get", "pods", "", &format!("RBAC: {lost}"));
        check(
            &joe,
            "get",
            "pods",
            "a",
            &format!("RBAC: [{lost}, role.rbac.authorization.k8s.io \"gone\" not found]"),
        );
    }
}
