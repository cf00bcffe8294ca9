//! Schemas of CustomResourceDefinitions: whatever is written is refused or served, and what is served reads an object to the
//! same end twice.
#![no_main]

use corten_api::custom::types;
use corten_api::resource::CreateContext;
use corten_api::{FieldValidation, registry};
use corten_fuzz::{bounded, depth};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Deeper bodies are refused before anybody looks at them.
const MAX_DEPTH: usize = 60;

fn definition(schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "foos.g.io" },
        "spec": {
            "group": "g.io", "scope": "Namespaced",
            "names": { "plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        },
    })
}

fn context(namespace: &str) -> CreateContext<'_> {
    CreateContext {
        namespace,
        uid: "0dcf8b32-2b83-4a31-95b9-4a1e50c77b5f",
        now: jiff::Timestamp::UNIX_EPOCH,
        name_suffix: "abcde",
    }
}

// `SCHEMA\0OBJECT`, both JSON.
fuzz_target!(|data: &[u8]| {
    let (schema, object) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"{}"[..]),
    };
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else {
        return;
    };
    if depth(&schema) > MAX_DEPTH {
        return;
    }
    let definitions = registry()
        .lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .expect("built in");
    let body = definition(schema).to_string();
    let Ok(decoded) = definitions.decode(body.as_bytes(), FieldValidation::Ignore) else {
        return;
    };
    let mut object_of = decoded.value;
    definitions.set_defaults(&mut object_of);
    let refused = bounded(data.len(), 1 << 20, || definitions.prepare_create(&mut object_of, &context(""))).is_err();
    if refused {
        return;
    }
    let served = types(&object_of).expect("what validation took can be served");
    let [ty] = served.as_slice() else {
        panic!("one version is served");
    };
    let Ok(mut own) = serde_json::from_slice::<Value>(object) else {
        return;
    };
    if !own.is_object() || depth(&own) > MAX_DEPTH {
        return;
    }
    own["apiVersion"] = "g.io/v1".into();
    own["kind"] = "Foo".into();
    own["metadata"] = json!({ "name": "x", "namespace": "default" });
    let read = |value: &Value| {
        let decoded = ty.decode(value.to_string().as_bytes(), FieldValidation::Ignore);
        decoded.ok().map(|mut decoded| {
            ty.set_defaults(&mut decoded.value);
            decoded.value
        })
    };
    if let Some(once) = read(&own) {
        assert_eq!(read(&once), Some(once.clone()), "pruned and defaulted once is enough");
        let mut made = once;
        // Refused or made, it ends.
        let _ = ty.prepare_create(&mut made, &context("default"));
    }
});
