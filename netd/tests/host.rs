//! The plug-in, routes and rules on real hosts made of network namespaces. Needs root; without it each test says so and
//! passes. Leaves nothing: every namespace has a name of its own and is removed when its owner is dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corten_netd::cni::{self, spec::Request};
use corten_netd::conntrack;
use corten_netd::ipam::LedgerFile;
use corten_netd::iptables;
use corten_netd::netlink::{Hop, Netlink, Route, Veth};
use corten_netd::netns;
use corten_netd::node::{LocalNode, NodeFacts};
use corten_netd::routes;
use corten_netd::service::compile::{Input, compile};
use corten_netd::service::host_ports;
use corten_netd::service::model::service_ports;
use corten_netd::service::rule::Ruleset;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// Long enough for a handshake on a busy machine, short enough for a test.
const WAIT: Duration = Duration::from_secs(3);

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A namespace that is removed with its owner.
struct Namespace(PathBuf);

impl Namespace {
    fn new() -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!("corten-netd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        netns::create(&path).unwrap();
        Namespace(path)
    }

    fn file(&self) -> File {
        File::open(&self.0).unwrap()
    }

    /// Runs `work` on a thread of its own inside the namespace.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| netns::within(self.file(), work).unwrap())
                .join()
                .unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::remove(&self.0);
        // The last one to go takes the folder along.
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

/// A node: its namespace, its files, its address.
struct Node {
    namespace: Namespace,
    data: tempfile::TempDir,
    facts: NodeFacts,
}

/// A network of nodes `a` (192.168.0.1, Pods 10.244.1.0/24), `b` and so on, and a client at 192.168.0.100 beside them.
struct Net {
    nodes: Vec<Node>,
    client: Namespace,
    _switch: Namespace,
}

impl Net {
    fn new(count: u8) -> Net {
        let switch = Namespace::new();
        let nodes: Vec<Node> = (1..=count)
            .map(|number| Node {
                namespace: Namespace::new(),
                data: tempfile::tempdir().unwrap(),
                facts: NodeFacts {
                    name: char::from(b'a' + number - 1).to_string(),
                    internal_ip: Some(Ipv4Addr::new(192, 168, 0, number)),
                    pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
                },
            })
            .collect();
        let client = Namespace::new();
        switch
            .run(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"))
            .ok();
        runtime().block_on(async {
            let wires = Netlink::open_in(switch.file()).unwrap();
            wires.add_bridge("br0").await.unwrap();
            let bridge = wires.need_link("br0").await.unwrap().index;
            let ends = nodes
                .iter()
                .map(|node| (&node.namespace, node.facts.internal_ip.unwrap()));
            for (namespace, address) in ends.chain([(&client, Ipv4Addr::new(192, 168, 0, 100))]) {
                let port = format!("p{}", address.octets()[3]);
                let veth = Veth {
                    name: &port,
                    mac: None,
                    peer_name: "eth0",
                    peer_mac: None,
                    peer_namespace: Some(namespace.file()),
                    mtu: None,
                };
                wires.add_veth(veth).await.unwrap();
                let index = wires.need_link(&port).await.unwrap().index;
                wires.set_controller(index, bridge).await.unwrap();
                wires.set_up(index, true).await.unwrap();
                let inside = Netlink::open_in(namespace.file()).unwrap();
                for name in ["lo", "eth0"] {
                    let index = inside.need_link(name).await.unwrap().index;
                    if name == "eth0" {
                        inside
                            .add_address(index, Ipv4Net::new(address, 24).unwrap())
                            .await
                            .unwrap();
                    }
                    inside.set_up(index, true).await.unwrap();
                }
                let hop = Hop::Via {
                    gateway: Ipv4Addr::new(192, 168, 0, 100),
                    interface: None,
                };
                let default = Route {
                    destination: Ipv4Net::default(),
                    hop,
                    protocol: 4,
                };
                if address.octets()[3] != 100 {
                    inside.add_route(&default).await.unwrap();
                }
            }
        });
        let net = Net {
            nodes,
            client,
            _switch: switch,
        };
        let facts: Vec<NodeFacts> = net.nodes.iter().map(|node| node.facts.clone()).collect();
        for node in &net.nodes {
            node.namespace
                .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
                .unwrap();
            let local = LocalNode {
                pod_cidr: node.facts.pod_cidrs[0],
                node_ip: node.facts.internal_ip,
                mtu: 1500,
            };
            local.write(node.data.path()).unwrap();
            runtime().block_on(async {
                let netlink = Netlink::open_in(node.namespace.file()).unwrap();
                let plan = routes::plan(&facts, &node.facts.name, &netlink.routes().await.unwrap());
                routes::apply(&netlink, &plan).await.unwrap();
                let again = routes::plan(&facts, &node.facts.name, &netlink.routes().await.unwrap());
                assert_eq!(again, [], "a second plan has nothing to do");
            });
        }
        net
    }

    /// Compiles and applies the rules of every node, from nothing.
    fn serve(&self, services: &[Value], slices: &[Value]) -> Vec<Ruleset> {
        let facts: Vec<NodeFacts> = self.nodes.iter().map(|node| node.facts.clone()).collect();
        let services: Vec<Service> = services
            .iter()
            .map(|one| serde_json::from_value(one.clone()).unwrap())
            .collect();
        let slices: Vec<EndpointSlice> = slices
            .iter()
            .map(|one| serde_json::from_value(one.clone()).unwrap())
            .collect();
        self.nodes
            .iter()
            .map(|node| {
                let ports = service_ports(&services, &slices, &node.facts.name);
                let rules = compile(&Input {
                    ports: &ports,
                    nodes: &facts,
                    node_name: &node.facts.name,
                });
                let mut all = rules.clone();
                let ledger = LedgerFile::open(node.data.path()).unwrap();
                all.nat.insert(
                    host_ports::CHAIN.into(),
                    host_ports::rules(ledger.ledger.attachments()),
                );
                node.namespace.run(|| {
                    runtime().block_on(async {
                        let present = iptables::present().await.unwrap();
                        iptables::restore(&iptables::full_text(&present, &all))
                            .await
                            .unwrap();
                    });
                });
                rules
            })
            .collect()
    }
}

impl Node {
    fn request(&self, command: &str, id: &str, sandbox: Option<&Path>, ports: &Value) -> Request {
        let conf = json!({"cniVersion": "1.0.0", "name": "corten", "type": "corten", "dataDir": self.data.path(),
            "runtimeConfig": {"portMappings": ports}});
        let lookup = |name: &str| match name {
            "CNI_COMMAND" => Some(command.to_string()),
            "CNI_CONTAINERID" => Some(id.to_string()),
            "CNI_IFNAME" => Some("eth0".to_string()),
            "CNI_NETNS" => sandbox.map(|path| path.display().to_string()),
            _ => None,
        };
        Request::parse(lookup, conf.to_string().as_bytes()).unwrap()
    }

