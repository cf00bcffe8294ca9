//! Random clusters against a naive evaluator: what the core binds fits, what it refuses fits nowhere, and the chosen
//! node has the highest score when every plug-in is asked afresh, without the memory of verdicts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use corten_scheduler::cache::Cache;
use corten_scheduler::core::{Core, Decision, Event};
use corten_scheduler::node::Offer;
use corten_scheduler::plugins::{
    image_locality, node_affinity, node_ports, node_resources, node_unschedulable, taint_toleration, weight,
};
use corten_scheduler::pod::PodInfo;
use corten_scheduler::requirements::Requirements;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SEEDS: u64 = 30;
const STEPS: usize = 120;
const ZONES: [&str; 3] = ["a", "b", "c"];
const APPS: [&str; 3] = ["web", "db", "job"];

fn node(rng: &mut StdRng, name: usize, revision: usize) -> Value {
    let taint = match rng.random_range(0..6) {
        0 => json!([{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]),
        1 => json!([{"key": "slow", "effect": "PreferNoSchedule"}]),
        _ => json!([]),
    };
    let mut labels = BTreeMap::from([("kubernetes.io/hostname", format!("n{name}"))]);
    if rng.random_bool(0.8) {
        labels.insert("zone", (*ZONES.choose(rng).expect("zones")).to_owned());
    }
    let images = if rng.random_bool(0.5) {
        json!([{"names": ["web:1"], "sizeBytes": 300_000_000}])
    } else {
        json!([])
    };
    json!({
        "metadata": {"name": format!("n{name}"), "uid": format!("node-{name}-{revision}"), "labels": labels},
        "spec": {"taints": taint, "unschedulable": rng.random_bool(0.1)},
        "status": {
            "allocatable": {
                "cpu": format!("{}", rng.random_range(0..5)),
                "memory": format!("{}Gi", rng.random_range(1..5)),
                "pods": format!("{}", rng.random_range(1..6)),
                "example.com/gpu": format!("{}", rng.random_range(0..2)),
            },
            "images": images,
        },
    })
}

fn pod(rng: &mut StdRng, number: usize) -> Value {
    let app = *APPS.choose(rng).expect("apps");
    let mut requests = json!({});
    if rng.random_bool(0.7) {
        requests["cpu"] = json!(format!("{}m", rng.random_range(0..20) * 100));
    }
    if rng.random_bool(0.7) {
        requests["memory"] = json!(format!("{}Mi", rng.random_range(0..20) * 100));
    }
    if rng.random_bool(0.1) {
        requests["example.com/gpu"] = json!("1");
    }
    let ports = if rng.random_bool(0.2) {
        json!([{"containerPort": 80, "hostPort": 80}])
    } else {
        json!([])
    };
    let mut spec = json!({
        "containers": [{"name": "c", "image": "web:1", "resources": {"requests": requests}, "ports": ports}],
        "priority": rng.random_range(0..3),
    });
    if rng.random_bool(0.2) {
        spec["nodeSelector"] = json!({"zone": ZONES.choose(rng)});
    }
    if rng.random_bool(0.3) {
        spec["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
    }
    let selector = json!({"matchLabels": {"app": app}});
    let key = *["zone", "kubernetes.io/hostname"].choose(rng).expect("keys");
    let term = json!([{"labelSelector": selector, "topologyKey": key}]);
    match rng.random_range(0..8) {
        0 => {
            let anti = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
            spec["affinity"] = json!({"podAntiAffinity": anti});
        }
        1 => {
            let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
            spec["affinity"] = json!({"podAffinity": affinity});
        }
        2 => {
            spec["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
            }]);
        }
        3 => {
            let preference =
                json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
            let preferred = json!([{"weight": 50, "preference": preference}]);
            spec["affinity"] =
                json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
        }
        _ => {}
    }
    let metadata = json!({"namespace": "default", "name": format!("p{number}"), "uid": format!("pod-{number}"), "labels": {"app": app}});
    json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})
}

/// The cluster as JSON, judged the slow and obvious way.
#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Value>,
    /// Assigned Pods by uid, with their node.
    placed: BTreeMap<String, (String, Value)>,
    /// Every Pod there ever was, decoded.
    typed: HashMap<String, Arc<Pod>>,
}

