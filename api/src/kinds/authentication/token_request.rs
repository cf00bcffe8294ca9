//! TokenRequest: the body of `serviceaccounts/token`. Source: `pkg/apis/authentication`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child_or_new, has};

/// Life of a token when the request says nothing, in seconds.
pub const DEFAULT_SECONDS: i64 = 60 * 60;
/// Shortest life that may be asked for, in seconds.
pub const MIN_SECONDS: i64 = 10 * 60;
/// Longest life that may be asked for, in seconds.
pub const MAX_SECONDS: i64 = 1 << 32;

/// Fills in how long the token is to live.
pub fn set_defaults(request: &mut Map<String, Value>) {
    let spec = child_or_new(request, "spec");
    if !has(spec, "expirationSeconds") {
        spec.insert("expirationSeconds".into(), DEFAULT_SECONDS.into());
    }
}

/// Checks the request on its own; what it is bound to is looked up by the server.
pub fn validate(request: &Value, errors: &mut FieldErrors) {
    let spec = At::root(request, "authentication.v1.TokenRequest").at("spec");
    let seconds = spec.int("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.invalid(
            spec.path("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > MAX_SECONDS {
        errors.invalid(
            spec.path("expirationSeconds"),
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
}
