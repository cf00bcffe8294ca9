//! FlowSchemas and PriorityLevelConfigurations, read and compiled: which flow a request belongs to. Pure.
//!
//! Source: Kubernetes `apiserver/pkg/util/flowcontrol/rule.go`, `apf_controller.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use serde::Deserialize;
use serde_json::Value;

use super::level::{Limited, Spec};
use super::queues::Shape;
use super::shares::Shares;
use crate::User;
use crate::authorize::Attributes;

/// Why two objects may be missing and still be in force.
pub const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    priority_level_configuration: Named,
    #[serde(default)]
    matching_precedence: i32,
    distinguisher_method: Option<Method>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct Method {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    subjects: Vec<Subject>,
    #[serde(default)]
    resource_rules: Vec<ResourceRule>,
    #[serde(default)]
    non_resource_rules: Vec<PathRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    cluster_scope: bool,
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

/// What tells the flows of one schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

impl SchemaSpec {
    /// `None` for a spec that is not one.
    #[must_use]
    pub fn read(object: &Value) -> Option<SchemaSpec> {
        SchemaSpec::deserialize(&object["spec"]).ok()
    }

    /// The name of its priority level.
    #[must_use]
    pub fn level(&self) -> &str {
        &self.priority_level_configuration.name
    }

    /// The smallest is asked first.
    #[must_use]
    pub fn precedence(&self) -> i32 {
        self.matching_precedence
    }

    #[must_use]
    pub fn distinguisher(&self) -> Distinguisher {
        match self
            .distinguisher_method
            .as_ref()
            .map(|method| method.kind.as_str())
        {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        }
    }

    /// Whether a request is of this schema. Allocates nothing.
    #[must_use]
    pub fn matches(&self, asked: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(asked.user))
                && if asked.is_resource() {
                    rule.resource_rules.iter().any(|rule| rule.matches(asked))
                } else {
                    rule.non_resource_rules.iter().any(|rule| rule.matches(asked))
                }
        })
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        if let Some(wanted) = &self.user {
            return wanted.name == "*" || wanted.name == user.name;
        }
        if let Some(wanted) = &self.group {
            return wanted.name == "*" || user.groups.contains(&wanted.name);
        }
        let Some(wanted) = &self.service_account else {
            return false;
        };
        let account = user.name.strip_prefix("system:serviceaccount:");
        let parts = account.and_then(|account| account.split_once(':'));
        parts.is_some_and(|(namespace, name)| {
            namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name)
        })
    }
}

/// A `*` stands alone in its list; validation sees to that.
fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|known| known == value || known == "*")
}

impl ResourceRule {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && self.resources.iter().any(|wanted| names(wanted, asked))
            && has(&self.api_groups, asked.group)
            && match asked.namespace {
                "" => self.cluster_scope,
                namespace => has(&self.namespaces, namespace),
            }
    }
}

/// `pods`, `pods/log` or `*`.
fn names(wanted: &str, asked: &Attributes<'_>) -> bool {
    match wanted.split_once('/') {
        _ if wanted == "*" => true,
        None => asked.subresource.is_empty() && wanted == asked.resource,
        Some((resource, sub)) => resource == asked.resource && sub == asked.subresource,
    }
}

