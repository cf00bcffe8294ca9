//! NetworkPolicy. Source: `pkg/apis/networking/validation`, `pkg/apis/networking/v1/defaults.go`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, default, has, items};
use crate::kinds::common::{go_value, ip, selector};
use crate::kinds::format_selector;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct NetworkPolicy;

const TYPE: &str = "networking.v1.NetworkPolicy";
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const POLICY_TYPES: [&str; 2] = ["Ingress", "Egress"];
/// The two directions: the list of rules and the peers of a rule.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

impl Kind for NetworkPolicy {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let Some(spec) = child(object, "spec") else { return };
        for (direction, _) in DIRECTIONS {
            for rule in items(spec, direction) {
                for port in items(rule, "ports") {
                    default(port, "protocol", "TCP");
                }
            }
        }
        let none = |list: Option<&Value>| list.and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none(spec.get("policyTypes")) {
            let types = if none(spec.get("egress")) {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            spec.insert("policyTypes".into(), types);
        }
        if !has(spec, "podSelector") {
            spec.insert("podSelector".into(), json!({}));
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        spec(object, &[], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let mut known = Vec::new();
        each_block(old, |block| {
            known.push(block.str("cidr"));
            known.extend(block.strings("except"));
        });
        spec(new, &known, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Pod-Selector"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            format_selector(&object["spec"]["podSelector"]).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        each_block(object, |block| {
            warnings.extend(ip::cidr_warnings(block.path("cidr"), block.str("cidr")));
            for except in block.items("except") {
                warnings.extend(ip::cidr_warnings(&except, except.text()));
            }
        });
        warnings
    }
}

fn each_block<'a>(object: &'a Value, mut visit: impl FnMut(At<'a>)) {
    let spec = At::root(object, TYPE).at("spec");
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            for peer in rule.items(peers) {
                peer.opt("ipBlock").into_iter().for_each(&mut visit);
            }
        }
    }
}

/// `known`: the CIDRs of the stored object, which may stay whatever they are.
fn spec(object: &Value, known: &[&str], errors: &mut FieldErrors) {
    let spec = At::root(object, TYPE).at("spec");
    selector::label_selector(&spec.at("podSelector"), errors);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            for at in rule.items("ports") {
                port(&at, errors);
            }
            for at in rule.items(peers) {
                peer(&at, known, errors);
            }
        }
    }
    if spec.count("policyTypes") > POLICY_TYPES.len() {
        errors.invalid(
            spec.path("policyTypes"),
            go_value::list(spec.get("policyTypes")),
            "may not specify more than two policyTypes",
        );
        return;
    }
    for at in spec.items("policyTypes") {
        if !POLICY_TYPES.contains(&at.text()) {
            errors.not_supported(&at, at.text(), &POLICY_TYPES);
        }
    }
}

fn port(at: &At<'_>, errors: &mut FieldErrors) {
    if let Some(protocol) = at.opt_str("protocol")
        && !PROTOCOLS.contains(&protocol)
    {
        errors.not_supported(at.path("protocol"), protocol, &PROTOCOLS);
    }
    let end = at.opt_int("endPort");
    match (at.get("port"), end) {
        (Value::Null, Some(end)) => errors.invalid(
            at.path("endPort"),
            end,
            "may not be specified when `port` is not specified",
        ),
        (Value::Null, None) => {}
        (Value::String(name), _) => {
            if let Some(end) = end {
                errors.invalid(
                    at.path("endPort"),
                    end,
                    "may not be specified when `port` is non-numeric",
                );
            }
            for text in names::port_name(name) {
                errors.invalid(at.path("port"), name, &text);
            }
        }
        (number, _) => {
            let number = number.as_i64().unwrap_or_default();
            for text in names::port_number(number) {
                errors.invalid(at.path("port"), number, &text);
            }
            let Some(end) = end else { return };
            if end < number {
                errors.invalid(at.path("endPort"), end, "must be greater than or equal to `port`");
            }
            for text in names::port_number(end) {
                errors.invalid(at.path("endPort"), end, &text);
            }
        }
    }
}

fn peer(at: &At<'_>, known: &[&str], errors: &mut FieldErrors) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = at.opt(field) {
            peers += 1;
            selector::label_selector(&selector, errors);
        }
    }
    if let Some(block) = at.opt("ipBlock") {
        ip_block(&block, known, errors);
        if peers > 0 {
            errors.forbidden(at, "may not specify both ipBlock and another peer");
        }
    } else if peers == 0 {
        errors.required(at, "must specify a peer");
    }
}

fn ip_block(at: &At<'_>, known: &[&str], errors: &mut FieldErrors) {
    let cidr = at.str("cidr");
    if cidr.is_empty() {
        errors.required(at.path("cidr"), "");
        return;
    }
    let Some(net) = ip::legacy_cidr(at.path("cidr"), cidr, known, errors) else {
        return;
    };
    for except in at.items("except") {
        let text = except.text();
        if let Some(inner) = ip::legacy_cidr(&except, text, known, errors)
            && !(net.contains(&inner.addr()) && net.prefix_len() < inner.prefix_len())
        {
            errors.invalid(&except, text, "must be a strict subset of `cidr`");
        }
    }
}