    fn perform(&self, request: &Request) -> Result<Option<Value>, cni::spec::CniError> {
        self.namespace.run(|| cni::perform(request))
    }

    fn attach(&self, id: &str) -> Pod {
        self.attach_with(id, &json!([]))
    }

    fn attach_with(&self, id: &str, ports: &Value) -> Pod {
        let sandbox = Namespace::new();
        let result = self
            .perform(&self.request("ADD", id, Some(&sandbox.0), ports))
            .unwrap()
            .unwrap();
        let address = result["ips"][0]["address"]
            .as_str()
            .unwrap()
            .parse::<Ipv4Net>()
            .unwrap()
            .addr();
        let link = result["interfaces"][0]["name"].as_str().unwrap().to_string();
        Pod {
            id: id.to_string(),
            sandbox,
            address,
            link,
        }
    }
}

struct Pod {
    id: String,
    sandbox: Namespace,
    address: Ipv4Addr,
    link: String,
}

impl Pod {
    /// Answers each connection with the address it saw, until the process ends.
    fn listen(&self, port: u16) {
        let (sender, ready) = std::sync::mpsc::channel();
        let namespace = self.sandbox.file();
        std::thread::spawn(move || {
            let listener =
                netns::within(namespace, || TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
            sender.send(()).unwrap();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let seen = stream.peer_addr().unwrap().ip();
                let own = stream.local_addr().unwrap();
                let _ = write!(stream, "{own} saw {seen}");
            }
        });
        ready.recv().unwrap();
    }
}

/// Who answers at `to`, seen from inside `namespace`; an error by its kind.
fn ask(namespace: &Namespace, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    namespace.run(|| {
        let mut stream = match TcpStream::connect_timeout(&to, WAIT) {
            Ok(stream) => stream,
            Err(error) => return format!("{:?}", error.kind()),
        };
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "clusterIP": "10.96.0.10", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

fn slice(endpoints: &[(&Node, &Pod)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(node, pod)| json!({"addresses": [pod.address], "nodeName": node.facts.name, "conditions": {"ready": true}}))
        .collect();
    json!({"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
           "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080, "protocol": "TCP"}]})
}

#[test]
fn pods_reach_each_other_with_their_own_addresses() {
    if !is_root() {
        return;
    }
    let net = Net::new(2);
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    net.serve(&[], &[]);
    let (one, two, far) = (a.attach("one"), a.attach("two"), b.attach("far"));
    assert_eq!(
        [one.address, two.address, far.address].map(|ip| ip.to_string()),
        ["10.244.1.1", "10.244.1.2", "10.244.2.1"]
    );
    two.listen(8080);
    far.listen(8080);
    assert_eq!(
        ask(&one.sandbox, "10.244.1.2:8080"),
        "10.244.1.2:8080 saw 10.244.1.1"
    );
    assert_eq!(
        ask(&one.sandbox, "10.244.2.1:8080"),
        "10.244.2.1:8080 saw 10.244.1.1"
    );
    assert_eq!(
        ask(&a.namespace, "10.244.1.2:8080"),
        "10.244.1.2:8080 saw 192.168.0.1"
    );
    assert_eq!(
        ask(&a.namespace, "10.244.2.1:8080"),
        "10.244.2.1:8080 saw 192.168.0.1"
    );
    // An address no Pod has is an answer at once, not a loop.
    assert_eq!(ask(&one.sandbox, "10.244.2.77:8080"), "HostUnreachable");
    // Outside the cluster a Pod appears as its node.
    let outside = Pod {
        id: String::new(),
        address: Ipv4Addr::new(192, 168, 0, 100),
        link: String::new(),
        sandbox: Namespace(net.client.0.clone()),
    };
    outside.listen(8080);
    assert_eq!(
        ask(&one.sandbox, "192.168.0.100:8080"),
        "192.168.0.100:8080 saw 192.168.0.1"
    );
    std::mem::forget(outside);
}

#[test]
fn services_answer_on_every_address_they_have() {
    if !is_root() {
        return;
    }
    let net = Net::new(2);
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let (near, far) = (a.attach("near"), b.attach("far"));
    near.listen(8080);
    far.listen(8080);

    net.serve(&[service(json!({}))], &[slice(&[(b, &far)])]);
    let from_far = |seen: &str| format!("10.244.2.1:8080 saw {seen}");
    assert_eq!(ask(&near.sandbox, "10.96.0.10:80"), from_far("10.244.1.1"));
    assert_eq!(ask(&a.namespace, "10.96.0.10:80"), from_far("192.168.0.1"));
    assert_eq!(ask(&net.client, "192.168.0.1:30080"), from_far("192.168.0.1"));
    assert_eq!(ask(&a.namespace, "192.168.0.1:30080"), from_far("192.168.0.1"));
    assert_eq!(ask(&near.sandbox, "192.168.0.2:30080"), from_far("192.168.0.2"));
    assert_eq!(ask(&a.namespace, "127.0.0.1:30080"), "ConnectionRefused");
    // Hairpin: a Pod that reaches itself sees its node.
    assert_eq!(ask(&far.sandbox, "10.96.0.10:80"), from_far("192.168.0.2"));

    // Both endpoints get their share.
    let rules = net.serve(&[service(json!({}))], &[slice(&[(a, &near), (b, &far)])]);
    let answers: Vec<String> = (0..24).map(|_| ask(&a.namespace, "10.96.0.10:80")).collect();
    assert!(
        ["10.244.1.1", "10.244.2.1"]
            .iter()
            .all(|ip| answers.iter().any(|answer| answer.starts_with(ip)))
    );

    // Local keeps the client's address, and a node without an endpoint stays silent.
    let local = service(json!({"type": "NodePort", "externalTrafficPolicy": "Local"}));
    net.serve(&[local], &[slice(&[(b, &far)])]);
    assert_eq!(ask(&net.client, "192.168.0.2:30080"), from_far("192.168.0.100"));
    assert_eq!(ask(&near.sandbox, "192.168.0.1:30080"), from_far("10.244.1.1"));

    // No endpoints: refused at once, for everyone.
    let empty = net.serve(&[service(json!({}))], &[]);
    for (from, to) in [
        (&near.sandbox, "10.96.0.10:80"),
        (&a.namespace, "10.96.0.10:80"),
        (&net.client, "192.168.0.1:30080"),
    ] {
        assert_eq!(ask(from, to), "ConnectionRefused", "{to}");
    }

    // A delta from there brings the endpoints back.
    let text = iptables::delta_text(&empty[0], &rules[0]).unwrap();
    a.namespace
        .run(|| runtime().block_on(iptables::restore(&text)).unwrap());
    assert!(ask(&near.sandbox, "10.96.0.10:80").contains(" saw "));
    assert_eq!(iptables::delta_text(&rules[0], &rules[0]), None);
}

#[test]
fn a_client_stays_with_its_endpoint_where_affinity_is_asked_for() {
    if !is_root() {
        return;
    }
    let net = Net::new(2);
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let (near, far, client) = (a.attach("near"), b.attach("far"), a.attach("client"));
    near.listen(8080);
    far.listen(8080);
    let affine = service(
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
    );
    net.serve(&[affine], &[slice(&[(a, &near), (b, &far)])]);
    let first = ask(&client.sandbox, "10.96.0.10:80");
    assert!((0..12).all(|_| ask(&client.sandbox, "10.96.0.10:80") == first));
}

#[test]
fn udp_flows_move_when_their_endpoint_leaves() {
    if !is_root() {
        return;
    }
    let net = Net::new(2);
    let (a, b) = (&net.nodes[0], &net.nodes[1]);
    let (near, far, client) = (a.attach("near"), b.attach("far"), a.attach("client"));
    let dns = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "clusterIP": "10.96.0.53", "ports": [{"port": 53, "protocol": "UDP"}]}});
    let on = |endpoints: &[(&Node, &Pod)]| {
        let mut slice = slice(endpoints);
        slice["ports"] = json!([{"port": 5353, "protocol": "UDP"}]);
        slice
    };
    let bind = |pod: &Pod, port: u16| {
        let socket = pod.sandbox.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
    };
    let (first, second, socket) = (bind(&far, 5353), bind(&near, 5353), bind(&client, 0));
    let mut buffer = [0; 16];
    let mut ask = |server: &UdpSocket| {
        socket.send_to(b"question", "10.96.0.53:53").unwrap();
        let (_, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(peer.ip().to_string(), client.address.to_string());
        server.send_to(b"answer", peer).unwrap();
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.to_string()),
            (&b"answer"[..], "10.96.0.53:53".to_string())
        );
    };
    let ports = |slice: &Value| {
        let service: Service = serde_json::from_value(dns.clone()).unwrap();
        service_ports(
            [&service],
            [&serde_json::from_value::<EndpointSlice>(slice.clone()).unwrap()],
            "a",
        )
    };
    let (before, after) = (on(&[(b, &far)]), on(&[(a, &near)]));
    net.serve(std::slice::from_ref(&dns), std::slice::from_ref(&before));
    ask(&first);
    net.serve(std::slice::from_ref(&dns), std::slice::from_ref(&after));
    let flushes = conntrack::stale(&ports(&before), &ports(&after));
    assert_eq!(flushes.len(), 1);
    a.namespace.run(|| runtime().block_on(conntrack::flush(&flushes)));
    ask(&second);
}

/// Figures, not a promise: `cargo test -p corten-netd --release --test host -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "takes seconds and prints figures"]
fn ten_thousand_services_of_three_endpoints() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let count = 10_000u32;
    let ip = |base: u32, number: u32| Ipv4Addr::from(base + number);
    let services: Vec<Service> = (0..count)
        .map(|number| {
            let mut service =
                service(json!({"clusterIP": ip(0x0a60_0100, number).to_string(), "ports": [{"port": 80}]}));
            service["metadata"]["name"] = json!(format!("web-{number}"));
            serde_json::from_value(service).unwrap()
        })
        .collect();
    let mut slices: Vec<EndpointSlice> = (0..count)
        .map(|number| {
            let endpoints: Vec<_> = (0..3)
                .map(|one| json!({"addresses": [ip(0x0af4_0000, number * 3 + one)], "nodeName": "b"}))
                .collect();
            let mut slice = slice(&[]);
            slice["endpoints"] = json!(endpoints);
            slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!(format!("web-{number}"));
            serde_json::from_value(slice).unwrap()
        })
        .collect();
    let node = &net.nodes[0];
    let facts = [node.facts.clone()];
    let timed = |what: &str, started: std::time::Instant| eprintln!("{what}: {:?}", started.elapsed());
    let rules = |slices: &[EndpointSlice]| {
        let started = std::time::Instant::now();
        let ports = service_ports(&services, slices, "a");
        let rules = compile(&Input {
            ports: &ports,
            nodes: &facts,
            node_name: "a",
        });
        timed("compile", started);
        rules
    };
    let mut first = rules(&slices);
    first.nat.insert(host_ports::CHAIN.into(), Vec::new());
    slices[5_000].endpoints.as_mut().unwrap().pop();
    let mut second = rules(&slices);
    second.nat.insert(host_ports::CHAIN.into(), Vec::new());
    node.namespace.run(|| {
        runtime().block_on(async {
            let present = iptables::present().await.unwrap();
            let text = iptables::full_text(&present, &first);
            let started = std::time::Instant::now();
            iptables::restore(&text).await.unwrap();
            timed("full load", started);
            let started = std::time::Instant::now();
            let text = iptables::delta_text(&first, &second).unwrap();
            timed("difference", started);
            let started = std::time::Instant::now();
            iptables::restore(&text).await.unwrap();
            timed("one change", started);
        });
    });
}

#[test]
fn host_ports_come_and_go_with_their_pod() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let node = &net.nodes[0];
    net.serve(&[], &[]);
    let ports = json!([{"hostPort": 8081, "containerPort": 8080, "protocol": "TCP"}, {"hostPort": 0, "containerPort": 9}]);
    let pod = node.attach_with("ported", &ports);
    pod.listen(8080);
    assert_eq!(
        ask(&net.client, "192.168.0.1:8081"),
        "10.244.1.1:8080 saw 192.168.0.100"
    );
    assert_eq!(
        ask(&pod.sandbox, "192.168.0.1:8081"),
        "10.244.1.1:8080 saw 192.168.0.1"
    );
    let other = Namespace::new();
    let refused = node
        .perform(&node.request("ADD", "second", Some(&other.0), &ports))
        .unwrap_err();
    assert_eq!(
        refused.details,
        "host port 8081/tcp is already taken by sandbox ported"
    );
    node.perform(&node.request("DEL", &pod.id, Some(&pod.sandbox.0), &ports))
        .unwrap();
    assert_eq!(ask(&net.client, "192.168.0.1:8081"), "ConnectionRefused");
}

#[test]
fn the_plug_in_keeps_its_promises() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let node = &net.nodes[0];
    let none = json!([]);
    let pod = node.attach("one");
    let (add, check, del) = (
        node.request("ADD", "one", Some(&pod.sandbox.0), &none),
        node.request("CHECK", "one", Some(&pod.sandbox.0), &none),
        node.request("DEL", "one", Some(&pod.sandbox.0), &none),
    );
    node.perform(&check).unwrap();

