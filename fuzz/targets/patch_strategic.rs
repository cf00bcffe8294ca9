//! Strategic merge patches: an empty one changes nothing, none leaves its directives behind.
#![no_main]

use corten_api::FieldValidation;
use corten_api::patch::{PatchType, strategic_merge};
use corten_api::schema::decode::parse_json;
use corten_fuzz::{bounded, deployment};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn has_directive(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(has_directive),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key == "$patch" || has_directive(value)),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, object) = deployment();
    let entry = kind.type_facts().expect("built in");
    let mut same = object.clone();
    strategic_merge(&mut same, &json!({}), entry).expect("an empty patch");
    assert_eq!(same, object);
    if let Ok(patch) = parse_json(data) {
        let mut changed = object.clone();
        let _ = bounded(data.len(), 4096, || strategic_merge(&mut changed, &patch, entry));
    }
    if let Ok(patched) = kind.apply_patch(&object, PatchType::Strategic, data, FieldValidation::Strict) {
        assert!(!has_directive(&patched.value), "{}", patched.value);
        let body = serde_json::to_vec(&patched.value).expect("a value is JSON");
        let again = kind
            .decode(&body, FieldValidation::Strict)
            .expect("a patched object is one of its kind");
        assert_eq!(again.value, patched.value);
    }
});
