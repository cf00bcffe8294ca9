//! What somebody may do, as the reviews of authorization.k8s.io say it. Pure.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::Status;
use serde_json::{Value, json};

use crate::User;
use crate::authorize::{OPEN_PATHS, permits_path, permits_resource};

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

/// `SubjectAccessReviewStatus`.
pub fn status(user: &User, spec: &Value) -> Value {
    let allowed = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Object(_), _) => {
            let text = |field: &str| spec["resourceAttributes"][field].as_str().unwrap_or_default();
            permits_resource(user, text("verb"), text("group"), text("resource"))
        }
        (_, asked) => permits_path(
            user,
            asked["verb"].as_str().unwrap_or_default(),
            asked["path"].as_str().unwrap_or_default(),
        ),
    };
    json!({"allowed": allowed})
}

/// `SubjectRulesReviewStatus`: everything a user may do in a namespace.
///
/// # Errors
/// `BadRequest` without a namespace.
pub fn rules(user: &User, spec: &Value) -> Result<Value, Status> {
    if spec["namespace"].as_str().unwrap_or_default().is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (resources, paths) = if user.is_master() {
        (
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]),
        )
    } else {
        (
            json!([
                {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
                {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
            ]),
            json!([{"verbs": ["get"], "nonResourceURLs": OPEN_PATHS}]),
        )
    };
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: &User, spec: Value, want: bool) {
        assert_eq!(status(user, &spec)["allowed"], want, "{} {spec}", user.name);
    }

    #[test]
    fn reviews_say_what_a_request_would_be_told() {
        let (master, jane) = (User::component("m"), User::new("jane", &["dev"]));
        let pods =
            |verb: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "a"}});
        let path = |verb: &str, path: &str| json!({"nonResourceAttributes": {"verb": verb, "path": path}});
        check(&master, pods("list"), true);
        check(&master, pods("no-such-verb"), true);
        check(&jane, pods("list"), false);
        check(
            &jane,
            json!({"resourceAttributes": {"verb": "create", "group": "authorization.k8s.io", "resource": "selfsubjectaccessreviews"}}),
            true,
        );
        check(&jane, path("get", "/version"), true);
        check(&jane, path("get", "/metrics"), false);
        check(&jane, path("put", "/version"), false);
        check(&master, path("get", "/no/such/path"), true);
        check(&User::anonymous(), path("get", "/apis"), false);
    }

    #[test]
    fn the_user_may_be_another_one() {
        let spec = json!({
            "user": "joe", "groups": ["system:masters"],
            "resourceAttributes": {"verb": "delete", "resource": "nodes"},
        });
        check(&subject(&spec), spec, true);
    }
}
