//! Answers of webhooks: whatever is sent back is a verdict or an error, and a converted object stays the same object.
#![no_main]

use corten_apiserver::fuzzing::webhook_answer;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 1024, || webhook_answer(data));
});
