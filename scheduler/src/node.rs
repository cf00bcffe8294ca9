//! A node as the scheduler sees it: what it offers, and what the Pods on it take.
//!
//! Knows the Node API and its Pods' demands. Must not know which Pod comes next.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::pod::HostPort;
use corten_api::quantity::list_from_api;
use k8s_openapi::api::core::v1 as core;

use crate::events::Events;
use crate::labels::Labels;
use crate::pod::PodInfo;
use crate::requirements::Taint;
use crate::resources::{self, Resources};

#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: Arc<str>,
    /// What the Node object offers; `None` while Pods name a node that is not (or no longer) there.
    pub offer: Option<Offer>,
    pub requested: Resources,
    /// CPU and memory of the Pods as scoring counts them.
    pub scoring_milli_cpu: i64,
    pub scoring_memory: i64,
    pub host_ports: Vec<HostPort>,
    /// Assumed Pods included.
    pub pods: Vec<Arc<PodInfo>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub uid: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub max_pods: i64,
    /// Size in bytes of each image by each of its normalised names.
    pub images: BTreeMap<String, i64>,
}

impl Offer {
    pub fn new(node: &core::Node) -> Self {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        let images = status.and_then(|status| status.images.as_ref());
        Offer {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            labels: Labels::from(&node.metadata.labels),
            taints: node
                .spec
                .iter()
                .flat_map(|s| s.taints.iter().flatten())
                .map(Taint::new)
                .collect(),
            unschedulable: node
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false),
            allocatable: allocatable
                .map(|list| Resources::from_list(&list_from_api(list)))
                .unwrap_or_default(),
            max_pods: allocatable
                .and_then(|list| list.get("pods"))
                .map_or(0, resources::whole),
            images: images
                .into_iter()
                .flatten()
                .flat_map(|image| {
                    let size = image.size_bytes.unwrap_or(0);
                    image.names.iter().flatten().map(move |name| (name.clone(), size))
                })
                .collect(),
        }
    }

    /// What a change from `old` to `self` may mean for waiting Pods.
    pub fn changes_since(&self, old: &Offer) -> Events {
        let mut events = Events::NONE;
        if self.labels != old.labels {
            events |= Events::NODE_LABELS;
        }
        if self.taints != old.taints || self.unschedulable != old.unschedulable {
            events |= Events::NODE_TAINTS;
        }
        if self.allocatable != old.allocatable || self.max_pods != old.max_pods {
            events |= Events::NODE_ALLOCATABLE;
        }
        events
    }
}

impl Node {
    pub fn named(name: &str) -> Self {
        Node {
            name: name.into(),
            ..Node::default()
        }
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.host_ports
            .extend(pod.requirements.host_ports.iter().cloned());
        self.pods.push(pod);
        self.recount();
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(at) = self.pods.iter().position(|pod| &*pod.uid == uid) {
            let pod = self.pods.swap_remove(at);
            for port in &pod.requirements.host_ports {
                if let Some(at) = self.host_ports.iter().position(|taken| taken == port) {
                    self.host_ports.swap_remove(at);
                }
            }
            self.recount();
        }
    }

    /// Sums anew: a few hundred additions at most, and no drift from saturated or removed amounts.
    fn recount(&mut self) {
        self.requested = Resources::default();
        (self.scoring_milli_cpu, self.scoring_memory) = (0, 0);
        for pod in &self.pods {
            self.requested.add(&pod.requirements.requests);
            self.scoring_milli_cpu = self
                .scoring_milli_cpu
                .saturating_add(pod.requirements.scoring_milli_cpu);
            self.scoring_memory = self
                .scoring_memory
                .saturating_add(pod.requirements.scoring_memory);
        }
    }
}
