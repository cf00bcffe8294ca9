//! Validation of Services. Source: `pkg/apis/core/validation`, `ValidateService`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::{self, PROTOCOLS, Shown, named};
use crate::kinds::common::selector;
use crate::kinds::core::endpoints::special_ip;
use crate::names;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const MAX_AFFINITY_SECONDS: i64 = 86_400;

pub fn service(object: &Value, errors: &mut FieldErrors) {
    let spec = At::root(object, "core.v1.Service").at("spec");
    let kind = spec.str("type");
    let headless = spec.str("clusterIP") == "None";
    if spec.count("ports") == 0 && !headless && kind != "ExternalName" {
        errors.required(spec.path("ports"), "");
    }
    match kind {
        "LoadBalancer" => {
            for port in spec.items("ports").filter(|p| p.int("port") == 10250) {
                errors.invalid(
                    port.here(),
                    port.int("port"),
                    "may not expose port 10250 externally since it is used by kubelet",
                );
            }
            no_headless(&spec, "LoadBalancer", errors);
        }
        "NodePort" => no_headless(&spec, "NodePort", errors),
        "ExternalName" => {
            if spec.count("clusterIPs") > 0 || !spec.str("clusterIP").is_empty() {
                errors.forbidden(
                    spec.path("clusterIPs"),
                    "may not be set for ExternalName services",
                );
            }
            for (field, text) in [
                ("ipFamilies", "may not be set for ExternalName services"),
                ("ipFamilyPolicy", "may not be set for ExternalName services"),
            ] {
                if spec.has(field) {
                    errors.forbidden(spec.path(field), text);
                }
            }
            match spec.str("externalName").trim_end_matches('.') {
                "" => errors.required(spec.path("externalName"), ""),
                name => named(spec.path("externalName"), name, names::dns_subdomain, errors),
            }
        }
        _ => {}
    }
    ports(&spec, errors);
    if spec.has("selector") {
        selector::labels(spec.path("selector"), spec.get("selector"), errors);
    }
    rules::one_of(&spec, "sessionAffinity", &["ClientIP", "None"], errors);
    if spec.str("sessionAffinity") == "ClientIP" {
        let client = spec.at("sessionAffinityConfig").at("clientIP");
        let seconds = client.int("timeoutSeconds");
        if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
            errors.invalid(
                client.path("timeoutSeconds"),
                seconds,
                &format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"),
            );
        }
    }
    cluster_ips(&spec, errors);
    for ip in spec.items("externalIPs") {
        named(&ip, ip.text(), names::ip, errors);
        if let Ok(parsed) = ip.text().parse::<IpAddr>() {
            special_ip(&ip, parsed, errors);
        }
    }
    rules::one_of(&spec, "type", &TYPES, errors);
    node_ports(&spec, kind, errors);
    for cidr in spec.items("loadBalancerSourceRanges") {
        if kind != "LoadBalancer" {
            errors.forbidden(
                spec.path("loadBalancerSourceRanges"),
                "may only be used when `type` is 'LoadBalancer'",
            );
            break;
        }
        if cidr.text().trim().parse::<ipnet::IpNet>().is_err() {
            errors.invalid(
                &cidr,
                cidr.text(),
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    policies(&spec, kind, errors);
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.has(field) {
                errors.forbidden(spec.path(field), "may only be used when `type` is 'LoadBalancer'");
            }
        }
    }
}

fn no_headless(spec: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    if spec.str("clusterIP") == "None" {
        errors.invalid(
            spec.path("clusterIPs").index(0),
            "None",
            &format!("may not be set to 'None' for {kind} services"),
        );
    }
}

fn ports(spec: &At<'_>, errors: &mut FieldErrors) {
    let several = spec.count("ports") > 1;
    let (mut port_names, mut pairs) = (BTreeSet::new(), BTreeSet::new());
    for port in spec.items("ports") {
        match port.str("name") {
            "" if several => errors.required(port.path("name"), ""),
            "" => {}
            name => {
                named(port.path("name"), name, names::dns_label, errors);
                if !port_names.insert(name) {
                    errors.duplicate(port.path("name"), name);
                }
            }
        }
        rules::port(port.path("port"), port.int("port"), errors);
        rules::one_of(&port, "protocol", &PROTOCOLS, errors);
        rules::port_or_name(&port, "targetPort", errors);
        if !port.str("appProtocol").is_empty() {
            named(
                port.path("appProtocol"),
                port.str("appProtocol"),
                names::qualified_name,
                errors,
            );
        }
        if !pairs.insert((port.int("port"), port.str("protocol"))) {
            let key = serde_json::json!({"protocol": port.str("protocol"), "port": port.int("port")});
            errors.duplicate(&port, key);
        }
    }
}

