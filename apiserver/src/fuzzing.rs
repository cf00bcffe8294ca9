//! What the fuzz targets reach of this crate's inside. Nothing else may use it.

use http::Method;

pub use crate::negotiate::yaml_to_json;
use crate::query::Query;
pub use crate::rbac::naive::compare as rbac;
use crate::route::{self, Operation};

/// The names a request's path consists of, if it leads somewhere. `target` is a path with its query.
#[must_use]
pub fn route(method: &str, target: &str) -> Option<Vec<String>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let query = Query::parse(Some(query));
    Some(match route::route(&method, path, &query).ok()? {
        Operation::Resource(target) => {
            let sub = target.subresource.unwrap_or_default();
            let mut names: Vec<String> = sub
                .split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            names.extend([target.version, target.resource]);
            names.extend([target.namespace, target.name].into_iter().flatten());
            names
        }
        Operation::Tunnel { node } => vec![node],
        Operation::Group(group) => vec![group],
        Operation::Resources { version, .. } => vec![version],
        _ => Vec::new(),
    })
}

/// Reads a JWT by a set of keys, both as they come from outside: the claims, if one of the keys signed them.
#[must_use]
pub fn jwt(keys: &str, token: &str) -> Option<serde_json::Value> {
    let keys = serde_json::from_str(keys).unwrap_or_default();
    let keys = crate::tokens::oidc::jwt::Keys::parse(&keys);
    let claims = keys.verify(token).ok().flatten();
    if let Some(claims) = crate::tokens::jws::unverified_claims(token) {
        assert!(claims.is_object());
    }
    let _ = crate::tokens::bootstrap::Token::parse(token); // must not panic
    claims
}

/// The user and the end of a certificate, DER.
#[must_use]
pub fn certificate(der: &[u8]) -> (Option<crate::User>, Option<i64>) {
    (
        crate::User::from_certificate(der),
        crate::identity::Certificate::of(der).map(|certificate| certificate.until),
    )
}

/// Signs a request, PEM, if it can be read and is signed by its own key.
#[must_use]
pub fn sign(ca: &crate::pki::Ca, request_pem: &str) -> Option<String> {
    let asked = crate::pki::SignRequest {
        request_pem: request_pem.to_owned(),
        usages: vec!["client auth".into()],
        life: std::time::Duration::from_secs(3600),
    };
    ca.sign(
        &asked,
        time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
    )
    .ok()
}

/// Reads a webhook's answer as one of each kind, as a call named `u` would.
pub fn webhook_answer(answer: &[u8]) {
    for version in ["v1", "v1beta1"] {
        for mutating in [true, false] {
            if let Ok(verdict) = crate::webhooks::review::verdict(version, "u", mutating, answer)
                && !verdict.allowed
            {
                let status = crate::webhooks::review::refusal("w", &verdict.result);
                assert!(status.code >= 400 && !status.success, "a refusal is an error");
            }
        }
    }
    let old = [serde_json::json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "1"}})];
    let conversion = corten_api::custom::Conversion {
        definition: String::new(),
        storage: "v1".into(),
        client_config: serde_json::Value::Null,
        review_version: "v1",
    };
    if let Ok(new) = conversion.answer("u", "g/v2", &old, answer) {
        assert_eq!(new.len(), 1);
        for field in ["name", "uid"] {
            assert_eq!(
                new[0]["metadata"][field], old[0]["metadata"][field],
                "identity stays"
            );
        }
    }
}
