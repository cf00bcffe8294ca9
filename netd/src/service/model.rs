//! What is wanted: every port of every Service with the endpoints this node may send to. Pure.
//!
//! Knows the Service and EndpointSlice API. Must not know rules. Semantics are kube-proxy's: ready endpoints, and where
//! none is ready those that still serve while they terminate; local ones by `nodeName`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::rule::Protocol;

/// Names the Service a slice belongs to. Source: well-known labels.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// A Service with this label is served by another proxy. Source: well-known labels.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Seconds a client stays with its endpoint by default. Source: Service v1, `sessionAffinityConfig.clientIP`.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// One port of one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name:port`, or `namespace/name` for an unnamed port; unique with `protocol`.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub cluster_ips: Vec<Ipv4Addr>,
    pub node_port: Option<u16>,
    pub external_ips: Vec<Ipv4Addr>,
    /// Addresses of `status.loadBalancer` whose traffic arrives unchanged (`ipMode: VIP`).
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's addresses; everyone where empty.
    pub source_ranges: Vec<Ipv4Net>,
    /// `sessionAffinity: ClientIP`, in seconds.
    pub affinity_seconds: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub endpoints: Endpoints,
}

/// The endpoints of one port after the choice between ready and terminating ones; sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Everywhere, for traffic policy `Cluster`.
    pub cluster: BTreeSet<SocketAddrV4>,
    /// On this node, for traffic policy `Local`.
    pub local: BTreeSet<SocketAddrV4>,
}

/// One endpoint as its slice states it.
#[derive(Debug, Clone, Copy)]
struct Endpoint {
    address: SocketAddrV4,
    is_local: bool,
    is_ready: bool,
    is_serving: bool,
    is_terminating: bool,
}

/// Every Service port this node serves, sorted by name and protocol.
pub fn service_ports<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node_name: &str,
) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service)
            && slice.address_type == "IPv4"
        {
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut ports: Vec<ServicePort> = Vec::new();
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
            continue;
        };
        let slices = by_service.get(&(namespace.as_str(), name.as_str()));
        ports.extend(ports_of(
            service,
            slices.map_or(&[][..], Vec::as_slice),
            node_name,
        ));
    }
    ports.sort_by(|a, b| (&a.name, a.protocol).cmp(&(&b.name, b.protocol)));
    ports
}

fn ports_of(service: &Service, slices: &[&EndpointSlice], node_name: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let other_proxy = service
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL));
    let cluster_ips = cluster_ips(service);
    if other_proxy || spec.type_.as_deref() == Some("ExternalName") || cluster_ips.is_empty() {
        return Vec::new();
    }
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec
            .session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref());
        let seconds = configured.and_then(|client_ip| client_ip.timeout_seconds);
        seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(DEFAULT_AFFINITY_SECONDS)
    });
    let parse_all = |texts: &Option<Vec<String>>| -> Vec<Ipv4Addr> {
        texts
            .iter()
            .flatten()
            .filter_map(|text| text.parse().ok())
            .collect()
    };
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (
            Protocol::parse(port.protocol.as_deref()),
            u16::try_from(port.port),
        ) else {
            continue;
        };
        let port_name = port.name.as_deref().unwrap_or_default();
        ports.push(ServicePort {
            name: full_name(service, port_name),
            protocol,
            port: number,
            cluster_ips: cluster_ips.clone(),
            node_port: port
                .node_port
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number != 0),
            external_ips: parse_all(&spec.external_ips),
            load_balancer_ips: load_balancer_ips(service),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|range| range.trim().parse::<Ipv4Net>().ok())
                .collect(),
            affinity_seconds,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            endpoints: choose(&endpoints_of(slices, port_name, protocol, node_name)),
        });
    }
    ports
}

fn full_name(service: &Service, port_name: &str) -> String {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if port_name.is_empty() {
        format!("{namespace}/{name}")
    } else {
        format!("{namespace}/{name}:{port_name}")
    }
}

/// IPv4 only; headless Services (`None`) have no address that could be served.
fn cluster_ips(service: &Service) -> Vec<Ipv4Addr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let single = spec.cluster_ip.iter().filter(|_| listed.is_empty());
    listed
        .iter()
        .chain(single)
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

fn load_balancer_ips(service: &Service) -> Vec<Ipv4Addr> {
    let is_load_balancer = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    let status = service.status.as_ref().filter(|_| is_load_balancer);
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    ingress
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect()
}

