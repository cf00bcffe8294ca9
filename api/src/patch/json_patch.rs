//! JSON patch (RFC 6902) with upstream's limits and texts.
//!
//! Source of limits and codes: `k8s.io/apiserver/pkg/endpoints/handlers/patch.go`.

use json_patch::{Patch, PatchErrorKind};
use serde_json::Value;

use crate::Status;

/// More operations are refused with 413.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes a document may grow to through `copy` operations; upstream limits the growth alike.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Applies a JSON patch to `target`.
///
/// # Errors
/// 400 for a patch that is no JSON patch, 413 for too many operations, 422 when an operation fails.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let Some(operations) = patch.as_array() else {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ));
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
    check_growth(target, operations)?;
    let patch: Patch = serde_json::from_value(patch.clone())
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    // One clone keeps the current object whole when an operation in the middle fails.
    let mut next = target.clone();
    json_patch::patch(&mut next, &patch).map_err(|error| {
        let path = &error.path;
        let text = match error.kind {
            PatchErrorKind::TestFailed => format!("testing value {path} failed: test failed"),
            other => format!(
                "{} operation does not apply: doc is missing path: \"{path}\": {other}",
                name(operations, error.operation)
            ),
        };
        unprocessable(text)
    })?;
    *target = next;
    Ok(())
}

fn name(operations: &[Value], idx: usize) -> &str {
    operations
        .get(idx)
        .and_then(|o| o["op"].as_str())
        .unwrap_or_default()
}

fn unprocessable(message: String) -> Status {
    Status::failure(
        422,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {message}"),
    )
}

/// Copying a document into itself doubles it with each step; bound the sum before anything is copied.
fn check_growth(target: &Value, operations: &[Value]) -> Result<(), Status> {
    let copies = operations.iter().filter(|o| o["op"] == "copy").count();
    if copies == 0 {
        return Ok(());
    }
    let mut size = serde_json::to_vec(target).map(|b| b.len()).unwrap_or_default();
    let start = size;
    for operation in operations {
        match operation["op"].as_str() {
            // Each copy adds at most what the document then is.
            Some("copy") => {
                let whole = operation["from"]
                    .as_str()
                    .is_none_or(|from| from.matches('/').count() < 2);
                size = size.saturating_add(if whole { size } else { start.min(size) });
            }
            _ => size = size.saturating_add(operation.get("value").map_or(0, |v| v.to_string().len())),
        }
        if size > MAX_COPIED_BYTES.max(start * 2) {
            return Err(unprocessable(format!(
                "the copy operations would make the object larger than {MAX_COPIED_BYTES} bytes"
            )));
        }
    }
    Ok(())
}
