//! From Pods to endpoints: which Pods count, under which ports, in what condition.
//!
//! Pure. The legacy Endpoints controller shares it.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_api::pod::{is_ready, is_sidecar, is_terminal};
use corten_client::ObjectExt;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::node_name;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    IPv4,
    IPv6,
}

impl Family {
    /// As in `addressType` and `ipFamilies`.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::IPv4 => "IPv4",
            Family::IPv6 => "IPv6",
        }
    }

    fn of(address: &str) -> Option<Family> {
        match address.parse().ok()? {
            IpAddr::V4(_) => Some(Family::IPv4),
            IpAddr::V6(_) => Some(Family::IPv6),
        }
    }
}

/// A port as it is compared: absent and empty are the same, and lists of them have an order.
pub type PortKey = (String, String, Option<i32>, String);

/// Pods that serve a Service under the same ports. A named target port may give different Pods different numbers.
#[derive(Debug, PartialEq)]
pub struct Group {
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

pub fn has_endpoints(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.type_.as_deref() != Some("ExternalName"))
}

pub fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

pub fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

/// IPv4 unless the Service says otherwise.
pub fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named: Vec<Family> = spec
        .into_iter()
        .flat_map(|spec| spec.ip_families.iter().flatten())
        .filter_map(|name| match name.as_str() {
            "IPv4" => Some(Family::IPv4),
            "IPv6" => Some(Family::IPv6),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let cluster_ip = spec
        .and_then(|spec| spec.cluster_ip.as_deref())
        .and_then(Family::of);
    vec![cluster_ip.unwrap_or(Family::IPv4)]
}

/// Endpoints of `pods` (all selected by `service`), grouped by ports, in a stable order.
pub fn groups(
    service: &Service,
    family: Family,
    pods: &[Arc<Pod>],
    zone: impl Fn(&str) -> Option<String>,
) -> Vec<Group> {
    let mut groups: BTreeMap<Vec<PortKey>, Group> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_endpoint(pod)) {
        let addresses = addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let group = groups.entry(port_keys(&ports)).or_insert_with(|| Group {
            ports,
            endpoints: Vec::new(),
        });
        group.endpoints.push(endpoint(service, pod, addresses, &zone));
    }
    groups.into_values().collect()
}

/// A finished Pod is none; one being deleted still is, until its process has ended.
pub fn is_endpoint(pod: &Pod) -> bool {
    !is_terminal(pod)
}

/// What decides a Pod's endpoints did not change between the two.
pub fn looks_the_same(old: &Pod, new: &Pod) -> bool {
    let named = |pod: &Pod| {
        pod.spec
            .as_ref()
            .map(|spec| (spec.hostname.clone(), spec.subdomain.clone()))
    };
    let ips = |pod: &Pod| {
        pod.status
            .as_ref()
            .map(|status| (status.pod_ip.clone(), status.pod_ips.clone()))
    };
    old.uid() == new.uid()
        && is_endpoint(old) == is_endpoint(new)
        && is_ready(old) == is_ready(new)
        && old.is_terminating() == new.is_terminating()
        && node_name(old) == node_name(new)
        && old.metadata.labels == new.metadata.labels
        && named(old) == named(new)
        && ips(old) == ips(new)
}

pub fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let single = status.pod_ip.as_deref().filter(|_| status.pod_ips.is_none());
    listed
        .chain(single)
        .filter(|ip| Family::of(ip) == Some(family))
        .map(str::to_owned)
        .collect()
}

/// The ports the Pod serves the Service under; a named target port the Pod lacks is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let wanted = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    wanted
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(pod, port)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

pub fn port_keys(ports: &[EndpointPort]) -> Vec<PortKey> {
    let mut keys: Vec<PortKey> = ports
        .iter()
        .map(|port| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let protocol = protocol(port.protocol.as_deref()).to_owned();
            (text(&port.name), protocol, port.port, text(&port.app_protocol))
        })
        .collect();
    keys.sort();
    keys
}

/// The Pod's name in DNS under the Service, if it has one.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name())).then(|| hostname.clone())
}

pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    addresses: Vec<String>,
    zone: impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let serving = is_ready(pod);
    let terminating = pod.is_terminating();
    let node = node_name(pod);
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(target(pod)),
        zone: if node.is_empty() { None } else { zone(node) },
        ..Default::default()
    }
}

fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|container| is_sidecar(container));
            let containers = spec.containers.iter().chain(sidecars);
            containers
                .flat_map(|container| container.ports.iter().flatten())
                .find(|candidate| {
                    candidate.name.as_ref() == Some(name)
                        && protocol(candidate.protocol.as_deref()) == protocol(port.protocol.as_deref())
                })
                .map(|found| found.container_port)
        }
    }
}

