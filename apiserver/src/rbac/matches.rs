//! One rule of a Role and what it matches. Pure.
//!
//! Source: Kubernetes `pkg/apis/rbac/v1/evaluation_helpers.go`, `plugin/pkg/auth/authorizer/rbac`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use serde::{Deserialize, Deserializer, Serialize};

use crate::authorize::Attributes;

pub type Words = Box<[Box<str>]>;

/// `rbac.v1.PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(deserialize_with = "words")]
    pub verbs: Words,
    #[serde(deserialize_with = "words", skip_serializing_if = "is_empty")]
    pub api_groups: Words,
    #[serde(deserialize_with = "words", skip_serializing_if = "is_empty")]
    pub resources: Words,
    /// Empty: all names.
    #[serde(deserialize_with = "words", skip_serializing_if = "is_empty")]
    pub resource_names: Words,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "words",
        skip_serializing_if = "is_empty"
    )]
    pub non_resource_urls: Words,
}

fn is_empty(words: &Words) -> bool {
    words.is_empty()
}

/// `null` is no words.
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Words, D::Error> {
    Option::<Words>::deserialize(from).map(Option::unwrap_or_default)
}

fn has(words: &Words, word: &str) -> bool {
    words.iter().any(|own| **own == *word)
}

fn has_or_all(words: &Words, word: &str) -> bool {
    words.iter().any(|own| &**own == "*" || **own == *word)
}

impl PolicyRule {
    #[must_use]
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if asked.is_resource() {
            has_or_all(&self.verbs, asked.verb)
                && self
                    .resources
                    .iter()
                    .any(|own| names(own, asked.resource, asked.subresource))
                && has_or_all(&self.api_groups, asked.group)
                && (self.resource_names.is_empty() || has(&self.resource_names, asked.name))
        } else {
            has_or_all(&self.verbs, asked.verb)
                && self
                    .non_resource_urls
                    .iter()
                    .any(|own| url_covers(own, asked.path))
        }
    }

    /// Whether this rule alone gives everything that `other` does. Source: `rbac/validation.ruleCovers`.
    #[must_use]
    pub fn covers(&self, other: &PolicyRule) -> bool {
        let all = |own: &Words, wanted: &Words| has(own, "*") || wanted.iter().all(|word| has(own, word));
        let resource = |wanted: &str| {
            let below = wanted.split_once('/').map(|(_, sub)| sub);
            self.resources
                .iter()
                .any(|own| **own == *wanted || below.is_some_and(|sub| own.strip_prefix("*/") == Some(sub)))
        };
        let url = |wanted: &str| self.non_resource_urls.iter().any(|own| url_covers(own, wanted));
        let names = match other.resource_names.is_empty() {
            true => self.resource_names.is_empty(),
            false => {
                self.resource_names.is_empty()
                    || other
                        .resource_names
                        .iter()
                        .all(|name| has(&self.resource_names, name))
            }
        };
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && (has(&self.resources, "*") || other.resources.iter().all(|wanted| resource(wanted)))
            && other.non_resource_urls.iter().all(|wanted| url(wanted))
            && names
    }

    /// The rule in rules of one verb and one thing each. Source: `validation.BreakdownRule`.
    pub fn parts(&self) -> Vec<PolicyRule> {
        let one = |word: &str| -> Words { Box::new([word.into()]) };
        let mut parts = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part = PolicyRule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..PolicyRule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                        continue;
                    }
                    parts.extend(self.resource_names.iter().map(|name| PolicyRule {
                        resource_names: one(name),
                        ..part.clone()
                    }));
                }
            }
        }
        for url in &self.non_resource_urls {
            parts.extend(self.verbs.iter().map(|verb| PolicyRule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..PolicyRule::default()
            }));
        }
        parts
    }
}

