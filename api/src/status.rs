//! `metav1.Status`: every error the API can answer, with Kubernetes' codes, reasons and texts.
//!
//! Knows how an error looks on the wire; must not know how requests are routed or objects stored.
//! Source of the texts: `k8s.io/apimachinery/pkg/api/errors`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::field::FieldErrors;

/// The answer to a request that did not end with an object (`metav1.Status`).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// `Failure` unless built by [`Status::success`].
    pub success: bool,
    /// Machine-readable reason, for example `NotFound`; may be empty.
    pub reason: String,
    pub message: String,
    pub details: Option<Box<StatusDetails>>,
    /// `metadata.continue`: with which token a list whose consistent pages are gone can go on (410 only).
    pub continue_token: Option<Box<str>>,
}

/// `metav1.StatusDetails`; empty fields are left out on the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds until a retry makes sense; 0 means absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// `metav1.StatusCause`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A resource or kind with its group, printed as Kubernetes does: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qualified<'a> {
    pub group: &'a str,
    /// Plural (`pods`) or kind (`Pod`), as the constructor asks for.
    pub name: &'a str,
}

impl std::fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group {
            "" => f.write_str(self.name),
            group => write!(f, "{}.{}", self.name, group),
        }
    }
}

impl<'a> Qualified<'a> {
    pub fn new(group: &'a str, name: &'a str) -> Self {
        Self { group, name }
    }

    fn details(self, name: &str) -> StatusDetails {
        StatusDetails {
            name: name.into(),
            group: self.group.into(),
            kind: self.name.into(),
            ..StatusDetails::default()
        }
    }
}

