//! Service: defaults, what an update takes over from the stored object, columns.
//! Source: `pkg/apis/core/v1/defaults.go`, `pkg/registry/core/service`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default, default_number, has, items, str};
use crate::resource::{Kind, keep};
use crate::table::Column;
use crate::{humanize, meta, names};

mod validate;
mod warnings;

pub struct Service;

/// Seconds, where session affinity has no time of its own.
const AFFINITY_TIMEOUT: i64 = 10_800;

impl Kind for Service {
    fn create_on_update(&self) -> bool {
        true
    }

    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "sessionAffinity", "None");
        match str(spec, "sessionAffinity") {
            "ClientIP" => {
                let config = child_or_new(child_or_new(spec, "sessionAffinityConfig"), "clientIP");
                default_number(config, "timeoutSeconds", AFFINITY_TIMEOUT);
            }
            "None" => drop(spec.remove("sessionAffinityConfig")),
            _ => {}
        }
        default(spec, "type", "ClusterIP");
        for port in items(spec, "ports") {
            default(port, "protocol", "TCP");
            let target = port.get("targetPort");
            if target.is_none_or(|t| t.is_null() || *t == 0 || *t == "") {
                let number = port.get("port").cloned().unwrap_or_else(|| 0.into());
                port.insert("targetPort".into(), number);
            }
        }
        let kind = str(spec, "type").to_string();
        let external_ips = spec
            .get("externalIPs")
            .and_then(Value::as_array)
            .is_some_and(|l| !l.is_empty());
        let reachable =
            matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips);
        if reachable {
            default(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" && !has(spec, "allocateLoadBalancerNodePorts") {
            spec.insert("allocateLoadBalancerNodePorts".into(), true.into());
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({"loadBalancer": {}}));
        normalize_cluster_ips(child_or_new(object, "spec"), None);
        default_families(child_or_new(object, "spec"));
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
        let Some(old) = old.get("spec").and_then(Value::as_object) else {
            return;
        };
        let spec = child_or_new(new, "spec");
        normalize_cluster_ips(spec, Some(old));
        drop_type_dependent(spec, old);
        take_over_allocated(spec, old);
        default_families(spec);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate::service(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        validate::update(new, old, errors);
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::dns_1035_label
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings::of(&At::root(object, "core.v1.Service"))
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Type"),
                Column::string("Cluster-IP"),
                Column::string("External-IP"),
                Column::string("Port(s)"),
                Column::AGE,
                Column::wide("Selector"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let cluster_ip = spec["clusterIPs"][0]
            .as_str()
            .or(spec["clusterIP"].as_str())
            .unwrap_or_default();
        vec![
            meta::name(object).into(),
            spec["type"].as_str().unwrap_or_default().into(),
            or_none(cluster_ip).into(),
            external_ip(object).into(),
            ports(spec).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            crate::kinds::format_labels(&spec["selector"]).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        let field = field.trim_start_matches("spec.");
        object["spec"][field].as_str().unwrap_or_default().into()
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

/// `clusterIP` and the first of `clusterIPs` say the same; whichever one was set fills the other.
fn normalize_cluster_ips(spec: &mut Map<String, Value>, old: Option<&Map<String, Value>>) {
    let first = |spec: &Map<String, Value>| {
        spec.get("clusterIPs")
            .and_then(|l| l[0].as_str())
            .unwrap_or_default()
            .to_string()
    };
    let (single, list) = (str(spec, "clusterIP").to_string(), first(spec));
    match old {
        None => {
            if !single.is_empty() && list.is_empty() {
                spec.insert("clusterIPs".into(), json!([single]));
            }
        }
        Some(old) => {
            // A client that knows only `clusterIP` and cleared or changed it means both.
            let same_list = spec.get("clusterIPs") == old.get("clusterIPs");
            if single != str(old, "clusterIP") && same_list {
                match single.as_str() {
                    "" => drop(spec.remove("clusterIPs")),
                    ip => drop(spec.insert("clusterIPs".into(), json!([ip]))),
                }
            }
        }
    }
}

/// Addresses and ports that the old Service had and the new one says nothing about stay.
fn take_over_allocated(spec: &mut Map<String, Value>, old: &Map<String, Value>) {
    let has_ip = |s: &Map<String, Value>| str(s, "type") != "ExternalName";
    if has_ip(spec) && has_ip(old) {
        if str(spec, "clusterIP").is_empty() {
            keep(spec, old, "clusterIP");
        }
        if !has(spec, "clusterIPs") && str(spec, "clusterIP") == str(old, "clusterIP") {
            keep(spec, old, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if !has(spec, field) {
                keep(spec, old, field);
            }
        }
    }
    let has_ports = |s: &Map<String, Value>| matches!(str(s, "type"), "NodePort" | "LoadBalancer");
    if has_ports(spec) && has_ports(old) {
        let known: Vec<Value> = old
            .get("ports")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for port in items(spec, "ports")
            .filter(|p| p.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0)
        {
            let same = |o: &&Value| o["port"] == port["port"] && o["protocol"] == port["protocol"];
            if let Some(node_port) = known.iter().find(same).and_then(|o| o.get("nodePort")) {
                port.insert("nodePort".into(), node_port.clone());
            }
        }
        if str(spec, "externalTrafficPolicy") == "Local"
            && spec
                .get("healthCheckNodePort")
                .and_then(Value::as_i64)
                .unwrap_or_default()
                == 0
            && has(old, "healthCheckNodePort")
        {
            keep(spec, old, "healthCheckNodePort");
        }
    }
}

/// A change of type drops what the new type cannot have, where the client just sent it back.
fn drop_type_dependent(spec: &mut Map<String, Value>, old: &Map<String, Value>) {
    let (now, before) = (str(spec, "type").to_string(), str(old, "type"));
    let unchanged = |spec: &Map<String, Value>, field: &str| spec.get(field) == old.get(field);
    if now == "ExternalName" && before != "ExternalName" {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            if unchanged(spec, field) {
                spec.remove(field);
            }
        }
    }
    let has_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_ports(before) && !has_ports(&now) {
        let old_ports: Vec<i64> = old
            .get("ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|p| p["nodePort"].as_i64())
            .collect();
        for port in items(spec, "ports") {
            if port
                .get("nodePort")
                .and_then(Value::as_i64)
                .is_some_and(|n| old_ports.contains(&n))
            {
                port.remove("nodePort");
            }
        }
        for field in ["externalTrafficPolicy", "healthCheckNodePort"] {
            if unchanged(spec, field) {
                spec.remove(field);
            }
        }
    }
    if before == "LoadBalancer" && now != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(spec, field) {
                spec.remove(field);
            }
        }
    }
}

/// A cluster of one address family: its own, or that of the address that was asked for.
fn default_families(spec: &mut Map<String, Value>) {
    if str(spec, "type") == "ExternalName" {
        return;
    }
    let selects = spec
        .get("selector")
        .and_then(Value::as_object)
        .is_some_and(|s| !s.is_empty());
    let headless_without_selector = str(spec, "clusterIP") == "None" && !selects;
    let policy = if headless_without_selector {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    default(spec, "ipFamilyPolicy", policy);
    if !has(spec, "ipFamilies") {
        let v6 = str(spec, "clusterIP").contains(':');
        let families = match (headless_without_selector, v6) {
            (true, _) => json!(["IPv4", "IPv6"]),
            (false, true) => json!(["IPv6"]),
            (false, false) => json!(["IPv4"]),
        };
        spec.insert("ipFamilies".into(), families);
    }
}

/// Records an allocated cluster address in both places.
pub fn set_cluster_ip(service: &mut Value, ip: &str) {
    if let Some(spec) = service.as_object_mut().and_then(|s| child(s, "spec")) {
        spec.insert("clusterIP".into(), ip.into());
        spec.insert("clusterIPs".into(), json!([ip]));
    }
}

fn external_ip(object: &Value) -> String {
    let spec = &object["spec"];
    let list = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_string))
            .collect()
    };
    let external = list(&spec["externalIPs"]);
    match spec["type"].as_str().unwrap_or_default() {
        "ClusterIP" | "NodePort" => or_none(&external.join(",")),
        "LoadBalancer" => {
            let ingress = object["status"]["loadBalancer"]["ingress"]
                .as_array()
                .into_iter()
                .flatten();
            let mut all: Vec<String> = ingress
                .filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str()))
                .map(str::to_string)
                .collect();
            all.extend(external);
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => spec["externalName"].as_str().unwrap_or_default().into(),
        _ => "<unknown>".into(),
    }
}

fn ports(spec: &Value) -> String {
    let list: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or_default();
            let number = port["port"].as_i64().unwrap_or_default();
            match port["nodePort"].as_i64().unwrap_or_default() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    or_none(&list.join(","))
}
