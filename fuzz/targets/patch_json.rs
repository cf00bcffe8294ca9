//! JSON patches: all of a patch or nothing, and no patch makes an object grow without bound.
#![no_main]

use corten_api::FieldValidation;
use corten_api::patch::{PatchType, json_patch};
use corten_api::schema::decode::parse_json;
use corten_fuzz::deployment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (kind, object) = deployment();
    if let Ok(patch) = parse_json(data) {
        let mut changed = object.clone();
        match json_patch(&mut changed, &patch) {
            Ok(()) => {
                let bound = json_patch::MAX_COPIED_BYTES * 2 + data.len() * 4 + 4096;
                assert!(changed.to_string().len() <= bound, "grown to more than {bound}");
            }
            Err(_) => assert_eq!(changed, object, "a patch that fails changes nothing"),
        }
    }
    if let Ok(patched) = kind.apply_patch(&object, PatchType::Json, data, FieldValidation::Strict) {
        let body = serde_json::to_vec(&patched.value).expect("a value is JSON");
        let again = kind
            .decode(&body, FieldValidation::Strict)
            .expect("a patched object is one of its kind");
        assert_eq!(again.value, patched.value);
    }
});
