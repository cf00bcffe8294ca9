//! Merge patches: applying one twice changes nothing more, and no null is left of what it names.
#![no_main]

use corten_api::FieldValidation;
use corten_api::patch::{PatchType, merge_patch};
use corten_api::schema::decode::parse_json;
use corten_fuzz::{bounded, deployment, depth};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (kind, object) = deployment();
    let Ok(patch) = parse_json(data) else {
        assert!(
            kind.apply_patch(&object, PatchType::Merge, data, FieldValidation::Warn)
                .is_err()
        );
        return;
    };
    let mut once = object.clone();
    bounded(data.len(), 1024, || merge_patch(&mut once, &patch));
    let mut twice = once.clone();
    merge_patch(&mut twice, &patch);
    assert_eq!(once, twice);
    assert!(depth(&once) <= depth(&object).max(depth(&patch)));
    if let Ok(patched) = kind.apply_patch(&object, PatchType::Merge, data, FieldValidation::Strict) {
        let body = serde_json::to_vec(&patched.value).expect("a value is JSON");
        let again = kind
            .decode(&body, FieldValidation::Strict)
            .expect("a patched object is one of its kind");
        assert_eq!(again.value, patched.value);
    }
});
