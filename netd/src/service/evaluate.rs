//! Sends packets through compiled rules and compares their fate with what the Service API promises.
//!
//! The evaluator walks the same values that are rendered for the kernel: hooks, jumps, returns, marks, NAT, verdicts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::compile::{Input, compile};
use super::host_ports;
use super::model::{SERVICE_NAME_LABEL, service_ports};
use super::rule::{Chains, ConnectionState, HOOKS, Match, Protocol, Rule, Ruleset, Target};
use crate::node::NodeFacts;

/// This node is `a` with address 192.168.0.1 and Pods in 10.244.1.0/24; the other is `b`, 192.168.0.2, 10.244.2.0/24.
const LOCAL: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::LOCALHOST];
const CLIENT: &str = "203.0.113.7";

struct World {
    rules: Ruleset,
    /// Every n-th random choice comes true, so that a series of packets sees each branch.
    dice: Cell<usize>,
    remembered: RefCell<BTreeSet<(String, Ipv4Addr)>>,
}

#[derive(Debug, Clone)]
struct Packet {
    source: Ipv4Addr,
    destination: SocketAddrV4,
    protocol: Protocol,
    from_pod: bool,
    to_pod: bool,
    marked: bool,
    state: ConnectionState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    FellThrough,
    Returned,
    Accept,
    Drop,
    Reject,
    Dnat(SocketAddrV4),
    Masquerade,
}

impl World {
    fn new(services: Vec<Value>, slices: Vec<Value>) -> World {
        let services: Vec<Service> = services
            .into_iter()
            .map(|value| serde_json::from_value(value).unwrap())
            .collect();
        let slices: Vec<EndpointSlice> = slices
            .into_iter()
            .map(|value| serde_json::from_value(value).unwrap())
            .collect();
        let node = |name: &str, last: u8| NodeFacts {
            name: name.to_string(),
            internal_ip: Some(Ipv4Addr::new(192, 168, 0, last)),
            pod_cidrs: vec![format!("10.244.{last}.0/24").parse().unwrap()],
        };
        let (nodes, ports) = (
            [node("a", 1), node("b", 2)],
            service_ports(&services, &slices, "a"),
        );
        let mut rules = compile(&Input {
            ports: &ports,
            nodes: &nodes,
            node_name: "a",
        });
        rules.nat.insert(host_ports::CHAIN.to_string(), Vec::new());
        World {
            rules,
            dice: Cell::new(0),
            remembered: RefCell::default(),
        }
    }

    fn matches(&self, one: &Match, packet: &Packet) -> bool {
        let ip = packet.destination.ip();
        match one {
            Match::Source(net) => net.contains(&packet.source),
            Match::Destination(net) => net.contains(ip),
            Match::NotDestination(net) => !net.contains(ip),
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::Port(protocol, port) => packet.protocol == *protocol && packet.destination.port() == *port,
            Match::FromPod => packet.from_pod,
            Match::NotFromPod => !packet.from_pod,
            Match::ToPod => packet.to_pod,
            Match::DestinationIsLocal => LOCAL.contains(ip),
            Match::SourceIsLocal => LOCAL.contains(&packet.source),
            Match::Marked => packet.marked,
            Match::State(state) => packet.state == *state,
            Match::OneIn(count) => {
                self.dice.set(self.dice.get() + 1);
                self.dice.get().is_multiple_of(*count)
            }
            Match::Remembered { name, .. } => {
                self.remembered.borrow().contains(&(name.clone(), packet.source))
            }
            Match::Remember { name } => {
                self.remembered.borrow_mut().insert((name.clone(), packet.source));
                true
            }
        }
    }

    fn walk(&self, chains: &Chains, name: &str, packet: &mut Packet, depth: usize) -> Verdict {
        assert!(depth < 16, "chains jump in a circle");
        for Rule { matches, target, .. } in chains.get(name).unwrap_or_else(|| panic!("no chain {name}")) {
            if !matches.iter().all(|one| self.matches(one, packet)) {
                continue;
            }
            match target {
                Target::SetMark => packet.marked = true,
                Target::ClearMark => packet.marked = false,
                Target::Return => return Verdict::Returned,
                Target::Accept => return Verdict::Accept,
                Target::Drop => return Verdict::Drop,
                Target::Reject => return Verdict::Reject,
                Target::Dnat(to) => return Verdict::Dnat(*to),
                Target::Masquerade => return Verdict::Masquerade,
                Target::Jump(chain) => match self.walk(chains, chain, packet, depth + 1) {
                    Verdict::FellThrough | Verdict::Returned => {}
                    verdict => return verdict,
                },
            }
        }
        Verdict::FellThrough
    }

