//! JWTs of others: without the private key nothing is believed. The first line is the set of keys, the rest the token.
#![no_main]

use corten_apiserver::fuzzing::jwt;
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

/// The only token that the key of the seeds has signed: RFC 7515, appendix A.2.
const SIGNED: &str = include_str!("../seeds/jwt/rfc7515");

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (keys, token) = text.split_once('\n').unwrap_or(("{}", text));
    let claims = bounded(text.len(), 4096, || jwt(keys, token));
    let (known, good) = SIGNED.trim_end().split_once('\n').expect("two lines");
    if let Some(claims) = claims.filter(|_| keys == known) {
        assert_eq!(
            token.rsplit_once('.').map(|(message, _)| message),
            good.rsplit_once('.').map(|(message, _)| message)
        );
        assert!(claims.is_object());
    }
});
