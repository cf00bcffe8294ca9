//! JSON patch (RFC 6902) with upstream's limits and codes.
//!
//! Source of limits and codes: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::Status;

/// More operations are refused with 413.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that `copy` operations may add to a document in all; upstream bounds them alike.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// What a 422 for a failed operation says; kubectl prints exactly this.
const REJECTED: &str = "the server rejected our request due to an error in our request";

/// Applies a JSON patch to `target`, all of it or nothing.
///
/// # Errors
/// 400 for a patch that is no JSON patch, 413 for too many operations, 422 when an operation fails.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let Some(operations) = patch.as_array() else {
        let found = crate::schema::decode::word(patch);
        return Err(Status::bad_request(format!(
            "json: cannot unmarshal {found} into Go value of type jsonpatch.Patch"
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::failure(
            413,
            "RequestEntityTooLarge",
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                operations.len()
            ),
        ));
    }
    let patch: Patch =
        serde_json::from_value(patch.clone()).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut next = target.clone();
    let mut copied = 0;
    for operation in patch.0 {
        if let PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(&next).map_or(0, size);
            if copied > MAX_COPIED_BYTES {
                return Err(rejected());
            }
        }
        // One at a time, without the library's undo log: a failure throws `next` away.
        let one = Patch(vec![operation]);
        json_patch::patch_unsafe(&mut next, &one).map_err(|_| rejected())?;
    }
    *target = next;
    Ok(())
}

/// The 422 of an operation or directive that cannot be carried out.
pub(super) fn rejected() -> Status {
    Status::failure(422, "Invalid", REJECTED)
}

/// Roughly the bytes a value takes as text.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|v| 1 + size(v)).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| 4 + k.len() + size(v)).sum::<usize>(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(target: Value, patch: Value, want: Result<Value, u16>) {
        let mut got = target.clone();
        let result = json_patch(&mut got, &patch)
            .map(|()| got.clone())
            .map_err(|s| s.code);
        assert_eq!(result, want, "{patch}");
        if want.is_err() {
            assert_eq!(got, target, "a failed patch changes nothing");
        }
    }

    #[test]
    fn operations() {
        let object = || json!({"a": {"b": [1, 2]}});
        check(
            object(),
            json!([{"op": "add", "path": "/a/b/-", "value": 3}]),
            Ok(json!({"a": {"b": [1, 2, 3]}})),
        );
        check(
            object(),
            json!([{"op": "remove", "path": "/a/b/0"}]),
            Ok(json!({"a": {"b": [2]}})),
        );
        check(
            object(),
            json!([{"op": "replace", "path": "/a", "value": 1}]),
            Ok(json!({"a": 1})),
        );
        check(
            object(),
            json!([{"op": "test", "path": "/a/b/0", "value": 1}]),
            Ok(object()),
        );
        check(
            object(),
            json!([{"op": "copy", "from": "/a", "path": "/c"}]),
            Ok(json!({"a": {"b": [1, 2]}, "c": {"b": [1, 2]}})),
        );
        check(
            object(),
            json!([{"op": "move", "from": "/a/b", "path": "/b"}]),
            Ok(json!({"a": {}, "b": [1, 2]})),
        );
    }

    #[test]
    fn failures() {
        let object = || json!({"a": 1});
        check(
            object(),
            json!([{"op": "test", "path": "/a", "value": 2}]),
            Err(422),
        );
        check(
            object(),
            json!([{"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/c"}]),
            Err(422),
        );
        check(
            object(),
            json!([{"op": "replace", "path": "/c", "value": 2}]),
            Err(422),
        );
        check(object(), json!([{"op": "explode", "path": "/c"}]), Err(400));
        check(object(), json!({"a": 1}), Err(400));
        let many: Vec<Value> = (0..=MAX_OPERATIONS)
            .map(|_| json!({"op": "test", "path": "/a", "value": 1}))
            .collect();
        check(object(), Value::Array(many), Err(413));
    }

    #[test]
    fn copies_cannot_explode() {
        let doubling: Vec<Value> = (0..100)
            .map(|_| json!({"op": "copy", "from": "", "path": "/x"}))
            .collect();
        check(json!({"a": "a".repeat(1000)}), Value::Array(doubling), Err(422));
    }
}
