//! The state of the cluster: nodes in one dense array, the Pods on them, and Pods assumed to be on the way.
//!
//! Keeps a short log of which nodes changed, so that verdicts on the others need not be made again.
//! Must not know which Pod comes next or why.
//!
//! Labels and taints stay strings: a verdict is made once per class of Pods and changed node, so comparing them is
//! rare, and interned names could never be forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::events::Events;
use crate::labels::Labels;
use crate::node::{Node, Offer};
use crate::plugins::image_locality::Census;
use crate::pod::{PodInfo, Uid};

/// Index of a node in the array. Stays the same while the node is there, and is reused afterwards.
pub type Slot = usize;

/// Node changes remembered; who is further behind judges every node anew.
const LOG_CAPACITY: usize = 16_384;
/// The node label that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What about a node changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Labels, taints, capacity, or the node came or went.
    Offer,
    /// Only the Pods on it.
    Pods,
}

#[derive(Debug, Default)]
pub struct Cache {
    nodes: Vec<Node>,
    free: Vec<Slot>,
    slots: HashMap<Arc<str>, Slot>,
    /// Nodes with an offer.
    offering: usize,
    pods: HashMap<Uid, Placed>,
    /// Pods on nodes that have required anti-affinity.
    with_anti_affinity: HashMap<Uid, (Arc<PodInfo>, Slot)>,
    /// Pods of each controller by the node they are on. Terminating ones do not count.
    by_controller: HashMap<Uid, HashMap<Slot, i64>>,
    namespaces: HashMap<String, Labels>,
    /// Every zone seen so far, by its index.
    zones: HashMap<String, usize>,
    /// The zone of each node, by slot.
    zone_of: Vec<Option<usize>>,
    census: Census,
    log: VecDeque<(Slot, Touched)>,
    /// Position of the first entry of `log` among all changes ever.
    log_start: u64,
    no_labels: Labels,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<PodInfo>,
    slot: Slot,
    /// Bound by us, not yet seen as bound. Only a failed binding or the Pod's end takes it back.
    assumed: bool,
}

impl Cache {
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that exist as objects, with what they offer.
    pub fn offering(&self) -> impl Iterator<Item = (&Node, &Offer)> {
        self.nodes
            .iter()
            .filter_map(|node| Some((node, node.offer.as_ref()?)))
    }

    pub fn offering_count(&self) -> usize {
        self.offering
    }

