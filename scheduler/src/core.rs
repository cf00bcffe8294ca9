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
use crate::pod::{PodInfo, Uid};
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
    Bound { uid: Uid, written: bool },
}

/// What to do for one Pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Counted on the node already; must be answered with [`Event::Bound`].
    Bind { pod: Arc<Pod>, uid: Uid, node_name: String },
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
            Event::NodeDeleted(node) => self.cache.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Event::Namespace(namespace) => {
                let name = namespace.metadata.name.as_deref().unwrap_or_default();
                self.cache.set_namespace(name, namespace.metadata.labels.clone().unwrap_or_default())
            }
            Event::NamespaceDeleted(namespace) => {
                self.cache.remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
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
        Some(match decide(&pod, &self.cache, &mut self.classes, &mut self.ties) {
            Ok(slot) => {
                let node_name = self.cache.nodes()[slot].name.to_string();
                self.cache.assume(Arc::clone(&pod), slot);
                self.queue.on(now, Events::POD_ADDED);
                Decision::Bind { pod: Arc::clone(&pod.object), uid, node_name }
            }
            Err(diagnosis) => {
                self.queue.unschedulable(now, &uid, diagnosis.plugins);
                Decision::Unschedulable { pod: Arc::clone(&pod.object), message: diagnosis.message() }
            }
        })
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
        let name = pod.object.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        name.unwrap_or("default-scheduler") == self.scheduler_name
    }
}
