//! The audit policy (audit.k8s.io/v1 `Policy`): which requests are recorded, and how much of them. Pure.
//!
//! The first rule that matches decides; a request that none matches is not recorded. Source: Kubernetes
//! `apiserver/pkg/audit/policy`, `apis/audit/validation`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::field::FieldErrors;
use serde_json::Value;

use crate::authorize::Attributes;
use crate::negotiate;

/// How much of a request is recorded. Each level has what the ones before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Metadata,
    /// Also the request's object.
    Request,
    /// Also the object that was answered.
    RequestResponse,
}

impl Level {
    pub const ALL: [Level; 4] = [
        Level::None,
        Level::Metadata,
        Level::Request,
        Level::RequestResponse,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// Where a request is when an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    RequestReceived,
    /// The head of the answer is there. Only of requests that last: watches, logs, connections.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    const ALL: [Stage; 4] = [
        Stage::RequestReceived,
        Stage::ResponseStarted,
        Stage::ResponseComplete,
        Stage::Panic,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A set of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages(u8);

impl Stages {
    #[must_use]
    pub fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }

    fn insert(&mut self, stage: Stage) {
        self.0 |= 1 << stage as u8;
    }
}

/// What a policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    /// Stages without an event.
    pub omit: Stages,
    pub omit_managed_fields: bool,
}

#[derive(Debug, Default)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
    omit: Stages,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    omit: Stages,
    omit_managed_fields: bool,
}

/// What is recorded when there is no policy file: who wrote what, without the contents of Secrets, ConfigMaps and tokens; of
/// reads only that they were, and of health checks nothing.
const DEFAULT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*"]
- level: Metadata
  resources:
  - resources: [secrets, configmaps, serviceaccounts/token]
  - group: authentication.k8s.io
    resources: [tokenreviews]
- level: None
  resources:
  - resources: [events]
  - group: events.k8s.io
  - group: coordination.k8s.io
    resources: [leases]
- level: Request
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: "*"
- level: Metadata
"#;

impl Policy {
    /// See [`DEFAULT`].
    #[must_use]
    pub fn built_in() -> Policy {
        Policy::read(DEFAULT, true).expect("the built-in policy is a good one")
    }

    /// A policy file, YAML or JSON.
    ///
    /// # Errors
    /// With upstream's texts: what is not a policy, unknown fields, and every bad field of the rules.
    pub fn parse(text: &str) -> Result<Policy, String> {
        Policy::read(text, false)
    }

    /// `any_group`: a group `*` is every group, which a policy file cannot say.
    fn read(text: &str, any_group: bool) -> Result<Policy, String> {
        let undecodable = |why: String| format!("failed decoding: {why}");
        let json = negotiate::yaml_to_json(text.as_bytes())
            .map_err(|error| undecodable(format!("error converting YAML to JSON: yaml: {error}")))?;
        let value: Value = serde_json::from_slice(&json).map_err(|error| undecodable(error.to_string()))?;
        let name = |field: &str| value[field].as_str().unwrap_or_default();
        for field in ["kind", "apiVersion"] {
            if name(field).is_empty() {
                let title = if field == "kind" { "Kind" } else { "apiVersion" };
                return Err(undecodable(format!("Object '{title}' is missing in '{value}'")));
            }
        }
        if name("apiVersion") != "audit.k8s.io/v1" || name("kind") != "Policy" {
            return Err(undecodable(format!(
                "no kind {:?} is registered for version {:?} in scheme",
                name("kind"),
                name("apiVersion")
            )));
        }
        let mut reader = Reader::default();
        let mut policy = reader.policy(&value);
        if !reader.unknown.is_empty() {
            return Err(undecodable(format!(
                "strict decoding error: {}",
                reader.unknown.join(", ")
            )));
        }
        let errors = reader.check(&policy, any_group);
        if !errors.is_empty() {
            return Err(errors.aggregate());
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        for rule in &mut policy.rules {
            rule.omit.0 |= policy.omit.0;
        }
        Ok(policy)
    }

    /// What is recorded of a request. Allocates nothing.
    #[must_use]
    pub fn evaluate(&self, asked: &Attributes<'_>) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(asked));
        Verdict {
            level: rule.and_then(|rule| rule.level).unwrap_or(Level::None),
            omit: rule.map_or(self.omit, |rule| rule.omit),
            omit_managed_fields: rule
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|known| known == value);
        if !self.users.is_empty() && !has(&self.users, &asked.user.name) {
            return false;
        }
        if !self.groups.is_empty() && !asked.user.groups.iter().any(|group| has(&self.groups, group)) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, asked.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.is_resource()
                && (self.namespaces.is_empty() || has(&self.namespaces, asked.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|of| of.matches(asked)));
        }
        self.paths.is_empty()
            || !asked.is_resource() && self.paths.iter().any(|spec| path_matches(spec, asked.path))
    }
}

