//! Kinds of the networking group.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;

use crate::resource::{ResourceType, SubresourceType};

const fn kind(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    schema: &'static str,
    behaviour: &'static dyn crate::resource::Kind,
) -> ResourceType {
    ResourceType::new(
        ["networking.k8s.io", "v1", kind, plural],
        singular,
        schema,
        behaviour,
    )
}

pub(crate) const RESOURCES: &[ResourceType] = &[
    kind(
        "IngressClass",
        "ingressclasses",
        "ingressclass",
        "networking.v1.IngressClass",
        &ingress_class::IngressClass,
    )
    .cluster(),
    kind(
        "Ingress",
        "ingresses",
        "ingress",
        "networking.v1.Ingress",
        &ingress::Ingress,
    )
    .short(&["ing"])
    .subresources(&[SubresourceType::status("Ingress")]),
    kind(
        "IPAddress",
        "ipaddresses",
        "ipaddress",
        "networking.v1.IPAddress",
        &ip_address::IPAddress,
    )
    .cluster()
    .short(&["ip"]),
    kind(
        "NetworkPolicy",
        "networkpolicies",
        "networkpolicy",
        "networking.v1.NetworkPolicy",
        &network_policy::NetworkPolicy,
    )
    .short(&["netpol"]),
    kind(
        "ServiceCIDR",
        "servicecidrs",
        "servicecidr",
        "networking.v1.ServiceCIDR",
        &service_cidr::ServiceCIDR,
    )
    .cluster()
    .subresources(&[SubresourceType::status("ServiceCIDR")]),
];
