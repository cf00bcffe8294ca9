//! RBAC as its documentation reads, rule by rule over plain JSON, and random policies to compare `rules` with. For tests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::matches::PolicyRule;
use super::rules::{Binding, RoleRef, Rules, Stored, Subject};
use crate::authorize::Attributes;
use crate::identity::User;

const NAMESPACES: [&str; 3] = ["", "a", "b"];
const NAMES: [&str; 3] = ["", "x", "y"];
const VERBS: [&str; 3] = ["get", "list", "*"];
const GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 7] = ["pods", "pods/log", "*/log", "*", "nodes", "nodes/*", "*/*"];
const URLS: [&str; 5] = ["/x", "/x/*", "*", "/x*", "/y"];
const ASKED_PATHS: [&str; 5] = ["/x", "/x/", "/x/z", "/y", "/xy"];
const SUBJECTS: [(&str, &str, &str); 8] = [
    ("User", "u", ""),
    ("User", "v", ""),
    ("User", "system:serviceaccount:a:s", ""),
    ("Group", "g", ""),
    ("Group", "h", ""),
    ("ServiceAccount", "s", "a"),
    ("ServiceAccount", "s", ""),
    ("Other", "u", ""),
];
const ROLES: [&str; 2] = ["r", "q"];

/// Decisions from bytes; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first) % bound
    }

    /// Mostly one, at times none or two.
    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        (0..[1, 1, 1, 2, 2, 0][self.below(6)])
            .map(|_| of[self.below(of.len())])
            .collect()
    }
}

fn rule(choices: &mut Choices<'_>) -> Value {
    let names = match choices.below(3) {
        0 => choices.some(&NAMES[1..]),
        _ => Vec::new(),
    };
    match choices.below(4) {
        0 => json!({"verbs": choices.some(&VERBS), "nonResourceURLs": choices.some(&URLS)}),
        _ => json!({
            "verbs": choices.some(&VERBS),
            "apiGroups": choices.some(&GROUPS),
            "resources": choices.some(&RESOURCES),
            "resourceNames": names,
        }),
    }
}

/// Roles and bindings as they would be stored: `{namespace, name, rules}` and `{namespace, name, roleRef, subjects}`.
struct Policy {
    roles: Vec<Value>,
    bindings: Vec<Value>,
}

impl Policy {
    fn random(choices: &mut Choices<'_>) -> Policy {
        let mut roles: Vec<Value> = Vec::new();
        for namespace in NAMESPACES {
            for name in ROLES {
                if choices.below(4) > 0 {
                    let rules: Vec<Value> = (0..choices.below(4)).map(|_| rule(choices)).collect();
                    roles.push(json!({"namespace": namespace, "name": name, "rules": rules}));
                }
            }
        }
        let bindings = (0..choices.below(7)).map(|number| {
            let subjects = (0..1 + choices.below(2)).map(|_| {
                let (kind, name, namespace) = SUBJECTS[choices.below(SUBJECTS.len())];
                json!({"kind": kind, "name": name, "namespace": namespace})
            });
            let subjects: Vec<Value> = subjects.collect();
            let namespace = NAMESPACES[choices.below(3)];
            let kind = ["Role", "ClusterRole"][choices.below(2)];
            let role = ["r", "q", "gone"][choices.below(3)];
            json!({
                "name": number.to_string(), "namespace": namespace,
                "roleRef": {"kind": kind, "name": role}, "subjects": subjects,
            })
        });
        let bindings = bindings.collect();
        Policy { roles, bindings }
    }

    fn compile(&self) -> Rules {
        let text = |value: &Value| -> Box<str> { value.as_str().unwrap_or_default().into() };
        let mut stored = Stored::default();
        for role in &self.roles {
            let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).expect("rules");
            stored
                .roles
                .insert((text(&role["namespace"]), text(&role["name"])), rules.into());
        }
        for binding in &self.bindings {
            let role: RoleRef = serde_json::from_value(binding["roleRef"].clone()).expect("a roleRef");
            let subjects: Vec<Subject> =
                serde_json::from_value(binding["subjects"].clone()).expect("subjects");
            stored.bindings.push(Arc::new(Binding {
                name: text(&binding["name"]),
                namespace: text(&binding["namespace"]),
                role,
                subjects,
            }));
        }
        Rules::new(&stored)
    }

    /// The documentation, word for word.
    fn allows(&self, asked: &Attributes<'_>) -> bool {
        self.bindings.iter().any(|binding| {
            let namespace = binding["namespace"].as_str().unwrap_or_default();
            // A RoleBinding grants in its own namespace only.
            let holds = namespace.is_empty() || namespace == asked.namespace;
            let of = match binding["roleRef"]["kind"].as_str() {
                Some("ClusterRole") => "",
                // A ClusterRoleBinding cannot name a Role.
                _ if namespace.is_empty() => return false,
                _ => namespace,
            };
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let mut subjects = subjects.map(|subject| is(subject, namespace, asked.user));
            let role = self
                .roles
                .iter()
                .find(|role| role["namespace"] == of && role["name"] == binding["roleRef"]["name"]);
            let Some(role) = role else { return false };
            let rules = role["rules"].as_array().into_iter().flatten();
            holds && subjects.any(|is| is) && rules.into_iter().any(|rule| matches(rule, asked))
        })
    }
}

