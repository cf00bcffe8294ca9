//! The scheduler without its shell: what happened goes in, the next placement comes out.
//!
//! The only way in is [`Core::observe`], the only way out [`Core::next`]. No IO, no clock, no randomness beyond the
//! seed. Must not know how bindings are written.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use crate::cache::Cache;
use crate::classes::Classes;
use crate::decide::{TieBreak, decide};
use crate::events::Events;
use crate::node::Offer;
use crate::pod::{DEFAULT_SCHEDULER, PodInfo, Uid};
use crate::queue::{Counts, Queue};

/// Something the cluster or the shell has to say.
#[derive(Clone, Debug)]
pub enum Event {
    Pod(Arc<Pod>),
    PodDeleted(Arc<Pod>),
    Node(Arc<Node>),
    NodeDeleted(Arc<Node>),
    Namespace(Arc<Namespace>),
    NamespaceDeleted(Arc<Namespace>),
    /// The binding of an assumed Pod was written, or for certain was not.
    Bound {
        uid: Uid,
        written: bool,
    },
}

/// What to do for one Pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Counted on the node already; must be answered with [`Event::Bound`].
    Bind {
        pod: Arc<Pod>,
        uid: Uid,
        node_name: String,
    },
    /// The Pod waits in the queue; `message` is for its condition and an Event.
    Unschedulable { pod: Arc<Pod>, message: String },
}

#[derive(Debug)]
pub struct Core {
    cache: Cache,
    classes: Classes,
    queue: Queue,
    ties: TieBreak,
    /// `spec.schedulerName` of the Pods to place.
    scheduler_name: String,
}

impl Core {
    pub fn new(scheduler_name: &str, seed: u64) -> Self {
        Core {
            cache: Cache::default(),
            classes: Classes::default(),
            queue: Queue::default(),
            ties: TieBreak::new(seed),
            scheduler_name: scheduler_name.to_owned(),
        }
    }

    /// `now` is the time since the scheduler started.
    pub fn observe(&mut self, now: Duration, event: Event) {
        let events = match event {
            Event::Pod(pod) => self.see_pod(now, pod),
            Event::PodDeleted(pod) => self.drop_pod(pod.metadata.uid.as_deref().unwrap_or_default()),
            Event::Node(node) => match &node.metadata.name {
                Some(name) => self.cache.set_node(name, Offer::new(&node)),
                None => Events::NONE,
            },
            Event::NodeDeleted(node) => self
                .cache
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Event::Namespace(namespace) => {
                let name = namespace.metadata.name.as_deref().unwrap_or_default();
                self.cache
                    .set_namespace(name, (&namespace.metadata.labels).into())
            }
            Event::NamespaceDeleted(namespace) => {
                self.cache
                    .remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
                Events::NONE
            }
            Event::Bound { uid, written: true } => {
                // It stays assumed until it is seen on its node, or seen gone.
                self.queue.remove(&uid);
                Events::NONE
            }
            Event::Bound { uid, written: false } => {
                let events = self.cache.forget(&uid);
                self.queue.failed(now, &uid);
                events
            }
        };
        self.queue.on(now, events);
    }

    /// Decides for the next Pod that is due, if any.
    pub fn next(&mut self, now: Duration) -> Option<Decision> {
        let pod = self.queue.pop(now)?;
        let uid = Uid::clone(&pod.uid);
        let object = pod.object.clone().expect("a Pod that is tried has its object");
        Some(
            match decide(&pod, &self.cache, &mut self.classes, &mut self.ties) {
                Ok(slot) => {
                    let node_name = self.cache.nodes()[slot].name.to_string();
                    self.cache.assume(Arc::clone(&pod), slot);
                    self.queue.on(now, Events::POD_ADDED);
                    Decision::Bind {
                        pod: object,
                        uid,
                        node_name,
                    }
                }
                Err(diagnosis) => {
                    self.queue.unschedulable(now, &uid, diagnosis.plugins);
                    Decision::Unschedulable {
                        pod: object,
                        message: diagnosis.message(),
                    }
                }
            },
        )
    }

    /// When [`Core::next`] has something to do without a new event; `None` while only events matter.
    pub fn deadline(&self) -> Option<Duration> {
        self.queue.deadline()
    }

    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn see_pod(&mut self, now: Duration, pod: Arc<Pod>) -> Events {
        let pod = PodInfo::new(pod);
        if pod.finished {
            return self.drop_pod(&pod.uid);
        }
        match pod.node_name.clone() {
            Some(node_name) => {
                self.queue.remove(&pod.uid);
                self.cache.set_pod(&node_name, pod)
            }
            // Its binding is on the way: a reading from before it says nothing new.
            None if self.cache.is_assumed(&pod.uid) => Events::NONE,
            None if pod.terminating || !self.is_ours(&pod) => {
                self.queue.remove(&pod.uid);
                Events::NONE
            }
            None => {
                self.queue.set(now, pod);
                Events::NONE
            }
        }
    }