    fn hook(&self, table: &str, built_in: &str, packet: &mut Packet) -> Verdict {
        let chains = if table == "nat" {
            &self.rules.nat
        } else {
            &self.rules.filter
        };
        let mut hooks = HOOKS
            .iter()
            .filter(|hook| hook.table == table && hook.built_in == built_in);
        hooks.next().map_or(Verdict::FellThrough, |hook| {
            self.walk(chains, hook.chain, packet, 0)
        })
    }

    /// One new connection. The answer: `refused`, `dropped`, `host` (the host itself answers), or the destination, with
    /// ` masqueraded` where the source is replaced.
    fn send(&self, from: &str, to: &str, protocol: Protocol) -> String {
        let source: Ipv4Addr = from.parse().unwrap();
        let from_host = LOCAL.contains(&source);
        let mut packet = Packet {
            source,
            destination: to.parse().unwrap(),
            protocol,
            from_pod: is_own_pod(source),
            to_pod: false,
            marked: false,
            state: ConnectionState::New,
        };
        let nat = self.hook(
            "nat",
            if from_host { "OUTPUT" } else { "PREROUTING" },
            &mut packet,
        );
        if let Verdict::Dnat(to) = nat {
            packet.destination = to;
        }
        let to_host = LOCAL.contains(packet.destination.ip());
        packet.to_pod = is_own_pod(*packet.destination.ip());
        let filter = match (from_host, to_host) {
            (_, true) => self.hook("filter", "INPUT", &mut packet),
            (true, false) => self.hook("filter", "OUTPUT", &mut packet),
            (false, false) => self.hook("filter", "FORWARD", &mut packet),
        };
        match filter {
            Verdict::Reject => return "refused".to_string(),
            Verdict::Drop => return "dropped".to_string(),
            // With a FORWARD policy of DROP only what we accept passes.
            Verdict::FellThrough | Verdict::Returned if !from_host && !to_host => {
                return "not accepted".to_string();
            }
            _ if to_host => return "host".to_string(),
            _ => {}
        }
        let masqueraded = self.hook("nat", "POSTROUTING", &mut packet) == Verdict::Masquerade;
        format!(
            "{}{}",
            packet.destination,
            if masqueraded { " masqueraded" } else { "" }
        )
    }
}

fn is_own_pod(address: Ipv4Addr) -> bool {
    address.octets()[..3] == [10, 244, 1]
}

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "clusterIP": "10.96.0.10", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

/// Endpoints in 10.244.1.0/24 are on this node, others on `b`.
fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| {
            let node = if is_own_pod(address.parse().unwrap()) {
                "a"
            } else {
                "b"
            };
            json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
        })
        .collect();
    json!({"metadata": {"name": "web-1", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "web"}},
           "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080, "protocol": "TCP"}]})
}

/// The fate of one TCP connection to a Service with these endpoints.
#[track_caller]
fn check(spec: Value, endpoints: &[&str], from: &str, to: &str, expected: &str) {
    let world = World::new(vec![service(spec)], vec![slice(endpoints)]);
    assert_eq!(
        world.send(from, to, Protocol::Tcp),
        expected,
        "{from} -> {to}\n{:#?}",
        world.rules
    );
}

const POD: &str = "10.244.1.9";
const HOST: &str = "192.168.0.1";