fn number(value: &Value, scale: &[(&str, i64)]) -> i64 {
    let text = value.as_str().unwrap_or("0");
    for (suffix, factor) in scale {
        if let Some(digits) = text.strip_suffix(suffix) {
            return digits.parse::<i64>().expect("digits") * factor;
        }
    }
    text.parse().expect("digits")
}

fn cpu(list: &Value) -> i64 {
    let text = list["cpu"].as_str().unwrap_or("0");
    if text.ends_with('m') {
        number(&list["cpu"], &[("m", 1)])
    } else {
        number(&list["cpu"], &[]) * 1000
    }
}

fn memory(list: &Value) -> i64 {
    number(&list["memory"], &[("Gi", 1 << 30), ("Mi", 1 << 20)])
}

fn gpu(list: &Value) -> i64 {
    number(&list["example.com/gpu"], &[])
}

fn requests(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["resources"]["requests"]
}

fn term<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["spec"]["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"].get(0)
}

fn selects(selector: &Value, pod: &Value) -> bool {
    selector["matchLabels"]["app"] == pod["metadata"]["labels"]["app"]
}

impl World {
    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        self.placed
            .values()
            .filter(move |(on, _)| on == node)
            .map(|(_, pod)| pod)
    }

    fn label(&self, node: &str, key: &str) -> Option<&str> {
        self.nodes.get(node)?["metadata"]["labels"][key].as_str()
    }

    fn tolerates(pod: &Value, taints: &Value) -> bool {
        let tolerant = pod["spec"]["tolerations"].is_array();
        taints
            .as_array()
            .expect("taints")
            .iter()
            .all(|t| t["effect"] == "PreferNoSchedule" || tolerant)
    }

    fn fits(&self, name: &str, pod: &Value) -> bool {
        let node = &self.nodes[name];
        let room = &node["status"]["allocatable"];
        let within = |of: fn(&Value) -> i64| {
            let used: i64 = self.on(name).map(|pod| of(requests(pod))).sum();
            of(requests(pod)) == 0 || used + of(requests(pod)) <= of(room)
        };
        let has_port = |pod: &Value| pod["spec"]["containers"][0]["ports"].get(0).is_some();
        node["spec"]["unschedulable"] != true
            && Self::tolerates(pod, &node["spec"]["taints"])
            && self.selected(name, pod)
            && !(has_port(pod) && self.on(name).any(has_port))
            && (self.on(name).count() as i64) < number(&room["pods"], &[])
            && within(cpu)
            && within(memory)
            && within(gpu)
            && self.spread_holds(name, pod)
            && self.affinity_holds(name, pod)
    }

    fn selected(&self, name: &str, pod: &Value) -> bool {
        let zone = &pod["spec"]["nodeSelector"]["zone"];
        zone.is_null() || self.label(name, "zone") == zone.as_str()
    }

    fn spread_holds(&self, name: &str, pod: &Value) -> bool {
        let Some(constraint) = pod["spec"]["topologySpreadConstraints"].get(0) else {
            return true;
        };
        let key = constraint["topologyKey"].as_str().expect("key");
        let Some(domain) = self.label(name, key) else {
            return false;
        };
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for node in self.nodes.keys().filter(|node| self.selected(node, pod)) {
            if let Some(value) = self.label(node, key) {
                let matching = self
                    .on(node)
                    .filter(|other| selects(&constraint["labelSelector"], other))
                    .count();
                *counts.entry(value).or_default() += matching as i64;
            }
        }
        let least = counts.values().copied().min().unwrap_or(0);
        counts.get(domain).copied().unwrap_or(0) + 1 - least <= 1
    }

    fn same_domain(&self, key: &Value, one: &str, other: &str) -> bool {
        let key = key.as_str().expect("key");
        self.label(one, key).is_some() && self.label(one, key) == self.label(other, key)
    }

    fn affinity_holds(&self, name: &str, pod: &Value) -> bool {
        let near = |term: &Value, mine: bool| {
            self.placed.values().any(|(on, other)| {
                let (selector, candidate) = (&term["labelSelector"], if mine { other } else { pod });
                selects(selector, candidate) && self.same_domain(&term["topologyKey"], name, on)
            })
        };
        if let Some(term) = term(pod, "podAffinity") {
            let key = term["topologyKey"].as_str().expect("key");
            // Only matching Pods on nodes that have the label at all count as somebody to be near.
            let somebody = self
                .placed
                .values()
                .any(|(on, other)| selects(&term["labelSelector"], other) && self.label(on, key).is_some());
            if self.label(name, key).is_none() || (somebody && !near(term, true)) {
                return false;
            }
        }
        if term(pod, "podAntiAffinity").is_some_and(|term| near(term, true)) {
            return false;
        }
        !self.placed.values().any(|(on, other)| {
            term(other, "podAntiAffinity").is_some_and(|term| {
                selects(&term["labelSelector"], pod) && self.same_domain(&term["topologyKey"], name, on)
            })
        })
    }
}