impl PathRule {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let below = |wanted: &str| {
            let begin = wanted.strip_suffix('*').unwrap_or(wanted);
            let begin = begin.strip_suffix('/').unwrap_or(begin);
            let rest = asked.path.strip_prefix(begin);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let is = |wanted: &String| wanted == "*" || wanted == asked.path || below(wanted);
        has(&self.verbs, asked.verb) && self.paths.iter().any(is)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LevelSpec {
    #[serde(rename = "type")]
    kind: String,
    limited: Option<LimitedSpec>,
    exempt: Option<ExemptSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LimitedSpec {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
    borrowing_limit_percent: Option<u32>,
    limit_response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExemptSpec {
    #[serde(default)]
    nominal_concurrency_shares: u32,
    #[serde(default)]
    lendable_percent: u32,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "type")]
    kind: String,
    queuing: Option<Queuing>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queuing {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

/// What a PriorityLevelConfiguration says, and the shares that an exempt one takes from the others; `None` for a spec that
/// is not one. Upstream pretends that such objects do not exist.
#[must_use]
pub fn level(object: &Value) -> Option<(Spec, Shares)> {
    let spec = LevelSpec::deserialize(&object["spec"]).ok()?;
    if spec.kind == "Exempt" {
        let shares = Shares {
            nominal: spec
                .exempt
                .as_ref()
                .map_or(0, |exempt| exempt.nominal_concurrency_shares),
            lendable: spec.exempt.as_ref().map_or(0, |exempt| exempt.lendable_percent),
            borrowing: None,
        };
        return Some((Spec { limited: None }, shares));
    }
    let limited = spec.limited?;
    let shares = Shares {
        nominal: limited.nominal_concurrency_shares.unwrap_or(30),
        lendable: limited.lendable_percent.unwrap_or(0),
        borrowing: limited.borrowing_limit_percent,
    };
    let response = limited.limit_response?;
    let shape = match response.kind.as_str() {
        "Queue" => {
            let queuing = response.queuing?;
            Some(Shape {
                queues: queuing.queues,
                hand: queuing.hand_size,
                length: queuing.queue_length_limit,
            })
        }
        _ => None,
    };
    let limited = Some(Limited { shares, shape });
    Some((Spec { limited }, shares))
}

#[cfg(test)]
mod tests {
    use corten_api::kinds::flowcontrol::suggested;

    use super::*;

    /// The schema and level of upstream's configuration that a request belongs to.
    #[track_caller]
    fn check(asked: &Attributes<'_>, want: &str) {
        let mut schemas: Vec<(SchemaSpec, String)> = suggested::flow_schemas()
            .iter()
            .map(|object| {
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                (SchemaSpec::read(object).expect("a schema"), name)
            })
            .collect();
        schemas.sort_by(|a, b| (a.0.precedence(), &a.1).cmp(&(b.0.precedence(), &b.1)));
        let found = schemas.iter().find(|(schema, _)| schema.matches(asked));
        let got = found.map(|(schema, name)| format!("{name} {}", schema.level()));
        assert_eq!(got.as_deref(), Some(want), "{asked:?}");
    }

    #[test]
    fn upstreams_configuration_sorts_requests_as_upstream_does() {
        let of = |user, verb, group, resource, subresource, namespace| Attributes {
            subresource,
            namespace,
            ..Attributes::resource(user, verb, group, resource)
        };
        let leases = "coordination.k8s.io";
        let (admin, jane) = (User::component("admin"), User::new("jane", &[]));
        let node = User::new("system:node:n", &["system:nodes"]);
        let system = User::service_account("kube-system", "deployment-controller");
        let account = User::service_account("default", "default");
        check(&of(&admin, "get", "", "pods", "", "a"), "exempt exempt");
        check(
            &Attributes::path(&User::anonymous(), "get", "/livez"),
            "probes exempt",
        );
        check(&Attributes::path(&jane, "get", "/livez/ping"), "probes exempt");
        check(
            &Attributes::path(&jane, "get", "/livezy"),
            "global-default global-default",
        );
        check(
            &Attributes::path(&jane, "post", "/livez"),
            "global-default global-default",
        );
        check(
            &of(&node, "patch", "", "nodes", "status", ""),
            "system-node-high node-high",
        );
        check(
            &of(&node, "update", leases, "leases", "", "kube-node-lease"),
            "system-node-high node-high",
        );
        check(
            &of(&node, "patch", "", "pods", "status", "a"),
            "system-nodes system",
        );
        check(
            &of(&system, "update", leases, "leases", "", "kube-system"),
            "system-leader-election leader-election",
        );
        check(
            &of(&system, "list", "apps", "deployments", "", ""),
            "kube-system-service-accounts workload-high",
        );
        check(
            &of(&account, "list", "", "pods", "", "a"),
            "service-accounts workload-low",
        );
        check(
            &of(&jane, "list", "", "pods", "", ""),
            "global-default global-default",
        );
        let scheduler = User::new("system:kube-scheduler", &[]);
        check(
            &of(&scheduler, "create", "", "pods", "binding", "a"),
            "kube-scheduler workload-high",
        );
    }

    #[test]
    fn levels_are_read() {
        let find = |name: &str| {
            let found = suggested::priority_levels()
                .iter()
                .find(|o| o["metadata"]["name"] == name);
            level(found.expect("a level")).expect("a good one").0
        };
        assert_eq!(find("exempt").limited, None);
        assert_eq!(find("catch-all").limited.expect("limited").shape, None);
        let low = find("workload-low").limited.expect("limited");
        assert_eq!(
            (low.shares.nominal, low.shares.lendable, low.shares.borrowing),
            (100, 90, None)
        );
        assert_eq!(
            low.shape.map(|shape| (shape.queues, shape.hand, shape.length)),
            Some((128, 6, 50))
        );
        assert!(level(&serde_json::json!({ "spec": { "type": "Limited" } })).is_none());
    }
}
