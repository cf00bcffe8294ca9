//! The daemon under a scripted API in a namespace of its own: what it writes, in which order, and how fast it follows.
//! Needs root; without it the test says so and passes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_netd::{Config, iptables, netns};
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

/// How long anything may take before the test fails; it waits for conditions, not for time.
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers lists from `objects` and streams to each watch what `tell` is given.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    /// By plural.
    objects: HashMap<&'static str, Vec<Value>>,
    watches: HashMap<String, mpsc::UnboundedSender<Bytes>>,
    revision: u64,
}

impl Api {
    fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let plural = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_string();
            let is_watch = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch=true"));
            let (sender, receiver) = mpsc::unbounded_channel();
            let mut script = api.0.lock().unwrap();
            if is_watch {
                script.watches.insert(plural, sender);
            } else {
                let items = script.objects.get(plural.as_str()).cloned().unwrap_or_default();
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
                sender.send(Bytes::from(list.to_string())).unwrap();
            }
            let body =
                UnboundedReceiverStream::new(receiver).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            std::future::ready(Ok::<_, Infallible>(Response::new(StreamBody::new(body))))
        });
        kube::Client::new(service, "default")
    }

    fn has(&self, plural: &'static str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!("1");
        self.0
            .lock()
            .unwrap()
            .objects
            .entry(plural)
            .or_default()
            .push(object);
    }

    fn tell(&self, kind: &str, plural: &str, mut object: Value) {
        let mut script = self.0.lock().unwrap();
        script.revision += 1;
        object["metadata"]["resourceVersion"] = json!((100 + script.revision).to_string());
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        script.watches[plural].send(Bytes::from(line)).unwrap();
    }

    fn watched(&self) -> usize {
        self.0.lock().unwrap().watches.len()
    }
}

/// A daemon on a host of its own, run by a thread that lives in the host's namespace.
struct Daemon {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    fn start(api: &Api, namespace: &Path, data_dir: &Path) -> Daemon {
        let stop = CancellationToken::new();
        let (api, shutdown) = (api.clone(), stop.clone());
        let (namespace, data_dir) = (File::open(namespace).unwrap(), data_dir.to_path_buf());
        let thread = std::thread::spawn(move || {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let plugin = PathBuf::from("/bin/true");
                    let config = Config {
                        client: api.client(),
                        node_name: "a".into(),
                        data_dir,
                        plugin,
                    };
                    corten_netd::run(config, shutdown).await.unwrap();
                });
            };
            netns::within(namespace, work).unwrap();
        });
        Daemon {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

/// Goes also when the test fails.
struct Namespace(PathBuf);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::remove(&self.0);
    }
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    started.elapsed()
}