/// The scores of all `candidates`, from the plug-ins themselves over a cache made afresh.
fn scores(pod: &Value, world: &World, candidates: &[String]) -> HashMap<String, i64> {
    let mut cache = Cache::default();
    for (name, node) in &world.nodes {
        let node: Node = serde_json::from_value(node.clone()).expect("a Node");
        cache.set_node(name, Offer::new(&node));
    }
    for (uid, (node_name, _)) in &world.placed {
        cache.set_pod(node_name, PodInfo::new(Arc::clone(&world.typed[uid])));
    }
    let pod: Pod = serde_json::from_value(pod.clone()).expect("a Pod");
    let requirements = Requirements::new(&pod.spec.expect("a spec"));
    let nodes: Vec<_> = cache
        .offering()
        .filter(|(node, _)| candidates.iter().any(|c| **c == *node.name))
        .collect();
    for (node, offer) in &nodes {
        assert!(node_unschedulable::filter(&requirements, offer) && node_ports::filter(&requirements, node));
    }
    let disliked = nodes
        .iter()
        .map(|(_, offer)| taint_toleration::score(&requirements, offer))
        .max()
        .unwrap_or(0);
    let preferred = nodes
        .iter()
        .map(|(n, offer)| node_affinity::score(&requirements, n, offer))
        .max()
        .unwrap_or(0);
    let score = |(node, offer): &(&corten_scheduler::node::Node, &Offer)| {
        let taints = taint_toleration::normalize(taint_toleration::score(&requirements, offer), disliked);
        let affinity = node_affinity::normalize(node_affinity::score(&requirements, node, offer), preferred);
        let total = node_resources::least_allocated(&requirements, node, offer)
            + node_resources::balanced(&requirements, node, offer)
            + image_locality::score(&requirements, offer, cache.census(), cache.offering_count())
            + taints * weight::TAINT_TOLERATION
            + affinity * weight::NODE_AFFINITY;
        (node.name.to_string(), total)
    };
    nodes.iter().map(score).collect()
}

struct Run {
    seed: u64,
    core: Core,
    world: World,
    waiting: BTreeMap<String, Value>,
    now: Duration,
}

impl Run {
    fn tell(&mut self, event: Event) {
        self.core.observe(self.now, event);
    }

    fn pod_event(pod: &Value, node_name: Option<&str>) -> Arc<Pod> {
        let mut pod = pod.clone();
        if let Some(name) = node_name {
            pod["spec"]["nodeName"] = json!(name);
        }
        Arc::new(serde_json::from_value(pod).expect("a Pod"))
    }

    fn set_node(&mut self, node: Value) {
        self.tell(Event::Node(Arc::new(
            serde_json::from_value::<Node>(node.clone()).expect("a Node"),
        )));
        self.world
            .nodes
            .insert(node["metadata"]["name"].as_str().expect("name").to_owned(), node);
    }

