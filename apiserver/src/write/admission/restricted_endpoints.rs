//! Addresses of Endpoints and EndpointSlices that are no Pod's: a Service made of them sends its clients where its author may
//! not reach (CVE-2021-25740). Off by default, as upstream has nothing like it; where it is on, who may `create`
//! `endpoints/restricted` or `endpointslices/restricted` writes what he likes. Pure.

use std::net::IpAddr;

use corten_api::Status;
use ipnet::Ipv4Net;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::authorize;
use crate::rbac::rules::Rules;

/// The subresource that stands for the right; nothing is served there.
const RESTRICTED: &str = "restricted";

/// # Errors
/// `Forbidden` for an address outside of `pods` that the object did not have before.
pub fn validate(
    attributes: &Attributes<'_>,
    object: &Value,
    pods: Ipv4Net,
    rules: &Rules,
) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    let addresses = match (&*ty.group, &*ty.plural) {
        ("", "endpoints") => of_endpoints,
        ("discovery.k8s.io", "endpointslices") => of_slice,
        _ => return Ok(()),
    };
    // Without a name it is this server that writes: its own addresses, for the Service `kubernetes`.
    if !matches!(attributes.operation, Operation::Create | Operation::Update)
        || attributes.user.name.is_empty()
    {
        return Ok(());
    }
    let had = attributes.old.map(addresses).unwrap_or_default();
    let new = addresses(object);
    let mut outside = new
        .iter()
        .filter(|address| !had.contains(address) && !is_within(address, pods));
    let Some(address) = outside.next() else {
        return Ok(());
    };
    let asked = authorize::Attributes {
        subresource: RESTRICTED,
        namespace: attributes.subject.namespace,
        ..authorize::Attributes::resource(attributes.user, "create", &ty.group, &ty.plural)
    };
    if rules.authorize(&asked).allowed() {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "address {address} is no Pod's: who writes it needs the right to create {}/{RESTRICTED}",
        ty.plural
    )))
}

fn is_within(address: &str, pods: Ipv4Net) -> bool {
    // A host name says nothing about where it leads.
    match address.parse() {
        Ok(IpAddr::V4(address)) => pods.contains(&address),
        _ => false,
    }
}

fn of_endpoints(object: &Value) -> Vec<&str> {
    let subsets = object["subsets"].as_array().into_iter().flatten();
    let lists = subsets.flat_map(|subset| [&subset["addresses"], &subset["notReadyAddresses"]]);
    let all = lists.filter_map(Value::as_array).flatten();
    all.filter_map(|address| address["ip"].as_str()).collect()
}

fn of_slice(object: &Value) -> Vec<&str> {
    let endpoints = object["endpoints"].as_array().into_iter().flatten();
    let all = endpoints
        .filter_map(|endpoint| endpoint["addresses"].as_array())
        .flatten();
    all.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_address_counts() {
        let endpoints = json!({ "subsets": [
            { "addresses": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }] },
            { "notReadyAddresses": [{ "ip": "10.0.0.3" }] },
        ] });
        assert_eq!(of_endpoints(&endpoints), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let slice = json!({ "endpoints": [{ "addresses": ["10.0.0.1", "example.com"] }, {}] });
        assert_eq!(of_slice(&slice), ["10.0.0.1", "example.com"]);
        assert!(of_endpoints(&json!({})).is_empty() && of_slice(&json!({})).is_empty());
    }

    #[test]
    fn only_the_pods_own_range_is_within() {
        let pods = "10.244.0.0/16".parse().expect("a range");
        let within = ["10.244.0.1", "10.244.255.255"];
        let outside = [
            "10.245.0.0",
            "169.254.169.254",
            "::ffff:10.244.0.1",
            "fd00::1",
            "example.com",
            "",
        ];
        assert!(within.iter().all(|address| is_within(address, pods)));
        assert!(!outside.iter().any(|address| is_within(address, pods)));
    }
}
