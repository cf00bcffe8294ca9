//! From parts of OpenAPI v3 to those of v2 (Swagger). Pure.

use serde_json::{Map, Value, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const GVK: &str = "x-kubernetes-group-version-kind";

/// A named schema of a document. A custom resource whose root keeps unknown fields says nothing but that it is an object:
/// kubectl would refuse what is not among the properties. Source: apiextensions' `buildKubeNative`.
pub fn definition(own: Value) -> Value {
    if own[PRESERVE] == true && own.get(GVK).is_some() {
        return json!({ "type": "object", GVK: own[GVK] });
    }
    schema(own)
}

/// References move, and what only v3 can say becomes what v2 says in its place.
pub fn schema(own: Value) -> Value {
    let Value::Object(mut own) = own else {
        return own;
    };
    own.remove("default");
    if let Some(reference) = own.get("$ref").and_then(Value::as_str) {
        let moved = reference.replace("#/components/schemas/", "#/definitions/");
        own.insert("$ref".into(), moved.into());
        return Value::Object(own);
    }
    // What custom schemas combine has no counterpart; a single reference beside other members has.
    for combined in ["anyOf", "oneOf", "not"] {
        if own.remove(combined).is_some()
            && own.get("type").is_none()
            && !own.contains_key("properties")
            && own.get("x-kubernetes-int-or-string").is_none()
        {
            own.insert("type".into(), "string".into());
        }
    }
    if let Some(Value::Array(mut all)) = own.remove("allOf")
        && let [only] = all.as_mut_slice()
        && only.get("$ref").is_some()
        && let Value::Object(mut only) = schema(only.take())
    {
        only.extend(own);
        return Value::Object(only);
    }
    if own.remove("nullable").is_some() && own.contains_key("type") {
        own.remove("type"); // v2 cannot say that null is allowed, so it says nothing
        own.remove("properties");
        own.remove("items");
    }
    // Clients of v2 take what is not named for refused. Source: apiextensions' `ToStructuralOpenAPIV2`.
    if own.get(PRESERVE) == Some(&Value::Bool(true)) {
        own.remove("properties");
        own.remove("items");
        if matches!(own.get("type").and_then(Value::as_str), Some("object" | "array")) {
            own.remove("type");
        }
    }
    for field in ["items", "additionalProperties"] {
        if let Some(inner) = own.get_mut(field).filter(|inner| inner.is_object()) {
            *inner = schema(inner.take());
        }
    }
    if let Some(Value::Object(properties)) = own.get_mut("properties") {
        for property in properties.values_mut() {
            *property = schema(property.take());
        }
    }
    Value::Object(own)
}

/// A path with its operations.
pub fn item(item: Value) -> Value {
    let Value::Object(mut item) = item else {
        return item;
    };
    for (key, value) in &mut item {
        if key == "parameters" {
            *value = parameters(value.take());
        } else if let Some(operation) = value.as_object_mut() {
            self::operation(operation);
        }
    }
    Value::Object(item)
}

fn operation(own: &mut Map<String, Value>) {
    let mut all = match own.remove("parameters").map(parameters) {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    };
    let mut consumes = vec![Value::from("*/*")];
    if let Some(mut body) = own.remove("requestBody")
        && let Some(content) = body["content"].as_object_mut()
    {
        consumes = content.keys().map(|media| media.clone().into()).collect();
        let body_schema = content
            .values_mut()
            .next()
            .map(|media| schema(media["schema"].take()));
        let mut parameter = json!({ "in": "body", "name": "body", "schema": body_schema });
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        all.insert(0, parameter);
    }
    let mut produces = Vec::new();
    for (_, response) in own
        .get_mut("responses")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        let Some(Value::Object(mut content)) = response.as_object_mut().and_then(|r| r.remove("content"))
        else {
            continue;
        };
        produces = content.keys().map(|media| media.clone().into()).collect();
        if let Some(media) = content.values_mut().next() {
            response["schema"] = schema(media["schema"].take());
        }
    }
    if !all.is_empty() {
        own.insert("parameters".into(), Value::Array(all));
    }
    own.insert("consumes".into(), Value::Array(consumes));
    own.insert("produces".into(), Value::Array(produces));
    own.insert("schemes".into(), json!(["https"]));
}

fn parameters(all: Value) -> Value {
    let Value::Array(all) = all else {
        return json!([]);
    };
    all.into_iter()
        .map(|mut parameter| {
            if let Some(Value::Object(schema)) =
                parameter.as_object_mut().and_then(|own| own.remove("schema"))
                && let Some(own) = parameter.as_object_mut()
            {
                own.extend(schema);
            }
            parameter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_unknown_fields_names_none() {
        let gvk = json!([{ "group": "example.com", "version": "v1", "kind": "Foo" }]);
        let keeps = |inner: &str| json!({ "type": inner, PRESERVE: true, "properties": { "a": { "type": "string" } } });
        let mut root = keeps("object");
        root[GVK] = gvk.clone();
        assert_eq!(definition(root), json!({ "type": "object", GVK: gvk }));
        let own = json!({ "type": "object", GVK: gvk, "properties": { "spec": keeps("object") } });
        assert_eq!(definition(own)["properties"]["spec"], json!({ PRESERVE: true }));
    }
}
