//! EndpointSlice. Source: `pkg/apis/discovery`, defaults and validation.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{default, items};
use crate::kinds::common::rules::{self, named};
use crate::kinds::core::endpoints::special_ip;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct EndpointSlice;

const TYPE: &str = "discovery.v1.EndpointSlice";
const MAX_ENDPOINTS: usize = 1_000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

impl Kind for EndpointSlice {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for port in items(object, "ports") {
            // An empty name and TCP are written out.
            if !port.get("name").is_some_and(Value::is_string) {
                port.insert("name".into(), "".into());
            }
            default(port, "protocol", "TCP");
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn generation_fields(&self) -> &'static [&'static str] {
        &["addressType", "endpoints", "ports"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        rules::one_of(&at, "addressType", &["FQDN", "IPv4", "IPv6"], errors);
        if at.count("endpoints") > MAX_ENDPOINTS {
            errors.too_many(at.path("endpoints"), at.count("endpoints"), MAX_ENDPOINTS);
            return;
        }
        for endpoint in at.items("endpoints") {
            validate_endpoint(&endpoint, at.str("addressType"), errors);
        }
        if at.count("ports") > MAX_PORTS {
            errors.too_many(at.path("ports"), at.count("ports"), MAX_PORTS);
            return;
        }
        let mut seen = BTreeSet::new();
        for port in at.items("ports") {
            let name = port.str("name");
            if !name.is_empty() {
                named(port.path("name"), name, names::dns_label, errors);
            }
            if !seen.insert(name) {
                errors.duplicate(port.path("name"), name);
            }
            rules::one_of(&port, "protocol", &rules::PROTOCOLS, errors);
            if let Some(app) = port.opt_str("appProtocol") {
                named(port.path("appProtocol"), app, names::qualified_name, errors);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE), At::root(old, TYPE));
        rules::immutable(
            new.path("addressType"),
            new.get("addressType"),
            old.get("addressType"),
            errors,
        );
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("AddressType"),
                Column::string("Ports"),
                Column::string("Endpoints"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["addressType"].as_str().unwrap_or_default().into(),
            ports(object).into(),
            endpoints(object).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn validate_endpoint(endpoint: &At<'_>, address_type: &str, errors: &mut FieldErrors) {
    match endpoint.count("addresses") {
        0 => errors.required(endpoint.path("addresses"), "must contain at least 1 address"),
        n if n > MAX_ADDRESSES => errors.too_many(endpoint.path("addresses"), n, MAX_ADDRESSES),
        _ => {}
    }
    for address in endpoint.items("addresses") {
        let text = address.text();
        let parsed = text.parse::<IpAddr>();
        match (address_type, &parsed) {
            ("IPv4", Ok(ip)) if ip.to_canonical().is_ipv4() => special_ip(&address, *ip, errors),
            ("IPv6", Ok(ip)) if ip.to_canonical().is_ipv6() => special_ip(&address, *ip, errors),
            ("IPv4", Ok(_)) => errors.invalid(&address, text, "must be an IPv4 address"),
            ("IPv6", Ok(_)) => errors.invalid(&address, text, "must be an IPv6 address"),
            ("IPv4" | "IPv6", Err(_)) => named(&address, text, names::ip, errors),
            ("FQDN", _) => {
                named(&address, text, names::dns_subdomain, errors);
                if !text.contains('.') {
                    errors.invalid(
                        &address,
                        text,
                        "should be a domain with at least two segments separated by dots",
                    );
                }
            }
            _ => {}
        }
    }
    if let Some(node) = endpoint.opt_str("nodeName") {
        named(endpoint.path("nodeName"), node, names::dns_subdomain, errors);
    }
    if let Some(host) = endpoint.opt_str("hostname") {
        named(endpoint.path("hostname"), host, names::dns_label, errors);
    }
}

const SHOWN: usize = 3;

fn ports(object: &Value) -> String {
    let Some(list) = object["ports"].as_array().filter(|l| !l.is_empty()) else {
        return "<unset>".into();
    };
    let mut shown: Vec<String> = Vec::new();
    for port in list.iter().take(SHOWN) {
        let name = port["name"].as_str().unwrap_or_default();
        shown.push(match port["port"].as_i64() {
            Some(number) => number.to_string(),
            None if name.is_empty() => "*".into(),
            None => name.to_string(),
        });
    }
    more(shown, list.len())
}

fn endpoints(object: &Value) -> String {
    let Some(list) = object["endpoints"].as_array().filter(|l| !l.is_empty()) else {
        return "<unset>".into();
    };
    let all: Vec<&str> = list
        .iter()
        .flat_map(|e| e["addresses"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    more(all.iter().take(SHOWN).map(|a| a.to_string()).collect(), all.len())
}

fn more(shown: Vec<String>, count: usize) -> String {
    let text = shown.join(",");
    if count > shown.len() {
        format!("{text} + {} more...", count - shown.len())
    } else {
        text
    }
}