    // A Pod cannot send from an address that is not its own: the packet is dropped, no answer ever comes.
    let listener = node.attach("listener");
    listener.listen(8080);
    runtime().block_on(async {
        let inside = Netlink::open_in(pod.sandbox.file()).unwrap();
        let index = inside.need_link("eth0").await.unwrap().index;
        inside
            .add_address(index, "10.244.1.200/32".parse().unwrap())
            .await
            .unwrap();
    });
    let stolen = pod.sandbox.run(|| {
        let socket = UdpSocket::bind("10.244.1.200:0").unwrap();
        socket
            .send_to(b"x", SocketAddrV4::new(listener.address, 9999))
            .unwrap();
        socket
    });
    let target = listener.sandbox.run(|| UdpSocket::bind("0.0.0.0:9999").unwrap());
    target.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    pod.sandbox.run(|| {
        stolen
            .send_to(b"x", SocketAddrV4::new(listener.address, 9999))
            .unwrap()
    });
    assert!(target.recv_from(&mut [0; 4]).is_err(), "a spoofed packet arrived");

    // Added again without having been detached: a new link and address, nothing left of the old.
    runtime().block_on(async {
        let host = Netlink::open_in(node.namespace.file()).unwrap();
        let inside = Netlink::open_in(pod.sandbox.file()).unwrap();
        let again = node.perform(&add);
        // eth0 is there already only if the old link was not removed first.
        let again = again.unwrap().unwrap();
        assert_ne!(again["ips"][0]["address"], json!(format!("{}/32", pod.address)));
        assert!(host.link(&pod.link).await.unwrap().is_none());
        assert!(inside.link("eth0").await.unwrap().is_some());
    });