impl GroupResources {
    fn matches(&self, asked: &Attributes<'_>) -> bool {
        if self.group != asked.group && self.group != "*" {
            return false;
        }
        let named = self.names.is_empty() || self.names.iter().any(|name| name == asked.name);
        self.resources.is_empty()
            || named
                && self.resources.iter().any(|wanted| match wanted.split_once('/') {
                    None => wanted == "*" || asked.subresource.is_empty() && wanted == asked.resource,
                    Some(("*", sub)) => !asked.subresource.is_empty() && sub == asked.subresource,
                    Some((resource, "*")) => resource == asked.resource,
                    Some((resource, sub)) => resource == asked.resource && sub == asked.subresource,
                })
    }
}

fn path_matches(spec: &str, path: &str) -> bool {
    spec == "*" || spec == path || spec.ends_with('*') && path.starts_with(spec.trim_end_matches('*'))
}

/// Reads the document, and notes what does not belong there, with its field.
#[derive(Default)]
struct Reader {
    unknown: Vec<String>,
    bad_levels: Vec<(String, String)>,
    bad_stages: Vec<(String, String)>,
}

impl Reader {
    fn policy(&mut self, value: &Value) -> Policy {
        let fields = [
            "apiVersion",
            "kind",
            "metadata",
            "rules",
            "omitStages",
            "omitManagedFields",
        ];
        self.only(value, "", &fields);
        let rules = value["rules"].as_array().map_or(&[][..], Vec::as_slice);
        let rules = rules.iter().enumerate();
        Policy {
            rules: rules
                .map(|(at, rule)| self.rule(rule, &format!("rules[{at}]")))
                .collect(),
            // Upstream does not look at the stages that are omitted everywhere: unknown ones omit nothing.
            omit: self.stages(&value["omitStages"], None),
            omit_managed_fields: value["omitManagedFields"].as_bool().unwrap_or(false),
        }
    }

    fn rule(&mut self, value: &Value, at: &str) -> Rule {
        let fields = [
            "level",
            "users",
            "userGroups",
            "verbs",
            "resources",
            "namespaces",
            "nonResourceURLs",
            "omitStages",
            "omitManagedFields",
        ];
        self.only(value, at, &fields);
        let level = value["level"].as_str().unwrap_or_default();
        let known = Level::ALL.into_iter().find(|known| known.as_str() == level);
        if known.is_none() {
            self.bad_levels.push((format!("{at}.level"), level.to_owned()));
        }
        let groups = value["resources"].as_array().map_or(&[][..], Vec::as_slice);
        Rule {
            level: known,
            users: texts(&value["users"]),
            groups: texts(&value["userGroups"]),
            verbs: texts(&value["verbs"]),
            resources: groups
                .iter()
                .enumerate()
                .map(|(number, group)| {
                    let at = format!("{at}.resources[{number}]");
                    self.only(group, &at, &["group", "resources", "resourceNames"]);
                    GroupResources {
                        group: group["group"].as_str().unwrap_or_default().to_owned(),
                        resources: texts(&group["resources"]),
                        names: texts(&group["resourceNames"]),
                    }
                })
                .collect(),
            namespaces: texts(&value["namespaces"]),
            paths: texts(&value["nonResourceURLs"]),
            omit: self.stages(&value["omitStages"], Some(at)),
            omit_managed_fields: value["omitManagedFields"].as_bool(),
        }
    }

