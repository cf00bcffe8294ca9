//! How long a request may take. Pure.
//!
//! Source: Kubernetes `endpoints/filters/request_deadline.go`, `time.ParseDuration`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::time::Duration;

use corten_api::Status;

use crate::query::Query;
use crate::route::{NoRoute, Operation, Verb};

/// Time for a request that asks for no less. Source: kube-apiserver `--request-timeout`.
const LONGEST: Duration = Duration::from_secs(60);
/// Time until a connection that lasts has to be begun: what is behind a proxy may think for long.
const LONGEST_BEGINNING: Duration = Duration::from_secs(24 * 3600);

/// Until when the head of the answer has to be there.
///
/// # Errors
/// `BadRequest` for a `timeout` that is no duration.
pub fn of(routed: &Result<Operation, NoRoute>, query: &Query) -> Result<Duration, Status> {
    let lasts = match routed {
        Ok(Operation::Resource(target)) => {
            let sub = target.subresource.as_deref();
            target.verb == Verb::Watch
                || matches!(sub, Some("exec" | "attach" | "portforward" | "log" | "proxy"))
        }
        // Servers join and leave at their own pace.
        Ok(Operation::Members(_) | Operation::Backup) => true,
        _ => false,
    };
    if lasts {
        return Ok(LONGEST_BEGINNING);
    }
    match query.get("timeout") {
        None | Some("") => Ok(LONGEST),
        Some(text) => match parse(text) {
            Some(asked) if !asked.is_zero() => Ok(asked.min(LONGEST)),
            Some(_) => Ok(LONGEST),
            None => Err(Status::bad_request(
                "invalid timeout specified in the request URL",
            )),
        },
    }
}

/// What a client is told whose time is up.
#[must_use]
pub fn exceeded() -> Status {
    Status::timeout(
        "request did not complete within requested timeout - context deadline exceeded",
        0,
    )
}

/// A duration as Go writes it, such as `1m30s`; `None` for anything else, and for negative ones.
fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text.strip_prefix('+').unwrap_or(text), 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(())?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn requests_have_a_minute_or_what_they_ask_for() {
        let check = |uri: &str, want: Option<u64>| {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let query = Query::parse(Some(query));
            let routed = crate::route::route(&Method::GET, path, &query);
            let got = of(&routed, &query).ok().map(|limit| limit.as_millis() as u64);
            assert_eq!(got, want, "{uri}");
        };
        check("/api/v1/pods", Some(60_000));
        check("/api/v1/pods?timeout=1m30s", Some(60_000));
        check("/api/v1/pods?timeout=1.5s", Some(1_500));
        check("/api/v1/pods?timeout=250ms", Some(250));
        check("/api/v1/pods?timeout=0", Some(60_000));
        check("/api/v1/pods?timeout=0s", Some(60_000));
        check("/api/v1/pods?timeout=", Some(60_000));
        for bad in ["5", "s", "-5s", "5x", "1..5s", "%20"] {
            check(&format!("/api/v1/pods?timeout={bad}"), None);
        }
        let day = Some(24 * 3_600_000);
        check("/api/v1/pods?watch=1&timeout=5s", day);
        check("/api/v1/namespaces/a/pods/b/log", day);
        check("/api/v1/namespaces/a/services/b/proxy/x?timeout=x", day);
        check("/nothing", Some(60_000));
    }
}