    node.perform(&del).unwrap();
    node.perform(&del).unwrap();
    assert_eq!(
        node.perform(&check).unwrap_err().code,
        cni::spec::code::UNKNOWN_CONTAINER
    );
    node.perform(&node.request("DEL", "never", None, &none)).unwrap();
    let gone = node.request("ADD", "two", Some(Path::new("/nonexistent")), &none);
    assert_eq!(
        node.perform(&gone).unwrap_err().code,
        cni::spec::code::UNKNOWN_CONTAINER
    );

    // After the last DEL: no link, no route, no neighbour of a Pod.
    node.perform(&node.request("DEL", "listener", Some(&listener.sandbox.0), &none))
        .unwrap();
    runtime().block_on(async {
        let host = Netlink::open_in(node.namespace.file()).unwrap();
        assert!(
            host.links()
                .await
                .unwrap()
                .iter()
                .all(|link| !link.name.starts_with("cpod"))
        );
        let pods = host.routes().await.unwrap();
        assert!(
            pods.iter()
                .all(|route| route.protocol != routes::POD_ROUTE_PROTOCOL),
            "{pods:?}"
        );
    });
}

#[test]
fn a_full_pool_is_a_clear_error_and_dead_sandboxes_make_room() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let node = &net.nodes[0];
    let small = LocalNode {
        pod_cidr: "10.244.9.0/30".parse().unwrap(),
        node_ip: None,
        mtu: 1400,
    };
    small.write(node.data.path()).unwrap();
    let _one = node.attach("one");
    let two = node.attach("two");
    let third = Namespace::new();
    let add = node.request("ADD", "three", Some(&third.0), &json!([]));
    let error = node.perform(&add).unwrap_err();
    assert_eq!(error.code, cni::spec::code::EXHAUSTED);
    assert_eq!(
        error.details,
        "no free address left in 10.244.9.0/30: all 2 are in use"
    );
    // The sandbox dies without DEL; once it is old enough not to be under construction its address is given back.
    drop(two);
    let mut file = LedgerFile::open(node.data.path()).unwrap();
    let mut value = serde_json::to_value(&file.ledger).unwrap();
    for attachment in value["attachments"].as_object_mut().unwrap().values_mut() {
        attachment["since"] = json!(0);
    }
    file.ledger = serde_json::from_value(value).unwrap();
    file.save().unwrap();
    drop(file);
    let result = node.perform(&add).unwrap().unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.9.2/32");
}

