//! Certificate requests: what is signed is a certificate for the same names, and reading takes bounded memory.
#![no_main]

use std::sync::OnceLock;

use corten_api::kinds::certificates::request;
use corten_apiserver::fuzzing::sign;
use corten_apiserver::pki::Ca;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fn ca() -> &'static Ca {
    static CA: OnceLock<Ca> = OnceLock::new();
    CA.get_or_init(|| Ca::generate(time::OffsetDateTime::now_utc()).expect("a CA"))
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let names = bounded(text.len(), 8192, || request::names(text));
    if let Some(certificate) = sign(ca(), text) {
        names.expect("what is signed can be read");
        request::end_of_certificate(&certificate).expect("what is signed is a certificate");
    }
});