fn node_ports(spec: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    let mut used = BTreeSet::new();
    for port in spec.items("ports").filter(|p| p.int("nodePort") != 0) {
        if matches!(kind, "ClusterIP" | "ExternalName") {
            errors.forbidden(
                port.path("nodePort"),
                &format!("may not be used when `type` is '{kind}'"),
            );
        } else if !used.insert((port.str("protocol"), port.int("nodePort"))) {
            errors.duplicate(port.path("nodePort"), port.int("nodePort"));
        }
    }
}

fn cluster_ips(spec: &At<'_>, errors: &mut FieldErrors) {
    if spec.str("type") == "ExternalName" {
        return;
    }
    let (single, list) = (spec.str("clusterIP"), spec.path("clusterIPs"));
    let all: Vec<&str> = spec.strings("clusterIPs").collect();
    match (single, all.first()) {
        ("", Some(_)) => errors.required(spec.path("clusterIP"), "must be set when `clusterIPs` is set"),
        (single, Some(first)) if single != *first => {
            errors.invalid(
                list,
                spec.get("clusterIPs").clone(),
                "first value must match `clusterIP`",
            );
        }
        _ => {}
    }
    if all.len() > 2 {
        errors.invalid(
            list,
            spec.get("clusterIPs").clone(),
            "may only hold up to 2 values",
        );
    }
    if all.len() > 1 && all.contains(&"None") {
        errors.invalid(
            list,
            spec.get("clusterIPs").clone(),
            "'None' must be the first and only value",
        );
    }
    for (idx, ip) in all.iter().enumerate().filter(|(_, ip)| **ip != "None") {
        named(list.index(idx), ip, names::ip, errors);
    }
    for family in spec
        .items("ipFamilies")
        .filter(|f| !matches!(f.text(), "IPv4" | "IPv6"))
    {
        errors.not_supported(&family, family.text(), &["IPv4", "IPv6"]);
    }
    const POLICIES: [&str; 3] = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    if let Some(policy) = spec.opt_str("ipFamilyPolicy").filter(|p| !POLICIES.contains(p)) {
        errors.not_supported(
            spec.path("ipFamilyPolicy"),
            policy,
            &["PreferDualStack", "RequireDualStack", "SingleStack"],
        );
    }
}

fn policies(spec: &At<'_>, kind: &str, errors: &mut FieldErrors) {
    let external = spec.str("externalTrafficPolicy");
    let reachable =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && spec.count("externalIPs") > 0);
    match (reachable, external) {
        (false, "") | (true, "Cluster" | "Local") => {}
        (false, policy) => errors.invalid(
            spec.path("externalTrafficPolicy"),
            policy,
            "may only be set for externally-accessible services",
        ),
        (true, "") => errors.required(spec.path("externalTrafficPolicy"), ""),
        (true, policy) => {
            errors.not_supported(spec.path("externalTrafficPolicy"), policy, &["Cluster", "Local"])
        }
    }
    let health = spec.int("healthCheckNodePort");
    if health != 0 && !(kind == "LoadBalancer" && external == "Local") {
        errors.invalid(
            spec.path("healthCheckNodePort"),
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    match (kind, spec.opt_str("internalTrafficPolicy")) {
        ("ExternalName", _) => {}
        (_, None) => errors.required(spec.path("internalTrafficPolicy"), ""),
        (_, Some("Cluster" | "Local")) => {}
        (_, Some(policy)) => {
            errors.not_supported(spec.path("internalTrafficPolicy"), policy, &["Cluster", "Local"]);
        }
    }
}

pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (
        At::root(new, "core.v1.Service").at("spec"),
        At::root(old, "core.v1.Service").at("spec"),
    );
    let external = |s: &At<'_>| s.str("type") == "ExternalName";
    if !external(&new) && !external(&old) {
        let before: Vec<&str> = old.strings("clusterIPs").collect();
        let after: Vec<&str> = new.strings("clusterIPs").collect();
        for (idx, ip) in before.iter().enumerate() {
            let path = new.path("clusterIPs").index(idx);
            match after.get(idx) {
                Some(same) if same == ip => {}
                Some(_) => errors.invalid(path, Shown(new.get("clusterIPs")), "may not change once set"),
                None if idx == 0 => errors.invalid(path, *ip, "primary clusterIP can not be unset"),
                None => {}
            }
        }
    }
    if new.str("type") == "LoadBalancer" && old.str("type") == "LoadBalancer" {
        let path = new.path("loadBalancerClass");
        if new.get("loadBalancerClass") != old.get("loadBalancerClass") {
            errors.invalid(
                path,
                Shown(new.get("loadBalancerClass")),
                "may not change once set",
            );
        }
    }
}