fn is(subject: &Value, binding: &str, user: &User) -> bool {
    let text = |field: &str| subject[field].as_str().unwrap_or_default();
    match text("kind") {
        "User" => text("name") == user.name,
        "Group" => user.groups.iter().any(|group| group == text("name")),
        "ServiceAccount" => {
            let namespace = if text("namespace").is_empty() {
                binding
            } else {
                text("namespace")
            };
            !namespace.is_empty()
                && user.name == format!("system:serviceaccount:{namespace}:{}", text("name"))
        }
        _ => false,
    }
}

fn matches(rule: &Value, asked: &Attributes<'_>) -> bool {
    let list = |field: &str| -> Vec<String> {
        let words = rule[field].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let has = |field: &str, word: &str| list(field).iter().any(|own| own == "*" || own == word);
    if !has("verbs", asked.verb) {
        return false;
    }
    if !asked.path.is_empty() {
        return list("nonResourceURLs")
            .iter()
            .any(|url| match url.strip_suffix('*') {
                Some(start) => asked.path.starts_with(start),
                None => url == asked.path,
            });
    }
    let whole = match asked.subresource {
        "" => asked.resource.to_owned(),
        sub => format!("{}/{sub}", asked.resource),
    };
    let resource = list("resources").iter().any(|own| {
        own == "*"
            || *own == whole
            || (!asked.subresource.is_empty() && *own == format!("*/{}", asked.subresource))
    });
    let names = list("resourceNames");
    has("apiGroups", asked.group)
        && resource
        && (names.is_empty() || names.iter().any(|own| own == asked.name))
}

/// Everything there is to ask.
fn questions<'a>(users: &'a [User]) -> Vec<Attributes<'a>> {
    let mut all = Vec::new();
    for user in users {
        for verb in ["get", "list", "delete"] {
            all.extend(ASKED_PATHS.map(|path| Attributes::path(user, verb, path)));
            for namespace in NAMESPACES {
                for group in ["", "apps"] {
                    for resource in ["pods", "nodes"] {
                        for subresource in ["", "log", "*"] {
                            all.extend(NAMES.map(|name| Attributes {
                                namespace,
                                subresource,
                                name,
                                ..Attributes::resource(user, verb, group, resource)
                            }));
                        }
                    }
                }
            }
        }
    }
    all
}

/// Compares the compiled rules of a random policy with the naive reading, and sees that a policy with one rule, role or
/// binding less allows nothing more.
///
/// # Panics
/// Where they differ.
pub fn compare(data: &[u8]) {
    let mut choices = Choices(data);
    let policy = Policy::random(&mut choices);
    let users = [
        User::new("u", &["g"]),
        User::new("v", &["g", "h"]),
        User::new("system:serviceaccount:a:s", &[]),
        User::new("system:serviceaccount:b:s", &["h"]),
    ];
    let compiled = policy.compile();
    let mut smaller = Policy {
        roles: policy.roles.clone(),
        bindings: policy.bindings.clone(),
    };
    let (which, at) = (choices.below(3), choices.below(251));
    match which {
        0 if !smaller.roles.is_empty() => {
            let at = at % smaller.roles.len();
            smaller.roles.remove(at);
        }
        1 if !smaller.bindings.is_empty() => {
            let at = at % smaller.bindings.len();
            smaller.bindings.remove(at);
        }
        _ => {
            let mut with_rules = smaller
                .roles
                .iter_mut()
                .filter_map(|role| role["rules"].as_array_mut());
            if let Some(rules) = with_rules.find(|rules| !rules.is_empty()) {
                rules.remove(at % rules.len());
            }
        }
    }
    let less = smaller.compile();
    for asked in questions(&users) {
        let allowed = compiled.authorize(&asked).allowed();
        assert_eq!(
            allowed,
            policy.allows(&asked),
            "{asked:?} by {:#?} {:#?}",
            policy.roles,
            policy.bindings
        );
        assert!(
            allowed || !less.authorize(&asked).allowed(),
            "less is more: {asked:?} by {:#?} {:#?}",
            smaller.roles,
            smaller.bindings
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn compiled_rules_say_what_the_documentation_says(data in proptest::collection::vec(any::<u8>(), 40..200)) {
            compare(&data);
        }
    }

    #[test]
    fn random_policies_allow_something_and_not_everything() {
        let users = [User::new("u", &["g"])];
        let (mut yes, mut no) = (0, 0);
        for seed in 0..40_u32 {
            let data: Vec<u8> = (0..120_u32)
                .map(|i| (seed.wrapping_mul(2_654_435_761) >> (i % 24)) as u8 ^ (i * 37) as u8)
                .collect();
            let compiled = Policy::random(&mut Choices(&data)).compile();
            for asked in questions(&users) {
                match compiled.authorize(&asked).allowed() {
                    true => yes += 1,
                    false => no += 1,
                }
            }
        }
        assert!(yes > 100 && no > 2000, "{yes} {no}");
    }
}