fn node(name: &str, pod_cidr: Option<&str>, address: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"podCIDR": pod_cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    json!({"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]})
}

#[test]
fn the_daemon_follows_the_api_and_leaves_traffic_alone_when_it_stops() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let namespace = folder.path().join("netns");
    netns::create(&namespace).unwrap();
    let _removed = Namespace(namespace.clone());
    let data = folder.path().join("data");
    let inside = |program: &str, arguments: &[&str]| {
        let run = || {
            std::process::Command::new(program)
                .args(arguments)
                .output()
                .unwrap()
        };
        let output = std::thread::scope(|scope| {
            scope
                .spawn(|| netns::within(File::open(&namespace).unwrap(), run).unwrap())
                .join()
                .unwrap()
        });
        String::from_utf8(output.stdout).unwrap()
    };
    for line in [
        "link set lo up",
        "link add eth0 mtu 1400 type veth peer name peer0",
        "address add 192.168.0.1/24 dev eth0",
        "link set eth0 up",
        "link set peer0 up",
    ] {
        inside("ip", &line.split(' ').collect::<Vec<_>>());
    }
    let rules = || inside("iptables-save", &["-t", "nat"]);
    let routes = || inside("ip", &["route", "show", "proto", "67"]);
    let conflist = data.join("cni/conf/10-corten.conflist");

    let api = Api::default();
    api.has("nodes", node("a", None, "192.168.0.1"));
    api.has("services", json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}}));
    api.has("endpointslices", slice(&["10.244.1.1"]));
    let daemon = Daemon::start(&api, &namespace, &data);
    eventually("rules of the first list", || rules().contains("10.244.1.1:8080"));
    eventually("all kinds are watched", || api.watched() == 3);
    assert!(!conflist.exists(), "no address range yet, so no network yet");

    // The range comes: routes, files, and only then the network is ready.
    api.tell(
        "MODIFIED",
        "nodes",
        node("a", Some("10.244.1.0/24"), "192.168.0.1"),
    );
    eventually("the network is ready", || conflist.exists());
    assert_eq!(routes().trim(), "unreachable 10.244.1.0/24");
    let written: Value =
        serde_json::from_slice(&std::fs::read(data.join("netd/node.json")).unwrap()).unwrap();
    assert_eq!(
        written,
        json!({"podCIDR": "10.244.1.0/24", "nodeIP": "192.168.0.1", "mtu": 1400})
    );
    for name in ["corten", "loopback"] {
        assert_eq!(
            std::fs::read_link(data.join("cni/bin").join(name)).unwrap(),
            Path::new("/bin/true")
        );
    }

    // Endpoints and nodes come and go; each shows at once.
    api.tell("MODIFIED", "endpointslices", slice(&["10.244.1.2", "10.244.2.1"]));
    let took = eventually("new endpoints", || rules().contains("10.244.2.1:8080"));
    eprintln!("endpoints in the rules {took:?} after the event, iptables-save included");
    assert!(!rules().contains("10.244.1.1:8080"));
    api.tell("ADDED", "nodes", node("b", Some("10.244.2.0/24"), "192.168.0.2"));
    eventually("a route to the new node", || {
        routes().contains("10.244.2.0/24 via 192.168.0.2")
    });

    // Someone flushes the link: the routes come back without anyone asking.
    inside("ip", &["route", "flush", "proto", "67"]);
    eventually("routes come back", || {
        routes().contains("10.244.2.0/24 via 192.168.0.2")
    });
    api.tell(
        "DELETED",
        "nodes",
        node("b", Some("10.244.2.0/24"), "192.168.0.2"),
    );
    eventually("the route goes with its node", || {
        !routes().contains("10.244.2.0/24")
    });
    // Our own Node object is gone: the Pods that are there keep their network.
    api.tell(
        "DELETED",
        "nodes",
        node("a", Some("10.244.1.0/24"), "192.168.0.1"),
    );
    api.tell("MODIFIED", "endpointslices", slice(&["10.244.1.3"]));
    eventually("the daemon went on", || rules().contains("10.244.1.3:8080"));
    assert!(rules().contains("-s 10.244.1.0/24") && routes().contains("10.244.1.0/24"));

    // A stop changes nothing; the next start finds its own rules and removes what is stale by then.
    let sorted = |text: String| {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("-A"))
            .map(str::to_string)
            .collect();
        lines.sort();
        lines
    };
    let before = sorted(rules());
    drop(daemon);
    assert_eq!(sorted(rules()), before);
    let api = Api::default();
    api.has("nodes", node("a", Some("10.244.1.0/24"), "192.168.0.1"));
    let daemon = Daemon::start(&api, &namespace, &data);
    eventually("stale chains are gone", || !rules().contains("10.244.1.3:8080"));
    assert_eq!(rules().matches("-A PREROUTING -j CORTEN-SERVICES").count(), 1);
    drop(daemon);

    let clean = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(corten_netd::cleanup()).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| netns::within(File::open(&namespace).unwrap(), clean).unwrap());
    });
    assert!(!rules().contains("CORTEN") && routes().is_empty());
    assert_eq!(iptables::Present::parse(&rules()), iptables::Present::default());
}