#[test]
fn thirty_pods_at_once_get_thirty_addresses() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let node = &net.nodes[0];
    let started = std::time::Instant::now();
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..30)
            .map(|number| scope.spawn(move || node.attach(&format!("pod{number}"))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut addresses: Vec<Ipv4Addr> = pods.iter().map(|pod| pod.address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 30);
    eprintln!("30 attachments in {:?}", started.elapsed());
}

#[test]
fn rules_of_others_are_never_touched() {
    if !is_root() {
        return;
    }
    let net = Net::new(1);
    let node = &net.nodes[0];
    let foreign = "*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\n-A DOCKER -p tcp -j RETURN\nCOMMIT\n\
        *filter\n:FORWARD DROP [0:0]\n:MINE - [0:0]\n-A FORWARD -j MINE\nCOMMIT\n";
    let save = || {
        let text = std::process::Command::new("iptables-save")
            .output()
            .unwrap()
            .stdout;
        let text = String::from_utf8(text).unwrap();
        text.lines()
            .filter(|line| !line.starts_with(['#', ':']))
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    let before = node.namespace.run(|| {
        runtime().block_on(iptables::restore(foreign)).unwrap();
        save()
    });
    let (one, two) = (node.attach("one"), node.attach("two"));
    two.listen(8080);
    for _ in 0..2 {
        net.serve(&[service(json!({}))], &[slice(&[(node, &two)])]);
    }
    // The host's own policy is DROP: Pods still pass.
    assert_eq!(
        ask(&one.sandbox, "10.96.0.10:80"),
        "10.244.1.2:8080 saw 10.244.1.1"
    );
    let hooks = node
        .namespace
        .run(save)
        .iter()
        .filter(|line| line.ends_with("-j CORTEN-SERVICES"))
        .count();
    assert_eq!(hooks, 2, "one hook in PREROUTING, one in OUTPUT");
    node.namespace.run(|| {
        runtime().block_on(corten_netd::cleanup()).unwrap();
        runtime().block_on(corten_netd::cleanup()).unwrap();
    });
    assert_eq!(node.namespace.run(save), before);
}