#[test]
fn cluster_ip_reaches_an_endpoint_from_pods_and_from_the_host() {
    let near = ["10.244.1.2"];
    let far = ["10.244.2.2"];
    check(json!({}), &near, POD, "10.96.0.10:80", "10.244.1.2:8080");
    check(json!({}), &far, POD, "10.96.0.10:80", "10.244.2.2:8080");
    check(
        json!({}),
        &far,
        HOST,
        "10.96.0.10:80",
        "10.244.2.2:8080 masqueraded",
    );
    check(
        json!({}),
        &far,
        CLIENT,
        "10.96.0.10:80",
        "10.244.2.2:8080 masqueraded",
    );
    check(
        json!({}),
        &near,
        POD,
        "10.96.0.10:81",
        "10.96.0.10:81 masqueraded",
    );
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    check(
        json!({}),
        &["10.244.1.9"],
        POD,
        "10.96.0.10:80",
        "10.244.1.9:8080 masqueraded",
    );
    check(
        json!({}),
        &["10.244.1.9"],
        POD,
        "192.168.0.1:30080",
        "10.244.1.9:8080 masqueraded",
    );
}

#[test]
fn no_endpoints_is_refused_everywhere() {
    for (from, to) in [
        (POD, "10.96.0.10:80"),
        (HOST, "10.96.0.10:80"),
        (CLIENT, "192.168.0.1:30080"),
        (POD, "192.168.0.1:30080"),
        (CLIENT, "198.51.100.1:80"),
    ] {
        check(json!({"externalIPs": ["198.51.100.1"]}), &[], from, to, "refused");
    }
}

#[test]
fn node_ports_answer_on_the_hosts_addresses_but_not_on_loopback() {
    let far = ["10.244.2.2"];
    check(
        json!({}),
        &far,
        CLIENT,
        "192.168.0.1:30080",
        "10.244.2.2:8080 masqueraded",
    );
    check(
        json!({}),
        &far,
        HOST,
        "192.168.0.1:30080",
        "10.244.2.2:8080 masqueraded",
    );
    check(json!({}), &far, "127.0.0.1", "127.0.0.1:30080", "host");
    check(json!({}), &far, CLIENT, "192.168.0.1:30081", "host");
    check(json!({}), &far, CLIENT, "192.168.0.1:80", "host");
}

#[test]
fn external_policy_local_keeps_the_source_and_this_nodes_endpoints() {
    let local = json!({"externalTrafficPolicy": "Local", "type": "NodePort"});
    let (near, far) = (["10.244.1.2", "10.244.2.2"], ["10.244.2.2"]);
    check(
        local.clone(),
        &near,
        CLIENT,
        "192.168.0.1:30080",
        "10.244.1.2:8080",
    );
    check(local.clone(), &far, CLIENT, "192.168.0.1:30080", "dropped");
    check(local.clone(), &far, POD, "192.168.0.1:30080", "10.244.2.2:8080");
    check(
        local.clone(),
        &far,
        HOST,
        "192.168.0.1:30080",
        "10.244.2.2:8080 masqueraded",
    );
    check(local.clone(), &far, POD, "10.96.0.10:80", "10.244.2.2:8080");
    check(local, &[], CLIENT, "192.168.0.1:30080", "refused");
}

#[test]
fn internal_policy_local_never_leaves_the_node() {
    let local = json!({"internalTrafficPolicy": "Local"});
    check(
        local.clone(),
        &["10.244.1.2", "10.244.2.2"],
        POD,
        "10.96.0.10:80",
        "10.244.1.2:8080",
    );
    check(local.clone(), &["10.244.2.2"], POD, "10.96.0.10:80", "dropped");
    check(local.clone(), &[], POD, "10.96.0.10:80", "refused");
    check(
        local,
        &["10.244.2.2"],
        CLIENT,
        "192.168.0.1:30080",
        "10.244.2.2:8080 masqueraded",
    );
}

#[test]
fn external_and_load_balancer_addresses_lead_to_endpoints() {
    let far = ["10.244.2.2"];
    check(
        json!({"externalIPs": ["198.51.100.1"]}),
        &far,
        CLIENT,
        "198.51.100.1:80",
        "10.244.2.2:8080 masqueraded",
    );
    let mut balanced =
        service(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]}));
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}});
    let world = World::new(vec![balanced], vec![slice(&far)]);
    assert_eq!(
        world.send(CLIENT, "198.51.100.2:80", Protocol::Tcp),
        "10.244.2.2:8080 masqueraded"
    );
    assert_eq!(
        world.send("198.51.100.200", "198.51.100.2:80", Protocol::Tcp),
        "dropped"
    );
}

