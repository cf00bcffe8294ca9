//! Ingress. Source: `pkg/apis/networking/validation`, `pkg/registry/networking/ingress`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::kinds::common::{go_value, ip};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct Ingress;

const TYPE: &str = "networking.v1.Ingress";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NOT_AN_IP: &str = "must be a DNS name, not an IP address";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_SUFFIXES: [&str; 2] = ["/..", "/."];
/// Hosts shown in a table.
const SHOWN: usize = 3;

/// Faults that the stored object already has and an update may therefore keep.
#[derive(Default)]
struct Tolerated {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Tolerated {
    fn of(old: &Value) -> Self {
        let spec = At::root(old, TYPE).at("spec");
        let wildcard_rules = spec.items("rules").any(|rule| {
            let mut errors = FieldErrors::default();
            rule.str("host").contains('*') && {
                rule_value(&rule, &mut errors);
                !errors.is_empty()
            }
        });
        Self {
            secret_names: spec
                .items("tls")
                .any(|tls| !secret_name(tls.str("secretName")).is_empty()),
            wildcard_rules,
        }
    }
}

impl Kind for Ingress {
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"loadBalancer": {}}));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        spec(object, &Tolerated::default(), errors);
        let class = object["spec"]["ingressClassName"].as_str();
        if let (Some(annotation), Some(class)) = (meta::annotation(object, CLASS_ANNOTATION), class)
            && annotation != class
        {
            errors.invalid(
                format!("annotations.{CLASS_ANNOTATION}"),
                annotation,
                "must match `ingressClassName` when both are specified",
            );
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        spec(new, &Tolerated::of(old), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let balancer = |object| At::root(object, TYPE).at("status").at("loadBalancer");
        let known: Vec<&str> = balancer(old).items("ingress").map(|i| i.str("ip")).collect();
        for ingress in balancer(new).items("ingress") {
            let (address, host) = (ingress.str("ip"), ingress.str("hostname"));
            if !address.is_empty() {
                ip::legacy_ip(ingress.path("ip"), address, &known, errors);
            }
            if !host.is_empty() {
                named(ingress.path("hostname"), host, names::dns_subdomain, errors);
                if ip::lenient_ip(host).is_some() {
                    errors.invalid(ingress.path("hostname"), host, NOT_AN_IP);
                }
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Class"),
                Column::string("Hosts"),
                Column::string("Address"),
                Column::string("Ports"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let ports = if spec["tls"].as_array().is_some_and(|l| !l.is_empty()) {
            "80, 443"
        } else {
            "80"
        };
        vec![
            meta::name(object).into(),
            spec["ingressClassName"].as_str().unwrap_or("<none>").into(),
            hosts(&spec["rules"]).into(),
            addresses(object).into(),
            ports.into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        At::root(object, TYPE)
            .at("status")
            .at("loadBalancer")
            .items("ingress")
            .filter(|ingress| !ingress.str("ip").is_empty())
            .filter_map(|ingress| ip::ip_warning(ingress.path("ip"), ingress.str("ip")))
            .collect()
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        if meta::annotation(object, CLASS_ANNOTATION).is_none()
            || object["spec"]["ingressClassName"].is_string()
        {
            return Vec::new();
        }
        vec![format!(
            "annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
        )]
    }
}

fn spec(object: &Value, tolerated: &Tolerated, errors: &mut FieldErrors) {
    let spec = At::root(object, TYPE).at("spec");
    if spec.count("rules") == 0 && !spec.has("defaultBackend") {
        errors.invalid(
            &spec,
            go_value::list(spec.get("rules")),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(at) = spec.opt("defaultBackend") {
        backend(&at, errors);
    }
    for rule in spec.items("rules") {
        let name = rule.str("host");
        if !name.is_empty() {
            if ip::lenient_ip(name).is_some() {
                errors.invalid(rule.path("host"), name, NOT_AN_IP);
            }
            host(rule.path("host"), name, errors);
        }
        if !(name.contains('*') && tolerated.wildcard_rules) {
            rule_value(&rule, errors);
        }
    }
    for tls in spec.items("tls") {
        for name in tls.items("hosts") {
            host(&name, name.text(), errors);
        }
        if !tolerated.secret_names {
            for text in secret_name(tls.str("secretName")) {
                errors.invalid(tls.path("secretName"), tls.str("secretName"), &text);
            }
        }
    }
    if let Some(class) = spec.opt_str("ingressClassName") {
        named(spec.path("ingressClassName"), class, names::dns_subdomain, errors);
    }
}

fn host(field: impl std::fmt::Display, name: &str, errors: &mut FieldErrors) {
    let rule = if name.contains('*') {
        names::wildcard_subdomain
    } else {
        names::dns_subdomain
    };
    named(field, name, rule, errors);
}

fn secret_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        Vec::new()
    } else {
        names::dns_subdomain(name)
    }
}

fn rule_value(rule: &At<'_>, errors: &mut FieldErrors) {
    let Some(http) = rule.opt("http") else { return };
    if http.count("paths") == 0 {
        errors.required(http.path("paths"), "");
    }
    for path in http.items("paths") {
        http_path(&path, errors);
    }
}

fn http_path(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(kind) = at.opt_str("pathType") else {
        errors.required(at.path("pathType"), "pathType must be specified");
        return;
    };
    let path = at.str("path");
    match kind {
        "Exact" | "Prefix" => {
            if !path.starts_with('/') {
                errors.invalid(at.path("path"), path, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| path.contains(**bad)) {
                errors.invalid(at.path("path"), path, &format!("must not contain '{bad}'"));
            }
            for bad in BAD_SUFFIXES.iter().filter(|bad| path.ends_with(**bad)) {
                errors.invalid(at.path("path"), path, &format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !path.starts_with('/') {
                errors.invalid(at.path("path"), path, "must be an absolute path");
            }
        }
        other => errors.not_supported(at.path("pathType"), other, &PATH_TYPES),
    }
    backend(&at.at("backend"), errors);
}

fn backend(at: &At<'_>, errors: &mut FieldErrors) {
    match (at.opt("resource"), at.opt("service")) {
        (Some(_), Some(_)) => errors.invalid(at, "", "cannot set both resource and service backends"),
        (Some(resource), None) => typed_reference(&resource, errors),
        (None, Some(service)) => {
            match service.str("name") {
                "" => errors.required(service.path("name"), ""),
                name => named(service.path("name"), name, names::dns_label, errors),
            }
            let port = service.at("port");
            match (port.str("name"), port.int("number")) {
                ("", 0) => errors.required(at, "port name or number is required"),
                ("", number) => {
                    for text in names::port_number(number) {
                        errors.invalid(port.path("number"), number, &text);
                    }
                }
                (name, 0) => named(port.path("name"), name, names::port_name, errors),
                _ => errors.invalid(at, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => errors.invalid(at, "", "resource or service backend is required"),
    }
}

/// Group, kind and name of an object in the same namespace.
pub(super) fn typed_reference(at: &At<'_>, errors: &mut FieldErrors) {
    if let Some(group) = at.opt_str("apiGroup") {
        named(at.path("apiGroup"), group, names::dns_subdomain, errors);
    }
    for field in ["kind", "name"] {
        match at.str(field) {
            "" => errors.required(at.path(field), ""),
            text => named(at.path(field), text, names::path_segment, errors),
        }
    }
}

fn hosts(rules: &Value) -> String {
    let rules: &[Value] = rules.as_array().map_or(&[], Vec::as_slice);
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        let host = rule["host"].as_str().unwrap_or_default();
        if shown.len() == SHOWN {
            more = true;
        } else if !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".into(),
        (false, false) => shown.join(","),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN),
    }
}

fn addresses(object: &Value) -> String {
    let list = object["status"]["loadBalancer"]["ingress"].as_array();
    let all: BTreeSet<&str> = list
        .into_iter()
        .flatten()
        .filter_map(|ingress| {
            let text = |field: &str| ingress[field].as_str().filter(|t| !t.is_empty());
            text("ip").or(text("hostname"))
        })
        .collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}