fn endpoints_of(
    slices: &[&EndpointSlice],
    port_name: &str,
    protocol: Protocol,
    node_name: &str,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| {
            port.name.as_deref().unwrap_or_default() == port_name
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
        });
        let Some(number) = port
            .and_then(|port| port.port)
            .and_then(|number| u16::try_from(number).ok())
        else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref();
            let condition = |value: Option<bool>, absent: bool| value.unwrap_or(absent);
            let is_ready = condition(conditions.and_then(|conditions| conditions.ready), true);
            // The first address stands for the endpoint; the others are the same one. Source: EndpointSlice v1.
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else {
                continue;
            };
            endpoints.push(Endpoint {
                address: SocketAddrV4::new(address, number),
                is_local: endpoint.node_name.as_deref() == Some(node_name),
                is_ready,
                is_serving: condition(conditions.and_then(|conditions| conditions.serving), is_ready),
                is_terminating: condition(conditions.and_then(|conditions| conditions.terminating), false),
            });
        }
    }
    endpoints
}

/// Ready endpoints; where there is none, those that serve until they are gone. Decided apart for all and for local ones.
fn choose(all: &[Endpoint]) -> Endpoints {
    let pick = |wanted: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddrV4> {
        let addresses = |keep: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddrV4> {
            all.iter()
                .filter(|one| wanted(one) && keep(one))
                .map(|one| one.address)
                .collect()
        };
        let ready = addresses(&|one| one.is_ready);
        if ready.is_empty() {
            addresses(&|one| one.is_serving && one.is_terminating)
        } else {
            ready
        }
    };
    Endpoints {
        cluster: pick(&|_| true),
        local: pick(&|one| one.is_local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints are written `address@node/conditions`: r ready, s serving, t terminating.
    #[track_caller]
    fn check(endpoints: &str, cluster: &str, local: &str) {
        let endpoints: Vec<_> = endpoints
            .split_whitespace()
            .map(|text| {
                let (place, conditions) = text.split_once('/').unwrap();
                let (address, node) = place.split_once('@').unwrap();
                serde_json::json!({"addresses": [address], "nodeName": node, "conditions": {
                    "ready": conditions.contains('r'), "serving": conditions.contains('s'), "terminating": conditions.contains('t')}})
            })
            .collect();
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}))
        .unwrap();
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80}]}}))
        .unwrap();
        let ports = service_ports([&service], [&slice], "a");
        let text = |set: &BTreeSet<SocketAddrV4>| {
            set.iter()
                .map(|address| address.ip().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(ports[0].name, "shop/web:http");
        assert_eq!(
            (text(&ports[0].endpoints.cluster), text(&ports[0].endpoints.local)),
            (cluster.into(), local.into())
        );
    }

    #[test]
    fn ready_endpoints_first_then_serving_terminating_ones() {
        check("", "", "");
        check("10.0.0.1@a/rs 10.0.0.2@b/rs", "10.0.0.1 10.0.0.2", "10.0.0.1");
        check("10.0.0.1@a/rs 10.0.0.2@b/", "10.0.0.1", "10.0.0.1");
        check("10.0.0.1@a/st 10.0.0.2@b/rs", "10.0.0.2", "10.0.0.1");
        check(
            "10.0.0.1@a/st 10.0.0.2@b/st 10.0.0.3@b/t",
            "10.0.0.1 10.0.0.2",
            "10.0.0.1",
        );
        check("10.0.0.1@a/s 10.0.0.2@b/t", "", "");
    }

    #[track_caller]
    fn check_service(spec: serde_json::Value, status: serde_json::Value, expected: &str) {
        let service: Service = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec, "status": status}),
        )
        .unwrap();
        let text: Vec<String> = service_ports([&service], [], "a")
            .iter()
            .map(|port| {
                let ips: Vec<_> = port
                    .cluster_ips
                    .iter()
                    .chain(&port.load_balancer_ips)
                    .map(Ipv4Addr::to_string)
                    .collect();
                format!(
                    "{} {} {} {:?} {:?}",
                    port.name,
                    port.protocol,
                    ips.join(","),
                    port.node_port,
                    port.affinity_seconds
                )
            })
            .collect();
        assert_eq!(text.join("; "), expected);
    }

    #[test]
    fn services_without_an_address_are_not_served() {
        let port = serde_json::json!([{"port": 53, "protocol": "UDP", "nodePort": 30053}]);
        let null = serde_json::Value::Null;
        check_service(
            serde_json::json!({"clusterIP": "None", "ports": port}),
            null.clone(),
            "",
        );
        check_service(
            serde_json::json!({"type": "ExternalName", "externalName": "x"}),
            null.clone(),
            "",
        );
        check_service(
            serde_json::json!({"clusterIP": "fd00::1", "ports": port}),
            null.clone(),
            "",
        );
        check_service(
            serde_json::json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": port, "sessionAffinity": "ClientIP"}),
            null,
            "shop/web udp 10.96.0.1 Some(30053) Some(10800)",
        );
        check_service(
            serde_json::json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}),
            serde_json::json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5", "ipMode": "Proxy"}, {"hostname": "x"}]}}),
            "shop/web tcp 10.96.0.1,1.2.3.4 None None",
        );
    }
}
