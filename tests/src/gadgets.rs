//! A custom resource with everything a definition can have, in two versions that a webhook converts.

use serde_json::{Value, json};

/// Answers a ConversionReview: `v1` has `spec.size: "3"`, `v2` has `spec.width: 3`.
pub fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().cloned().unwrap_or_default();
    let converted = objects.into_iter().map(|mut object| {
        object["apiVersion"] = desired.into();
        let spec = object["spec"].as_object_mut().expect("a gadget has a spec");
        if desired.ends_with("v2") {
            let size = spec.remove("size").unwrap_or_default();
            let width: i64 = size
                .as_str()
                .and_then(|size| size.parse().ok())
                .unwrap_or_default();
            spec.insert("width".into(), width.into());
        } else {
            let width = spec.remove("width").and_then(|width| width.as_i64());
            spec.insert("size".into(), width.unwrap_or_default().to_string().into());
        }
        object
    });
    let converted: Vec<Value> = converted.collect();
    json!({ "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": { "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": converted } })
}

/// `client`: the `clientConfig` of the webhook that converts.
pub fn definition(client: &Value) -> Value {
    let version = |name: &str, field: &str, kind: &str, rule: &str| {
        json!({
            "name": name, "served": true, "storage": name == "v1",
            "subresources": { "status": {} },
            "selectableFields": [{ "jsonPath": ".spec.colour" }],
            "additionalPrinterColumns": [
                { "name": "Size", "type": "string", "jsonPath": format!(".spec.{field}") },
                { "name": "Colour", "type": "string", "jsonPath": ".spec.colour", "priority": 1 },
            ],
            "schema": { "openAPIV3Schema": { "type": "object", "description": "A gadget.", "properties": {
                "spec": { "type": "object", "description": "What it should be.", "required": [field],
                    "properties": { field: { "type": kind, "description": "How wide it is." },
                        "colour": { "type": "string", "default": "grey", "enum": ["grey", "blue", "red"] } },
                    "x-kubernetes-validations": [{ "rule": rule, "message": "a gadget does not shrink" }] },
                "status": { "type": "object", "properties": { "width": { "type": "integer" } } },
            } } },
        })
    };
    let mut v1 = version("v1", "size", "string", "int(self.size) >= int(oldSelf.size)");
    v1["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]["maxLength"] = 9.into();
    let mut v2 = version("v2", "width", "integer", "self.width >= oldSelf.width");
    v2["subresources"]["scale"] =
        json!({ "specReplicasPath": ".spec.width", "statusReplicasPath": ".status.width" });
    let conversion = json!({ "conversionReviewVersions": ["v1"], "clientConfig": client });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "gadgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList", "shortNames": ["gg"] },
            "versions": [v1, v2],
            "conversion": { "strategy": "Webhook", "webhook": conversion },
        },
    })
}

/// Of version `v1`.
pub fn gadget(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Gadget", "metadata": { "name": name }, "spec": spec })
}
