//! What a client is told about a Service that is valid and yet will not do what it seems to.
//! Source: `pkg/api/service/warnings.go`.

use crate::cursor::At;
use crate::kinds::common::ip;

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

pub fn of(at: &At<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let spec = at.at("spec");
    if at.at("metadata").get("annotations").get(HINTS).is_some() {
        out.push(format!(
            "annotation {HINTS} is deprecated, please use {MODE} instead"
        ));
    }
    let external_name = spec.str("type") == "ExternalName";
    let headless = spec.str("type") == "ClusterIP" && spec.str("clusterIP") == "None";
    if !external_name && !matches!(spec.str("clusterIP"), "" | "None") {
        for address in spec.items("clusterIPs") {
            out.extend(ip::ip_warning(&address, address.text()));
        }
    }
    if headless {
        for (set, field) in [
            (!spec.str("loadBalancerIP").is_empty(), "loadBalancerIP"),
            (spec.count("externalIPs") > 0, "externalIPs"),
            (
                !matches!(spec.str("sessionAffinity"), "" | "None"),
                "SessionAffinity",
            ),
        ] {
            if set {
                out.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    for address in spec.items("externalIPs") {
        out.extend(ip::ip_warning(&address, address.text()));
    }
    if !spec.str("loadBalancerIP").is_empty() {
        out.extend(ip::ip_warning(
            spec.path("loadBalancerIP"),
            spec.str("loadBalancerIP"),
        ));
    }
    for range in spec.items("loadBalancerSourceRanges") {
        out.extend(ip::cidr_warnings(&range, range.text()));
    }
    if external_name && spec.count("externalIPs") > 0 {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external_name && !spec.str("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.str("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    out
}
