//! AdmissionReview: what a webhook is asked, and how its answer is read. Pure.
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/webhook/request`.

use corten_api::{ResourceType, Status};
use serde_json::{Map, Value, json};

use super::rules::namespace_name;
use crate::identity::User;
use crate::write::admission::Attributes;

const GROUP: &str = "admission.k8s.io";
/// Texts of one answer that are passed on.
const MAX_WARNINGS: usize = 64;
const MAX_ANNOTATIONS: usize = 64;

/// Group, version and kind of the body of a request.
#[must_use]
pub fn kind_of<'a>(ty: &'a ResourceType, subresource: &str) -> (&'a str, &'a str, &'a str) {
    match ty.subresource(subresource) {
        Some(sub) => ty.body_of(sub),
        None => (&ty.group, &ty.version, &ty.kind),
    }
}

fn kind_value((group, version, kind): (&str, &str, &str)) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn resource_value(ty: &ResourceType) -> Value {
    json!({ "group": &*ty.group, "version": &*ty.version, "resource": &*ty.plural })
}

/// `authentication.k8s.io/v1` UserInfo.
#[must_use]
pub fn user_info(user: &User) -> Value {
    let mut out = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// The request without its uid. `ty` is the form the webhook asked for; `object` and `old` are in that form.
#[must_use]
pub fn request(
    attributes: &Attributes<'_>,
    ty: &ResourceType,
    object: &Value,
    old: &Value,
) -> Map<String, Value> {
    let own = attributes.subject.ty;
    let sub = attributes.subresource;
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("kind", kind_value(kind_of(ty, sub)));
    put("resource", resource_value(ty));
    put("requestKind", kind_value(kind_of(own, sub)));
    put("requestResource", resource_value(own));
    if !sub.is_empty() {
        put("subResource", sub.into());
        put("requestSubResource", sub.into());
    }
    if !attributes.name.is_empty() {
        put("name", attributes.name.into());
    }
    if !namespace_name(attributes).is_empty() {
        put("namespace", namespace_name(attributes).into());
    }
    put("operation", attributes.operation.as_str().into());
    put("userInfo", user_info(attributes.user));
    put("object", object.clone());
    put("oldObject", old.clone());
    put("dryRun", attributes.dry_run.into());
    put("options", attributes.options.to_value(attributes.dry_run));
    out
}

/// The body of a call. `request` is the request's JSON without uid.
#[must_use]
pub fn body(version: &str, uid: &str, request: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"{GROUP}/{version}\",\"request\":{{\"uid\":\"{uid}\","
    )
    .into_bytes();
    out.extend_from_slice(&request[1..]);
    out.push(b'}');
    out
}

/// A webhook's answer, whole and in order.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub allowed: bool,
    /// A JSON patch; empty where nothing is to be changed.
    pub patch: Vec<Value>,
    pub warnings: Vec<String>,
    pub annotations: Vec<(String, String)>,
    /// What the webhook says about its refusal.
    pub result: Value,
}

/// Reads an answer to the call `uid`.
///
/// # Errors
/// What is wrong with it, in upstream's words; the call has failed then.
pub fn verdict(version: &str, uid: &str, mutating: bool, answer: &[u8]) -> Result<Verdict, String> {
    let failed = |why: String| format!("failed to call webhook: {why}");
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let review: Value = serde_json::from_slice(answer)
        .map_err(|error| failed(format!("couldn't get version/kind; json parse error: {error}")))?;
    let wanted = format!("{GROUP}/{version}");
    let text = |field: &str| review[field].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (wanted.as_str(), "AdmissionReview") {
        let (own, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() {
            return Err(failed(format!("Object 'Kind' is missing in '{}'", shown(answer))));
        }
        return Err(invalid(format!(
            "expected webhook response of {wanted}, Kind=AdmissionReview, got {own}, Kind={kind}"
        )));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err(invalid("webhook response was absent".into()));
    }
    let word = |field: &str| response[field].as_str().unwrap_or_default();
    if version == "v1" && word("uid") != uid {
        return Err(invalid(format!(
            "expected response.uid={uid:?}, got {:?}",
            word("uid")
        )));
    }
    let wrong = |field: &str| failed(format!("json: cannot unmarshal response.{field}"));
    let allowed = match &response["allowed"] {
        Value::Null => false,
        flag => flag.as_bool().ok_or_else(|| wrong("allowed"))?,
    };
    let patch = match mutating {
        true => patch_of(version, response).map_err(|why| match why {
            Wrong::Answer(why) => invalid(why),
            Wrong::Patch(why) => why,
        })?,
        false => Vec::new(),
    };
    let texts = response["warnings"].as_array().into_iter().flatten();
    let warnings = texts
        .filter_map(|text| text.as_str().map(str::to_owned))
        .take(MAX_WARNINGS)
        .collect();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations = annotations
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .take(MAX_ANNOTATIONS)
        .collect();
    let result = match mutating || !allowed {
        true => response["status"].clone(),
        false => Value::Null,
    };
    Ok(Verdict {
        allowed,
        patch,
        warnings,
        annotations,
        result,
    })
}

enum Wrong {
    Answer(String),
    Patch(String),
}

fn patch_of(version: &str, response: &Value) -> Result<Vec<Value>, Wrong> {
    use base64::Engine as _;
    let patch = response["patch"].as_str().unwrap_or_default();
    let kind = response["patchType"].as_str();
    if version == "v1" {
        match (patch.is_empty(), kind) {
            (false, None) => {
                let why = "webhook returned response.patch but not response.patchType";
                return Err(Wrong::Answer(why.into()));
            }
            (true, Some(_)) => {
                let why = "webhook returned response.patchType but not response.patch";
                return Err(Wrong::Answer(why.into()));
            }
            (false, Some(kind)) if kind != "JSONPatch" => {
                let why = format!("webhook returned invalid response.patchType of {kind:?}");
                return Err(Wrong::Answer(why));
            }
            _ => {}
        }
    }
    if patch.is_empty() {
        return Ok(Vec::new());
    }
    let undecodable =
        |why: String| Wrong::Patch(format!("received undecodable patch in webhook response: {why}"));
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .map_err(|error| undecodable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| undecodable(error.to_string()))
}

fn shown(answer: &[u8]) -> String {
    const SHOWN: usize = 256;
    String::from_utf8_lossy(&answer[..answer.len().min(SHOWN)]).into_owned()
}

/// The Status of a refusal. Source: `webhook/errors.ToStatusErr`.
#[must_use]
pub fn refusal(webhook: &str, result: &Value) -> Status {
    let mut result = match result {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    result.insert("kind".into(), "Status".into());
    let text = |field: &str| result.get(field).and_then(Value::as_str).unwrap_or_default();
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = result.get("code").and_then(Value::as_u64).unwrap_or_default();
    let code = u16::try_from(code).unwrap_or_default();
    result.remove("status");
    let mut status =
        Status::from_value(&Value::Object(result)).unwrap_or_else(|| Status::failure(400, "", String::new()));
    status.code = if (400..600).contains(&code) { code } else { 400 };
    status.success = false;
    status.message = message;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: Value, want: &str) {
        let got = match verdict("v1", "u", true, answer.to_string().as_bytes()) {
            Ok(verdict) => format!("{} {}", verdict.allowed, verdict.patch.len()),
            Err(why) => why,
        };
        assert_eq!(got, want, "{answer}");
    }

    #[test]
    fn answers_are_read_strictly() {
        let with = |response: Value| json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        let bad = "received invalid webhook response: ";
        check(with(json!({"uid": "u", "allowed": true})), "true 0");
        check(with(json!({"uid": "u"})), "false 0");
        check(with(Value::Null), &format!("{bad}webhook response was absent"));
        check(
            with(json!({"uid": "x", "allowed": true})),
            &format!("{bad}expected response.uid=\"u\", got \"x\""),
        );
        check(
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "response": {}}),
            &format!(
                "{bad}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"
            ),
        );
        check(
            with(json!({"uid": "u", "allowed": true, "patch": "W10="})),
            &format!("{bad}webhook returned response.patch but not response.patchType"),
        );
        check(
            with(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "Merge"})),
            &format!("{bad}webhook returned invalid response.patchType of \"Merge\""),
        );
        check(
            with(json!({"uid": "u", "allowed": true, "patch": "W3t9XQ==", "patchType": "JSONPatch"})),
            "true 1",
        );
    }

    #[test]
    fn refusals_have_upstreams_texts() {
        for (result, code, message) in [
            (
                Value::Null,
                400,
                "admission webhook \"w\" denied the request without explanation",
            ),
            (
                json!({"message": "no"}),
                400,
                "admission webhook \"w\" denied the request: no",
            ),
            (
                json!({"reason": "Forbidden", "code": 403}),
                403,
                "admission webhook \"w\" denied the request: Forbidden",
            ),
            (
                json!({"status": "Success", "code": 200, "message": "x"}),
                400,
                "admission webhook \"w\" denied the request: x",
            ),
        ] {
            let status = refusal("w", &result);
            assert_eq!(
                (status.code, status.message.as_str(), status.success),
                (code, message, false)
            );
        }
    }
}
