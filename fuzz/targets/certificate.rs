//! Certificates as clients show them: a user has a name, and reading takes bounded memory.
#![no_main]

use corten_apiserver::fuzzing::certificate;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (user, _) = bounded(data.len(), 8192, || certificate(data));
    if let Some(user) = user {
        assert!(!user.name.is_empty());
        assert!(user.groups.iter().any(|group| group == "system:authenticated"));
    }
});
