//! Verdicts shared by Pods that ask the same of a node.
//!
//! A class is a set of equal [`Requirements`]. It keeps one verdict per node and makes anew only those of nodes that
//! changed since it was last asked. Must not know which node wins.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::{Cache, Touched};
use crate::events::Plugin;
use crate::node::{Node, Offer};
use crate::plugins::node_resources::Short;
use crate::plugins::{
    image_locality, node_affinity, node_name, node_ports, node_resources, node_unschedulable,
    taint_toleration,
};
use crate::requirements::Requirements;

/// Classes kept; the one unused for longest makes room. At 5,000 nodes one takes about 200 kB.
pub const MAX_CLASSES: usize = 128;

/// What the plug-ins that look at one node say about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// A slot without a node object is no candidate and no refusal.
    pub offers: bool,
    /// The first plug-in that refuses the node whatever runs on it.
    pub refused: Option<Plugin>,
    pub ports_taken: bool,
    pub short: Short,
    /// LeastAllocated plus BalancedAllocation, weighted.
    pub resource_score: i16,
    pub image_score: i16,
    /// Untolerated `PreferNoSchedule` taints, to be normalised.
    pub disliked_taints: i16,
    /// Weight of met preferences, to be normalised.
    pub preference: i32,
}

impl Verdict {
    pub fn passes(&self) -> bool {
        self.offers && self.refused.is_none() && !self.ports_taken && self.short.fits()
    }

    fn of_offer(&mut self, requirements: &Requirements, node: &Node, offer: &Offer) {
        let refused = if !node_unschedulable::filter(requirements, offer) {
            Some(Plugin::NodeUnschedulable)
        } else if !node_name::filter(requirements, node) {
            Some(Plugin::NodeName)
        } else if !taint_toleration::filter(requirements, offer) {
            Some(Plugin::TaintToleration)
        } else if !node_affinity::filter(requirements, node, offer) {
            Some(Plugin::NodeAffinity)
        } else {
            None
        };
        self.refused = refused;
        self.disliked_taints = taint_toleration::score(requirements, offer).min(i64::from(i16::MAX)) as i16;
        self.preference = node_affinity::score(requirements, node, offer) as i32;
    }

    fn of_pods(&mut self, requirements: &Requirements, node: &Node, offer: &Offer) {
        self.ports_taken = !node_ports::filter(requirements, node);
        self.short = node_resources::filter(requirements, node, offer);
        let least = node_resources::least_allocated(requirements, node, offer);
        let balanced = node_resources::balanced(requirements, node, offer);
        use crate::plugins::weight;
        let score =
            least * weight::NODE_RESOURCES_FIT + balanced * weight::NODE_RESOURCES_BALANCED_ALLOCATION;
        self.resource_score = score as i16;
    }
}

#[derive(Debug, Default)]
pub struct Classes {
    classes: HashMap<Arc<Requirements>, Class>,
    uses: u64,
}

#[derive(Debug, Default)]
struct Class {
    verdicts: Vec<Verdict>,
    /// Position in the cache's log of changes.
    seen: u64,
    census: u64,
    last_use: u64,
}

impl Classes {
    /// The verdict on every slot of the cache, up to date.
    pub fn verdicts(&mut self, requirements: &Arc<Requirements>, cache: &Cache) -> &[Verdict] {
        self.uses += 1;
        if !self.classes.contains_key(requirements) {
            self.make_room();
            let fresh = Class {
                census: u64::MAX,
                ..Class::default()
            };
            self.classes.insert(Arc::clone(requirements), fresh);
        }
        let class = self.classes.get_mut(requirements).expect("inserted above");
        class.last_use = self.uses;
        class.refresh(requirements, cache);
        &class.verdicts
    }

    fn make_room(&mut self) {
        if self.classes.len() < MAX_CLASSES {
            return;
        }
        let oldest = self
            .classes
            .iter()
            .min_by_key(|(_, class)| class.last_use)
            .map(|(key, _)| Arc::clone(key));
        if let Some(key) = oldest {
            self.classes.remove(&key);
        }
    }
}

impl Class {
    fn refresh(&mut self, requirements: &Requirements, cache: &Cache) {
        let known = self.verdicts.len();
        self.verdicts.resize(cache.nodes().len(), Verdict::default());
        match cache.changes_since(self.seen).filter(|_| known > 0) {
            Some(changes) => {
                for (slot, touched) in changes {
                    self.judge(slot, touched, requirements, cache);
                }
            }
            None => {
                for slot in 0..cache.nodes().len() {
                    self.judge(slot, Touched::Offer, requirements, cache);
                }
            }
        }
        self.seen = cache.position();
        if self.census != cache.census().version {
            self.census = cache.census().version;
            for slot in 0..cache.nodes().len() {
                self.judge_images(slot, requirements, cache);
            }
        }
    }

    fn judge(&mut self, slot: usize, touched: Touched, requirements: &Requirements, cache: &Cache) {
        let node = &cache.nodes()[slot];
        let verdict = &mut self.verdicts[slot];
        let Some(offer) = &node.offer else {
            *verdict = Verdict::default();
            return;
        };
        verdict.offers = true;
        if touched == Touched::Offer {
            verdict.of_offer(requirements, node, offer);
        }
        verdict.of_pods(requirements, node, offer);
        if touched == Touched::Offer {
            self.judge_images(slot, requirements, cache);
        }
    }

    fn judge_images(&mut self, slot: usize, requirements: &Requirements, cache: &Cache) {
        let score = cache.nodes()[slot]
            .offer
            .as_ref()
            .map(|offer| image_locality::score(requirements, offer, cache.census(), cache.offering_count()));
        self.verdicts[slot].image_score = score.unwrap_or(0) as i16;
    }
}
