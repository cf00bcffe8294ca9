//! JSON bodies: read strictly by a kind's facts, and what was read is read again unchanged.
#![no_main]

use corten_api::FieldValidation;
use corten_api::schema::decode::parse_json;
use corten_fuzz::{bounded, kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((pick, body)) = data.split_first() else {
        return;
    };
    let kind = kind(*pick);
    let decoded = bounded(body.len(), 4096, || kind.decode(body, FieldValidation::Warn));
    let strict = kind.decode(body, FieldValidation::Strict);
    let Ok(decoded) = decoded else {
        assert!(strict.is_err(), "strict decoding takes no more than the other");
        return;
    };
    assert_eq!(decoded.warnings.is_empty(), strict.is_ok());
    assert!(parse_json(body).is_ok(), "an object is JSON");
    let again = serde_json::to_vec(&decoded.value).expect("a value is JSON");
    let twice = kind
        .decode(&again, FieldValidation::Strict)
        .expect("canonical form is known");
    assert_eq!(twice.value, decoded.value);
});
