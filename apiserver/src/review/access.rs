//! What somebody may do, as the reviews of authorization.k8s.io say it. Pure.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::Status;
use corten_api::selector::{FieldRequirement, FieldSelector};
use serde_json::{Value, json};

use crate::User;
use crate::authorize::{Attributes, Decision, Fields, Verdict};
use crate::rbac::matches::PolicyRule;

/// The user a review is about.
pub fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let mut user = User::anonymous();
    user.name = text("user");
    user.uid = text("uid");
    user.groups = super::strings(&spec["groups"]);
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), super::strings(values));
    }
    user
}

/// The field selector of a question about resources. `None`: there is none, or one that cannot be read, which narrows
/// nothing.
pub fn fields(spec: &Value) -> Option<FieldSelector> {
    let asked = spec["resourceAttributes"]["fieldSelector"].as_object()?;
    if let Some(raw) = asked
        .get("rawSelector")
        .and_then(Value::as_str)
        .filter(|raw| !raw.is_empty())
    {
        return FieldSelector::parse(raw).ok();
    }
    let requirements = asked.get("requirements")?.as_array()?.iter().filter_map(|asked| {
        let equal = match asked["operator"].as_str()? {
            "In" => true,
            "NotIn" => false,
            _ => return None, // no field selector can say so
        };
        let [value] = asked["values"].as_array()?.as_slice() else {
            return None;
        };
        Some(FieldRequirement {
            field: asked["key"].as_str()?.to_owned(),
            value: value.as_str()?.to_owned(),
            equal,
        })
    });
    Some(FieldSelector {
        requirements: requirements.collect(),
    })
}

/// What the review asks about `user`. `fields`: see [`fields`].
pub fn attributes<'a>(user: &'a User, spec: &'a Value, fields: Option<&'a FieldSelector>) -> Attributes<'a> {
    let text = |object: &'a Value, field: &str| object[field].as_str().unwrap_or_default();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if !resource.is_object() {
        return Attributes::path(user, text(path, "verb"), text(path, "path"));
    }
    Attributes {
        version: text(resource, "version"),
        subresource: text(resource, "subresource"),
        name: text(resource, "name"),
        namespace: text(resource, "namespace"),
        fields: fields.map_or(Fields::None, Fields::Parsed),
        labels: text(&resource["labelSelector"], "rawSelector"),
        ..Attributes::resource(
            user,
            text(resource, "verb"),
            text(resource, "group"),
            text(resource, "resource"),
        )
    }
}

/// `SubjectAccessReviewStatus`.
pub fn status(verdict: &Verdict) -> Value {
    let mut status = json!({"allowed": verdict.allowed()});
    if verdict.decision == Decision::Deny {
        status["denied"] = true.into();
    }
    let reason = verdict.reason.to_string();
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// The namespace a question about all rules is for.
///
/// # Errors
/// `BadRequest` without one.
pub fn namespace(spec: &Value) -> Result<&str, Status> {
    let namespace = spec["namespace"]
        .as_str()
        .filter(|namespace| !namespace.is_empty());
    namespace.ok_or_else(|| Status::bad_request("no namespace on request"))
}

/// `SubjectRulesReviewStatus`: what `rules` allow. `error`: why that is not all.
pub fn rules<'a>(rules: impl Iterator<Item = &'a PolicyRule>, error: Option<String>) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        let value = serde_json::to_value(rule).expect("a rule serialises");
        if rule.resources.is_empty() {
            paths.push(value);
        } else {
            resources.push(value);
        }
    }
    let mut status = json!({
        "resourceRules": resources, "nonResourceRules": paths, "incomplete": error.is_some(),
    });
    if let Some(error) = error {
        status["evaluationError"] = error.into();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_asks_what_a_request_would() {
        let spec = json!({
            "user": "joe", "groups": ["system:masters"], "extra": {"a": ["b"]},
            "resourceAttributes": {
                "verb": "list", "resource": "pods", "subresource": "log", "namespace": "a", "name": "p",
                "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]},
            },
        });
        let user = subject(&spec);
        assert!(user.is_master() && user.extra["a"] == ["b"]);
        let fields = fields(&spec);
        let asked = attributes(&user, &spec, fields.as_ref());
        assert_eq!(
            (asked.verb, asked.resource, asked.subresource),
            ("list", "pods", "log")
        );
        assert_eq!((asked.namespace, asked.name), ("a", "p"));
        assert!(asked.fields.require("spec.nodeName", "n") && !asked.fields.require("spec.nodeName", "m"));
        let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
        assert_eq!(attributes(&user, &path, None).path, "/metrics");
    }

    #[test]
    fn a_selector_that_cannot_be_read_narrows_nothing() {
        let spec = |selector: Value| json!({"resourceAttributes": {"fieldSelector": selector}});
        assert!(fields(&spec(json!({"rawSelector": "a"}))).is_none());
        assert!(
            fields(&spec(
                json!({"requirements": [{"key": "a", "operator": "Exists"}]})
            ))
            .unwrap()
            .is_everything()
        );
        assert_eq!(
            fields(&spec(json!({"rawSelector": "a=b"})))
                .unwrap()
                .required_value("a"),
            Some("b")
        );
    }
}
