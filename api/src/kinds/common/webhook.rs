//! How a webhook is called: its URL or its Service, and its name.
//! Source: `k8s.io/apiserver/pkg/util/webhook/validation.go`.

use std::fmt::Display;

use crate::cursor::At;
use crate::field::{FieldErrors, quoted};
use crate::names;

const FORM: &str = "; desired format: https://host[/path]";

/// A DNS subdomain of at least three labels, as webhooks are named.
pub fn fully_qualified_name(field: impl Display, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(field, "");
        return;
    }
    let texts = names::dns_subdomain(name);
    if !texts.is_empty() {
        errors.invalid(field, name, &texts.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(
            field,
            name,
            "should be a domain with at least three segments separated by dots",
        );
    }
}

/// Exactly one of `url` and `service` of a client configuration, and that one valid.
pub fn client_config(at: &At<'_>, errors: &mut FieldErrors) {
    match (at.opt_str("url"), at.opt("service")) {
        (Some(text), None) => url(at.path("url"), text, errors),
        (None, Some(reference)) => service(&reference, errors),
        _ => errors.required(at, "exactly one of url or service is required"),
    }
}

/// An `https` URL of host and path only.
pub fn url(field: impl Display, text: &str, errors: &mut FieldErrors) {
    let parts = match split(text) {
        Ok(parts) => parts,
        Err(why) => {
            let detail = format!("url must be a valid URL: parse {}: {why}{FORM}", quoted(text));
            errors.required(field, &detail);
            return;
        }
    };
    if parts.scheme != "https" {
        errors.invalid(
            &field,
            parts.scheme.as_str(),
            &format!("'https' is the only allowed URL scheme{FORM}"),
        );
    }
    if parts.host.is_empty() {
        errors.invalid(&field, "", &format!("host must be provided{FORM}"));
    }
    if let Some(user) = parts.user {
        errors.invalid(&field, user, "user information is not permitted in the URL");
    }
    if !parts.fragment.is_empty() {
        errors.invalid(&field, parts.fragment, "fragments are not permitted in the URL");
    }
    if !parts.query.is_empty() {
        errors.invalid(
            &field,
            parts.query,
            "query parameters are not permitted in the URL",
        );
    }
}

struct Parts<'a> {
    /// In lower case.
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// The pieces of a URL as Go's `url.Parse` finds them, or its text of what is wrong.
fn split(text: &str) -> Result<Parts<'_>, String> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    let (scheme, rest) = scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme.is_empty() && !rest.starts_with('/') && rest.split('/').next().is_some_and(|s| s.contains(':'))
    {
        return Err("first path segment in URL cannot contain colon".into());
    }
    let authority = match rest.strip_prefix("//") {
        Some(after) => &after[..after.find('/').unwrap_or(after.len())],
        None => "",
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if let Some(bad) = host
        .chars()
        .find(|c| matches!(c, ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(format!(
            "invalid character {} in host name",
            quoted(&bad.to_string())
        ));
    }
    let after_address = match host.strip_prefix('[') {
        Some(address) => address
            .split_once(']')
            .map(|(_, after)| after)
            .ok_or_else(|| "missing ']' in host".to_string())?,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    if !after_address.is_empty()
        && !after_address
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(format!("invalid port {} after host", quoted(after_address)));
    }
    Ok(Parts {
        scheme: scheme.to_ascii_lowercase(),
        user,
        host,
        query,
        fragment,
    })
}

/// The scheme, empty without one, and what follows it.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (idx, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if idx > 0 => {}
            b':' if idx == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..idx], &text[idx + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// A Service reference with `name`, `namespace`, `port` and `path`. Upstream hands name and namespace to its
/// check in the wrong order, so a missing name is reported at `namespace` and the other way round.
pub fn service(at: &At<'_>, errors: &mut FieldErrors) {
    if at.str("namespace").is_empty() {
        errors.required(at.path("name"), "service name is required");
    }
    if at.str("name").is_empty() {
        errors.required(at.path("namespace"), "service namespace is required");
    }
    let port = at.int("port");
    let texts = names::port_number(port);
    if !texts.is_empty() {
        errors.invalid(
            at.path("port"),
            port,
            &format!("port is not valid: {}", texts.join(", ")),
        );
    }
    if let Some(path) = at.opt_str("path") {
        service_path(at.path("path"), path, errors);
    }
}

fn service_path(field: impl Display, path: &str, errors: &mut FieldErrors) {
    match path {
        "" | "/" => return,
        "//" => return errors.invalid(field, path, "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        errors.invalid(&field, path, "must start with a '/'");
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (idx, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&field, path, &format!("segment[{idx}] may not be empty"));
            continue;
        }
        for text in names::dns_subdomain(step) {
            errors.invalid(&field, path, &format!("segment[{idx}]: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let mut errors = FieldErrors::default();
        url("u", text, &mut errors);
        assert_eq!(errors.aggregate(), want, "{text}");
    }

    #[test]
    fn urls() {
        for good in [
            "https://a",
            "https://a.b:8443/x/y",
            "https://[::1]:443",
            "HTTPS://a",
        ] {
            check(good, "");
        }
        check(
            "http://a",
            "u: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        );
        check(
            "https:///x",
            "u: Invalid value: \"\": host must be provided; desired format: https://host[/path]",
        );
        check(
            "https://u:p@a",
            "u: Invalid value: \"u:p\": user information is not permitted in the URL",
        );
        check(
            "https://a#f",
            "u: Invalid value: \"f\": fragments are not permitted in the URL",
        );
        check(
            "https://a?q=1",
            "u: Invalid value: \"q=1\": query parameters are not permitted in the URL",
        );
        check(
            "https://a:x",
            "u: Required value: url must be a valid URL: parse \"https://a:x\": invalid port \":x\" after host; desired format: https://host[/path]",
        );
        check(
            ":a",
            "u: Required value: url must be a valid URL: parse \":a\": missing protocol scheme; desired format: https://host[/path]",
        );
    }
}