    fn drop_pod(&mut self, uid: &str) -> Events {
        self.queue.remove(uid);
        self.cache.remove_pod(uid)
    }

    fn is_ours(&self, pod: &PodInfo) -> bool {
        pod.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER) == self.scheduler_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, zone: &str) -> Event {
        let node = json!({
            "metadata": {"name": name, "uid": name, "labels": {"zone": zone}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
        });
        Event::Node(Arc::new(serde_json::from_value(node).expect("a Node")))
    }

    fn pod(name: &str, spec: Value) -> Event {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "resources": {"requests": spec["requests"].take()}}]);
        let metadata = json!({"name": name, "uid": name, "namespace": "default", "labels": {"app": "web"}});
        let pod = json!({"metadata": metadata, "spec": spec});
        Event::Pod(Arc::new(serde_json::from_value(pod).expect("a Pod")))
    }

    fn required(kind: &str, app: &str) -> Value {
        let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"});
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    /// Nodes `n1` in zone `a` and `n2` in zone `b`. `there` are on them; `want` is what becomes of the Pod of `spec`.
    #[track_caller]
    fn check(there: &[(&str, Value)], spec: Value, want: &str) {
        let mut core = Core::new("default-scheduler", 0);
        core.observe(Duration::ZERO, node("n1", "a"));
        core.observe(Duration::ZERO, node("n2", "b"));
        for (at, (node_name, spec)) in there.iter().enumerate() {
            let mut spec = spec.clone();
            spec["nodeName"] = json!(node_name);
            core.observe(Duration::ZERO, pod(&format!("there-{at}"), spec));
        }
        core.observe(Duration::ZERO, pod("new", spec));
        let got = match core.next(Duration::ZERO) {
            Some(Decision::Bind { node_name, .. }) => node_name,
            Some(Decision::Unschedulable { message, .. }) => message,
            None => "not tried".to_owned(),
        };
        assert_eq!(got, want);
    }

    fn full(reasons: &str, preemption: &str) -> String {
        format!(
            "0/2 nodes are available: {reasons}. no new claims to deallocate, preemption: 0/2 nodes are available: \
             {preemption}."
        )
    }

    #[test]
    fn the_freer_node_wins() {
        check(
            &[("n1", json!({"requests": {"cpu": "1"}}))],
            json!({"requests": {"cpu": "1"}}),
            "n2",
        );
        check(&[("n2", json!({}))], json!({}), "n1");
    }

    #[test]
    fn says_which_nodes_are_full_and_whether_preemption_could_help() {
        let there = [
            ("n1", json!({"requests": {"cpu": "2"}})),
            ("n2", json!({"requests": {"cpu": "2"}})),
        ];
        let cpu = json!({"requests": {"cpu": "1"}});
        check(
            &there,
            cpu,
            &full(
                "2 Insufficient cpu",
                "2 No preemption victims found for incoming pod",
            ),
        );
        let huge = json!({"requests": {"cpu": "3"}});
        check(
            &there,
            huge,
            &full("2 Insufficient cpu", "2 Preemption is not helpful for scheduling"),
        );
        let urgent = json!({"requests": {"cpu": "1"}, "priority": 9});
        let unsupported = "2 Lower-priority pods found but preemption is not supported yet";
        check(&there, urgent, &full("2 Insufficient cpu", unsupported));
    }

    #[test]
    fn required_pod_affinity_and_anti_affinity_hold() {
        check(&[("n1", json!({}))], required("podAntiAffinity", "web"), "n2");
        check(
            &[("n2", json!({"requests": {"cpu": "1"}}))],
            required("podAffinity", "web"),
            "n2",
        );
        check(&[("n1", required("podAntiAffinity", "web"))], json!({}), "n2");
        let alone = [("n1", json!({"requests": {"cpu": "2"}}))];
        let mut own_kind = required("podAffinity", "web");
        own_kind["requests"] = json!({"cpu": "1"});
        let elsewhere = full(
            "1 Insufficient cpu, 1 node(s) didn't match pod affinity rules",
            "1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling",
        );
        check(&alone, own_kind, &elsewhere);
        let nobody = full(
            "2 node(s) didn't match pod affinity rules",
            "2 Preemption is not helpful for scheduling",
        );
        check(&[], required("podAffinity", "db"), &nobody);
        let both = [("n1", json!({})), ("n2", json!({}))];
        let taken = full(
            "2 node(s) didn't match pod anti-affinity rules",
            "2 No preemption victims found for incoming pod",
        );
        check(&both, required("podAntiAffinity", "web"), &taken);
    }

    #[test]
    fn spread_keeps_zones_even() {
        let spread = |key: &str| {
            json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}},
            }]})
        };
        check(&[("n1", json!({}))], spread("zone"), "n2");
        let missing = "2 node(s) didn't match pod topology spread constraints (missing required label)";
        check(
            &[],
            spread("rack"),
            &full(missing, "2 Preemption is not helpful for scheduling"),
        );
    }

    /// So small that the free share of a node does not change by a point: only the spread can tell nodes apart.
    const TINY: &str = "1m";

    fn of_controller(name: &str, node_name: Option<&str>) -> Event {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}]);
        let requests = json!({"requests": {"cpu": TINY, "memory": TINY}, "nodeName": node_name});
        let Event::Pod(made) = pod(name, requests) else {
            unreachable!("`pod` makes a Pod event")
        };
        let mut made = Pod::clone(&made);
        made.metadata.owner_references = Some(serde_json::from_value(owner).expect("references"));
        Event::Pod(Arc::new(made))
    }

    #[test]
    fn pods_of_one_controller_spread_over_nodes() {
        for seen_at_once in [false, true] {
            let mut core = Core::new("default-scheduler", 0);
            core.observe(Duration::ZERO, node("n1", "a"));
            core.observe(Duration::ZERO, node("n2", "b"));
            for number in 0..10 {
                core.observe(Duration::ZERO, of_controller(&format!("web-{number}"), None));
            }
            let mut on_first = 0;
            for placed in 1..=10 {
                let Some(Decision::Bind { uid, node_name, .. }) = core.next(Duration::ZERO) else {
                    panic!("not placed")
                };
                on_first += i32::from(node_name == "n1");
                assert!((2 * on_first - placed).abs() <= 1, "{on_first} of {placed} on n1");
                if seen_at_once {
                    core.observe(Duration::ZERO, of_controller(&uid, Some(&node_name)));
                    core.observe(Duration::ZERO, Event::Bound { uid, written: true });
                }
            }
        }
    }

    #[test]
    fn a_preferred_spread_gives_way_when_it_must() {
        let spread = json!({"requests": {"cpu": "1"}, "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }]});
        let busy = ("n2", json!({"requests": {"cpu": "800m"}}));
        check(
            &[("n1", json!({})), ("n1", json!({})), busy.clone()],
            spread.clone(),
            "n2",
        );
        check(
            &[
                ("n1", json!({})),
                ("n1", json!({})),
                busy,
                ("n2", json!({"requests": {"cpu": "1"}})),
            ],
            spread,
            "n1",
        );
    }

    #[test]
    fn pods_that_cannot_be_judged_wait_and_say_so() {
        let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
        let want = full(
            "persistentvolumeclaims are not supported yet",
            "2 Preemption is not helpful for scheduling",
        );
        check(&[], volumes, &want);
        check(&[], json!({"schedulingGates": [{"name": "g"}]}), "not tried");
        check(&[], json!({"schedulerName": "other"}), "not tried");
    }

    #[test]
    fn an_empty_cluster_has_no_nodes() {
        let mut core = Core::new("default-scheduler", 0);
        core.observe(Duration::ZERO, pod("new", json!({})));
        let Some(Decision::Unschedulable { message, .. }) = core.next(Duration::ZERO) else {
            panic!("placed")
        };
        assert_eq!(message, "no nodes available to schedule pods");
        core.observe(Duration::from_secs(1), node("n1", "a"));
        assert!(matches!(
            core.next(Duration::from_secs(1)),
            Some(Decision::Bind { .. })
        ));
    }

    #[test]
    fn a_failed_binding_gives_the_room_back() {
        let mut core = Core::new("default-scheduler", 0);
        core.observe(Duration::ZERO, node("n1", "a"));
        for name in ["one", "two"] {
            core.observe(Duration::ZERO, pod(name, json!({"requests": {"cpu": "2"}})));
        }
        let Some(Decision::Bind { uid, .. }) = core.next(Duration::ZERO) else {
            panic!("not placed")
        };
        assert_eq!(&*uid, "one");
        assert!(matches!(
            core.next(Duration::ZERO),
            Some(Decision::Unschedulable { .. })
        ));
        core.observe(Duration::ZERO, Event::Bound { uid, written: false });
        assert!(core.next(Duration::ZERO).is_none(), "both back off");
        let Some(Decision::Bind { uid, .. }) = core.next(Duration::from_secs(1)) else {
            panic!("not placed")
        };
        core.observe(Duration::from_secs(1), Event::Bound { uid, written: true });
        assert!(
            core.next(Duration::from_secs(9))
                .is_some_and(|d| matches!(d, Decision::Unschedulable { .. }))
        );
    }
}