    /// Takes every decision that is due. Some bindings fail, and some are not seen on the node before the next step.
    fn decide(&mut self, rng: &mut StdRng) {
        while let Some(decision) = self.core.next(self.now) {
            match decision {
                Decision::Bind { pod, uid, node_name } => {
                    let value = self.waiting[&*uid].clone();
                    let fitting: Vec<String> = self
                        .world
                        .nodes
                        .keys()
                        .filter(|name| self.world.fits(name, &value))
                        .cloned()
                        .collect();
                    assert!(
                        fitting.contains(&node_name),
                        "seed {}: {value} on {node_name}",
                        self.seed
                    );
                    let scores = scores(&value, &self.world, &fitting);
                    let best = scores.values().max();
                    assert_eq!(
                        scores.get(&node_name),
                        best,
                        "seed {}: {node_name}, {scores:?}",
                        self.seed
                    );
                    let written = rng.random_bool(0.9);
                    if written {
                        self.waiting.remove(&*uid);
                        self.world
                            .placed
                            .insert(uid.to_string(), (node_name.clone(), value.clone()));
                        self.world.typed.insert(uid.to_string(), pod);
                    }
                    self.tell(Event::Bound { uid, written });
                    if written && rng.random_bool(0.7) {
                        self.tell(Event::Pod(Self::pod_event(&value, Some(&node_name))));
                    }
                }
                Decision::Unschedulable { pod, message } => {
                    let value = &self.waiting[pod.metadata.uid.as_deref().expect("uid")];
                    let fit = self.world.nodes.keys().find(|name| self.world.fits(name, value));
                    assert_eq!(fit, None, "seed {}: {message} for {value}", self.seed);
                }
            }
        }
    }
}

#[test]
fn random_clusters_are_never_overcommitted_and_a_fit_is_always_found() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut run = Run {
            seed,
            core: Core::new("default-scheduler", seed),
            world: World::default(),
            waiting: BTreeMap::new(),
            now: Duration::ZERO,
        };
        for step in 0..STEPS {
            run.now += Duration::from_millis(rng.random_range(0..4000));
            match rng.random_range(0..10) {
                0 | 1 => {
                    let node = node(&mut rng, step % 7, 0);
                    run.set_node(node);
                }
                2 => {
                    if let Some(name) = run
                        .world
                        .nodes
                        .keys()
                        .next()
                        .cloned()
                        .filter(|_| rng.random_bool(0.3))
                    {
                        let node = run.world.nodes.remove(&name).expect("just found");
                        run.tell(Event::NodeDeleted(Arc::new(
                            serde_json::from_value(node).expect("a Node"),
                        )));
                        // Its Pods go with it.
                        let gone: Vec<String> = run
                            .world
                            .placed
                            .iter()
                            .filter(|(_, (on, _))| *on == name)
                            .map(|(uid, _)| uid.clone())
                            .collect();
                        for uid in gone {
                            let (on, pod) = run.world.placed.remove(&uid).expect("just found");
                            run.tell(Event::PodDeleted(Run::pod_event(&pod, Some(&on))));
                        }
                    }
                }
                3 => {
                    let uids: Vec<String> = run.world.placed.keys().cloned().collect();
                    if let Some(uid) = uids.choose(&mut rng) {
                        let (on, pod) = run.world.placed.remove(uid).expect("just chosen");
                        run.tell(Event::PodDeleted(Run::pod_event(&pod, Some(&on))));
                    }
                }
                _ => {
                    let pod = pod(&mut rng, step);
                    run.waiting.insert(
                        pod["metadata"]["uid"].as_str().expect("uid").to_owned(),
                        pod.clone(),
                    );
                    run.tell(Event::Pod(Run::pod_event(&pod, None)));
                }
            }
            run.decide(&mut rng);
        }
        // Once all back-offs are over, nothing that fits may still wait.
        run.now += Duration::from_secs(20);
        run.decide(&mut rng);
        run.now += Duration::from_secs(20);
        let mut calm = StdRng::seed_from_u64(0);
        run.decide(&mut calm);
        assert_eq!(run.core.counts().active, 0, "seed {seed}");
    }
}

#[test]
fn the_same_events_give_the_same_placements() {
    let place = |seed: u64| {
        let mut core = Core::new("default-scheduler", seed);
        let mut rng = StdRng::seed_from_u64(5);
        for name in 0..20 {
            let node = json!({
                "metadata": {"name": format!("n{name}"), "uid": format!("{name}")},
                "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}},
            });
            core.observe(
                Duration::ZERO,
                Event::Node(Arc::new(serde_json::from_value(node).expect("a Node"))),
            );
        }
        for number in 0..40 {
            let pod = Run::pod_event(&pod(&mut rng, number), None);
            core.observe(Duration::ZERO, Event::Pod(pod));
        }
        let mut placements = Vec::new();
        while let Some(decision) = core.next(Duration::ZERO) {
            if let Decision::Bind { uid, node_name, .. } = decision {
                placements.push((uid.to_string(), node_name));
            }
        }
        placements
    };
    assert_eq!(place(1), place(1));
    assert_ne!(place(1), place(2));
}