    fn stages(&mut self, value: &Value, rule: Option<&str>) -> Stages {
        let mut stages = Stages::default();
        for (number, name) in texts(value).into_iter().enumerate() {
            match (Stage::ALL.into_iter().find(|stage| stage.as_str() == name), rule) {
                (Some(stage), _) => stages.insert(stage),
                (None, Some(rule)) => self
                    .bad_stages
                    .push((format!("{rule}.omitStages[{number}]"), name)),
                (None, None) => {}
            }
        }
        stages
    }

    fn only(&mut self, value: &Value, at: &str, fields: &[&str]) {
        for field in value.as_object().into_iter().flat_map(|object| object.keys()) {
            if !fields.contains(&field.as_str()) {
                let dot = if at.is_empty() { "" } else { "." };
                self.unknown.push(format!("unknown field \"{at}{dot}{field}\""));
            }
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

impl Reader {
    fn check(&self, policy: &Policy, any_group: bool) -> FieldErrors {
        let mut errors = FieldErrors::default();
        for (number, rule) in policy.rules.iter().enumerate() {
            let at = format!("rules[{number}]");
            for (field, level) in self
                .bad_levels
                .iter()
                .filter(|(field, _)| *field == format!("{at}.level"))
            {
                match level.as_str() {
                    "" => errors.required(field, ""),
                    level => errors.not_supported(field, level, &Level::ALL.map(Level::as_str)),
                }
            }
            check_paths(&rule.paths, &at, &mut errors);
            for of in &rule.resources {
                let everywhere = any_group && of.group == "*";
                if !of.group.is_empty() && !everywhere {
                    for problem in corten_api::names::dns_subdomain(&of.group) {
                        errors.invalid(format!("{at}.resources.group"), of.group.as_str(), &problem);
                    }
                }
                if !of.names.is_empty() && of.resources.is_empty() {
                    let why = "using resourceNames requires at least one resource";
                    errors.invalid(format!("{at}.resources.resourceNames"), json(&of.names), why);
                }
            }
            let begins = format!("{at}.omitStages");
            for (field, stage) in self
                .bad_stages
                .iter()
                .filter(|(field, _)| field.starts_with(&begins))
            {
                let allowed = Stage::ALL.map(Stage::as_str).join(",");
                errors.invalid(field, stage.as_str(), &format!("allowed stages are {allowed}"));
            }
            if !rule.paths.is_empty() && (!rule.resources.is_empty() || !rule.namespaces.is_empty()) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(format!("{at}.nonResourceURLs"), json(&rule.paths), why);
            }
        }
        errors
    }
}

fn check_paths(paths: &[String], at: &str, errors: &mut FieldErrors) {
    for (number, path) in paths.iter().enumerate().filter(|(_, path)| *path != "*") {
        let at = format!("{at}.nonResourceURLs[{number}]");
        if !path.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.invalid(&at, path.as_str(), why);
        }
        if path
            .char_indices()
            .any(|(index, c)| c == '*' && index + 1 < path.len())
        {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.invalid(&at, path.as_str(), why);
        }
    }
}

fn json(texts: &[String]) -> Value {
    texts.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn policy(rules: &str) -> Result<Policy, String> {
        Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"
        ))
    }

    #[track_caller]
    fn refused(rules: &str, want: &str) {
        let got = policy(rules).expect_err("a bad policy");
        assert_eq!(got, want);
    }

    #[test]
    fn bad_policies_get_upstreams_texts() {
        refused("", "loaded illegal policy with 0 rules");
        refused("- users: [a]", "rules[0].level: Required value");
        refused(
            "- level: Some",
            "rules[0].level: Unsupported value: \"Some\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
        );
        refused(
            "- level: None\n  nonResourceURLs: [healthz]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' character",
        );
        refused(
            "- level: None\n  nonResourceURLs: [\"/a*b\"]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule",
        );
        refused(
            "- level: None\n  omitStages: [Late]",
            "rules[0].omitStages[0]: Invalid value: \"Late\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
        );
        refused(
            "- level: None\n  resources: [{resourceNames: [a]}]",
            "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
        );
        refused(
            "- level: None\n  resources: [{resource: [a]}]",
            "failed decoding: strict decoding error: unknown field \"rules[0].resources[0].resource\"",
        );
        let both = policy("- level: None\n  nonResourceURLs: [\"/a\"]\n  namespaces: [b]").expect_err("both");
        assert!(both.contains("rules cannot apply to both"), "{both}");
        let group = policy("- level: None\n  resources: [{group: rbac/v1}]").expect_err("a version");
        assert!(
            group.starts_with("rules[0].resources.group: Invalid value: \"rbac/v1\""),
            "{group}"
        );
        let kind = Policy::parse("apiVersion: v1\nkind: Pod").expect_err("no policy");
        assert!(kind.contains("no kind \"Pod\" is registered"), "{kind}");
        let none = Policy::parse("rules: []").expect_err("no kind");
        assert!(none.contains("Object 'Kind' is missing"), "{none}");
    }

    #[track_caller]
    fn check(policy: &Policy, asked: Attributes<'_>, want: Level) {
        assert_eq!(policy.evaluate(&asked).level, want, "{asked:?}");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(
            "- {level: None, users: [quiet]}
- {level: Metadata, userGroups: [dev], verbs: [list]}
- {level: Request, resources: [{resources: [pods/log, services/*, '*/scale']}], namespaces: [a, '']}
- {level: RequestResponse, resources: [{group: apps, resources: [deployments], resourceNames: [web]}]}
- {level: Metadata, nonResourceURLs: ['/api*', '/x'], omitStages: [RequestReceived]}",
        )
        .expect("a policy");
        let (jane, dev, quiet) = (
            User::new("jane", &[]),
            User::new("d", &["dev"]),
            User::new("quiet", &[]),
        );
        let of = |group, resource, subresource, namespace, name| Attributes {
            subresource,
            namespace,
            name,
            ..Attributes::resource(&jane, "get", group, resource)
        };
        check(
            &policy,
            Attributes::resource(&quiet, "get", "", "pods"),
            Level::None,
        );
        check(
            &policy,
            Attributes::resource(&dev, "list", "", "pods"),
            Level::Metadata,
        );
        check(
            &policy,
            Attributes::resource(&dev, "get", "", "pods"),
            Level::None,
        );
        check(&policy, of("", "pods", "log", "a", "p"), Level::Request);
        check(&policy, of("", "pods", "log", "b", "p"), Level::None);
        check(&policy, of("", "pods", "", "a", "p"), Level::None);
        check(&policy, of("", "services", "proxy", "a", "p"), Level::Request);
        check(&policy, of("", "services", "", "", "p"), Level::Request);
        check(
            &policy,
            of("", "replicationcontrollers", "scale", "a", "p"),
            Level::Request,
        );
        check(
            &policy,
            of("apps", "deployments", "", "b", "web"),
            Level::RequestResponse,
        );
        check(&policy, of("apps", "deployments", "", "b", "db"), Level::None);
        check(
            &policy,
            Attributes::path(&jane, "get", "/apis/apps"),
            Level::Metadata,
        );
        check(&policy, Attributes::path(&jane, "get", "/x/y"), Level::None);
        let omit = policy.evaluate(&Attributes::path(&jane, "get", "/x")).omit;
        assert!(omit.contains(Stage::RequestReceived) && !omit.contains(Stage::ResponseComplete));
    }

    #[test]
    fn the_built_in_policy_has_no_bodies_of_secrets() {
        let (policy, jane) = (Policy::built_in(), User::new("jane", &[]));
        for (group, resource, sub) in [
            ("", "secrets", ""),
            ("", "configmaps", ""),
            ("", "serviceaccounts", "token"),
            ("authentication.k8s.io", "tokenreviews", ""),
        ] {
            for verb in [
                "get",
                "create",
                "update",
                "patch",
                "delete",
                "deletecollection",
                "list",
            ] {
                let asked = Attributes {
                    subresource: sub,
                    ..Attributes::resource(&jane, verb, group, resource)
                };
                check(&policy, asked, Level::Metadata);
            }
        }
        check(
            &policy,
            Attributes::resource(&jane, "create", "apps", "deployments"),
            Level::Request,
        );
        check(
            &policy,
            Attributes::resource(&jane, "get", "apps", "deployments"),
            Level::Metadata,
        );
        check(&policy, Attributes::path(&jane, "get", "/livez"), Level::None);
    }
}