fn protocol(named: Option<&str>) -> &str {
    named.filter(|name| !name.is_empty()).unwrap_or("TCP")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{
        Container, ContainerPort, PodCondition, PodIP, PodSpec, PodStatus, ServiceSpec,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    /// `port:target` pairs, separated by commas; `None` for headless, `!` publishes not-ready addresses.
    pub(crate) fn service(text: &str) -> Service {
        let ports = text
            .trim_end_matches(['!', '-'])
            .split(',')
            .filter(|part| !part.is_empty());
        Service {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("a".into()),
                uid: Some("s".into()),
                labels: Some([("team".to_owned(), "x".to_owned())].into()),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some(if text.contains('-') { "None" } else { "10.96.0.9" }.into()),
                publish_not_ready_addresses: Some(text.contains('!')),
                ports: Some(
                    ports
                        .map(|part| {
                            let (port, target) = part.split_once(':').expect("port:target");
                            ServicePort {
                                port: port.parse().expect("a number"),
                                target_port: Some(
                                    target
                                        .parse()
                                        .map_or(IntOrString::String(target.into()), IntOrString::Int),
                                ),
                                ..Default::default()
                            }
                        })
                        .collect(),
                ),
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                ..Default::default()
            }),
            status: None,
        }
    }

    /// `name[@ip][/http-port]` and marks: `!` not ready, `~` being deleted, `.` finished.
    pub(crate) fn pod(text: &str) -> Pod {
        let end = text.find(['@', '/', '!', '~', '.']).unwrap_or(text.len());
        let name = &text[..end];
        let part = |mark: char| {
            let rest = &text[text.find(mark)? + 1..];
            Some(rest[..rest.find(['/', '!', '~']).unwrap_or(rest.len())].to_owned())
        };
        let number: u32 = name
            .bytes()
            .fold(0, |sum, byte| sum * 31 % 250 + u32::from(byte) % 10);
        let ip = part('@').unwrap_or(format!("10.244.0.{}", number % 250 + 1));
        let http = part('/').map_or(8080, |port| port.parse().expect("a port"));
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("a".into()),
                uid: Some(name.into()),
                deletion_timestamp: text.contains('~').then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: Some("n1".into()),
                containers: vec![Container {
                    name: "c".into(),
                    ports: Some(vec![ContainerPort {
                        name: Some("http".into()),
                        container_port: http,
                        ..Default::default()
                    }]),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            status: Some(PodStatus {
                phase: Some(
                    if text.ends_with('.') {
                        "Succeeded"
                    } else {
                        "Running"
                    }
                    .into(),
                ),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: if text.contains('!') { "False" } else { "True" }.into(),
                    ..Default::default()
                }]),
                pod_ips: (!ip.is_empty()).then(|| vec![PodIP { ip: ip.clone() }]),
                pod_ip: (!ip.is_empty()).then_some(ip),
                ..Default::default()
            }),
        }
    }

    pub(crate) fn pods(text: &str) -> Vec<Arc<Pod>> {
        text.split_whitespace().map(|text| Arc::new(pod(text))).collect()
    }

    /// Groups read `ports=pod+pod`; a pod not ready has `!`, one not serving `?`, one terminating `~`.
    #[track_caller]
    fn check(service_text: &str, pods_text: &str, wanted: &str) {
        let found = groups(&service(service_text), Family::IPv4, &pods(pods_text), |_| None);
        let text: Vec<String> = found
            .iter()
            .map(|group| {
                let ports: Vec<String> = group
                    .ports
                    .iter()
                    .map(|p| p.port.unwrap_or(0).to_string())
                    .collect();
                let endpoints: Vec<String> = group
                    .endpoints
                    .iter()
                    .map(|endpoint| {
                        let mut name = endpoint
                            .target_ref
                            .as_ref()
                            .and_then(|t| t.name.clone())
                            .expect("a name");
                        let conditions = endpoint.conditions.clone().expect("conditions");
                        let marks = [
                            (conditions.ready, false, '!'),
                            (conditions.serving, false, '?'),
                            (conditions.terminating, true, '~'),
                        ];
                        name.extend(marks.iter().filter(|m| m.0 == Some(m.1)).map(|m| m.2));
                        name
                    })
                    .collect();
                format!("{}={}", ports.join(","), endpoints.join("+"))
            })
            .collect();
        assert_eq!(text.join(" "), wanted);
    }

    #[test]
    fn a_pod_that_is_going_leaves_ready_but_may_still_serve() {
        check("80:8080", "a b! c~ d!~ e.", "8080=a+b!?+c!~+d!?~");
    }

    #[test]
    fn published_not_ready_addresses_are_ready_whatever_happens() {
        check("80:8080!", "a b! c~", "8080=a+b?+c~");
    }

    #[test]
    fn named_ports_resolve_per_pod() {
        check("80:http", "a b/9090", "8080=a 9090=b");
        check("80:grpc", "a", "=a");
        check("80:8080,81:http", "a", "8080,8080=a");
    }

    #[test]
    fn a_headless_service_may_have_no_ports() {
        check("-", "a", "=a");
    }

    #[test]
    fn pods_without_an_address_do_not_count() {
        check("80:8080", "a@", "");
        check("80:8080", "a@fd00::1", "");
    }
}