/// `own` is `*`, `pods`, `pods/log` or `*/log`.
fn names(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// `own` is `*`, a path, or the start of paths and `*`.
fn url_covers(own: &str, path: &str) -> bool {
    own == path || own.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

/// What of `wanted` no rule of `held` gives, in rules of one verb and one thing each. Source: `validation.Covers`.
#[must_use]
pub fn missing(held: &[&PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let parts = wanted.iter().flat_map(PolicyRule::parts);
    parts
        .filter(|part| !held.iter().any(|rule| rule.covers(part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::User;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let value =
            json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names});
        serde_json::from_value(value).expect("a rule")
    }

    /// `asked`: `verb group resource sub name`, with `-` for nothing.
    #[track_caller]
    fn check(rule: &PolicyRule, asked: &str, want: bool) {
        let user = User::new("u", &[]);
        let words: Vec<&str> = asked.split(' ').map(|w| if w == "-" { "" } else { w }).collect();
        let asked = Attributes {
            subresource: words[3],
            name: words[4],
            ..Attributes::resource(&user, words[0], words[1], words[2])
        };
        assert_eq!(rule.allows(&asked), want, "{words:?} by {rule:?}");
    }

    #[test]
    fn resources() {
        let pods = rule(&["get"], &[""], &["pods"], &[]);
        check(&pods, "get - pods - a", true);
        check(&pods, "list - pods - -", false);
        check(&pods, "get - pods log a", false);
        check(&pods, "get apps pods - a", false);
        let all = rule(&["*"], &["*"], &["*"], &[]);
        check(&all, "get - pods log a", true);
        check(&all, "frob x y z -", true);
        let scales = rule(&["get"], &["*"], &["*/scale"], &[]);
        check(&scales, "get apps deployments scale d", true);
        check(&scales, "get apps deployments - d", false);
        check(&scales, "get apps deployments status d", false);
        let below = rule(&["get"], &[""], &["pods/*"], &[]);
        check(&below, "get - pods log a", false);
        let named = rule(&["get", "create"], &[""], &["pods"], &["a"]);
        check(&named, "get - pods - a", true);
        check(&named, "get - pods - b", false);
        check(&named, "create - pods - -", false);
    }

    #[test]
    fn paths() {
        let user = User::new("u", &[]);
        let rule: PolicyRule =
            serde_json::from_value(json!({"verbs": ["get"], "nonResourceURLs": ["/api", "/livez/*"]}))
                .unwrap();
        for (path, want) in [
            ("/api", true),
            ("/api/v1", false),
            ("/livez", false),
            ("/livez/", true),
            ("/livez/ping", true),
        ] {
            assert_eq!(rule.allows(&Attributes::path(&user, "get", path)), want, "{path}");
        }
        assert!(!rule.allows(&Attributes::path(&user, "post", "/api")));
        // A rule about resources says nothing about paths, and the other way round.
        assert!(!rule.allows(&Attributes::resource(&user, "get", "", "pods")));
        let all = super::super::rules::tests::rule_for_all();
        assert!(!all.allows(&Attributes::path(&user, "get", "/api")));
    }

    #[test]
    fn what_one_rule_covers() {
        let wide = rule(&["get", "list"], &["", "apps"], &["*/scale", "pods"], &[]);
        assert!(wide.covers(&rule(&["get"], &["apps"], &["deployments/scale"], &["a"])));
        assert!(!wide.covers(&rule(&["get"], &["apps"], &["deployments"], &[])));
        assert!(!wide.covers(&rule(&["*"], &["apps"], &["pods"], &[])));
        let named = rule(&["get"], &[""], &["pods"], &["a"]);
        assert!(!named.covers(&rule(&["get"], &[""], &["pods"], &[])));
        assert!(named.covers(&named));
        let asked = rule(&["get", "delete"], &[""], &["pods"], &[]);
        assert_eq!(
            missing(&[&wide], &[asked]),
            [rule(&["delete"], &[""], &["pods"], &[])]
        );
    }
}
