//! Endpoints. Source: `pkg/apis/core/validation`, `ValidateEndpoints`.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{default, items};
use crate::kinds::common::rules::{PROTOCOLS, named, one_of, port};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

pub struct Endpoints;

impl Kind for Endpoints {
    fn create_on_update(&self) -> bool {
        true
    }

    fn set_defaults(&self, object: &mut Map<String, Value>) {
        for subset in items(object, "subsets") {
            for port in items(subset, "ports") {
                default(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        for subset in At::root(object, "core.v1.Endpoints").items("subsets") {
            if subset.count("addresses") + subset.count("notReadyAddresses") == 0 {
                errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
            }
            for address in subset.items("addresses").chain(subset.items("notReadyAddresses")) {
                endpoint_ip(&address, errors);
            }
            let several = subset.count("ports") > 1;
            for entry in subset.items("ports") {
                match entry.str("name") {
                    "" if several => errors.required(entry.path("name"), ""),
                    "" => {}
                    name => named(entry.path("name"), name, names::dns_label, errors),
                }
                port(entry.path("port"), entry.int("port"), errors);
                one_of(&entry, "protocol", &PROTOCOLS, errors);
            }
        }
    }

    fn deprecation(&self) -> Option<String> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into())
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Endpoints"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            shown(object).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn endpoint_ip(address: &At<'_>, errors: &mut FieldErrors) {
    let text = address.str("ip");
    named(address.path("ip"), text, names::ip, errors);
    if !address.str("hostname").is_empty() {
        named(
            address.path("hostname"),
            address.str("hostname"),
            names::dns_label,
            errors,
        );
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        special_ip(address.path("ip"), ip, errors);
    }
}

/// Addresses that no endpoint may have: they would reach the node itself. One of IPv4 that is written as one of IPv6 is meant
/// as what it is.
pub fn special_ip(field: impl std::fmt::Display, ip: IpAddr, errors: &mut FieldErrors) {
    let text = ip.to_string();
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.octets()[0] == 0xff && v6.octets()[1] & 0x0f == 2,
    };
    if ip.is_unspecified() {
        errors.invalid(&field, &text, &format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(
            &field,
            &text,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    if link_local {
        errors.invalid(
            &field,
            &text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if link_local_multicast {
        errors.invalid(
            &field,
            &text,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

/// Up to three `ip:port` pairs, then how many more.
fn shown(object: &Value) -> String {
    const SHOWN: usize = 3;
    let mut list: Vec<String> = Vec::new();
    let mut count = 0;
    let add = |text: String, list: &mut Vec<String>, count: &mut usize| {
        if list.len() < SHOWN {
            list.push(text);
        }
        *count += 1;
    };
    for subset in object["subsets"].as_array().into_iter().flatten() {
        let addresses = || {
            subset["addresses"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| a["ip"].as_str().unwrap_or_default())
        };
        match subset["ports"].as_array().filter(|p| !p.is_empty()) {
            None => addresses().for_each(|ip| add(ip.to_string(), &mut list, &mut count)),
            Some(ports) => {
                for port in ports {
                    let port = port["port"].as_i64().unwrap_or_default();
                    for ip in addresses() {
                        let host = if ip.contains(':') {
                            format!("[{ip}]")
                        } else {
                            ip.to_string()
                        };
                        add(format!("{host}:{port}"), &mut list, &mut count);
                    }
                }
            }
        }
    }
    match count {
        0 => "<none>".into(),
        n if n > SHOWN => format!("{} + {} more...", list.join(","), n - SHOWN),
        _ => list.join(","),
    }
}