    pub fn census(&self) -> &Census {
        &self.census
    }

    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&self.no_labels)
    }

    pub fn pods_with_anti_affinity(&self) -> impl Iterator<Item = (&PodInfo, &Node)> {
        self.with_anti_affinity
            .values()
            .map(|(pod, slot)| (&**pod, &self.nodes[*slot]))
    }

    pub fn has_anti_affinity(&self) -> bool {
        !self.with_anti_affinity.is_empty()
    }

    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    pub fn zone(&self, slot: Slot) -> Option<usize> {
        self.zone_of[slot]
    }

    pub fn pods_of_controller(&self, controller: &str) -> impl Iterator<Item = (Slot, i64)> {
        self.by_controller
            .get(controller)
            .into_iter()
            .flatten()
            .map(|(slot, pods)| (*slot, *pods))
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, name: &str, offer: Offer) -> Events {
        let slot = self.slot(name);
        let old = self.nodes[slot].offer.take();
        let events = match &old {
            None => Events::NODE_ADDED,
            Some(old) if old.uid != offer.uid => Events::NODE_ADDED,
            Some(old) => offer.changes_since(old),
        };
        if old.is_none() {
            self.offering += 1;
        }
        self.census.replace(old.as_ref(), Some(&offer));
        self.zone_of[slot] = offer.labels.get(ZONE).map(|zone| {
            let next = self.zones.len();
            *self.zones.entry(zone.clone()).or_insert(next)
        });
        self.nodes[slot].offer = Some(offer);
        if !events.is_empty() {
            self.touch(slot, Touched::Offer);
        }
        events
    }

    pub fn remove_node(&mut self, name: &str) -> Events {
        let Some(&slot) = self.slots.get(name) else {
            return Events::NONE;
        };
        let Some(old) = self.nodes[slot].offer.take() else {
            return Events::NONE;
        };
        self.offering -= 1;
        self.census.replace(Some(&old), None);
        self.zone_of[slot] = None;
        self.touch(slot, Touched::Offer);
        self.release(slot);
        Events::NODE_DELETED
    }

    /// A Pod is seen on its node.
    pub fn set_pod(&mut self, node_name: &str, pod: PodInfo) -> Events {
        let mut events = Events::NONE;
        if let Some(placed) = self.pods.get_mut(&pod.uid) {
            let same_place = *self.nodes[placed.slot].name == *node_name;
            let asks_same = !pod.asks_differently(&placed.pod) && pod.terminating == placed.pod.terminating;
            if same_place && asks_same {
                let confirmed = std::mem::take(&mut placed.assumed);
                return if confirmed {
                    Events::POD_ADDED
                } else {
                    Events::NONE
                };
            }
            // Less may be asked for now, and a label may have gone.
            events |= self.remove_pod(&Uid::clone(&pod.uid));
        }
        self.place(node_name, Arc::new(pod), false);
        events | Events::POD_ADDED
    }

    /// A Pod left its node: deleted or finished.
    pub fn remove_pod(&mut self, uid: &str) -> Events {
        let Some(placed) = self.pods.remove(uid) else {
            return Events::NONE;
        };
        self.with_anti_affinity.remove(uid);
        self.count_for_controller(&placed.pod, placed.slot, -1);
        self.nodes[placed.slot].remove(uid);
        self.touch(placed.slot, Touched::Pods);
        self.release(placed.slot);
        Events::POD_REMOVED
    }

    /// Counts `pod` on its node from now on, though the binding is still to be written.
    pub fn assume(&mut self, pod: Arc<PodInfo>, slot: Slot) {
        let name = Arc::clone(&self.nodes[slot].name);
        self.place(&name, pod, true);
    }

    /// Takes an assumption back; a Pod that was meanwhile seen on a node stays.
    pub fn forget(&mut self, uid: &str) -> Events {
        if self.is_assumed(uid) {
            self.remove_pod(uid)
        } else {
            Events::NONE
        }
    }

    pub fn set_namespace(&mut self, name: &str, labels: Labels) -> Events {
        if self.namespaces.get(name) == Some(&labels) {
            return Events::NONE;
        }
        self.namespaces.insert(name.to_owned(), labels);
        Events::NAMESPACE_LABELS
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// The position after the newest change.
    pub fn position(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// What changed since `position`; `None` if that is forgotten.
    pub fn changes_since(&self, position: u64) -> Option<impl Iterator<Item = (Slot, Touched)>> {
        let skip = position.checked_sub(self.log_start)?;
        Some(self.log.range(skip as usize..).copied())
    }

    fn place(&mut self, node_name: &str, pod: Arc<PodInfo>, assumed: bool) {
        let slot = self.slot(node_name);
        if !pod.relations.anti_affinity.is_empty() {
            self.with_anti_affinity
                .insert(Uid::clone(&pod.uid), (Arc::clone(&pod), slot));
        }
        self.count_for_controller(&pod, slot, 1);
        self.nodes[slot].add(Arc::clone(&pod));
        self.pods
            .insert(Uid::clone(&pod.uid), Placed { pod, slot, assumed });
        self.touch(slot, Touched::Pods);
    }

    fn count_for_controller(&mut self, pod: &PodInfo, slot: Slot, change: i64) {
        let Some(controller) = pod.controller.as_ref().filter(|_| !pod.terminating) else {
            return;
        };
        let slots = self.by_controller.entry(Uid::clone(controller)).or_default();
        let pods = slots.entry(slot).or_default();
        *pods += change;
        if *pods == 0 {
            slots.remove(&slot);
        }
        if slots.is_empty() {
            self.by_controller.remove(controller);
        }
    }

    /// The slot of that name, made if need be: Pods may be seen before their node.
    fn slot(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let node = Node::named(name);
        let name = Arc::clone(&node.name);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                self.zone_of.push(None);
                self.nodes.len() - 1
            }
        };
        self.slots.insert(name, slot);
        slot
    }

    /// Frees the slot once neither node nor Pod holds it.
    fn release(&mut self, slot: Slot) {
        let node = &self.nodes[slot];
        if node.offer.is_none() && node.pods.is_empty() {
            self.slots.remove(&node.name);
            self.free.push(slot);
        }
    }

    fn touch(&mut self, slot: Slot, touched: Touched) {
        if self.log.len() == LOG_CAPACITY {
            self.log.pop_front();
            self.log_start += 1;
        }
        self.log.push_back((slot, touched));
    }
}
