//! Validation of probes and lifecycle hooks.

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{self, named};
use crate::names;

/// Which probe it is; each has rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

/// Handlers by their fields, in the order upstream looks at them.
const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

pub fn probe(at: &At<'_>, kind: ProbeKind, grace: Option<i64>, errors: &mut FieldErrors) {
    handler(at, &PROBE_HANDLERS, grace, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        rules::not_negative(at, field, errors);
    }
    if let Some(seconds) = at.opt_int("terminationGracePeriodSeconds") {
        if kind == ProbeKind::Readiness {
            errors.invalid(
                at.path("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            );
        } else if seconds <= 0 {
            errors.invalid(
                at.path("terminationGracePeriodSeconds"),
                seconds,
                "must be greater than 0",
            );
        }
    }
    if kind != ProbeKind::Readiness && at.int("successThreshold") != 1 {
        errors.invalid(
            at.path("successThreshold"),
            at.int("successThreshold"),
            "must be 1",
        );
    }
}

pub fn lifecycle(at: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    for field in ["postStart", "preStop"] {
        if let Some(hook) = at.opt(field) {
            handler(&hook, &HOOK_HANDLERS, grace, errors);
        }
    }
}

fn handler(at: &At<'_>, handlers: &[&'static str], grace: Option<i64>, errors: &mut FieldErrors) {
    let mut found = 0;
    for field in handlers.iter().copied() {
        let Some(action) = at.opt(field) else { continue };
        found += 1;
        if found > 1 {
            errors.forbidden(action.here(), "may not specify more than 1 handler type");
            continue;
        }
        match field {
            "exec" if action.count("command") == 0 => errors.required(action.path("command"), ""),
            "exec" => {}
            "httpGet" => http(&action, errors),
            "tcpSocket" => rules::port_or_name(&action, "port", errors),
            "grpc" => rules::port(action.path("port"), action.int("port"), errors),
            _ => sleep(&action, grace, errors),
        }
    }
    if found == 0 {
        errors.required(at.here(), "must specify a handler type");
    }
}

fn http(at: &At<'_>, errors: &mut FieldErrors) {
    if at.str("path").is_empty() {
        errors.required(at.path("path"), "");
    }
    rules::port_or_name(at, "port", errors);
    if !matches!(at.str("scheme"), "HTTP" | "HTTPS") {
        errors.not_supported(at.path("scheme"), at.str("scheme"), &["HTTP", "HTTPS"]);
    }
    for header in at.items("httpHeaders") {
        // Upstream reports a bad header at the list.
        named(
            at.path("httpHeaders"),
            header.str("name"),
            names::http_header_name,
            errors,
        );
    }
}

fn sleep(at: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    let seconds = at.int("seconds");
    if let Some(grace) = grace.filter(|g| seconds < 0 || seconds > *g) {
        errors.invalid(
            at.path("seconds"),
            seconds,
            &format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        );
    }
}