/// The text of a 409 for a stale `resourceVersion`.
pub const OPTIMISTIC_LOCK_TEXT: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Status {
    /// A failure with any code, reason and text. Prefer the named constructors.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            success: false,
            reason: reason.into(),
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    fn with(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// What a delete that leaves no object answers.
    pub fn success(resource: Qualified<'_>, name: &str, uid: &str) -> Self {
        let mut details = resource.details(name);
        details.uid = uid.into();
        Self {
            code: 200,
            success: true,
            reason: String::new(),
            message: String::new(),
            details: None,
            continue_token: None,
        }
        .with(details)
    }

    /// What a create that makes no object of its own answers (`pods/binding`, `pods/eviction`).
    pub fn created() -> Self {
        Self {
            code: 201,
            success: true,
            reason: String::new(),
            message: String::new(),
            details: None,
            continue_token: None,
        }
    }

    /// 404 for an object. `resource.name` is the plural.
    pub fn not_found(resource: Qualified<'_>, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{resource} \"{name}\" not found"))
            .with(resource.details(name))
    }

    /// 404 for a URL path that names no resource.
    pub fn no_such_resource() -> Self {
        Self::failure(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with(StatusDetails::default())
    }

    /// 409: an object of that name exists.
    pub fn already_exists(resource: Qualified<'_>, name: &str) -> Self {
        Self::failure(
            409,
            "AlreadyExists",
            format!("{resource} \"{name}\" already exists"),
        )
        .with(resource.details(name))
    }

    /// 409: no free name was found for a `generateName`.
    pub fn generate_name_conflict(resource: Qualified<'_>, name: &str, retry_after_seconds: i32) -> Self {
        let mut details = resource.details(name);
        details.retry_after_seconds = retry_after_seconds;
        Self::failure(
            409,
            "AlreadyExists",
            format!(
                "{resource} \"{name}\" already exists, the server was not able to generate a unique name for the object"
            ),
        )
        .with(details)
    }

    /// 409 with any cause, for example a failed uid precondition.
    pub fn conflict(resource: Qualified<'_>, name: &str, cause: impl std::fmt::Display) -> Self {
        Self::failure(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} \"{name}\": {cause}"),
        )
        .with(resource.details(name))
    }

    /// 409 for a stale `resourceVersion`.
    pub fn modified(resource: Qualified<'_>, name: &str) -> Self {
        Self::conflict(resource, name, OPTIMISTIC_LOCK_TEXT)
    }

    /// 422, naming each bad field. `kind.name` is the kind (`Pod`), not the plural.
    pub fn invalid(kind: Qualified<'_>, name: &str, errors: &FieldErrors) -> Self {
        let mut message = format!("{kind} \"{name}\" is invalid");
        let text = errors.aggregate();
        if !text.is_empty() {
            message.push_str(": ");
            message.push_str(&text);
        }
        let mut details = kind.details(name);
        details.causes = errors.causes();
        Self::failure(422, "Invalid", message).with(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403. `name` may be empty (collections).
    pub fn forbidden(resource: Qualified<'_>, name: &str, cause: impl std::fmt::Display) -> Self {
        let message = match (resource.name, name) {
            ("", _) => format!("forbidden: {cause}"),
            (_, "") => format!("{resource} is forbidden: {cause}"),
            (_, name) => format!("{resource} \"{name}\" is forbidden: {cause}"),
        };
        Self::failure(403, "Forbidden", message).with(resource.details(name))
    }

    /// 405. `action` is the verb (`delete`), `resource.name` the plural.
    pub fn method_not_allowed(resource: Qualified<'_>, action: &str) -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind \"{resource}\""),
        )
        .with(resource.details(""))
    }

    /// 406; `supported` are media types.
    pub fn not_acceptable(supported: &[&str]) -> Self {
        Self::failure(
            406,
            "NotAcceptable",
            format!(
                "only the following media types are accepted: {}",
                supported.join(", ")
            ),
        )
    }

    /// 415; `supported` are media types.
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        Self::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                supported.join(", ")
            ),
        )
    }

    /// 410 `Gone`.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// 410 `Expired`: the asked-for `resourceVersion` or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410 for a watch or list from a compacted revision.
    pub fn too_old_resource_version(requested: u64, current: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({current})"))
    }

    /// 504 with the cause Kubernetes gives for a revision that is not there yet; retried after one second.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut status = Self::timeout(
            format!("Too large resource version: {requested}, current: {current}"),
            1,
        );
        if let Some(details) = &mut status.details {
            details.causes.push(StatusCause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            });
        }
        status
    }

    /// 413; `limit` in bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::failure(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 429 with a free text; `retry_after_seconds` also belongs into the `Retry-After` header.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(429, "TooManyRequests", message).with(StatusDetails {
            retry_after_seconds,
            ..StatusDetails::default()
        })
    }

    /// 507, with a reason of our own: Kubernetes has none for a store without room.
    pub fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::failure(507, "InsufficientStorage", message)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// 500 `ServerTimeout`: the operation could not be completed, a retry may help.
    pub fn server_timeout(resource: Qualified<'_>, operation: &str, retry_after_seconds: i32) -> Self {
        let mut details = resource.details(operation);
        details.retry_after_seconds = retry_after_seconds;
        Self::failure(
            500,
            "ServerTimeout",
            format!("The {operation} operation against {resource} could not be completed at this time, please try again."),
        )
        .with(details)
    }

    /// 504 `Timeout`.
    pub fn timeout(message: impl std::fmt::Display, retry_after_seconds: i32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).with(StatusDetails {
            retry_after_seconds,
            ..StatusDetails::default()
        })
    }

    /// 500.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let cause = cause.to_string();
        Self::failure(500, "InternalError", format!("Internal error occurred: {cause}")).with(StatusDetails {
            causes: vec![StatusCause {
                message: cause,
                ..StatusCause::default()
            }],
            ..StatusDetails::default()
        })
    }

    /// True for `Conflict` and nothing else that is 409.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// The `Retry-After` value this status asks for, in seconds.
    pub fn retry_after_seconds(&self) -> Option<i32> {
        self.details
            .as_ref()
            .map(|d| d.retry_after_seconds)
            .filter(|s| *s > 0)
    }

    /// The wire object.
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("kind".into(), "Status".into());
        object.insert("apiVersion".into(), "v1".into());
        let metadata = match &self.continue_token {
            Some(token) => json!({ "continue": token }),
            None => json!({}),
        };
        object.insert("metadata".into(), metadata);
        object.insert(
            "status".into(),
            if self.success { "Success" } else { "Failure" }.into(),
        );
        if !self.message.is_empty() {
            object.insert("message".into(), self.message.clone().into());
        }
        if !self.reason.is_empty() {
            object.insert("reason".into(), self.reason.clone().into());
        }
        if let Some(details) = &self.details {
            let details = serde_json::to_value(details).expect("plain strings always serialise");
            object.insert("details".into(), details);
        }
        // A plain success carries no code on the wire, as upstream's deletes do not.
        if !self.success || self.code != 200 {
            object.insert("code".into(), self.code.into());
        }
        Value::Object(object)
    }

    /// The wire bytes (JSON).
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.to_value()).expect("a JSON value always serialises")
    }

    /// Reads a wire `Status`; `None` when the object is not one.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value["kind"] != "Status" {
            return None;
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        let success = value["status"] == "Success";
        Some(Self {
            code: value["code"]
                .as_u64()
                .map_or(if success { 200 } else { 500 }, |c| c as u16),
            success,
            reason: text("reason"),
            message: text("message"),
            details: serde_json::from_value(value["details"].clone()).ok(),
            continue_token: value["metadata"]["continue"].as_str().map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: Status, code: u16, reason: &str, message: &str) {
        assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (code, reason, message)
        );
        assert_eq!(Status::from_value(&status.to_value()), Some(status));
    }

    #[test]
    fn texts_are_kubernetes_own() {
        let pods = Qualified::new("", "pods");
        let deployments = Qualified::new("apps", "deployments");
        check(
            Status::not_found(pods, "web"),
            404,
            "NotFound",
            "pods \"web\" not found",
        );
        check(
            Status::not_found(deployments, "web"),
            404,
            "NotFound",
            "deployments.apps \"web\" not found",
        );
        check(
            Status::modified(deployments, "web"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version and try again",
        );
        check(
            Status::forbidden(pods, "", "no"),
            403,
            "Forbidden",
            "pods is forbidden: no",
        );
        check(
            Status::method_not_allowed(pods, "delete"),
            405,
            "MethodNotAllowed",
            "delete is not supported on resources of kind \"pods\"",
        );
        check(
            Status::too_large(3),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3",
        );
        check(
            Status::internal("x"),
            500,
            "InternalError",
            "Internal error occurred: x",
        );
        check(Status::timeout("slow", 0), 504, "Timeout", "Timeout: slow");
    }

    #[test]
    fn invalid_names_every_field() {
        let mut errors = FieldErrors::default();
        errors.required("spec.containers", "");
        let status = Status::invalid(Qualified::new("", "Pod"), "a", &errors);
        assert_eq!(
            status.message,
            "Pod \"a\" is invalid: spec.containers: Required value"
        );
        assert_eq!(
            status.to_value()["details"],
            json!({"name": "a", "kind": "Pod", "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]})
        );
        errors.duplicate("spec.x", "y");
        let status = Status::invalid(Qualified::new("apps", "Deployment"), "a", &errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"a\" is invalid: [spec.containers: Required value, spec.x: Duplicate value: \"y\"]"
        );
    }
}
