//! A Secret as those see it who may know that it is there, and not what is in it. Pure.

use serde_json::Value;

/// `kubectl apply` keeps a whole copy here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The same with empty values; `null` stays.
#[must_use]
pub fn closed(secret: &Value) -> Value {
    let mut closed = secret.clone();
    for field in ["data", "stringData"] {
        let values = closed.get_mut(field).and_then(Value::as_object_mut);
        for value in values.into_iter().flat_map(|map| map.values_mut()) {
            *value = "".into();
        }
    }
    let annotations = closed.pointer_mut("/metadata/annotations");
    if let Some(map) = annotations.and_then(Value::as_object_mut) {
        map.remove(LAST_APPLIED);
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_that_is_in_it_is_left() {
        let secret = json!({
            "metadata": { "name": "a", "annotations": { "x": "y", LAST_APPLIED: "Q0FOQVJZ" } },
            "data": { "key": "Q0FOQVJZ" }, "stringData": { "other": "CANARY" }, "type": "Opaque",
        });
        let want = json!({
            "metadata": { "name": "a", "annotations": { "x": "y" } },
            "data": { "key": "" }, "stringData": { "other": "" }, "type": "Opaque",
        });
        assert_eq!(closed(&secret), want);
        assert_eq!(closed(&Value::Null), Value::Null);
        assert_eq!(closed(&json!({ "metadata": {} })), json!({ "metadata": {} }));
    }
}
