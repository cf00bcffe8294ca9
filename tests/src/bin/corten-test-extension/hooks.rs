//! What the admission webhooks answer. Pure.

use base64::Engine as _;
use serde_json::{Value, json};

/// Writes an annotation that says who asked.
pub fn mutate(review: &Value) -> Value {
    let request = &review["request"];
    let mut operations = Vec::new();
    if !request["object"]["metadata"]["annotations"].is_object() {
        operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    operations.push(json!({ "op": "add", "path": "/metadata/annotations/words.example.com~1seen", "value": request["userInfo"]["username"] }));
    let patch = base64::engine::general_purpose::STANDARD.encode(Value::from(operations).to_string());
    answer(
        request,
        json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch }),
    )
}

/// Refuses one word.
pub fn validate(review: &Value) -> Value {
    let request = &review["request"];
    let allowed = request["object"]["data"]["word"] != "forbidden";
    let status = json!({ "code": 403, "reason": "Forbidden", "message": "this word is forbidden" });
    answer(request, json!({ "allowed": allowed, "status": status }))
}

fn answer(request: &Value, mut response: Value) -> Value {
    response["uid"] = request["uid"].clone();
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response })
}
