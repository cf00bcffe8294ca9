//! One event as it is in the log (audit.k8s.io/v1 `Event`). Pure.
//!
//! Knows the form. Must not know when events are written.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::BTreeMap;

use corten_api::{Status, meta, time};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::policy::{Level, Stage};
use crate::User;
use crate::authorize::Attributes;

/// Longest user agent that is recorded whole. Source: Kubernetes `audit.maxUserAgentLength`.
const MAX_USER_AGENT: usize = 1024;

/// What is known of a request from its beginning.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    pub user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
}

/// How somebody came to act as another user.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    pub impersonation_constraint: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for UserInfo {
    fn from(user: &User) -> UserInfo {
        UserInfo {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// The object a request is about.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl ObjectRef {
    /// `None` for what is no resource.
    #[must_use]
    pub fn of(asked: &Attributes<'_>) -> Option<ObjectRef> {
        asked.is_resource().then(|| ObjectRef {
            resource: asked.resource.to_owned(),
            namespace: asked.namespace.to_owned(),
            name: asked.name.to_owned(),
            api_group: asked.group.to_owned(),
            api_version: asked.version.to_owned(),
            subresource: asked.subresource.to_owned(),
            ..ObjectRef::default()
        })
    }

    /// Adds what only the request's object tells.
    pub fn learn(&mut self, object: &Value) {
        let learn = |known: &mut String, told: &str| {
            if known.is_empty() {
                told.clone_into(known);
            }
        };
        learn(&mut self.namespace, meta::namespace(object));
        learn(&mut self.name, meta::name(object));
        learn(&mut self.uid, meta::uid(object));
        let version = object["metadata"]["resourceVersion"].as_str();
        learn(&mut self.resource_version, version.unwrap_or_default());
    }
}

/// A user agent as it is recorded.
#[must_use]
pub fn user_agent(text: &str) -> String {
    match text.get(..MAX_USER_AGENT) {
        Some(head) if text.len() > MAX_USER_AGENT => format!("{head}...TRUNCATED"),
        _ => text.to_owned(),
    }
}

/// One event, ready to be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event<'a> {
    pub kind: &'static str,
    pub api_version: &'static str,
    pub level: &'static str,
    #[serde(rename = "auditID")]
    pub audit_id: &'a str,
    pub stage: &'static str,
    #[serde(flatten)]
    pub known: &'a Known,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Value>,
    pub request_received_timestamp: String,
    pub stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

impl<'a> Event<'a> {
    /// An event without an answer.
    #[must_use]
    pub fn new(
        level: Level,
        audit_id: &'a str,
        stage: Stage,
        known: &'a Known,
        annotations: &'a BTreeMap<String, String>,
        (received, now): (Timestamp, Timestamp),
    ) -> Event<'a> {
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: level.as_str(),
            audit_id,
            stage: stage.as_str(),
            known,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: time::format_micro_time(received),
            stage_timestamp: time::format_micro_time(now),
            annotations,
        }
    }

    /// The line without its break.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event always serialises")
    }
}

/// `responseStatus`: the code, and what a `Status` among the answers says.
#[must_use]
pub fn response_status(code: u16, said: Option<&Status>) -> Value {
    let mut status = said.map_or_else(|| json!({ "metadata": {} }), Status::to_value);
    if let Some(fields) = status.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    status["code"] = code.into();
    status
}

/// Takes `managedFields` out of an object, of a list's items, of a Table's rows.
pub fn omit_managed_fields(object: &mut Value) {
    let remove = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(object);
    for item in object
        .get_mut("items")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        remove(item);
    }
    for row in object
        .get_mut("rows")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(object) = row.get_mut("object") {
            remove(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_upstreams_form() {
        let jane = User::new("jane", &["dev"]);
        let asked = Attributes {
            version: "v1",
            namespace: "a",
            ..Attributes::resource(&jane, "create", "", "pods")
        };
        let mut object_ref = ObjectRef::of(&asked).expect("a resource");
        object_ref.learn(&json!({ "metadata": { "name": "p", "namespace": "b", "uid": "u" } }));
        let known = Known {
            request_uri: "/api/v1/namespaces/a/pods?x=1".into(),
            verb: "create".into(),
            user: (&jane).into(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: vec!["192.0.2.1".into()],
            user_agent: user_agent("kubectl"),
            object_ref: Some(object_ref),
        };
        let annotations = BTreeMap::from([("authorization.k8s.io/decision".to_owned(), "allow".to_owned())]);
        let at = Timestamp::from_second(1_767_366_245).expect("a time");
        let forbidden = Status::failure(403, "Forbidden", "no");
        let mut event = Event::new(
            Level::Metadata,
            "id",
            Stage::ResponseComplete,
            &known,
            &annotations,
            (at, at),
        );
        event.response_status = Some(response_status(403, Some(&forbidden)));
        let line: Value = serde_json::from_slice(&event.line()).expect("JSON");
        assert_eq!(
            line,
            json!({
                "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "id",
                "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/a/pods?x=1", "verb": "create",
                "user": { "username": "jane", "groups": ["dev", "system:authenticated"] },
                "sourceIPs": ["192.0.2.1"], "userAgent": "kubectl",
                "objectRef": { "resource": "pods", "namespace": "a", "name": "p", "uid": "u", "apiVersion": "v1" },
                "responseStatus": { "metadata": {}, "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403 },
                "requestReceivedTimestamp": "2026-01-02T15:04:05.000000Z",
                "stageTimestamp": "2026-01-02T15:04:05.000000Z",
                "annotations": { "authorization.k8s.io/decision": "allow" },
            })
        );
        assert_eq!(response_status(200, None), json!({ "metadata": {}, "code": 200 }));
        assert!(user_agent(&"a".repeat(2000)).ends_with("a...TRUNCATED"));
    }

    #[test]
    fn managed_fields_are_left_out_everywhere() {
        let with = json!({ "metadata": { "name": "a", "managedFields": [1] } });
        let without = json!({ "metadata": { "name": "a" } });
        let wrapped = |object: &Value| {
            let mut whole = object.clone();
            whole["items"] = json!([object]);
            whole["rows"] = json!([{ "object": object }]);
            whole
        };
        let mut object = wrapped(&with);
        omit_managed_fields(&mut object);
        assert_eq!(object, wrapped(&without));
    }
}
