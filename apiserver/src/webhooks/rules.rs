//! Which requests a webhook or a policy is about: rules, scopes, selectors of namespaces and objects. Pure.
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/webhook/predicates` and `plugin/policy/matching`.

use corten_api::resource::TypeRef;
use corten_api::selector::LabelSelector;
use corten_api::{ResourceType, Status, meta, registry};
use corten_store::Snapshot;
use serde_json::Value;

use crate::types::Types;
use crate::write::Subject;
use crate::write::admission::{Attributes, Operation};

const ADMISSION: &str = "admissionregistration.k8s.io";

/// Objects that decide about admission: nothing configured may stand between them and who mends them.
#[must_use]
pub fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.subject.ty.group == ADMISSION
}

/// One element of `rules`, `resourceRules` or `excludeResourceRules`.
#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, either may be `*`.
    resources: Vec<(String, String)>,
    operations: Vec<String>,
    /// `None`: all.
    namespaced: Option<bool>,
    /// Empty: all.
    names: Vec<String>,
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Rule {
    fn of(rule: &Value) -> Rule {
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (resource, String::new()),
        };
        Rule {
            groups: strings(&rule["apiGroups"]),
            versions: strings(&rule["apiVersions"]),
            resources: strings(&rule["resources"]).into_iter().map(split).collect(),
            operations: strings(&rule["operations"]),
            namespaced: match rule["scope"].as_str() {
                Some("Namespaced") => Some(true),
                Some("Cluster") => Some(false),
                _ => None,
            },
            names: strings(&rule["resourceNames"]),
        }
    }

    fn matches(&self, attributes: &Attributes<'_>, ty: &ResourceType) -> bool {
        let one = |list: &[String], own: &str| list.iter().any(|item| item == "*" || item == own);
        let fits = |pattern: &str, own: &str| pattern == "*" || pattern == own;
        one(&self.groups, &ty.group)
            && one(&self.versions, &ty.version)
            && one(&self.operations, attributes.operation.as_str())
            && self
                .resources
                .iter()
                .any(|(resource, sub)| fits(resource, &ty.plural) && fits(sub, attributes.subresource))
            && self
                .namespaced
                .is_none_or(|namespaced| namespaced == ty.namespaced)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }
}

/// How a request is seen by who asked for it: as it came, or in an equivalent form.
#[derive(Debug, Clone)]
pub struct Form {
    /// `None`: as it came.
    pub other: Option<TypeRef>,
}

/// What a webhook's or a policy's constraints say.
#[derive(Debug)]
pub struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Constraints {
    /// Of a webhook: `rules` beside the selectors.
    #[must_use]
    pub fn of_webhook(hook: &Value) -> Constraints {
        Constraints::of(hook, &hook["rules"])
    }

    /// Of a policy's `matchConstraints` or a binding's `matchResources`.
    #[must_use]
    pub fn of_policy(matching: &Value) -> Constraints {
        Constraints::of(matching, &matching["resourceRules"])
    }

    fn of(value: &Value, rules: &Value) -> Constraints {
        // A selector that cannot be read, which validation does not let in, excludes nothing.
        let selector = |field: &str| match &value[field] {
            Value::Null => LabelSelector::everything(),
            selector => LabelSelector::from_value(selector).unwrap_or_default(),
        };
        let all = |rules: &Value| rules.as_array().into_iter().flatten().map(Rule::of).collect();
        Constraints {
            rules: all(rules),
            excluded: all(&value["excludeResourceRules"]),
            equivalent: value["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// A binding without rules of its own takes every resource the policy takes.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// In which form the request is matched; `None`: it is not.
    ///
    /// # Errors
    /// The namespace whose labels count is not there.
    pub fn matches(
        &self,
        attributes: &Attributes<'_>,
        snapshot: &Snapshot,
        object: &Value,
        types: &Types,
    ) -> Result<Option<Form>, Status> {
        if !self.objects.is_everything() && !self.selects_object(attributes, object) {
            return Ok(None);
        }
        // The cheapest test that excludes most requests comes before the namespace is read.
        if self.excludes(attributes, types) {
            return Ok(None);
        }
        let Some(form) = self.form(attributes, types) else {
            return Ok(None);
        };
        Ok(self
            .selects_namespace(attributes, snapshot, object)?
            .then_some(form))
    }

    /// The selectors and exclusions alone, for a binding without rules.
    ///
    /// # Errors
    /// See [`Constraints::matches`].
    pub fn admits(
        &self,
        attributes: &Attributes<'_>,
        snapshot: &Snapshot,
        object: &Value,
        types: &Types,
    ) -> Result<bool, Status> {
        if !self.objects.is_everything() && !self.selects_object(attributes, object) {
            return Ok(false);
        }
        if self.excludes(attributes, types) {
            return Ok(false);
        }
        self.selects_namespace(attributes, snapshot, object)
    }

    fn excludes(&self, attributes: &Attributes<'_>, types: &Types) -> bool {
        let hit = |ty: &ResourceType| self.excluded.iter().any(|rule| rule.matches(attributes, ty));
        !self.excluded.is_empty()
            && (hit(attributes.subject.ty)
                || self.equivalent && equivalents(attributes, types).iter().any(|other| hit(other)))
    }

    fn form(&self, attributes: &Attributes<'_>, types: &Types) -> Option<Form> {
        let own = attributes.subject.ty;
        if self.rules.iter().any(|rule| rule.matches(attributes, own)) {
            return Some(Form { other: None });
        }
        if !self.equivalent {
            return None;
        }
        let others = equivalents(attributes, types);
        let found = self.rules.iter().find_map(|rule| {
            let mut others = others.iter();
            others.find(|other| rule.matches(attributes, other)).cloned()
        });
        found.map(|other| Form { other: Some(other) })
    }

    fn selects_object(&self, attributes: &Attributes<'_>, object: &Value) -> bool {
        let selected =
            |object: &Value| object["metadata"].is_object() && self.objects.matches(meta::labels(object));
        // What a connection asks for has no labels.
        let is_object = attributes.operation != Operation::Connect;
        is_object && (selected(object) || attributes.old.is_some_and(selected))
    }

    fn selects_namespace(
        &self,
        attributes: &Attributes<'_>,
        snapshot: &Snapshot,
        object: &Value,
    ) -> Result<bool, Status> {
        if self.namespaces.is_everything() {
            return Ok(true);
        }
        let ty = attributes.subject.ty;
        let is_namespace = ty.group.is_empty() && ty.plural == "namespaces";
        if !is_namespace && attributes.subject.namespace.is_empty() {
            return Ok(true);
        }
        let changes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_namespace && attributes.subresource.is_empty() && changes {
            return Ok(self.namespaces.matches(meta::labels(object)));
        }
        let namespace = namespace_of(attributes, snapshot)?;
        Ok(self.namespaces.matches(meta::labels(&namespace)))
    }
}

/// The name of the namespace a request is in; a Namespace is in itself. Empty for cluster scope.
#[must_use]
pub fn namespace_name<'a>(attributes: &Attributes<'a>) -> &'a str {
    let ty = attributes.subject.ty;
    if ty.group.is_empty() && ty.plural == "namespaces" {
        return attributes.name;
    }
    attributes.subject.namespace
}

/// The Namespace a request is in.
///
/// # Errors
/// `NotFound`.
pub fn namespace_of(attributes: &Attributes<'_>, snapshot: &Snapshot) -> Result<Value, Status> {
    let ty = registry()
        .lookup("", "v1", "namespaces")
        .expect("Namespaces are built in");
    let subject = Subject { ty, namespace: "" };
    Ok(subject.read(snapshot, namespace_name(attributes))?.value)
}

/// Other forms in which the same objects are served, with the subresource that is meant.
fn equivalents(attributes: &Attributes<'_>, types: &Types) -> Vec<TypeRef> {
    let own = attributes.subject.ty;
    if own.as_custom().is_none() && !own.has_other_forms() {
        return Vec::new();
    }
    let same = |other: &&TypeRef| {
        other.storage() == own.storage()
            && (&other.group, &other.version, &other.plural) != (&own.group, &own.version, &own.plural)
            && (attributes.subresource.is_empty() || other.subresource(attributes.subresource).is_some())
    };
    types.all().iter().filter(same).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Asker;
    use serde_json::json;

    /// `request`: `OPERATION group/version/plural[/subresource] [name]`.
    #[track_caller]
    fn check(rule: &Value, request: &str, want: bool) {
        let words: Vec<&str> = request.split(' ').collect();
        let path: Vec<&str> = words[1].split('/').collect();
        let group = if path[0] == "core" { "" } else { path[0] };
        let ty = registry()
            .lookup(group, path[1], path[2])
            .expect("a built-in type");
        let asker = Asker::default();
        let operation = match words[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Connect,
        };
        let namespace = if ty.namespaced { "default" } else { "" };
        let subject = Subject { ty, namespace };
        let attributes = Attributes {
            subresource: path.get(3).copied().unwrap_or_default(),
            ..asker.attributes(subject, operation, words.get(2).copied().unwrap_or_default())
        };
        assert_eq!(Rule::of(rule).matches(&attributes, ty), want, "{request}");
    }

    #[test]
    fn rules_name_what_they_mean() {
        let rule = |resources: Value, more: Value| {
            let mut rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": resources});
            for (key, value) in more.as_object().into_iter().flatten() {
                rule[key] = value.clone();
            }
            rule
        };
        let all = rule(json!(["*"]), json!({}));
        check(&all, "CREATE core/v1/pods", true);
        check(&all, "CREATE core/v1/pods/binding", false);
        let deep = rule(json!(["*/*"]), json!({}));
        check(&deep, "CREATE core/v1/pods/binding", true);
        check(&deep, "CREATE core/v1/pods", true);
        let scales = rule(json!(["*/scale"]), json!({"operations": ["UPDATE"]}));
        check(&scales, "UPDATE apps/v1/deployments/scale", true);
        check(&scales, "UPDATE apps/v1/deployments", false);
        check(&scales, "CREATE apps/v1/deployments/scale", false);
        let pods = rule(
            json!(["pods/*", "pods"]),
            json!({"apiGroups": [""], "apiVersions": ["v1"]}),
        );
        check(&pods, "CONNECT core/v1/pods/exec", true);
        check(&pods, "DELETE core/v1/pods", true);
        check(&pods, "DELETE apps/v1/deployments", false);
        let cluster = rule(json!(["*"]), json!({"scope": "Cluster"}));
        check(&cluster, "CREATE core/v1/namespaces", true);
        check(&cluster, "CREATE core/v1/pods", false);
        let named = rule(
            json!(["pods"]),
            json!({"resourceNames": ["a"], "scope": "Namespaced"}),
        );
        check(&named, "UPDATE core/v1/pods a", true);
        check(&named, "UPDATE core/v1/pods b", false);
    }
}
