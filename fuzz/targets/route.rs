//! URL routing: no path leads outside the names it is made of.
#![no_main]

use corten_apiserver::fuzzing::route;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    let Some(parts) = bounded(text.len(), 1024, || route(method, target)) else {
        return;
    };
    for part in parts {
        assert!(
            !part.is_empty() && part != "." && part != "..",
            "{text:?}: {part:?}"
        );
        assert!(!part.contains(['/', '\0']), "{text:?}: {part:?}");
    }
});