#[test]
fn pods_keep_their_address_inside_the_cluster_only() {
    check(json!({}), &[], POD, "10.244.2.7:1", "10.244.2.7:1");
    check(json!({}), &[], POD, "192.168.0.2:1", "192.168.0.2:1");
    check(json!({}), &[], POD, "203.0.113.7:1", "203.0.113.7:1 masqueraded");
    check(json!({}), &[], "10.244.2.7", "10.244.1.9:1", "10.244.1.9:1");
    check(json!({}), &[], CLIENT, "203.0.113.8:1", "not accepted");
}

#[test]
fn another_protocol_is_another_service() {
    let world = World::new(vec![service(json!({}))], vec![slice(&["10.244.1.2"])]);
    assert_eq!(
        world.send(POD, "10.96.0.10:80", Protocol::Udp),
        "10.96.0.10:80 masqueraded"
    );
}

#[test]
fn an_endpoint_reaches_itself_and_its_peers() {
    let world = World::new(
        vec![service(json!({}))],
        vec![slice(&["10.244.1.9", "10.244.1.8", "10.244.2.2"])],
    );
    let answers: BTreeSet<String> = (0..60)
        .map(|_| world.send(POD, "10.96.0.10:80", Protocol::Tcp))
        .collect();
    let expected = [
        "10.244.1.8:8080",
        "10.244.1.9:8080 masqueraded",
        "10.244.2.2:8080",
    ];
    assert_eq!(answers.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn every_endpoint_gets_its_share() {
    for count in 1..=8usize {
        let addresses: Vec<String> = (1..=count).map(|last| format!("10.244.2.{last}")).collect();
        let world = World::new(
            vec![service(json!({}))],
            vec![slice(&addresses.iter().map(String::as_str).collect::<Vec<_>>())],
        );
        let balancer = world
            .rules
            .nat
            .iter()
            .find(|(name, _)| name.starts_with("CORTEN-SVC-"))
            .unwrap()
            .1;
        let (mut left, mut shares) = (1.0, Vec::new());
        for rule in balancer {
            let one_in = rule.matches.iter().find_map(|one| match one {
                Match::OneIn(n) => Some(*n),
                _ => None,
            });
            let chance = one_in.map_or(1.0, |n| 1.0 / n as f64);
            shares.push(left * chance);
            left *= 1.0 - chance;
        }
        assert_eq!(shares.len(), count);
        assert!(
            shares
                .iter()
                .all(|share| (share - 1.0 / count as f64).abs() < 1e-9),
            "{shares:?}"
        );
    }
}

#[test]
fn client_affinity_stays_with_the_first_choice() {
    let affine =
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let addresses = ["10.244.2.1", "10.244.2.2", "10.244.2.3"];
    let world = World::new(vec![service(affine)], vec![slice(&addresses)]);
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..40 {
        let client = format!("10.244.1.{}", 10 + round % 8);
        let answer = world.send(&client, "10.96.0.10:80", Protocol::Tcp);
        assert_eq!(first.entry(client).or_insert_with(|| answer.clone()), &answer);
    }
    assert!(
        first.values().collect::<BTreeSet<_>>().len() > 1,
        "all clients went to one endpoint"
    );
}

#[test]
fn host_ports_lead_to_their_pod_before_node_ports() {
    use crate::ipam::{Attachment, PortMapping};
    let mut world = World::new(vec![service(json!({}))], vec![slice(&["10.244.2.2"])]);
    let attachment = Attachment {
        container_id: "s".into(),
        ifname: "eth0".into(),
        netns: "/n".into(),
        host_interface: "cpod1".into(),
        since: 0,
        port_mappings: vec![PortMapping {
            host_port: 30080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: String::new(),
        }],
    };
    let rules = host_ports::rules([(Ipv4Addr::new(10, 244, 1, 9), &attachment)].into_iter());
    world.rules.nat.insert(host_ports::CHAIN.to_string(), rules);
    assert_eq!(
        world.send(CLIENT, "192.168.0.1:30080", Protocol::Tcp),
        "10.244.1.9:80"
    );
    assert_eq!(
        world.send(POD, "192.168.0.1:30080", Protocol::Tcp),
        "10.244.1.9:80 masqueraded"
    );
    assert_eq!(world.send("127.0.0.1", "127.0.0.1:30080", Protocol::Tcp), "host");
}
