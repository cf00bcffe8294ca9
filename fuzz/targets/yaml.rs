//! YAML bodies become JSON of about their size, with no way to make little text into much.
#![no_main]

use corten_api::schema::decode::parse_json;
use corten_apiserver::fuzzing::yaml_to_json;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(json) = bounded(data.len(), 4096, || yaml_to_json(data)) else {
        return;
    };
    assert!(
        json.len() <= 8 * data.len() + 64,
        "{} bytes from {}",
        json.len(),
        data.len()
    );
    parse_json(&json).expect("what comes out is JSON");
});
